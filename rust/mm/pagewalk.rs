// SPDX-License-Identifier: GPL-2.0

//! Walking the page tables of a vma.
//!
//! [`PublishedVma::walk_tables`] calls a visitor for each page table of a range, with the page
//! table lock held. [`Table`] gives access to what the table maps while the lock is held, and no
//! longer: a mapped folio is not freed, and cannot be unmapped without the lock.
//!
//! # Lock order
//!
//! The page table lock nests inside the mmap lock and the vma lock. It is a spinlock, so the
//! visitor must not sleep.
//!
//! C header: [`include/linux/pagewalk.h`](srctree/include/linux/pagewalk.h)

use crate::{
    bindings,
    folio::Folio,
    folio_batch::TaskContext,
    mmap_write::{
        Populate,
        PublishedVma, //
    },
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ptr,
    slice, //
};
use kernel::{
    ffi::{
        c_int,
        c_ulong,
        c_void, //
    },
    page::PAGE_SIZE,
    task::cond_resched, //
};

/// What a walk found, with the page table lock held.
pub enum Table<'t> {
    /// One entry that maps a huge page, or would if it were present.
    Huge(HugeEntry<'t>),
    /// A table of entries for pages.
    Pages(PageTable<'t>),
}

/// An entry that maps a huge page in place of a page table.
///
/// # Invariants
///
/// `pmd` is the huge entry for `addr` of `vma`, and its lock is held for 't. It covers `addr..end`
/// of the range.
pub struct HugeEntry<'t> {
    vma: *mut bindings::vm_area_struct,
    pmd: *mut bindings::pmd_t,
    addr: usize,
    end: usize,
    _lock: PhantomData<&'t ()>,
}

impl<'t> HugeEntry<'t> {
    /// Returns the folio that is mapped, as `vm_normal_folio_pmd()`; `None` if none is present.
    #[inline]
    pub fn folio(&self) -> Option<Folio<'t>> {
        // SAFETY: By the type invariants, the entry is huge and belongs to the vma, and its lock is
        // held.
        let folio = unsafe { bindings::pmd_normal_folio(self.vma, self.addr, self.pmd) };
        if folio.is_null() {
            return None;
        }
        // SAFETY: The folio is mapped, and cannot be unmapped while the lock is held.
        Some(unsafe { Folio::from_raw(folio) })
    }

    /// Returns the first address (bytes) of the range that the entry covers.
    #[inline]
    pub fn start(&self) -> usize {
        self.addr
    }

    /// Returns the (exclusive) end (bytes) of the part of the range that the entry covers.
    #[inline]
    pub fn end(&self) -> usize {
        self.end
    }

    /// Returns whether populating the entry, for writing or not, would have nothing to do: see
    /// `follow_huge_pmd()` with `FOLL_TOUCH`. The entry must map a folio.
    #[inline]
    pub fn is_populated(&self, write: bool) -> bool {
        // SAFETY: By the type invariants, the entry is huge and its lock is held.
        unsafe { bindings::pmd_touched(self.pmd, write) }
    }
}

/// The part of a page table that a walk has yet to visit.
///
/// # Invariants
///
/// The table's lock is held for 't. `start..end`, page aligned, is in `vma` and in this table.
/// `last` is where the entry for `end` is, or would be. `pte` is one of the entries for
/// `start..end`, or `last`.
pub struct PageTable<'t> {
    vma: *mut bindings::vm_area_struct,
    pte: *mut bindings::pte_t,
    last: *mut bindings::pte_t,
    start: usize,
    end: usize,
    _lock: PhantomData<&'t ()>,
}

impl<'t> PageTable<'t> {
    // INVARIANT: Callers pass at most the number of entries left.
    #[inline(always)]
    fn advance(&mut self, pages: usize) {
        self.pte = self.pte.wrapping_add(pages);
    }

    /// Returns whether no entry of the range is left.
    #[inline(always)]
    pub fn is_at_end(&self) -> bool {
        self.pte == self.last
    }

    // How many entries are left, including the current one.
    #[inline(always)]
    fn left(&self) -> usize {
        entries(self.pte, self.last)
    }

    /// Returns the address (bytes) of the current entry, or the end of the range.
    #[inline(always)]
    pub fn addr(&self) -> usize {
        address(self.pte, self.last, self.end)
    }

