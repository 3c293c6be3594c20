// SPDX-License-Identifier: GPL-2.0

//! The per-CPU batches of folios that are yet to be mlocked or munlocked.
//!
//! Moving a folio to another LRU list takes its lruvec's lock, which all CPUs want. So folios are
//! collected, and a batch of them is moved at once. Each CPU has one batch ([`LocalBatch`]), under
//! a local lock: preemption is off while it is held, or on PREEMPT_RT, migration is, and other
//! tasks of the CPU wait. Who has the batch may lock lruvecs, for its folios or for others.
//!
//! # Lock order
//!
//! The local lock is taken inside of page table locks, and the lruvec lock inside of it.
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
/// [`LocalBatch::lock`] borrows it for as long as the batch is locked, so that nobody locks the
/// batch twice, or calls what does.
///
/// # Invariants
///
/// Exists in task context only, with interrupts on. If it is not borrowed, then this task holds
/// neither the local lock of a batch nor an lruvec lock.
pub struct TaskContext<'c>(PhantomData<&'c mut ()>, NotThreadSafe);

impl TaskContext<'_> {
    /// Notes that this is task context, with interrupts on.
    ///
    /// # Safety
    ///
    /// Must be called in task context, with interrupts on. The task must not hold the local lock of
    /// a batch or an lruvec lock, nor take one in another way for as long as the result is in use.
    #[inline]
    pub unsafe fn new() -> Self {
        // INVARIANT: The caller promises it; and an interrupt has no way to get at what a task has
        // on its stack.
        Self(PhantomData, NotThreadSafe)
    }
}

/// Moves the folios that are pending in this CPU's batches to their LRU lists, as
/// `lru_add_drain()`.
///
/// Does not sleep, save on PREEMPT_RT. May be called with page table locks held.
#[inline]
pub fn lru_add_drain(_context: &mut TaskContext<'_>) {
    // SAFETY: By the invariants of `TaskContext`, this is task context, and we hold none of the
    // locks that are taken: it is not borrowed by anybody else.
    unsafe { bindings::lru_add_drain() };
}

