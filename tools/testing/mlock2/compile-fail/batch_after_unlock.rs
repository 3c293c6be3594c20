// SPDX-License-Identifier: GPL-2.0

//! The batch of this CPU is not touched after its lock is dropped.

use mm::folio_batch::{
    FolioBatch,
    LocalBatch,
    TaskContext, //
};

pub fn is_idle(context: &mut TaskContext<'_>) -> bool {
    let lock = LocalBatch::lock(context);
    let batch: &FolioBatch<'_> = &lock;
    let idle = batch.is_empty();
    // error: E0505 cannot move out of `lock` because it is borrowed
    drop(lock);

    #[cfg(mistake)]
    let idle = batch.is_empty();
    idle
}