    /// Returns whether the current entry is present; `false` at the end of the range.
    #[inline(always)]
    pub fn is_present(&self) -> bool {
        // SAFETY: By the type invariants, this is an entry of a table whose lock is held, unless it
        // is at the end.
        !self.is_at_end() && unsafe { bindings::pte_present(bindings::ptep_get(self.pte)) }
    }

    /// Returns the current entry and the folio of the page that it maps, as `vm_normal_folio()`;
    /// `None` if the entry is not present, or at the end.
    #[inline(always)]
    fn folio(&self) -> Option<(bindings::pte_t, Folio<'t>)> {
        if self.is_at_end() {
            return None;
        }
        let mut folio = ptr::null_mut();
        // SAFETY: By the type invariants, this is an entry of a table whose lock is held.
        let ptent = unsafe { bindings::ptep_get(self.pte) };
        // SAFETY: As above; `folio` is ours to write to.
        unsafe {
            if !bindings::pte_present(ptent) {
                return None;
            }
            if !bindings::pte_plain_folio(ptent, &mut folio) {
                folio = vm_normal_folio(self.vma, self.pte, self.last, self.end, ptent);
                if folio.is_null() {
                    return None;
                }
            }
        }
        // SAFETY: The folio is mapped, and cannot be unmapped while the lock is held.
        Some((ptent, unsafe { Folio::from_raw(folio) }))
    }

    /// Adds the folios of the present pages from here on to `found`, until it is full, and up to
    /// the first large folio. Skips device memory. `vm_normal_folio()` may report a bad entry on
    /// the console.
    ///
    /// With `CHECK`, stops before the first page that is not present, or not populated as
    /// `populate` says: for the pages before it, `follow_page_pte()` with `FOLL_TOUCH` would only
    /// mark the folio accessed. A present page that is not writable is not populated for a write:
    /// it would be copied or unshared first.
    #[inline(always)]
    pub fn collect_small<const N: usize, const CHECK: bool>(
        &mut self,
        found: &mut ArrayVec<Folio<'t>, N>,
        populate: Populate,
    ) {
        let check = CHECK && populate != Populate::Unchecked;
        let write = CHECK && populate == Populate::Write;

        while !found.is_full() && !self.is_at_end() {
            match self.folio() {
                Some((ptent, folio)) if !folio.is_zone_device() => {
                    if folio.is_large() || (write && !is_written(folio, ptent)) {
                        break;
                    }
                    self.advance(1);
                    found.push(folio);
                }
                _ if check => break,
                _ => self.advance(1),
            }
        }
    }

    /// Returns the current page if it is present and belongs to a large folio, as
    /// `vm_normal_folio()` says.
    #[inline]
    pub fn large(&mut self) -> Option<MappedPage<'_, 't>> {
        let (ptent, folio) = self.folio()?;

        // INVARIANT: We just found the folio there.
        folio.is_large().then_some(MappedPage {
            folio,
            ptent,
            table: self,
        })
    }
}

/// Returns the folio of the page that the entry at `pte` maps, or null. Not inlined, since few
/// entries need their address computed.
///
/// # Safety
///
/// `ptent` must be the present entry of `vma` at `pte`, and the lock of its table must be held. In
/// that table, `last` must be where the entry for `end` is, or would be.
#[cold]
#[inline(never)]
unsafe fn vm_normal_folio(
    vma: *mut bindings::vm_area_struct,
    pte: *mut bindings::pte_t,
    last: *mut bindings::pte_t,
    end: usize,
    ptent: bindings::pte_t,
) -> *mut bindings::folio {
    let addr = address(pte, last, end);

    // SAFETY: The caller promises it.
    unsafe { bindings::vm_normal_folio(vma, addr, ptent) }
}

// The address (bytes) of the entry at `pte`, given that `last` is the entry for `end`.
#[inline(always)]
fn address(pte: *mut bindings::pte_t, last: *mut bindings::pte_t, end: usize) -> usize {
    end.wrapping_sub(entries(pte, last).wrapping_mul(PAGE_SIZE))
}

// How many entries there are from `pte` to `last`.
#[inline(always)]
fn entries(pte: *mut bindings::pte_t, last: *mut bindings::pte_t) -> usize {
    last.addr().wrapping_sub(pte.addr()) / size_of::<bindings::pte_t>()
}

