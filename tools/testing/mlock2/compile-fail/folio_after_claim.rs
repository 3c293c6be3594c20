// SPDX-License-Identifier: GPL-2.0

//! Once the claim has ended, the folio is not moved any more.

use kernel::mm::folio::{
    Fate,
    Folio,
    LruvecGuard, //
};

pub fn cull(folio: &Folio, lruvec: &mut LruvecGuard) {
    let mut late = None;

    lruvec.with_claimed(folio, |folio| {
        #[cfg(mistake)]
        // error: E0521 borrowed data escapes outside of closure
        late.replace(folio);
        #[cfg(not(mistake))]
        late.replace(folio.nr_pages());
        Fate::Culled
    });
    let _: bool = late.is_some();
}
