// SPDX-License-Identifier: GPL-2.0

//! Which vmas change, and the count of locked pages with them.
//!
//! Everything here runs in task context with the mmap lock held for writing, which the guard in
//! each signature stands for, and may sleep. Lock order: see `rust/kernel/mm/mmap_write.rs`.

use super::{
    memlock::{
        range_refused,
        trace_range_refused, //
    },
    range::{
        PageCount,
        PageRange,
        ToPopulate, //
    },
    request::{
        LockAll,
        LockMode, //
    },
    walk::PageWalk, //
};
use kernel::{
    mm::{
        mmap_lock::MmapWriteGuard,
        vma_flags::VmaFlags, //
    },
    prelude::*,
    task::cond_resched, //
};
use mm::{
    mlock_trace::{
        self,
        Mode,
        Refusal, //
    },
    mmap_write::{
        MmapWrite,
        VmaMut, //
    },
};

/// The vma flags that stand for a mode.
fn lock_flags(mode: LockMode) -> VmaFlags {
    match mode {
        LockMode::Unlocked => VmaFlags::NONE,
        LockMode::Locked => VmaFlags::LOCKED,
        LockMode::OnFault => VmaFlags::LOCKED_ONFAULT,
    }
}

/// What flags of a vma stand for, in an event.
#[inline(always)]
fn mode_of(flags: VmaFlags) -> Mode {
    if flags.contains(VmaFlags::LOCKED_ONFAULT) {
        Mode::ONFAULT
    } else if flags.contains(VmaFlags::LOCKED) {
        Mode::LOCKED
    } else {
        Mode::UNLOCKED
    }
}

/// Locks or unlocks `start..end` (bytes) of one vma. The C function of the same name.
///
/// Vmas that cannot be locked are passed over: `VMA_LOCKED_BIT` never gets set for them, and
/// nothing is counted. So are vmas that have the flags already, and secret memory, which is locked
/// for good.
///
/// Returns from which address (bytes) on the range is to be populated afterwards: all before that
/// is there, or is to be locked on fault or unlocked. Whether it is there is only looked for if the
/// vma, as merged, begins at `check_from` or above: if populating is certain to reach `start` then.
///
/// # Errors
///
/// `ENOMEM` if the vma would have to be split or merged and cannot be. Its flags and the count are
/// as before.
#[inline(always)]
fn mlock_fixup(
    vma: VmaMut<'_>,
    start: usize,
    end: usize,
    lock: VmaFlags,
    check_from: usize,
    walk: &mut PageWalk,
) -> Result<usize> {
    let old = vma.vma_flags();

    if old == old.with_lock(lock) {
        return Ok(if lock == VmaFlags::LOCKED { start } else { end });
    }
    change_lock_flags(vma, start, end, old, lock, check_from, walk)
}

/// How many pages are charged if `start..end` (bytes) of a vma is locked, or not any more.
#[inline(always)]
fn charge(start: usize, end: usize, is_locked: bool) -> isize {
    // A vma is a part of the address space, so its pages fit in an isize.
    let pages = PageCount::of_bytes(end.wrapping_sub(start)).get() as isize;

    if is_locked {
        pages
    } else {
        pages.wrapping_neg()
    }
}

// The event of a vma that changes. Before the change: what the event tells is still at hand then.
#[cold]
#[inline(never)]
fn trace_vma(start: usize, end: usize, old: VmaFlags, lock: VmaFlags) {
    let (from, to) = (mode_of(old), mode_of(lock));
    let is_locked = to != Mode::UNLOCKED;
    let pages = if is_locked == (from != Mode::UNLOCKED) {
        0
    } else {
        charge(start, end, is_locked)
    };

    mlock_trace::vma_changed(start, end, from, to, pages);
}

// Apart, so that a vma that stays as it is costs no call.
#[inline(never)]
fn change_lock_flags(
    vma: VmaMut<'_>,
    start: usize,
    end: usize,
    old: VmaFlags,
    lock: VmaFlags,
    check_from: usize,
    walk: &mut PageWalk,
) -> Result<usize> {
    let Some(vma) = vma.lockable() else {
        // It is populated all the same, be it to be locked on fault.
        return Ok(start);
    };
    let mut vma = vma.modify_flags(start, end, lock)?;
    if mlock_trace::is_vma_traced() {
        trace_vma(start, end, old, lock);
    }

    let was_locked = old.contains(VmaFlags::LOCKED);
    let is_locked = lock.contains(VmaFlags::LOCKED);

    if was_locked != is_locked {
        vma.add_locked_vm(charge(start, end, is_locked));
        // If there is nothing to move, then what is pending in a batch, such as the order to free a
        // page lazily, would otherwise take effect later than in C, which smaps shows.
        if !vma.maps_folios() {
            walk.lru_add_drain_once(&mut vma);
        }
    }
    // Where only the mode changes, what is present is marked already, and marking a folio twice
    // would keep it unevictable after the vma is unlocked.
    let to_populate = if lock == VmaFlags::LOCKED { start } else { end };
    let Err(vma) = vma.set_lock_flags() else {
        return Ok(to_populate);
    };
    let check = vma.start() >= check_from;
    // It is all right if reclaim unmaps a page right after the flags are set: populating brings it
    // back.
    let populated = vma.publish_lock_flags(|vma| walk.mlock_vma_pages_range(vma, check));
    Ok(populated.max(to_populate))
}

// Why no vma could be made that begins at `at` (bytes), or ends in the vma there.
#[inline(always)]
fn not_split(mm: &MmapWriteGuard<'_>, at: usize) -> Refusal {
    if mm.is_at_max_map_count() {
        Refusal::TooManyVmas { at }
    } else {
        Refusal::NoMemoryForVma { at }
    }
}

