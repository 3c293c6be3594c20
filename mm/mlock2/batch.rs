// SPDX-License-Identifier: GPL-2.0

//! Mlocked folios: `PG_mlocked`, `mlock_count`, and moves to and from the unevictable LRU list.
//!
//! # The life of a locked folio
//!
//! Four pieces of state say that a folio is locked. They change at different times, and only some
//! of them in this file:
//!
//! - `VMA_LOCKED_BIT` of a vma that maps it: `fixup.rs` sets and clears it under the mmap lock and
//!   the vma lock. It keeps reclaim from unmapping the folio: `try_to_unmap_one()` and
//!   `folio_referenced_one()` check it under the page table lock.
//! - `PG_mlocked`: [`mlock_folio`], [`mlock_new_folio`] and [`mlock_mapped_folio`] set it. A
//!   munlock that takes effect clears it, and so does freeing the folio. All of these are atomic.
//!   `nr_mlock` changes at once, or when the lruvec lock under which the flag changed is dropped.
//!   Splitting a folio copies the flag. If it is still set when the folio is freed,
//!   `free_pages_prepare()` clears it.
//! - `PG_unevictable`, which keeps the folio off the lists that reclaim scans: this file changes it
//!   under the lruvec lock, in the same step as `PG_mlocked`, and only while `PG_lru` is set.
//!   `lru_add()` changes it when it puts a folio on a list, whoever isolated the folio.
//!   `check_move_unevictable_folios()` clears it for `SHM_UNLOCK`. Migration and split copy it.
//! - `mlock_count`, which exists only while the folio is unevictable: this file changes it under
//!   the lruvec lock. `lru_add()` sets it to 0 whenever it puts the folio back.
//!
//! A folio is mlocked when it is faulted into a locked vma: by `mlock_new_folio()` if it is new and
//! goes to the LRU lists for the first time, otherwise by `mlock_folio()` at the end of adding the
//! rmap. It is also mlocked when `walk.rs` finds it in a vma that is being locked. `PG_mlocked` is
//! set at once, so that reclaim skips the folio. The rest is pending in this CPU's batch, which
//! holds a reference, until the batch is drained. Two cases drain the batch first and then do the
//! rest at once: a large folio, because the batch would pin too much memory, and the walk, which
//! moves many folios of one lruvec. Draining makes the folio unevictable with an `mlock_count` of
//! 1; another mlock adds 1.
//!
//! Unmapping a folio from a locked vma queues a munlock if the folio is small, and munlocks it at
//! once if it is large. Unlocking a vma munlocks its folios at once. A munlock subtracts 1. When
//! the count reaches 0, or if there is no count, the munlock clears `PG_mlocked`, and in the same
//! step makes the folio evictable, unless something else (`SHM_LOCK`, ramfs) keeps it unevictable.
//! A folio that is freed with its last mapping is not moved any more: see `Folio::munlock_dying()`.
//!
//! `mlock_count` errs on the low side. Draining the mlock of an isolated folio does not count it,
//! putting a folio back sets its count to 0, and a partially mapped large folio is munlocked but
//! never mlocked. So a folio may become evictable while a locked vma maps it. Reclaim then meets
//! `VMA_LOCKED_BIT`, keeps the folio mapped, and mlocks it again if it is fully mapped.
//!
//! A count that is too high is worse, since it would keep the folio unevictable until it is freed.
//! As in C, there are two such cases:
//!
//! - A CPU unmaps a folio after munlock() has cleared `VMA_LOCKED_BIT` and before the walk of
//!   munlock() gets there. Nobody munlocks the folio, so `PG_mlocked` stays set. This matters if
//!   the folio lives on, as it may with truncation, or with a migration that fails and maps it
//!   again.
//! - An mlock is pending in the batch of one CPU while another CPU drains the matching munlock. If
//!   the folio is mlocked again before the first CPU drains, the pending mlock counts after all.
//!
//! The munlock of the last vma that unmaps the folio corrects a count that is too high: a munlock
//! of a folio that is mapped nowhere clears `PG_mlocked` whatever the count.
//!
//! # Races
//!
//! - *Reclaim, migration, compaction, split and others that isolate folios*: they clear `PG_lru`.
//!   If they do so before us, an mlock leaves the folio alone: `lru_add()` checks `PG_mlocked` when
//!   it puts the folio back. A munlock clears `PG_mlocked` all the same. If `lru_add()` checked
//!   just before the munlock, it puts the folio on the unevictable list without need. Such a folio
//!   counts in `unevictable_pgs_stranded`, and is rescued when somebody isolates it and puts it
//!   back again. If they clear `PG_lru` after us, they wait for the lruvec lock.
//! - *The same folio in the batch of another CPU, or twice in one*: the lruvec lock orders the
//!   moves. An mlock and a munlock cancel out in either order if no other vma locks the folio. If
//!   another vma does, the munlock may come first and subtract the 1 of that vma: the count is then
//!   too low.
//! - *Setting `PG_mlocked` while a munlock takes effect*: the munlock clears the flag and makes the
//!   folio evictable in one step. An mlock that set the flag earlier loses it: draining its batch
//!   entry finds the flag clear and does nothing, and reclaim mlocks the folio again when it meets
//!   the locked vma. An mlock that sets the flag later finds the folio evictable and moves it: a
//!   walk in the same step, the mlock of a large folio right after, and any other when its batch
//!   entry is drained, as does a walk that met the folio isolated.
//! - *A walk, and folios pending in this CPU's batch*: the walk drains the batch after locking it,
//!   and keeps it locked while it moves folios. Otherwise a munlock by the walk could overtake an
//!   mlock that another task on this CPU has queued, and subtract the 1 of a third vma: on
//!   PREEMPT_RT, such a task may run in the middle of the walk. A task on another CPU may queue an
//!   mlock at any time; the count is then too low.
//! - *Migration or reclaim while a vma is being locked*: both may mlock a folio because the new
//!   flag of the vma is set, before the walk reaches the folio and mlocks it as well. `VMA_IO_BIT`
//!   beside `VMA_LOCKED_BIT` tells them to leave the folio to the walk (see
//!   `ModifiedVma::publish_lock_flags()`), until the entries that the walk left in the batch are
//!   drained as well.
//! - *munmap, exit and truncation*: removing the rmap munlocks the folio last, and the reference of
//!   the mapping is put after that. So the folio is still alive when the batch takes its own
//!   reference. Munlocking a large or a dying folio relies on the reference of the mapping.
//! - *Another process that maps the folio*: its vma adds and subtracts its own 1.
//! - *Code that checks the reference count* (migration, split, `MADV_FREE`): the references of the
//!   batch make the count too high. Such code calls `mlock_drain_local()` first, and
//!   `lru_cache_disabled()` keeps the batches empty.
//! - *CPU hotplug*: once a CPU is dead, [`mlock_drain_remote`] drains its batch from another CPU;
//!   nobody else can reach that batch then.
//!
//! # Specification
//!
//! `tools/testing/mlock2/interleave/mlock.pml` models all of this, and the C as well, for one
//! folio; `make spin` checks the model. `make interleave` runs this file itself, and `walk.rs`, in
//! every interleaving with the rest of mm.
//!
//! # Lock order
//!
//! Page table lock, local lock of the batch, lruvec lock (interrupts off; on PREEMPT_RT the last
//! two are sleeping locks, and interrupts stay on). All functions here may be called in task
//! context with spinlocks held and interrupts on.

