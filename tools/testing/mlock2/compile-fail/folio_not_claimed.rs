// SPDX-License-Identifier: GPL-2.0

//! Nor does the lock do without claiming the folio: what is put on a list is claimed, or new.

use kernel::mm::folio::{
    Fate,
    Folio,
    LruvecGuard, //
};

pub fn cull(folio: &Folio, lruvec: &mut LruvecGuard) {
    #[cfg(mistake)]
    // error: E0308 expected `NewFolio<'_>`, found `&Folio`
    lruvec.add_new(folio, |_| true);

    #[cfg(not(mistake))]
    lruvec.with_claimed(folio, |_| Fate::Culled);
}
