// SPDX-License-Identifier: GPL-2.0

//! The mmap lock, taken for writing.
//!
//! Changing a vma or the counters of a live address space requires its mmap lock, held for writing.
//! [`MmapWriteGuard`] represents that lock. Only mm itself makes such changes, in the `mm` crate.
//!
//! C header: [`include/linux/mmap_lock.h`](srctree/include/linux/mmap_lock.h)

use crate::{
    bindings,
    error::{
        code::EINTR,
        Result, //
    },
    mm::{
        Mm,
        MmWithUser, //
    },
    types::NotThreadSafe,
};

impl MmWithUser {
    /// Takes the mmap lock for writing, or fails when a fatal signal arrives.
    ///
    /// Sleeps. As in C, a thread that already holds this lock deadlocks. Dropping the guard
    /// unlocks.
    ///
    /// # Errors
    ///
    /// [`EINTR`] if a fatal signal arrived first.
    #[inline]
    pub fn mmap_write_lock_killable(&self) -> Result<MmapWriteGuard<'_>> {
        // SAFETY: The pointer is valid since self is a reference, and `mm_users` is not zero.
        if unsafe { bindings::mmap_write_lock_killable(self.as_raw()) } != 0 {
            return Err(EINTR);
        }

        // INVARIANT: We just acquired the write lock.
        Ok(MmapWriteGuard {
            mm: self,
            _nts: NotThreadSafe,
        })
    }
}

impl Mm {
    /// Returns `mm->locked_vm`: how much address space is locked, in pages.
    ///
    /// May be called in any context. The number is stable only while the mmap lock is held.
    #[inline]
    pub fn locked_vm(&self) -> usize {
        // SAFETY: The pointer is valid since self is a reference. The read is volatile, and so are
        // all writes from Rust; C writes it in one go.
        unsafe { (&raw const (*self.as_raw()).__bindgen_anon_1.locked_vm).read_volatile() }
    }
}

/// A guard for the mmap write lock.
///
/// The guard exists in task context only, where all of its methods may be called. Dropping it
/// unlocks the mmap lock, and with it every vma that was write-locked under it.
///
/// # Invariants
///
/// This guard owns the write side of the mmap lock of `mm`.
pub struct MmapWriteGuard<'a> {
    mm: &'a MmWithUser,
    // `mmap_write_lock` and `mmap_write_unlock` must be called on the same thread
    _nts: NotThreadSafe,
}

impl<'a> MmapWriteGuard<'a> {
    /// Returns the address space that is locked.
    #[inline]
    pub fn mm(&self) -> &'a MmWithUser {
        self.mm
    }

    /// Returns `mm->locked_vm`: how much address space is locked, in pages.
    #[inline]
    pub fn locked_vm(&self) -> usize {
        self.mm.locked_vm()
    }

    /// Returns `mm->total_vm`: how much address space is mapped, in pages.
    #[inline]
    pub fn total_vm(&self) -> usize {
        // SAFETY: The mm is valid, and the write lock that we own excludes every writer.
        unsafe { (*self.mm.as_raw()).__bindgen_anon_1.total_vm }
    }
}

impl Drop for MmapWriteGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: We own the write lock by the type invariants.
        unsafe { bindings::mmap_write_unlock(self.mm.as_raw()) };
    }
}
