// SPDX-License-Identifier: GPL-2.0

//! The five system calls, each as a sequence of steps.
//!
//! Everything here runs in task context, without locks held on entry, and may sleep. The order of
//! the steps determines which error takes precedence.

use super::{
    fixup,
    limit::Limit,
    memlock,
    range::{
        PageRange,
        PopulateRange, //
    },
    request::{
        LockAll,
        LockMode, //
    },
};
use kernel::{
    mm::{
        mmap_lock::MmapWriteGuard,
        MmWithUser, //
    },
    prelude::*,
    task::CurrentTask, //
};
use mm::{
    mlock_trace::{
        self,
        Caller,
        Cause,
        Refusal,
        Request, //
    },
    user::{
        find_populate_error,
        populate,
        populate_ignoring_errors,
        unpopulated_cause,
        untagged_addr, //
    },
};

// Never fails: a system call comes from a user task, which has an address space.
fn mm_of(current: &CurrentTask) -> Result<&MmWithUser> {
    current.mm().ok_or(EINVAL)
}

/// Takes the mmap lock for a request that concerns a range.
///
/// # Errors
///
/// `EINTR` if a fatal signal arrived first.
#[inline(always)]
fn lock_mm_for(
    current: &CurrentTask,
    addr: usize,
    len: usize,
    mode: LockMode,
) -> Result<MmapWriteGuard<'_>> {
    match mm_of(current)?.mmap_write_lock_killable() {
        Ok(guard) => Ok(guard),
        Err(error) => {
            if mlock_trace::is_refused_traced() {
                trace_range(addr, len, mode, error, Refusal::Killed);
            }
            Err(error)
        }
    }
}

// Emits the event that a request is refused, given only its arguments.
#[cold]
#[inline(never)]
fn trace_range(addr: usize, len: usize, mode: LockMode, error: Error, why: Refusal) {
    let range = PageRange::new(untagged_addr(addr), len);

    memlock::trace_range_refused(range, mode, error, why);
}

/// Takes the mmap lock for a request that concerns all of the address space.
#[inline(always)]
fn lock_mm_for_all(current: &CurrentTask, caller: Caller) -> Result<MmapWriteGuard<'_>> {
    match mm_of(current)?.mmap_write_lock_killable() {
        Ok(guard) => Ok(guard),
        Err(error) => Err(mlock_trace::refused(of_all(caller), error, Refusal::Killed)),
    }
}

// Describes mlockall(2) and munlockall(2) in an event.
#[inline(always)]
fn of_all(caller: Caller) -> Request<'static> {
    Request {
        caller,
        start: 0,
        len: 0,
        mm: None,
    }
}

/// Translates an error of populating to what POSIX requires of mlock(): `ENOMEM` for a part that
/// cannot be accessed, `EAGAIN` for lack of memory. Counterpart of `__mlock_posix_error_return()`.
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
/// `EPERM` if nothing may be locked, `EINTR` on a fatal signal, `ENOMEM` over the limit, those of
/// [`fixup::apply_vma_lock_flags`], and `ENOMEM` or `EAGAIN` if pages could not be faulted in; in
/// that case, the range is locked all the same.
#[inline(never)]
pub(crate) fn do_mlock(addr: usize, len: usize, mode: LockMode) -> Result {
    let limit = memlock::current_limit();

    if limit.is_zero() {
        do_mlock_by_capability(addr, len, mode, limit)
    } else {
        lock_range(addr, len, mode, limit)
    }
}

// For a limit of 0. Not inlined, so that a call with a limit does not save the registers that this
// needs.
#[inline(never)]
fn do_mlock_by_capability(addr: usize, len: usize, mode: LockMode, limit: Limit) -> Result {
    if memlock::can_do_mlock(limit) {
        lock_range(addr, len, mode, limit)
    } else if mlock_trace::is_refused_traced() {
        trace_limit_zero(addr, len, mode)
    } else {
        Err(EPERM)
    }
}

// Returns the result of its caller, so that the caller saves no registers for it.
#[cold]
#[inline(never)]
fn trace_limit_zero(addr: usize, len: usize, mode: LockMode) -> Result {
    trace_range(addr, len, mode, EPERM, Refusal::LimitZero);
    Err(EPERM)
}

// Not inlined, so that a call refused above does not save the registers that this needs.
#[inline(never)]
fn lock_range(addr: usize, len: usize, mode: LockMode, limit: Limit) -> Result {
    let current = current!();
    let range = PageRange::new(untagged_addr(addr), len);

    let mut mm = lock_mm_for(current, addr, len, mode)?;
    memlock::check_range(&mm, &range, mode, limit)?;
    let unpopulated = fixup::apply_vma_lock_flags(&mut mm, &range, mode)?;
    drop(mm);

    if unpopulated.is_empty() {
        // The C populates the whole range in any case, and finds nothing to do.
        return Ok(());
    }
    match populate(current, unpopulated.start(), unpopulated.len()) {
        Ok(()) => Ok(()),
        Err(error) => Err(populate_failed(&range, unpopulated, mode, error)),
    }
}

// Handles an error of populating `part` of the range.
#[inline(always)]
fn populate_failed(range: &PageRange, part: PopulateRange, mode: LockMode, error: Error) -> Error {
    let posix = posix_error(error);

    if mlock_trace::is_refused_traced() {
        let refusal = if error == EINTR {
            Refusal::Killed
        } else {
            why_unpopulated(part.start(), part.len(), error)
        };
        memlock::trace_range_refused(*range, mode, posix, refusal);
    }
    posix
}

