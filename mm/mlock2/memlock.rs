// SPDX-License-Identifier: GPL-2.0

//! mm's decisions on `RLIMIT_MEMLOCK`. `<linux/mlock2.h>` answers the most frequent calls of mmap,
//! brk and mremap itself: those with a limit above 0, an unlocked vma, or `CAP_IPC_LOCK`.
//!
//! Two counts are checked against the limit: the pages that a process has locked (`mm->locked_vm`,
//! under the mmap lock), and the shared memory that a user has locked, which outlives the process
//! (`struct ucounts`, under a lock of its own).

use super::{
    fixup,
    limit::{
        account,
        Limit, //
    },
    range::{
        PageCount,
        PageRange,
        PAGE_SIZE, //
    },
    request::LockMode, //
};
use kernel::{
    capability::{
        capable,
        Capability, //
    },
    do_once_lite,
    mm::{
        mmap_lock::MmapWriteGuard,
        Mm, //
    },
    prelude::*,
    rlimit::{
        rlimit,
        task_rlimit,
        Resource,
        Ucounts,
        UcountsRef, //
    },
    sync::SpinLock,
    task::Task,
    warn_on, //
};
use mm::mlock_trace::{
    self,
    Caller,
    Refusal,
    Request, //
};

/// Returns the limit of the current task. The limit may change at any time, so read it once per
/// decision. May be called in task context.
#[inline]
pub(crate) fn current_limit() -> Limit {
    Limit::new(rlimit(Resource::MEMLOCK))
}

// Describes mlock(2), mlock2(2) or munlock(2) in the event of a refusal. mlock2(2) without flags
// shows as mlock(2).
fn request(start: usize, len: usize, mode: LockMode) -> Request<'static> {
    Request {
        caller: match mode {
            LockMode::Unlocked => Caller::MUNLOCK,
            LockMode::Locked => Caller::MLOCK,
            LockMode::OnFault => Caller::MLOCK2,
        },
        start,
        len,
        mm: None,
    }
}

// Describes a request of `caller`, whose address is not known.
fn request_by(caller: Caller, len: usize) -> Request<'static> {
    Request {
        caller,
        start: 0,
        len,
        mm: None,
    }
}

/// Emits the event that a request to lock or unlock `start..end` (bytes) is refused with `error`.
/// `why` makes the reason from the address `at` where the request failed. Returns the error.
// Inlined, and takes values that are in registers already, so that nothing is set up while the
// event is disabled.
#[inline(always)]
pub(crate) fn range_refused(
    start: usize,
    end: usize,
    mode: LockMode,
    error: Error,
    at: usize,
    why: fn(usize) -> Refusal,
) -> Error {
    if mlock_trace::is_refused_traced() {
        trace_range(start, end, mode, error, at, why);
    }
    error
}

#[cold]
#[inline(never)]
fn trace_range(
    start: usize,
    end: usize,
    mode: LockMode,
    error: Error,
    at: usize,
    why: fn(usize) -> Refusal,
) {
    let len = end.wrapping_sub(start);

    mlock_trace::refused(request(start, len, mode), error, why(at));
}

/// Emits the event that a request to lock or unlock `range` is refused. Call it only while the
/// event is enabled.
#[cold]
#[inline(never)]
pub(crate) fn trace_range_refused(range: PageRange, mode: LockMode, error: Error, why: Refusal) {
    mlock_trace::refused(request(range.start(), range.len(), mode), error, why);
}

// Emits the event of a process that has `locked` pages locked, and would have `total`.
#[inline(always)]
fn over_limit(request: Request<'_>, error: Error, locked: usize, total: usize, limit: Limit) {
    let why = Refusal::OverLimit {
        locked,
        total,
        limit: limit.bytes(),
    };

    mlock_trace::refused(request, error, why);
}

/// Returns whether the current task, whose limit is `limit`, may lock memory at all. Counterpart of
/// the C function of the same name.
///
/// May be called in task context.
#[inline]
pub(crate) fn can_do_mlock(limit: Limit) -> bool {
    !limit.is_zero() || capable(Capability::IPC_LOCK)
}

/// As [`can_do_mlock`] if the limit is 0, for callers outside these modules, with the event: they
/// fail with `EPERM` if this returns `false`.
///
/// `bytes` is how much the caller wants to lock, or 0 if not known. May be called in task context.
// Not inlined, so that `can_do_mlock()` saves no registers for the usual answer.
#[inline(never)]
pub(crate) fn may_exceed_zero(caller: Caller, bytes: usize) -> bool {
    if capable(Capability::IPC_LOCK) {
        return true;
    }
    if mlock_trace::is_refused_traced() {
        return trace_limit_zero(caller, bytes);
    }
    false
}

