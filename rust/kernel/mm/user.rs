// SPDX-License-Identifier: GPL-2.0

//! The address space that the current task runs in, as a system call sees it.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use crate::{
    bindings,
    error::{
        code::EINVAL,
        to_result,
        Result, //
    },
    ffi::c_int,
    page::PAGE_MASK,
    task::CurrentTask, //
};

/// Removes the bits of a user address that the hardware ignores, as `untagged_addr()`.
///
/// May be called in task context.
#[inline]
pub fn untagged_addr(addr: usize) -> usize {
    // SAFETY: Any value is fine; only bits of `addr` and of the current task's set-up are read.
    unsafe { bindings::untagged_addr(addr) }
}

/// Faults in the pages of `start..start + len` (bytes) in the address space of `current`, as
/// `__mm_populate()`.
///
/// Takes the mmap lock for reading, and sleeps. The caller must not hold the mmap lock, or it
/// deadlocks.
///
/// # Errors
///
/// [`EINVAL`] if the range is not page aligned or `current` has no address space. Otherwise what
/// `populate_vma_page_range()` returned for the first vma that could not be populated.
#[inline]
pub fn populate(current: &CurrentTask, start: usize, len: usize) -> Result {
    mm_populate(current, start, len, 0)
}

/// Faults in the pages of `start..start + len` (bytes) as far as that is possible, as
/// `mm_populate()`. Otherwise as [`populate`]; does nothing where that returns [`EINVAL`].
#[inline]
pub fn populate_ignoring_errors(current: &CurrentTask, start: usize, len: usize) {
    let _ = mm_populate(current, start, len, 1);
}

#[inline(always)]
fn mm_populate(current: &CurrentTask, start: usize, len: usize, ignore_errors: c_int) -> Result {
    if (start | len) & !PAGE_MASK != 0 || current.mm().is_none() {
        return Err(EINVAL);
    }
    // SAFETY: `current` has an address space, and the range is page aligned. Whether anything is
    // mapped there is looked up under the lock.
    to_result(unsafe { bindings::__mm_populate(start, len, ignore_errors) })
}
