// SPDX-License-Identifier: GPL-2.0

//! Nor after the marker is gone that keeps migration from counting pages twice.

use kernel::mm::{
    mmap_write::ModifiedVma,
    vma_flags::VmaFlags, //
};

pub fn lock(vma: ModifiedVma<'_>, start: usize, end: usize) {
    let mut published = None;

    vma.publish_lock_flags(VmaFlags::LOCKED, |vma| {
        let _ = vma.walk_tables(start, end, |_, _| ());
        #[cfg(not(mistake))]
        let vma = vma.vma().start();
        // error: E0521 borrowed data escapes outside of closure
        published = Some(vma);
    });

    #[cfg(mistake)]
    let _ = published.map(|vma| vma.walk_tables(start, end, |_, _| ()));
    #[cfg(not(mistake))]
    let _ = published;
}