// Finds where and why populating `start..start + len` (bytes) failed with `error`.
#[cold]
#[inline(never)]
fn why_unpopulated(start: usize, len: usize, error: Error) -> Refusal {
    let current = current!();

    match find_populate_error(current, start, len) {
        Err(why) if why.error == EINTR => Refusal::Killed,
        Err(why) => Refusal::PopulateFailed {
            at: why.addr,
            cause: unpopulated_cause(current, why),
        },
        // Populating succeeds by now, so the address is lost.
        Ok(()) => Refusal::PopulateFailed {
            at: 0,
            cause: if error == ENOMEM {
                Cause::NO_MEMORY
            } else {
                Cause::UNMAPPED
            },
        },
    }
}

/// mlock2(2).
///
/// # Errors
///
/// `EINVAL` for an unknown flag, and those of [`do_mlock`].
pub(crate) fn mlock2(addr: usize, len: usize, flags: i32) -> Result {
    match LockMode::from_mlock2_flags(flags) {
        Some(mode) => do_mlock(addr, len, mode),
        None => bad_flags(addr, len, Caller::MLOCK2),
    }
}

#[inline(always)]
fn bad_flags(start: usize, len: usize, caller: Caller) -> Result {
    if mlock_trace::is_refused_traced() {
        trace_bad_flags(start, len, caller)
    } else {
        Err(EINVAL)
    }
}

// As `trace_limit_zero()`.
#[cold]
#[inline(never)]
fn trace_bad_flags(start: usize, len: usize, caller: Caller) -> Result {
    let request = Request {
        caller,
        start,
        len,
        mm: None,
    };

    Err(mlock_trace::refused(request, EINVAL, Refusal::BadFlags))
}

/// munlock(2).
///
/// # Errors
///
/// `EINTR` on a fatal signal, and those of [`fixup::apply_vma_lock_flags`].
#[inline]
pub(crate) fn munlock(addr: usize, len: usize) -> Result {
    let range = PageRange::new(untagged_addr(addr), len);
    let current = current!();

    let mut mm = lock_mm_for(current, addr, len, LockMode::Unlocked)?;
    fixup::apply_vma_lock_flags(&mut mm, &range, LockMode::Unlocked).map(|_| ())
}

/// mlockall(2).
///
/// # Errors
///
/// `EINVAL` for unknown flags and combinations without a meaning, `EPERM` if nothing may be locked,
/// `EINTR` on a fatal signal, `ENOMEM` over the limit.
pub(crate) fn mlockall(flags: i32) -> Result {
    let Some(request) = LockAll::from_mlockall_flags(flags) else {
        return bad_flags(0, 0, Caller::MLOCKALL);
    };
    let limit = memlock::current_limit();

    if limit.is_zero() {
        mlockall_by_capability(request, limit)
    } else {
        lock_all(request, limit)
    }
}

// Not inlined, as `do_mlock_by_capability()`.
#[inline(never)]
fn mlockall_by_capability(request: LockAll, limit: Limit) -> Result {
    if memlock::can_do_mlock(limit) {
        lock_all(request, limit)
    } else {
        let request = of_all(Caller::MLOCKALL);
        Err(mlock_trace::refused(request, EPERM, Refusal::LimitZero))
    }
}

// Not inlined, as `lock_range()`.
#[inline(never)]
fn lock_all(request: LockAll, limit: Limit) -> Result {
    let current = current!();

    let mut mm = lock_mm_for_all(current, Caller::MLOCKALL)?;
    if request.current().is_some() {
        memlock::check_all(&mm, limit)?;
    }
    let unpopulated = apply_to_all(&mut mm, request);
    drop(mm);

    if !unpopulated.is_empty() {
        // The vmas are locked, whether or not all of their pages can be faulted in now.
        populate_ignoring_errors(current, unpopulated.start(), unpopulated.len());
    }
    Ok(())
}

/// munlockall(2).
///
/// # Errors
///
/// `EINTR` on a fatal signal.
#[inline(always)]
pub(crate) fn munlockall() -> Result {
    let current = current!();
    let mut mm = lock_mm_for_all(current, Caller::MUNLOCKALL)?;

    apply_to_all(&mut mm, LockAll::UNLOCK);
    Ok(())
}

// Applies `request`, with the event of mlockall(2) and munlockall(2).
#[inline(always)]
fn apply_to_all(mm: &mut MmapWriteGuard<'_>, request: LockAll) -> PopulateRange {
    if mlock_trace::is_all_traced() {
        apply_to_all_traced(mm, request)
    } else {
        fixup::apply_mlockall_flags(mm, request)
    }
}

// Not inlined, since it keeps the previous count in a register.
#[cold]
#[inline(never)]
fn apply_to_all_traced(mm: &mut MmapWriteGuard<'_>, request: LockAll) -> PopulateRange {
    let before = mm.locked_vm();
    let vmas = fixup::count_vmas_to_change(mm, request);
    let unpopulated = fixup::apply_mlockall_flags(mm, request);
    // The total of a process fits in an isize.
    let charged = mm.locked_vm().wrapping_sub(before) as isize;

    mlock_trace::all_changed(request.flags(), vmas, charged);
    unpopulated
}
