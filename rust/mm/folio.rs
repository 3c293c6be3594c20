// SPDX-License-Identifier: GPL-2.0

//! Folios and the LRU lists that they are on.
//!
//! A folio is on at most one LRU list, which belongs to its lruvec. Adding and removing it requires
//! the lruvec lock. `PG_lru` says that it is on a list. To take a folio off its list for longer
//! than the lock is held, as reclaim and migration do, first isolate it by clearing `PG_lru`. Only
//! one CPU can succeed, and then waits for the lock.
//!
//! So the holder of the lock need not isolate a folio that has `PG_lru` set. [`LruvecGuard`]
//! changes all flags of the folio in one atomic step, which fails if `PG_lru` is clear, and then
//! moves the folio to the list that its flags select, as `sort_folio()` in mm/vmscan.c does. A CPU
//! that isolates the folio in between waits for the lock. The exception is a folio that leaves a
//! generation of the multi-gen LRU: it is isolated first, because the functions of the multi-gen
//! LRU change flags themselves.
//!
//! Only its flags and its mapping decide whether a folio is unevictable, as in `folio_evictable()`.
//!
//! # Lock order
//!
//! The lruvec lock disables interrupts (on PREEMPT_RT, it is a sleeping lock). It nests inside page
//! table locks and local locks, and no other lock nests inside it. So closures that run under it
//! must not sleep, and must not drop a [`FolioRef`].
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/mm_inline.h`](srctree/include/linux/mm_inline.h),
//! [`include/linux/memcontrol.h`](srctree/include/linux/memcontrol.h)

use crate::bindings;
use core::{
    marker::PhantomData,
    mem,
    ptr::{
        self,
        NonNull, //
    },
};
use kernel::{
    ffi::{
        c_long,
        c_ulong, //
    },
    types::NotThreadSafe, //
};

/// A `struct folio` that is valid for 'f.
///
/// A handle rather than a reference: `struct folio` spans several `struct page`s, but an order-0
/// folio has only one. At the end of the memory map, nothing need follow that one, so a reference
/// to `bindings::folio` could cover memory that does not exist. The C functions look beyond the
/// first `struct page` for large folios only.
///
/// # Invariants
///
/// The pointer is that of a folio that is not freed, and whose reference count is not 0, for 'f.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Folio<'f>(NonNull<bindings::folio>, PhantomData<&'f ()>);

// Flags of a folio, as bits of its first word.
const LRU: c_ulong = 1 << bindings::pageflags_PG_lru;
const ACTIVE: c_ulong = 1 << bindings::pageflags_PG_active;
const MLOCKED: c_ulong = 1 << bindings::pageflags_PG_mlocked;
const UNEVICTABLE: c_ulong = 1 << bindings::pageflags_PG_unevictable;
const SWAPBACKED: c_ulong = 1 << bindings::pageflags_PG_swapbacked;
const HEAD: c_ulong = 1 << bindings::pageflags_PG_head;

// What else the flags word holds, so that it is read only once.

/// `folio_lru_list()`.
#[inline(always)]
fn lru_of(flags: c_ulong) -> bindings::lru_list {
    if flags & UNEVICTABLE != 0 {
        return bindings::lru_list_LRU_UNEVICTABLE;
    }
    let lru = if flags & SWAPBACKED == 0 {
        bindings::lru_list_LRU_INACTIVE_FILE
    } else {
        bindings::lru_list_LRU_INACTIVE_ANON
    };
    if flags & ACTIVE == 0 {
        lru
    } else {
        lru + bindings::LRU_ACTIVE
    }
}

/// The flags of an evictable folio after an mlock that moves it.
#[inline(always)]
fn mlocked(flags: c_ulong) -> c_ulong {
    flags & !ACTIVE | MLOCKED | UNEVICTABLE
}

/// The flags of an unevictable folio after a munlock that moves it.
#[inline(always)]
fn munlocked(flags: c_ulong) -> c_ulong {
    flags & !(MLOCKED | UNEVICTABLE)
}

/// The generation of the multi-gen LRU that the folio is in, if any.
const GEN: c_ulong = bindings::FOLIO_GEN_MASK;

/// The bits that identify the node, as in `folio_nid()`.
const NODE: c_ulong = bindings::FOLIO_NODE_MASK << bindings::FOLIO_NODE_SHIFT;

/// `folio_zonenum()`.
#[inline(always)]
fn zone_of(flags: c_ulong) -> bindings::zone_type {
    (flags >> bindings::FOLIO_ZONE_SHIFT & bindings::FOLIO_ZONE_MASK) as bindings::zone_type
}

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
#[inline(always)]
fn count_events(event: Event, pages: c_long) {
    // SAFETY: Each value of the type is an event that the kernel counts.
    unsafe { bindings::count_vm_events(event as bindings::vm_event_item, pages) };
}

// All methods may be called in task context, with spinlocks held and interrupts off.
impl<'f> Folio<'f> {
    /// Creates a handle from a raw pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point at a folio that is not freed, and whose reference count does not become 0,
    /// during 'f.
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

    /// Returns whether the folio is device memory, which is on no LRU list.
    #[inline]
    pub fn is_zone_device(self) -> bool {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_is_zone_device(self.as_ptr()) }
    }

    /// Returns whether the folio may be pending in a per-CPU batch, as `folio_may_be_lru_cached()`.
    #[inline]
    pub fn may_be_lru_cached(self) -> bool {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_may_be_lru_cached(self.as_ptr()) }
    }

    /// Sets `PG_mlocked`. If it was clear, counts that in `nr_mlock` and as an event. Fully
    /// ordered.
    ///
    /// Whoever clears the flag, or frees the folio while it is set, subtracts the pages from
    /// `nr_mlock`.
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

    /// Returns whether the mapping of the folio leaves it evictable; `PG_mlocked` is not
    /// considered.
    ///
    /// # Safety
    ///
    /// An lruvec must be locked, and with it the RCU read lock. The folio must be on an LRU list,
    /// or about to be put on one.
    #[inline(always)]
    unsafe fn has_evictable_mapping(self) -> bool {
        // SAFETY: The folio is valid by the type invariants. By the contract, it is on an LRU list
        // or about to be put on one, so it is no slab, and the RCU read lock keeps its mapping from
        // being freed.
        unsafe { bindings::folio_mapping_evictable(self.as_ptr()) }
    }

    /// Marks an unevictable folio as accessed, as `folio_mark_accessed()`.
    ///
    /// Returns `false`, and does nothing, if the folio is evictable or `folio_mark_accessed()`
    /// would do more.
    #[inline]
    pub fn mark_accessed_unevictable(self) -> bool {
        // SAFETY: The folio is valid by the type invariants; the bit is set atomically.
        unsafe { bindings::folio_mark_accessed_unevictable(self.as_ptr()) }
    }

    /// Returns what the folio is charged to, as a number that is only good for comparing; 0 without
    /// memory cgroups.
    #[inline]
    fn memcg_data(self) -> c_ulong {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_memcg_data(self.as_ptr()) }
    }

    /// Returns the flags, which others may change at any time.
    #[inline]
    fn flags(self) -> c_ulong {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_flags_read(self.as_ptr()) }
    }

    /// Changes the flags from `old` to `new` in one fully ordered step. If they are no longer
    /// `old`, stores the current ones there and returns `false`.
    ///
    /// # Safety
    ///
    /// Anybody may change `PG_mlocked`. Anybody may clear `PG_lru`, which isolates the folio if the
    /// flag was set. Other changes require that the caller holds the folio's lruvec lock:
    /// `PG_active` and `PG_unevictable` may change if the folio has `PG_lru` set, or the caller has
    /// isolated it, or it is new to the caller; in the latter two cases, `PG_lru` may be set. If
    /// the folio is then not on the list that its flags select, the caller must put it there before
    /// unlocking the lruvec.
    #[inline(always)]
    unsafe fn try_change_flags(self, old: &mut c_ulong, new: c_ulong) -> bool {
        // SAFETY: The folio is valid by the type invariants; the word is changed atomically. The
        // caller promises to keep to the rules for each flag.
        unsafe { bindings::folio_flags_try_cmpxchg(self.as_ptr(), old, new) }
    }

    #[inline(always)]
    fn mod_nr_mlock(self, pages: c_long) {
        // SAFETY: The folio is valid by the type invariants.
        unsafe {
            bindings::zone_stat_mod_folio(self.as_ptr(), bindings::zone_stat_item_NR_MLOCK, pages);
        }
    }

    // Counts an mlock, after `PG_mlocked` was clear and we have set it.
    #[inline]
    fn count_mlocked(self) {
        let pages = self.nr_counted(self.flags());

        self.mod_nr_mlock(pages);
        count_events(Event::Mlocked, pages);
    }

    /// Munlocks a folio that is on no list: clears `PG_mlocked` and counts that.
    ///
    /// If it is unevictable, it stays so for now, and is counted as stranded.
    fn munlock_unlisted(self) {
        let mut old = self.flags();
        loop {
            let new = old & !MLOCKED;

            if new == old {
                return;
            }
            // SAFETY: Only `PG_mlocked` changes.
            if unsafe { self.try_change_flags(&mut old, new) } {
                break;
            }
        }
        let pages = self.nr_counted(old);

        self.mod_nr_mlock(pages.wrapping_neg());
        // Look at the old flags: whoever isolated the folio may have put it back since, mlocked
        // again and unevictable.
        count_events(
            if old & UNEVICTABLE != 0 {
                Event::Stranded
            } else {
                Event::Munlocked
            },
            pages,
        );
    }

    /// Munlocks a folio that is about to be freed, and counts it as munlocked and rescued. It stays
    /// unevictable.
    ///
    /// Does nothing, and returns `false`, unless the folio is mlocked, unevictable, small,
    /// anonymous and not KSM's, and has one reference: that of the mapping that was just removed,
    /// which the code that removed it is about to put. So the folio is neither mapped nor in the
    /// swap cache, since either would hold a reference. GUP-fast, which may have read the entry
    /// before it was cleared, takes a reference and then reads the entry again. Only PFN walkers
    /// (compaction, memory offlining, memory_failure(), page_idle) can still find the folio, and
    /// none of them maps it. Code that removes a mapping and keeps the folio (copy on write,
    /// migration, reclaim, KSM, uprobes) holds a reference of its own.
    #[inline]
    pub fn munlock_dying(self) -> bool {
        const BOTH: c_ulong = MLOCKED | UNEVICTABLE;

        if self.flags() & (BOTH | HEAD) != BOTH
            // SAFETY: The folio is valid by the type invariants.
            || !unsafe { bindings::folio_dies_unmapped(self.as_ptr()) }
            || !self.test_clear_mlocked()
        {
            return false;
        }
        self.mod_nr_mlock(-1);
        count_events(Event::Munlocked, 1);
        count_events(Event::Rescued, 1);
        true
    }

    /// Returns whether a page of the folio is mapped, as `folio_mapped()`. This may change at any
    /// time.
    #[inline]
    fn is_mapped(self) -> bool {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_mapped(self.as_ptr()) }
    }

    /// Returns how many pages a folio with these flags has, in the type of the kernel's counters.
    #[inline(always)]
    fn nr_counted(self, flags: c_ulong) -> c_long {
        if flags & HEAD == 0 {
            1
        } else {
            self.nr_pages() as c_long
        }
    }

    /// Returns `flags` with `PG_unevictable` set and `PG_active` clear if the other flags and the
    /// mapping make the folio unevictable, as in `folio_evictable()`; otherwise with
    /// `PG_unevictable` clear.
    ///
    /// # Safety
    ///
    /// As for `has_evictable_mapping()`.
    #[inline(always)]
    unsafe fn culled_or_rescued(self, flags: c_ulong) -> c_ulong {
        // SAFETY: The caller promises it.
        if flags & MLOCKED == 0 && unsafe { self.has_evictable_mapping() } {
            flags & !UNEVICTABLE
        } else {
            flags & !ACTIVE | UNEVICTABLE
        }
    }

    /// Moves a folio from its list to the unevictable one. That list has no links; in their place,
    /// the folio has an `mlock_count`, which starts at 0.
    ///
    /// # Safety
    ///
    /// The lruvec must be locked. The folio must be on one of its lists, and its flags must say by
    /// now that it is unevictable.
    #[inline(always)]
    unsafe fn del_and_cull(self) {
        // SAFETY: The caller promises it.
        unsafe {
            bindings::folio_list_del(self.as_ptr());
            *bindings::folio_mlock_count(self.as_ptr()) = 0;
        }
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

/// A counted reference to a [`Folio`]. Dropping it puts the reference, which may free the folio and
/// so take its lruvec lock: do not drop it with an lruvec locked.
///
/// # Invariants
///
/// Owns one reference.
pub struct FolioRef(NonNull<bindings::folio>);

impl FolioRef {
    /// Returns the folio, which stays valid until the reference is put.
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

/// A folio that has never been on an LRU list, and that its owner has to put on one.
///
/// Dropping it passes the folio to `folio_add_lru()`.
///
/// # Invariants
///
/// The folio is on no list, its `PG_lru` is clear, and nobody else changes either.
pub struct NewFolio<'f>(Folio<'f>);

impl<'f> NewFolio<'f> {
    /// Takes over a folio that is not on an LRU list yet.
    ///
    /// # Safety
    ///
    /// The folio must be on no LRU list, with `PG_lru` clear, and nobody else may put it on one.
    /// The result may only be dropped in task context with no lruvec locked.
    #[inline]
    pub unsafe fn new(folio: Folio<'f>) -> Self {
        // SAFETY: The folio is valid by its type invariants.
        debug_assert!(!unsafe { bindings::folio_test_lru(folio.as_ptr()) });
        // INVARIANT: The caller promises it.
        Self(folio)
    }

    /// Returns the folio, for everything but the LRU lists.
    #[inline]
    pub fn folio(&self) -> Folio<'f> {
        self.0
    }

    /// Returns the folio, and passes the duty to put it on an LRU list to the caller.
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
        // it on one. The caller of `new()` promised that the context is right.
        unsafe { bindings::folio_add_lru(self.0.as_ptr()) };
    }
}

/// What to do with the `PG_mlocked` of a folio that is on a list, before the folio is culled or
/// rescued as its flags and its mapping require.
#[derive(Clone, Copy)]
struct MlockedOp {
    clear: c_ulong,
    set: c_ulong,
}

impl MlockedOp {
    /// Leaves the flag as it is.
    const KEEP: Self = Self { clear: 0, set: 0 };
    /// Sets it: mlocks the folio.
    const SET: Self = Self {
        clear: 0,
        set: MLOCKED,
    };
    /// Clears it: munlocks the folio, and does not cull it. As in the C, `SHM_LOCK` leaves that to
    /// reclaim.
    const CLEAR: Self = Self {
        clear: MLOCKED,
        set: 0,
    };

    #[inline(always)]
    fn apply(self, flags: c_ulong) -> c_ulong {
        flags & !self.clear | self.set
    }

    #[inline(always)]
    fn is_munlock(self) -> bool {
        self.clear != 0
    }
}

/// Whether a munlock clears `PG_mlocked`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mlocked {
    /// The flag stays set.
    Kept,
    /// The flag is cleared.
    Cleared,
}

/// The lock of at most one lruvec. Dropping it unlocks.
///
/// Spins, and sleeps only on PREEMPT_RT; may be used wherever the lruvec lock may be taken. A guard
/// is borrowed from a locked batch, which has one at a time. No other guard can be used while one
/// holds a lock, so nobody waits for a second lruvec lock while holding a first. 'g is different
/// for each guard and invariant, so that two guards cannot be swapped: each would enable interrupts
/// for the other.
///
/// # Invariants
///
/// `lruvec` is null, or we hold its lock, and with it the RCU read lock, and interrupts, which were
/// on, are off. If it is null, `last` is [`Last::NONE`]. Otherwise, `last` is about folios of this
/// lruvec; every folio that is on a list and has this `memcg_data` and `node` belongs to this
/// lruvec; and `last.to` is one of its lists, unless `last.like` is [`NO_LIKE`].
pub struct LruvecGuard<'g> {
    lruvec: *mut bindings::lruvec,
    memcg_data: c_ulong,
    node: c_ulong,
    last: Last,
    // Makes 'g invariant.
    _brand: PhantomData<fn(&'g ()) -> &'g ()>,
    // The lock belongs to a task, for lockdep and on PREEMPT_RT.
    _nts: NotThreadSafe,
}

/// The last change of flags, and the number of consecutive pages with that change that are not
/// counted yet.
///
/// The counters change once for all of these pages, before the lruvec is unlocked:
///
/// - Other holders of the lock see exact list sizes. Readers without the lock see the sizes lag by
///   what was moved under this hold of the lock.
/// - `nr_mlock` and the events in `/proc/vmstat` have no lock, and lag by as much. A munlock of an
///   isolated folio counts at once, so `nr_mlock` may be too low meanwhile.
struct Last {
    // The flags of the folios before and after the change. Only the bits in `MASK` matter. Here,
    // `LRU` is clear if the folio was or is on no list, or on a list that others count.
    old: c_ulong,
    new: c_ulong,
    // The flags that a small folio must have to change as the last two did, or `NO_LIKE`; and the
    // list of the lruvec that it then moves to.
    like: c_ulong,
    to: *mut bindings::list_head,
    pages: c_long,
}

// No folio with `PG_lru` or `PG_mlocked` has these flags.
const NO_LIKE: c_ulong = 0;

impl Last {
    /// The bits that all pages counted together have in common.
    const MASK: c_ulong = LRU
        | ACTIVE
        | MLOCKED
        | UNEVICTABLE
        | SWAPBACKED
        | HEAD
        | NODE
        | bindings::FOLIO_ZONE_MASK << bindings::FOLIO_ZONE_SHIFT
        | GEN;

    const NONE: Self = Self {
        old: 0,
        new: 0,
        like: NO_LIKE,
        to: ptr::null_mut(),
        pages: 0,
    };

    #[inline(always)]
    fn is(&self, old: c_ulong, new: c_ulong) -> bool {
        (self.old ^ old | self.new ^ new) & Self::MASK == 0
    }

    /// Called when a small folio repeats the last change. If the folios came from a list, or are
    /// new and mlocked, remembers their flags, since more may follow. Not inlined: those that
    /// follow do not call it.
    ///
    /// # Safety
    ///
    /// `lruvec` must be the one that is locked.
    #[inline(never)]
    unsafe fn set_like(&mut self, lruvec: *mut bindings::lruvec) {
        let moved = if self.old & UNEVICTABLE != 0 {
            munlocked(self.old)
        } else if self.old & (LRU | MLOCKED) != 0 {
            mlocked(self.old) | LRU
        } else {
            return;
        };
        if (self.new ^ moved) & Self::MASK == 0 {
            self.like = self.old;
            // INVARIANT: This is a list of the lruvec that is locked; unlocking it resets both.
            // SAFETY: The caller promises that there is such an lruvec.
            self.to = unsafe { bindings::lruvec_list(lruvec, lru_of(self.new)) };
        }
    }

    #[inline(always)]
    fn add(&mut self, pages: c_long) {
        self.pages = self.pages.wrapping_add(pages);
    }
}

impl LruvecGuard<'_> {
    /// Calls `work` with a guard that holds no lock yet, and unlocks what `work` has locked.
    ///
    /// The caller must hold the lock of a batch: nobody on this CPU may call this again while
    /// `work` runs.
    #[inline(always)]
    pub(super) fn with<R>(work: impl FnOnce(&mut LruvecGuard<'_>) -> R) -> R {
        // INVARIANT: There is no lock, and nothing to count.
        work(&mut LruvecGuard {
            lruvec: ptr::null_mut(),
            memcg_data: 0,
            node: 0,
            last: Last::NONE,
            _brand: PhantomData,
            _nts: NotThreadSafe,
        })
    }

    /// Records that the flags of a folio changed from `old` to `new`.
    ///
    /// # Safety
    ///
    /// We must have an lruvec locked, and the folio must belong to it.
    #[inline(always)]
    unsafe fn account_change(&mut self, folio: Folio<'_>, old: c_ulong, new: c_ulong) {
        if self.last.is(old, new) {
            if old & HEAD == 0 {
                // SAFETY: The caller promises it.
                unsafe { self.last.set_like(self.lruvec) };
            }
        } else {
            if self.last.pages != 0 {
                self.count();
            }
            self.last.old = old;
            self.last.new = new;
            self.last.like = NO_LIKE;
        }
        self.last.add(folio.nr_counted(old));
    }

    #[inline(never)]
    fn count(&mut self) {
        let Last {
            old, new, pages, ..
        } = self.last;
        let lruvec = self.lruvec;
        let zone = zone_of(old);
        let changed = old ^ new;
        self.last.pages = 0;

        // SAFETY: Some pages are not counted yet, so by the type invariants, the lruvec is locked;
        // lists and zone are those of its folios.
        unsafe {
            if changed & (LRU | UNEVICTABLE) != 0 {
                if old & LRU != 0 {
                    bindings::update_lru_size(lruvec, lru_of(old), zone, pages.wrapping_neg());
                }
                if new & LRU != 0 {
                    bindings::update_lru_size(lruvec, lru_of(new), zone, pages);
                }
            }
            if changed & MLOCKED != 0 {
                let (event, more) = if new & MLOCKED != 0 {
                    (Event::Mlocked, pages)
                } else {
                    (Event::Munlocked, pages.wrapping_neg())
                };
                bindings::lruvec_mod_nr_mlock(lruvec, zone, more);
                count_events(event, pages);
            }
        }
        if changed & UNEVICTABLE != 0 {
            let event = if new & UNEVICTABLE != 0 {
                Event::Culled
            } else {
                Event::Rescued
            };
            count_events(event, pages);
        }
    }

    /// Unlocks the lruvec, if there is one.
    #[inline]
    pub fn unlock(&mut self) {
        if self.lruvec.is_null() {
            return;
        }
        if self.last.pages != 0 {
            self.count();
        }

        // SAFETY: By the type invariants, we hold the lock.
        //
        // INVARIANT: We hold none afterwards, and all is counted.
        unsafe { bindings::lruvec_unlock_irq(self.lruvec) };
        self.lruvec = ptr::null_mut();
        self.last = Last::NONE;
    }

    /// Locks the lruvec of a folio, unless it is locked already, and unlocks another one first.
    ///
    /// The lruvec remains the folio's until it is unlocked if we have isolated the folio, or it is
    /// new to us, or it has `PG_lru` now. The charge of a folio changes in two ways.
    /// `mem_cgroup_migrate()` moves the charge from a folio that migration has isolated to one that
    /// nobody else knows yet. A memory cgroup that goes away moves the charges of its folios under
    /// their lruvec lock.
    ///
    /// `flags` are the folio's, read since this guard last locked something. Returns the flags as
    /// read with the lock held.
    #[inline(always)]
    fn relock(&mut self, folio: Folio<'_>, flags: c_ulong) -> c_ulong {
        // The same charge and node mean the same lruvec: no need to follow pointers.
        if !self.lruvec.is_null()
            && folio.memcg_data() == self.memcg_data
            && flags & NODE == self.node
        {
            return flags;
        }
        self.lock(folio)
    }

    #[inline(never)]
    fn lock(&mut self, folio: Folio<'_>) -> c_ulong {
        if self.lruvec.is_null()
            // SAFETY: Both are valid; the lruvec lock includes the RCU read lock.
            || !unsafe { bindings::folio_matches_lruvec(folio.as_ptr(), self.lruvec) }
        {
            self.unlock();
            // SAFETY: The folio is valid, and the function checks its lruvec again under the lock.
            // Interrupts are on: a guard exists in task context only, and this one holds no lock.
            //
            // INVARIANT: This is the lock that we hold now, and all is counted.
            self.lruvec = unsafe { bindings::folio_lruvec_lock_irq(folio.as_ptr()) };
        }
        let flags = folio.flags();
        // INVARIANT: The folio has this lruvec.
        self.memcg_data = folio.memcg_data();
        self.node = flags & NODE;
        flags
    }

    /// Returns whether the folio is unevictable. If it is on a list, locks its lruvec, unless that
    /// is locked already. Until the lruvec is unlocked, nobody else moves the folio to or from the
    /// unevictable list.
    #[inline(always)]
    pub fn is_unevictable(&mut self, folio: Folio<'_>) -> bool {
        let mut flags = folio.flags();

        if flags & LRU != 0 {
            flags = self.relock(folio, flags);
        }
        flags & UNEVICTABLE != 0
    }

    /// Returns whether moving a folio with these flags repeats the last move: the folio belongs to
    /// the locked lruvec, is small, is on the list from which the last one was moved or is new as
    /// that was, and moving it changes its flags in the same way. `flags` must have `PG_lru`, or
    /// the folio must be new to us and mlocked.
    #[inline(always)]
    fn is_like_last(&self, folio: Folio<'_>, flags: c_ulong) -> bool {
        (self.last.like ^ flags) & Last::MASK == 0 && folio.memcg_data() == self.memcg_data
    }

    /// Mlocks a folio: locks its lruvec, sets and counts `PG_mlocked`, and moves the folio to the
    /// unevictable list, skipping what is done already. Then calls `work`.
    ///
    /// If the folio is on no list, only sets and counts `PG_mlocked`, and returns `false`. Fully
    /// ordered unless nothing changes.
    #[inline(always)]
    pub fn mlock(&mut self, folio: Folio<'_>, work: impl FnOnce(&mut LruFolio<'_>)) -> bool {
        let old = folio.flags();

        if self.cull_like_last(folio, old) {
            let flags = mlocked(old);
            // INVARIANT: The folio is on a list, which follows from these flags, and we have the
            // lock.
            work(&mut LruFolio { folio, flags });
            return true;
        }
        let mut flags = self.change(folio, old, MlockedOp::SET);
        if flags.is_none() {
            folio.set_mlocked();
            // It may have been put on a list before that.
            flags = self.change(folio, folio.flags(), MlockedOp::KEEP);
        }
        let Some(flags) = flags else {
            return false;
        };
        // INVARIANT: As above.
        work(&mut LruFolio { folio, flags });
        true
    }

    /// Locks the lruvec of a folio, unless it is locked already, culls or rescues the folio as its
    /// flags and its mapping require, and calls `work`.
    ///
    /// Does nothing if the folio is on no list. Fully ordered unless nothing changes.
    #[inline(always)]
    pub fn cull_or_rescue(&mut self, folio: Folio<'_>, work: impl FnOnce(&mut LruFolio<'_>)) {
        const DONE: c_ulong = LRU | UNEVICTABLE | MLOCKED;
        let old = folio.flags();
        let mut new;

        // `lru_add()` may have moved it already.
        let done = if old & DONE == DONE {
            new = self.relock(folio, old);
            new & DONE == DONE
        } else {
            new = mlocked(old);
            old & MLOCKED != 0 && self.cull_like_last(folio, old)
        };
        if !done {
            let Some(flags) = self.change(folio, folio.flags(), MlockedOp::KEEP) else {
                return;
            };
            new = flags;
        }
        // INVARIANT: As in `mlock()`.
        work(&mut LruFolio { folio, flags: new });
    }

    /// Mlocks a folio and moves it to the unevictable list if that repeats the last move.
    #[inline(always)]
    fn cull_like_last(&mut self, folio: Folio<'_>, mut old: c_ulong) -> bool {
        let new = mlocked(old);

        if old & (LRU | UNEVICTABLE) != LRU
            || !self.is_like_last(folio, old)
            // SAFETY: `PG_lru` is set and the lruvec locked; the folio is moved below.
            || !unsafe { folio.try_change_flags(&mut old, new) }
        {
            return false;
        }
        self.last.add(1);
        // SAFETY: The folio was on a list of the lruvec, as the last one was.
        unsafe { folio.del_and_cull() };
        true
    }

    /// Munlocks a folio: locks its lruvec, unless it is locked already, and calls `work`, which
    /// decides whether to clear `PG_mlocked`. Then an unevictable folio becomes evictable if its
    /// flags and its mapping allow that. An evictable one stays where it is.
    ///
    /// If the folio is on no list, clears `PG_mlocked` whatever `work` would decide, and counts
    /// that. If it is unevictable, it stays so for now, and is counted as stranded. Fully ordered
    /// unless nothing changes.
    #[inline(always)]
    pub fn munlock(&mut self, folio: Folio<'_>, work: impl FnOnce(&mut LruFolio<'_>) -> Mlocked) {
        const BOTH: c_ulong = LRU | UNEVICTABLE;
        let mut old = folio.flags();
        let new = munlocked(old);
        let mlocked;

        if old & BOTH == BOTH && self.is_like_last(folio, old) {
            // INVARIANT: The folio is on a list, which follows from these flags, and we have the
            // lock.
            mlocked = work(&mut LruFolio { folio, flags: old });
            if mlocked == Mlocked::Cleared
                // SAFETY: `PG_lru` is set and the lruvec locked; the folio is moved below.
                && unsafe {
                    folio.has_evictable_mapping() && folio.try_change_flags(&mut old, new)
                }
            {
                // SAFETY: The folio was unevictable, and so linked to nothing; it is like the last
                // one, so `last.to` is a list of the lruvec that is locked.
                unsafe { bindings::folio_list_add(folio.as_ptr(), self.last.to) };
                self.last.add(1);
                return;
            }
        } else {
            if old & LRU != 0 {
                old = self.relock(folio, old);
            }
            if old & LRU == 0 {
                folio.munlock_unlisted();
                return;
            }
            // INVARIANT: As above.
            mlocked = work(&mut LruFolio { folio, flags: old });
        }
        let op = match mlocked {
            Mlocked::Kept => MlockedOp::KEEP,
            Mlocked::Cleared => MlockedOp::CLEAR,
        };
        // A folio that stays mlocked is unevictable, so nothing is culled here.
        //
        // If somebody has isolated the folio since, do not call `work` again, which would count
        // twice. Its decision holds, since the munlock may as well have come before the isolation.
        //
        // SAFETY: `old` has `PG_lru`, and was read with the lruvec locked, or the folio is like the
        // last one, whose lruvec is locked.
        let changed = unsafe { self.change_locked(folio, old, op) };
        if changed.is_none() && mlocked == Mlocked::Cleared {
            folio.munlock_unlisted();
        }
    }

    /// Locks the lruvec of a folio, unless it is locked already, and applies `op` to the folio.
    /// A munlock leaves an evictable folio where it is. A folio that moves to the unevictable list
    /// starts with an `mlock_count` of 0.
    ///
    /// `flags` are as for [`Self::relock()`]. Returns the new flags, or `None`, with nothing done,
    /// if the folio is on no list.
    #[inline(always)]
    fn change(&mut self, folio: Folio<'_>, flags: c_ulong, op: MlockedOp) -> Option<c_ulong> {
        if flags & LRU == 0 {
            return None;
        }
        let old = self.relock(folio, flags);
        // SAFETY: We have just locked it, and read the flags since.
        unsafe { self.change_locked(folio, old, op) }
    }

    /// As [`Self::change()`], with the lruvec locked.
    ///
    /// # Safety
    ///
    /// If the folio has `PG_lru`, the lruvec that it belongs to must be locked. `old` must be its
    /// flags, read since then.
    // GEN is 0 without CONFIG_LRU_GEN.
    #[allow(clippy::bad_bit_mask)]
    #[inline(always)]
    unsafe fn change_locked(
        &mut self,
        folio: Folio<'_>,
        mut old: c_ulong,
        op: MlockedOp,
    ) -> Option<c_ulong> {
        let new = loop {
            if old & LRU == 0 {
                return None;
            }
            let mut new = op.apply(old);
            if !op.is_munlock() || old & UNEVICTABLE != 0 {
                // SAFETY: `PG_lru` was set, with the lruvec locked: so the folio is no slab.
                new = unsafe { folio.culled_or_rescued(new) };
            }
            if old & GEN != 0 && new & UNEVICTABLE != 0 {
                // This is no munlock: a folio in a generation is not unevictable.
                // SAFETY: We have the lock.
                return unsafe { self.cull_from_generation(folio, op) };
            }
            // SAFETY: `PG_lru` is set and the lruvec locked; the folio is moved below.
            if new == old || unsafe { folio.try_change_flags(&mut old, new) } {
                break new;
            }
        };

        // SAFETY: `PG_lru` was set when the flags changed, so the folio is still on the list that
        // the old flags select, of the lruvec that we have locked: a CPU that has isolated it since
        // waits for the lock. That list is the unevictable one, which has no links, or the folio is
        // in no generation.
        unsafe {
            if new & !old & UNEVICTABLE != 0 {
                folio.del_and_cull();
                self.account_change(folio, old, new);
            } else if old & !new & UNEVICTABLE != 0 {
                self.add_evictable(folio, old, new);
            } else if new != old {
                self.account_change(folio, old, new);
            }
        }
        Some(new)
    }

    /// As [`Self::change_locked()`], for a folio in a generation of the multi-gen LRU: isolates the
    /// folio first, since leaving the generation changes flags.
    ///
    /// # Safety
    ///
    /// The lruvec of the folio must be locked.
    #[inline(never)]
    unsafe fn cull_from_generation(&mut self, folio: Folio<'_>, op: MlockedOp) -> Option<c_ulong> {
        // SAFETY: The folio is valid by its type invariants; the bit is cleared atomically.
        if !unsafe { bindings::folio_test_clear_lru(folio.as_ptr()) } {
            return None;
        }
        // SAFETY: The folio was on a list of the lruvec, which is locked, and we have isolated it
        // now. When it has left its generation, it is on no list.
        unsafe {
            bindings::lruvec_gen_del_folio(self.lruvec, folio.as_ptr());
            Some(self.add(folio, op))
        }
    }

    /// Applies `op` to a folio that is on no list, puts it on one, and returns the new flags.
    /// On the unevictable list, it starts with an `mlock_count` of 0.
    ///
    /// # Safety
    ///
    /// The folio must be isolated by us, or new to us, and on no list. Its lruvec must be locked.
    #[inline(always)]
    unsafe fn add(&mut self, folio: Folio<'_>, op: MlockedOp) -> c_ulong {
        let mut old = folio.flags();
        let new = loop {
            // SAFETY: The caller promises that the lruvec is locked; the folio is put on a list
            // below.
            let new = unsafe { folio.culled_or_rescued(op.apply(old) | LRU) };
            // SAFETY: The caller promises that the folio is isolated by us or new to us; it is put
            // on a list below.
            if unsafe { folio.try_change_flags(&mut old, new) } {
                break new;
            }
        };

        // SAFETY: The folio was on no list, and a CPU that has isolated it since waits for the
        // lock.
        unsafe {
            if new & UNEVICTABLE != 0 {
                *bindings::folio_mlock_count(folio.as_ptr()) = 0;
                self.account_change(folio, old, new);
            } else {
                self.add_evictable(folio, old, new);
            }
        }
        new
    }

    /// Puts a folio on the evictable list that its new flags select.
    ///
    /// # Safety
    ///
    /// The folio must be linked to nothing. Its lruvec must be locked, and must have been since
    /// before the flags changed from `old` to `new`.
    #[inline]
    unsafe fn add_evictable(&mut self, folio: Folio<'_>, old: c_ulong, mut new: c_ulong) {
        // SAFETY: The caller promises it.
        unsafe {
            if bindings::lruvec_gen_add_folio(self.lruvec, folio.as_ptr(), false) {
                // `lru_gen_add_folio()` has counted the folio.
                new &= !LRU;
            } else {
                let list = bindings::lruvec_list(self.lruvec, lru_of(new));
                bindings::folio_list_add(folio.as_ptr(), list);
            }
        }
        // SAFETY: The caller promises that the lruvec is locked.
        unsafe { self.account_change(folio, old, new) };
    }

    /// Locks the lruvec of a new folio, unless it is locked already, and puts the folio on a list:
    /// the unevictable one if the folio is unevictable by then. Counterpart of
    /// `__mlock_new_folio()`.
    // Always inlined: it has two callers, one of which is the traced drain.
    #[inline(always)]
    pub(super) fn add_new(&mut self, new: NewFolio<'_>) {
        let folio = new.into_folio();
        let mut old = folio.flags();
        let new = mlocked(old) | LRU;

        if old & MLOCKED != 0
            && self.is_like_last(folio, old)
            // SAFETY: By its type invariants, the folio was new, and on no list. It is like the
            // last one, so its lruvec is locked. The unevictable list, which it is on now, has no
            // links.
            && unsafe { folio.try_change_flags(&mut old, new) }
        {
            // SAFETY: The folio is valid, and unevictable, which nobody else changes without the
            // lock.
            unsafe { *bindings::folio_mlock_count(folio.as_ptr()) = 1 };
            self.last.add(1);
            return;
        }
        self.relock(folio, old);
        // SAFETY: By its type invariants, the folio was new, and on no list; its lruvec is locked.
        let flags = unsafe { self.add(folio, MlockedOp::KEEP) };
        // INVARIANT: As in `mlock()`.
        LruFolio { folio, flags }.inc_mlock_count();
    }
}

impl Drop for LruvecGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.unlock();
    }
}

/// A folio on a list of the locked lruvec.
///
/// # Invariants
///
/// The folio was on the list that `flags` select when they were read or written with the lock of
/// its lruvec held. We still hold that lock: a CPU that has isolated the folio since waits for it.
pub struct LruFolio<'l> {
    folio: Folio<'l>,
    flags: c_ulong,
}

impl LruFolio<'_> {
    #[inline(always)]
    fn is_unevictable(&self) -> bool {
        self.flags & UNEVICTABLE != 0
    }

    /// Adds 1 to the folio's `mlock_count` if the folio is unevictable and mlocked.
    ///
    /// Only an unevictable folio has a count: the unevictable list has no links, and the count
    /// takes their place.
    #[inline]
    pub fn inc_mlock_count(&mut self) {
        if self.is_unevictable() && self.flags & MLOCKED != 0 {
            // SAFETY: The folio is valid. It is unevictable, which nobody else changes without the
            // lock, so it has a count.
            unsafe {
                let count = bindings::folio_mlock_count(self.folio.as_ptr());
                *count = (*count).wrapping_add(1);
            }
        }
    }

    /// Subtracts 1 from the folio's `mlock_count`, unless the count is 0 or absent, and returns
    /// whether a vma may still have the folio locked.
    ///
    /// No vma locks a folio that is mapped nowhere, whatever its count.
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

/// Returns whether per-CPU batches must be drained at once, as `lru_cache_disabled()`.
#[inline]
pub fn lru_cache_disabled() -> bool {
    // SAFETY: No preconditions.
    unsafe { bindings::lru_cache_disabled() }
}
