// SPDX-License-Identifier: GPL-2.0

//! The arithmetic of `RLIMIT_MEMLOCK`.
//!
//! [`memlock`](super::memlock) reads the limit and asks for the capability; what follows from them
//! is decided here. No kernel types: this is compiled and tested on the host too. All functions
//! are pure and may be called in any context.

use super::{
    abi::RLIM_INFINITY,
    range::PageCount, //
};

/// A value of `RLIMIT_MEMLOCK`.
///
/// A limit is not a count: it is only ever compared with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    bytes: usize,
}

impl Limit {
    /// Takes the limit as setrlimit(2) got it, in bytes.
    #[inline]
    pub(crate) const fn new(bytes: usize) -> Self {
        Self { bytes }
    }

    /// The limit in bytes, for an event.
    #[inline]
    pub(crate) const fn bytes(self) -> usize {
        self.bytes
    }

    /// Whether nothing at all may be locked, which is `EPERM` rather than `ENOMEM`.
    #[inline]
    pub(crate) const fn is_zero(self) -> bool {
        self.bytes == 0
    }

    /// Whether a process may have `total` pages locked. A limit that is not a multiple of the page
    /// size counts as the whole pages in it.
    #[inline]
    pub(crate) fn allows(self, total: PageCount) -> bool {
        total <= PageCount::of_bytes(self.bytes)
    }

    /// Whether a user may have `total` pages of shared memory locked, where `total` is what
    /// `inc_rlimit_ucounts()` returned: `isize::MAX` says that it overflowed, or that a user
    /// namespace has a lower limit.
    ///
    /// Two things differ from [`Limit::allows`], as in C: `RLIM_INFINITY` is not divided by the
    /// page size, and a negative `total`, which does not occur, would be taken for a very large
    /// one.
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
/// `limit` is `None` where it is not to be checked; it never is when subtracting. Wraps as the C
/// does. Returns the new count; `None`, which is `ENOMEM`, if it would exceed the limit.
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