/// What is to be done with a folio of a batch.
pub enum Entry<'b> {
    /// Nothing more: it was new, has just been put on an LRU list, and is mlocked.
    Added(Folio<'b>),
    /// Mlock it: it is on an LRU list, or for the moment not.
    Mlock(Folio<'b>),
    /// Munlock it.
    Munlock(Folio<'b>),
}

// Kept in the low bits of the pointers of a batch.
const MUNLOCK: usize = 0;
const MLOCK: usize = 1;
const MLOCK_NEW: usize = 2;
const MASK: usize = 3;

/// The most folios that a batch holds.
const SIZE: u8 = bindings::FOLIO_BATCH_SIZE as u8;

/// The count of a batch that is being drained.
const DRAINING: u8 = u8::MAX;

/// A batch of folios with something to be done about each.
///
/// The batch belongs to a CPU; this is how to get at it for as long as nobody else does. No
/// reference to its memory is kept. The context is borrowed for 'c: while the batch is drained, an
/// lruvec may be locked, and no other is to be locked then.
///
/// # Invariants
///
/// `batch` points at a batch that no other thread and no interrupt looks at, save for its count. If
/// that is not `DRAINING`, it is at most `SIZE`, and `nr_dead` at most that. For each of the rest
/// there is an entry: a pointer to a folio, with a reference that belongs to the batch, and one of
/// the tags above. If the tag is `MLOCK_NEW`, then the folio is as a [`NewFolio`] is.
pub struct FolioBatch<'c> {
    batch: *mut bindings::mlock_fbatch,
    _context: PhantomData<&'c mut ()>,
    _nts: NotThreadSafe,
}

impl<'c> FolioBatch<'c> {
    /// Returns the batch of a CPU that is gone.
    ///
    /// # Safety
    ///
    /// The CPU must have been on line, must be off line and stay so, and nobody else may look at
    /// its batch, for as long as what this returns is used.
    #[inline]
    pub unsafe fn of_dead_cpu(cpu: CpuId, _context: &'c mut TaskContext<'_>) -> Self {
        // INVARIANT: The caller promises that nobody else looks at it.
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

    // Callers see to what the count stands for. Other CPUs may read it.
    #[inline]
    fn set_count(&self, nr: u8) {
        // SAFETY: By the type invariants, nobody else writes to the batch.
        unsafe { (&raw mut (*self.batch).fbatch.nr).write_volatile(nr) };
    }

    // Callers see to what that stands for.
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

    /// Adds a folio to be mlocked; returns how many more there is room for.
    #[inline]
    pub fn push_mlock(&self, folio: FolioRef) -> u8 {
        // INVARIANT: Any folio may be mlocked.
        self.push(folio, MLOCK)
    }

    /// Adds a folio to be mlocked that is not on an LRU list yet; returns how many more there is
    /// room for.
    #[inline]
    pub fn push_mlock_new(&self, new: NewFolio<'_>) -> u8 {
        // INVARIANT: It is a `NewFolio`, and is given up here.
        self.push(new.into_folio().get(), MLOCK_NEW)
    }

    /// Adds a folio to be munlocked; returns how many more there is room for.
    #[inline]
    pub fn push_munlock(&self, folio: FolioRef) -> u8 {
        // INVARIANT: Any folio may be munlocked.
        self.push(folio, MUNLOCK)
    }

    /// Takes up the place of a folio that was munlocked as it died; returns how many more there is
    /// room for. What is pending in the batch would stay there for longer than in the C if it did
    /// not.
    #[inline]
    pub fn skip(&self) -> u8 {
        let nr = self.count();
        if nr >= SIZE {
            warn_on!(true);
            return 0;
        }
        // INVARIANT: Both grow by one.
        self.set_nr_dead(self.nr_dead().wrapping_add(1));
        self.set_count(nr.wrapping_add(1));
        SIZE.wrapping_sub(nr).wrapping_sub(1)
    }

    // Callers see to the tag. A batch that is full puts the folio again, and warns: it should have
    // been drained by who filled it, and nothing is to be added while it is drained.
    #[inline]
    fn push(&self, folio: FolioRef, tag: usize) -> u8 {
        let nr = self.count();
        if nr >= SIZE {
            warn_on!(true);
            return 0;
        }
        let entries = nr.wrapping_sub(self.nr_dead());
        // SAFETY: By the type invariants, there are so many entries, of which `nr` and so the array
        // has more; nobody else looks at the batch.
        //
        // INVARIANT: The entry has a reference of its own, and a tag.
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
    /// There must be that many entries.
    #[inline]
    unsafe fn entry(&self, i: u8) -> (*mut bindings::folio, usize) {
        // SAFETY: The caller promises that the entry is there; by the type invariants, nobody else
        // looks at the batch.
        let entry = unsafe {
            let slot = (&raw const (*self.batch).fbatch.folios).cast::<*mut bindings::folio>();
            slot.add(i.into()).read()
        };
        let tag = entry.addr() & MASK;
        (entry.wrapping_byte_sub(tag), tag)
    }

    /// Puts folios that are new on the LRU lists, calls `work` for each folio, with an lruvec lock
    /// that stays from one to the next, unlocks, puts the folios, and empties the batch.
    ///
    /// Until then others see that it is not empty, as they do in C: who wants its references to be
    /// gone waits for us.
    #[inline]
    pub fn drain(&self, mut work: impl FnMut(&mut LruvecGuard<'_>, Entry<'_>)) {
        let nr = self.count();
        if nr > SIZE {
            warn_on!(true);
            return;
        }
        let entries = nr.wrapping_sub(self.nr_dead());
        // INVARIANT: If `work` should add to the batch or drain it, then that is refused for this
        // count, by `push()` and above. So the entries stay as they are.
        self.set_count(DRAINING);
        self.set_nr_dead(0);

        // Unlocks at its end: putting the last reference takes the lock of the folio's lruvec.
        LruvecGuard::with(|lruvec| {
            for i in 0..entries {
                // SAFETY: There are so many entries, which nobody changes while we drain.
                let (folio, tag) = unsafe { self.entry(i) };
                // SAFETY: By the type invariants, the entry has a reference, which is not put
                // before all are done with.
                let folio = unsafe { Folio::from_raw(folio) };
                let entry = match tag {
                    MLOCK_NEW => {
                        // SAFETY: By the type invariants, the folio is new, and this is the only
                        // entry that says so. It is not dropped.
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
            // SAFETY: As above. The reference is the batch's, which gives it up.
            unsafe { bindings::folio_put(self.entry(i).0) };
        }
        // INVARIANT: No entry is left.
        self.set_count(0);
    }
}

/// The space in a batch, for who must not drain it now.
#[derive(Clone, Copy)]
pub struct BatchSpace<'b>(&'b FolioBatch<'b>);

impl BatchSpace<'_> {
    /// Adds a folio to be mlocked, unless there is no more than one place left: that is for whoever
    /// locks the batch next, and drains it then. On PREEMPT_RT, that may be another task of this
    /// CPU, before we drain it.
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
    /// May be called with spinlocks held. Must not sleep while it is held.
    #[inline]
    pub fn lock(_context: &'c mut TaskContext<'_>) -> Self {
        // INVARIANT: The helper takes the lock and returns the batch that is under it. With it,
        // no other task runs on this CPU that looks at the batch; and interrupts do not, since only
        // tasks get here.
        Self {
            batch: FolioBatch {
                // SAFETY: This is task context, and the task does not hold the lock: there is a
                // `TaskContext`, which is borrowed for as long as there is a `LocalBatch`.
                batch: unsafe { bindings::mlock_fbatch_lock() },
                _context: PhantomData,
                _nts: NotThreadSafe,
            },
        }
    }

    /// Puts a new folio on an LRU list: the unevictable one if it is unevictable then. The C
    /// function is `__mlock_new_folio()`.
    #[inline(always)]
    pub fn add_new(&mut self, new: NewFolio<'_>) {
        // `add_new()` does not drop the folio, which must not be done with an lruvec locked.
        LruvecGuard::with(|lruvec| lruvec.add_new(new));
    }

    /// Calls `work` with the guard of an lruvec lock, and with what adds folios to the batch;
    /// unlocks the lruvec in the end. The batch cannot be drained meanwhile.
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

/// Returns whether folios are pending in the batch of a CPU, or being drained; that may change at
/// any time. None do if there can be no such CPU.
#[inline]
pub fn is_batch_in_use(cpu: CpuId) -> bool {
    // SAFETY: The helper looks whether the CPU is possible.
    unsafe { bindings::mlock_fbatch_count(cpu.as_u32()) != 0 }
}
