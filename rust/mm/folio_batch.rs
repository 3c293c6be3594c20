// SPDX-License-Identifier: GPL-2.0

//! Per-CPU batches of folios with a pending mlock or munlock.
//!
//! Moving a folio to another LRU list takes its lruvec lock, for which all CPUs contend. So each
//! CPU collects folios in a batch and moves all of them under one hold of the lock. Each CPU has
//! one batch ([`LocalBatch`]) under a local lock: while it is held, preemption is disabled, or, on
//! PREEMPT_RT, migration is, and other tasks of this CPU wait. The holder may lock lruvecs, for
//! folios of the batch or for others.
//!
//! # Lock order
//!
//! The local lock nests inside page table locks, and the lruvec lock nests inside the local lock.
//!
//! C header: [`include/linux/folio_batch.h`](srctree/include/linux/folio_batch.h)

use crate::{
    bindings,
    folio::{
        Folio,
        FolioRef,
        LruvecGuard,
        NewFolio, //
    },
};
use core::{
    marker::PhantomData,
    ops::Deref, //
};
use kernel::{
    cpu::CpuId,
    types::NotThreadSafe,
    warn_on, //
};

/// Proof that the caller runs in task context with interrupts on, and has no batch locked.
///
/// [`LocalBatch::lock`] borrows the context while the batch is locked, so that nobody can lock the
/// batch twice, or call a function that would.
///
/// # Invariants
///
/// Exists in task context only, with interrupts on. If it is not borrowed, then this task holds
/// neither the local lock of a batch nor an lruvec lock.
pub struct TaskContext<'c>(PhantomData<&'c mut ()>, NotThreadSafe);

impl TaskContext<'_> {
    /// Creates the proof that this is task context, with interrupts on.
    ///
    /// # Safety
    ///
    /// Must be called in task context, with interrupts on. The task must not hold the local lock of
    /// a batch or an lruvec lock, and must not take one except through the result while that is in
    /// use.
    #[inline]
    pub unsafe fn new() -> Self {
        // INVARIANT: The caller promises it, and an interrupt handler cannot access a value on the
        // task's stack.
        Self(PhantomData, NotThreadSafe)
    }
}

/// Drains this CPU's batches to the LRU lists, as `lru_add_drain()`.
///
/// Sleeps only on PREEMPT_RT. May be called with page table locks held.
#[inline]
pub fn lru_add_drain(_context: &mut TaskContext<'_>) {
    // SAFETY: By the invariants of `TaskContext`, this is task context. Nobody else borrows the
    // context, so we hold none of the locks that the function takes.
    unsafe { bindings::lru_add_drain() };
}

