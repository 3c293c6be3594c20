// SPDX-License-Identifier: GPL-2.0

//! Walking the page tables of a vma.
//!
//! [`PublishedVma::walk_tables`] calls a visitor for each page table of a range, with the table's
//! lock held. What the table maps can be looked at through [`Table`] for that long, and no longer:
//! that a folio is mapped there, and cannot be unmapped, is what keeps it from being freed.
//!
//! # Lock order
//!
//! The page table lock is taken inside of the mmap lock and of the vma's lock. The closure holds a
//! spinlock, and must not sleep.
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

/// What a walk found, with the lock of the page table held.
pub enum Table<'t> {
    /// One entry that maps a huge page, or would if it were present.
    Huge(HugeEntry<'t>),
    /// A table of entries for pages.
    Pages(PageTable<'t>),
}

/// A page table entry of the size of a whole page table.
///
/// # Invariants
///
/// `pmd` is the huge entry for `addr` of `vma`, and the lock of it is held for 't. It is for
/// `addr..end` of the range.
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
        // SAFETY: By the type invariants, the entry is huge, the vma's, and its lock is held.
        let folio = unsafe { bindings::pmd_normal_folio(self.vma, self.addr, self.pmd) };
        if folio.is_null() {
            return None;
        }
        // SAFETY: The folio is mapped, and cannot be unmapped while the lock is held.
        Some(unsafe { Folio::from_raw(folio) })
    }

    /// Returns the first address of the range (bytes) that the entry is for.
    #[inline]
    pub fn start(&self) -> usize {
        self.addr
    }

    /// Returns the first address (bytes) after what the entry is for of the range.
    #[inline]
    pub fn end(&self) -> usize {
        self.end
    }

    /// Returns whether populating the entry, for writing or not, would find nothing to do:
    /// `follow_huge_pmd()` with `FOLL_TOUCH`. Only if the entry maps a folio.
    #[inline]
    pub fn is_populated(&self, write: bool) -> bool {
        // SAFETY: By the type invariants, the entry is huge and its lock is held.
        unsafe { bindings::pmd_touched(self.pmd, write) }
    }
}

/// A part of a page table, from the entry that a walk stands at.
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
    // INVARIANT: `pages` is no more than there are left.
    #[inline(always)]
    fn advance(&mut self, pages: usize) {
        self.pte = self.pte.wrapping_add(pages);
    }

    /// Returns whether no entry of the range is left.
    #[inline(always)]
    pub fn is_at_end(&self) -> bool {
        self.pte == self.last
    }

    // How many entries are left, this one included.
    #[inline(always)]
    fn left(&self) -> usize {
        entries(self.pte, self.last)
    }

    /// Returns the address (bytes) that the entry is for, or the end of the range.
    #[inline(always)]
    pub fn addr(&self) -> usize {
        address(self.pte, self.last, self.end)
    }

    /// Returns the entry, and the folio that it maps a page of, as `vm_normal_folio()`; `None` if
    /// it is not present, or at the end.
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

    /// Adds the folios of the present pages from here on to `found`, until that is full, and up to
    /// the first that is large; without memory of devices. `vm_normal_folio()` says what a folio
    /// is, and may report an entry that is broken on the console.
    ///
    /// If told to `CHECK`, stops before the first page that has yet to be populated in the given
    /// way, or is not there: of those before, `follow_page_pte()` with `FOLL_TOUCH` would but mark
    /// the folio as accessed. A page that is present but must not be written to is to be copied or
    /// unshared first.
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

    /// Returns the present page here, if it belongs to a large folio, as `vm_normal_folio()` says.
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

/// Returns the folio that the entry at `pte` maps a page of, or null. Apart, so that the address is
/// worked out for few entries only.
///
/// # Safety
///
/// `ptent` must be the present entry of `vma` that stands at `pte`, and the lock of its table be
/// held, in which the entry at `last` is the one for `end`.
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

// The address (bytes) of the entry at `pte`, in the table in which `last` is for `end`.
#[inline(always)]
fn address(pte: *mut bindings::pte_t, last: *mut bindings::pte_t, end: usize) -> usize {
    end.wrapping_sub(entries(pte, last).wrapping_mul(PAGE_SIZE))
}

// How many entries there are from `pte` to `last`.
#[inline(always)]
fn entries(pte: *mut bindings::pte_t, last: *mut bindings::pte_t) -> usize {
    last.addr().wrapping_sub(pte.addr()) / size_of::<bindings::pte_t>()
}

// Whether an entry of the folio may be written to and was.
#[inline(always)]
fn is_written(folio: Folio<'_>, ptent: bindings::pte_t) -> bool {
    // SAFETY: The folio is valid by its type invariants.
    unsafe { bindings::pte_written(ptent, folio.as_ptr()) }
}

