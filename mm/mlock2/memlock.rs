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
        PageRange, //
    },
};
use kernel::{
    capability::{
        capable,
        Capability, //
    },
    do_once_lite,
    mm::{
        mmap_write::MmapWriteGuard,
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

/// The limit of the current task. It may change at any time: what is decided by it is decided by
/// one reading. May be called in task context.
#[inline]
pub(crate) fn current_limit() -> Limit {
    Limit::new(rlimit(Resource::MEMLOCK))
}

/// Whether the current task may lock memory at all. The C function of the same name.
///
/// May be called in task context.
#[inline]
pub(crate) fn can_do_mlock() -> bool {
    !current_limit().is_zero() || capable(Capability::IPC_LOCK)
}

/// Whether the current task may lock `range`, on top of what it has locked.
///
/// # Errors
///
/// `ENOMEM` if that is over the limit, and `CAP_IPC_LOCK` is missing. From `do_mlock()`.
pub(crate) fn check_range(mm: &MmapWriteGuard<'_>, range: &PageRange, limit: Limit) -> Result {
    let locked = range.pages().wrapping_add(PageCount::new(mm.locked_vm()));

    if limit.allows(locked) || capable(Capability::IPC_LOCK) {
        return Ok(());
    }
    // What is locked already in the range is in `locked_vm`, and must not count twice. C asks for
    // the capability a second time after this; the answer does not change in between.
    if limit.allows(locked.wrapping_sub(fixup::count_mm_mlocked_page_nr(mm, range))) {
        Ok(())
    } else {
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
        Err(ENOMEM)
    }
}

/// Whether a vma of `mm` may grow by, or start out with, `bytes`, given whether it is locked. The C
/// function of the same name, for mmap, brk, mremap and stack growth.
///
/// May be called in task context.
pub(crate) fn mlock_future_ok(mm: &Mm, is_vma_locked: bool, bytes: usize) -> bool {
    if !is_vma_locked || capable(Capability::IPC_LOCK) {
        return true;
    }

    let locked = PageCount::of_bytes(bytes).wrapping_add(PageCount::new(mm.locked_vm()));
    current_limit().allows(locked)
}

/// Adds `pages` to the `locked` pages of a process, or subtracts them unless `inc`; returns the new
/// number. The limit is `task`'s, and does not count if `bypass_rlim`. For memory that drivers pin;
/// the C function is `__account_locked_vm()`.
///
/// Called with the mmap write lock held, which keeps the number.
///
/// # Errors
///
/// `ENOMEM` if the limit would be exceeded.
pub(crate) fn account_locked_vm(
    locked: PageCount,
    pages: PageCount,
    inc: bool,
    task: &Task,
    bypass_rlim: bool,
) -> Result<PageCount> {
    let limit = (inc && !bypass_rlim).then(|| Limit::new(task_rlimit(task, Resource::MEMLOCK)));

    if !inc && pages > locked {
        do_once_lite! {
            warn_on!(true);
        }
    }
    account(locked, pages, inc, limit).ok_or(ENOMEM)
}

/// Counts `size` bytes of shared memory as locked by a user, and takes a reference to the count.
/// The C function of the same name, for `SHM_LOCK` and `SHM_HUGETLB`.
///
/// `None` if the user may not lock that much; nothing is counted then. May be called in task
/// context with spinlocks held; does not sleep. Takes `lock`, inside of which only the locks of
/// `capable()` nest.
pub(crate) fn user_shm_lock(
    lock: &SpinLock<()>,
    size: usize,
    ucounts: &Ucounts,
) -> Option<UcountsRef> {
    let limit = current_limit();
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
