// SPDX-License-Identifier: GPL-2.0

//! There is one iterator that may change vmas, not two.

use kernel::mm::mmap_lock::MmapWriteGuard;
use mm::mmap_write::MmapWrite;

pub fn walk(guard: &mut MmapWriteGuard<'_>) {
    let mut one = guard.vmas_mut(0, usize::MAX);
    let _ = one.next();
    // error: E0499 cannot borrow `*guard` as mutable more than once at a time
    let mut two = guard.vmas_mut(0, usize::MAX);
    let _ = two.next();

    #[cfg(mistake)]
    let _ = one.next();
}
