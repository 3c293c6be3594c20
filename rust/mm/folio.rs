// SPDX-License-Identifier: GPL-2.0

//! Folios and the LRU lists that they are on.
//!
//! A folio is on at most one LRU list, of its lruvec, and only under the lruvec lock does it get
//! there or leave. `PG_lru` says that it is on one. Who wants to take it off for longer than he has
//! the lock, such as reclaim and migration, first isolates it by clearing that flag: one contender
//! succeeds, and then waits for the lock.
//!
//! So who has the lock need not isolate a folio with `PG_lru` set. [`LruvecGuard`] changes all
//! flags of the folio in one atomic step, which fails if `PG_lru` is clear, and then moves the
//! folio to the list that its flags say, as `sort_folio()` in mm/vmscan.c moves folios. Who
//! isolates it in between waits for the lock. A folio is isolated only if it leaves a generation of
//! the multi-gen LRU, whose functions have flags of their own to change.
//!
//! Whether a folio is unevictable follows from its flags and its mapping, as in
//! `folio_evictable()`; nobody else has a say in it.
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
const SWAPBACKED: c_ulong = 1 << bindings::pageflags_PG_swapbacked;
const HEAD: c_ulong = 1 << bindings::pageflags_PG_head;

// What else the word of flags holds, so that it need be read once.

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

/// The node, or what tells it: `folio_nid()`.
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

    /// Returns whether the folio may be pending in a per-CPU batch, as `folio_may_be_lru_cached()`.
    #[inline]
    pub fn may_be_lru_cached(self) -> bool {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_may_be_lru_cached(self.as_ptr()) }
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

    /// Returns whether reclaim may take the folio once it is not mlocked.
    ///
    /// # Safety
    ///
    /// An lruvec must be locked, and with it the RCU read lock. The folio must be on an LRU list,
    /// or about to be put on one.
    #[inline(always)]
    unsafe fn has_evictable_mapping(self) -> bool {
        // SAFETY: The folio is valid by the type invariants, and by the contract it is no slab, and
        // its mapping is not freed.
        unsafe { bindings::folio_mapping_evictable(self.as_ptr()) }
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

    /// Returns what the folio is charged to, as a number to be compared; 0 without memory cgroups.
    #[inline]
    fn memcg_data(self) -> c_ulong {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_memcg_data(self.as_ptr()) }
    }

    /// Returns the flags, which others may be changing.
    #[inline]
    fn flags(self) -> c_ulong {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_flags_read(self.as_ptr()) }
    }

    /// Changes the flags in one step, fully ordered, if they are still `old`; else reads them anew
    /// into that, and returns `false`.
    ///
    /// # Safety
    ///
    /// `PG_mlocked` may be changed by anybody. `PG_lru` may be cleared by anybody, which isolates
    /// the folio if it was set. Only who has the lruvec locked may change others: `PG_active` and
    /// `PG_unevictable` of a folio that has `PG_lru` set or is isolated by him, or new to him; and
    /// `PG_lru` may be set if it is one of the latter two. If the folio is not on the list that its
    /// flags say then, it must be put there before the lruvec is unlocked.
    #[inline(always)]
    unsafe fn try_change_flags(self, old: &mut c_ulong, new: c_ulong) -> bool {
        // SAFETY: The folio is valid by the type invariants; the word is changed atomically. The
        // caller keeps to the rules for each flag.
        unsafe { bindings::folio_flags_try_cmpxchg(self.as_ptr(), old, new) }
    }

    #[inline(always)]
    fn mod_nr_mlock(self, pages: c_long) {
        // SAFETY: The folio is valid by the type invariants.
        unsafe {
            bindings::zone_stat_mod_folio(self.as_ptr(), bindings::zone_stat_item_NR_MLOCK, pages);
        }
    }

    // Counts that we have set `PG_mlocked`, which was clear.
    #[inline]
    fn count_mlocked(self) {
        let pages = self.nr_counted(self.flags());

        self.mod_nr_mlock(pages);
        count_events(Event::Mlocked, pages);
    }

    /// Munlocks a folio that is on no list: clears `PG_mlocked`, and counts that.
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
        // Not by the flags as they are now: who has isolated the folio may put it back, mlocked
        // anew and unevictable.
        count_events(
            if old & UNEVICTABLE != 0 {
                Event::Stranded
            } else {
                Event::Munlocked
            },
            pages,
        );
    }

    /// Munlocks a folio that is about to be freed, and counts that as if it were rescued first. It
    /// stays unevictable.
    ///
    /// Does nothing, and returns `false`, unless the folio is mlocked, unevictable, small,
    /// anonymous and not KSM's, and has one reference: that of the mapping which just went away, to
    /// be put by who removed it. So it is mapped nowhere and not in the swap cache, each of which
    /// has a reference. GUP-fast, which may have read the entry before it was cleared, takes a
    /// reference and then reads it again. Only PFN walkers (compaction, memory offlining,
    /// memory_failure(), page_idle) can still find the folio, and none of them maps it. Who removes
    /// a mapping and keeps the folio (copy on write, migration, reclaim, KSM, uprobes) has a
    /// reference of his own.
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

    /// Returns whether a page of the folio is mapped, as `folio_mapped()`. That may change at once.
    #[inline]
    fn is_mapped(self) -> bool {
        // SAFETY: The folio is valid by the type invariants.
        unsafe { bindings::folio_mapped(self.as_ptr()) }
    }

    /// Returns how many pages the folio, which has these flags, has, in the type of the kernel's
    /// counters.
    #[inline(always)]
    fn nr_counted(self, flags: c_ulong) -> c_long {
        if flags & HEAD == 0 {
            1
        } else {
            self.nr_pages() as c_long
        }
    }

    /// Returns the flags with `PG_unevictable`, and without `PG_active`, if that is what the rest
    /// of them and the mapping want, as `folio_evictable()`; else without the former.
    ///
    /// # Safety
    ///
    /// As for `has_evictable_mapping()`.
    #[inline(always)]
    unsafe fn settled(self, flags: c_ulong) -> c_ulong {
        // SAFETY: The caller promises it.
        if flags & MLOCKED == 0 && unsafe { self.has_evictable_mapping() } {
            flags & !UNEVICTABLE
        } else {
            flags & !ACTIVE | UNEVICTABLE
        }
    }

    /// Takes a folio off its list, for the unevictable one. That has no links: in their place, the
    /// folio has an `mlock_count`, which begins with 0.
    ///
    /// # Safety
    ///
    /// The lruvec must be locked. The folio must be on a list of it, and must be unevictable now.
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

