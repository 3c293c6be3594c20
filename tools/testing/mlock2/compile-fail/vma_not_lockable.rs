// SPDX-License-Identifier: GPL-2.0

//! The lock flags of a vma that cannot be locked, such as one of a device, do not change.

use kernel::{
    mm::vma_flags::VmaFlags,
    prelude::*, //
};
use mm::mmap_write::{
    ModifiedVma,
    VmaMut, //
};

pub fn lock(vma: VmaMut<'_>) -> Result<ModifiedVma<'_>> {
    #[cfg(not(mistake))]
    let vma = vma.lockable().ok_or(EINVAL)?;
    // error: E0599 no method named `modify_flags` found for struct `VmaMut
    vma.modify_flags(VmaFlags::LOCKED)
}
