// SPDX-License-Identifier: GPL-2.0

//! The pages that are present when a vma is locked or unlocked.
//!
//! Everything here runs in task context with the mmap lock held for writing.
//!
//! # Lock order
//!
//! The page table lock, held by the walk, is a spinlock; the lruvec lock is taken inside of it, and
//! so are the local locks of the batches, with the lruvec locks inside of those: these two kinds are
//! not mixed, so an lruvec is unlocked before a batch is drained.

use super::{
    batch,
    range::PAGE_SIZE, //
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

/// For how much address space (bytes) the lruvec lock is kept: interrupts are off meanwhile, and
/// others wait. The C keeps it for the 31 folios of a batch, which cost as much as these do here.
const HOLD: usize = PAGE_SIZE << 7;

/// The walks of one system call.
pub(crate) struct PageWalk {
    drained: bool,
    walked: bool,
    // Up to which address the vma that is walked is populated.
    populated: usize,
}

impl PageWalk {
    pub(crate) fn new() -> Self {
        Self {
            drained: false,
            walked: false,
            populated: 0,
        }
    }

    /// Moves what waits in this CPU's batches to the LRU lists, unless the call has done so. The C
    /// does it before and after each vma.
    ///
    /// Sleeps.
    #[inline(always)]
    pub(crate) fn lru_add_drain_once(&mut self) {
        if !self.drained {
            lru_add_drain();
            self.drained = true;
        }
    }

    /// Locks the pages that are present in the part of a vma that was modified, or unlocks them, as
    /// its `VMA_LOCKED_BIT` says. The C function of the same name.
    ///
    /// Returns whether there is nothing to populate: the range is unlocked, or all of its pages are
    /// present, locked, and in the state in which populating would leave them. It stays so: the
    /// page table's lock was held, so reclaim had unmapped a page before we came by, or sees the
    /// vma's new flags and leaves it alone. What another thread does to the vma once the mmap lock
    /// is dropped, it could as well do after populating.
    ///
    /// Looks for that only if told to `look`, and then marks folios as accessed, as populating
    /// does. So populating must be certain to reach the start. From the first page on that is not
    /// populated nothing is marked, since populating that one may fail.
    ///
    /// Sleeps.
    #[inline(always)]
    pub(crate) fn mlock_vma_pages_range(
        &mut self,
        vma: &mut PublishedVma<'_>,
        look: bool,
    ) -> bool {
        // Folios that wait in this CPU's batches have to be on the LRU lists to be moved: once, for
        // the first vma that has any, and with that vma locked. What is faulted in between two vmas
        // of one call is like what waits on other CPUs: it comes to the list that PG_mlocked says
        // when it leaves its batch, with an mlock_count that may be too low.
        if !self.walked {
            lru_add_drain();
            self.drained = true;
            self.walked = true;
        }

        if !vma.vma_flags().contains(VmaFlags::LOCKED) {
            vma.walk_tables(|table, lruvec, context| {
                self.mlock_pte_range::<false>(table, lruvec, context, Populate::Other);
            });
            return true;
        }
        let populate = if look {
            vma.populate()
        } else {
            Populate::Other
        };
        self.populated = vma.start();
        vma.walk_tables(|table, lruvec, context| {
            self.mlock_pte_range::<true>(table, lruvec, context, populate);
        });
        self.populated == vma.end()
    }

    /// Locks or unlocks what one page table maps. The C function of the same name.
    ///
    /// Called with the table's lock held; must not sleep.
    #[inline(always)]
    fn mlock_pte_range<const LOCK: bool>(
        &mut self,
        table: Table<'_>,
        // Locked for all folios of the table that belong to one lruvec. No references are needed:
        // what is mapped stays while the table is locked.
        lruvec: &mut LruvecGuard,
        context: TaskContext,
        populate: Populate,
    ) {
        // What other tasks have left in this CPU's batch came before us: an mlock that waits there
        // must not find that we have taken off its mlock_count.
        batch::mlock_drain_local(context);

        let mut left = false;
        let look = LOCK && matches!(populate, Populate::Read | Populate::Write);
        let write = populate == Populate::Write;

        match table {
            Table::Huge(entry) => match entry.folio() {
                Some(folio) if !folio.is_zone_device() => {
                    left = mark::<LOCK>(folio, lruvec, context);
                    if look && entry.start() == self.populated && entry.is_populated(write) {
                        self.populated = entry.end();
                    }
                }
                _ => (),
            },
            Table::Pages(mut table) => {
                while let Some(addr) = table.addr() {
                    lruvec.unlock();
                    while let Some(page) = table.find_below(addr.saturating_add(HOLD)) {
                        let folio = page.folio();
                        if folio.is_zone_device() {
                            page.skip(1);
                            continue;
                        }
                        let step = page.batch();
                        if allow_mlock_munlock(&page, step, LOCK) {
                            left |= mark::<LOCK>(folio, lruvec, context);
                            // Only this entry was looked at of those that are stepped over.
                            if look
                                && step == 1
                                && page.addr() == self.populated
                                && page.is_populated(write)
                                && folio.mark_accessed_unevictable()
                            {
                                self.populated = self.populated.wrapping_add(PAGE_SIZE);
                            }
                        }
                        page.skip(step);
                    }
                }
            }
        }

        // What was left in the batch must be worked on while the vma still tells others to leave
        // its folios to us, and before we may go to another CPU. If reclaim mlocked one of them too
        // and put it back on a list before that, then both would count.
        if left {
            lruvec.unlock();
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
        batch::munlock_now(folio, lruvec);
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
