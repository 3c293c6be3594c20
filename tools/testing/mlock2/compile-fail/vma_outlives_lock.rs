// SPDX-License-Identifier: GPL-2.0

//! A function that takes the lock cannot return a vma: the lock is dropped when it returns.

use kernel::{
    mm::MmWithUser,
    prelude::*, //
};
use mm::mmap_write::MmapWrite;

pub fn first<'m>(mm: &'m MmWithUser) -> Result<impl Sized + 'm> {
    let guard = mm.mmap_write_lock_killable()?;
    let found = guard.vmas_in(0, usize::MAX).next();

    #[cfg(not(mistake))]
    let found = found.map(|vma| vma.start());
    // error: E0515 cannot return value referencing local variable `guard`
    Ok(found)
}
