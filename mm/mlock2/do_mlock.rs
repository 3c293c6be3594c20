// SPDX-License-Identifier: GPL-2.0

//! The five system calls, as the steps that they take one after the other.
//!
//! Everything here runs in task context, without any lock held on entry, and may sleep. The order
//! of the steps is the order of precedence of their errors.

use super::{
    fixup, memlock,
    range::PageRange,
    request::{
        LockAll,
        LockMode, //
    },
};
use kernel::{
    mm::{
        user::{
            populate,
            populate_ignoring_errors,
            untagged_addr, //
        },
        MmWithUser,
    },
    prelude::*,
    task::CurrentTask, //
};

// A system call comes from user space, so there is an address space.
fn mm_of(current: &CurrentTask) -> Result<&MmWithUser> {
    current.mm().ok_or(EINVAL)
}

/// What POSIX wants mlock() to return where populating failed: `ENOMEM` for a part that cannot be
/// accessed, `EAGAIN` for want of memory. `__mlock_posix_error_return()` in C.
fn posix_error(error: Error) -> Error {
    if error == EFAULT {
        ENOMEM
    } else if error == ENOMEM {
        EAGAIN
    } else {
        error
    }
}

/// mlock(2), and mlock2(2) with its flags parsed.
///
/// # Errors
///
/// `EPERM` if nothing may be locked, `EINTR` on a fatal signal, `ENOMEM` over the limit, what
/// [`fixup::apply_vma_lock_flags`] returns, and `ENOMEM` or `EAGAIN` if pages could not be faulted
/// in, in which case the range is locked all the same.
#[inline(never)]
pub(crate) fn do_mlock(addr: usize, len: usize, mode: LockMode) -> Result {
    if memlock::can_do_mlock() {
        lock_range(addr, len, mode)
    } else {
        Err(EPERM)
    }
}

// Apart, so that a call that is refused above does not save the registers that this needs.
#[inline(never)]
fn lock_range(addr: usize, len: usize, mode: LockMode) -> Result {
    let current = current!();
    let range = PageRange::new(untagged_addr(addr), len);
    let limit = memlock::current_limit();

    let mut mm = mm_of(current)?.mmap_write_lock_killable()?;
    memlock::check_range(&mm, &range, limit)?;
    let unpopulated = fixup::apply_vma_lock_flags(&mut mm, &range, mode)?;
    drop(mm);

    match unpopulated {
        Some(range) => populate(current, range.start(), range.len()).map_err(posix_error),
        // C populates the whole range in any case, and finds nothing to do.
        None => Ok(()),
    }
}

/// mlock2(2).
///
/// # Errors
///
/// `EINVAL` for an unknown flag, then those of [`do_mlock`].
pub(crate) fn mlock2(addr: usize, len: usize, flags: i32) -> Result {
    let mode = LockMode::from_mlock2_flags(flags).ok_or(EINVAL)?;

    do_mlock(addr, len, mode)
}

/// munlock(2).
///
/// # Errors
///
/// `EINTR` on a fatal signal, and what [`fixup::apply_vma_lock_flags`] returns.
#[inline]
pub(crate) fn munlock(addr: usize, len: usize) -> Result {
    let range = PageRange::new(untagged_addr(addr), len);
    let current = current!();

    let mut mm = mm_of(current)?.mmap_write_lock_killable()?;
    fixup::apply_vma_lock_flags(&mut mm, &range, LockMode::Unlocked).map(|_| ())
}

/// mlockall(2).
///
/// # Errors
///
/// `EINVAL` for flags that make no sense, `EPERM` if nothing may be locked, `EINTR` on a fatal
/// signal, `ENOMEM` over the limit.
pub(crate) fn mlockall(flags: i32) -> Result {
    let request = LockAll::from_mlockall_flags(flags).ok_or(EINVAL)?;
    if !memlock::can_do_mlock() {
        return Err(EPERM);
    }

    let current = current!();
    let limit = memlock::current_limit();

    let mut mm = mm_of(current)?.mmap_write_lock_killable()?;
    if request.current.is_some() {
        memlock::check_all(&mm, limit)?;
    }
    let unpopulated = fixup::apply_mlockall_flags(&mut mm, request);
    drop(mm);

    if let Some(range) = unpopulated {
        // The vmas are locked, whether or not all of their pages can be had now.
        populate_ignoring_errors(current, range.start(), range.len());
    }
    Ok(())
}

/// munlockall(2).
///
/// # Errors
///
/// `EINTR` on a fatal signal.
pub(crate) fn munlockall() -> Result {
    let current = current!();
    let mut mm = mm_of(current)?.mmap_write_lock_killable()?;

    fixup::apply_mlockall_flags(&mut mm, LockAll::UNLOCK);
    Ok(())
}
