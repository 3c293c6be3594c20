// SPDX-License-Identifier: GPL-2.0

//! Changing an address space.
//!
//! Whoever changes a vma of a live address space holds its mmap lock for writing.
//! [`MmapWriteGuard`] represents that lock, and together with [`MmapWrite`] gives the only access
//! to what the lock protects: an iterator over the vmas ([`VmaIter`]) that lends one mutable vma at
//! a time ([`VmaMut`]), the count of locked pages, and the flags that new vmas start with. All of
//! these borrow from the guard, so none of them outlives the lock.
//!
//! Changing a vma may replace it by another, since splitting and merging allocate and free vmas.
//! [`LockableVma::modify_flags`] therefore consumes the handle, and returns one for the resulting
//! vma ([`ModifiedVma`]).
//!
//! # Lock order
//!
//! The mmap lock is taken first. The vma's own lock, which [`LockableVma::modify_flags`] takes,
//! nests inside, page table locks inside of that.
//!
//! C headers: [`include/linux/mmap_lock.h`](srctree/include/linux/mmap_lock.h),
//! [`mm/vma.h`](srctree/mm/vma.h)

use crate::{
    bindings,
    folio_batch::TaskContext, //
};
use core::{
    marker::PhantomData,
    ops::Deref,
    ptr, //
};
use kernel::{
    error::{
        from_err_ptr,
        Result, //
    },
    mm::{
        mmap_lock::MmapWriteGuard,
        virt::VmaRef,
        vma_flags::VmaFlags,
        Mm, //
    },
    page::PAGE_MASK, //
};

/// Operations of mm itself on an address space whose mmap lock is held for writing.
pub trait MmapWrite {
    /// Returns whether the number of vmas has reached `vm.max_map_count`, so that none can be
    /// split.
    fn is_at_max_map_count(&self) -> bool;

    /// Sets the lock flags that new vmas start with (`mm->def_vma_flags`); the other flags stay.
    ///
    /// Flags in `lock` other than lock flags are ignored.
    fn set_def_lock_flags(&mut self, lock: VmaFlags);

    /// Returns an iterator over the vmas of `start..end` (bytes) that does not change them.
    fn vmas_in(&self, start: usize, end: usize) -> Vmas<'_>;

    /// Returns an iterator over the vmas of `start..end` (bytes), lowest address first. Both are
    /// rounded down to whole pages; an `end` of 0 is the end of the address space.
    fn vmas_mut(&mut self, start: usize, end: usize) -> VmaIter<'_>;
}

impl MmapWrite for MmapWriteGuard<'_> {
    #[inline]
    fn is_at_max_map_count(&self) -> bool {
        // SAFETY: The mm is valid, and the write lock that we own excludes every writer.
        unsafe { bindings::mm_at_max_map_count(self.mm().as_raw()) }
    }

    #[inline]
    fn set_def_lock_flags(&mut self, lock: VmaFlags) {
        // SAFETY: The mm is valid.
        let flags = unsafe { bindings::mm_def_vma_flags(self.mm().as_raw()) };

        // SAFETY: The write lock that we own excludes everybody else. Any combination of lock flags
        // is valid.
        unsafe { flags.write(VmaFlags::from_raw(flags.read()).with_lock(lock).into_raw()) };
    }

    #[inline]
    fn vmas_in(&self, start: usize, end: usize) -> Vmas<'_> {
        // INVARIANT: The write lock is held for as long as `self` is borrowed.
        Vmas {
            vmi: new_vma_iterator(self.mm(), start),
            end,
            _guard: PhantomData,
        }
    }

    #[inline]
    fn vmas_mut(&mut self, start: usize, end: usize) -> VmaIter<'_> {
        let (start, end) = (start & PAGE_MASK, end & PAGE_MASK);

        // INVARIANT: The write lock is held for as long as `self` is borrowed; the range is page
        // aligned; no vma was found yet.
        VmaIter {
            at: Position {
                vmi: new_vma_iterator(self.mm(), start),
                last: end.wrapping_sub(1),
                prev: ptr::null_mut(),
                vma: ptr::null_mut(),
                start,
                end: 0,
            },
            _guard: PhantomData,
        }
    }
}

// Returns an iterator that is not on a vma yet, as `VMA_ITERATOR()`. Users must hold the mmap lock.
// Not by `vma_iter_init()`: without inline helpers, what that writes to would have to be copied.
#[inline]
fn new_vma_iterator(mm: &Mm, addr: usize) -> bindings::vma_iterator {
    bindings::vma_iterator {
        mas: bindings::ma_state {
            // SAFETY: The mm is valid.
            tree: unsafe { &raw mut (*mm.as_raw()).__bindgen_anon_1.mm_mt },
            index: addr,
            status: bindings::maple_status_ma_start,
            ..pin_init::zeroed()
        },
    }
}

