// SPDX-License-Identifier: GPL-2.0

//! Folios and the LRU lists that they are on.
//!
//! A folio is on at most one LRU list, of its lruvec, and only under the lruvec lock does it get
//! there or leave. Who wants to make it unevictable, or evictable again, first claims it by
//! clearing `PG_lru`: one contender succeeds, and nobody else takes the folio off its list until
//! the flag is set again. [`LruFolio`] stands for both, the claim and the lock; each of its methods
//! leaves the folio on a list that agrees with its flags. It only exists while
//! [`LruvecGuard::with_claimed`] runs, which ends the claim.
//!
//! The lruvec of a claimed folio may still change, if its memory cgroup goes away. While the lruvec
//! lock is held, it does not.
//!
//! # Lock order
//!
//! The lruvec lock is taken with interrupts off (a sleeping lock on PREEMPT_RT), inside of page
//! table locks and of local locks. Nothing that is here takes another lock inside of it.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/mm_inline.h`](srctree/include/linux/mm_inline.h),
//! [`include/linux/memcontrol.h`](srctree/include/linux/memcontrol.h)

use crate::{
    bindings,
    ffi::{
        c_long,
        c_uint, //
    },
    types::{
        NotThreadSafe,
        Opaque, //
    },
};
use core::{
    mem,
    ops::Deref,
    ptr::{
        self,
        NonNull, //
    },
};

/// A wrapper for the kernel's `struct folio`.
///
/// # Invariants
///
/// A reference to this type means that the folio is not freed for as long as the reference lives.
#[repr(transparent)]
pub struct Folio(Opaque<bindings::folio>);

/// What is counted in `/proc/vmstat` about unevictable folios, in pages.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Event {
    /// Moved to the unevictable list.
    Culled = bindings::vm_event_item_UNEVICTABLE_PGCULLED,
    /// Moved back from it.
    Rescued = bindings::vm_event_item_UNEVICTABLE_PGRESCUED,
    /// Marked as mlocked.
    Mlocked = bindings::vm_event_item_UNEVICTABLE_PGMLOCKED,
    /// No longer marked as mlocked.
    Munlocked = bindings::vm_event_item_UNEVICTABLE_PGMUNLOCKED,
    /// No longer marked as mlocked, but somebody else has it off the lists.
    Stranded = bindings::vm_event_item_UNEVICTABLE_PGSTRANDED,
}

fn count_events(event: Event, pages: c_long) {
    // SAFETY: The event is one that the kernel knows.
    unsafe { bindings::__count_vm_events(event as _, pages) };
}

