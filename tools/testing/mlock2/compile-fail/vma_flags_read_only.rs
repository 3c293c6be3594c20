// SPDX-License-Identifier: GPL-2.0

//! Who may only read a vma cannot change its flags.

use kernel::{
    mm::vma_flags::VmaFlags,
    prelude::*, //
};
use mm::mmap_write::VmaMut;

pub fn unlock(vma: VmaMut<'_>) -> Result {
    #[cfg(mistake)]
    let vma: &kernel::mm::virt::VmaRef = &vma;
    #[cfg(not(mistake))]
    let vma = vma.lockable().ok_or(EINVAL)?;
    #[cfg(not(mistake))]
    let vma = vma.modify_flags(VmaFlags::NONE)?;

    // error: E0599 no method named `set_lock_flags` found for reference `&VmaRef`
    let _ = vma.set_lock_flags();
    Ok(())
}
