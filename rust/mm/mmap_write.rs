// SPDX-License-Identifier: GPL-2.0

//! Changing an address space.
//!
//! Whoever changes a vma of a live address space holds its mmap lock for writing.
//! [`MmapWriteGuard`] stands for that lock, and with [`MmapWrite`] is the only way to what it
//! protects: an iterator over the vmas ([`VmaIter`]) that lends one mutable vma at a time
//! ([`VmaMut`]), the count of locked pages, and the flags that new vmas start with. All of them
//! borrow from the guard, so none of them outlives the lock.
//!
//! A vma may be replaced by another while it is changed: splitting and merging allocate and free
//! vmas. [`LockableVma::modify_flags`] therefore takes the handle and gives back the one to go on
//! with ([`ModifiedVma`]).
//!
//! # Lock order
//!
//! The mmap lock is taken first. The vma's own lock, which [`LockableVma::modify_flags`] and the
//! methods of [`ModifiedVma`] take, nests inside, page table locks inside of that.
//!
//! C headers: [`include/linux/mmap_lock.h`](srctree/include/linux/mmap_lock.h),
//! [`mm/vma.h`](srctree/mm/vma.h)

use crate::{
    bindings,
    folio_batch::TaskContext, //
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ops::Deref,
    ptr, //
};
use kernel::{
    error::{
        code::EINVAL,
        from_err_ptr,
        Result, //
    },
    mm::{
        mmap_lock::MmapWriteGuard,
        virt::VmaRef,
        vma_flags::VmaFlags,
        Mm,
        MmWithUser, //
    },
    page::PAGE_MASK, //
};

/// What mm itself does with an address space while it has the mmap lock for writing.
pub trait MmapWrite {
    /// Returns whether there are as many vmas as `vm.max_map_count` allows, so that none can be
    /// split.
    fn is_at_max_map_count(&self) -> bool;

    /// Sets which lock flags a new vma starts with (`mm->def_vma_flags`); the other flags stay.
    ///
    /// Only the lock flags of `lock` count.
    fn set_def_lock_flags(&mut self, lock: VmaFlags);

    /// Returns an iterator over the vmas of `start..end` (bytes) that leaves them as they are.
    fn vmas_in(&self, start: usize, end: usize) -> Vmas<'_>;

    /// Returns an iterator over the vmas from `addr` (bytes) on, lowest address first.
    fn vmas_mut(&mut self, addr: usize) -> VmaIter<'_>;
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
    fn vmas_mut(&mut self, addr: usize) -> VmaIter<'_> {
        // INVARIANT: The write lock is held for as long as `self` is borrowed; no vma was found
        // yet.
        VmaIter {
            mm: self.mm(),
            at: Position {
                vmi: new_vma_iterator(self.mm(), addr),
                prev: ptr::null_mut(),
                vma: ptr::null_mut(),
            },
            _guard: PhantomData,
        }
    }
}

// An iterator that is not on any vma yet. Using it takes the mmap lock.
#[inline]
fn new_vma_iterator(mm: &Mm, addr: usize) -> bindings::vma_iterator {
    let mut vmi = MaybeUninit::uninit();

    // SAFETY: `vmi` is ours to write to, and the mm is valid.
    unsafe { bindings::vma_iter_init(vmi.as_mut_ptr(), mm.as_raw(), addr) };
    // SAFETY: `vma_iter_init()` initialised it.
    unsafe { vmi.assume_init() }
}

/// An iterator over the vmas of a range.
///
/// # Invariants
///
/// The write lock of the mm that `vmi` is over is held for 'g.
pub struct Vmas<'g> {
    vmi: bindings::vma_iterator,
    end: usize,
    _guard: PhantomData<&'g MmapWriteGuard<'g>>,
}

impl<'g> Iterator for Vmas<'g> {
    type Item = &'g VmaRef;

