// SPDX-License-Identifier: GPL-2.0

//! A vma is given back before the next: changing one may free its neighbour.

use kernel::{
    mm::mmap_lock::MmapWriteGuard,
    prelude::*, //
};
use mm::mmap_write::MmapWrite;

pub fn gap(guard: &mut MmapWriteGuard<'_>) -> Result<bool> {
    let mut vmas = guard.vmas_mut(0, usize::MAX);
    let first = vmas.next().ok_or(ENOMEM)?;
    let end = first.end();
    // error: E0499 cannot borrow `vmas` as mutable more than once at a time
    let second = vmas.next().ok_or(ENOMEM)?;

    #[cfg(mistake)]
    let end = first.end();
    Ok(second.start() != end)
}
