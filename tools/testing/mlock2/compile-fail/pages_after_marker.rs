// SPDX-License-Identifier: GPL-2.0

//! Nor after the marker is gone that keeps migration from counting pages twice.

use kernel::mm::mmap_write::ModifiedVma;

pub fn lock(vma: ModifiedVma<'_>) {
    let mut published = None;

    vma.publish_lock_flags(|vma| {
        vma.walk_tables(|_, _| ());
        #[cfg(not(mistake))]
        let vma = vma.start();
        // error: E0521 borrowed data escapes outside of closure
        published = Some(vma);
    });

    #[cfg(mistake)]
    let _ = published.map(|vma| vma.walk_tables(|_, _| ()));
    #[cfg(not(mistake))]
    let _ = published;
}
