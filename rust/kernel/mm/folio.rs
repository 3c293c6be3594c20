// SPDX-License-Identifier: GPL-2.0

//! Folios and the LRU lists that they are on.
//!
//! A folio is on at most one LRU list, of its lruvec, and only under the lruvec lock does it get
//! there or leave. Who wants to make it unevictable, or evictable again, first claims it by
//! clearing `PG_lru`: one contender succeeds, and nobody else takes the folio off its list until
//! the flag is set again. [`LruFolio`] stands for both, the claim and the lock. It only exists
//! while the closure of [`LruvecGuard::with_claimed`] runs. Whether the folio changes lists when the
//! claim ends follows from its flags and its mapping; the closure has no say in it.
//!
//! The claim ends, and the flags change, in one atomic step. `PG_lru` is set in that step although
//! the folio may not be on its new list yet: the lruvec lock is still held, and who claims the
//! folio next has to wait for it before touching a list.
//!
//! # Lock order
//!
//! The lruvec lock is taken with interrupts off (a sleeping lock on PREEMPT_RT), inside of page
//! table locks and of local locks. No other lock is taken inside of it. Closures that run with it
//! must keep to that: they must not sleep, and not drop a [`FolioRef`].
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/mm_inline.h`](srctree/include/linux/mm_inline.h),
//! [`include/linux/memcontrol.h`](srctree/include/linux/memcontrol.h)

use crate::{
    bindings,
    ffi::{
        c_long,
        c_ulong, //
    },
    types::NotThreadSafe, //
};
use core::{
    marker::PhantomData,
    mem,
    ptr::{
        self,
        NonNull, //
    },
};

/// The kernel's `struct folio`, for as long as 'f.
///
/// A handle, and not a reference: `struct folio` is the size of several `struct page`s, and a folio
/// of order 0 has one. At the end of the memory map, nothing need be behind that one, so a
/// reference to `bindings::folio` would claim memory that does not exist. The C functions look
/// beyond the first `struct page` for large folios only.
///
/// # Invariants
///
/// The pointer is that of a folio which is not freed, and the reference count of which is not 0,
/// for 'f.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Folio<'f>(NonNull<bindings::folio>, PhantomData<&'f ()>);

// Flags of a folio, as bits of its first word.
const LRU: c_ulong = 1 << bindings::pageflags_PG_lru;
const ACTIVE: c_ulong = 1 << bindings::pageflags_PG_active;
const MLOCKED: c_ulong = 1 << bindings::pageflags_PG_mlocked;
const UNEVICTABLE: c_ulong = 1 << bindings::pageflags_PG_unevictable;

/// The events of `/proc/vmstat` that are counted here, in pages: `UNEVICTABLE_PG*`.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Event {
    Culled = bindings::vm_event_item_UNEVICTABLE_PGCULLED,
    Rescued = bindings::vm_event_item_UNEVICTABLE_PGRESCUED,
    Mlocked = bindings::vm_event_item_UNEVICTABLE_PGMLOCKED,
    Munlocked = bindings::vm_event_item_UNEVICTABLE_PGMUNLOCKED,
    Stranded = bindings::vm_event_item_UNEVICTABLE_PGSTRANDED,
}

// May be called with preemption on.
fn count_events(event: Event, pages: c_long) {
    // SAFETY: Each value of the type is an event that the kernel counts.
    unsafe { bindings::count_vm_events(event as bindings::vm_event_item, pages) };
}

// All methods may be called in task context, with spinlocks held and interrupts off.
impl<'f> Folio<'f> {
    /// Makes a handle of a raw pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point at a folio that is not freed during 'f, and the reference count of which
    /// does not become 0.
    #[inline]
    pub unsafe fn from_raw(ptr: *mut bindings::folio) -> Self {
        // INVARIANT: The caller promises it.
        // SAFETY: The caller promises that there is a folio, so the pointer is not null.
        Self(unsafe { NonNull::new_unchecked(ptr) }, PhantomData)
    }

    /// Returns the raw pointer.
    #[inline]
    pub fn as_ptr(self) -> *mut bindings::folio {
        self.0.as_ptr()
    }

    /// Returns how many pages the folio has.
    #[inline]
    pub fn nr_pages(self) -> usize {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_nr_pages(self.as_ptr()) }
    }

    /// Returns whether the folio has more than one page.
    #[inline]
    pub fn is_large(self) -> bool {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_test_large(self.as_ptr()) }
    }

    /// Returns whether the folio is memory of a device, which is on no LRU list.
    #[inline]
    pub fn is_zone_device(self) -> bool {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_is_zone_device(self.as_ptr()) }
    }

    /// Returns whether the folio may wait in a per-CPU batch, as `folio_may_be_lru_cached()`.
    #[inline]
    pub fn may_be_lru_cached(self) -> bool {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_may_be_lru_cached(self.as_ptr()) }
    }

    /// Returns whether `PG_mlocked` is set.
    #[inline]
    pub fn test_mlocked(self) -> bool {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_test_mlocked(self.as_ptr()) }
    }

    /// Sets `PG_mlocked`, and counts that unless it was set: in `nr_mlock`, and as an event. Fully
    /// ordered.
    ///
    /// Who clears the flag, or frees the folio with it, takes the pages off `nr_mlock` again.
    #[inline]
    pub fn set_mlocked(self) {
        // SAFETY: The folio is valid by the type invariants; the bit is set atomically.
        if !unsafe { bindings::folio_test_set_mlocked(self.as_ptr()) } {
            self.count_mlocked();
        }
    }

    /// Clears `PG_mlocked` and returns whether it was set. Fully ordered.
    #[inline]
    fn test_clear_mlocked(self) -> bool {
        // SAFETY: The folio is valid by the type invariants; the bit is cleared atomically.
        unsafe { bindings::folio_test_clear_mlocked(self.as_ptr()) }
    }

    /// Returns whether `PG_unevictable` is set. Only who has claimed the folio can rely on it.
    #[inline]
    pub fn test_unevictable(self) -> bool {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_test_unevictable(self.as_ptr()) }
    }

    /// Returns whether reclaim may take the folio, as `folio_evictable()`.
    ///
    /// What needs no look at the mapping comes first: an mlocked folio is unevictable whatever it
    /// maps, and no mapping makes an anonymous one so.
    #[inline]
    pub fn is_evictable(self) -> bool {
        !self.test_mlocked() && self.has_evictable_mapping()
    }

    /// Returns whether reclaim may take the folio once it is not mlocked.
    #[inline]
    fn has_evictable_mapping(self) -> bool {
        // SAFETY: The folio is valid by the type invariants.
        unsafe {
            bindings::folio_test_anon(self.as_ptr())
                || bindings::folio_mapping_evictable(self.as_ptr())
        }
    }

    /// Marks an unevictable folio as accessed, as `folio_mark_accessed()`.
    ///
    /// Returns `false`, and does nothing, if the folio is not unevictable or there would be more to
    /// do about it.
    #[inline]
    pub fn mark_accessed_unevictable(self) -> bool {
        // SAFETY: The folio is valid by the type invariants; the bit is set atomically.
        unsafe { bindings::folio_mark_accessed_unevictable(self.as_ptr()) }
    }

    /// Returns the flags, which others may be changing.
    #[inline]
    fn flags(self) -> c_ulong {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_flags_read(self.as_ptr()) }
    }

    /// Clears and sets flags in one step, fully ordered, and returns what they were.
    ///
    /// # Safety
    ///
    /// `PG_mlocked` may be changed by anybody. `PG_lru` may be cleared by anybody, which claims
    /// the folio if it was set. It may be set, and `PG_active` and `PG_unevictable` may be changed,
    /// only by who has claimed the folio or it is new to, with its lruvec locked.
    #[inline]
    unsafe fn change_flags(self, clear: c_ulong, set: c_ulong) -> c_ulong {
        // SAFETY: The folio is valid by the type invariants; the word is changed atomically. The
        // caller keeps to the rules for each flag.
        unsafe { bindings::folio_change_flags(self.as_ptr(), clear, set) }
    }

    /// Ends the claim on the folio, and changes its flags with that. Returns what they were.
    ///
    /// # Safety
    ///
    /// The folio must be claimed by us and its lruvec locked. If it is not on the list that its
    /// flags say then, it must be put there before the lruvec is unlocked.
    #[inline(always)]
    unsafe fn end_claim(self, clear: c_ulong, set: c_ulong) -> c_ulong {
        // SAFETY: The caller promises that the folio is claimed, so these flags are ours to change.
        unsafe { self.change_flags(clear, set | LRU) }
    }

    fn mod_nr_mlock(self, pages: c_long) {
        // SAFETY: The folio is valid by the type invariants.
        unsafe {
            bindings::zone_stat_mod_folio(self.as_ptr(), bindings::zone_stat_item_NR_MLOCK, pages);
        }
    }

    // Counts that we have set `PG_mlocked`, which was clear.
    #[inline]
    fn count_mlocked(self) {
        let pages = self.nr_counted();

        self.mod_nr_mlock(pages);
        count_events(Event::Mlocked, pages);
    }

    /// Munlocks the folio without a claim on it: clears `PG_mlocked`, and counts that.
    ///
    /// If it is unevictable, it stays so for now, and is counted as stranded.
    fn munlock_unclaimed(self) {
        if !self.test_clear_mlocked() {
            return;
        }
        let pages = self.nr_counted();

        self.mod_nr_mlock(pages.wrapping_neg());
        count_events(
            if self.test_unevictable() {
                Event::Stranded
            } else {
                Event::Munlocked
            },
            pages,
        );
    }

    /// Returns whether a page of the folio is mapped, as `folio_mapped()`. That may change at once.
    #[inline]
    fn is_mapped(self) -> bool {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_mapped(self.as_ptr()) }
    }

    /// Returns the number of the folio's zone in its node.
    #[inline]
    fn zonenum(self) -> bindings::zone_type {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_zonenum(self.as_ptr()) }
    }

    /// Returns how many pages the folio has, in the type of the kernel's counters.
    #[inline]
    fn nr_counted(self) -> c_long {
        self.nr_pages() as c_long
    }

    /// Takes a reference.
    #[inline]
    pub fn get(self) -> FolioRef {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_get(self.as_ptr()) };
        // INVARIANT: We just took the reference.
        FolioRef(self.0)
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
    /// Returns the folio, for as long as the reference is not put.
    #[inline]
    pub fn folio(&self) -> Folio<'_> {
        // INVARIANT: We own a reference by the type invariants.
        Folio(self.0, PhantomData)
    }

    /// Gives up the reference as a pointer.
    #[inline]
    pub(super) fn into_raw(self) -> NonNull<bindings::folio> {
        let ptr = self.0;
        mem::forget(self);
        ptr
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
/// Dropping it puts it on the list that its flags say, by way of the batch of `folio_add_lru()`.
///
/// # Invariants
///
/// The folio is on no list, its `PG_lru` is clear, and nobody else is going to change that.
pub struct NewFolio<'f>(Folio<'f>);

impl<'f> NewFolio<'f> {
    /// Takes over a folio that is not on an LRU list yet.
    ///
    /// # Safety
    ///
    /// The folio must be on no LRU list, with `PG_lru` clear, and nobody else may put it on one. If
    /// the result is dropped, then no lruvec may be locked, and this must be task context.
    #[inline]
    pub unsafe fn new(folio: Folio<'f>) -> Self {
        // SAFETY: The folio is valid by its type invariants.
        debug_assert!(!unsafe { bindings::folio_test_lru(folio.as_ptr()) });
        // INVARIANT: The caller promises it.
        Self(folio)
    }

    /// Returns the folio, for what does not concern the LRU lists.
    #[inline]
    pub fn folio(&self) -> Folio<'f> {
        self.0
    }

    /// Gives up the duty to put the folio on an LRU list.
    #[inline]
    pub(super) fn into_folio(self) -> Folio<'f> {
        let folio = self.0;
        mem::forget(self);
        folio
    }
}

impl Drop for NewFolio<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the folio is valid and on no list, and nobody else puts
        // it on one. Who made this sees to the context.
        unsafe { bindings::folio_add_lru(self.0.as_ptr()) };
    }
}

/// What is to become of `PG_mlocked` when the claim on a folio ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mlocked {
    /// It stays as it is.
    Kept,
    /// It is cleared.
    Cleared,
}

/// The lock of at most one lruvec. Dropping it unlocks.
///
/// Spins, and does not sleep, save on PREEMPT_RT; may be used wherever the lruvec lock may be
/// taken. Who may use one gets a reference, from a batch that is locked, which has one at a time: no
/// other can be used while one has a lock, so that a second one cannot wait for the first. 'g is
/// different for each and invariant, so that two cannot be swapped: each would turn on interrupts
/// for the other.
///
/// # Invariants
///
/// `lruvec` is null, or we hold its lock, and with it the RCU read lock; `irq_flags` is what the
/// lock gave. If it is null, then `pending` is empty, else that is about folios of this lruvec.
pub struct LruvecGuard<'g> {
    lruvec: *mut bindings::lruvec,
    irq_flags: c_ulong,
    pending: Pending,
    // Neither a longer nor a shorter lifetime will do.
    _brand: PhantomData<fn(&'g ()) -> &'g ()>,
    // What task holds the lock is known to lockdep, and on PREEMPT_RT to the lock.
    _nts: NotThreadSafe,
}

/// What has been done to some folios in a row and is not counted yet, in pages.
///
/// The counters are changed once for all of them, before the lruvec is unlocked:
///
/// - The sizes of the lists are seen exact by all who have the lock. Who reads them without it
///   gets them late by what was moved under this hold of the lock.
/// - `nr_mlock` and the events of `/proc/vmstat` have no lock, and are late by as much. Who munlocks
///   a folio that is claimed counts that at once, so `nr_mlock` may be too low meanwhile.
struct Pending {
    // The lists and the zone, for which it is: see `key()`.
    key: u32,
    moved: c_long,
    mlocked: c_long,
    munlocked: c_long,
}

/// Stands for no list, or for one that is counted already.
const NO_LRU: bindings::lru_list = bindings::lru_list_NR_LRU_LISTS;

impl Pending {
    const NONE: Self = Self {
        key: 0,
        moved: 0,
        mlocked: 0,
        munlocked: 0,
    };

    /// Packs what has to be the same for pages to be counted together.
    #[inline]
    fn key(from: bindings::lru_list, to: bindings::lru_list, zone: bindings::zone_type) -> u32 {
        const { assert!(NO_LRU < 1 << 8 && bindings::zone_type___MAX_NR_ZONES < 1 << 8) };
        from | to << 8 | zone << 16
    }

    fn from(&self) -> bindings::lru_list {
        self.key & 0xff
    }

    fn to(&self) -> bindings::lru_list {
        self.key >> 8 & 0xff
    }

    fn zone(&self) -> bindings::zone_type {
        self.key >> 16
    }
}

/// Whether `PG_mlocked` changed.
#[derive(Clone, Copy)]
enum Mlock {
    Kept,
    Set,
    Cleared,
}

impl LruvecGuard<'_> {
    /// Calls `work` with a guard that starts out without a lock, and unlocks what it has locked.
    ///
    /// Only for who has a batch locked for himself: while `work` runs, nobody on this CPU is to
    /// call this again.
    #[inline(always)]
    pub(super) fn with<R>(work: impl FnOnce(&mut LruvecGuard<'_>) -> R) -> R {
        // INVARIANT: There is no lock, and nothing to count.
        work(&mut LruvecGuard {
            lruvec: ptr::null_mut(),
            irq_flags: 0,
            pending: Pending::NONE,
            _brand: PhantomData,
            _nts: NotThreadSafe,
        })
    }

    // Notes that a folio of the lruvec, which is locked, went from one list to another, and what
    // happened to its `PG_mlocked`.
    #[inline(always)]
    fn note(
        &mut self,
        folio: Folio<'_>,
        from: bindings::lru_list,
        to: bindings::lru_list,
        mlock: Mlock,
    ) {
        let key = Pending::key(from, to, folio.zonenum());
        if key != self.pending.key {
            if self.pending.moved != 0 {
                self.count();
            }
            self.pending.key = key;
        }

        let pages = folio.nr_counted();
        let add = |count: &mut c_long| *count = count.wrapping_add(pages);
        add(&mut self.pending.moved);
        match mlock {
            Mlock::Kept => (),
            Mlock::Set => add(&mut self.pending.mlocked),
            Mlock::Cleared => add(&mut self.pending.munlocked),
        }
    }

    fn count(&mut self) {
        let pending = &mut self.pending;
        let moved = mem::take(&mut pending.moved);
        let mlocked = mem::take(&mut pending.mlocked);
        let munlocked = mem::take(&mut pending.munlocked);
        if moved == 0 {
            return;
        }

        // SAFETY: By the type invariants, something was pending, so the lruvec is locked; lists and
        // zone are those of its folios.
        unsafe {
            if pending.from() != NO_LRU {
                let (lru, pages) = (pending.from(), moved.wrapping_neg());
                bindings::update_lru_size(self.lruvec, lru, pending.zone(), pages);
            }
            if pending.to() != NO_LRU {
                bindings::update_lru_size(self.lruvec, pending.to(), pending.zone(), moved);
            }
            if mlocked != munlocked {
                let pages = mlocked.wrapping_sub(munlocked);
                bindings::lruvec_mod_nr_mlock(self.lruvec, pending.zone(), pages);
            }
        }
        if pending.to() == bindings::lru_list_LRU_UNEVICTABLE {
            count_events(Event::Culled, moved);
        } else if pending.from() == bindings::lru_list_LRU_UNEVICTABLE {
            count_events(Event::Rescued, moved);
        }
        if mlocked != 0 {
            count_events(Event::Mlocked, mlocked);
        }
        if munlocked != 0 {
            count_events(Event::Munlocked, munlocked);
        }
    }

    /// Unlocks the lruvec, if there is one.
    #[inline]
    pub fn unlock(&mut self) {
        if self.lruvec.is_null() {
            return;
        }
        self.count();

        // SAFETY: By the type invariants, we hold the lock.
        //
        // INVARIANT: We hold none afterwards, and all is counted.
        unsafe { bindings::lruvec_unlock_irqrestore(self.lruvec, self.irq_flags) };
        self.lruvec = ptr::null_mut();
    }

    /// Locks the lruvec of a folio, and unlocks another one that may be locked.
    ///
    /// # Safety
    ///
    /// `PG_lru` of the folio must be clear, and be left so by everybody else.
    #[inline]
    unsafe fn relock(&mut self, folio: Folio<'_>) {
        if !self.lruvec.is_null() {
            // SAFETY: Both are valid. What the folio is charged to changes in two ways.
            // `mem_cgroup_migrate()` takes the charge from a folio that migration has claimed,
            // which it has not, since the caller has, or of which nobody else knows yet. When its
            // memory cgroup goes away, that is done under the lock of its lruvec: if it is the one
            // that we hold, it does not change now.
            if unsafe { bindings::folio_matches_lruvec(folio.as_ptr(), self.lruvec) } {
                return;
            }
            self.unlock();
        }
        // SAFETY: The folio is valid. Which lruvec it has is looked at again under the lock.
        //
        // INVARIANT: This is the lock that we hold now, and nothing is pending.
        self.lruvec =
            unsafe { bindings::folio_lruvec_lock_irqsave(folio.as_ptr(), &mut self.irq_flags) };
    }

    /// Claims a folio by clearing its `PG_lru`, locks its lruvec, unless that is the one that is
    /// locked already, and calls `work`, which says what becomes of `PG_mlocked`. The claim ends
    /// then, and the folio goes to the unevictable list or leaves it as its flags and its mapping
    /// want; the lock stays.
    ///
    /// Returns whether the folio was claimed. If not, then it is on no list, or somebody else has
    /// claimed it: there is nothing more to be done with it. The claim is fully ordered.
    #[inline(always)]
    pub fn with_claimed(
        &mut self,
        folio: Folio<'_>,
        work: impl FnOnce(&mut LruFolio<'_>) -> Mlocked,
    ) -> bool {
        // SAFETY: The folio is valid by its type invariants; the bit is cleared atomically.
        let claimed = unsafe { bindings::folio_test_clear_lru(folio.as_ptr()) };
        if claimed {
            // SAFETY: We have just cleared the flag, and looked at the others after that.
            unsafe { self.work_on_claimed(folio, folio.flags(), false, work) };
        }
        claimed
    }

    /// Sets `PG_mlocked` of a folio and counts it, unless it was set, and claims the folio in the
    /// same step. Otherwise as [`LruvecGuard::with_claimed`].
    #[inline(always)]
    pub fn mlock_with_claimed(
        &mut self,
        folio: Folio<'_>,
        work: impl FnOnce(&mut LruFolio<'_>) -> Mlocked,
    ) -> bool {
        // SAFETY: Anybody may clear the one flag, and set the other.
        let old = unsafe { folio.change_flags(LRU, MLOCKED) };
        let first = old & MLOCKED == 0;

        if old & LRU != 0 {
            // SAFETY: We have just cleared the flag, with these others beside it.
            unsafe { self.work_on_claimed(folio, old | MLOCKED, first, work) };
            return true;
        }
        if first {
            folio.count_mlocked();
        }
        false
    }

    /// As [`LruvecGuard::with_claimed`]. A folio that somebody else has claimed is munlocked all the
    /// same: its `PG_mlocked` is cleared, and that is counted. If it is unevictable, it stays so for
    /// now, and is counted as stranded.
    #[inline(always)]
    pub fn munlock_with_claimed(
        &mut self,
        folio: Folio<'_>,
        work: impl FnOnce(&mut LruFolio<'_>) -> Mlocked,
    ) {
        if !self.with_claimed(folio, work) {
            folio.munlock_unclaimed();
        }
    }

    /// Locks the lruvec, calls `work`, and ends the claim. `flags` are those of the folio, and
    /// `first` says that `PG_mlocked` was set with the claim, and is to be counted.
    ///
    /// # Safety
    ///
    /// We must have cleared `PG_lru` of the folio: whoever finds it clear leaves it so, until we
    /// set it here. `flags` must have been read then or after that.
    #[inline(always)]
    unsafe fn work_on_claimed(
        &mut self,
        folio: Folio<'_>,
        flags: c_ulong,
        first: bool,
        work: impl FnOnce(&mut LruFolio<'_>) -> Mlocked,
    ) {
        // SAFETY: The caller promises that the folio is claimed by us.
        unsafe { self.relock(folio) };

        // INVARIANT: We have claimed the folio and locked its lruvec. The caller promises the rest.
        let mut claimed = LruFolio { folio, flags };
        let mlocked = work(&mut claimed);

        let unevictable = claimed.is_unevictable();
        let mlock = if first { Mlock::Set } else { Mlock::Kept };
        // SAFETY: The folio is claimed by us and on the list that its flags say; the lruvec is
        // locked.
        unsafe {
            match mlocked {
                Mlocked::Cleared if unevictable && folio.has_evictable_mapping() => {
                    let old = folio.end_claim(MLOCKED | UNEVICTABLE, 0);
                    let from = bindings::lru_list_LRU_UNEVICTABLE;
                    self.add_evictable(folio, from, cleared(old, first));
                }
                Mlocked::Cleared => {
                    let old = folio.end_claim(MLOCKED, 0);
                    self.note(folio, NO_LRU, NO_LRU, cleared(old, first));
                }
                Mlocked::Kept if claimed.is_evictable() == unevictable => {
                    if unevictable {
                        folio.end_claim(UNEVICTABLE, 0);
                        self.add_evictable(folio, bindings::lru_list_LRU_UNEVICTABLE, mlock);
                    } else {
                        let from =
                            bindings::lruvec_del_folio_uncounted(self.lruvec, folio.as_ptr());
                        self.cull(folio, from, mlock);
                    }
                }
                Mlocked::Kept => {
                    bindings::folio_set_lru(folio.as_ptr());
                    if first {
                        self.note(folio, NO_LRU, NO_LRU, mlock);
                    }
                }
            }
        }
    }

    /// Moves a folio that is on no list to the unevictable one, and ends the claim.
    ///
    /// # Safety
    ///
    /// The folio must be claimed by us, its lruvec locked, and it must have been taken off its
    /// list.
    #[inline(always)]
    unsafe fn cull(&mut self, folio: Folio<'_>, from: bindings::lru_list, mlock: Mlock) {
        // SAFETY: The caller promises that the folio is claimed. There is no unevictable list: in
        // the place of its links the folio has the count, which is ours while the lruvec is locked.
        unsafe {
            let old = folio.end_claim(ACTIVE, UNEVICTABLE);
            *bindings::folio_mlock_count(folio.as_ptr()) = (old & MLOCKED != 0).into();
        }
        self.note(folio, from, bindings::lru_list_LRU_UNEVICTABLE, mlock);
    }

    /// Puts a folio that was unevictable, or new, on the list that its flags say now.
    ///
    /// # Safety
    ///
    /// The lruvec of the folio must be locked, and still be so since the claim ended.
    #[inline(always)]
    unsafe fn add_evictable(&mut self, folio: Folio<'_>, from: bindings::lru_list, mlock: Mlock) {
        // SAFETY: The lruvec is locked; who has claimed the folio since waits for it. New, or on
        // the unevictable list, the folio was linked to nothing.
        let to = unsafe { bindings::lruvec_add_folio_uncounted(self.lruvec, folio.as_ptr()) };
        self.note(folio, from, to, mlock);
    }

    /// Locks the lruvec that a new folio belongs to, unless it is the one that is locked already,
    /// and puts the folio on a list: the unevictable one if it is unevictable then. The C function
    /// is `__mlock_new_folio()`.
    #[inline]
    pub(super) fn add_new(&mut self, new: NewFolio<'_>) {
        let folio = new.into_folio();

        // SAFETY: By its type invariants, the folio has no `PG_lru`, and nobody else sets it.
        unsafe { self.relock(folio) };

        // SAFETY: By its type invariants, the folio is on no list, as if we had claimed it and
        // taken it off one; its lruvec is locked.
        unsafe {
            if folio.is_evictable() {
                // It was mlocked, but is not any more.
                folio.end_claim(0, 0);
                self.add_evictable(folio, NO_LRU, Mlock::Kept);
            } else {
                self.cull(folio, NO_LRU, Mlock::Kept);
            }
        }
    }
}

// What happened to `PG_mlocked` if it was to be cleared and `old` are the flags before that.
// `first` says that we had set it before, and not counted that: it comes to nothing, unless
// somebody else has cleared it since, and counted that.
#[inline(always)]
fn cleared(old: c_ulong, first: bool) -> Mlock {
    match (old & MLOCKED != 0, first) {
        (true, false) => Mlock::Cleared,
        (false, true) => Mlock::Set,
        _ => Mlock::Kept,
    }
}

impl Drop for LruvecGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.unlock();
    }
}

/// A folio that is claimed, the lruvec of which is locked.
///
/// # Invariants
///
/// `PG_lru` of the folio was cleared by us, and the lock of its lruvec is held. The folio is on the
/// list of it that its flags say. `flags` are the folio's since `PG_lru` was cleared: nobody else
/// changes `PG_unevictable`, and `PG_mlocked` may change at any time.
pub struct LruFolio<'l> {
    folio: Folio<'l>,
    flags: c_ulong,
}

impl LruFolio<'_> {
    #[inline(always)]
    fn is_unevictable(&self) -> bool {
        self.flags & UNEVICTABLE != 0
    }

    #[inline(always)]
    fn is_mlocked(&self) -> bool {
        self.flags & MLOCKED != 0
    }

    // `folio_evictable()`, for the flags that were read.
    #[inline(always)]
    fn is_evictable(&self) -> bool {
        !self.is_mlocked() && self.folio.has_evictable_mapping()
    }

    /// Adds 1 to the folio's `mlock_count`, if it has one and is mlocked.
    ///
    /// It has one while it is unevictable: there is no unevictable list, so that the count can
    /// stand where the links of the other lists are.
    #[inline]
    pub fn inc_mlock_count(&mut self) {
        if self.is_unevictable() && self.is_mlocked() {
            // SAFETY: The folio is valid. It is unevictable, which nobody else changes now, so the
            // count is there; it is under the lruvec lock.
            unsafe {
                let count = bindings::folio_mlock_count(self.folio.as_ptr());
                *count = (*count).wrapping_add(1);
            }
        }
    }

    /// Takes 1 off the folio's `mlock_count`, if it has one that is not 0, and returns whether
    /// something is left, so that a vma may still have the folio locked.
    ///
    /// A folio that is mapped nowhere is locked by nobody, whatever its count is.
    #[inline]
    pub fn dec_mlock_count(&mut self) -> bool {
        if !self.is_unevictable() {
            return false;
        }
        // SAFETY: As in `inc_mlock_count()`.
        let left = unsafe {
            let count = bindings::folio_mlock_count(self.folio.as_ptr());
            *count = (*count).saturating_sub(1);
            *count
        };
        left != 0 && self.folio.is_mapped()
    }
}

/// Returns whether per-CPU batches are to be emptied at once, as `lru_cache_disabled()`.
#[inline]
pub fn lru_cache_disabled() -> bool {
    // SAFETY: No preconditions.
    unsafe { bindings::lru_cache_disabled() }
}
