// SPDX-License-Identifier: GPL-2.0

//! To which list a folio goes follows from its flags and its mapping; nobody else says it.

use mm::folio::{
    Folio,
    LruvecGuard,
    Mlocked, //
};

pub fn munlock(folio: Folio<'_>, lruvec: &mut LruvecGuard<'_>) {
    #[cfg(mistake)]
    // error: E0624 method `add_evictable` is private
    lruvec.add_evictable(folio);

    #[cfg(not(mistake))]
    lruvec.munlock(folio, |_| Mlocked::Cleared);
}
