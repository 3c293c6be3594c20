// SPDX-License-Identifier: GPL-2.0

//! Who visits a page table cannot use the vma meanwhile, so not start another walk either: that
//! would sleep, with the table locked.

use kernel::mm::mmap_write::PublishedVma;

pub fn walk(vma: &mut PublishedVma<'_>, tables: &mut [usize]) {
    #[cfg(mistake)]
    // error: E0502 cannot borrow `*vma` as mutable because it is also borrowed as immutable
    vma.walk_tables(|_, _| tables.fill(vma.start()));

    let start = vma.start();
    vma.walk_tables(|_, _| tables.fill(start));
}
