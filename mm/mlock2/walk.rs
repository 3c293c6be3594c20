// SPDX-License-Identifier: GPL-2.0

//! The pages that are present when a vma is locked or unlocked.
//!
//! Everything here runs in task context with the mmap lock held for writing.
//!
//! # Lock order
//!
//! The page table lock, held by the walk, is a spinlock; the local lock of the batch and the lruvec
//! lock are taken inside of it (see `batch.rs`).

use super::batch;
use kernel::mm::{
    folio::{
        Folio,
        LruvecGuard, //
    },
    mmap_write::PublishedVma,
    pagewalk::{
        MappedPage,
        Table, //
    },
    user::lru_add_drain,
    vma_flags::VmaFlags, //
};

/// Locks the pages that are present in `start..end` (bytes) of a vma, or unlocks them, as its
/// `VMA_LOCKED_BIT` says. The C function of the same name.
///
/// Sleeps.
pub(crate) fn mlock_vma_pages_range(vma: &PublishedVma<'_>, start: usize, end: usize) {
    let lock = vma.vma().vma_flags().contains(VmaFlags::LOCKED);

    // Folios that wait in other batches have to be on the LRU lists to be moved; and those of ours
    // are not to linger there.
    lru_add_drain();
    // The vma was just made for the range, so there is nothing to report.
    let _ = vma.walk_tables(start, end, |table| mlock_pte_range(table, lock));
    lru_add_drain();
}

/// Locks or unlocks what one page table maps. The C function of the same name.
///
/// Called with the table's lock held; must not sleep.
fn mlock_pte_range(table: Table<'_>, lock: bool) {
    // Locked for all folios of the table that belong to one lruvec. No references are needed: what
    // is mapped stays while the table is locked.
    let mut lruvec = LruvecGuard::new();
    let mut mark = |folio: &Folio| {
        if lock {
            batch::mlock_mapped_folio(folio, &mut lruvec);
        } else {
            batch::munlock_mapped_folio(folio, &mut lruvec);
        }
    };

    match table {
        Table::Huge(entry) => match entry.folio() {
            Some(folio) if !folio.is_zone_device() => mark(folio),
            _ => (),
        },
        Table::Pages(mut table) => {
            while let Some(page) = table.find() {
                let mut step = 1;
                if !page.folio().is_zone_device() {
                    step = page.batch();
                    if allow_mlock_munlock(&page, step, lock) {
                        mark(page.folio());
                    }
                }
                page.skip(step);
            }
        }
    }
}

/// Whether a folio of which `step` pages are mapped in a row may be locked or unlocked. The C
/// function of the same name.
///
/// A large folio is locked only if all of it is in the range: reclaim may split one that is not,
/// and then take the pages that are outside. It is always unlocked, since it may have been locked
/// as a whole, before its vma was split.
fn allow_mlock_munlock(page: &MappedPage<'_, '_>, step: usize, lock: bool) -> bool {
    let folio = page.folio();

    !lock || !folio.is_large() || (page.is_folio_within() && step == folio.nr_pages())
}