use kernel::cpu::CpuId;
use mm::{
    folio::{
        lru_cache_disabled,
        Folio,
        LruFolio,
        LruvecGuard,
        Mlocked,
        NewFolio, //
    },
    folio_batch::{
        is_batch_in_use,
        lru_add_drain,
        BatchSpace,
        Entry,
        FolioBatch,
        LocalBatch,
        TaskContext, //
    },
    mlock_trace::{
        folio_mlocked,
        folio_munlocked,
        is_mlock_traced,
        is_munlock_traced, //
    },
};

/// Counts an mlock, unless another CPU has cleared `PG_mlocked` since. Counterpart of
/// `__mlock_folio()`.
#[inline(always)]
fn mlock(folio: &mut LruFolio<'_>) {
    folio.inc_mlock_count();
}

/// Counts a munlock, and returns whether to clear `PG_mlocked`. Counterpart of `__munlock_folio()`.
#[inline(always)]
fn munlock(folio: &mut LruFolio<'_>) -> Mlocked {
    if folio.dec_mlock_count() {
        Mlocked::Kept
    } else {
        // The count is 0, or there is none. If a locked vma still maps the folio, reclaim mlocks it
        // again.
        Mlocked::Cleared
    }
}

/// Mlocks a mapped folio at once instead of queueing it: for a walk, which moves many folios under
/// one hold of the lruvec lock.
///
/// The caller must have drained the batch since locking it. If somebody else has isolated the
/// folio, queues it in the batch and returns `true`, which gives them time to put it back. The C
/// drains that entry when the batch is full or the vma is done, a walk here when the page table is
/// done. A batch with a single free place cannot take it, since this function cannot drain: then
/// only `PG_mlocked` is set, which `lru_add()` checks when it puts the folio back. If `lru_add()`
/// checked just before, reclaim finds the vma locked.
#[inline(always)]
pub(crate) fn mlock_mapped_folio(
    folio: Folio<'_>,
    lruvec: &mut LruvecGuard<'_>,
    batch: BatchSpace<'_>,
) -> bool {
    if lruvec.mlock(folio, mlock) {
        return false;
    }
    batch.push_mlock(folio);
    true
}

