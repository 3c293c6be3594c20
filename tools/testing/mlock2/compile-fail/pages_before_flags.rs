// SPDX-License-Identifier: GPL-2.0

//! The pages of a vma follow when its flags can be seen, not before.

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
    #[cfg(mistake)]
    // error: E0599 no method named `walk_tables` found for struct `ModifiedVma
    vma.walk_tables(&mut Nothing);

    vma.publish_lock_flags(|vma| {
        vma.walk_tables(&mut Nothing);
    });
}