/// What to do with a folio of a batch.
pub enum Entry<'b> {
    /// Nothing more: the folio was new, has just been put on an LRU list, and is mlocked.
    Added(Folio<'b>),
    /// Mlock the folio, which is on an LRU list or isolated.
    Mlock(Folio<'b>),
    /// Munlock the folio.
    Munlock(Folio<'b>),
}

// Tags in the low bits of the pointers of a batch.
const MUNLOCK: usize = 0;
const MLOCK: usize = 1;
const MLOCK_NEW: usize = 2;
const MASK: usize = 3;

/// The most folios that a batch holds.
const SIZE: u8 = bindings::FOLIO_BATCH_SIZE as u8;

/// The count of a batch that is being drained.
const DRAINING: u8 = u8::MAX;

/// A batch of folios, each with a pending mlock or munlock.
///
/// The batch belongs to a CPU; this handle gives exclusive access to it, without a Rust reference
/// to its memory. It borrows the context for 'c: draining the batch locks lruvecs, and no other
/// lruvec may be locked then.
///
/// # Invariants
///
/// `batch` points at a batch that no other thread and no interrupt accesses, except to read its
/// count. Unless the count is `DRAINING`, it is at most `SIZE`, and `nr_dead` is at most the count.
/// The batch has as many entries as the count minus `nr_dead`. Each entry is a pointer to a folio,
/// with a reference that the batch owns, and one of the tags above. If the tag is `MLOCK_NEW`, the
/// folio satisfies the invariants of [`NewFolio`].
pub struct FolioBatch<'c> {
    batch: *mut bindings::mlock_fbatch,
    _context: PhantomData<&'c mut ()>,
    _nts: NotThreadSafe,
}

impl<'c> FolioBatch<'c> {
    /// Returns the batch of a dead CPU.
    ///
    /// # Safety
    ///
    /// The CPU must have been online. While the result is in use, it must stay offline, and nobody
    /// else may access its batch.
    #[inline]
    pub unsafe fn of_dead_cpu(cpu: CpuId, _context: &'c mut TaskContext<'_>) -> Self {
        // INVARIANT: The caller promises that nobody else accesses the batch.
        Self {
            // SAFETY: The caller promises that there is such a CPU.
            batch: unsafe { bindings::mlock_fbatch_of(cpu.as_u32()) },
            _context: PhantomData,
            _nts: NotThreadSafe,
        }
    }

    #[inline]
    fn count(&self) -> u8 {
        // SAFETY: By the type invariants, nobody else writes to the batch.
        unsafe { (*self.batch).fbatch.nr }
    }

    #[inline]
    fn nr_dead(&self) -> u8 {
        // SAFETY: As above.
        unsafe { (*self.batch).nr_dead }
    }

    // Callers keep the invariants. Other CPUs may read the count.
    #[inline]
    fn set_count(&self, nr: u8) {
        // SAFETY: By the type invariants, nobody else writes to the batch.
        unsafe { (&raw mut (*self.batch).fbatch.nr).write_volatile(nr) };
    }

    // Callers keep the invariants.
    #[inline]
    fn set_nr_dead(&self, nr: u8) {
        // SAFETY: By the type invariants, nobody else writes to the batch.
        unsafe { (*self.batch).nr_dead = nr };
    }

    /// Returns whether nothing is in the batch.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Queues the mlock of a folio. Returns how many places are left.
    #[inline]
    pub fn push_mlock(&self, folio: FolioRef) -> u8 {
        // INVARIANT: Any folio may be mlocked.
        self.push(folio, MLOCK)
    }

    /// Queues the mlock of a folio that is not on an LRU list yet. Returns how many places are
    /// left.
    #[inline]
    pub fn push_mlock_new(&self, new: NewFolio<'_>) -> u8 {
        // INVARIANT: The folio is a `NewFolio`, and we pass on the duty to put it on a list.
        self.push(new.into_folio().get(), MLOCK_NEW)
    }

    /// Queues the munlock of a folio. Returns how many places are left.
    #[inline]
    pub fn push_munlock(&self, folio: FolioRef) -> u8 {
        // INVARIANT: Any folio may be munlocked.
        self.push(folio, MUNLOCK)
    }

    /// Uses up a place for a folio that was munlocked as it died. Returns how many places are left.
    /// Without this, other folios would be pending in the batch for longer than in the C.
    #[inline]
    pub fn skip(&self) -> u8 {
        let nr = self.count();
        if nr >= SIZE {
            warn_on!(true);
            return 0;
        }
        // INVARIANT: Both grow by one, so the number of entries stays the same.
        self.set_nr_dead(self.nr_dead().wrapping_add(1));
        self.set_count(nr.wrapping_add(1));
        SIZE.wrapping_sub(nr).wrapping_sub(1)
    }

    // Callers choose a tag that is right for the folio. Warns and puts the folio if the batch is
    // full, since whoever filled it should have drained it, or if it is being drained.
    #[inline]
    fn push(&self, folio: FolioRef, tag: usize) -> u8 {
        let nr = self.count();
        if nr >= SIZE {
            warn_on!(true);
            return 0;
        }
        let entries = nr.wrapping_sub(self.nr_dead());
        // SAFETY: By the type invariants, the batch has `entries` entries, which is at most `nr`
        // and so less than `SIZE`, the length of the array; nobody else accesses the batch.
        //
        // INVARIANT: The entry owns a reference, and has a tag.
        unsafe {
            let slot = (&raw mut (*self.batch).fbatch.folios).cast::<*mut bindings::folio>();
            slot.add(entries.into())
                .write(folio.into_raw().as_ptr().wrapping_byte_add(tag));
        }
        self.set_count(nr.wrapping_add(1));
        SIZE.wrapping_sub(nr).wrapping_sub(1)
    }

    /// Reads an entry: the folio, and its tag.
    ///
    /// # Safety
    ///
    /// The batch must have more than `i` entries.
    #[inline]
    unsafe fn entry(&self, i: u8) -> (*mut bindings::folio, usize) {
        // SAFETY: The caller promises that the entry exists; by the type invariants, nobody else
        // accesses the batch.
        let entry = unsafe {
            let slot = (&raw const (*self.batch).fbatch.folios).cast::<*mut bindings::folio>();
            slot.add(i.into()).read()
        };
        let tag = entry.addr() & MASK;
        (entry.wrapping_byte_sub(tag), tag)
    }

    /// Puts new folios on the LRU lists and calls `work` for each folio, holding an lruvec lock
    /// from one folio to the next. Then unlocks, puts the folios and empties the batch.
    ///
    /// Until then, as in C, others see that the batch is not empty, so whoever needs its references
    /// gone waits for us.
    #[inline]
    pub fn drain(&self, mut work: impl FnMut(&mut LruvecGuard<'_>, Entry<'_>)) {
        let nr = self.count();
        if nr > SIZE {
            warn_on!(true);
            return;
        }
        let entries = nr.wrapping_sub(self.nr_dead());
        // INVARIANT: With this count, `push()` and this function refuse to add to the batch or to
        // drain it, should `work` try. So the entries stay as they are.
        self.set_count(DRAINING);
        self.set_nr_dead(0);

        // Unlocks before the folios are put: putting the last reference takes the folio's lruvec
        // lock.
        LruvecGuard::with(|lruvec| {
            for i in 0..entries {
                // SAFETY: There are `entries` entries, which nobody changes while we drain.
                let (folio, tag) = unsafe { self.entry(i) };
                // SAFETY: By the type invariants, the entry owns a reference, which is put only
                // after this loop.
                let folio = unsafe { Folio::from_raw(folio) };
                let entry = match tag {
                    MLOCK_NEW => {
                        // SAFETY: By the type invariants, the folio is new, and this is the only
                        // entry that says so. `add_new()` does not drop the result.
                        lruvec.add_new(unsafe { NewFolio::new(folio) });
                        Entry::Added(folio)
                    }
                    MLOCK => Entry::Mlock(folio),
                    _ => Entry::Munlock(folio),
                };
                work(lruvec, entry);
            }
        });

        for i in 0..entries {
            // SAFETY: The entry exists, as above, and the batch gives up its reference.
            unsafe { bindings::folio_put(self.entry(i).0) };
        }
        // INVARIANT: No entry is left.
        self.set_count(0);
    }
}

/// The free places of a batch, for code that must not drain it now.
#[derive(Clone, Copy)]
pub struct BatchSpace<'b>(&'b FolioBatch<'b>);

impl BatchSpace<'_> {
    /// Queues the mlock of a folio, unless only one place is left. That place is for whoever locks
    /// the batch next, and then drains it. On PREEMPT_RT, another task on this CPU may do so before
    /// us.
    #[inline]
    pub fn push_mlock(self, folio: Folio<'_>) {
        if self.0.count() < SIZE.wrapping_sub(1) {
            self.0.push_mlock(folio.get());
        }
    }
}

