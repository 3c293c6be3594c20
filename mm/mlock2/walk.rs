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

/// The walks of one system call.
///
/// # Populated pages
///
/// mlock() populates its range after the vmas have got their flags. Where the walk has found a page
/// that is present and locked, and in the state in which populating would leave it, that is
/// nothing new: the page table's lock was held, so reclaim either saw the vma's new flags after
/// that, and leaves the page alone, or had unmapped it before. What another thread does to the
/// vma once the mmap lock is dropped, it could as well do after populating.
pub(crate) struct PageWalk {
    drained: bool,
    left: bool,
    populated: PageCount,
}

impl PageWalk {
    pub(crate) fn new() -> Self {
        Self {
            drained: false,
            left: false,
            populated: PageCount::new(0),
        }
    }

    /// How many pages there are in the vmas that were locked, for which populating would find
    /// nothing to do. Fewer than there are, if in doubt.
    pub(crate) fn populated(&self) -> PageCount {
        self.populated
    }

    fn add_populated(&mut self, pages: PageCount) {
        self.populated = self.populated.wrapping_add(pages);
    }

    /// Takes note of `start..end` (bytes) of a vma that is locked on fault, and so is not populated.
    pub(crate) fn pass_by(&mut self, start: usize, end: usize) {
        self.add_populated(PageCount::of_bytes(end.wrapping_sub(start)));
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
            let populate = vma.populate();
            vma.walk_tables(start, end, |table, context| {
                self.mlock_pte_range::<true>(table, context, populate);
            })
        } else {
            vma.walk_tables(start, end, |table, context| {
                self.mlock_pte_range::<false>(table, context, Populate::Other);
            })
        };
    }

    /// Locks or unlocks what one page table maps. The C function of the same name.
    ///
    /// Called with the table's lock held; must not sleep.
    #[inline(always)]
    fn mlock_pte_range<const LOCK: bool>(
        &mut self,
        table: Table<'_>,
        context: TaskContext,
        populate: Populate,
    ) {
        // What other tasks have left in this CPU's batch came before us: an mlock that waits there
        // must not find that we have taken off its mlock_count.
        batch::mlock_drain_local(context);

        // Locked for all folios of the table that belong to one lruvec. No references are needed:
        // what is mapped stays while the table is locked.
        let mut lruvec = LruvecGuard::new();
        let mut populated = 0usize;
        let mut mark = |folio: &Folio| {
            if LOCK {
                self.left |= batch::mlock_mapped_folio(folio, &mut lruvec, context);
            } else {
                batch::munlock_mapped_folio(folio, &mut lruvec);
            }
        };
        let look = LOCK && matches!(populate, Populate::Read | Populate::Write);
        let write = populate == Populate::Write;

        match table {
            Table::Huge(entry) => match entry.folio() {
                Some(folio) if !folio.is_zone_device() => {
                    mark(folio);
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
                            mark(folio);
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
                }
            }
        }
        self.add_populated(PageCount::new(populated));
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
