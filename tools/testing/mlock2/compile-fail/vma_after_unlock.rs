// SPDX-License-Identifier: GPL-2.0

//! A vma is not touched after the lock is dropped.

use kernel::{
    mm::MmWithUser,
    prelude::*, //
};
use mm::mmap_write::MmapWrite;

pub fn first_start(mm: &MmWithUser) -> Result<usize> {
    let guard = mm.mmap_write_lock_killable()?;
    let vma = guard.vmas_in(0, usize::MAX).next().ok_or(ENOMEM)?;
    let start = vma.start();
    // error: E0505 cannot move out of `guard` because it is borrowed
    drop(guard);

    #[cfg(mistake)]
    let start = vma.start();
    Ok(start)
}
