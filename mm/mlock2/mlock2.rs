// SPDX-License-Identifier: GPL-2.0

//! The mlock family of system calls: mlock(2), mlock2(2), munlock(2), mlockall(2) and
//! munlockall(2), and mm's accounting against `RLIMIT_MEMLOCK`.
//!
//! Locked memory is not paged out. The flags of a vma say whether it is locked: `VMA_LOCKED_BIT`
//! locks all of its pages and has them faulted in at once; `VMA_LOCKONFAULT_BIT` beside it leaves
//! each page to its first use. The system calls set these flags, charge the pages against the
//! limit, move the pages that are present to the unevictable LRU list, and fault in the rest.
//!
//! This file holds the entry points from C and the constants that come from C. A call goes down
//! this list of modules, and a module uses only those below it:
//!
//! | module | what it does | counterpart in C |
//! |---|---|---|
//! | `do_mlock` | the steps of each call, in the order of errors | `do_mlock` |
//! | `memlock` | `RLIMIT_MEMLOCK` | `can_do_mlock`, `mlock_future_ok`, ... |
//! | `fixup` | splits, merges and flags of vmas | `mlock_fixup`, `apply_vma_lock_flags`, ... |
//! | `walk` | the pages that are present | `mlock_pte_range` |
//! | `batch` | `PG_mlocked` and the unevictable LRU list | `mlock_folio`, ... |
//! | `request` | the flag words | `SYSCALL_DEFINE` |
//! | `limit` | the arithmetic of limits | |
//! | `range` | page arithmetic | |
//!
//! The modules have no unsafe code: they use the abstractions in the `mm` crate, `rust/mm/`.
//! `request`, `range` and `limit` know no kernel types, and are tested on the host as well.
//!
//! Man pages: mlock(2), mlockall(2), getrlimit(2), shmctl(2).

mod batch;
mod do_mlock;
mod fixup;
mod limit;
mod memlock;
mod range;
mod request;
#[cfg(CONFIG_MLOCK2_KUNIT_TEST)]
mod tests;
mod walk;

use kernel::{
    cpu::CpuId,
    do_once_lite,
    ffi::{
        c_int,
        c_long, //
    },
    mm::Mm,
    prelude::*,
    rlimit::{
        Ucounts,
        UcountsRef, //
    },
    sync::SpinLock,
    task::Task,
    warn_on, //
};
use mm::{
    bindings,
    folio::{
        Folio,
        NewFolio, //
    },
    folio_batch::{
        FolioBatch,
        TaskContext, //
    },
    mlock_trace::Caller, //
};
use range::PageCount;
use request::LockMode;

/// Constants of the ABI and the machine, for the modules without kernel types. The tests on the
/// host define their own.
mod abi {
    use mm::bindings;

    pub(crate) const MLOCK_ONFAULT: i32 = bindings::MLOCK_ONFAULT as i32;
    pub(crate) const MCL_CURRENT: i32 = bindings::MCL_CURRENT as i32;
    pub(crate) const MCL_FUTURE: i32 = bindings::MCL_FUTURE as i32;
    pub(crate) const MCL_ONFAULT: i32 = bindings::MCL_ONFAULT as i32;
    // bindgen turns ~0UL into an i32 of -1; sign extension restores it.
    pub(crate) const RLIM_INFINITY: usize = bindings::RLIM_INFINITY as usize;
    pub(crate) const PAGE_SHIFT: usize = kernel::page::PAGE_SHIFT;
}

fn errno(result: Result) -> c_long {
    match result {
        Ok(()) => 0,
        Err(e) => e.to_errno() as c_long,
    }
}

//
// System calls. All run in task context without locks held, and sleep.
//

/// mlock(2).
///
/// # Safety
///
/// None: unsafe because it is exported.
#[export(mm::bindings)]
unsafe extern "C" fn mlock2_mlock(start: usize, len: usize) -> c_long {
    errno(do_mlock::do_mlock(start, len, LockMode::Locked))
}

/// mlock2(2).
///
/// # Safety
///
/// None: unsafe because it is exported.
#[export(mm::bindings)]
unsafe extern "C" fn mlock2_mlock2(start: usize, len: usize, flags: c_int) -> c_long {
    errno(do_mlock::mlock2(start, len, flags))
}

/// munlock(2).
///
/// # Safety
///
/// None: unsafe because it is exported.
#[export(mm::bindings)]
unsafe extern "C" fn mlock2_munlock(start: usize, len: usize) -> c_long {
    errno(do_mlock::munlock(start, len))
}

/// mlockall(2).
///
/// # Safety
///
/// None: unsafe because it is exported.
#[export(mm::bindings)]
unsafe extern "C" fn mlock2_mlockall(flags: c_int) -> c_long {
    errno(do_mlock::mlockall(flags))
}

/// munlockall(2).
///
/// # Safety
///
/// None: unsafe because it is exported.
#[export(mm::bindings)]
unsafe extern "C" fn mlock2_munlockall() -> c_long {
    errno(do_mlock::munlockall())
}