/// Munlocks a folio at once instead of queueing it: for a walk, and for draining a batch, whose
/// folios may no longer be mapped.
#[inline(always)]
pub(crate) fn munlock_now(folio: Folio<'_>, lruvec: &mut LruvecGuard<'_>) {
    lruvec.munlock(folio, munlock);
}

/// Mlocks or munlocks mapped folios with an event for each: for a walk, while the event is enabled.
/// Drains the batch if [`mlock_mapped_folio`] left a folio in it.
#[cold]
#[inline(never)]
pub(crate) fn mlock_or_munlock_traced<const LOCK: bool>(
    folios: &[Folio<'_>],
    context: &mut TaskContext<'_>,
) {
    let mut queued = false;

    lock_drained(context).with_lruvec(|batch, lruvec| {
        for &folio in folios {
            let was_unevictable = lruvec.is_unevictable(folio);

            if LOCK {
                queued |= mlock_mapped_folio(folio, lruvec, batch);
                folio_mlocked(folio, was_unevictable);
            } else {
                munlock_now(folio, lruvec);
                folio_munlocked(folio, was_unevictable);
            }
        }
    });
    if queued {
        lru_add_drain(context);
    }
}

/// Mlocks or munlocks the folios pending in a batch, and empties it. Counterpart of the C function
/// of the same name.
fn mlock_folio_batch(batch: &FolioBatch<'_>) {
    if is_mlock_traced() || is_munlock_traced() {
        drain_traced(batch);
    } else {
        drain::<false>(batch);
    }
}

#[cold]
#[inline(never)]
fn drain_traced(batch: &FolioBatch<'_>) {
    drain::<true>(batch);
}

// `TRACED`: emit an event for each folio. A constant, so that the loop does not test it.
#[inline(always)]
fn drain<const TRACED: bool>(batch: &FolioBatch<'_>) {
    batch.drain(|lruvec, entry| match entry {
        Entry::Added(folio) => {
            if TRACED {
                folio_mlocked(folio, false);
            }
        }
        Entry::Mlock(folio) => {
            let was_unevictable = TRACED && lruvec.is_unevictable(folio);

            // Does nothing if somebody else has isolated the folio: `lru_add()` checks
            // `PG_mlocked`.
            lruvec.cull_or_rescue(folio, mlock);
            if TRACED {
                folio_mlocked(folio, was_unevictable);
            }
        }
        Entry::Munlock(folio) => {
            let was_unevictable = TRACED && lruvec.is_unevictable(folio);

            munlock_now(folio, lruvec);
            if TRACED {
                folio_munlocked(folio, was_unevictable);
            }
        }
    });
}

// Drains the batch if it is full, or if batches are disabled.
#[inline(always)]
fn drain_if_due(batch: &FolioBatch<'_>, space: u8) {
    if space == 0 || lru_cache_disabled() {
        mlock_folio_batch(batch);
    }
}

// Drains the batch unless it is empty.
#[inline(always)]
fn drain_if_any(batch: &FolioBatch<'_>) {
    if !batch.is_empty() {
        mlock_folio_batch(batch);
    }
}

// Does for a large folio what pushing it and draining the batch would do, since a large folio must
// not be pending in a batch. The caller's reference keeps the folio alive.
#[inline(always)]
fn at_once(mut batch: LocalBatch<'_>, work: impl FnOnce(&mut LruvecGuard<'_>)) {
    drain_if_any(&batch);
    batch.with_lruvec(|_, lruvec| work(lruvec));
}

