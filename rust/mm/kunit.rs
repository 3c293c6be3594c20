// SPDX-License-Identifier: GPL-2.0

//! A user address space for KUnit tests.
//!
//! A KUnit test runs in a kernel thread, which has no address space. All functions must be called
//! in the context of a test, and sleep.
//!
//! C header: [`include/kunit/test.h`](srctree/include/kunit/test.h)

use crate::bindings;
use core::ptr;
use kernel::{
    current,
    error::{
        code::EINVAL,
        to_result,
        Error,
        Result, //
    },
    ffi::c_int, //
};

/// Gives the thread of the test an address space, which is freed with the thread.
///
/// As `kunit_attach_mm()`.
pub fn attach_mm() -> Result {
    // SAFETY: If the thread has an mm, the function leaves it alone, so references to it stay
    // valid. If there is none, nobody has a reference to it.
    to_result(unsafe { bindings::kunit_attach_mm() })
}

/// Maps `len` bytes of private anonymous memory, readable and writable, and returns the address.
///
/// # Errors
///
/// [`EINVAL`] if there is no address space; otherwise those of mmap(2).
pub fn map_anonymous(len: usize) -> Result<usize> {
    if current!().mm().is_none() {
        return Err(EINVAL);
    }
    let prot = (bindings::PROT_READ | bindings::PROT_WRITE) as usize;
    let flags = (bindings::MAP_PRIVATE | bindings::MAP_ANONYMOUS) as usize;

    // SAFETY: The current thread has an address space, and holds none of its locks.
    let addr = unsafe { bindings::vm_mmap(ptr::null_mut(), 0, len, prot, flags, 0) };
    if addr >= (bindings::MAX_ERRNO as usize).wrapping_neg() {
        return Err(Error::from_errno(addr as c_int));
    }
    Ok(addr)
}

/// Calls `work` while no folio may be pending in a per-CPU batch, as from `lru_cache_disable()` to
/// `lru_cache_enable()`. Sleeps. `work` must return: a test that aborts in `work` leaves the
/// batches disabled.
pub fn with_lru_cache_disabled<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: A test holds no lock, so it may wait for all CPUs to drain their batches.
    unsafe { bindings::lru_cache_disable() };
    let result = work();
    // SAFETY: Disabled above.
    unsafe { bindings::lru_cache_enable() };
    result
}

/// Unmaps `len` bytes at `addr`.
///
/// # Errors
///
/// [`EINVAL`] if there is no address space; otherwise those of munmap(2).
pub fn unmap(addr: usize, len: usize) -> Result {
    if current!().mm().is_none() {
        return Err(EINVAL);
    }
    // SAFETY: The current thread has an address space, and holds none of its locks.
    to_result(unsafe { bindings::vm_munmap(addr, len) })
}
