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

/// A resource that a process may use up to a limit, `RLIMIT_*`.
///
/// # Invariants
///
/// The number is one that the kernel knows, so below `RLIM_NLIMITS`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Resource(c_uint);

impl Resource {
    /// `RLIMIT_MEMLOCK`: address space that may be locked, in bytes.
    // INVARIANT: It is one of the numbers.
    pub const MEMLOCK: Self = Self(bindings::RLIMIT_MEMLOCK);
}

/// Returns the soft limit of the current task, as `rlimit()`.
///
/// May be called in task context. The limit may change at any time.
#[inline]
pub fn rlimit(resource: Resource) -> usize {
    // SAFETY: By its type invariants, the resource is one that the kernel knows, and the current
    // task has its signal structure.
    unsafe { bindings::rlimit(resource.0) }
}

/// Returns the soft limit of a task, as `task_rlimit()`.
///
/// May be called in any context. The limit may change at any time.
#[inline]
pub fn task_rlimit(task: &Task, resource: Resource) -> usize {
    // SAFETY: By its type invariants, the resource is one that the kernel knows. A task keeps its
    // signal structure for as long as it is referenced.
    unsafe { bindings::task_rlimit(task.as_ptr(), resource.0) }
}

/// What a user uses, counted in each user namespace: the kernel's `struct ucounts`.
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

    /// Counts `pages` more locked pages, and returns how many there are now.
    ///
    /// Returns `c_long::MAX` if a namespace that the user's is in has a lower limit of its own, or
    /// if the count overflowed: the pages are counted nevertheless. May be called in any context.
    /// As `inc_rlimit_ucounts()`.
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

    /// Counts `pages` fewer locked pages, as `dec_rlimit_ucounts()`.
    ///
    /// May be called in any context.
    #[inline]
    pub fn dec_memlock(&self, pages: c_long) {
        // SAFETY: The pointer is valid since self is a reference. A count that fell below zero is
        // warned of and does no other harm.
        unsafe {
            bindings::dec_rlimit_ucounts(
                self.0.get(),
                bindings::rlimit_type_UCOUNT_RLIMIT_MEMLOCK,
                pages,
            )
        };
    }

    /// Returns how many locked pages are counted, as `get_rlimit_value()`.
    ///
    /// May be called in any context. Others may change the number at any time.
    #[inline]
    pub fn memlock(&self) -> c_long {
        // SAFETY: The pointer is valid since self is a reference.
        unsafe {
            bindings::get_rlimit_value(self.0.get(), bindings::rlimit_type_UCOUNT_RLIMIT_MEMLOCK)
        }
    }

    /// Takes another reference, as `get_ucounts()`, unless there are too many already.
    ///
    /// May be called in any context.
    #[inline]
    pub fn try_get(&self) -> Option<UcountsRef> {
        // SAFETY: The pointer is valid since self is a reference.
        let ptr = unsafe { bindings::get_ucounts(self.0.get()) };

        // INVARIANT: If there is a pointer, then `get_ucounts()` took a reference for us.
        Some(UcountsRef(NonNull::new(ptr)?))
    }
}

/// A reference to [`Ucounts`] that is counted.
///
/// Not an `ARef`, since taking one more may fail. Dropping it puts the reference, which takes a
/// spinlock: not in hard interrupts, nor with preemption off on PREEMPT_RT.
///
/// # Invariants
///
/// Owns one reference.
pub struct UcountsRef(NonNull<bindings::ucounts>);

impl UcountsRef {
    /// Makes this the owner of a reference that C code took or [`UcountsRef::into_raw`] gave up.
    ///
    /// # Safety
    ///
    /// `ptr` must point at a `struct ucounts`, and the caller must give up one reference to it.
    #[inline]
    pub unsafe fn from_raw(ptr: NonNull<bindings::ucounts>) -> Self {
        // INVARIANT: The caller gives up the reference.
        Self(ptr)
    }

    /// Leaves the reference to C code, which has to call `put_ucounts()` in the end.
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
