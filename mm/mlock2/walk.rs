// SPDX-License-Identifier: GPL-2.0

//! Mlocks or munlocks the pages that are present when a vma is locked or unlocked.
//!
//! Everything here runs in task context with the mmap lock held for writing.
//!
//! # Lock order
//!
//! Page table lock, local lock of this CPU's batch, lruvec lock, as in the fault path. The lruvec
//! lock disables interrupts, so the walk does what is slow before taking it.

use super::batch;
use kernel::mm::vma_flags::VmaFlags;
use mm::{
    folio::{
        Folio,
        LruvecGuard, //
    },
    folio_batch::{
        lru_add_drain,
        BatchSpace,
        TaskContext, //
    },
    mlock_trace::{
        is_mlock_traced,
        is_munlock_traced, //
    },
    mmap_write::{
        Populate,
        PublishedVma, //
    },
    pagewalk::{
        ArrayVec,
        MappedPage,
        Table,
        VisitTable, //
    },
};

/// How many folios to move per lruvec lock hold: interrupts are off meanwhile, and other CPUs wait.
/// The C moves the 31 folios of a batch, at some ten times the cost for each.
const HOLD: usize = 128;

/// The walks of one system call.
pub(crate) struct PageWalk {
    drained: bool,
    walked: bool,
}

impl PageWalk {
    pub(crate) fn new() -> Self {
        Self {
            drained: false,
            walked: false,
        }
    }

    /// Drains this CPU's batches to the LRU lists, unless this system call has done so. The C
    /// drains before and after each vma.
    ///
    /// Sleeps.
    #[inline(always)]
    pub(crate) fn lru_add_drain_once(&mut self, context: &mut TaskContext<'_>) {
        if !self.drained {
            lru_add_drain(context);
            self.drained = true;
        }
    }

    /// Mlocks or munlocks the pages present in the modified part of a vma, as its `VMA_LOCKED_BIT`
    /// says. Counterpart of the C function of the same name.
    ///
    /// Returns the address (bytes) below which there is nothing to populate: all pages below it are
    /// present, locked, and in the state in which populating would leave them. They stay so. The
    /// walk held the page table lock, so reclaim unmapped a page before the walk got there, or sees
    /// the new flags of the vma and leaves the page alone. Whatever another thread does to the vma
    /// once the mmap lock is dropped, it could do after populating as well.
    ///
    /// Checks this only if `check`, and then marks the folios accessed, as populating does. So pass
    /// `check` only if populating is certain to reach the start of the vma. From the first page
    /// that is not populated, no folio is marked, since populating that page may fail. Without
    /// `check`, and when unlocking, returns the start.
    ///
    /// Sleeps.
    #[inline(always)]
    pub(crate) fn mlock_vma_pages_range(
        &mut self,
        vma: &mut PublishedVma<'_>,
        check: bool,
    ) -> usize {
        // Folios pending in this CPU's batches must be on the LRU lists to be moved. Drain once,
        // for the first vma that is walked, with that vma locked. A folio that is faulted in
        // between two vmas of one call is like one pending on another CPU: when it leaves its
        // batch, it goes to the list that PG_mlocked selects, with an mlock_count that may be too
        // low.
        if !self.walked {
            lru_add_drain(&mut vma.task_context());
            self.drained = true;
            self.walked = true;
        }

        if !vma.vma_flags().contains(VmaFlags::LOCKED) {
            return Walk::<false>::over(vma, Populate::Unchecked);
        }
        let populate = if check {
            vma.populate()
        } else {
            Populate::Unchecked
        };
        Walk::<true>::over(vma, populate)
    }
}

/// The walk of one vma, which mlocks or munlocks pages.
struct Walk<const LOCK: bool> {
    // How populating would access the vma, and the address up to which it is populated already.
    populate: Populate,
    populated: usize,
}

impl<const LOCK: bool> Walk<LOCK> {
    // Returns the address up to which the vma is populated.
    #[inline(always)]
    fn over(vma: &mut PublishedVma<'_>, populate: Populate) -> usize {
        let mut walk = Self {
            populate,
            populated: vma.start(),
        };

        vma.walk_tables(&mut walk);
        walk.populated
    }

