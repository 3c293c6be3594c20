// SPDX-License-Identifier: GPL-2.0

//! The pages that are present when a vma is locked or unlocked.

use kernel::mm::{
    mmap_write::PublishedVma,
    user::lru_add_drain, //
};

/// Locks the pages that are present in `start..end` (bytes) of a vma, or unlocks them, as its
/// `VMA_LOCKED_BIT` says. The C function of the same name.
///
/// Runs in task context with the mmap lock held for writing, and sleeps.
pub(crate) fn mlock_vma_pages_range(vma: &PublishedVma<'_>, start: usize, end: usize) {
    // Folios that wait in other batches have to be on the LRU lists to be moved; and those of ours are
    // not to linger there.
    lru_add_drain();
    // The vma was just made for the range, so there is nothing to report.
    let _ = vma.mlock_present_pages(start, end);
    lru_add_drain();
}
