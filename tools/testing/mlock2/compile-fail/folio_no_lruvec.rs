// SPDX-License-Identifier: GPL-2.0

//! To move a folio to another LRU list takes its lruvec's lock.

use kernel::mm::folio::{
    Fate,
    Folio,
    LruvecGuard, //
};

pub fn cull(folio: &Folio, lruvec: &mut LruvecGuard) {
    #[cfg(mistake)]
    let _ = lruvec;
    #[cfg(mistake)]
    // error: E0599 no method named `with_claimed` found for reference `&Folio`
    folio.with_claimed(|_| Fate::Culled);

    #[cfg(not(mistake))]
    lruvec.with_claimed(folio, |_| Fate::Culled);
}
