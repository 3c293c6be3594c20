// SPDX-License-Identifier: GPL-2.0

//! The pages that are present when a vma is locked or unlocked.
//!
//! Everything here runs in task context with the mmap lock held for writing.
//!
//! # Lock order
//!
//! Page table lock, local lock of this CPU's batch, lruvec lock, as when a folio is faulted in. All
//! but the last are taken before a folio is moved; what is slow is done before the lruvec lock,
//! which turns off interrupts.

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

/// For how many folios the lruvec lock is kept: interrupts are off meanwhile, and others wait. The
/// C keeps it for the 31 folios of a batch, each of which costs some ten times as much there.
const HOLD: usize = 128;

/// The walks of one system call.
pub(crate) struct PageWalk {
    drained: bool,
    walked: bool,
    // How the vma that is walked would be populated, and up to which address it is.
    populate: Populate,
    populated: usize,
}

impl PageWalk {
    pub(crate) fn new() -> Self {
        Self {
            drained: false,
            walked: false,
            populate: Populate::Unchecked,
            populated: 0,
        }
    }

    /// Moves what is pending in this CPU's batches to the LRU lists, unless the call has done so.
    /// The C does it before and after each vma.
    ///
    /// Sleeps.
    #[inline(always)]
    pub(crate) fn lru_add_drain_once(&mut self, context: &mut TaskContext<'_>) {
        if !self.drained {
            lru_add_drain(context);
            self.drained = true;
        }
    }

    /// Locks the pages that are present in the part of a vma that was modified, or unlocks them, as
    /// its `VMA_LOCKED_BIT` says. The C function of the same name.
    ///
    /// Returns up to which address (bytes) there is nothing to populate: all pages before that are
    /// present, locked, and in the state in which populating would leave them. It stays so: the
    /// page table's lock was held, so reclaim had unmapped a page before we came by, or sees the
    /// vma's new flags and leaves it alone. What another thread does to the vma once the mmap lock
    /// is dropped, it could as well do after populating.
    ///
    /// Checks that only if told to, and then marks folios as accessed, as populating
    /// does. So populating must be certain to reach the start. From the first page on that is not
    /// populated nothing is marked, since populating that one may fail. If it does not check, or
    /// unlocks, that is the start.
    ///
    /// Sleeps.
    #[inline(always)]
    pub(crate) fn mlock_vma_pages_range(
        &mut self,
        vma: &mut PublishedVma<'_>,
        check: bool,
    ) -> usize {
        // Folios that are pending in this CPU's batches have to be on the LRU lists to be moved:
        // once, for the first vma that has any, and with that vma locked. What is faulted in
        // between two vmas of one call is like what is pending on other CPUs: it comes to the list
        // that PG_mlocked says when it leaves its batch, with an mlock_count that may be too low.
        if !self.walked {
            lru_add_drain(&mut vma.task_context());
            self.drained = true;
            self.walked = true;
        }

        if !vma.vma_flags().contains(VmaFlags::LOCKED) {
            vma.walk_tables(Walk::<false>(self));
            return vma.start();
        }
        self.populate = if check {
            vma.populate()
        } else {
            Populate::Unchecked
        };
        self.populated = vma.start();
        vma.walk_tables(Walk::<true>(self));
        self.populated
    }

    /// Locks or unlocks what one page table maps. The C function of the same name.
    ///
    /// Called with the table's lock held; must not sleep. No references are needed: what is mapped
    /// stays while the table is locked.
    #[inline(always)]
    fn mlock_pte_range<const LOCK: bool>(
        &mut self,
        table: Table<'_>,
        context: &mut TaskContext<'_>,
    ) {
        let mut queued = false;

        match table {
            Table::Huge(entry) => match entry.folio() {
                Some(folio) if !folio.is_zone_device() => {
                    if is_traced::<LOCK>() {
                        batch::mark_traced::<LOCK>(&[folio], context);
                    } else {
                        queued = batch::lock_drained(context)
                            .with_lruvec(|batch, lruvec| mark::<LOCK>(folio, lruvec, batch));
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
                // How the pages have to be populated from here on, if it is still to be seen
                // whether they are.
                let mut check = if LOCK && table.addr() == self.populated {
                    self.populate
                } else {
                    Populate::Unchecked
                };

                loop {
                    // How many of those that are collected, from the first on, are populated; and
                    // up to where.
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
                        batch::mark_traced::<LOCK>(found.iter().as_slice(), context);
                        // Populating looks at them.
                        check = Populate::Unchecked;
                        continue;
                    }
                    // What other tasks have left in this CPU's batch came before us: an mlock that
                    // is pending there must not find that we have taken off its mlock_count. Nor
                    // may one come in between, which is why the batch stays locked.
                    batch::lock_drained(context).with_lruvec(|batch, lruvec| {
                        for (i, &folio) in found.iter().enumerate() {
                            if mark::<LOCK>(folio, lruvec, batch) {
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

        // What was left in the batch must be drained while the vma still tells others to leave
        // its folios to us, and before we may go to another CPU. If reclaim mlocked one of them too
        // and put it back on a list before that, then both would count.
        if queued {
            lru_add_drain(context);
        }
    }
}

struct Walk<'w, const LOCK: bool>(&'w mut PageWalk);

impl<const LOCK: bool> VisitTable for Walk<'_, LOCK> {
    #[inline(always)]
    fn visit(&mut self, table: Table<'_>, context: &mut TaskContext<'_>) {
        self.0.mlock_pte_range::<LOCK>(table, context);
    }
}

// Whether each folio has an event. Asked once for all that were collected: to ask for each would
// cost more than an instruction, for what is in registers would be read anew.
#[inline(always)]
fn is_traced<const LOCK: bool>() -> bool {
    if LOCK {
        is_mlock_traced()
    } else {
        is_munlock_traced()
    }
}

// A function, since a closure that is called twice would not be inlined.
#[inline(always)]
fn mark<const LOCK: bool>(
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

/// Whether a large folio of which `step` pages are mapped in a row may be locked or unlocked. The C
/// function of the same name.
///
/// A large folio is locked only if all of it is in the range: reclaim may split one that is not,
/// and then take the pages that are outside. It is always unlocked, since it may have been locked
/// as a whole, before its vma was split.
fn allow_mlock_munlock(page: &MappedPage<'_, '_>, step: usize, lock: bool) -> bool {
    !lock || (page.is_folio_within() && step == page.folio().nr_pages())
}
