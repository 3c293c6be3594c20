// SPDX-License-Identifier: GPL-2.0

//! `locked_vm` changes with the flags of a vma: under the mmap write lock, and after the split that
//! may fail.

use kernel::{
    mm::vma_flags::VmaFlags,
    prelude::*, //
};
use mm::mmap_write::VmaMut;

pub fn charge(vma: VmaMut<'_>) -> Result {
    let vma = vma.lockable().ok_or(EINVAL)?;
    #[cfg(not(mistake))]
    let mut vma = vma.modify_flags(VmaFlags::LOCKED)?;

    // error: E0599 no method named `add_locked_vm` found for struct `LockableVma
    vma.add_locked_vm(1);
    Ok(())
}