    /// Returns the next vma that starts below the end of the range, as `vma_find()`: any, if that
    /// is 0.
    #[inline]
    fn next(&mut self) -> Option<&'g VmaRef> {
        // SAFETY: By the type invariants, the write lock is held.
        let vma = unsafe { bindings::vma_find(&mut self.vmi, self.end) };
        if vma.is_null() {
            return None;
        }
        // SAFETY: The vma is in the tree, which does not change for 'g: whoever could change it has
        // to borrow the guard mutably.
        Some(unsafe { VmaRef::from_raw(vma) })
    }
}

// Where a `VmaIter` is.
struct Position {
    vmi: bindings::vma_iterator,
    prev: *mut bindings::vm_area_struct,
    vma: *mut bindings::vm_area_struct,
}

/// An iterator over the vmas of an address space that may change them on its way.
///
/// It lends one vma at a time, which has to be given back before the next, since changing a vma may
/// replace its neighbours.
///
/// # Invariants
///
/// The write lock of `mm` is held for 'g. `at.vmi` is over its vmas. `at.vma` is null or the vma
/// that was found last, or what it was merged into or split off from it; before the first is found,
/// it may be one below that. `at.prev` is null or a vma that is not above `at.vma`. Both are in the
/// tree.
pub struct VmaIter<'g> {
    mm: &'g MmWithUser,
    at: Position,
    _guard: PhantomData<&'g mut MmapWriteGuard<'g>>,
}

impl VmaIter<'_> {
    #[inline]
    fn step(&mut self, found: *mut bindings::vm_area_struct) -> Option<VmaMut<'_>> {
        // INVARIANT: `found` comes from `vmi`, so it is in the tree; what was found before it is in
        // the tree too, and below it.
        self.at.prev = self.at.vma;
        self.at.vma = found;
        if found.is_null() {
            return None;
        }
        // INVARIANT: The vma is not null; the rest are the invariants of `self`, which is borrowed.
        Some(VmaMut {
            mm: self.mm,
            at: &mut self.at,
        })
    }

    /// Returns whether a vma contains the address that the iterator starts from. It is the next
    /// one then, and may be merged with the vma before it.
    ///
    /// Without this, the first vma that is found is not merged with one before it. To be called
    /// before any is found, and if it returns `false`, the iterator is of no use.
    #[inline]
    pub fn load(&mut self) -> bool {
        // SAFETY: By the type invariants, the write lock is held for the mm that `vmi` is over.
        //
        // INVARIANT: The vma before is below what the iterator finds next.
        unsafe {
            if bindings::vma_iter_load(&mut self.at.vmi).is_null() {
                return false;
            }
            self.at.vma = bindings::vma_prev(&mut self.at.vmi);
        }
        true
    }

    /// Returns the next vma, as `vma_next()`.
    // Not an `Iterator`: what it lends borrows from it.
    #[expect(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> Option<VmaMut<'_>> {
        // SAFETY: By the type invariants, the write lock is held for the mm that `vmi` is over.
        let found = unsafe { bindings::vma_next(&mut self.at.vmi) };
        self.step(found)
    }

    /// Returns the next vma if it starts below `end` (bytes), or if that is 0, as `vma_find()`.
    #[inline]
    pub fn next_below(&mut self, end: usize) -> Option<VmaMut<'_>> {
        // SAFETY: By the type invariants, the write lock is held for the mm that `vmi` is over.
        let found = unsafe { bindings::vma_find(&mut self.at.vmi, end) };
        self.step(found)
    }

    /// Returns the (exclusive) end address of the vma that was found last, or of what it was made
    /// into, as `vma_iter_end()`.
    #[inline]
    pub fn end(&self) -> usize {
        self.at.vmi.mas.last.wrapping_add(1)
    }
}

/// A vma that may be changed.
///
/// All methods may sleep, since the mmap lock is held for writing.
///
/// # Invariants
///
/// `at` is as in a [`VmaIter`] over `mm`, and `at.vma` is not null.
pub struct VmaMut<'i> {
    mm: &'i MmWithUser,
    at: &'i mut Position,
}

