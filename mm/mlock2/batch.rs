// SPDX-License-Identifier: GPL-2.0

//! The folios of locked vmas: `PG_mlocked`, and the way to the unevictable LRU list.
//!
//! # The life of a locked folio
//!
//! Four things say that a folio is locked. They do not change at once, nor all in this file:
//!
//! - `VMA_LOCKED_BIT` of a vma that maps it: set and cleared by `fixup.rs`, under the mmap lock and
//!   the vma's lock. It is what keeps reclaim from unmapping the folio: `try_to_unmap_one()` and
//!   `folio_referenced_one()` look at it under the page table lock.
//! - `PG_mlocked`: set by [`mlock_folio`], [`mlock_new_folio`] and [`mlock_mapped_folio`], cleared
//!   when a munlock takes effect, or when the folio dies, all atomically. `nr_mlock` follows at
//!   once, or when the lruvec lock is dropped under which that was done. Splitting a folio copies
//!   the flag. If it is still set when it is freed, then `free_pages_prepare()` clears it.
//! - `PG_unevictable`, and being on no list that reclaim scans: changed here with the lruvec
//!   locked, in the same step as `PG_mlocked`, and only while `PG_lru` is set; by `lru_add()` when
//!   a folio is put on a list, whoever had taken it off; by `check_move_unevictable_folios()` for
//!   `SHM_UNLOCK`; copied by migration and split.
//! - `mlock_count`, which exists only while the folio is unevictable: changed here under the same
//!   lock, set to 0 by `lru_add()` whenever the folio is put back.
//!
//! A folio is mlocked when it is faulted into a locked vma: by `mlock_new_folio()` if it is new and
//! goes to the LRU lists for the first time, else by `mlock_folio()` at the end of adding the rmap;
//! and when `walk.rs` finds it in a vma that is being locked. `PG_mlocked` is set at once, so that
//! reclaim passes it by. The rest is pending in this CPU's batch, which has a reference. It is done
//! at once for a large folio, which the batch would keep too much memory for, and by the walk,
//! which comes by many folios of one lruvec; the batch is drained first. When it is done, the folio
//! becomes unevictable with an `mlock_count` of 1; another mlock adds 1. Unmapping it from a locked
//! vma queues a munlock, if it is small; unlocking the vma munlocks it at once: it takes 1 off. At
//! 0, or if there is no count, `PG_mlocked` is cleared, and in the same step the folio becomes
//! evictable, unless something else (`SHM_LOCK`, ramfs) makes it unevictable. A folio that is freed
//! with its last mapping is not moved any more: see `Folio::munlock_dying()`.
//!
//! `mlock_count` errs on the low side: a folio that somebody else has isolated when its mlock is
//! drained is not counted, being put back sets the count to 0, and a large folio that is mapped in
//! part is munlocked but never mlocked. So a folio may become evictable while a locked vma maps it.
//! Reclaim then meets `VMA_LOCKED_BIT`, keeps it mapped, and mlocks it again if it is mapped as a
//! whole. The other way is to be avoided, since it would keep a folio unevictable until it is
//! freed. It is possible in two cases, as in C: who unmaps a folio between munlock's clearing of
//! `VMA_LOCKED_BIT` and its walk leaves `PG_mlocked` set, which matters if the folio lives on, as
//! with truncation or with a migration that fails and maps it again; and an mlock that is pending
//! in the batch of one CPU, while another CPU drains the munlock that belongs to it, counts after
//! all if the folio is mlocked again before its turn comes. What was counted too often is put right
//! when the last vma unmaps the folio: a munlock of a folio that is mapped nowhere clears
//! `PG_mlocked` whatever the count is.
//!
//! # Who may come in between
//!
//! - *Reclaim, migration, compaction, split and others that take folios off their list*: they
//!   isolate the folio by clearing `PG_lru`. If they do so before us, then an mlock leaves the
//!   folio alone: `lru_add()` looks at `PG_mlocked` when the folio is put back. A munlock clears
//!   `PG_mlocked` all the same. If the folio was put back as unevictable just before, it stays so
//!   without need: it is counted in `unevictable_pgs_stranded`, and rescued when somebody takes and
//!   puts it back again. If they isolate it after us, they wait for the lock.
//! - *The same folio in the batch of another CPU, or twice in one*: its lruvec's lock puts the
//!   moves in an order. An mlock and a munlock cancel out in either order, if no other vma has it
//!   locked; if one has, then the munlock may come first and take off what was that vma's: the
//!   count is too low then.
//! - *Setting `PG_mlocked` while a munlock takes effect*: the munlock clears the flag and makes the
//!   folio evictable in one step. What was set before is lost, as the mlock's entry in the batch
//!   finds out. What is set after that belongs to an mlock that moves the folio in the same step,
//!   has its entry in a batch yet, or is, for a large folio, about to settle it: it finds the folio
//!   evictable and moves it. So does the walk, which leaves an entry in the batch if the folio is
//!   on no list.
//! - *A walk, and what is pending in this CPU's batch*: the walk drains the batch when it locks it,
//!   and keeps the lock while it moves folios. Otherwise a munlock by the walk could come before an
//!   mlock that another task of this CPU has queued, and take off the count of a third: on
//!   PREEMPT_RT, such a task may run in the middle of the walk. A task of another CPU may queue one
//!   at any time; the count is too low then.
//! - *Migration or reclaim while a vma is being locked*: both may mlock a folio because of the
//!   vma's new flag, before the walk gets there and does so too. `VMA_IO_BIT` beside
//!   `VMA_LOCKED_BIT` tells them to leave it to the walk (see `ModifiedVma::publish_lock_flags()`),
//!   until what the walk has left in the batch is drained, too.
//! - *munmap, exit and truncation*: the munlock is the last thing that removing the rmap does; the
//!   reference of the mapping is put after it, so the folio is there for the batch to take its own,
//!   unless it dies with that. A large folio is munlocked with that reference.
//! - *Another process that maps the folio*: its vma adds and takes off its own 1.
//! - *Who counts references* (migration, split, `MADV_FREE`): the batch's own make the count too
//!   high. They call `mlock_drain_local()` first; and `lru_cache_disabled()` keeps the batches
//!   empty.
//! - *CPU hotplug*: when a CPU is gone, [`mlock_drain_remote`] drains its batch from another one;
//!   nobody else can reach it then.
//!
//! # Specification
//!
//! `tools/testing/mlock2/interleave/mlock.pml` is all of this, and what the C does, as a model of
//! one folio that `make spin` checks. `make interleave` tries this file itself, and `walk.rs`, in
//! every interleaving with the rest of mm.
//!
//! # Lock order
//!
//! Page table lock, the local lock of the batch, the lruvec lock (interrupts off; on PREEMPT_RT the
//! last two are sleeping locks, and interrupts stay on). Everything here may be called in task
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

