// SPDX-License-Identifier: GPL-2.0

//! Changes the lock flags of vmas, and with them the count of locked pages.
//!
//! Everything here runs in task context with the mmap lock held for writing, and may sleep. The
//! guard in each signature represents that lock. Lock order: see `rust/kernel/mm/mmap_write.rs`.

use super::{
    memlock::{
        range_refused,
        trace_range_refused, //
    },
    range::{
        PageCount,
        PageRange,
        PopulateRange, //
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
        is_lockable,
        MmapWrite,
        VmaMut, //
    },
};

/// Returns the vma flags of a mode.
fn lock_flags(mode: LockMode) -> VmaFlags {
    match mode {
        LockMode::Unlocked => VmaFlags::NONE,
        LockMode::Locked => VmaFlags::LOCKED,
        LockMode::OnFault => VmaFlags::LOCKED_ONFAULT,
    }
}

/// Returns the mode that vma flags mean, for an event.
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

/// What [`mlock_fixup`] is to do with each vma in turn, and its result for the last one.
struct FixupState {
    lock: VmaFlags,
    /// Check for present pages only in vmas that start at this address (bytes) or above.
    check_from: usize,
    /// The address (bytes) from which to populate the last vma; everything below is present.
    /// `usize::MAX` if the vma was locked on fault, or unlocked.
    populate_from: usize,
    walk: PageWalk,
}

impl FixupState {
    // Checks all vmas by default: populating that starts at the start of the range reaches every
    // vma.
    #[inline(always)]
    fn new(mode: LockMode) -> Self {
        Self {
            lock: lock_flags(mode),
            check_from: 0,
            populate_from: 0,
            walk: PageWalk::new(),
        }
    }
}

/// Locks or unlocks the part of a vma in the range. Counterpart of the C function of the same name.
///
/// Skips vmas that cannot be locked: they never get `VMA_LOCKED_BIT`, and are not charged. Also
/// skips vmas that have the flags already, and secret memory, which is always locked.
///
/// # Errors
///
/// `ENOMEM` if the vma could not be split or merged. Its flags and the count are as before.
#[inline(always)]
fn mlock_fixup(vma: VmaMut<'_>, state: &mut FixupState) -> Result {
    let old = vma.vma_flags();

    if old == old.with_lock(state.lock) {
        state.populate_from = populate_from(vma.part_start(), state.lock);
        return Ok(());
    }
    change_lock_flags(vma, state)
}

// Returns the address from which to populate a vma with the flags `lock`, if populating would start
// at `start`.
#[inline(always)]
fn populate_from(start: usize, lock: VmaFlags) -> usize {
    if lock == VmaFlags::LOCKED {
        start
    } else {
        usize::MAX
    }
}

/// Returns how many pages to charge when `start..end` (bytes) of a vma is locked, or, as a negative
/// number, unlocked.
#[inline(always)]
fn charge(start: usize, end: usize, is_locked: bool) -> isize {
    // A vma is part of the address space, so its pages fit in an isize.
    let pages = PageCount::of_bytes(end.wrapping_sub(start)).get() as isize;

    if is_locked {
        pages
    } else {
        pages.wrapping_neg()
    }
}

// Emits the event that a vma changes. Called before the change, while the old state is known.
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

// Not inlined, so that a vma that stays as it is costs no call.
#[inline(never)]
fn change_lock_flags(vma: VmaMut<'_>, state: &mut FixupState) -> Result {
    let (start, end) = (vma.part_start(), vma.part_end());
    let lock = state.lock;

    let Some(vma) = vma.lockable() else {
        // Populate the vma all the same, even if the request is to lock on fault.
        state.populate_from = start;
        return Ok(());
    };
    let mut vma = vma.modify_flags(lock)?;
    let old = vma.old_flags();
    if mlock_trace::is_vma_traced() {
        trace_vma(start, end, old, lock);
    }

    let was_locked = old.contains(VmaFlags::LOCKED);
    let is_locked = lock.contains(VmaFlags::LOCKED);

    if was_locked != is_locked {
        vma.add_locked_vm(charge(start, end, is_locked));
    }
    // If only the mode changes, the present folios are mlocked already. Mlocking them twice would
    // keep them unevictable after the vma is unlocked.
    let from = match vma.set_lock_flags() {
        Ok(mut context) => {
            // There is nothing to move. But without a drain, a folio pending in a batch, say to be
            // freed lazily, would take effect later than in C, which smaps shows.
            if was_locked != is_locked {
                state.walk.lru_add_drain_once(&mut context);
            }
            start
        }
        Err(vma) => {
            let check = vma.start() >= state.check_from;
            // Reclaim that has read the old flags may still unmap a page: populating faults it in
            // again.
            vma.publish_lock_flags(|vma| state.walk.mlock_vma_pages_range(vma, check))
        }
    };
    state.populate_from = populate_from(from, lock);
    Ok(())
}

