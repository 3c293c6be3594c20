// SPDX-License-Identifier: GPL-2.0

//! A stand-in for the `kernel` crate.
//!
//! The abstractions under test are the kernel's own files, unmodified. What they call is in
//! [`bindings`]: each C function is an operation on a small model of the machine ([`model`]), and a
//! point at which the scheduler may let another task run. The model is sequentially consistent: what
//! only weak memory ordering can show is not seen here.

#![allow(clippy::missing_safety_doc)]

pub mod bindings;
pub mod cpu;
pub mod error;
pub mod mm;
pub mod model;

/// `pin_init::zeroed()`
pub const fn zeroed<T: Zeroable>() -> T {
    // SAFETY: The trait says it.
    unsafe { core::mem::zeroed() }
}

/// # Safety
///
/// All fields may be 0.
pub unsafe trait Zeroable {}
// SAFETY: Numbers, pointers, and a function that there need not be.
unsafe impl Zeroable for bindings::mm_walk_ops {}
// SAFETY: As above.
unsafe impl Zeroable for bindings::ma_state {}

#[allow(non_camel_case_types)]
pub mod ffi {
    //! The kernel's C types: `unsigned long` is `usize`.
    pub use core::ffi::{
        c_int,
        c_uint,
        c_void, //
    };
    pub type c_long = isize;
    pub type c_ulong = usize;
}

pub mod types {
    use core::marker::PhantomData;

    /// What must not go to another thread.
    pub type NotThreadSafe = PhantomData<*mut ()>;
    #[allow(non_upper_case_globals)]
    pub const NotThreadSafe: NotThreadSafe = PhantomData;
}

pub mod page {
    pub const PAGE_SHIFT: usize = 12;
    pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;
    pub const PAGE_MASK: usize = !(PAGE_SIZE - 1);
}

pub mod task {
    /// There is nothing that it could let run: the scheduler decides that at every step.
    pub fn cond_resched() {
        crate::model::sched::check_may_sleep("cond_resched()");
    }
}

/// A warning of the kernel is a mistake here.
#[macro_export]
macro_rules! warn_on {
    ($cond:expr) => {{
        let cond = $cond;
        if cond {
            $crate::model::sched::fail(concat!("WARN_ON at ", file!(), ":", line!()));
        }
        cond
    }};
}
