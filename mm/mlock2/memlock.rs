// SPDX-License-Identifier: GPL-2.0

//! Every decision on `RLIMIT_MEMLOCK` that mm takes.
//!
//! Two things are counted against the limit: what a process locks (`mm->locked_vm`, under the mmap
//! lock) and what a user locks in shared memory that outlives the process (`struct ucounts`, under
//! a lock of its own, since it has no mm).

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

/// The limit of the current task. It may change at any time: what is decided by it is decided by
/// one reading. May be called in task context.
#[inline]
pub(crate) fn current_limit() -> Limit {
    Limit::new(rlimit(Resource::MEMLOCK))
}

// What the event of a refusal tells of mlock(2) and its relatives. mlock2(2) without flags is the
// same as mlock(2).
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

// The same of those who do not say where.
fn sized(caller: Caller, len: usize) -> Request<'static> {
    Request {
        caller,
        start: 0,
        len,
        mm: None,
    }
}

/// `start..end` (bytes) is not locked or unlocked, but refused with `error`, for what `why` makes
/// of the address `at`, which decided it. Returns the error.
// Inlined, and with what is in registers already, so that nothing is set up for the event while it
// is off.
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

/// The event of a request to lock or unlock `range`, while it is on.
#[cold]
#[inline(never)]
pub(crate) fn trace_range_refused(range: PageRange, mode: LockMode, error: Error, why: Refusal) {
    mlock_trace::refused(request(range.start(), range.len(), mode), error, why);
}

/// Whether the current task, whose limit that is, may lock memory at all. The C function of the
/// same name.
///
/// May be called in task context.
#[inline]
pub(crate) fn can_do_mlock(limit: Limit) -> bool {
    !limit.is_zero() || capable(Capability::IPC_LOCK)
}

/// The same for callers elsewhere, for whom it decides; they fail with `EPERM` then.
///
/// `bytes` is how much is to be locked, or 0. May be called in task context.
#[inline]
pub(crate) fn can_do_mlock_for(caller: Caller, bytes: usize) -> bool {
    !current_limit().is_zero() || may_exceed_zero(caller, bytes)
}

// Apart, so that the usual answer saves no registers.
#[inline(never)]
fn may_exceed_zero(caller: Caller, bytes: usize) -> bool {
    if capable(Capability::IPC_LOCK) {
        return true;
    }
    if mlock_trace::is_refused_traced() {
        return trace_limit_zero(caller, bytes);
    }
    false
}

// Returns what its caller does, so that this saves no registers for it.
#[cold]
#[inline(never)]
fn trace_limit_zero(caller: Caller, bytes: usize) -> bool {
    mlock_trace::refused(sized(caller, bytes), EPERM, Refusal::LimitZero);
    false
}

/// Whether the current task may lock `range`, on top of what it has locked.
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
    // What is locked already in the range is in `locked_vm`, and must not count twice. C asks for
    // the capability a second time after this; the answer does not change in between.
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

/// Whether the current task may lock all that it has mapped.
///
/// # Errors
///
/// `ENOMEM` if that is over the limit, and `CAP_IPC_LOCK` is missing. From `mlockall()`.
pub(crate) fn check_all(mm: &MmapWriteGuard<'_>, limit: Limit) -> Result {
    if limit.allows(PageCount::new(mm.total_vm())) || capable(Capability::IPC_LOCK) {
        Ok(())
    } else {
        if mlock_trace::is_refused_traced() {
            let request = sized(Caller::MLOCKALL, mm.total_vm().wrapping_mul(PAGE_SIZE));
            let why = Refusal::OverLimit {
                locked: mm.locked_vm(),
                total: mm.total_vm(),
                limit: limit.bytes(),
            };
            mlock_trace::refused(request, ENOMEM, why);
        }
        Err(ENOMEM)
    }
}

/// Whether a locked vma of `mm` may grow by, or start out with, `bytes`. The C is
/// `mlock_future_ok()`, for mmap, brk, mremap and stack growth, of which this is told `caller`. The
/// caller fails with `EAGAIN` or `ENOMEM` if not.
///
/// May be called in task context.
#[inline(always)]
pub(crate) fn locked_future_ok(mm: &Mm, bytes: usize, caller: Caller) -> bool {
    if mlock_trace::is_refused_traced() {
        return traced_future_ok(mm, bytes, caller);
    }
    future_ok(future_total(mm, bytes), current_limit())
}