/// An iterator over the vmas of a range.
///
/// # Invariants
///
/// The mm that `vmi` iterates over is write-locked for 'g.
pub struct Vmas<'g> {
    vmi: bindings::vma_iterator,
    end: usize,
    _guard: PhantomData<&'g MmapWriteGuard<'g>>,
}

impl<'g> Iterator for Vmas<'g> {
    type Item = &'g VmaRef;

    /// Returns the next vma that starts below the end of the range, as `vma_find()`. An end of 0 is
    /// no limit.
    #[inline]
    fn next(&mut self) -> Option<&'g VmaRef> {
        // SAFETY: By the type invariants, the write lock is held.
        let vma = unsafe { bindings::vma_find(&mut self.vmi, self.end) };
        if vma.is_null() {
            return None;
        }
        // SAFETY: The vma is in the tree, which does not change for 'g: changing it requires a
        // mutable borrow of the guard.
        Some(unsafe { VmaRef::from_raw(vma) })
    }
}

// The position of a `VmaIter`.
struct Position {
    vmi: bindings::vma_iterator,
    // The last byte of the range
    last: usize,
    prev: *mut bindings::vm_area_struct,
    vma: *mut bindings::vm_area_struct,
    // The part of `vma` in the range; before the first vma is found, the start of the range, and 0
    start: usize,
    end: usize,
}

/// An iterator over the vmas of a range that can change them.
///
/// It lends one vma at a time, which must be given back before the next one is found, since
/// changing a vma may replace its neighbours.
///
/// # Invariants
///
/// `at.vmi` iterates over the vmas of an mm that is write-locked for 'g. It has returned every vma
/// that it has passed and that reaches above `at.start`. `at.start` and the byte after `at.last`
/// are page aligned. `at.vma` is null or the vma that was found last, or what it was merged into or
/// split off from it; before the first is found, it may be one below that. `at.prev` is null or a
/// vma that is not above `at.vma`. Both are in the tree.
pub struct VmaIter<'g> {
    at: Position,
    _guard: PhantomData<&'g mut MmapWriteGuard<'g>>,
}

impl VmaIter<'_> {
    /// Returns the vma that contains the start of the range. `None` if there is none, if any was
    /// found before, or if the range is empty.
    ///
    /// Without this call, the first vma is not merged with the one before it.
    #[inline]
    pub fn first(&mut self) -> Option<VmaMut<'_>> {
        if self.at.end != 0 || self.at.start > self.at.last {
            return None;
        }
        // SAFETY: By the type invariants, the write lock is held for the mm that `vmi` iterates
        // over.
        let found = unsafe { bindings::vma_iter_load(&mut self.at.vmi) };
        if found.is_null() {
            return None;
        }
        // SAFETY: The vma is in the tree, and the write lock is held.
        if unsafe { VmaRef::from_raw(found) }.start() == self.at.start {
            // SAFETY: As above.
            //
            // INVARIANT: The previous vma is below `found`, which follows it.
            unsafe {
                self.at.vma = bindings::vma_prev(&mut self.at.vmi);
                bindings::vma_next(&mut self.at.vmi);
            }
        }
        // INVARIANT: The vma contains the start of the range, at which `vmi` just was.
        self.step(found)
    }

    // Moves to `found`, the vma at which `vmi` is.
    #[inline(always)]
    fn step(&mut self, found: *mut bindings::vm_area_struct) -> Option<VmaMut<'_>> {
        // INVARIANT: `found` comes from `vmi`, so it is in the tree; the vma that was found before
        // it is in the tree, too, and below `found`.
        self.at.prev = self.at.vma;
        self.at.vma = found;
        if found.is_null() {
            return None;
        }
        // SAFETY: The vma is in the tree, and the write lock is held.
        let vma = unsafe { VmaRef::from_raw(found) };
        self.at.start = vma.start().max(self.at.start);
        self.at.end = vma.end().wrapping_sub(1).min(self.at.last).wrapping_add(1);
        // INVARIANT: The vma is not null. It does not start above the last byte of the range: that
        // is what `next()` asks for, and `first()` finds a vma that contains the start of a range
        // that is not empty. It reaches above that start by the type invariants; so the part that
        // is in the range is not empty. It is page aligned, since vmas and the range are.
        // The rest are the invariants of `self`, which is borrowed.
        Some(VmaMut { at: &mut self.at })
    }

    /// Returns the next vma, as `for_each_vma_range()`.
    // Not an `Iterator`: the returned vma borrows from `self`.
    #[expect(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> Option<VmaMut<'_>> {
        // SAFETY: By the type invariants, the write lock is held for the mm that `vmi` iterates
        // over.
        let found = unsafe { bindings::vma_find(&mut self.at.vmi, self.at.last.wrapping_add(1)) };
        self.step(found)
    }

    /// Returns the (exclusive) end address of the vma that was found last, or that replaced it, as
    /// `vma_iter_end()`.
    #[inline]
    pub fn end(&self) -> usize {
        self.at.vmi.mas.last.wrapping_add(1)
    }
}

