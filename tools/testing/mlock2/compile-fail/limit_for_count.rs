// SPDX-License-Identifier: GPL-2.0

//! A limit is no count: it is asked what it allows, and nothing is added to it.

mod abi {
    pub(crate) const PAGE_SHIFT: usize = 12;
    pub(crate) const RLIM_INFINITY: usize = usize::MAX;
}
#[path = "../../../../mm/mlock2/limit.rs"]
mod limit;
#[path = "../../../../mm/mlock2/range.rs"]
mod range;

use limit::Limit;
use range::PageCount;

pub fn may_lock(locked: usize, limit: usize) -> bool {
    let (locked, limit) = (PageCount::new(locked), Limit::new(limit));

    #[cfg(mistake)]
    // error: E0308 expected `PageCount`, found `Limit`
    let allowed = locked <= limit;
    #[cfg(not(mistake))]
    let allowed = limit.allows(locked);

    allowed
}