// All methods may be called in task context, with spinlocks held and interrupts off.
impl Folio {
    /// Obtains a reference from a raw pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point at a folio that is not freed during 'a.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::folio) -> &'a Self {
        // SAFETY: The caller promises that the pointer is valid for 'a; the layout is the same due
        // to repr(transparent).
        unsafe { &*ptr.cast() }
    }

    /// Returns a raw pointer to the folio.
    #[inline]
    pub fn as_ptr(&self) -> *mut bindings::folio {
        self.0.get()
    }

    /// Returns how many pages the folio has.
    #[inline]
    pub fn nr_pages(&self) -> usize {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_nr_pages(self.as_ptr()) }
    }

    /// Returns whether the folio has more than one page.
    #[inline]
    pub fn is_large(&self) -> bool {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_test_large(self.as_ptr()) }
    }

    /// Returns whether the folio is memory of a device, which is on no LRU list.
    #[inline]
    pub fn is_zone_device(&self) -> bool {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_is_zone_device(self.as_ptr()) }
    }

    /// Returns whether the folio may wait in a per-CPU batch, as `folio_may_be_lru_cached()`.
    #[inline]
    pub fn may_be_lru_cached(&self) -> bool {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_may_be_lru_cached(self.as_ptr()) }
    }

    /// Returns whether `PG_mlocked` is set.
    #[inline]
    pub fn test_mlocked(&self) -> bool {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_test_mlocked(self.as_ptr()) }
    }

    /// Sets `PG_mlocked`.
    #[inline]
    pub fn set_mlocked(&self) {
        // SAFETY: The folio is valid by the type invariants; the bit is set atomically.
        unsafe { bindings::folio_set_mlocked(self.as_ptr()) };
    }

    /// Sets `PG_mlocked` and returns whether it was set. Fully ordered.
    #[inline]
    pub fn test_set_mlocked(&self) -> bool {
        // SAFETY: The folio is valid by the type invariants; the bit is set atomically.
        unsafe { bindings::folio_test_set_mlocked(self.as_ptr()) }
    }

    /// Clears `PG_mlocked` and returns whether it was set. Fully ordered.
    #[inline]
    pub fn test_clear_mlocked(&self) -> bool {
        // SAFETY: The folio is valid by the type invariants; the bit is cleared atomically.
        unsafe { bindings::folio_test_clear_mlocked(self.as_ptr()) }
    }

    /// Returns whether `PG_unevictable` is set. Only who has claimed the folio can rely on it.
    #[inline]
    pub fn test_unevictable(&self) -> bool {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_test_unevictable(self.as_ptr()) }
    }

    /// Returns whether reclaim may take the folio, as `folio_evictable()`.
    ///
    /// What needs no look at the mapping comes first: an mlocked folio is unevictable whatever it
    /// maps, and no mapping makes an anonymous one so.
    #[inline]
    pub fn is_evictable(&self) -> bool {
        // SAFETY: The folio is valid by the type invariants.
        !self.test_mlocked()
            && unsafe {
                bindings::folio_test_anon(self.as_ptr()) || bindings::folio_evictable(self.as_ptr())
            }
    }

    /// Returns the number of the folio's zone in its node.
    #[inline]
    fn zone(&self) -> bindings::zone_type {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_zonenum(self.as_ptr()) }
    }

    /// Adds to the `nr_mlock` of the folio's zone, in pages.
    #[inline]
    pub fn mod_nr_mlock(&self, pages: c_long) {
        // SAFETY: The folio is valid by the type invariants.
        unsafe {
            bindings::zone_stat_mod_folio(self.as_ptr(), bindings::zone_stat_item_NR_MLOCK, pages)
        };
    }

    /// Adds the pages of the folio to a count in `/proc/vmstat`.
    ///
    /// As `__count_vm_events()`: a count may get lost if the task is preempted.
    #[inline]
    pub fn count_event(&self, event: Event) {
        count_events(event, self.nr_pages() as c_long);
    }

    /// Takes a reference.
    #[inline]
    pub fn get(&self) -> FolioRef {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_get(self.as_ptr()) };
        // INVARIANT: We just took the reference.
        // SAFETY: A reference is not null.
        FolioRef(unsafe { NonNull::new_unchecked(self.as_ptr()) })
    }
}

/// A reference to a [`Folio`] that is counted. Dropping it puts the reference, which may free the
/// folio and takes its lruvec's lock for that: not while an lruvec is locked.
///
/// # Invariants
///
/// Owns one reference.
pub struct FolioRef(NonNull<bindings::folio>);

impl FolioRef {
    /// Gives up the reference as a pointer.
    #[inline]
    pub(super) fn into_raw(self) -> NonNull<bindings::folio> {
        let ptr = self.0;
        mem::forget(self);
        ptr
    }
}

impl Deref for FolioRef {
    type Target = Folio;

    #[inline]
    fn deref(&self) -> &Folio {
        // SAFETY: We own a reference by the type invariants.
        unsafe { Folio::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for FolioRef {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: We own a reference by the type invariants, and give it up.
        unsafe { bindings::folio_put(self.0.as_ptr()) };
    }
}

/// A folio that has never been on an LRU list, and that it is up to us to put there.
///
/// # Invariants
///
/// The folio is on no list, its `PG_lru` is clear, and nobody else is going to change that.
pub struct NewFolio<'f>(&'f Folio);

impl<'f> NewFolio<'f> {
    /// Takes over a folio that is not on an LRU list yet.
    ///
    /// # Safety
    ///
    /// The folio must be on no LRU list, with `PG_lru` clear, and nobody else may put it on one.
    #[inline]
    pub unsafe fn new(folio: &'f Folio) -> Self {
        // SAFETY: The folio is valid by its type invariants.
        debug_assert!(!unsafe { bindings::folio_test_lru(folio.as_ptr()) });
        // INVARIANT: The caller promises it.
        Self(folio)
    }

    /// Returns the folio, for what does not concern the LRU lists.
    #[inline]
    pub fn folio(&self) -> &'f Folio {
        self.0
    }
}