// What may be read under the read lock may be read under the write lock.
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
    /// Returns the vma as one that can be locked and unlocked; `None` if it cannot, as
    /// `vma_supports_mlock()` and `vma_is_secretmem()` say.
    ///
    /// Vmas of devices, huge pages, DAX and droppable memory cannot, nor can the gate vma. Secret
    /// memory is locked for good.
    #[inline]
    pub fn lockable(self) -> Option<LockableVma<'i>> {
        // SAFETY: By the type invariants, the vma is valid.
        let lockable = unsafe {
            !bindings::vma_is_secretmem(self.at.vma) && bindings::vma_supports_mlock(self.at.vma)
        };
        // INVARIANT: We just asked.
        lockable.then_some(LockableVma(self))
    }
}

/// A vma that can be locked and unlocked.
///
/// # Invariants
///
/// `vma_supports_mlock()` is true of the vma, and `vma_is_secretmem()` is not. Both stay so while
/// the mmap lock is held for writing.
pub struct LockableVma<'i>(VmaMut<'i>);

impl<'i> LockableVma<'i> {
    /// Splits and merges so that one vma with the given lock flags can hold `start..end` (bytes).
    /// Takes the vma write lock.
    ///
    /// The flags themselves are not changed where a split was enough: that is left to the caller,
    /// on the vma that is returned, which contains `start..end` and may be another one than before.
    /// Follows `vma_modify_flags()`. Only the lock flags of `lock` count.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if `start..end` is empty, not page aligned, or not in the vma. `ENOMEM` if there
    /// was no memory to split or merge, or there would be too many vmas. The vma is in the tree
    /// then as before, but may have been cut at `start`.
    #[inline]
    pub fn modify_flags(self, start: usize, end: usize, lock: VmaFlags) -> Result<ModifiedVma<'i>> {
        let vma = self.0;
        if !is_part_of(&vma, start, end) {
            return Err(EINVAL);
        }

        // Who has the vma's read lock may set `VMA_MAYBE_GUARD_BIT`: not any more when the flags
        // are read here, when a split copies them, or when a merge does away with the vma. In C,
        // all three may lose that flag.
        // SAFETY: By the type invariants, the vma is valid and the mmap write lock is held.
        unsafe { bindings::vma_start_write(vma.at.vma) };
        let old = vma.vma_flags();
        let mut flags = old.with_lock(lock).into_raw();
        let inside = start > vma.start();
        let mm = vma.mm;
        let at = vma.at;

        // What the range is next to is then the lower part of the same vma.
        if inside {
            at.prev = at.vma;
        }

        // SAFETY: By the type invariants, the write lock is held, and `prev` and `vma` are in the
        // tree that `vmi` is over. We just checked the range. If `prev` does not end where the
        // range starts, then it is not merged with.
        let modified = from_err_ptr(unsafe {
            bindings::vma_modify_flags(&mut at.vmi, at.prev, at.vma, start, end, &mut flags)
        })?;

        // INVARIANT: `vma_modify_flags()` returned a vma that is in the tree, and took the place of
        // the old one if that was merged away; the range, which we just checked, is in it. `prev`
        // was not freed: of a merge with it, it is the vma that remains. `old` are the flags of the
        // range.
        // It merges with vmas that have the same flags and the same file, and so can be locked too.
        at.vma = modified;
        Ok(ModifiedVma {
            mm,
            vma: modified,
            start,
            end,
            old,
            lock,
        })
    }
}

// Whether `start..end` is made of whole pages of a vma, at least one.
#[inline]
fn is_part_of(vma: &VmaRef, start: usize, end: usize) -> bool {
    vma.start() <= start && start < end && end <= vma.end() && (start | end) & !PAGE_MASK == 0
}