// Whether an entry of the folio is writable, and it or the folio is dirty.
#[inline(always)]
fn is_written(folio: Folio<'_>, ptent: bindings::pte_t) -> bool {
    // SAFETY: The folio is valid by its type invariants.
    unsafe { bindings::pte_written(ptent, folio.as_ptr()) }
}

/// A present page, and the large folio that it is part of.
///
/// # Invariants
///
/// `ptent` is the current entry of `table`. It is present and maps a page of `folio`, which is
/// large.
pub struct MappedPage<'p, 't> {
    table: &'p mut PageTable<'t>,
    folio: Folio<'t>,
    ptent: bindings::pte_t,
}

impl<'t> MappedPage<'_, 't> {
    /// Returns the folio.
    #[inline(always)]
    pub fn folio(&self) -> Folio<'t> {
        self.folio
    }

    /// Returns how many entries from here on, at least one, map consecutive pages of the folio, as
    /// `folio_pte_batch()`.
    #[inline]
    pub fn batch(&self) -> usize {
        // SAFETY: By the type invariants, the entry is present and maps a page of the folio, at
        // least `left()` entries are left in the table, and its lock is held.
        let nr = unsafe {
            bindings::folio_pte_batch(
                self.folio.as_ptr(),
                self.table.pte,
                self.ptent,
                // The number of entries of a page table fits in a u32.
                self.table.left() as u32,
            )
        };
        nr as usize
    }

    /// Returns whether the part of the vma that is walked covers the whole folio, as
    /// `folio_within_range()`.
    #[inline]
    pub fn is_folio_within(&self) -> bool {
        let table = &self.table;

        // SAFETY: By the type invariants, the folio is mapped in this vma, and both are valid. It
        // is large, so it is not a KSM folio, whose place in the vma would be unknown.
        unsafe {
            bindings::folio_within_range(self.folio.as_ptr(), table.vma, table.start, table.end)
        }
    }

    /// Returns whether populating the first `pages` pages that [`MappedPage::batch`] found would
    /// only mark the folio accessed: see [`PageTable::collect_small`].
    #[inline]
    pub fn is_batch_populated(&self, pages: usize, write: bool) -> bool {
        let pages = pages.min(self.table.left());

        !write
            || (0..pages).all(|i| {
                // SAFETY: At least `pages` entries are left in the table, whose lock is held.
                let ptent = unsafe { bindings::ptep_get(self.table.pte.wrapping_add(i)) };
                is_written(self.folio, ptent)
            })
    }

    /// Skips `pages` entries, or to the end if there are fewer.
    #[inline]
    pub fn skip(self, pages: usize) {
        self.table.advance(pages.min(self.table.left()));
    }
}

impl PublishedVma<'_> {
    /// Visits each page table of the modified part of the vma, with the table's lock held.
    ///
    /// Takes and drops the lock for each table, and reschedules in between if needed. Retries if a
    /// table goes away before it is locked. Does not split huge pages.
    #[inline]
    pub fn walk_tables<V: VisitTable>(&mut self, visitor: &mut V) {
        // Returns what `pmd_entry()` returns, which is 0.
        // SAFETY: By the type invariants, the mmap lock and the vma lock are held for writing, and
        // the range is in the vma. `private` is what the callback expects, and outlives the walk.
        unsafe {
            bindings::walk_page_range_vma(
                self.as_ptr(),
                self.start(),
                self.end(),
                &Walker::<V>::OPS,
                ptr::from_mut(visitor).cast::<c_void>(),
            )
        };
    }
}

/// A visitor of page tables, for [`PublishedVma::walk_tables`].
pub trait VisitTable {
    /// Visits a table, with its lock held. Must not sleep.
    ///
    /// A trait rather than a closure, which cannot be marked inline.
    fn visit(&mut self, table: Table<'_>, context: &mut TaskContext<'_>);
}

struct Walker<V>(PhantomData<V>);

impl<V: VisitTable> Walker<V> {
    const OPS: bindings::mm_walk_ops = bindings::mm_walk_ops {
        pmd_entry: Some(Self::pmd_entry),
        walk_lock: bindings::page_walk_lock_PGWALK_WRLOCK_VERIFY,
        ..pin_init::zeroed()
    };