// Nothing is mapped at `at`, which is in the range.
#[inline(always)]
fn hole(start: usize, end: usize, mode: LockMode, at: usize) -> Error {
    range_refused(start, end, mode, ENOMEM, at, |at| Refusal::Hole { at })
}

/// Locks or unlocks a range that may span vmas. The C function of the same name.
///
/// Returns the part of the range that is to be populated.
///
/// # Errors
///
/// `EINVAL` if the range reaches past the end of the address space. `ENOMEM` if a part of it is not
/// mapped, or a vma could not be split; what comes before that is locked or unlocked then, and
/// stays so.
#[inline(always)]
pub(crate) fn apply_vma_lock_flags(
    mm: &mut MmapWriteGuard<'_>,
    range: &PageRange,
    mode: LockMode,
) -> Result<ToPopulate> {
    let Some(end) = range.end() else {
        if mlock_trace::is_refused_traced() {
            trace_range_refused(*range, mode, EINVAL, Refusal::RangeWraps);
        }
        return Err(EINVAL);
    };
    if end == range.start() {
        return Ok(ToPopulate::NOTHING);
    }

    let lock = lock_flags(mode);
    let mut vmas = mm.vmas_mut(range.start());
    if !vmas.load() {
        let at = range.start();
        return Err(range_refused(at, end, mode, ENOMEM, at, |at| {
            Refusal::NotMapped { at }
        }));
    }
    let mut next = range.start();
    let mut unpopulated = ToPopulate::NOTHING;
    let mut walk = PageWalk::new();
    // Populating starts at the range, wherever its first vma does.
    let mut check_from = 0;

    while let Some(vma) = vmas.next_below(end) {
        // The first vma contains the start; each later one must begin where the last one ended.
        if vma.start() > next {
            return Err(hole(range.start(), end, mode, next));
        }
        let vma_end = vma.end().min(end);
        let start = next;
        if vma_end < end {
            // Look only if there is one vma: a later one may fail the call, which then populates
            // nothing.
            check_from = usize::MAX;
        }
        let from = match mlock_fixup(vma, start, vma_end, lock, check_from, &mut walk) {
            Ok(from) => from,
            Err(error) => {
                if mlock_trace::is_refused_traced() {
                    trace_range_refused(*range, mode, error, not_split(mm, start));
                }
                return Err(error);
            }
        };
        // Not `vma_end`: the vma may have been merged with one that reaches further, which had its
        // flags before, so that nobody looked at it.
        next = vmas.end();
        unpopulated.add(from, next.min(end));
        // Saves a lookup in the maple tree.
        if next >= end {
            break;
        }
    }

    if next < end {
        return Err(hole(range.start(), end, mode, next));
    }
    Ok(unpopulated)
}

/// Counts the pages of a range that are in locked vmas, whether they are present or not. The C
/// function of the same name. Wraps where that does: at the first locked vma, for a range that ends
/// at 0.
pub(crate) fn count_mm_mlocked_page_nr(mm: &MmapWriteGuard<'_>, range: &PageRange) -> PageCount {
    let start = range.start();
    let end = range.saturating_end();
    let mut bytes = 0usize;

    for vma in mm.vmas_in(start, end) {
        if !vma.vma_flags().contains(VmaFlags::LOCKED) {
            continue;
        }
        if start > vma.start() {
            bytes = bytes.wrapping_sub(start.wrapping_sub(vma.start()));
        }
        if end < vma.end() {
            bytes = bytes.wrapping_add(end.wrapping_sub(vma.start()));
            break;
        }
        bytes = bytes.wrapping_add(vma.end().wrapping_sub(vma.start()));
    }

    PageCount::of_bytes(bytes)
}

/// Counts the vmas that are locked, for an event.
pub(crate) fn count_locked_vmas(mm: &MmapWriteGuard<'_>) -> usize {
    mm.vmas_in(0, usize::MAX)
        .filter(|vma| vma.vma_flags().contains(VmaFlags::LOCKED))
        .count()
}

/// Locks or unlocks every vma, and says how later ones start out. The C function of the same name.
///
/// A vma that cannot be changed stays as it is: mlockall(2) does not fail for it. Returns what is
/// to be populated.
#[inline(always)]
pub(crate) fn apply_mlockall_flags(mm: &mut MmapWriteGuard<'_>, request: LockAll) -> ToPopulate {
    mm.set_def_lock_flags(lock_flags(request.future()));

    match request.current() {
        Some(mode) => apply_to_vmas(mm, lock_flags(mode)),
        None => ToPopulate::NOTHING,
    }
}

// Apart, so that what only looks to the future does not save the registers that this needs.
#[inline(never)]
fn apply_to_vmas(mm: &mut MmapWriteGuard<'_>, lock: VmaFlags) -> ToPopulate {
    let mut unpopulated = ToPopulate::NOTHING;
    let mut walk = PageWalk::new();
    let mut vmas = mm.vmas_mut(0);
    while let Some(vma) = vmas.next() {
        let (start, end) = (vma.start(), vma.end());
        // After an error, populating goes on with the next vma: so it reaches every vma, but not
        // surely what was merged with one in which something before it is to be populated.
        let check_from = unpopulated.end();
        let from = mlock_fixup(vma, start, end, lock, check_from, &mut walk).unwrap_or(start);
        unpopulated.add(from, vmas.end().max(end));
        cond_resched();
    }
    unpopulated
}