/// A vma that was split and merged for new lock flags, which it is to get.
///
/// All methods may sleep, since the mmap lock is held for writing.
///
/// # Invariants
///
/// `vma` is in the tree of `mm`, the write lock of which is held. It contains `start..end`, which
/// is page aligned and not empty, and it can be locked and unlocked. `old` are the flags that the
/// range had before.
#[must_use]
pub struct ModifiedVma<'i> {
    mm: &'i MmWithUser,
    vma: *mut bindings::vm_area_struct,
    start: usize,
    end: usize,
    old: VmaFlags,
    lock: VmaFlags,
}

impl ModifiedVma<'_> {
    #[inline]
    fn as_ref(&self) -> &VmaRef {
        // SAFETY: By the type invariants, the vma is valid and the write lock is held.
        unsafe { VmaRef::from_raw(self.vma) }
    }

    /// Returns the first address (bytes) of the vma: lower than that of the range if it was merged
    /// with the vma before it.
    #[inline]
    pub fn start(&self) -> usize {
        self.as_ref().start()
    }

    /// Returns whether pages of folios may be mapped in the vma.
    ///
    /// A private anonymous vma gets its `anon_vma` before its first folio is mapped; until then, it
    /// maps the zero page at most. fork() relies on the same, in `vma_needs_copy()`. No fault can
    /// change that meanwhile, with the vma's lock or without: `anon_vma` is set with the mmap lock
    /// held for reading.
    #[inline]
    pub fn maps_folios(&self) -> bool {
        // SAFETY: By the type invariants, the vma is valid, and nobody sets `anon_vma` since the
        // mmap lock is held for writing.
        unsafe { !bindings::vma_is_anonymous(self.vma) || !(*self.vma).anon_vma.is_null() }
    }

    /// Adds to the count of locked pages of the address space (`mm->locked_vm`).
    ///
    /// Wraps as the C does.
    #[inline]
    pub fn add_locked_vm(&mut self, pages: isize) {
        let total = self.mm.locked_vm().wrapping_add_signed(pages);

        // SAFETY: The mm is valid, and the write lock that is held excludes every other writer.
        // Readers without the lock see the old number or the new one.
        unsafe {
            (&raw mut (*self.mm.as_raw()).__bindgen_anon_1.locked_vm).write_volatile(total);
        }
    }

    /// Returns a context for what is done before or after the pages are walked.
    #[inline]
    pub fn task_context(&mut self) -> TaskContext<'_> {
        // SAFETY: The mmap lock is a sleeping lock, which a task holds for as long as there is
        // `self`, and under which interrupts are on. No lruvec or batch is locked: that is done
        // with a context, and under spinlocks, inside of which a vma is not changed.
        unsafe { TaskContext::new() }
    }

    /// Replaces the lock flags of the vma if no page needs to follow: if it maps none, or stays
    /// locked and only the mode changes. Takes the vma write lock.
    ///
    /// # Errors
    ///
    /// Gives the vma back if its pages do need to follow, for
    /// [`publish_lock_flags`](Self::publish_lock_flags).
    #[inline]
    pub fn set_lock_flags(self) -> Result<(), Self> {
        let was_locked = self.old.contains(VmaFlags::LOCKED);
        if was_locked != self.lock.contains(VmaFlags::LOCKED) && self.maps_folios() {
            return Err(self);
        }

        // SAFETY: By the type invariants, the vma is valid and the mmap write lock is held.
        unsafe { bindings::vma_start_write(self.vma) };
        // Read anew: the vma may be another one by now, with a `VMA_MAYBE_GUARD_BIT` of its own.
        let flags = self.as_ref().vma_flags().with_lock(self.lock);

        // SAFETY: As above; with the vma write lock we are the only one to write the flags. The vma
        // can be locked by the type invariants, and there is no page that is not as they say.
        unsafe { (*self.vma).__bindgen_anon_2.flags = flags.into_raw() };
        Ok(())
    }

    /// Replaces the lock flags of the vma and calls `pages` to bring its pages in line with them.
    /// Returns what that returns.
    ///
    /// The rmap walks of reclaim and migration look at the flags without the mmap lock. They see
    /// the new flags before `pages` is called; and if the vma is being locked, they see
    /// `VMA_IO_BIT` beside `VMA_LOCKED_BIT` until `pages` has returned, which tells
    /// `mlock_vma_folio()` to leave the folio to us. Otherwise a folio that is migrated meanwhile
    /// would be counted twice, and would stay unevictable for ever.
    ///
    /// Takes the vma write lock.
    #[inline(always)]
    pub fn publish_lock_flags<R>(self, pages: impl FnOnce(&mut PublishedVma<'_>) -> R) -> R {
        // SAFETY: By the type invariants, the vma is valid and the mmap write lock is held.
        unsafe { bindings::vma_start_write(self.vma) };
        // Read anew: the vma may be another one by now, with a `VMA_MAYBE_GUARD_BIT` of its own.
        let flags = self.as_ref().vma_flags().with_lock(self.lock);

        let locking = flags.contains(VmaFlags::LOCKED);
        // SAFETY: These are the vma's own flags, apart from lock flags and the marker, and we have
        // just taken the vma write lock.
        unsafe { self.reset_flags_once(if locking { flags | VmaFlags::IO } else { flags }) };
        // INVARIANT: The vma's write lock is held until the mmap lock is dropped; the range is in
        // it by the invariants of `self`.
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

    /// Writes the flags of the vma in one go.
    ///
    /// # Safety
    ///
    /// The vma write lock must be held, and the flags must be such as the vma may have.
    #[inline]
    unsafe fn reset_flags_once(&self, flags: VmaFlags) {
        let mut flags = flags.into_raw();

        // SAFETY: By the type invariants, the vma is valid; the caller promises that we are the
        // only one to write the flags. rmap walkers see one word or the other.
        unsafe { bindings::vma_flags_reset_once(self.vma, &mut flags) };
    }
}

/// How pages of a vma are populated, by `populate_vma_page_range()`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Populate {
    /// As by a read.
    Read,
    /// As by a write: what is private and can be written to is not left to be copied later.
    Write,
    /// In another way, or not at all: not to be checked for.
    Unchecked,
}

