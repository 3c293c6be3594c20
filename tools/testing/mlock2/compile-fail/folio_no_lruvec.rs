// SPDX-License-Identifier: GPL-2.0

//! To move a folio to another LRU list takes its lruvec's lock.

use mm::folio::{
    Folio,
    LruvecGuard,
    Mlocked, //
};

pub fn munlock(folio: Folio<'_>, lruvec: &mut LruvecGuard<'_>) {
    #[cfg(mistake)]
    let _ = lruvec;
    #[cfg(mistake)]
    // error: E0599 no method named `munlock` found for struct `Folio<'f>`
    folio.munlock(|_| Mlocked::Cleared);

    #[cfg(not(mistake))]
    lruvec.munlock(folio, |_| Mlocked::Cleared);
}
