// SPDX-License-Identifier: GPL-2.0

//! A batch is not drained while its owner has an lruvec locked, which draining may have to wait for.

use mm::folio_batch::LocalBatch;

pub fn drain(batch: &mut LocalBatch<'_>) {
    batch.with_lruvec(|batch, lruvec| {
        lruvec.unlock();
        #[cfg(mistake)]
        // error: E0599 no method named `drain` found for struct `BatchSpace
        batch.drain(|_, _| ());
        let _ = batch;
    });
    batch.drain(|_, _| ());
}
