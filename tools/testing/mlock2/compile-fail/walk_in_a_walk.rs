// SPDX-License-Identifier: GPL-2.0

//! Who visits a page table cannot use the vma meanwhile, so not start another walk either: that
//! would sleep, with the table locked.

use mm::{
    folio_batch::TaskContext,
    mmap_write::PublishedVma,
    pagewalk::{
        Table,
        VisitTable, //
    },
};

struct Fill<'f, S: Fn() -> usize>(&'f mut [usize], S);

impl<S: Fn() -> usize> VisitTable for Fill<'_, S> {
    fn visit(&mut self, _: Table<'_>, _: &mut TaskContext<'_>) {
        self.0.fill(self.1());
    }
}

pub fn walk(vma: &mut PublishedVma<'_>, tables: &mut [usize]) {
    #[cfg(mistake)]
    // error: E0502 cannot borrow `*vma` as mutable because it is also borrowed as immutable
    vma.walk_tables(&mut Fill(tables, || vma.start()));

    let start = vma.start();
    vma.walk_tables(&mut Fill(tables, || start));
}
