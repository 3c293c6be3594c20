// SPDX-License-Identifier: GPL-2.0

//! Nor after the marker is gone that keeps migration from counting pages twice.

use mm::{
    folio_batch::TaskContext,
    mmap_write::ModifiedVma,
    pagewalk::{
        Table,
        VisitTable, //
    },
};

struct Nothing;

impl VisitTable for Nothing {
    fn visit(&mut self, _: Table<'_>, _: &mut TaskContext<'_>) {}
}

pub fn lock(vma: ModifiedVma<'_>) {
    let mut published = None;

    vma.publish_lock_flags(|vma| {
        vma.walk_tables(&mut Nothing);
        #[cfg(not(mistake))]
        let vma = vma.start();
        // error: E0521 borrowed data escapes outside of closure
        published = Some(vma);
    });

    #[cfg(mistake)]
    let _ = published.map(|vma| vma.walk_tables(&mut Nothing));
    #[cfg(not(mistake))]
    let _ = published;
}
