// SPDX-License-Identifier: GPL-2.0

//! Host tests of `request`, `range` and `limit` in `mm/mlock2/`, which know no kernel types.
//!
//! The modules are compiled here as they stand, with an `abi` of the host around them. Each test
//! compares them with an oracle: what the C function that it names does, told another way. Where
//! the C wraps around, the oracles calculate in integers that do not, and take the remainder.
//!
//! What depends on the page size, or on the flags' values, is compiled and tested once for each, and
//! what depends on the width of `unsigned long` is tested for that of the host.

#![cfg(test)]
// The same file is a module of its own for each page size.
#![expect(clippy::duplicate_mod)]

mod values;

/// `request`, with flags of mlockall(2) as an architecture has them.
macro_rules! with_flags {
    ($name:ident, $current:literal, $future:literal, $onfault:literal) => {
        #[path = "."]
        mod $name {
            mod abi {
                pub(crate) const MLOCK_ONFAULT: i32 = 1;
                pub(crate) const MCL_CURRENT: i32 = $current;
                pub(crate) const MCL_FUTURE: i32 = $future;
                pub(crate) const MCL_ONFAULT: i32 = $onfault;
            }

            #[path = "../../../../mm/mlock2/request.rs"]
            mod request;
            mod request_test;
        }
    };
}

with_flags!(flags, 1, 2, 4);
with_flags!(flags_of_powerpc, 0x2000, 0x4000, 0x8000);

/// `range` and `limit`, for pages of `1 << $shift` bytes.
macro_rules! with_page_shift {
    ($name:ident, $shift:literal) => {
        #[path = "."]
        mod $name {
            mod abi {
                pub(crate) const PAGE_SHIFT: usize = $shift;
                /// As most architectures have it, in `include/uapi/asm-generic/resource.h`.
                pub(crate) const RLIM_INFINITY: usize = usize::MAX;
            }

            #[path = "../../../../mm/mlock2/limit.rs"]
            mod limit;
            mod limit_test;
            #[path = "../../../../mm/mlock2/range.rs"]
            mod range;
            mod range_test;
        }
    };
}

with_page_shift!(pages_4k, 12);
with_page_shift!(pages_16k, 14);
with_page_shift!(pages_64k, 16);