//
// RLIMIT_MEMLOCK, for the rest of mm and for drivers.
//

/// Whether the current task may lock memory at all. Task context.
///
/// # Safety
///
/// None: unsafe because it is exported.
#[export(mm::bindings)]
unsafe extern "C" fn can_do_mlock() -> bool {
    !memlock::current_limit().is_zero() || memlock::may_exceed_zero(Caller::DRIVER, 0)
}

/// As `can_do_mlock()`, for a caller in mm whose limit is 0 and that wants to lock `bytes`. Task
/// context.
///
/// # Safety
///
/// None: unsafe because it is exported.
#[export(mm::bindings)]
unsafe extern "C" fn mlock2_may_exceed_zero(caller: bindings::mlock_caller, bytes: usize) -> bool {
    memlock::may_exceed_zero(Caller::from_raw(caller), bytes)
}

/// Whether the stack of `mm`, which is locked if `is_vma_locked`, may grow by `bytes`. Task
/// context; callers hold the mmap write lock.
///
/// # Safety
///
/// `mm` must be valid for the call.
#[export(mm::bindings)]
unsafe extern "C" fn mlock_future_ok(
    mm: *const bindings::mm_struct,
    is_vma_locked: bool,
    bytes: usize,
) -> bool {
    // SAFETY: The caller promises that the pointer is valid.
    let mm = unsafe { Mm::from_raw(mm) };

    !is_vma_locked || memlock::locked_stack_ok(mm, bytes)
}

/// Whether a locked vma of `mm` may start with, or grow by, `bytes`, as far as the limit decides:
/// `mlock2_future_ok()` has asked for `CAP_IPC_LOCK`. Task context; callers hold the mmap write
/// lock.
///
/// # Safety
///
/// `mm` must be valid for the call.
#[export(mm::bindings)]
unsafe extern "C" fn mlock2_within_limit(
    mm: *const bindings::mm_struct,
    bytes: usize,
    caller: bindings::mlock_caller,
) -> bool {
    // SAFETY: The caller promises that the pointer is valid.
    let mm = unsafe { Mm::from_raw(mm) };

    memlock::within_limit(mm, bytes, Caller::from_raw(caller))
}

/// Decides and counts for `__account_locked_vm()`. Task context, with the mmap write lock held.
///
/// # Safety
///
/// `mm` and `task` must be valid for the call, and the mmap lock of `mm` must be held for writing.
#[export(mm::bindings)]
unsafe extern "C" fn mlock2_account_locked_vm(
    mm: *mut bindings::mm_struct,
    pages: usize,
    inc: bool,
    task: *const bindings::task_struct,
    bypass_rlim: bool,
) -> c_int {
    // SAFETY: The caller promises that the pointer is valid for the call. `Task` is a transparent
    // wrapper of `task_struct`.
    let task = unsafe { &*task.cast::<Task>() };
    // SAFETY: As above.
    let mm_ref = unsafe { Mm::from_raw(mm) };

    match memlock::account_locked_vm(mm_ref, PageCount::new(pages), inc, task, bypass_rlim) {
        Ok(total) => {
            // SAFETY: The mm is valid, and the mmap lock excludes other writers. Readers without it
            // see the old count or the new one.
            unsafe { (&raw mut (*mm).__bindgen_anon_1.locked_vm).write_volatile(total.get()) };
            0
        }
        Err(e) => e.to_errno(),
    }
}

fn shm_lock() -> &'static SpinLock<()> {
    // SAFETY: The lock is a static of `syscalls.c`, initialised there, and never goes away.
    unsafe { SpinLock::from_raw(&raw mut bindings::shmlock_user_lock) }
}

/// Charges `size` bytes of locked shared memory to a user, and returns 1; returns 0 if that is not
/// allowed. Task context.
///
/// # Safety
///
/// `ucounts` must be valid for the call.
#[export(mm::bindings)]
unsafe extern "C" fn user_shm_lock(size: usize, ucounts: *mut bindings::ucounts) -> c_int {
    // SAFETY: The caller promises that the pointer is valid for the call.
    let ucounts = unsafe { Ucounts::from_raw(ucounts) };

    match memlock::user_shm_lock(shm_lock(), size, ucounts) {
        Some(counted) => {
            // The caller keeps the pointer, and passes it to `user_shm_unlock()` later.
            counted.into_raw();
            1
        }
        None => 0,
    }
}

/// As `user_shm_lock()`, for a `SHM_HUGETLB` that its caller refuses in any case. Task context.
///
/// # Safety
///
/// `ucounts` must be valid for the call.
#[export(mm::bindings)]
unsafe extern "C" fn mlock2_shm_hugetlb(size: usize, ucounts: *mut bindings::ucounts) -> c_int {
    // SAFETY: The caller promises that the pointer is valid for the call.
    let ucounts = unsafe { Ucounts::from_raw(ucounts) };

    match memlock::user_shm_hugetlb(shm_lock(), size, ucounts) {
        Some(counted) => {
            // As above.
            counted.into_raw();
            1
        }
        None => 0,
    }
}

