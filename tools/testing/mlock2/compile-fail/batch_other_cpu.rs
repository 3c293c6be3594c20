// SPDX-License-Identifier: GPL-2.0

//! The batch of this CPU does not leave it.

use kernel::mm::folio_batch::LocalBatch;

fn on_other_cpu(work: impl FnOnce() -> bool + Send) -> bool {
    work()
}

pub fn is_idle() -> bool {
    #[cfg(mistake)]
    let batch = LocalBatch::lock();
    // error: E0277 cannot be sent between threads safely
    on_other_cpu(move || {
        #[cfg(not(mistake))]
        let batch = LocalBatch::lock();
        batch.is_empty()
    })
}