/// What is done to the `PG_mlocked` of a folio that is on a list. Then the folio goes to the list
/// that all of its flags and its mapping want.
#[derive(Clone, Copy)]
struct Change {
    clear: c_ulong,
    set: c_ulong,
}

impl Change {
    /// It goes where it belongs.
    const SETTLE: Self = Self { clear: 0, set: 0 };
    /// It is mlocked.
    const MLOCK: Self = Self {
        clear: 0,
        set: MLOCKED,
    };
    /// It is munlocked, and culled by nobody: `SHM_LOCK` leaves that to reclaim, as in the C.
    const MUNLOCK: Self = Self {
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

/// What is to become of `PG_mlocked`.
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
/// taken. Who may use one gets a reference, from a batch that is locked, which has one at a time:
/// no other can be used while one has a lock, so that a second one cannot wait for the first. 'g is
/// different for each and invariant, so that two cannot be swapped: each would turn on interrupts
/// for the other.
///
/// # Invariants
///
/// `lruvec` is null, or we hold its lock, and with it the RCU read lock, and interrupts, which were
/// on, are off. If it is null, then `last` is [`Last::NONE`]. Else that is about folios of this
/// lruvec, to which all belong that are on a list and have this `memcg_data` and `node`; and so
/// does the list `last.to`, unless `last.like` is [`NO_LIKE`].
pub struct LruvecGuard<'g> {
    lruvec: *mut bindings::lruvec,
    memcg_data: c_ulong,
    node: c_ulong,
    last: Last,
    // Neither a longer nor a shorter lifetime will do.
    _brand: PhantomData<fn(&'g ()) -> &'g ()>,
    // What task holds the lock is known to lockdep, and on PREEMPT_RT to the lock.
    _nts: NotThreadSafe,
}

/// What was done last: to how many pages in a row, and is not counted yet.
///
/// The counters are changed once for all of them, before the lruvec is unlocked:
///
/// - The sizes of the lists are seen exact by all who have the lock. Who reads them without it
///   gets them late by what was moved under this hold of the lock.
/// - `nr_mlock` and the events of `/proc/vmstat` have no lock, and are late by as much. Who
///   munlocks a folio that is isolated counts that at once, so `nr_mlock` may be too low meanwhile.
struct Last {
    // The flags of the folios before that, and after it. Only those of `MASK` count. Here, `LRU` is
    // clear if the folio was on no list, or is on none, or on one that others count.
    old: c_ulong,
    new: c_ulong,
    // What a small folio has to be like to go the same way as the last two, or `NO_LIKE`; and the
    // list of the lruvec that it goes to.
    like: c_ulong,
    to: *mut bindings::list_head,
    pages: c_long,
}

// No folio with `PG_lru` or `PG_mlocked` is like that.
const NO_LIKE: c_ulong = 0;

impl Last {
    /// What all pages that are counted together have in common.
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

    /// Another small folio has gone the same way: more may follow, if it came from a list or is new
    /// and mlocked. Not inlined, since those that follow do not call it.
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
    /// Calls `work` with a guard that starts out without a lock, and unlocks what it has locked.
    ///
    /// Only for who has a batch locked for himself: while `work` runs, nobody on this CPU is to
    /// call this again.
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

    /// Notes that the flags of a folio went from `old` to `new`.
    ///
    /// # Safety
    ///
    /// There must be an lruvec that we have locked, and the folio must belong to it.
    #[inline(always)]
    unsafe fn note(&mut self, folio: Folio<'_>, old: c_ulong, new: c_ulong) {
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

        // SAFETY: Something is pending, so by the type invariants, the lruvec is locked; lists and
        // zone are those of its folios.
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

    /// Locks the lruvec of a folio, and unlocks another one that may be locked.
    ///
    /// It stays the folio's until it is unlocked if the folio is isolated by us, or new to us, or
    /// if it has `PG_lru` now. What a folio is charged to changes in two ways.
    /// `mem_cgroup_migrate()` takes the charge from a folio that migration has isolated, to one of
    /// which nobody else knows yet. When its memory cgroup goes away, that is done under the lock
    /// of its lruvec.
    ///
    /// `flags` are those of the folio, read since this guard last locked something. Returns them as
    /// read with the lock held.
    #[inline(always)]
    fn relock(&mut self, folio: Folio<'_>, flags: c_ulong) -> c_ulong {
        // Charged to the same, and of the same node: then there is no pointer to be followed.
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
            // SAFETY: Both are valid; with the lock we have the RCU read lock.
            || !unsafe { bindings::folio_matches_lruvec(folio.as_ptr(), self.lruvec) }
        {
            self.unlock();
            // SAFETY: The folio is valid. Which lruvec it has is looked at again under the lock.
            // Interrupts are on: who has a guard is in task context, and it has no lock.
            //
            // INVARIANT: This is the lock that we hold now, and nothing is pending.
            self.lruvec = unsafe { bindings::folio_lruvec_lock_irq(folio.as_ptr()) };
        }
        let flags = folio.flags();
        // INVARIANT: The folio has this lruvec.
        self.memcg_data = folio.memcg_data();
        self.node = flags & NODE;
        flags
    }

    /// Returns whether the folio is unevictable. If it is on a list, locks its lruvec, unless that
    /// is the one that is locked already: as long as it is, nobody else moves the folio there or
    /// away.
    #[inline(always)]
    pub fn is_unevictable(&mut self, folio: Folio<'_>) -> bool {
        let mut flags = folio.flags();

        if flags & LRU != 0 {
            flags = self.relock(folio, flags);
        }
        flags & UNEVICTABLE != 0
    }

    /// Whether a folio with these flags belongs to the lruvec that is locked, is small, and is on
    /// the list from which the last one was moved, or is new as that was; and moving it likewise
    /// changes the flags in the same way. `flags` have `PG_lru`, or the folio is new to us and
    /// mlocked.
    #[inline(always)]
    fn is_like_last(&self, folio: Folio<'_>, flags: c_ulong) -> bool {
        (self.last.like ^ flags) & Last::MASK == 0 && folio.memcg_data() == self.memcg_data
    }

    /// Mlocks a folio: locks its lruvec, unless that is the one that is locked already, sets
    /// `PG_mlocked` and counts that, unless it was set, and moves the folio to the unevictable
    /// list, unless it is there, and calls `work`.
    ///
    /// If the folio is on no list, then `PG_mlocked` is all that is done, and this returns `false`.
    /// Fully ordered unless nothing changes.
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
        let mut flags = self.change(folio, old, Change::MLOCK);
        if flags.is_none() {
            folio.set_mlocked();
            // It may have been put on a list before that.
            flags = self.change(folio, folio.flags(), Change::SETTLE);
        }
        let Some(flags) = flags else {
            return false;
        };
        // INVARIANT: As above.
        work(&mut LruFolio { folio, flags });
        true
    }

    /// Locks the lruvec of a folio, unless that is the one that is locked already, moves the folio
    /// to the unevictable list, or away from it, as its flags and its mapping want, and calls
    /// `work`.
    ///
    /// Does nothing if the folio is on no list. Fully ordered unless nothing changes.
    #[inline(always)]
    pub fn settle(&mut self, folio: Folio<'_>, work: impl FnOnce(&mut LruFolio<'_>)) {
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
            let Some(flags) = self.change(folio, folio.flags(), Change::SETTLE) else {
                return;
            };
            new = flags;
        }
        // INVARIANT: As in `mlock()`.
        work(&mut LruFolio { folio, flags: new });
    }