fn future_total(mm: &Mm, bytes: usize) -> PageCount {
    PageCount::of_bytes(bytes).wrapping_add(PageCount::new(mm.locked_vm()))
}

// The limit comes first, so that little has to be kept while the capability is asked for. C asks
// for that first, and so it is asked for in any case.
#[inline(always)]
fn future_ok(total: PageCount, limit: Limit) -> bool {
    let allowed = limit.allows(total);

    capable(Capability::IPC_LOCK) || allowed
}

// Apart, so that nothing is kept for the event while it is off.
#[cold]
#[inline(never)]
fn traced_future_ok(mm: &Mm, bytes: usize, caller: Caller) -> bool {
    let limit = current_limit();
    let total = future_total(mm, bytes);

    if future_ok(total, limit) {
        return true;
    }
    // brk(2) returns the old break, of which the C library makes ENOMEM.
    let error = if caller == Caller::STACK || caller == Caller::BRK {
        ENOMEM
    } else {
        EAGAIN
    };
    let request = Request {
        mm: Some(mm),
        ..sized(caller, bytes)
    };
    let why = Refusal::OverLimit {
        locked: mm.locked_vm(),
        total: total.get(),
        limit: limit.bytes(),
    };

    mlock_trace::refused(request, error, why);
    false
}

/// Adds `pages` to what `mm` has locked, or subtracts them unless `inc`; returns the new number.
/// The limit is `task`'s, and does not count if `bypass_rlim`. For memory that drivers pin; the C
/// function is `__account_locked_vm()`.
///
/// Called with the mmap write lock held, which keeps the number.
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
                ..sized(Caller::ACCOUNT, pages.get().wrapping_mul(PAGE_SIZE))
            };
            let why = Refusal::OverLimit {
                locked: locked.get(),
                total: locked.wrapping_add(pages).get(),
                // Without a limit it is not refused.
                limit: limit.map_or(usize::MAX, Limit::bytes),
            };
            mlock_trace::refused(request, ENOMEM, why);
        }
        ENOMEM
    })
}

/// Counts `size` bytes of shared memory as locked by a user, and takes a reference to the count.
/// The C function of the same name, for `SHM_LOCK` and `SHM_HUGETLB`.
///
/// `None` if the user may not lock that much; nothing is counted then. May be called in task
/// context with spinlocks held; does not sleep. Takes `lock`, inside of which only the locks of
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

/// As [`count_user_shm`], for `SHM_LOCK`, which fails with `ENOMEM` if not.
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
        mlock_trace::refused(sized(Caller::SHM_LOCK, size), ENOMEM, why);
    }
    counted
}

/// As [`count_user_shm`], for a `SHM_HUGETLB` that is refused with `EPERM` in any case, since it
/// may only be done with `CAP_IPC_LOCK` or by a group. The caller warns of programs for which the
/// limit was enough, once.
pub(crate) fn user_shm_hugetlb(
    lock: &SpinLock<()>,
    size: usize,
    ucounts: &Ucounts,
) -> Option<UcountsRef> {
    let request = sized(Caller::SHM_HUGETLB, size);

    mlock_trace::refused(request, EPERM, Refusal::NotPermitted);
    count_user_shm(lock, size, ucounts, current_limit())
}

/// `SHM_LOCK` is refused with `EPERM`, as was decided in C: by the limit, which is 0, or to who is
/// not the owner.
pub(crate) fn shm_lock_refused(size: usize, is_owner: bool) {
    let why = if is_owner {
        Refusal::LimitZero
    } else {
        Refusal::NotPermitted
    };

    mlock_trace::refused(sized(Caller::SHM_LOCK, size), EPERM, why);
}

/// Takes `size` bytes off again what a user has locked, and puts the reference. The C function of
/// the same name.
///
/// May be called in task context with spinlocks held; does not sleep. Takes `lock`.
pub(crate) fn user_shm_unlock(lock: &SpinLock<()>, size: usize, ucounts: UcountsRef) {
    let pages = PageCount::covering_bytes(size).get() as isize;

    let guard = lock.lock();
    ucounts.dec_memlock(pages);
    drop(guard);
}
