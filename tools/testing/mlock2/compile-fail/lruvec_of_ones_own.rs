// SPDX-License-Identifier: GPL-2.0

//! The guard of an lruvec lock comes from a walk or a batch: one that is made elsewhere could be
//! dropped before another that was made later, and turn interrupts on too early.

use kernel::mm::{
    folio::LruvecGuard,
    mmap_write::PublishedVma, //
};

pub fn unlock(vma: &mut PublishedVma<'_>) {
    vma.walk_tables(|_, lruvec, _| {
        #[cfg(mistake)]
        let _ = lruvec;
        #[cfg(mistake)]
        // error: E0624 associated function `new` is private
        let lruvec = &mut LruvecGuard::new();

        let lruvec: &mut LruvecGuard = lruvec;
        lruvec.unlock();
    });
}
