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
/// The number is a capability for which `cap_valid()` is true: `capable()` crashes for any other.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Capability(c_int);

impl Capability {
    /// `CAP_IPC_LOCK`: permits locking memory beyond the limit.
    // INVARIANT: `CAP_IPC_LOCK` is valid.
    pub const IPC_LOCK: Self = Self(bindings::CAP_IPC_LOCK as c_int);
}

/// Returns whether the current task has a capability in the initial user namespace.
///
/// As `capable()`, marks the task as having used the privilege if it has it, and may write an audit
/// record if not: call this only where the result matters. May be called in task context with
/// spinlocks held.
#[inline]
pub fn capable(cap: Capability) -> bool {
    // SAFETY: By its type invariants, the capability is valid.
    unsafe { bindings::capable(cap.0) }
}
