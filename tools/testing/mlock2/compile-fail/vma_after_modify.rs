// SPDX-License-Identifier: GPL-2.0

//! After a split or a merge, the old vma may be gone: only the one that was returned is used.

use kernel::{
    mm::vma_flags::VmaFlags,
    prelude::*, //
};
use mm::mmap_write::VmaMut;

pub fn lock(vma: VmaMut<'_>) -> Result<usize> {
    let end = vma.end();
    let modified = vma
        .lockable()
        .ok_or(EINVAL)?
        .modify_flags(VmaFlags::LOCKED)?;
    let _ = modified.set_lock_flags();

    #[cfg(mistake)]
    // error: E0382 borrow of moved value: `vma`
    let end = vma.end();
    Ok(end)
}
