// SPDX-License-Identifier: GPL-2.0

//! The batch of this CPU does not leave it.

use mm::folio_batch::{
    LocalBatch,
    TaskContext, //
};

fn on_other_cpu(
    work: impl FnOnce(&mut TaskContext<'_>) -> bool + Send,
    context: &mut TaskContext<'_>,
) -> bool {
    work(context)
}

pub fn is_idle(context: &mut TaskContext<'_>, other: &mut TaskContext<'_>) -> bool {
    #[cfg(mistake)]
    let batch = LocalBatch::lock(context);
    #[cfg(not(mistake))]
    let _ = context;
    let work = move |_here: &mut TaskContext<'_>| {
        #[cfg(not(mistake))]
        let batch = LocalBatch::lock(_here);
        batch.is_empty()
    };
    // error: E0277 cannot be sent between threads safely
    on_other_cpu(work, other)
}
