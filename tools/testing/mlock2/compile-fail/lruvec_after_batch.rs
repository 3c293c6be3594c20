// SPDX-License-Identifier: GPL-2.0

//! An lruvec is not locked for longer than the batch is.

use mm::folio_batch::LocalBatch;

pub fn unlock(batch: &mut LocalBatch<'_>) {
    let mut late = None;
    batch.with_lruvec(|_, lruvec| {
        #[cfg(not(mistake))]
        let lruvec = lruvec.unlock();
        // error: E0521 borrowed data escapes outside of closure
        late.replace(lruvec);
    });
    let _ = late.is_some();
}
