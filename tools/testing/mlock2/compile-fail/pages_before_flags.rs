// SPDX-License-Identifier: GPL-2.0

//! The pages of a vma follow when its flags can be seen, not before.

use kernel::mm::{
    mmap_write::ModifiedVma,
    vma_flags::VmaFlags, //
};

pub fn lock(vma: ModifiedVma<'_>, start: usize, end: usize) {
    #[cfg(mistake)]
    // error: E0599 no method named `walk_tables` found for struct `ModifiedVma
    let _ = vma.walk_tables(start, end, |_, _| ());

    vma.publish_lock_flags(VmaFlags::LOCKED, |vma| {
        let _ = vma.walk_tables(start, end, |_, _| ());
    });
}