/// A vma that may be changed, in the part that lies in the range of its iterator.
///
/// All methods may sleep, since the mmap lock is held for writing.
///
/// # Invariants
///
/// `at` is as in a [`VmaIter`], and `at.vma` is not null. It contains `at.start..at.end`,
/// which is page aligned and not empty.
pub struct VmaMut<'i> {
    at: &'i mut Position,
}

// The write lock allows all reads that the read lock allows.
impl Deref for VmaMut<'_> {
    type Target = VmaRef;

    #[inline]
    fn deref(&self) -> &VmaRef {
        // SAFETY: By the type invariants, the vma is in the tree and the write lock is held. Both
        // stay so while `self` is borrowed.
        unsafe { VmaRef::from_raw(self.at.vma) }
    }
}

impl<'i> VmaMut<'i> {
    /// Returns the start of the part of the vma in the range (bytes).
    #[inline]
    pub fn part_start(&self) -> usize {
        self.at.start
    }

    /// Returns the (exclusive) end of the part of the vma in the range (bytes).
    #[inline]
    pub fn part_end(&self) -> usize {
        self.at.end
    }

    /// Returns the vma as one that mlock can lock and unlock, or `None` if mlock cannot, as
    /// `vma_supports_mlock()` and `vma_is_secretmem()` say.
    ///
    /// mlock skips vmas of devices, hugetlb, DAX and droppable memory, and the gate vma. It also
    /// skips secret memory, which is always locked.
    #[inline]
    pub fn lockable(self) -> Option<LockableVma<'i>> {
        let lockable = is_lockable(&self);
        // INVARIANT: Just checked.
        lockable.then_some(LockableVma(self))
    }
}

/// Returns whether a vma can be locked and unlocked; see [`VmaMut::lockable`].
///
/// May be called in any context.
#[inline]
pub fn is_lockable(vma: &VmaRef) -> bool {
    // SAFETY: By its type invariants, the vma is valid, and a lock keeps its flags.
    unsafe {
        !bindings::vma_is_secretmem(vma.as_ptr()) && bindings::vma_supports_mlock(vma.as_ptr())
    }
}

/// A vma that mlock can lock and unlock.
///
/// # Invariants
///
/// `vma_supports_mlock()` is true of the vma, and `vma_is_secretmem()` is not. Both stay so while
/// the mmap lock is held for writing.
pub struct LockableVma<'i>(VmaMut<'i>);

impl<'i> LockableVma<'i> {
    /// Splits and merges vmas so that one vma with the given lock flags can hold the part of the
    /// vma in the range. Takes the vma write lock.
    ///
    /// Changes the flags only by merging. Otherwise, the caller changes them on the returned vma,
    /// which contains the part and may be another vma than before. Follows `vma_modify_flags()`.
    /// Flags in `lock` other than lock flags are ignored.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there was no memory to split or merge, or there would be too many vmas. Then the
    /// vma is still in the tree, but may have been split at the start of the part.
    #[inline]
    pub fn modify_flags(self, lock: VmaFlags) -> Result<ModifiedVma<'i>> {
        let vma = self.0;
        let (start, end) = (vma.part_start(), vma.part_end());
        let whole = vma.at.vma;

        // A holder of the vma read lock may set `VMA_MAYBE_GUARD_BIT`. Lock the vma before its
        // flags are read here, copied by a split, or dropped by a merge. In C, each of these may
        // lose the flag.
        // SAFETY: By the type invariants, the vma is valid and the mmap write lock is held.
        unsafe { bindings::vma_start_write(whole) };
        let old = vma.vma_flags();
        let mut flags = old.with_lock(lock).into_raw();
        let inside = start > vma.start();
        let at = vma.at;

        // The previous vma is then the lower part of the same vma.
        if inside {
            at.prev = at.vma;
        }

