// SPDX-License-Identifier: GPL-2.0

//! Resource limits.
//!
//! C headers: [`include/linux/sched/signal.h`](srctree/include/linux/sched/signal.h),
//! [`include/linux/user_namespace.h`](srctree/include/linux/user_namespace.h)

use crate::{
    bindings,
    ffi::{
        c_long,
        c_uint, //
    },
    task::Task,
    types::Opaque, //
};
use core::{
    mem,
    ops::Deref,
    ptr::NonNull, //
};

/// A resource whose use is limited, `RLIMIT_*`.
///
/// # Invariants
///
/// The number is below `RLIM_NLIMITS`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Resource(c_uint);

impl Resource {
    /// `RLIMIT_MEMLOCK`: address space that may be locked, in bytes.
    // INVARIANT: `RLIMIT_MEMLOCK` is below `RLIM_NLIMITS`.
    pub const MEMLOCK: Self = Self(bindings::RLIMIT_MEMLOCK);
}

/// Returns the soft limit of the current task, as `rlimit()`.
///
/// May be called in task context. The limit may change at any time.
#[inline]
pub fn rlimit(resource: Resource) -> usize {
    // SAFETY: By its type invariants, the resource is valid; the current task has a signal
    // structure.
    unsafe { bindings::rlimit(resource.0) }
}

/// Returns the soft limit of a task, as `task_rlimit()`.
///
/// May be called in any context. The limit may change at any time.
#[inline]
pub fn task_rlimit(task: &Task, resource: Resource) -> usize {
    // SAFETY: By its type invariants, the resource is valid. A task keeps its signal structure
    // while it is referenced.
    unsafe { bindings::task_rlimit(task.as_ptr(), resource.0) }
}

/// The resource counts of a user in a user namespace: `struct ucounts`.
///
/// # Invariants
///
/// Values of this type are always refcounted with `get_ucounts()`.
#[repr(transparent)]
pub struct Ucounts(Opaque<bindings::ucounts>);

impl Ucounts {
    /// Obtains a reference from a raw pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point at a `struct ucounts` that is not freed during 'a.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::ucounts) -> &'a Self {
        // SAFETY: The caller promises that the pointer is valid for 'a; the layout is the same due
        // to repr(transparent).
        unsafe { &*ptr.cast() }
    }

    /// Adds `pages` to the locked pages of the user, and returns the new count.
    ///
    /// As `inc_rlimit_ucounts()`, returns `c_long::MAX` if the count overflowed, or exceeds the
    /// limit of an enclosing user namespace; the pages are added all the same. May be called in any
    /// context.
    #[inline]
    pub fn inc_memlock(&self, pages: c_long) -> c_long {
        // SAFETY: The pointer is valid since self is a reference.
        unsafe {
            bindings::inc_rlimit_ucounts(
                self.0.get(),
                bindings::rlimit_type_UCOUNT_RLIMIT_MEMLOCK,
                pages,
            )
        }
    }

    /// Subtracts `pages` from the locked pages of the user, as `dec_rlimit_ucounts()`.
    ///
    /// May be called in any context.
    #[inline]
    pub fn dec_memlock(&self, pages: c_long) {
        // SAFETY: The pointer is valid since self is a reference. For a count that falls below
        // zero, the function only warns.
        unsafe {
            bindings::dec_rlimit_ucounts(
                self.0.get(),
                bindings::rlimit_type_UCOUNT_RLIMIT_MEMLOCK,
                pages,
            )
        };
    }

    /// Returns the number of locked pages of the user, as `get_rlimit_value()`.
    ///
    /// May be called in any context. Others may change the number at any time.
    #[inline]
    pub fn memlock(&self) -> c_long {
        // SAFETY: The pointer is valid since self is a reference.
        unsafe {
            bindings::get_rlimit_value(self.0.get(), bindings::rlimit_type_UCOUNT_RLIMIT_MEMLOCK)
        }
    }

    /// Takes another reference, as `get_ucounts()`; fails if there are too many already.
    ///
    /// May be called in any context.
    #[inline]
    pub fn try_get(&self) -> Option<UcountsRef> {
        // SAFETY: The pointer is valid since self is a reference.
        let ptr = unsafe { bindings::get_ucounts(self.0.get()) };

        // INVARIANT: If the pointer is not null, `get_ucounts()` took a reference for us.
        Some(UcountsRef(NonNull::new(ptr)?))
    }
}

/// A counted reference to [`Ucounts`].
///
/// Not an `ARef`, since taking another reference may fail. Dropping it puts the reference, which
/// takes a spinlock: do not drop it in hard interrupts, nor with preemption disabled on PREEMPT_RT.
///
/// # Invariants
///
/// Owns one reference.
pub struct UcountsRef(NonNull<bindings::ucounts>);

impl UcountsRef {
    /// Takes over a reference that C code took, or that [`UcountsRef::into_raw`] gave up.
    ///
    /// # Safety
    ///
    /// `ptr` must point at a `struct ucounts`, and the caller must give up one reference to it.
    #[inline]
    pub unsafe fn from_raw(ptr: NonNull<bindings::ucounts>) -> Self {
        // INVARIANT: The caller gives up the reference.
        Self(ptr)
    }

    /// Passes the reference to C code, which must call `put_ucounts()` later.
    #[inline]
    pub fn into_raw(self) -> NonNull<bindings::ucounts> {
        let ptr = self.0;
        mem::forget(self);
        ptr
    }
}

impl Deref for UcountsRef {
    type Target = Ucounts;

    #[inline]
    fn deref(&self) -> &Ucounts {
        // SAFETY: We own a reference by the type invariants.
        unsafe { Ucounts::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for UcountsRef {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: We own a reference by the type invariants, and give it up.
        unsafe { bindings::put_ucounts(self.0.as_ptr()) };
    }
}
