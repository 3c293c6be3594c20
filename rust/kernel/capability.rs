// SPDX-License-Identifier: GPL-2.0

//! Capabilities.
//!
//! C header: [`include/linux/capability.h`](srctree/include/linux/capability.h)

use crate::{
    bindings,
    ffi::c_int, //
};

/// A capability, `CAP_*`.
///
/// # Invariants
///
/// The number is one that the kernel knows, for which `cap_valid()` is true: `capable()` crashes
/// for any other.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Capability(c_int);

impl Capability {
    /// `CAP_IPC_LOCK`: may lock memory beyond the limit.
    // INVARIANT: It is one of the numbers.
    pub const IPC_LOCK: Self = Self(bindings::CAP_IPC_LOCK as c_int);
}

/// Returns whether the current task has a capability in the initial user namespace.
///
/// Marks the task as having used the privilege if so, and may leave an audit record if not, as
/// `capable()`: ask only where the answer counts. May be called with spinlocks held, in task
/// context.
#[inline]
pub fn capable(cap: Capability) -> bool {
    // SAFETY: By its type invariants, the capability is one that the kernel knows.
    unsafe { bindings::capable(cap.0) }
}
