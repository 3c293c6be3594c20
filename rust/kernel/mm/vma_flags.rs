// SPDX-License-Identifier: GPL-2.0

//! The flags of a vma.
//!
//! The kernel keeps the flags of a vma in a bitmap, `vma_flags_t`. Only the `vma_flags_*()`
//! functions may look into it, so that it can grow past one word. [`VmaFlags`] is the same for
//! Rust: a set that is compared, joined and masked as a whole.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use crate::{
    bindings,
    mm::virt::VmaRef, //
};
use core::ops::BitOr;

/// The number of words in a `vma_flags_t`.
const WORDS: usize = bindings::NUM_VMA_FLAG_BITS as usize / usize::BITS as usize;

/// A set of vma flags, the kernel's `vma_flags_t`.
///
/// The only sets that can be made from nothing are those of the constants below; any other flag
/// comes from a vma, or from C. All operations are pure and may be called in any context.
///
/// # Examples
///
/// ```
/// use kernel::mm::vma_flags::VmaFlags;
///
/// let on_fault = VmaFlags::LOCKED_ONFAULT;
/// assert!(on_fault.contains(VmaFlags::LOCKED));
/// assert!(VmaFlags::NONE.with_lock(on_fault) == on_fault);
/// assert!(on_fault.with_lock(VmaFlags::NONE) == VmaFlags::NONE);
/// ```
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct VmaFlags(bindings::vma_flags_t);

impl VmaFlags {
    /// No flag.
    pub const NONE: Self = Self::from_words([0; WORDS]);

    /// `VMA_LOCKED_BIT`: the pages of the vma are locked in memory.
    pub const LOCKED: Self = Self::from_bit(bindings::VMA_LOCKED_BIT);

    /// `VMA_LOCKED_BIT` and `VMA_LOCKONFAULT_BIT`: a page is locked when it is first used. The
    /// second means nothing without the first, so there is no constant for it alone.
    pub const LOCKED_ONFAULT: Self = Self::from_words(Self::LOCKED_MASK);

    /// `VMA_IO_BIT`: memory mapped I/O, or a vma whose pages are being locked right now.
    pub const IO: Self = Self::from_bit(bindings::VMA_IO_BIT);

    // `VMA_LOCKED_MASK`.
    const LOCKED_MASK: [usize; WORDS] = {
        let mut words = Self::LOCKED.0.__vma_flags;
        words[(bindings::VMA_LOCKONFAULT_BIT / usize::BITS) as usize] |=
            1 << (bindings::VMA_LOCKONFAULT_BIT % usize::BITS);
        words
    };

    const fn from_words(words: [usize; WORDS]) -> Self {
        Self(bindings::vma_flags_t { __vma_flags: words })
    }

    // Evaluated at compile time only: a bit out of range does not compile.
    const fn from_bit(bit: u32) -> Self {
        let mut words = [0; WORDS];
        words[(bit / usize::BITS) as usize] = 1 << (bit % usize::BITS);
        Self::from_words(words)
    }

    /// Wraps the flags of C code.
    #[inline]
    pub fn from_raw(flags: bindings::vma_flags_t) -> Self {
        Self(flags)
    }

    /// Returns the flags in the form that C code takes.
    #[inline]
    pub fn into_raw(self) -> bindings::vma_flags_t {
        self.0
    }

    #[inline]
    fn zip(self, other: Self, f: impl Fn(usize, usize) -> usize) -> Self {
        let mut words = self.0.__vma_flags;
        for (word, with) in words.iter_mut().zip(other.0.__vma_flags) {
            *word = f(*word, with);
        }
        Self::from_words(words)
    }

    /// Returns whether every flag of `other` is in this set, as `vma_flags_test_all_mask()`.
    #[inline]
    pub fn contains(self, other: Self) -> bool {
        self.zip(other, |a, b| a & b) == other
    }

    /// Returns the set without the flags of `other`, as `vma_flags_clear_mask()`.
    #[inline]
    fn without(self, other: Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    /// Returns the set with its lock flags, those of `VMA_LOCKED_MASK`, replaced by those of
    /// `lock`. Other flags in `lock` are ignored.
    #[inline]
    pub fn with_lock(self, lock: Self) -> Self {
        let mask = Self::LOCKED_ONFAULT;
        self.without(mask) | lock.zip(mask, |a, b| a & b)
    }
}

impl BitOr for VmaFlags {
    type Output = Self;

    /// Joins two sets, as `vma_flags_set_mask()`.
    #[inline]
    fn bitor(self, other: Self) -> Self {
        self.zip(other, |a, b| a | b)
    }
}

impl PartialEq for VmaFlags {
    /// Compares two sets, as `vma_flags_same_pair()`.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.0.__vma_flags == other.0.__vma_flags
    }
}

impl Eq for VmaFlags {}

impl VmaRef {
    /// Returns the flags of the vma as a set.
    #[inline]
    pub fn vma_flags(&self) -> VmaFlags {
        // SAFETY: By the type invariants, the vma is valid and at least the mmap or vma read lock
        // is held. That excludes all writers of flags except `vma_set_atomic_flag()`, which sets
        // one bit atomically, so a concurrent read sees the word with or without that bit. Both
        // members of the union are plain words, for which any value is valid.
        VmaFlags::from_raw(unsafe {
            (&raw const (*self.as_ptr()).__bindgen_anon_2.flags).read_volatile()
        })
    }
}
