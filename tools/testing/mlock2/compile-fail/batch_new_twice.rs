// SPDX-License-Identifier: GPL-2.0

//! A folio goes to the LRU lists for the first time once.

use mm::{
    folio::NewFolio,
    folio_batch::{
        LocalBatch,
        TaskContext, //
    },
};

pub fn add(new: NewFolio<'_>, context: &mut TaskContext<'_>) {
    let batch = LocalBatch::lock(context);

    batch.push_mlock_new(new);
    #[cfg(mistake)]
    // error: E0382 use of moved value: `new`
    batch.push_mlock_new(new);
}
