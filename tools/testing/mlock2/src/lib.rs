// SPDX-License-Identifier: GPL-2.0

//! Host tests of `request`, `range` and `limit` in `mm/mlock2/`, which know no kernel types.
//!
//! The modules are compiled here as they stand, with an `abi` of the host around them. Each test
//! compares them with an oracle: what the C function that it names does, told another way. Where
//! the C wraps around, the oracles calculate in integers that do not, and take the remainder.
//!
//! What depends on the page size is compiled and tested once for each size, and what depends on
//! the width of `unsigned long` is tested for that of the host.

#![cfg(test)]
// The same file is a module of its own for each page size.
#![expect(clippy::duplicate_mod)]

mod values;

/// `request`, which does not depend on the page size.
#[path = "."]
mod flags {
    mod abi {
        pub(crate) const MLOCK_ONFAULT: i32 = libc::MLOCK_ONFAULT as i32;
        pub(crate) use libc::{
            MCL_CURRENT,
            MCL_FUTURE,
            MCL_ONFAULT, //
        };
    }

    #[path = "../../../../mm/mlock2/request.rs"]
    mod request;
    mod request_test;
}

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
