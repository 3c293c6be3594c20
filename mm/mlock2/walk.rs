// SPDX-License-Identifier: GPL-2.0

//! The pages that are present when a vma is locked or unlocked.
//!
//! Everything here runs in task context with the mmap lock held for writing.
//!
//! # Lock order
//!
//! The page table lock, held by the walk, is a spinlock; the lruvec lock is taken inside of it, and
//! so is the local lock of the batch, but not both at once from here.

use super::batch;
use kernel::mm::{
    folio::{
        Folio,
        LruvecGuard, //
    },
    folio_batch::TaskContext,
    mmap_write::PublishedVma,
    pagewalk::{
        MappedPage,
        Table, //
    },
    user::lru_add_drain,
    vma_flags::VmaFlags, //
};

/// The walks of one system call.
pub(crate) struct PageWalk {
    drained: bool,
    left: bool,
}

impl PageWalk {
    pub(crate) fn new() -> Self {
        Self {
            drained: false,
            left: false,
        }
    }

    /// Locks the pages that are present in `start..end` (bytes) of a vma, or unlocks them, as its
    /// `VMA_LOCKED_BIT` says. The C function of the same name.
    ///
    /// Sleeps.
    pub(crate) fn mlock_vma_pages_range(
        &mut self,
        vma: &PublishedVma<'_>,
        start: usize,
        end: usize,
    ) {
        // Folios that wait in this CPU's batches have to be on the LRU lists to be moved. What is
        // faulted in between two vmas of one call is like what waits on other CPUs: it comes to
        // the list that PG_mlocked says when it leaves its batch.
        if !self.drained {
            lru_add_drain();
            self.drained = true;
        }

        // The vma was just made for the range, so there is nothing to report.
        let _ = if vma.vma().vma_flags().contains(VmaFlags::LOCKED) {
            vma.walk_tables(start, end, |table, context| {
                self.mlock_pte_range::<true>(table, context);
            })
        } else {
            vma.walk_tables(start, end, |table, context| {
                self.mlock_pte_range::<false>(table, context);
            })
        };
    }

    /// Locks or unlocks what one page table maps. The C function of the same name.
    ///
    /// Called with the table's lock held; must not sleep.
    #[inline(always)]
    fn mlock_pte_range<const LOCK: bool>(&mut self, table: Table<'_>, context: TaskContext) {
        // What other tasks have left in this CPU's batch came before us: an mlock that waits there
        // must not find that we have taken off its mlock_count.
        batch::mlock_drain_local(context);

        // Locked for all folios of the table that belong to one lruvec. No references are needed:
        // what is mapped stays while the table is locked.
        let mut lruvec = LruvecGuard::new();
        let mut mark = |folio: &Folio| {
            if LOCK {
                self.left |= batch::mlock_mapped_folio(folio, &mut lruvec, context);
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
                        if allow_mlock_munlock(&page, step, LOCK) {
                            mark(page.folio());
                        }
                    }
                    page.skip(step);
                }
            }
        }
    }
}

impl Drop for PageWalk {
    fn drop(&mut self) {
        // What could not be done at once is not to linger.
        if self.left {
            lru_add_drain();
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
