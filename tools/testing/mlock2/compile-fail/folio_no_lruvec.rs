// SPDX-License-Identifier: GPL-2.0

//! To move a folio to another LRU list takes its lruvec's lock.

use kernel::mm::folio::{
    Folio,
    LruvecGuard, //
};

pub fn cull(folio: &Folio, lruvec: &mut LruvecGuard) {
    #[cfg(mistake)]
    let _ = lruvec;
    #[cfg(mistake)]
    // error: E0599 no method named `make_unevictable` found for reference `&Folio`
    folio.make_unevictable();

    #[cfg(not(mistake))]
    lruvec.with_claimed(folio, |folio| folio.make_unevictable());
}