/// The batch of this CPU, with its local lock held. Dropping it unlocks.
///
/// # Invariants
///
/// We hold the local lock, and `batch` is that of this CPU.
pub struct LocalBatch<'c> {
    batch: FolioBatch<'c>,
}

impl<'c> LocalBatch<'c> {
    /// Locks this CPU's batch.
    ///
    /// May be called with spinlocks held. The holder must not sleep.
    #[inline]
    pub fn lock(_context: &'c mut TaskContext<'_>) -> Self {
        // INVARIANT: The helper takes the lock and returns the batch that it protects. Other tasks
        // on this CPU access the batch under the lock only, and interrupts never do, since a
        // `TaskContext` exists in task context only.
        Self {
            batch: FolioBatch {
                // SAFETY: `TaskContext` proves that this is task context. The task does not hold
                // the lock: a `LocalBatch` would still borrow the context.
                batch: unsafe { bindings::mlock_fbatch_lock() },
                _context: PhantomData,
                _nts: NotThreadSafe,
            },
        }
    }

    /// Puts a new folio on an LRU list: the unevictable one if the folio is unevictable by then.
    /// Counterpart of `__mlock_new_folio()`.
    #[inline(always)]
    pub fn add_new(&mut self, new: NewFolio<'_>) {
        // `add_new()` does not drop the folio: that is forbidden with an lruvec locked.
        LruvecGuard::with(|lruvec| lruvec.add_new(new));
    }

    /// Calls `work` with the free places of the batch and a guard for lruvec locks, and then
    /// unlocks the lruvec. `work` cannot drain the batch.
    #[inline(always)]
    pub fn with_lruvec<R>(
        &mut self,
        work: impl FnOnce(BatchSpace<'_>, &mut LruvecGuard<'_>) -> R,
    ) -> R {
        LruvecGuard::with(|lruvec| work(BatchSpace(&self.batch), lruvec))
    }
}

impl<'c> Deref for LocalBatch<'c> {
    type Target = FolioBatch<'c>;

    #[inline]
    fn deref(&self) -> &FolioBatch<'c> {
        &self.batch
    }
}

impl Drop for LocalBatch<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants, we hold the lock.
        unsafe { bindings::mlock_fbatch_unlock() };
    }
}

/// Returns whether folios of a CPU's batch are pending or being drained. This may change at any
/// time. A CPU that cannot exist has none.
#[inline]
pub fn is_batch_in_use(cpu: CpuId) -> bool {
    // SAFETY: The helper checks whether the CPU is possible.
    unsafe { bindings::mlock_fbatch_count(cpu.as_u32()) != 0 }
}