// Returns why `start..end` (bytes) of a vma could not become a vma of its own, and at which end. If
// the vma starts at `start` by now, the split there has succeeded, or was not needed.
#[inline(always)]
fn not_split(mm: &MmapWriteGuard<'_>, start: usize, end: usize) -> Refusal {
    let at = match mm.vmas_in(start, end).next() {
        Some(vma) if vma.start() == start && vma.end() > end => end,
        _ => start,
    };

    if mm.is_at_max_map_count() {
        Refusal::TooManyVmas { at }
    } else {
        Refusal::NoMemoryForVma { at }
    }
}

// Reports a hole in the range at `at`, where nothing is mapped.
#[inline(always)]
fn refused_for_hole(start: usize, end: usize, mode: LockMode, at: usize) -> Error {
    range_refused(start, end, mode, ENOMEM, at, |at| Refusal::Hole { at })
}

/// Locks or unlocks a range that may span vmas. Counterpart of the C function of the same name.
///
/// Returns the part of the range to populate.
///
/// # Errors
///
/// `EINVAL` if the range reaches past the end of the address space. `ENOMEM` if a part of it is not
/// mapped, or a vma could not be split; the part before that is locked or unlocked all the same.
#[inline(always)]
pub(crate) fn apply_vma_lock_flags(
    mm: &mut MmapWriteGuard<'_>,
    range: &PageRange,
    mode: LockMode,
) -> Result<PopulateRange> {
    let Some(end) = range.end() else {
        if mlock_trace::is_refused_traced() {
            trace_range_refused(*range, mode, EINVAL, Refusal::RangeWraps);
        }
        return Err(EINVAL);
    };
    if end == range.start() {
        return Ok(PopulateRange::NOTHING);
    }

    let mut vmas = mm.vmas_mut(range.start(), end);
    let Some(mut vma) = vmas.first() else {
        let at = range.start();
        return Err(range_refused(at, end, mode, ENOMEM, at, |at| {
            Refusal::NotMapped { at }
        }));
    };
    let mut from = end;
    let mut state = FixupState::new(mode);

    loop {
        let (start, part_end) = (vma.part_start(), vma.part_end());
        if part_end < end {
            // Check only if there is a single vma: a later one may fail the call, which then
            // populates nothing.
            state.check_from = usize::MAX;
        }
        if let Err(error) = mlock_fixup(vma, &mut state) {
            if mlock_trace::is_refused_traced() {
                trace_range_refused(*range, mode, error, not_split(mm, start, part_end));
            }
            return Err(error);
        }
        from = from.min(state.populate_from);
        // Not `part_end`: the vma may have been merged with a following one, which had the new
        // flags before, so that it needs no change.
        let next = vmas.end();
        if next >= end {
            return Ok(PopulateRange::new(from, end));
        }
        vma = match vmas.next() {
            Some(vma) if vma.part_start() == next => vma,
            _ => return Err(refused_for_hole(range.start(), end, mode, next)),
        };
    }
}

/// Counts the pages of a range that are in locked vmas, whether they are present or not.
/// Counterpart of the C function of the same name. Wraps where the C does: at the first locked vma,
/// for a range that ends at 0.
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

/// Counts the vmas that [`apply_mlockall_flags`] will change, for an event.
pub(crate) fn count_vmas_to_change(mm: &MmapWriteGuard<'_>, request: LockAll) -> usize {
    let Some(mode) = request.current() else {
        return 0;
    };
    let lock = lock_flags(mode);

    mm.vmas_in(0, usize::MAX)
        .filter(|vma| is_lockable(vma) && vma.vma_flags() != vma.vma_flags().with_lock(lock))
        .count()
}

/// Locks or unlocks every vma, and sets the flags that later vmas start with. Counterpart of the C
/// function of the same name.
///
/// Skips vmas that cannot be changed: mlockall(2) does not fail for them. Returns the range to
/// populate.
#[inline(always)]
pub(crate) fn apply_mlockall_flags(mm: &mut MmapWriteGuard<'_>, request: LockAll) -> PopulateRange {
    mm.set_def_lock_flags(lock_flags(request.future()));

    match request.current() {
        Some(mode) => apply_to_vmas(mm, mode),
        None => PopulateRange::NOTHING,
    }
}

// Not inlined, so that a call with only `MCL_FUTURE` does not save the registers that this needs.
#[inline(never)]
fn apply_to_vmas(mm: &mut MmapWriteGuard<'_>, mode: LockMode) -> PopulateRange {
    let mut unpopulated = PopulateRange::NOTHING;
    let mut state = FixupState::new(mode);
    let mut vmas = mm.vmas_mut(0, usize::MAX);
    while let Some(vma) = vmas.next() {
        let (start, end) = (vma.part_start(), vma.part_end());
        // After an error, populating skips to the next vma. So it reaches the start of every vma,
        // but may not reach a part that was merged into a vma with earlier pages to populate.
        state.check_from = unpopulated.end();
        let from = match mlock_fixup(vma, &mut state) {
            Ok(()) => state.populate_from,
            Err(_) => start,
        };
        unpopulated.add(from, vmas.end().max(end));
        cond_resched();
    }
    unpopulated
}
