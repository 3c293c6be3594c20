// SPDX-License-Identifier: GPL-2.0

//! Two guards of lruvec locks are not swapped: each would unlock with the other's interrupt flags.

use mm::folio_batch::LocalBatch;

pub fn swap(first: &mut LocalBatch<'_>, second: &mut LocalBatch<'_>) {
    first.with_lruvec(|_, outer| {
        second.with_lruvec(|_, inner| {
            #[cfg(mistake)]
            // error: E0521 borrowed data escapes outside of closure
            core::mem::swap(outer, inner);
            outer.unlock();
            inner.unlock();
        });
    });
}