/// `SHM_LOCK` of `size` bytes is refused: to the owner since the limit is 0, and to anybody else
/// for not being that. Any context but NMI.
///
/// # Safety
///
/// None: unsafe because it is exported.
#[export(mm::bindings)]
unsafe extern "C" fn mlock2_shm_lock_refused(size: usize, is_owner: bool) {
    memlock::shm_lock_refused(size, is_owner);
}

/// Uncharges `size` bytes of locked shared memory from a user. Task context.
///
/// # Safety
///
/// `user_shm_lock()` must have returned 1 for `ucounts`, once for each call of this.
#[export(mm::bindings)]
unsafe extern "C" fn user_shm_unlock(size: usize, ucounts: *mut bindings::ucounts) {
    // SAFETY: `user_shm_lock()` passed a reference to the caller, who now passes it back; so the
    // pointer is not null either.
    let ucounts = unsafe { UcountsRef::from_raw(core::ptr::NonNull::new_unchecked(ucounts)) };

    memlock::user_shm_unlock(shm_lock(), size, ucounts);
}

//
// Folios, for the fault path, rmap, the LRU code and CPU hotplug. Task context with interrupts on;
// spinlocks may be held. None of these functions sleeps.
//

/// Mlocks a folio that is mapped into a locked vma.
///
/// # Safety
///
/// Must be called in task context with interrupts on, and with no batch of `batch.rs` and no lruvec
/// locked. The caller must hold a reference to `folio`, or keep it mapped.
#[export(mm::bindings)]
unsafe extern "C" fn mlock_folio(folio: *mut bindings::folio) {
    // SAFETY: The caller promises both.
    unsafe { batch::mlock_folio(Folio::from_raw(folio), &mut TaskContext::new()) };
}

/// Mlocks a folio that has just been allocated, and puts it on an LRU list.
///
/// # Safety
///
/// Must be called in task context with interrupts on, and with no batch of `batch.rs` and no lruvec
/// locked. The caller must hold a reference to `folio`, which is on no LRU list; nobody else may
/// put it on one.
#[export(mm::bindings)]
unsafe extern "C" fn mlock_new_folio(folio: *mut bindings::folio) {
    // SAFETY: The caller promises that the pointer is valid for the call.
    let folio = unsafe { Folio::from_raw(folio) };

    // SAFETY: The caller promises that the folio is new, and that the context is right.
    unsafe { batch::mlock_new_folio(NewFolio::new(folio), &mut TaskContext::new()) };
}

/// Munlocks a folio that was unmapped from a locked vma.
///
/// # Safety
///
/// Must be called in task context with interrupts on, and with no batch of `batch.rs` and no lruvec
/// locked. The caller must hold a reference to `folio`.
#[export(mm::bindings)]
unsafe extern "C" fn munlock_folio(folio: *mut bindings::folio) {
    // SAFETY: The caller promises both.
    unsafe { batch::munlock_folio(Folio::from_raw(folio), &mut TaskContext::new()) };
}

/// Drains the batch of this CPU.
///
/// # Safety
///
/// Must be called in task context with interrupts on, and with no batch of `batch.rs` and no lruvec
/// locked.
#[export(mm::bindings)]
unsafe extern "C" fn mlock_drain_local() {
    // SAFETY: The caller promises it.
    batch::mlock_drain_local(&mut unsafe { TaskContext::new() });
}

/// Drains the batch of a dead CPU.
///
/// # Safety
///
/// Must be called in task context with interrupts on, and with no batch of `batch.rs` and no lruvec
/// locked. If the CPU is offline, it must stay so, and nobody else may access its batch: only
/// `page_alloc_cpu_dead()` calls this.
#[export(mm::bindings)]
unsafe extern "C" fn mlock_drain_remote(cpu: c_int) {
    let Some(cpu) = CpuId::from_i32(cpu) else {
        return;
    };
    // SAFETY: The CPU exists.
    if unsafe { bindings::cpu_online(cpu.as_u32()) } {
        // The C warns and then drains all the same, racing with the CPU.
        do_once_lite! {
            warn_on!(true);
        }
        return;
    }
    // SAFETY: The caller promises it.
    let mut context = unsafe { TaskContext::new() };
    // SAFETY: The CPU is offline; CPU hotplug, which calls us, keeps it offline and calls nobody
    // else meanwhile.
    batch::mlock_drain_remote(unsafe { FolioBatch::of_dead_cpu(cpu, &mut context) });
}

/// Whether folios are pending in the batch of a CPU.
///
/// # Safety
///
/// None: unsafe because it is exported.
#[export(mm::bindings)]
unsafe extern "C" fn need_mlock_drain(cpu: c_int) -> bool {
    CpuId::from_i32(cpu).is_some_and(batch::need_mlock_drain)
}
