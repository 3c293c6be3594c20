// SPDX-License-Identifier: GPL-2.0

//! Who has this CPU's batch locked does not lock it again, nor call what does.

use mm::folio_batch::{
    lru_add_drain,
    LocalBatch,
    TaskContext, //
};

pub fn drain(context: &mut TaskContext<'_>) -> bool {
    let batch = LocalBatch::lock(context);
    #[cfg(mistake)]
    // error: E0499 cannot borrow `*context` as mutable more than once at a time
    lru_add_drain(context);
    let idle = batch.is_empty();
    drop(batch);

    lru_add_drain(context);
    idle
}