        // SAFETY: By the type invariants, the write lock is held, and `prev` and `vma` are in the
        // tree that `vmi` iterates over. The part is in the vma, page aligned and not empty. The
        // function merges with `prev` only if `prev` ends where the part starts.
        let modified = from_err_ptr(unsafe {
            bindings::vma_modify_flags(&mut at.vmi, at.prev, whole, start, end, &mut flags)
        })?;
        if modified != whole {
            // SAFETY: `vma_modify_flags()` returned a vma of the same mm.
            unsafe { bindings::vma_start_write(modified) };
        }

        // INVARIANT: `vma_modify_flags()` returned a vma that is in the tree, replaces the old one
        // if that was merged away, and contains the part. It did not free `prev`: a merge with
        // `prev` keeps `prev`. `old` are the flags of the part. It merges only with vmas that have
        // the same flags and the same file, which therefore can be locked as well. The vma write
        // lock was taken before the call, or just now.
        at.vma = modified;
        Ok(ModifiedVma {
            vma: modified,
            start,
            end,
            old,
            lock,
            _at: PhantomData,
        })
    }
}

/// A vma that was split and merged for new lock flags, which it does not have yet.
///
/// All methods may sleep, since the mmap lock is held for writing.
///
/// # Invariants
///
/// `vma` is in the tree of its mm. Both the mm and the vma are write-locked. The vma contains
/// `start..end`, which is page aligned and not empty, and can be locked and unlocked. `old` are the
/// flags that the range had before.
#[must_use]
pub struct ModifiedVma<'i> {
    vma: *mut bindings::vm_area_struct,
    start: usize,
    end: usize,
    old: VmaFlags,
    lock: VmaFlags,
    _at: PhantomData<&'i mut Position>,
}

impl<'i> ModifiedVma<'i> {
    #[inline]
    fn as_ref(&self) -> &VmaRef {
        // SAFETY: By the type invariants, the vma is valid and the write lock is held.
        unsafe { VmaRef::from_raw(self.vma) }
    }

    /// Returns the first address (bytes) of the vma, which is below the range if the vma was merged
    /// with the one before it.
    #[inline]
    pub fn start(&self) -> usize {
        self.as_ref().start()
    }

    /// Returns the flags that the vma had before.
    #[inline]
    pub fn old_flags(&self) -> VmaFlags {
        self.old
    }

    /// Returns whether the vma may map folios.
    ///
    /// A private anonymous vma gets its `anon_vma` before its first folio is mapped; until then, it
    /// maps the zero page at most. `vma_needs_copy()` relies on the same for fork(). No fault can
    /// set `anon_vma` now: that requires the mmap lock, held for reading.
    #[inline]
    pub fn maps_folios(&self) -> bool {
        // SAFETY: By the type invariants, the vma is valid, and the mmap lock, which is held for
        // writing, excludes those who set `anon_vma`.
        unsafe { !bindings::vma_is_anonymous(self.vma) || !(*self.vma).anon_vma.is_null() }
    }

    /// Adds `pages` to the count of locked pages of the address space (`mm->locked_vm`).
    ///
    /// Wraps as the C does.
    #[inline]
    pub fn add_locked_vm(&mut self, pages: isize) {
        let mm = self.as_ref().mm();
        let total = mm.locked_vm().wrapping_add_signed(pages);

        // SAFETY: The mm is valid, and the write lock that is held excludes every other writer.
        // Readers without the lock see the old number or the new one.
        unsafe { (&raw mut (*mm.as_raw()).__bindgen_anon_1.locked_vm).write_volatile(total) };
    }

    /// Replaces the lock flags of the vma if its pages need no change: if it maps none, or stays
    /// locked and only the mode changes. Returns a context for later work.
    ///
    /// # Errors
    ///
    /// Returns the vma if its pages need to change, for
    /// [`publish_lock_flags`](Self::publish_lock_flags).
    #[inline]
    pub fn set_lock_flags(self) -> Result<TaskContext<'i>, Self> {
        let was_locked = self.old.contains(VmaFlags::LOCKED);
        if was_locked != self.lock.contains(VmaFlags::LOCKED) && self.maps_folios() {
            return Err(self);
        }

        // Read the flags again: the vma may be another one by now, with its own
        // `VMA_MAYBE_GUARD_BIT`.
        let flags = self.as_ref().vma_flags().with_lock(self.lock);