/// The lock of at most one lruvec. Dropping it unlocks.
///
/// To be used in task context with interrupts on: they are off while there is a lock, and on
/// afterwards.
///
/// # Invariants
///
/// `lruvec` is null, or we hold its lock, and with it the RCU read lock.
pub struct LruvecGuard {
    lruvec: *mut bindings::lruvec,
    // Folios that went from one list to another, and are not counted yet.
    moved: Run,
    // Folios that `PG_mlocked` was set on, or cleared, and are not counted yet.
    mlocked: Run,
    // The lock is released on the CPU that took it.
    _nts: NotThreadSafe,
}

/// Pages of one lruvec and zone to which the same thing has been done in a row.
///
/// The sizes of the lists and the counts in `/proc/vmstat` are changed once for all of them, before
/// the lruvec is unlocked. Who moves folios, and so changes these numbers too, has that lock. Who
/// reads them without it gets an estimate, as before: it lags by what is handled under one hold of
/// the lock, at most what one page table maps, and vmstat's per-CPU deltas lag in the same way.
struct Run {
    from: bindings::lru_list,
    to: bindings::lru_list,
    zone: bindings::zone_type,
    pages: c_long,
}

/// Stands for no list, or for one that is counted already.
const NO_LRU: bindings::lru_list = bindings::lru_list_NR_LRU_LISTS;

impl Run {
    const NONE: Self = Self {
        from: NO_LRU,
        to: NO_LRU,
        zone: 0,
        pages: 0,
    };

    // Whether what is to be added is of the same kind, so that it can be counted together.
    #[inline]
    fn is_like(&self, other: &Self) -> bool {
        self.from == other.from && self.to == other.to && self.zone == other.zone
    }
}

impl LruvecGuard {
    /// Starts out without a lock.
    #[inline]
    #[expect(clippy::new_without_default)]
    pub fn new() -> Self {
        // INVARIANT: There is no lock.
        Self {
            lruvec: ptr::null_mut(),
            moved: Run::NONE,
            mlocked: Run::NONE,
            _nts: NotThreadSafe,
        }
    }

    // Notes that a folio went from one list of the lruvec, which is locked, to another.
    #[inline]
    fn note_moved(&mut self, folio: &Folio, from: bindings::lru_list, to: bindings::lru_list) {
        let mut run = Run {
            from,
            to,
            zone: folio.zone(),
            pages: folio.nr_pages() as c_long,
        };

        if run.is_like(&self.moved) {
            self.moved.pages = self.moved.pages.wrapping_add(run.pages);
        } else {
            mem::swap(&mut run, &mut self.moved);
            self.count_moved(&run);
        }
    }

    // Counts a run: the sizes of the lists, and the events.
    fn count_moved(&self, run: &Run) {
        if run.pages == 0 {
            return;
        }
        // SAFETY: There is a run, so the lruvec is locked; lists and zone are those of its folios.
        unsafe {
            if run.from != NO_LRU {
                let pages = run.pages.wrapping_neg();
                bindings::update_lru_size(self.lruvec, run.from, run.zone, pages);
            }
            if run.to != NO_LRU {
                bindings::update_lru_size(self.lruvec, run.to, run.zone, run.pages);
            }
        }
        if run.to == bindings::lru_list_LRU_UNEVICTABLE {
            count_events(Event::Culled, run.pages);
        } else if run.from == bindings::lru_list_LRU_UNEVICTABLE {
            count_events(Event::Rescued, run.pages);
        }
    }

    // Notes that `PG_mlocked` was set on a folio of the lruvec, which is locked, or cleared.
    #[inline]
    fn note_mlocked(&mut self, folio: &Folio, set: bool) {
        let pages = folio.nr_pages() as c_long;
        let mut run = Run {
            zone: folio.zone(),
            pages: if set { pages } else { pages.wrapping_neg() },
            ..Run::NONE
        };

        if run.is_like(&self.mlocked) && (self.mlocked.pages < 0) == (run.pages < 0) {
            self.mlocked.pages = self.mlocked.pages.wrapping_add(run.pages);
        } else {
            mem::swap(&mut run, &mut self.mlocked);
            self.count_mlocked(&run);
        }
    }