// Returns the result of its caller, so that the caller saves no registers for it.
#[cold]
#[inline(never)]
fn trace_limit_zero(caller: Caller, bytes: usize) -> bool {
    mlock_trace::refused(request_by(caller, bytes), EPERM, Refusal::LimitZero);
    false
}

/// Checks whether the current task may lock `range`, in addition to what it has locked.
///
/// # Errors
///
/// `ENOMEM` if that is over the limit, and `CAP_IPC_LOCK` is missing. From `do_mlock()`.
pub(crate) fn check_range(
    mm: &MmapWriteGuard<'_>,
    range: &PageRange,
    mode: LockMode,
    limit: Limit,
) -> Result {
    let locked = range.pages().wrapping_add(PageCount::new(mm.locked_vm()));

    if limit.allows(locked) || capable(Capability::IPC_LOCK) {
        return Ok(());
    }
    // `locked_vm` includes the part of the range that is locked already, which must not count
    // twice. The C checks the capability again after this, which cannot change the result.
    let total = locked.wrapping_sub(fixup::count_mm_mlocked_page_nr(mm, range));
    if limit.allows(total) {
        Ok(())
    } else {
        if mlock_trace::is_refused_traced() {
            let why = Refusal::OverLimit {
                locked: mm.locked_vm(),
                total: total.get(),
                limit: limit.bytes(),
            };
            trace_range_refused(*range, mode, ENOMEM, why);
        }
        Err(ENOMEM)
    }
}

/// Checks whether the current task may lock all that it has mapped.
///
/// # Errors
///
/// `ENOMEM` if that is over the limit, and `CAP_IPC_LOCK` is missing. From `mlockall()`.
pub(crate) fn check_all(mm: &MmapWriteGuard<'_>, limit: Limit) -> Result {
    if limit.allows(PageCount::new(mm.total_vm())) || capable(Capability::IPC_LOCK) {
        Ok(())
    } else {
        if mlock_trace::is_refused_traced() {
            let request = request_by(Caller::MLOCKALL, mm.total_vm().wrapping_mul(PAGE_SIZE));
            over_limit(request, ENOMEM, mm.locked_vm(), mm.total_vm(), limit);
        }
        Err(ENOMEM)
    }
}

/// Returns whether a locked stack of `mm` may grow by `bytes`. Counterpart of `mlock_future_ok()`,
/// for a vma that is locked. Stack growth fails with `ENOMEM` if this returns `false`.
///
/// May be called in task context.
#[inline(always)]
pub(crate) fn locked_stack_ok(mm: &Mm, bytes: usize) -> bool {
    capable(Capability::IPC_LOCK) || within_limit(mm, bytes, Caller::STACK)
}

/// Returns whether a locked vma of `mm` may start with, or grow by, `bytes`, without regard to
/// `CAP_IPC_LOCK`: callers ask for that first, as `mlock2_future_ok()` of `<linux/mlock2.h>` does.
/// `caller` is one of mmap, brk, mremap and stack growth, which fail with `EAGAIN` or `ENOMEM` if
/// this returns `false`.
///
/// May be called in task context.
#[inline(always)]
pub(crate) fn within_limit(mm: &Mm, bytes: usize, caller: Caller) -> bool {
    let limit = current_limit();
    let total = PageCount::of_bytes(bytes).wrapping_add(PageCount::new(mm.locked_vm()));

    if limit.allows(total) {
        return true;
    }
    if mlock_trace::is_refused_traced() {
        return trace_over_limit(mm, bytes, caller, total, limit);
    }
    false
}

// As `trace_limit_zero()`.
#[cold]
#[inline(never)]
fn trace_over_limit(mm: &Mm, bytes: usize, caller: Caller, total: PageCount, limit: Limit) -> bool {
    // brk(2) returns the old break, which the C library turns into ENOMEM.
    let error = if caller == Caller::STACK || caller == Caller::BRK {
        ENOMEM
    } else {
        EAGAIN
    };
    let request = Request {
        mm: Some(mm),
        ..request_by(caller, bytes)
    };

    over_limit(request, error, mm.locked_vm(), total.get(), limit);
    false
}

