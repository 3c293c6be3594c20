// SPDX-License-Identifier: GPL-2.0

//! Page arithmetic: from `addr` and `len` of a system call to whole pages.
//!
//! Bytes and pages have distinct types. Nothing here overflows by accident: a function that wraps
//! where the C wraps says so. This module uses no kernel types, so that it can be tested on the
//! host as well. All functions are pure and may be called in any context.

use super::abi::PAGE_SHIFT;

/// The size of a page in bytes.
pub(crate) const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

const OFFSET_MASK: usize = PAGE_SIZE - 1;

/// A number of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PageCount(usize);

impl PageCount {
    /// Takes a number that is in pages already, such as `mm->locked_vm`.
    #[inline]
    pub(crate) const fn new(pages: usize) -> Self {
        Self(pages)
    }

    /// The whole pages in a number of bytes.
    #[inline]
    pub(crate) const fn of_bytes(bytes: usize) -> Self {
        Self(bytes >> PAGE_SHIFT)
    }

    /// The pages that a number of bytes occupies, rounded up. Wraps to zero for a number within a
    /// page of `usize::MAX`, as `(size + PAGE_SIZE - 1) >> PAGE_SHIFT` does.
    #[inline]
    pub(crate) const fn covering_bytes(bytes: usize) -> Self {
        Self::of_bytes(bytes.wrapping_add(OFFSET_MASK))
    }

    /// The number itself.
    #[inline]
    pub(crate) const fn get(self) -> usize {
        self.0
    }

    /// Adds, wrapping as C's `unsigned long` does.
    #[inline]
    pub(crate) const fn wrapping_add(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// Subtracts, wrapping as C's `unsigned long` does.
    #[inline]
    pub(crate) const fn wrapping_sub(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }
}

/// The pages that a system call's `addr` and `len` touch.
///
/// # Invariants
///
/// `start` and `len` are multiples of the page size. `start + len` may overflow: see
/// [`PageRange::end`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageRange {
    start: usize,
    len: usize,
}

impl PageRange {
    /// Rounds `addr` down and `addr + len` up to whole pages; both in bytes.
    ///
    /// The length wraps as in C. Therefore `mlock(addr, ULONG_MAX)` locks nothing and succeeds if
    /// `addr` is the start of a page, and locks one page if `addr` is two bytes further on.
    #[inline]
    pub(crate) const fn new(addr: usize, len: usize) -> Self {
        let offset = addr & OFFSET_MASK;

        // INVARIANT: Both are masked.
        Self {
            start: addr & !OFFSET_MASK,
            len: len.wrapping_add(offset).wrapping_add(OFFSET_MASK) & !OFFSET_MASK,
        }
    }

    /// The first address, in bytes.
    #[inline]
    pub(crate) const fn start(&self) -> usize {
        self.start
    }

    /// The length in bytes.
    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The length in pages.
    #[inline]
    pub(crate) const fn pages(&self) -> PageCount {
        PageCount::of_bytes(self.len)
    }

    /// The first address after the range, in bytes.
    ///
    /// `None`, which stands for `EINVAL`, if the sum overflows.
    #[inline]
    pub(crate) const fn end(&self) -> Option<usize> {
        self.start.checked_add(self.len)
    }

    /// The first address after the range, in bytes, or `usize::MAX` if the sum overflows.
    #[inline]
    pub(crate) const fn saturating_end(&self) -> usize {
        self.start.saturating_add(self.len)
    }
}

/// The range to populate: `start..end` (bytes), which may be empty.
///
/// # Invariants
///
/// Both are multiples of the page size, provided that callers pass such.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PopulateRange {
    start: usize,
    end: usize,
}

impl PopulateRange {
    pub(crate) const NOTHING: Self = Self::new(0, 0);

    /// `start..end` (bytes), or nothing if `end` is not above `start`.
    #[inline(always)]
    pub(crate) const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// Whether there is nothing to populate.
    #[inline(always)]
    pub(crate) fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// The first address, in bytes.
    #[inline(always)]
    pub(crate) fn start(self) -> usize {
        self.start
    }

    /// The first address after the range, in bytes; 0 if nothing was added to [`Self::NOTHING`].
    #[inline(always)]
    pub(crate) fn end(self) -> usize {
        self.end
    }

    /// The length in bytes.
    #[inline(always)]
    pub(crate) fn len(self) -> usize {
        self.end.wrapping_sub(self.start)
    }

    /// Extends the range to include `start..end`, which must be above it, unless `start..end` is
    /// empty.
    #[inline(always)]
    pub(crate) fn add(&mut self, start: usize, end: usize) {
        if start < end {
            if self.is_empty() {
                self.start = start;
            }
            self.end = end;
        }
    }
}
