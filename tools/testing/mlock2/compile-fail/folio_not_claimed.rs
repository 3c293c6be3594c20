// SPDX-License-Identifier: GPL-2.0

//! Nor does the lock do without claiming the folio: what is put on a list is claimed, or new and in
//! a batch.

use kernel::mm::folio::{
    Folio,
    LruvecGuard,
    Mlocked, //
};

pub fn munlock(folio: Folio<'_>, lruvec: &mut LruvecGuard<'_>) {
    #[cfg(mistake)]
    // error: E0624 method `add_evictable` is private
    lruvec.add_evictable(folio);

    #[cfg(not(mistake))]
    lruvec.with_claimed(folio, |_| Mlocked::Cleared);
}