/// Adds `pages` to the locked pages of `mm`, or subtracts them unless `inc`, and returns the new
/// count. The limit is that of `task`, and is ignored if `bypass_rlim`. For memory that drivers
/// pin; counterpart of `__account_locked_vm()`.
///
/// Called with the mmap write lock held, which protects the count.
///
/// # Errors
///
/// `ENOMEM` if the limit would be exceeded.
pub(crate) fn account_locked_vm(
    mm: &Mm,
    pages: PageCount,
    inc: bool,
    task: &Task,
    bypass_rlim: bool,
) -> Result<PageCount> {
    let locked = PageCount::new(mm.locked_vm());
    let limit = (inc && !bypass_rlim).then(|| Limit::new(task_rlimit(task, Resource::MEMLOCK)));

    if !inc && pages > locked {
        do_once_lite! {
            warn_on!(true);
        }
    }
    account(locked, pages, inc, limit).ok_or_else(|| {
        if mlock_trace::is_refused_traced() {
            let request = Request {
                mm: Some(mm),
                ..request_by(Caller::ACCOUNT, pages.get().wrapping_mul(PAGE_SIZE))
            };
            let total = locked.wrapping_add(pages).get();
            // A refusal implies a limit; the default is never used.
            let limit = limit.unwrap_or(Limit::new(usize::MAX));
            over_limit(request, ENOMEM, locked.get(), total, limit);
        }
        ENOMEM
    })
}

/// Charges `size` bytes of shared memory to a user, and takes a reference to the count. Counterpart
/// of `user_shm_lock()`, for `SHM_LOCK` and `SHM_HUGETLB`.
///
/// Returns `None`, and charges nothing, if the user may not lock that much. May be called in task
/// context with spinlocks held; does not sleep. Takes `lock`, inside which only the locks of
/// `capable()` nest.
#[inline(always)]
fn count_user_shm(
    lock: &SpinLock<()>,
    size: usize,
    ucounts: &Ucounts,
    limit: Limit,
) -> Option<UcountsRef> {
    let pages = PageCount::covering_bytes(size).get() as isize;

    let _guard = lock.lock();
    let total = ucounts.inc_memlock(pages);

    let counted = if limit.allows_user(total) || capable(Capability::IPC_LOCK) {
        ucounts.try_get()
    } else {
        None
    };
    if counted.is_none() {
        ucounts.dec_memlock(pages);
    }
    counted
}

/// As [`count_user_shm`], for `SHM_LOCK`, which fails with `ENOMEM` on `None`.
pub(crate) fn user_shm_lock(
    lock: &SpinLock<()>,
    size: usize,
    ucounts: &Ucounts,
) -> Option<UcountsRef> {
    let limit = current_limit();
    let counted = count_user_shm(lock, size, ucounts, limit);

    if counted.is_none() && mlock_trace::is_refused_traced() {
        let locked = PageCount::new(usize::try_from(ucounts.memlock()).unwrap_or(0));
        let why = Refusal::OverUserLimit {
            locked: locked.get(),
            total: PageCount::covering_bytes(size).wrapping_add(locked).get(),
            limit: limit.bytes(),
        };
        mlock_trace::refused(request_by(Caller::SHM_LOCK, size), ENOMEM, why);
    }
    counted
}

/// As [`count_user_shm`], for a `SHM_HUGETLB` that its caller refuses with `EPERM` in any case,
/// since only `CAP_IPC_LOCK` or a certain group permits it. The caller warns once about a program
/// that relied on the limit.
pub(crate) fn user_shm_hugetlb(
    lock: &SpinLock<()>,
    size: usize,
    ucounts: &Ucounts,
) -> Option<UcountsRef> {
    let request = request_by(Caller::SHM_HUGETLB, size);

    mlock_trace::refused(request, EPERM, Refusal::NotPermitted);
    count_user_shm(lock, size, ucounts, current_limit())
}

/// Emits the event that C has refused `SHM_LOCK` with `EPERM`: because the limit is 0, or because
/// the caller is not the owner.
pub(crate) fn shm_lock_refused(size: usize, is_owner: bool) {
    let why = if is_owner {
        Refusal::LimitZero
    } else {
        Refusal::NotPermitted
    };

    mlock_trace::refused(request_by(Caller::SHM_LOCK, size), EPERM, why);
}

/// Uncharges `size` bytes of shared memory from a user, and puts the reference. Counterpart of the
/// C function of the same name.
///
/// May be called in task context with spinlocks held; does not sleep. Takes `lock`.
pub(crate) fn user_shm_unlock(lock: &SpinLock<()>, size: usize, ucounts: UcountsRef) {
    let pages = PageCount::covering_bytes(size).get() as isize;

    let guard = lock.lock();
    ucounts.dec_memlock(pages);
    drop(guard);
}