/// A present page, and the large folio that it is part of.
///
/// # Invariants
///
/// The entry that `table` stands at is `ptent`, which is present and maps a page of `folio`, which
/// is large.
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

    /// Returns how many entries from here on, at least one, map pages of the folio in a row, as
    /// `folio_pte_batch()`.
    #[inline]
    pub fn batch(&self) -> usize {
        // SAFETY: By the type invariants, the entry is present and maps a page of the folio, and
        // that many entries are left in the table, the lock of which is held.
        let nr = unsafe {
            bindings::folio_pte_batch(
                self.folio.as_ptr(),
                self.table.pte,
                self.ptent,
                // A page table has few enough entries.
                self.table.left() as u32,
            )
        };
        nr as usize
    }

    /// Returns whether the whole folio would lie in the part of the vma that is walked, as
    /// `folio_within_range()`.
    #[inline]
    pub fn is_folio_within(&self) -> bool {
        let table = &self.table;

        // SAFETY: By the type invariants, the folio is mapped in this vma, both of which are valid.
        // It is large, so it is not KSM's, of which the vma would not tell the place.
        unsafe {
            bindings::folio_within_range(self.folio.as_ptr(), table.vma, table.start, table.end)
        }
    }

    /// Returns whether populating the first `pages` of what [`MappedPage::batch`] found would find
    /// nothing to do but mark the folio as accessed: see [`PageTable::collect_small`].
    #[inline]
    pub fn is_batch_populated(&self, pages: usize, write: bool) -> bool {
        let pages = pages.min(self.table.left());

        !write
            || (0..pages).all(|i| {
                // SAFETY: That many entries are left in the table, the lock of which is held.
                let ptent = unsafe { bindings::ptep_get(self.table.pte.wrapping_add(i)) };
                is_written(self.folio, ptent)
            })
    }

    /// Steps over `pages` entries, or to the end if there are fewer.
    #[inline]
    pub fn skip(self, pages: usize) {
        self.table.advance(pages.min(self.table.left()));
    }
}

impl PublishedVma<'_> {
    /// Visits each page table that there is for the part of the vma that was modified, under its
    /// lock.
    ///
    /// Takes and drops the lock for each table, and lets other tasks run in between. A table that
    /// goes away while it is looked for is looked for again. Huge pages are not split.
    #[inline]
    pub fn walk_tables<V: VisitTable>(&mut self, mut visitor: V) {
        // It returns what `pmd_entry()` does, which is 0.
        // SAFETY: By the type invariants, the mmap lock and the vma's own are held for writing, and
        // the range is in the vma. `private` is what the callback expects, and outlives the walk.
        unsafe {
            bindings::walk_page_range_vma(
                self.as_ptr(),
                self.start(),
                self.end(),
                &Walker::<V>::OPS,
                ptr::from_mut(&mut visitor).cast::<c_void>(),
            )
        };
    }
}

/// Who visits page tables: [`PublishedVma::walk_tables`].
pub trait VisitTable {
    /// Visits a table, with its lock held. Must not sleep.
    ///
    /// Not a closure, which cannot be told to be inlined.
    fn visit(&mut self, table: Table<'_>, context: &mut TaskContext<'_>);
}

struct Walker<V>(PhantomData<V>);

impl<V: VisitTable> Walker<V> {
    const OPS: bindings::mm_walk_ops = bindings::mm_walk_ops {
        pmd_entry: Some(Self::pmd_entry),
        walk_lock: bindings::page_walk_lock_PGWALK_WRLOCK_VERIFY,
        ..pin_init::zeroed()
    };

    /// Called by the walk for each entry that there is on the level above page tables.
    ///
    /// # Safety
    ///
    /// `walk` must be one that `PublishedVma::walk_tables()` started for this `V`, and `addr..end`,
    /// which is covered by `pmd`, a part of its range.
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
        // SAFETY: `walk_tables()` has called us, with the write lock of a task's mmap lock: it is
        // that task which runs, with interrupts on. It borrows the vma, and so no context of the
        // vma's is in use.
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
                // The table is gone: what stands there now is to be looked at.
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
        // SAFETY: We took the one lock or the other, and mapped the table with that. What the
        // visitor got ended with the call.
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

/// A few things in a row, for what a walk collects on its stack, which is not initialised for it.
///
/// # Invariants
///
/// The first `len` of `items` are initialised, and `len` is at most `N`.
pub struct ArrayVec<T: Copy, const N: usize> {
    len: usize,
    items: [MaybeUninit<T>; N],
}

impl<T: Copy, const N: usize> ArrayVec<T, N> {
    /// Starts out empty.
    #[expect(clippy::new_without_default)]
    #[inline(always)]
    pub fn new() -> Self {
        // INVARIANT: Nothing is initialised.
        Self {
            len: 0,
            items: [const { MaybeUninit::uninit() }; N],
        }
    }

    /// Forgets the items.
    #[inline(always)]
    pub fn clear(&mut self) {
        // INVARIANT: No fewer are initialised.
        self.len = 0;
    }

    /// Adds an item, if there is space left.
    #[inline(always)]
    pub fn push(&mut self, item: T) {
        if let Some(slot) = self.items.get_mut(self.len) {
            slot.write(item);
            // INVARIANT: Those before were initialised, and now this one is.
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

    /// Returns the items, first the one that was added first.
    #[inline(always)]
    pub fn iter(&self) -> slice::Iter<'_, T> {
        // SAFETY: By the type invariants, that many are there and initialised; `MaybeUninit<T>` has
        // the layout of `T`.
        unsafe { slice::from_raw_parts(self.items.as_ptr().cast::<T>(), self.len) }.iter()
    }
}