        // SAFETY: By the type invariants, the vma is valid and can be locked, and its write lock
        // makes us the only writer of the flags. No page contradicts the new flags.
        unsafe { (*self.vma).__bindgen_anon_2.flags = flags.into_raw() };
        // SAFETY: A task holds the mmap lock, which is a sleeping lock, for 'i, and interrupts are
        // on under it. No lruvec or batch is locked: that requires a context, and is done under
        // spinlocks, inside which no vma is changed.
        Ok(unsafe { TaskContext::new() })
    }

    /// Replaces the lock flags of the vma, calls `pages` to bring its pages in line with them, and
    /// returns what `pages` returns.
    ///
    /// The rmap walks of reclaim and migration read the flags without the mmap lock. They see the
    /// new flags before `pages` is called. While a vma is being locked, they also see `VMA_IO_BIT`
    /// beside `VMA_LOCKED_BIT` until `pages` has returned, which tells `mlock_vma_folio()` to leave
    /// the folio to us. Otherwise a folio that is migrated meanwhile would be counted twice, and
    /// would stay unevictable forever.
    #[inline(always)]
    pub fn publish_lock_flags<R>(self, pages: impl FnOnce(&mut PublishedVma<'_>) -> R) -> R {
        // Read the flags again: the vma may be another one by now, with its own
        // `VMA_MAYBE_GUARD_BIT`.
        let flags = self.as_ref().vma_flags().with_lock(self.lock);

        let locking = flags.contains(VmaFlags::LOCKED);
        // SAFETY: These are the vma's own flags, except for the lock flags and the marker, and the
        // vma write lock is held by the type invariants.
        unsafe { self.reset_flags_once(if locking { flags | VmaFlags::IO } else { flags }) };
        // INVARIANT: The vma write lock is held until the mmap lock is dropped; by the invariants
        // of `self`, the vma contains the range.
        let result = pages(&mut PublishedVma {
            vma: self.as_ref(),
            start: self.start,
            end: self.end,
        });
        if locking {
            // SAFETY: As above. Nobody has changed the flags since.
            unsafe { self.reset_flags_once(flags) };
        }
        result
    }

    /// Writes the flags of the vma with a single store.
    ///
    /// # Safety
    ///
    /// The vma write lock must be held, and the vma must be allowed to have these flags.
    #[inline]
    unsafe fn reset_flags_once(&self, flags: VmaFlags) {
        let mut flags = flags.into_raw();

        // SAFETY: By the type invariants, the vma is valid; the caller promises that we are the
        // only writer of the flags. An rmap walk sees the old word or the new one.
        unsafe { bindings::vma_flags_reset_once(self.vma, &mut flags) };
    }
}

/// How `populate_vma_page_range()` populates the pages of a vma.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Populate {
    /// By read faults.
    Read,
    /// By write faults, so that private writable memory is not copied later.
    Write,
    /// In another way, or not at all: do not check whether pages are populated.
    Unchecked,
}

/// A vma whose new lock flags are visible to rmap walks, and whose pages change next.
///
/// # Invariants
///
/// The mmap lock and the vma lock are held for writing. The vma contains `start..end`, which is
/// page aligned and not empty.
pub struct PublishedVma<'v> {
    vma: &'v VmaRef,
    start: usize,
    end: usize,
}

impl PublishedVma<'_> {
    /// For the page walk only. The visitor of a walk must not reach the vma, nor borrow `self`
    /// again: it must not sleep, nor call functions that zap pages, since the walk relies on pages
    /// staying mapped under the page table lock.
    #[inline]
    pub(super) fn as_ptr(&self) -> *mut bindings::vm_area_struct {
        self.vma.as_ptr()
    }

    /// Returns a context for work before or after the page walk.
    #[inline]
    pub fn task_context(&mut self) -> TaskContext<'_> {
        // SAFETY: As in `ModifiedVma::set_lock_flags()`. A walk, which creates contexts of its own,
        // borrows `self`.
        unsafe { TaskContext::new() }
    }

    /// Returns the flags of the vma.
    #[inline]
    pub fn vma_flags(&self) -> VmaFlags {
        self.vma.vma_flags()
    }

    /// Returns the start of the modified part of the vma (bytes).
    #[inline]
    pub fn start(&self) -> usize {
        self.start
    }

    /// Returns the (exclusive) end of the modified part of the vma (bytes).
    #[inline]
    pub fn end(&self) -> usize {
        self.end
    }

    /// Returns how `populate_vma_page_range()` will populate the pages of the vma.
    #[inline]
    pub fn populate(&self) -> Populate {
        // Such a vma is not populated.
        if self.vma.vma_flags().contains(VmaFlags::LOCKED_ONFAULT) {
            return Populate::Unchecked;
        }
        // SAFETY: By the type invariants, the vma is valid and locked.
        if !unsafe { bindings::vma_populate_allowed(self.vma.as_ptr()) } {
            Populate::Unchecked
        // SAFETY: As above.
        } else if unsafe { bindings::vma_populate_write(self.vma.as_ptr()) } {
            Populate::Write
        } else {
            Populate::Read
        }
    }
}
