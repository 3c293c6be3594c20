// SPDX-License-Identifier: GPL-2.0

//! Whoever walks the pages of a vma cannot unmap them meanwhile.

use mm::{
    folio_batch::TaskContext,
    mmap_write::{
        PublishedVma,
        VmaMut, //
    },
    pagewalk::{
        Table,
        VisitTable, //
    },
};

struct Nothing;

impl VisitTable for Nothing {
    fn visit(&mut self, _: Table<'_>, _: &mut TaskContext<'_>) {}
}

pub fn before(vma: &VmaMut<'_>) {
    vma.zap_vma_range(vma.start(), vma.end() - vma.start());
}

pub fn during(vma: &mut PublishedVma<'_>) {
    #[cfg(mistake)]
    // error: E0599 no method named `zap_vma_range` found
    vma.zap_vma_range(vma.start(), vma.end() - vma.start());

    vma.walk_tables(&mut Nothing);
}
