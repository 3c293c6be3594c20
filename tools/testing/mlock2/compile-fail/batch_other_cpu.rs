// SPDX-License-Identifier: GPL-2.0

//! The batch of this CPU does not leave it.

use kernel::mm::folio_batch::{
    LocalBatch,
    TaskContext, //
};

fn on_other_cpu(work: impl FnOnce(TaskContext) -> bool + Send, context: TaskContext) -> bool {
    work(context)
}

pub fn is_idle(context: TaskContext) -> bool {
    #[cfg(mistake)]
    let batch = LocalBatch::lock(context);
    let work = move |_here| {
        #[cfg(not(mistake))]
        let batch = LocalBatch::lock(_here);
        batch.is_empty()
    };
    // error: E0277 cannot be sent between threads safely
    on_other_cpu(work, context)
}
