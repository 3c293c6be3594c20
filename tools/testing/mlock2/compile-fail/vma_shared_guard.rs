// SPDX-License-Identifier: GPL-2.0

//! While one part of the code looks at vmas, no other part changes them under the same guard.

use kernel::{
    mm::mmap_lock::MmapWriteGuard,
    prelude::*, //
};
use mm::mmap_write::MmapWrite;

pub fn first_end(guard: &mut MmapWriteGuard<'_>) -> Result<usize> {
    let first = guard.vmas_in(0, usize::MAX).next().ok_or(ENOMEM)?;
    let end = first.end();
    // error: E0502 cannot borrow `*guard` as mutable because it is also borrowed as immutable
    let mut vmas = guard.vmas_mut(0, usize::MAX);
    let _ = vmas.next();

    #[cfg(mistake)]
    let end = first.end();
    Ok(end)
}
