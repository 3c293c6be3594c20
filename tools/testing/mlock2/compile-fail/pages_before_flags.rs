// SPDX-License-Identifier: GPL-2.0

//! The pages of a vma follow when its flags can be seen, not before.

use kernel::mm::mmap_write::ModifiedVma;

pub fn lock(vma: ModifiedVma<'_>) {
    #[cfg(mistake)]
    // error: E0599 no method named `walk_tables` found for struct `ModifiedVma
    vma.walk_tables(|_, _| ());

    vma.publish_lock_flags(|vma| {
        vma.walk_tables(|_, _| ());
    });
}
