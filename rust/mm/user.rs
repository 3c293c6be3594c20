// SPDX-License-Identifier: GPL-2.0

//! The address space that the current task runs in, as a system call sees it.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use crate::{
    bindings,
    mlock_trace::Cause, //
};
use core::mem;
use kernel::{
    error::{
        code::{
            EINVAL,
            ENOMEM, //
        },
        Error,
        Result, //
    },
    ffi::c_int,
    mm::{
        virt::{
            flags,
            VmaRef, //
        },
        MmWithUser,
        MmapReadGuard, //
    },
    page::{
        PAGE_MASK,
        PAGE_SIZE, //
    },
    task::CurrentTask, //
};

/// Removes the bits of a user address that the hardware ignores, as `untagged_addr()`.
///
/// May be called in task context.
#[inline]
pub fn untagged_addr(addr: usize) -> usize {
    // SAFETY: Any value is fine; the function reads `addr` and the set-up of the current task only.
    unsafe { bindings::untagged_addr(addr) }
}

/// Why a range could not be populated.
#[derive(Clone, Copy)]
pub struct PopulateError {
    /// What `populate_vma_page_range()` returned.
    pub error: Error,
    /// The first address (bytes) that is not populated.
    pub addr: usize,
}

/// Faults in the pages of the first vma of `mm` that intersects `start..end` (bytes, page aligned),
/// as one iteration of the loop in `__mm_populate()`.
///
/// Returns the guard, unless the fault dropped the lock, and the address to continue from, which is
/// `end` if there is no such vma. Sleeps.
///
/// # Safety
///
/// `guard` must hold the mmap lock of `mm`.
unsafe fn populate_first_vma<'a>(
    mm: &MmWithUser,
    guard: MmapReadGuard<'a>,
    start: usize,
    end: usize,
) -> (Option<MmapReadGuard<'a>>, Result<usize, PopulateError>) {
    // SAFETY: The caller promises that the read lock is held.
    let vma = unsafe { bindings::find_vma_intersection(mm.as_raw(), start, end) };
    if vma.is_null() {
        return (Some(guard), Ok(end));
    }
    // SAFETY: The vma was found under the read lock, which is still held.
    let found = unsafe { VmaRef::from_raw(vma) };

    let (start, end) = (start.max(found.start()), end.min(found.end()));
    if found.flags() & (flags::IO | flags::PFNMAP) != 0 {
        return (Some(guard), Ok(end));
    }

    let mut locked = 1;
    // SAFETY: The read lock is held, and the range, which is page aligned as vmas are, is in the
    // vma. The call may drop the lock, which it tells in `locked`; the vma is not used afterwards.
    let pages = unsafe { bindings::populate_vma_page_range(vma, start, end, &mut locked) };
    let guard = if locked != 0 {
        Some(guard)
    } else {
        // The call has dropped the lock.
        mem::forget(guard);
        None
    };
    let next = match usize::try_from(pages) {
        Ok(pages) => Ok(start.wrapping_add(pages.wrapping_mul(PAGE_SIZE))),
        // C returns an errno, which fits.
        Err(_) => Err(PopulateError {
            error: Error::from_errno(pages as c_int),
            addr: start,
        }),
    };
    (guard, next)
}

/// Faults in the pages of `start..start + len` (bytes) in the address space of `current`, as
/// `__mm_populate()`.
///
/// Takes the mmap lock for reading, and sleeps. Deadlocks if the caller holds the mmap lock.
///
/// # Errors
///
/// [`EINVAL`] if the range is not page aligned or `current` has no address space. Otherwise what
/// `populate_vma_page_range()` returned for the first vma that could not be populated.
#[inline]
pub fn populate(current: &CurrentTask, start: usize, len: usize) -> Result {
    mm_populate(current, start, len, 0)
}

/// Faults in as many pages of `start..start + len` (bytes) as possible, as `mm_populate()`.
/// Otherwise as [`populate`]; does nothing where [`populate`] returns [`EINVAL`].
#[inline]
pub fn populate_ignoring_errors(current: &CurrentTask, start: usize, len: usize) {
    let _ = mm_populate(current, start, len, 1);
}

#[inline(always)]
fn mm_populate(current: &CurrentTask, start: usize, len: usize, ignore_errors: c_int) -> Result {
    if (start | len) & !PAGE_MASK != 0 || current.mm().is_none() {
        return Err(EINVAL);
    }
    // SAFETY: `current` has an address space, and the range is page aligned. The function looks up
    // the vmas of the range under the lock.
    match unsafe { bindings::__mm_populate(start, len, ignore_errors) } {
        0 => Ok(()),
        // C returns an errno.
        error => Err(Error::from_errno(error)),
    }
}

/// As [`populate`], but also returns the address of the page that could not be faulted in.
///
/// Call this after [`populate`] has failed: it finds the page by trying again. The pages before the
/// failing one are present by then. Does nothing where [`populate`] returns [`EINVAL`].
///
/// # Errors
///
/// What `populate_vma_page_range()` returned for the first vma that could not be populated, and the
/// address of the page.
#[cold]
pub fn find_populate_error(
    current: &CurrentTask,
    start: usize,
    len: usize,
) -> Result<(), PopulateError> {
    let Some(mm) = current.mm() else {
        return Ok(());
    };
    if (start | len) & !PAGE_MASK != 0 {
        return Ok(());
    }

    let end = start.saturating_add(len) & PAGE_MASK;
    let mut next = start;
    let mut lock = None;
    while next < end {
        let guard = match lock.take() {
            Some(guard) => guard,
            None => mm.mmap_read_lock(),
        };
        // SAFETY: The guard is that of `mm`.
        let (left, populated) = unsafe { populate_first_vma(mm, guard, next, end) };
        lock = left;
        next = populated?;
    }
    Ok(())
}

/// Returns why a page of `current` could not be populated, for an event. This is a guess: the
/// mapping may have changed since.
///
/// Takes the mmap lock for reading, as [`populate`] does.
pub fn unpopulated_cause(current: &CurrentTask, why: PopulateError) -> Cause {
    if why.error == ENOMEM {
        return Cause::NO_MEMORY;
    }
    let Some(mm) = current.mm() else {
        return Cause::UNMAPPED;
    };

    let guard = mm.mmap_read_lock();
    match guard.vma_lookup(why.addr) {
        // SAFETY: The vma was found under the read lock, which is held, and contains the address.
        Some(vma) => Cause::from_raw(unsafe {
            bindings::vma_unpopulated_cause(vma.as_ptr(), why.addr & PAGE_MASK)
        }),
        None => Cause::UNMAPPED,
    }
}
