// SPDX-License-Identifier: GPL-2.0

//! The per-CPU batches in which folios wait to be mlocked or munlocked.
//!
//! Moving a folio to another LRU list takes its lruvec's lock, which all CPUs want. So folios are
//! collected, and a batch of them is moved at once. Each CPU has one batch ([`LocalBatch`]), under
//! a local lock: preemption is off while it is held, or on PREEMPT_RT, migration is, and other
//! tasks of the CPU wait.
//!
//! # Lock order
//!
//! The local lock is taken inside of page table locks, and the lruvec lock inside of it.
//!
//! C header: [`include/linux/folio_batch.h`](srctree/include/linux/folio_batch.h)

use crate::{
    bindings,
    cpu::CpuId,
    mm::folio::{
        Folio,
        FolioRef,
        LruvecGuard,
        NewFolio, //
    },
    types::NotThreadSafe,
    warn_on, //
};
use core::ops::Deref;

/// What is to be done with a folio of a batch.
#[must_use]
pub enum Entry<'b> {
    /// Mlock it: it is on an LRU list, or for the moment not.
    Mlock(&'b Folio),
    /// Mlock it, and put it on an LRU list for the first time.
    MlockNew(NewFolio<'b>),
    /// Munlock it.
    Munlock(&'b Folio),
}

// Kept in the low bits of the pointers of a batch.
const MUNLOCK: usize = 0;
const MLOCK: usize = 1;
const MLOCK_NEW: usize = 2;
const MASK: usize = 3;

/// The most folios that a batch holds.
const SIZE: usize = bindings::FOLIO_BATCH_SIZE as usize;

/// A batch of folios with something to be done about each.
///
/// The batch belongs to a CPU; this is how to get at it for as long as nobody else does. No
/// reference to its memory is kept between two calls.
///
/// # Invariants
///
/// `batch` points at a batch that nobody else looks at, save for its count. The first `nr` entries
/// of it are pointers to folios, each with a reference that belongs to the batch and one of the
/// tags above. If the tag is `MLOCK_NEW`, then the folio is as a [`NewFolio`] is.
pub struct FolioBatch {
    batch: *mut bindings::folio_batch,
    _nts: NotThreadSafe,
}

impl FolioBatch {
    /// Returns the batch of a CPU that is gone.
    ///
    /// # Safety
    ///
    /// The CPU must be off line and stay so, and nobody else may look at its batch, for as long as
    /// what this returns is used.
    #[inline]
    pub unsafe fn of_dead_cpu(cpu: CpuId) -> Self {
        // INVARIANT: The caller promises that nobody else looks at it.
        Self {
            // SAFETY: The CPU exists.
            batch: unsafe { bindings::mlock_fbatch_of(cpu.as_u32()) },
            _nts: NotThreadSafe,
        }
    }

    /// Returns whether no folio is in the batch.
    #[inline]
    pub fn is_empty(&self) -> bool {
        // SAFETY: By the type invariants, nobody else writes to the batch.
        unsafe { (*self.batch).nr == 0 }
    }

    /// Adds a folio to be mlocked; returns how many more there is room for.
    #[inline]
    pub fn push_mlock(&self, folio: FolioRef) -> usize {
        // INVARIANT: Any folio may be mlocked.
        self.push(folio, MLOCK)
    }

    /// Adds a folio to be mlocked that is not on an LRU list yet; returns how many more there is
    /// room for.
    #[inline]
    pub fn push_mlock_new(&self, new: NewFolio<'_>) -> usize {
        // INVARIANT: It is a `NewFolio`, and is given up here.
        self.push(new.folio().get(), MLOCK_NEW)
    }

    /// Adds a folio to be munlocked; returns how many more there is room for.
    #[inline]
    pub fn push_munlock(&self, folio: FolioRef) -> usize {
        // INVARIANT: Any folio may be munlocked.
        self.push(folio, MUNLOCK)
    }

    // Callers see to the tag. A batch that is full puts the folio again, and warns: it should have
    // been drained by who filled it.
    #[inline]
    fn push(&self, folio: FolioRef, tag: usize) -> usize {
        // SAFETY: By the type invariants, nobody else looks at the batch; this reference is gone
        // when we return, and nobody is called in between.
        let batch = unsafe { &mut *self.batch };
        let nr = usize::from(batch.nr);

        let Some(slot) = batch.folios.get_mut(nr) else {
            warn_on!(true);
            return 0;
        };
        // INVARIANT: The entry has a reference of its own, and a tag.
        *slot = folio.into_raw().as_ptr().wrapping_byte_add(tag);
        batch.nr = batch.nr.wrapping_add(1);
        SIZE.wrapping_sub(nr).wrapping_sub(1)
    }

    /// Calls `work` for each folio, with an lruvec lock that stays from one to the next, unlocks,
    /// and puts the folios. The batch is empty afterwards.
    ///
    /// Takes the folios out first: `work` may do with the batch what it likes.
    #[inline]
    pub fn drain(&self, mut work: impl FnMut(&mut LruvecGuard, Entry<'_>)) {
        // SAFETY: By the type invariants, nobody else looks at the batch.
        //
        // INVARIANT: The batch is left without entries; theirs are the references of the copy.
        let mut taken = unsafe {
            let taken = *self.batch;
            (*self.batch).nr = 0;
            taken
        };
        let mut lruvec = LruvecGuard::new();

        for slot in taken.folios.iter_mut().take(usize::from(taken.nr)) {
            let tag = slot.addr() & MASK;
            *slot = slot.wrapping_byte_sub(tag);

            // SAFETY: By the type invariants, the entry has a reference, which is not put before
            // all are done with.
            let folio = unsafe { Folio::from_raw(*slot) };
            let entry = match tag {
                MLOCK => Entry::Mlock(folio),
                // SAFETY: By the type invariants, the folio is new, and this is the only entry that
                // says so.
                MLOCK_NEW => Entry::MlockNew(unsafe { NewFolio::new(folio) }),
                _ => Entry::Munlock(folio),
            };
            work(&mut lruvec, entry);
        }
        // Putting the last reference takes the lock of the folio's lruvec.
        drop(lruvec);

        // SAFETY: The entries are plain pointers now, and the references are given up.
        unsafe { bindings::folios_put(&mut taken) };
    }
}

/// The batch of this CPU, with its local lock held. Dropping it unlocks.
///
/// # Invariants
///
/// We hold the local lock, and `batch` is that of this CPU.
pub struct LocalBatch {
    batch: FolioBatch,
}

impl LocalBatch {
    /// Locks this CPU's batch.
    ///
    /// May be called in task context with spinlocks held, but not with interrupts off. Who holds it
    /// already gets the same batch again, or deadlocks on PREEMPT_RT.
    #[inline]
    pub fn lock() -> Self {
        // INVARIANT: The helper takes the lock and returns the batch that is under it. With it,
        // nobody else runs on this CPU who looks at the batch.
        Self {
            batch: FolioBatch {
                // SAFETY: No preconditions.
                batch: unsafe { bindings::mlock_fbatch_lock() },
                _nts: NotThreadSafe,
            },
        }
    }
}

impl Deref for LocalBatch {
    type Target = FolioBatch;

    #[inline]
    fn deref(&self) -> &FolioBatch {
        &self.batch
    }
}

impl Drop for LocalBatch {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants, we hold the lock.
        unsafe { bindings::mlock_fbatch_unlock() };
    }
}

/// Returns how many folios wait in the batch of a CPU, which may change at any time.
#[inline]
pub fn batch_len(cpu: CpuId) -> u32 {
    // SAFETY: The CPU exists.
    unsafe { bindings::mlock_fbatch_count(cpu.as_u32()) }
}