/// Counts an mlock. If another CPU has cleared `PG_mlocked` since, then there is nothing to count.
/// The C is `__mlock_folio()`.
#[inline(always)]
fn mlock(folio: &mut LruFolio<'_>) {
    folio.inc_mlock_count();
}

/// Counts a munlock, and says what becomes of `PG_mlocked`. The C is `__munlock_folio()`.
#[inline(always)]
fn munlock(folio: &mut LruFolio<'_>) -> Mlocked {
    if folio.dec_mlock_count() {
        Mlocked::Kept
    } else {
        // That was the last one, or there is no telling: reclaim mends it if it was not.
        Mlocked::Cleared
    }
}

/// Mlocks a folio that is mapped, and does at once what is to be done about it: for a walk, which
/// comes by many folios and has a lock for them already.
///
/// The batch must have been drained since it was locked. Returns whether the folio was left in it:
/// somebody else has taken it off its list, and is given time to put it back. In C that is until
/// the batch is full or the vma done, here until the page table is. A batch that is full, but for
/// one place, cannot be drained here: `PG_mlocked` is set, at which `lru_add()` looks when the
/// folio is put back. If it looked right before that, then reclaim finds the vma locked.
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

/// Munlocks a folio, and does at once what is to be done about it: for a walk, and for what was
/// pending in a batch, which may not be mapped any more.
#[inline(always)]
pub(crate) fn munlock_now(folio: Folio<'_>, lruvec: &mut LruvecGuard<'_>) {
    lruvec.munlock(folio, munlock);
}