    fn count_mlocked(&self, run: &Run) {
        if run.pages == 0 {
            return;
        }
        // SAFETY: There is a run, so the lruvec is locked; the zone is that of its folios.
        unsafe { bindings::lruvec_mod_nr_mlock(self.lruvec, run.zone, run.pages) };
        if run.pages > 0 {
            count_events(Event::Mlocked, run.pages);
        } else {
            count_events(Event::Munlocked, run.pages.wrapping_neg());
        }
    }

    // Unlocks the lruvec, if there is one. All is counted before.
    #[inline]
    fn unlock(&mut self) {
        if self.lruvec.is_null() {
            return;
        }
        let moved = mem::replace(&mut self.moved, Run::NONE);
        self.count_moved(&moved);
        let mlocked = mem::replace(&mut self.mlocked, Run::NONE);
        self.count_mlocked(&mlocked);

        // SAFETY: By the type invariants, we hold the lock.
        //
        // INVARIANT: We hold none afterwards.
        unsafe { bindings::lruvec_unlock_irq(self.lruvec) };
        self.lruvec = ptr::null_mut();
    }

    /// Locks the lruvec of a folio, and unlocks another one that may be locked.
    ///
    /// # Safety
    ///
    /// `PG_lru` of the folio must be clear, and be left so by everybody else.
    #[inline]
    unsafe fn relock(&mut self, folio: &Folio) {
        if !self.lruvec.is_null() {
            // SAFETY: Both are valid, and by the type invariants the lruvec is locked.
            if unsafe { bindings::folio_matches_lruvec(folio.as_ptr(), self.lruvec) } {
                return;
            }
            self.unlock();
        }
        // SAFETY: The folio is valid. Since nobody else takes it off its list, it stays charged to
        // what it is charged to; and which lruvec that has is looked at again under the lock.
        //
        // INVARIANT: This is the lock that we hold now.
        self.lruvec = unsafe { bindings::folio_lruvec_lock_irq(folio.as_ptr()) };
    }

    /// Claims a folio by clearing its `PG_lru`, locks its lruvec, unless that is the one that is
    /// locked already, and calls `work`. The claim ends with `work`; the lock stays.
    ///
    /// `None` if the folio is on no list, or somebody else has claimed it: then there is nothing
    /// more to be done with it. The claim is fully ordered.
    #[inline]
    pub fn with_claimed<R>(
        &mut self,
        folio: &Folio,
        work: impl FnOnce(&mut LruFolio<'_>) -> R,
    ) -> Option<R> {
        // SAFETY: The folio is valid by its type invariants; the bit is cleared atomically.
        if !unsafe { bindings::folio_test_clear_lru(folio.as_ptr()) } {
            return None;
        }
        // SAFETY: We have just cleared the flag.
        unsafe { self.relock(folio) };

        // INVARIANT: We have claimed the folio and locked its lruvec.
        let result = work(&mut LruFolio { guard: self, folio });

        // SAFETY: We have cleared the flag, and the folio is on the list that its flags say.
        unsafe { bindings::folio_set_lru(folio.as_ptr()) };
        Some(result)
    }

    /// Locks the lruvec that a new folio belongs to, unless it is the one that is locked already,
    /// calls `work`, and puts the folio on the list that its flags say then.
    #[inline]
    pub fn add_new(&mut self, new: NewFolio<'_>, work: impl FnOnce(&mut NewLruFolio<'_>)) {
        let folio = new.folio();

        // SAFETY: By its type invariants, the folio has no `PG_lru`, and nobody else sets it.
        unsafe { self.relock(folio) };

        // INVARIANT: We have locked the lruvec.
        work(&mut NewLruFolio { folio });

        // SAFETY: By its type invariants, the folio is on no list. Its lruvec is locked, and the
        // flag is ours to set.
        let lru = unsafe {
            let lru = bindings::lruvec_link_folio(self.lruvec, folio.as_ptr());
            bindings::folio_set_lru(folio.as_ptr());
            lru
        };
        self.note_moved(folio, NO_LRU, lru);
    }
}

impl Drop for LruvecGuard {
    #[inline]
    fn drop(&mut self) {
        self.unlock();
    }
}

/// A folio that is claimed, the lruvec of which is locked.
///
/// # Invariants
///
/// `PG_lru` of the folio was cleared by us. `guard` holds the lock of its lruvec. The folio is on
/// the list of it that its flags say.
pub struct LruFolio<'l> {
    guard: &'l mut LruvecGuard,
    folio: &'l Folio,
}

