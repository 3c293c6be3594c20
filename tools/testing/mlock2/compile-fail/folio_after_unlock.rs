// SPDX-License-Identifier: GPL-2.0

//! Once the lruvec may be unlocked, the count of a folio is not changed any more.

use mm::folio::{
    Folio,
    LruvecGuard,
    Mlocked, //
};

pub fn count(folio: Folio<'_>, lruvec: &mut LruvecGuard<'_>) {
    let mut late = None;

    lruvec.munlock(folio, |folio| {
        #[cfg(mistake)]
        // error: E0521 borrowed data escapes outside of closure
        late.replace(folio);
        #[cfg(not(mistake))]
        late.replace(folio.dec_mlock_count());
        Mlocked::Kept
    });
    let _: bool = late.is_some();
}
