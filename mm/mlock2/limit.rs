// SPDX-License-Identifier: GPL-2.0

//! The arithmetic of `RLIMIT_MEMLOCK`.
//!
//! [`memlock`](super::memlock) reads the limit and checks the capability; this module decides what
//! follows from them. It uses no kernel types, so that it can be tested on the host as well. All
//! functions are pure and may be called in any context.

use super::{
    abi::RLIM_INFINITY,
    range::PageCount, //
};

/// A value of `RLIMIT_MEMLOCK`.
///
/// A limit is not a count: it can only be compared with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    bytes: usize,
}

impl Limit {
    /// Takes a limit in bytes, as passed to setrlimit(2).
    #[inline]
    pub(crate) const fn new(bytes: usize) -> Self {
        Self { bytes }
    }

    /// The limit in bytes, for an event.
    #[inline]
    pub(crate) const fn bytes(self) -> usize {
        self.bytes
    }

    /// Returns whether nothing may be locked, for which the error is `EPERM` rather than `ENOMEM`.
    #[inline]
    pub(crate) const fn is_zero(self) -> bool {
        self.bytes == 0
    }

    /// Returns whether a process may have `total` pages locked. A limit that is not a multiple of
    /// the page size is rounded down.
    #[inline]
    pub(crate) fn allows(self, total: PageCount) -> bool {
        total <= PageCount::of_bytes(self.bytes)
    }

    /// Returns whether a user may have `total` pages of shared memory locked. `total` is the result
    /// of `inc_rlimit_ucounts()`: `isize::MAX` means an overflow, or that a user namespace has a
    /// lower limit.
    ///
    /// Two things differ from [`Limit::allows`], as in C: `RLIM_INFINITY` is not divided by the
    /// page size, and a negative `total`, which does not occur, would count as a very large one.
    #[inline]
    pub(crate) fn allows_user(self, total: isize) -> bool {
        let max = if self.bytes == RLIM_INFINITY {
            PageCount::new(self.bytes)
        } else {
            PageCount::of_bytes(self.bytes)
        };
        total != isize::MAX && PageCount::new(total as usize) <= max
    }
}

/// Adds to or subtracts from the locked pages of a process, for `__account_locked_vm()`.
///
/// `limit` is `None` if there is no limit to check; subtracting never checks. Wraps as the C does.
/// Returns the new count, or `None`, which stands for `ENOMEM`, if it would exceed the limit.
#[inline]
pub(crate) fn account(
    locked: PageCount,
    pages: PageCount,
    inc: bool,
    limit: Option<Limit>,
) -> Option<PageCount> {
    if !inc {
        return Some(locked.wrapping_sub(pages));
    }

    let total = locked.wrapping_add(pages);
    match limit {
        Some(limit) if !limit.allows(total) => None,
        _ => Some(total),
    }
}
