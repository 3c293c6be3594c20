// SPDX-License-Identifier: GPL-2.0

//! What a caller asks for: the flag words of mlock2(2) and mlockall(2).
//!
//! Parsing is the only way from a flag word to a [`LockMode`], so code below this module never
//! sees flags that the ABI does not know. No kernel types here: this is compiled and tested on the
//! host too. All functions are pure and may be called in any context.

use super::abi::{
    MCL_CURRENT,
    MCL_FUTURE,
    MCL_ONFAULT,
    MLOCK_ONFAULT, //
};

/// How the pages of a vma are locked.
///
/// This is all that `VMA_LOCKED_BIT` and `VMA_LOCKONFAULT_BIT` can mean: the second is never set
/// without the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockMode {
    /// Not locked.
    Unlocked,
    /// Locked, and faulted in by the call.
    Locked,
    /// Locked when they are first used.
    OnFault,
}

impl LockMode {
    /// Parses the `flags` of mlock2(2).
    ///
    /// `None`, which is `EINVAL`, for any flag but `MLOCK_ONFAULT`.
    pub(crate) fn from_mlock2_flags(flags: i32) -> Option<Self> {
        match flags {
            0 => Some(Self::Locked),
            MLOCK_ONFAULT => Some(Self::OnFault),
            _ => None,
        }
    }
}

/// What mlockall(2) or munlockall(2) is to do.
///
/// # Invariants
///
/// These are flags that mlockall(2) takes, or 0, which stands for munlockall(2), as in
/// `apply_mlockall_flags()` of the C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LockAll(i32);

impl LockAll {
    /// What munlockall(2) asks for.
    // INVARIANT: It is 0.
    pub(crate) const UNLOCK: Self = Self(0);

    /// Takes the `flags` of mlockall(2).
    ///
    /// `None`, which is `EINVAL`, for an unknown flag, and unless `MCL_CURRENT`, `MCL_FUTURE` or
    /// both are given.
    #[inline]
    pub(crate) fn from_mlockall_flags(flags: i32) -> Option<Self> {
        if flags & !(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0
            || flags & (MCL_CURRENT | MCL_FUTURE) == 0
        {
            return None;
        }
        // INVARIANT: We just looked.
        Some(Self(flags))
    }

    /// The flags.
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

    /// What becomes of the vmas that there are; `None` leaves them alone.
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

    /// How the vmas to come start out.
    ///
    /// A call without `MCL_FUTURE` makes later vmas start unlocked, whatever an earlier call said:
    /// the calls do not add up.
    #[inline]
    pub(crate) fn future(self) -> LockMode {
        if self.0 & MCL_FUTURE != 0 {
            self.mode()
        } else {
            LockMode::Unlocked
        }
    }
}
