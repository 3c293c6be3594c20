// SPDX-License-Identifier: GPL-2.0

//! The flags of mlock2(2) and mlockall(2).
//!
//! Parsing is the only way from a flag word to a [`LockMode`], so code below this module never sees
//! unknown flags. This module uses no kernel types, so that it can be tested on the host as well.
//! All functions are pure and may be called in any context.

use super::abi::{
    MCL_CURRENT,
    MCL_FUTURE,
    MCL_ONFAULT,
    MLOCK_ONFAULT, //
};

/// How the pages of a vma are locked.
///
/// These are the valid combinations of `VMA_LOCKED_BIT` and `VMA_LOCKONFAULT_BIT`: the second is
/// never set without the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockMode {
    /// Not locked.
    Unlocked,
    /// Locked, and faulted in by the call.
    Locked,
    /// Each page is locked at its first use.
    OnFault,
}

impl LockMode {
    /// Parses the `flags` of mlock2(2).
    ///
    /// Returns `None`, which stands for `EINVAL`, for any flag but `MLOCK_ONFAULT`.
    pub(crate) fn from_mlock2_flags(flags: i32) -> Option<Self> {
        match flags {
            0 => Some(Self::Locked),
            MLOCK_ONFAULT => Some(Self::OnFault),
            _ => None,
        }
    }
}

/// A request of mlockall(2) or munlockall(2).
///
/// # Invariants
///
/// The flags are valid for mlockall(2), or 0, which stands for munlockall(2), as in
/// `apply_mlockall_flags()` of the C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LockAll(i32);

impl LockAll {
    /// The request of munlockall(2).
    // INVARIANT: The flags are 0.
    pub(crate) const UNLOCK: Self = Self(0);

    /// Parses the `flags` of mlockall(2).
    ///
    /// Returns `None`, which stands for `EINVAL`, for an unknown flag, and if neither `MCL_CURRENT`
    /// nor `MCL_FUTURE` is set.
    #[inline]
    pub(crate) fn from_mlockall_flags(flags: i32) -> Option<Self> {
        if flags & !(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0
            || flags & (MCL_CURRENT | MCL_FUTURE) == 0
        {
            return None;
        }
        // INVARIANT: Just checked.
        Some(Self(flags))
    }

    /// The flags, 0 for munlockall(2).
    #[inline]
    pub(crate) fn flags(self) -> i32 {
        self.0
    }

    #[inline]
    fn mode(self) -> LockMode {
        if self.0 & MCL_ONFAULT != 0 {
            LockMode::OnFault
        } else {
            LockMode::Locked
        }
    }

    /// The mode of the existing vmas; `None` leaves them alone.
    #[inline]
    pub(crate) fn current(self) -> Option<LockMode> {
        if self.0 & MCL_CURRENT != 0 {
            Some(self.mode())
        } else if self.0 & MCL_FUTURE != 0 {
            None
        } else {
            Some(LockMode::Unlocked)
        }
    }

    /// The mode of new vmas.
    ///
    /// A call without `MCL_FUTURE` makes later vmas start unlocked, whatever an earlier call set:
    /// the calls do not accumulate.
    #[inline]
    pub(crate) fn future(self) -> LockMode {
        if self.0 & MCL_FUTURE != 0 {
            self.mode()
        } else {
            LockMode::Unlocked
        }
    }
}