/// A vma whose lock flags have just been published, and whose pages are to follow.
///
/// # Invariants
///
/// The mmap lock and the vma's lock are held for writing. The vma contains `start..end`, which is
/// page aligned and not empty.
pub struct PublishedVma<'v> {
    vma: &'v VmaRef,
    start: usize,
    end: usize,
}

impl PublishedVma<'_> {
    /// For the page walk. Others are not to get at the vma, nor at `self` once more: what can zap
    /// its pages, or sleep, must not be called from a walk, which relies on it that they stay
    /// mapped under the page table lock.
    #[inline]
    pub(super) fn as_ptr(&self) -> *mut bindings::vm_area_struct {
        self.vma.as_ptr()
    }

    /// Returns a context for what is done before or after the pages are walked.
    #[inline]
    pub fn task_context(&mut self) -> TaskContext<'_> {
        // SAFETY: As in `ModifiedVma::task_context()`. A walk, in which there may be others,
        // borrows `self`.
        unsafe { TaskContext::new() }
    }

    /// Returns the flags of the vma.
    #[inline]
    pub fn vma_flags(&self) -> VmaFlags {
        self.vma.vma_flags()
    }

    /// Returns where the part of the vma starts that was modified (bytes).
    #[inline]
    pub fn start(&self) -> usize {
        self.start
    }

    /// Returns the (exclusive) end of the part of the vma that was modified (bytes).
    #[inline]
    pub fn end(&self) -> usize {
        self.end
    }

    /// Returns how `populate_vma_page_range()` is going to populate the pages of the vma.
    #[inline]
    pub fn populate(&self) -> Populate {
        // They are left to be faulted in.
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