impl Deref for LruFolio<'_> {
    type Target = Folio;

    #[inline]
    fn deref(&self) -> &Folio {
        self.folio
    }
}

impl LruFolio<'_> {
    /// Counts that `PG_mlocked` was set on the folio, or cleared.
    #[inline]
    pub fn note_mlocked(&mut self, set: bool) {
        self.guard.note_mlocked(self.folio, set);
    }

    /// Adds 1 to the folio's `mlock_count`, if it has one.
    ///
    /// It has one while it is unevictable: there is no unevictable list, so that the count can
    /// stand where the links of the other lists are.
    #[inline]
    pub fn inc_mlock_count(&mut self) {
        if self.test_unevictable() {
            // SAFETY: The folio is valid. It is unevictable, which nobody else changes now, so the
            // count is there; it is under the lruvec lock.
            unsafe {
                let count = bindings::folio_mlock_count(self.as_ptr());
                *count = (*count).wrapping_add(1);
            }
        }
    }

    /// Takes 1 off the folio's `mlock_count`, if it has one that is not 0, and returns what is
    /// left; 0 if it has none.
    #[inline]
    pub fn dec_mlock_count(&mut self) -> c_uint {
        if !self.test_unevictable() {
            return 0;
        }
        // SAFETY: As in `inc_mlock_count()`.
        unsafe {
            let count = bindings::folio_mlock_count(self.as_ptr());
            *count = (*count).saturating_sub(1);
            *count
        }
    }

    /// Moves the folio from the list that it is on to the unevictable one. Its `mlock_count` is 1
    /// if it is mlocked, 0 if it is unevictable for another reason.
    #[inline]
    pub fn make_unevictable(&mut self) {
        let folio = self.as_ptr();
        debug_assert!(!self.test_unevictable());

        // SAFETY: By the type invariants, the folio is claimed and on a list of this lruvec, which
        // is locked. It is taken off that list before its flags change, and `mlock_count` is set
        // when it is on none.
        unsafe {
            let lruvec = self.guard.lruvec;
            let from = bindings::lruvec_unlink_folio(lruvec, folio);
            bindings::folio_clear_active(folio);
            bindings::folio_set_unevictable(folio);
            *bindings::folio_mlock_count(folio) = self.test_mlocked().into();
            let to = bindings::lruvec_link_folio(lruvec, folio);
            self.guard.note_moved(self.folio, from, to);
        }
    }

    /// Moves the folio from the unevictable list to the one that its other flags say.
    #[inline]
    pub fn make_evictable(&mut self) {
        let folio = self.as_ptr();
        debug_assert!(self.test_unevictable());

        // SAFETY: By the type invariants, the folio is claimed and on a list of this lruvec, which
        // is locked. It is taken off that list before its flags change.
        unsafe {
            let lruvec = self.guard.lruvec;
            let from = bindings::lruvec_unlink_folio(lruvec, folio);
            bindings::folio_clear_unevictable(folio);
            let to = bindings::lruvec_link_folio(lruvec, folio);
            self.guard.note_moved(self.folio, from, to);
        }
    }
}

/// A new folio whose lruvec is locked, before it is put on a list.
///
/// # Invariants
///
/// The folio is on no list.
pub struct NewLruFolio<'l> {
    folio: &'l Folio,
}

impl Deref for NewLruFolio<'_> {
    type Target = Folio;

    #[inline]
    fn deref(&self) -> &Folio {
        self.folio
    }
}

impl NewLruFolio<'_> {
    /// Makes the unevictable list the one that the folio goes to, with `mlock_count` as
    /// [`LruFolio::make_unevictable`] sets it.
    #[inline]
    pub fn set_unevictable(&mut self) {
        let folio = self.as_ptr();

        // SAFETY: The folio is valid and on no list yet.
        unsafe {
            bindings::folio_set_unevictable(folio);
            *bindings::folio_mlock_count(folio) = self.test_mlocked().into();
        }
    }
}

/// Returns whether per-CPU batches are to be emptied at once, as `lru_cache_disabled()`.
#[inline]
pub fn lru_cache_disabled() -> bool {
    // SAFETY: No preconditions.
    unsafe { bindings::lru_cache_disabled() }
}