    /// Mlocks or munlocks what one page table maps. Counterpart of the C function of the same name.
    ///
    /// Called with the table's lock held; must not sleep. Takes no references: mapped folios stay
    /// while the table is locked.
    #[inline(always)]
    fn mlock_pte_range(&mut self, table: Table<'_>, context: &mut TaskContext<'_>) {
        let mut queued = false;

        match table {
            Table::Huge(entry) => match entry.folio() {
                Some(folio) if !folio.is_zone_device() => {
                    if is_traced::<LOCK>() {
                        batch::mlock_or_munlock_traced::<LOCK>(&[folio], context);
                    } else {
                        queued = batch::lock_drained(context).with_lruvec(|batch, lruvec| {
                            mlock_or_munlock::<LOCK>(folio, lruvec, batch)
                        });
                    }
                    if LOCK
                        && self.populate != Populate::Unchecked
                        && entry.start() == self.populated
                        && entry.is_populated(self.populate == Populate::Write)
                    {
                        self.populated = entry.end();
                    }
                }
                _ => (),
            },
            Table::Pages(mut table) => {
                let mut found = ArrayVec::<_, HOLD>::new();
                // How populating would access the next pages; `Unchecked` after a page that is not
                // populated.
                let mut check = if LOCK && table.addr() == self.populated && table.is_present() {
                    self.populate
                } else {
                    Populate::Unchecked
                };

                loop {
                    // How many of the collected folios, counted from the first, are populated, and
                    // up to which address.
                    let mut populated = (0, self.populated);
                    found.clear();
                    loop {
                        table.collect_small::<HOLD, LOCK>(&mut found, check);
                        if found.is_full() || table.is_at_end() {
                            break;
                        }
                        let here = (found.len(), table.addr());
                        let Some(page) = table.large() else {
                            (populated, check) = (here, Populate::Unchecked);
                            continue;
                        };
                        let folio = page.folio();
                        let step = page.batch();
                        let take =
                            allow_mlock_munlock(&page, step, LOCK) && !folio.is_zone_device();
                        if LOCK
                            && check != Populate::Unchecked
                            && !(take && page.is_batch_populated(step, check == Populate::Write))
                        {
                            (populated, check) = (here, Populate::Unchecked);
                        }
                        if take {
                            found.push(folio);
                        }
                        page.skip(step);
                    }
                    if LOCK && check != Populate::Unchecked {
                        populated = (found.len(), table.addr());
                    }
                    if found.is_empty() {
                        break;
                    }
                    if is_traced::<LOCK>() {
                        batch::mlock_or_munlock_traced::<LOCK>(found.iter().as_slice(), context);
                        // Populating checks them.
                        check = Populate::Unchecked;
                        continue;
                    }
                    // First drain what other tasks have queued in this CPU's batch: an mlock
                    // pending there must count before we subtract from mlock_count. The batch stays
                    // locked, so that no task queues another one in between.
                    batch::lock_drained(context).with_lruvec(|batch, lruvec| {
                        for (i, &folio) in found.iter().enumerate() {
                            if mlock_or_munlock::<LOCK>(folio, lruvec, batch) {
                                queued = true;
                            }
                            if LOCK && i < populated.0 && !folio.mark_accessed_unevictable() {
                                populated = (0, self.populated);
                                check = Populate::Unchecked;
                            }
                        }
                    });
                    if LOCK {
                        self.populated = populated.1;
                    }
                    if table.is_at_end() {
                        break;
                    }
                }
            }
        }

        // Drain what was left in the batch before this task may move to another CPU, and while the
        // vma still tells others to leave its folios to us. Otherwise reclaim could mlock such a
        // folio and put it back before the drain, and both would count.
        if queued {
            lru_add_drain(context);
        }
    }
}

impl<const LOCK: bool> VisitTable for Walk<LOCK> {
    #[inline(always)]
    fn visit(&mut self, table: Table<'_>, context: &mut TaskContext<'_>) {
        self.mlock_pte_range(table, context);
    }
}

// Whether to emit an event for each folio. Tested once for all collected folios: a test for each
// would also reload what is in registers.
#[inline(always)]
fn is_traced<const LOCK: bool>() -> bool {
    if LOCK {
        is_mlock_traced()
    } else {
        is_munlock_traced()
    }
}

// A function, not a closure: a closure that is called twice would not be inlined.
#[inline(always)]
fn mlock_or_munlock<const LOCK: bool>(
    folio: Folio<'_>,
    lruvec: &mut LruvecGuard<'_>,
    batch: BatchSpace<'_>,
) -> bool {
    if LOCK {
        batch::mlock_mapped_folio(folio, lruvec, batch)
    } else {
        batch::munlock_now(folio, lruvec);
        false
    }
}

/// Returns whether to mlock or munlock a large folio with `step` consecutive pages mapped.
/// Counterpart of the C function of the same name.
///
/// A large folio is mlocked only if the range contains all of it: reclaim may split any other, and
/// then take the pages outside the range. It is always munlocked, since it may have been mlocked as
/// a whole before its vma was split.
fn allow_mlock_munlock(page: &MappedPage<'_, '_>, step: usize, lock: bool) -> bool {
    !lock || (page.is_folio_within() && step == page.folio().nr_pages())
}
