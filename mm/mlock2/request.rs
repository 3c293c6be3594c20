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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LockAll {
    /// What becomes of the vmas that there are; `None` leaves them alone.
    pub(crate) current: Option<LockMode>,
    /// How the vmas to come start out.
    pub(crate) future: LockMode,
}

impl LockAll {
    /// What munlockall(2) asks for.
    pub(crate) const UNLOCK: Self = Self {
        current: Some(LockMode::Unlocked),
        future: LockMode::Unlocked,
    };

    /// Parses the `flags` of mlockall(2).
    ///
    /// A call without `MCL_FUTURE` makes later vmas start unlocked, whatever an earlier call said:
    /// the calls do not add up.
    ///
    /// `None`, which is `EINVAL`, for an unknown flag, and unless `MCL_CURRENT`, `MCL_FUTURE` or
    /// both are given.
    pub(crate) fn from_mlockall_flags(flags: i32) -> Option<Self> {
        if flags & !(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0
            || flags & (MCL_CURRENT | MCL_FUTURE) == 0
        {
            return None;
        }

        let mode = if flags & MCL_ONFAULT != 0 {
            LockMode::OnFault
        } else {
            LockMode::Locked
        };

        Some(Self {
            current: (flags & MCL_CURRENT != 0).then_some(mode),
            future: if flags & MCL_FUTURE != 0 {
                mode
            } else {
                LockMode::Unlocked
            },
        })
    }
}
