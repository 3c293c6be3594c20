// SPDX-License-Identifier: GPL-2.0

//! The guard of an lruvec lock comes from a batch that is locked: one that is made elsewhere could
//! wait for another, or turn interrupts on too early.

use mm::{
    folio::LruvecGuard,
    folio_batch::LocalBatch, //
};

pub fn unlock(batch: &mut LocalBatch<'_>) {
    #[cfg(mistake)]
    let _ = batch;
    #[cfg(mistake)]
    // error: E0624 associated function `with` is private
    LruvecGuard::with(|lruvec| lruvec.unlock());

    #[cfg(not(mistake))]
    batch.with_lruvec(|_, lruvec: &mut LruvecGuard<'_>| lruvec.unlock());
}
