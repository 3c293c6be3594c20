// SPDX-License-Identifier: GPL-2.0

//! The pages that are present when a vma is locked or unlocked.
//!
//! Everything here runs in task context with the mmap lock held for writing.
//!
//! # Lock order
//!
//! The page table lock, held by the walk, is a spinlock; the lruvec lock is taken inside of it, and
//! so is the local lock of the batch, but not both at once from here.

use super::{
    batch,
    range::PageCount, //
};
use kernel::mm::{
    folio::{
        Folio,
        LruvecGuard, //
    },
    folio_batch::TaskContext,
    mmap_write::{
        Populate,
        PublishedVma, //
    },
    pagewalk::{
        MappedPage,
        Table, //
    },
    user::lru_add_drain,
    vma_flags::VmaFlags, //
};

/// After how many page table entries to see whether somebody waits for the lruvec lock. About what
/// the C handles under one hold; if nobody waits, we keep it to the end of the page table.
const LOOK_AFTER: usize = 32;

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
    /// Returns whether there is nothing to populate: the range is unlocked, or all of its pages are
    /// present, locked, and in the state in which populating would leave them. It stays so: the page
    /// table's lock was held, so reclaim had unmapped a page before we came by, or sees the vma's
    /// new flags and leaves it alone. What another thread does to the vma once the mmap lock is
    /// dropped, it could as well do after populating.
    ///
    /// Looks for that only if told to `look`, and then marks the folios as accessed, as populating
    /// does: the call must not fail any more, since it would not populate then.
    ///
    /// Sleeps.
    #[inline(always)]
    pub(crate) fn mlock_vma_pages_range(
        &mut self,
        vma: &PublishedVma<'_>,
        start: usize,
        end: usize,
        look: bool,
    ) -> bool {
        // Folios that wait in this CPU's batches have to be on the LRU lists to be moved. What is
        // faulted in between two vmas of one call is like what waits on other CPUs: it comes to
        // the list that PG_mlocked says when it leaves its batch. If we meet it, then the rest is
        // brought to the lists before the next vma.
        if !self.drained || self.left {
            lru_add_drain();
            self.drained = true;
            self.left = false;
        }

        // The vma was just made for the range, so the walk has nothing to report.
        if !vma.vma().vma_flags().contains(VmaFlags::LOCKED) {
            let _ = vma.walk_tables(start, end, |table, context| {
                self.mlock_pte_range::<false>(table, context, Populate::Other);
            });
            return true;
        }
        let populate = if look {
            vma.populate()
        } else {
            Populate::Other
        };
        let mut populated = 0usize;
        let _ = vma.walk_tables(start, end, |table, context| {
            let pages = self.mlock_pte_range::<true>(table, context, populate);
            populated = populated.wrapping_add(pages);
        });
        PageCount::new(populated) == PageCount::of_bytes(end.wrapping_sub(start))
    }

    /// Locks or unlocks what one page table maps. The C function of the same name.
    ///
    /// Returns for how many pages populating would find nothing to do.
    ///
    /// Called with the table's lock held; must not sleep.
    #[inline(always)]
    fn mlock_pte_range<const LOCK: bool>(
        &mut self,
        table: Table<'_>,
        context: TaskContext,
        populate: Populate,
    ) -> usize {
        // What other tasks have left in this CPU's batch came before us: an mlock that waits there
        // must not find that we have taken off its mlock_count.
        batch::mlock_drain_local(context);

        // Locked for all folios of the table that belong to one lruvec. No references are needed:
        // what is mapped stays while the table is locked.
        let mut lruvec = LruvecGuard::new();
        let mut populated = 0usize;
        let mut entries = 0usize;
        let look = LOCK && matches!(populate, Populate::Read | Populate::Write);
        let write = populate == Populate::Write;

        match table {
            Table::Huge(entry) => match entry.folio() {
                Some(folio) if !folio.is_zone_device() => {
                    self.left |= mark::<LOCK>(folio, &mut lruvec, context);
                    if look && entry.is_populated(write) {
                        populated = entry.pages();
                    }
                }
                _ => (),
            },
            Table::Pages(mut table) => {
                while let Some(page) = table.find() {
                    let mut step = 1;
                    let folio = page.folio();
                    if !folio.is_zone_device() {
                        step = page.batch();
                        if allow_mlock_munlock(&page, step, LOCK) {
                            self.left |= mark::<LOCK>(folio, &mut lruvec, context);
                            // Only this entry was looked at of those that are stepped over.
                            if look
                                && step == 1
                                && page.is_populated(write)
                                && folio.mark_accessed_unevictable()
                            {
                                populated = populated.wrapping_add(1);
                            }
                        }
                    }
                    page.skip(step);
                    entries = entries.wrapping_add(step);
                    if entries >= LOOK_AFTER {
                        entries = 0;
                        lruvec.unlock_if_contended();
                    }
                }
            }
        }
        populated
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

// A function, since a closure that is called twice would not be inlined.
#[inline(always)]
fn mark<const LOCK: bool>(folio: &Folio, lruvec: &mut LruvecGuard, context: TaskContext) -> bool {
    if LOCK {
        batch::mlock_mapped_folio(folio, lruvec, context)
    } else {
        batch::munlock_mapped_folio(folio, lruvec);
        false
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