/// Mlocks a folio that is on an LRU list or isolated. Counterpart of the C function of the same
/// name.
pub(crate) fn mlock_folio(folio: Folio<'_>, context: &mut TaskContext<'_>) {
    let batch = LocalBatch::lock(context);

    folio.set_mlocked();
    if !folio.may_be_lru_cached() {
        return mlock_large(folio, batch);
    }
    let space = batch.push_mlock(folio.get());
    drain_if_due(&batch, space);
}

// Not inlined, like the two functions below, so that a small folio saves no registers for them.
// While the event is enabled, large folios go through the batch as well.
#[inline(never)]
fn mlock_large(folio: Folio<'_>, batch: LocalBatch<'_>) {
    if is_mlock_traced() {
        batch.push_mlock(folio.get());
        mlock_folio_batch(&batch);
    } else {
        at_once(batch, |lruvec| lruvec.cull_or_rescue(folio, mlock));
    }
}

/// Mlocks a folio that has just been allocated and is not on an LRU list yet. Counterpart of the C
/// function of the same name.
pub(crate) fn mlock_new_folio(new: NewFolio<'_>, context: &mut TaskContext<'_>) {
    let batch = LocalBatch::lock(context);
    // Putting the folio on an LRU list takes `new`. For everything else, it is a folio like any
    // other.
    let folio = new.folio();

    folio.set_mlocked();
    if !folio.may_be_lru_cached() {
        return mlock_new_large(new, batch);
    }
    let space = batch.push_mlock_new(new);
    drain_if_due(&batch, space);
}

#[inline(never)]
fn mlock_new_large(new: NewFolio<'_>, mut batch: LocalBatch<'_>) {
    if is_mlock_traced() {
        batch.push_mlock_new(new);
        mlock_folio_batch(&batch);
    } else {
        drain_if_any(&batch);
        batch.add_new(new);
    }
}

/// Munlocks a folio. Counterpart of the C function of the same name.
///
/// A folio that is about to be freed is munlocked at once; most folios that munmap and exit unmap
/// are. For any other folio, `PG_mlocked` stays set until the munlock is drained, since other vmas
/// may lock it.
pub(crate) fn munlock_folio(folio: Folio<'_>, context: &mut TaskContext<'_>) {
    let batch = LocalBatch::lock(context);

    if folio.munlock_dying() {
        // While batches are disabled, this batch is always empty here.
        let was_empty = batch.is_empty();

        if batch.skip() == 0 || (was_empty && lru_cache_disabled()) {
            mlock_folio_batch(&batch);
        }
        return;
    }
    if !folio.may_be_lru_cached() {
        return munlock_large(folio, batch);
    }
    let space = batch.push_munlock(folio.get());
    drain_if_due(&batch, space);
}

#[inline(never)]
fn munlock_large(folio: Folio<'_>, batch: LocalBatch<'_>) {
    if is_munlock_traced() {
        batch.push_munlock(folio.get());
        mlock_folio_batch(&batch);
    } else {
        at_once(batch, |lruvec| munlock_now(folio, lruvec));
    }
}

/// Locks this CPU's batch and drains it: for a walk, and for `mlock_drain_local()`.
#[inline]
pub(crate) fn lock_drained<'c>(context: &'c mut TaskContext<'_>) -> LocalBatch<'c> {
    let batch = LocalBatch::lock(context);

    drain_if_any(&batch);
    batch
}

/// Drains the batch of this CPU. Counterpart of the C function of the same name.
#[inline]
pub(crate) fn mlock_drain_local(context: &mut TaskContext<'_>) {
    lock_drained(context);
}

/// Drains the batch of a dead CPU. Counterpart of the C function of the same name.
pub(crate) fn mlock_drain_remote(batch: FolioBatch<'_>) {
    drain_if_any(&batch);
}

/// Returns whether folios are pending in the batch of a CPU. Counterpart of the C function of the
/// same name.
pub(crate) fn need_mlock_drain(cpu: CpuId) -> bool {
    is_batch_in_use(cpu)
}
