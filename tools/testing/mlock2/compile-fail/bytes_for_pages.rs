// SPDX-License-Identifier: GPL-2.0

//! A number of bytes is no number of pages.

mod abi {
    pub(crate) const PAGE_SHIFT: usize = 12;
    pub(crate) const RLIM_INFINITY: usize = usize::MAX;
}
#[path = "../../../../mm/mlock2/limit.rs"]
mod limit;
#[path = "../../../../mm/mlock2/range.rs"]
mod range;

use limit::Limit;
use range::PageRange;

pub fn may_lock(addr: usize, len: usize, limit: usize) -> bool {
    let range = PageRange::new(addr, len);

    #[cfg(mistake)]
    let needed = range.len();
    #[cfg(not(mistake))]
    let needed = range.pages();

    // error: E0308 expected `PageCount`, found `usize`
    Limit::new(limit).allows(needed)
}