/// Mlocks or munlocks folios that are mapped, each with an event: for a walk, while that is on. If
/// one is left in the batch ([`mlock_mapped_folio`]), drains that.
#[cold]
#[inline(never)]
pub(crate) fn mark_traced<const LOCK: bool>(folios: &[Folio<'_>], context: &mut TaskContext<'_>) {
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

/// Does what is to be done with the folios of a batch, and empties it. The C function of the same
/// name.
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

// `TRACED`: each folio has an event. A constant, since folios are many.
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

            // If somebody else has isolated it, there is nothing more that we can do.
            lruvec.settle(folio, mlock);
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

// Drains the batch, unless that is empty.
#[inline(always)]
fn drain_if_any(batch: &FolioBatch<'_>) {
    if !batch.is_empty() {
        mlock_folio_batch(batch);
    }
}

// Does for a large folio what pushing it and draining the batch would come to: a large folio is not
// to be pending in a batch. The caller's reference keeps it.
#[inline(always)]
fn at_once(mut batch: LocalBatch<'_>, work: impl FnOnce(&mut LruvecGuard<'_>)) {
    drain_if_any(&batch);
    batch.with_lruvec(|_, lruvec| work(lruvec));
}

/// Mlocks a folio that is on an LRU list, or for the moment off it. The C function of the same
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

// Apart, as the two below, so that a small folio saves no registers for it. With an event, all
// folios go by way of the batch.
#[inline(never)]
fn mlock_large(folio: Folio<'_>, batch: LocalBatch<'_>) {
    if is_mlock_traced() {
        batch.push_mlock(folio.get());
        mlock_folio_batch(&batch);
    } else {
        at_once(batch, |lruvec| lruvec.settle(folio, mlock));
    }
}

/// Mlocks a folio that has just been allocated and is not on an LRU list yet. The C function of the
/// same name.
pub(crate) fn mlock_new_folio(new: NewFolio<'_>, context: &mut TaskContext<'_>) {
    let batch = LocalBatch::lock(context);
    // To the LRU lists it goes by way of the batch; for all else it is a folio like others.
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

/// Munlocks a folio. The C function of the same name.
///
/// A folio that is about to be freed, as most are that munmap and exit unmap, is munlocked at once.
/// Of another one, `PG_mlocked` stays set until the batch is drained: others may have it locked.
pub(crate) fn munlock_folio(folio: Folio<'_>, context: &mut TaskContext<'_>) {
    let batch = LocalBatch::lock(context);

    if folio.munlock_dying() {
        // While batches are disabled, this one is always empty here.
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

/// Locks the batch of this CPU, and drains it: for a walk, and for `mlock_drain_local()`.
#[inline]
pub(crate) fn lock_drained<'c>(context: &'c mut TaskContext<'_>) -> LocalBatch<'c> {
    let batch = LocalBatch::lock(context);

    drain_if_any(&batch);
    batch
}

/// Drains the batch of this CPU. The C function of the same name.
#[inline]
pub(crate) fn mlock_drain_local(context: &mut TaskContext<'_>) {
    lock_drained(context);
}

/// Drains the batch of a CPU that is gone. The C function of the same name.
pub(crate) fn mlock_drain_remote(batch: FolioBatch<'_>) {
    drain_if_any(&batch);
}

/// Whether folios are pending in the batch of a CPU. The C function of the same name.
pub(crate) fn need_mlock_drain(cpu: CpuId) -> bool {
    is_batch_in_use(cpu)
}