    /// Mlocks a folio and moves it to the unevictable list, if that is what was done to the last
    /// one.
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

    /// Munlocks a folio: locks its lruvec, unless that is the one that is locked already, and calls
    /// `work`, which says what becomes of `PG_mlocked`. Then an unevictable folio becomes evictable
    /// if its flags and its mapping want that. An evictable one stays where it is.
    ///
    /// If it is on no list, then `PG_mlocked` is cleared whatever `work` would say, and that is
    /// counted. If it is unevictable, it stays so for now, and is counted as stranded. Fully
    /// ordered unless nothing changes.
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
                // one, so that there is a list, the lruvec of which is locked.
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
        let change = match mlocked {
            Mlocked::Kept => Change::SETTLE,
            Mlocked::Cleared => Change::MUNLOCK,
        };
        // A folio that is kept is unevictable, so nothing is culled here.
        //
        // If somebody has isolated it since, then `work` is not asked again: it would count twice.
        // What it has said holds, since the munlock may as well have come before that.
        //
        // SAFETY: `old` has `PG_lru`, and was read with the lruvec locked, or is like the last one.
        let changed = unsafe { self.change_locked(folio, old, change) };
        if changed.is_none() && mlocked == Mlocked::Cleared {
            folio.munlock_unlisted();
        }
    }

    /// Locks the lruvec of a folio, unless that is the one that is locked already, and does
    /// `change` to the folio, but for one that is munlocked and evictable: that stays where it is.
    /// On the unevictable one, it begins with an `mlock_count` of 0.
    ///
    /// `flags` are as for [`Self::relock()`]. Returns the new ones; `None`, with nothing done, if
    /// the folio is on no list.
    #[inline(always)]
    fn change(&mut self, folio: Folio<'_>, flags: c_ulong, change: Change) -> Option<c_ulong> {
        if flags & LRU == 0 {
            return None;
        }
        let old = self.relock(folio, flags);
        // SAFETY: We have just locked it, and read the flags since.
        unsafe { self.change_locked(folio, old, change) }
    }

    /// The same with the lruvec locked.
    ///
    /// # Safety
    ///
    /// The lruvec must be locked that the folio belongs to if it has `PG_lru`, and `old` be its
    /// flags, as read since then.
    // GEN is 0 without CONFIG_LRU_GEN.
    #[allow(clippy::bad_bit_mask)]
    #[inline(always)]
    unsafe fn change_locked(
        &mut self,
        folio: Folio<'_>,
        mut old: c_ulong,
        change: Change,
    ) -> Option<c_ulong> {
        let new = loop {
            if old & LRU == 0 {
                return None;
            }
            let mut new = change.apply(old);
            if !change.is_munlock() || old & UNEVICTABLE != 0 {
                // SAFETY: `PG_lru` was set, with the lruvec locked: so the folio is no slab.
                new = unsafe { folio.settled(new) };
            }
            if old & GEN != 0 && new & UNEVICTABLE != 0 {
                // Never a munlock: a folio in a generation is not unevictable.
                // SAFETY: We have the lock.
                return unsafe { self.cull_from_generation(folio, change) };
            }
            // SAFETY: `PG_lru` is set and the lruvec locked; the folio is moved below.
            if new == old || unsafe { folio.try_change_flags(&mut old, new) } {
                break new;
            }
        };

        // SAFETY: `PG_lru` was set when the flags changed, so the folio is on the list that it was
        // due for, of the lruvec that we have locked: who has isolated it since waits for the lock.
        // It is on the unevictable list, which has no links, or in no generation.
        unsafe {
            if new & !old & UNEVICTABLE != 0 {
                folio.del_and_cull();
                self.note(folio, old, new);
            } else if old & !new & UNEVICTABLE != 0 {
                self.add_evictable(folio, old, new);
            } else if new != old {
                self.note(folio, old, new);
            }
        }
        Some(new)
    }

    /// The same for a folio in a generation of the multi-gen LRU: takes it out, which changes
    /// flags, so that it has to be isolated.
    ///
    /// # Safety
    ///
    /// The lruvec of the folio must be locked.
    #[inline(never)]
    unsafe fn cull_from_generation(&mut self, folio: Folio<'_>, change: Change) -> Option<c_ulong> {
        // SAFETY: The folio is valid by its type invariants; the bit is cleared atomically.
        if !unsafe { bindings::folio_test_clear_lru(folio.as_ptr()) } {
            return None;
        }
        // SAFETY: The folio was on a list of the lruvec, which is locked, and is isolated by us
        // now. It is on none when it has left its generation.
        unsafe {
            bindings::lruvec_gen_del_folio(self.lruvec, folio.as_ptr());
            Some(self.add(folio, change))
        }
    }

    /// Does `change` to a folio that is on no list, and puts it on one. Returns the new flags. On
    /// the unevictable one, it has an `mlock_count` of 0.
    ///
    /// # Safety
    ///
    /// The folio must be isolated by us, or new to us, and on no list. Its lruvec must be locked.
    #[inline(always)]
    unsafe fn add(&mut self, folio: Folio<'_>, change: Change) -> c_ulong {
        let mut old = folio.flags();
        let new = loop {
            // SAFETY: The caller promises that the lruvec is locked; the folio is put on a list
            // below.
            let new = unsafe { folio.settled(change.apply(old) | LRU) };
            // SAFETY: The caller promises that it is up to us; the folio is put on a list below.
            if unsafe { folio.try_change_flags(&mut old, new) } {
                break new;
            }
        };

        // SAFETY: The folio was on no list, and who has isolated it since waits for the lock.
        unsafe {
            if new & UNEVICTABLE != 0 {
                *bindings::folio_mlock_count(folio.as_ptr()) = 0;
                self.note(folio, old, new);
            } else {
                self.add_evictable(folio, old, new);
            }
        }
        new
    }

    /// Puts a folio on the evictable list that its new flags say.
    ///
    /// # Safety
    ///
    /// The folio must be linked to nothing, and its lruvec must be locked, since before the flags
    /// changed from `old` to `new`.
    #[inline]
    unsafe fn add_evictable(&mut self, folio: Folio<'_>, old: c_ulong, mut new: c_ulong) {
        // SAFETY: The caller promises it.
        unsafe {
            if bindings::lruvec_gen_add_folio(self.lruvec, folio.as_ptr(), false) {
                // That has counted it.
                new &= !LRU;
            } else {
                let list = bindings::lruvec_list(self.lruvec, lru_of(new));
                bindings::folio_list_add(folio.as_ptr(), list);
            }
        }
        // SAFETY: The caller promises that the lruvec is locked.
        unsafe { self.note(folio, old, new) };
    }

    /// Locks the lruvec that a new folio belongs to, unless it is the one that is locked already,
    /// and puts the folio on a list: the unevictable one if it is unevictable then. The C function
    /// is `__mlock_new_folio()`.
    // Always: it is called twice, once by the drain that is traced.
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
        let flags = unsafe { self.add(folio, Change::SETTLE) };
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

/// A folio that is on a list of the lruvec that is locked.
///
/// # Invariants
///
/// The folio was on the list that `flags` say when they were read or written with the lock of its
/// lruvec held, which still is: who has isolated it since waits for that.
pub struct LruFolio<'l> {
    folio: Folio<'l>,
    flags: c_ulong,
}

impl LruFolio<'_> {
    #[inline(always)]
    fn is_unevictable(&self) -> bool {
        self.flags & UNEVICTABLE != 0
    }

    /// Adds 1 to the folio's `mlock_count`, if it has one and is mlocked.
    ///
    /// It has one while it is unevictable: there is no unevictable list, so that the count can
    /// stand where the links of the other lists are.
    #[inline]
    pub fn inc_mlock_count(&mut self) {
        if self.is_unevictable() && self.flags & MLOCKED != 0 {
            // SAFETY: The folio is valid. It is unevictable, which nobody else changes without the
            // lock, so the count is there.
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
