// SPDX-License-Identifier: GPL-2.0

//! Changing vmas takes the mmap lock for writing: the read lock lends out none that can be changed.

use kernel::{
    mm::MmWithUser,
    prelude::*, //
};
use mm::mmap_write::MmapWrite;

pub fn count_vmas(mm: &MmWithUser) -> Result<usize> {
    #[cfg(mistake)]
    let guard = mm.mmap_read_lock();
    #[cfg(not(mistake))]
    let mut guard = mm.mmap_write_lock_killable()?;

    // error: E0599 no method named `vmas_mut` found for struct `MmapReadGuard
    let mut vmas = guard.vmas_mut(0, usize::MAX);
    let mut count = 0;
    while vmas.next().is_some() {
        count += 1;
    }
    Ok(count)
}
