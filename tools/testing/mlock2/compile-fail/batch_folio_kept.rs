// SPDX-License-Identifier: GPL-2.0

//! A folio of a batch is not used after the batch is drained, which puts its reference.

use mm::folio_batch::{
    Entry,
    LocalBatch,
    TaskContext, //
};

pub fn last_size(context: &mut TaskContext<'_>) -> usize {
    let mut last = None;

    LocalBatch::lock(context).drain(|_, entry| {
        if let Entry::Mlock(folio) = entry {
            #[cfg(not(mistake))]
            let folio = folio.get();
            // error: E0521 borrowed data escapes outside of closure
            last = Some(folio);
        }
    });
    #[cfg(mistake)]
    return last.map_or(0, |folio: mm::folio::Folio<'_>| folio.nr_pages());
    #[cfg(not(mistake))]
    last.map_or(0, |folio| folio.folio().nr_pages())
}