    /// Called by the walk for each PMD entry that is not empty.
    ///
    /// # Safety
    ///
    /// `walk` must be one that `PublishedVma::walk_tables()` started for this `V`. `addr..end` must
    /// be the part of its range that `pmd` covers.
    unsafe extern "C" fn pmd_entry(
        pmd: *mut bindings::pmd_t,
        addr: c_ulong,
        end: c_ulong,
        walk: *mut bindings::mm_walk,
    ) -> c_int {
        // SAFETY: The caller promises that `walk` is ours, and that the visitor is a `V`; nobody
        // else uses it meanwhile.
        let (vma, visitor) = unsafe { ((*walk).vma, &mut *(*walk).private.cast::<V>()) };
        let mut ptl = ptr::null_mut();
        // SAFETY: `walk_tables()` runs in the task that holds the mmap write lock, with interrupts
        // on. It borrows the vma mutably, so no context from the vma is in use.
        let mut context = unsafe { TaskContext::new() };

        // SAFETY: `pmd` is an entry of the vma, which is locked.
        let huge_ptl = unsafe { bindings::pmd_trans_huge_lock(pmd, vma) };
        let mut pte = ptr::null_mut();
        let table = if !huge_ptl.is_null() {
            // INVARIANT: The entry is huge, and we just took its lock.
            Table::Huge(HugeEntry {
                vma,
                pmd,
                addr,
                end,
                _lock: PhantomData,
            })
        } else {
            // SAFETY: `pmd` is an entry of the vma, which is locked.
            pte = unsafe { bindings::pte_offset_map_lock((*vma).vm_mm, pmd, addr, &mut ptl) };
            if pte.is_null() {
                // The table is gone: look again at what replaced it.
                // SAFETY: The caller promises that `walk` is ours.
                unsafe { (*walk).action = bindings::page_walk_action_ACTION_AGAIN };
                return 0;
            }
            // INVARIANT: We just took the lock of the table. The caller promises that the range is
            // in the vma and in one table.
            Table::Pages(PageTable {
                vma,
                pte,
                last: pte.wrapping_add(end.wrapping_sub(addr) / PAGE_SIZE),
                start: addr,
                end,
                _lock: PhantomData,
            })
        };
        visitor.visit(table, &mut context);
        // SAFETY: We took one of the two locks, and mapped the table along with the second. What
        // the visitor borrowed ended with the call.
        unsafe {
            if !huge_ptl.is_null() {
                bindings::spin_unlock(huge_ptl);
            } else {
                bindings::pte_unmap_unlock(pte, ptl);
            }
        }
        cond_resched();
        0
    }
}

/// A short array with a length, for what a walk collects on its stack. The array is not initialised
/// in advance.
///
/// # Invariants
///
/// The first `len` of `items` are initialised, and `len` is at most `N`.
pub struct ArrayVec<T: Copy, const N: usize> {
    len: usize,
    items: [MaybeUninit<T>; N],
}

impl<T: Copy, const N: usize> ArrayVec<T, N> {
    /// Returns an empty array.
    #[expect(clippy::new_without_default)]
    #[inline(always)]
    pub fn new() -> Self {
        // INVARIANT: No items need be initialised.
        Self {
            len: 0,
            items: [const { MaybeUninit::uninit() }; N],
        }
    }

    /// Drops all items.
    #[inline(always)]
    pub fn clear(&mut self) {
        // INVARIANT: A `len` of 0 is always valid.
        self.len = 0;
    }

    /// Adds an item, unless the array is full.
    #[inline(always)]
    pub fn push(&mut self, item: T) {
        if let Some(slot) = self.items.get_mut(self.len) {
            slot.write(item);
            // INVARIANT: The items before were initialised, and now this one is.
            self.len = self.len.wrapping_add(1);
        }
    }

    /// Returns whether there is no space left.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.len >= N
    }

    /// Returns how many items there are.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there is none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the items, in the order in which they were added.
    #[inline(always)]
    pub fn iter(&self) -> slice::Iter<'_, T> {
        // SAFETY: By the type invariants, the first `len` items exist and are initialised;
        // `MaybeUninit<T>` has the layout of `T`.
        unsafe { slice::from_raw_parts(self.items.as_ptr().cast::<T>(), self.len) }.iter()
    }
}
