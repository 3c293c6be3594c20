// SPDX-License-Identifier: GPL-2.0

//! No flags of a vma can be made up: there are constants, and what a vma has.

use kernel::mm::vma_flags::VmaFlags;

pub fn flags() -> VmaFlags {
    #[cfg(mistake)]
    // error: E0423 cannot initialize a tuple struct which contains private fields
    let flags = VmaFlags(kernel::bindings::vma_flags_t::default());
    #[cfg(not(mistake))]
    let flags = VmaFlags::LOCKED_ONFAULT;

    flags
}
