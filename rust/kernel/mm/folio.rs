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
    #[inline]
    pub fn is_evictable(&self) -> bool {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_evictable(self.as_ptr()) }
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
        // SAFETY: The event is one that the kernel knows.
        unsafe { bindings::__count_vm_events(event as _, self.nr_pages() as c_long) };
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
    // The lock is released on the CPU that took it.
    _nts: NotThreadSafe,
}

impl LruvecGuard {
    /// Starts out without a lock.
    #[inline]
    pub(super) fn new() -> Self {
        // INVARIANT: There is no lock.
        Self {
            lruvec: ptr::null_mut(),
            _nts: NotThreadSafe,
        }
    }

    /// Locks the lruvec of a folio, and unlocks another one that may be locked.
    ///
    /// # Safety
    ///
    /// `PG_lru` of the folio must be clear, and be left so by everybody else.
    #[inline]
    unsafe fn relock(&mut self, folio: &Folio) {
        // SAFETY: The folio is valid. Since nobody else takes it off its list, it stays charged to
        // what it is charged to; and which lruvec that has is looked at again under the lock. By
        // the type invariants we hold the lock of the other one.
        //
        // INVARIANT: This is the lock that we hold now.
        self.lruvec = unsafe { bindings::folio_lruvec_relock_irq(folio.as_ptr(), self.lruvec) };
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
        let result = work(&mut LruFolio {
            lruvec: self.lruvec,
            folio,
        });

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
        unsafe {
            bindings::lruvec_add_folio(self.lruvec, folio.as_ptr());
            bindings::folio_set_lru(folio.as_ptr());
        }
    }
}

impl Drop for LruvecGuard {
    #[inline]
    fn drop(&mut self) {
        if !self.lruvec.is_null() {
            // SAFETY: By the type invariants, we hold the lock.
            unsafe { bindings::lruvec_unlock_irq(self.lruvec) };
        }
    }
}

/// A folio that is claimed, the lruvec of which is locked.
///
/// # Invariants
///
/// `PG_lru` of the folio was cleared by us. `lruvec` is the folio's, and its lock is held for 'l.
/// The folio is on the list of it that its flags say.
pub struct LruFolio<'l> {
    lruvec: *mut bindings::lruvec,
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
            bindings::lruvec_del_folio(self.lruvec, folio);
            bindings::folio_clear_active(folio);
            bindings::folio_set_unevictable(folio);
            *bindings::folio_mlock_count(folio) = self.test_mlocked().into();
            bindings::lruvec_add_folio(self.lruvec, folio);
        }
        self.count_event(Event::Culled);
    }

    /// Moves the folio from the unevictable list to the one that its other flags say.
    #[inline]
    pub fn make_evictable(&mut self) {
        let folio = self.as_ptr();
        debug_assert!(self.test_unevictable());

        // SAFETY: By the type invariants, the folio is claimed and on a list of this lruvec, which
        // is locked. It is taken off that list before its flags change.
        unsafe {
            bindings::lruvec_del_folio(self.lruvec, folio);
            bindings::folio_clear_unevictable(folio);
            bindings::lruvec_add_folio(self.lruvec, folio);
        }
        self.count_event(Event::Rescued);
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
        self.count_event(Event::Culled);
    }
}

/// Returns whether per-CPU batches are to be emptied at once, as `lru_cache_disabled()`.
#[inline]
pub fn lru_cache_disabled() -> bool {
    // SAFETY: No preconditions.
    unsafe { bindings::lru_cache_disabled() }
}
