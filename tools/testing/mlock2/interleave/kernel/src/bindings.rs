// SPDX-License-Identifier: GPL-2.0

//! What the abstractions call of C, done on the model.
//!
//! The names, types and contracts are those that bindgen and `rust/helpers/` give.

#![allow(non_camel_case_types, non_upper_case_globals)]

use crate::{
    ffi::{c_int, c_long, c_uint, c_ulong, c_void},
    model::{
        folio as model, mm,
        sched::{self, fail, log, observe},
        world::{self, world, Lock, Pte},
    },
};
use core::ptr;

pub use crate::model::world::{
    Folio as folio, FolioBatch as folio_batch, Lruvec as lruvec, MlockBatch as mlock_fbatch,
    MmStruct as mm_struct, Vma as vm_area_struct, VmaFlags as vma_flags_t,
};

pub const pageflags_PG_lru: c_uint = world::PG_LRU;
pub const pageflags_PG_active: c_uint = world::PG_ACTIVE;
pub const pageflags_PG_mlocked: c_uint = world::PG_MLOCKED;
pub const pageflags_PG_unevictable: c_uint = world::PG_UNEVICTABLE;
pub const pageflags_PG_swapbacked: c_uint = world::PG_SWAPBACKED;
// Nothing is in the swap cache.
pub const pageflags_PG_swapcache: c_uint = world::PG_SWAPCACHE;
pub const pageflags_PG_head: c_uint = world::PG_HEAD;

pub type lru_list = c_uint;
pub const lru_list_LRU_INACTIVE_ANON: lru_list = 0;
pub const lru_list_LRU_INACTIVE_FILE: lru_list = 2;
pub const lru_list_LRU_UNEVICTABLE: lru_list = world::LRU_UNEVICTABLE as lru_list;
pub const LRU_ACTIVE: lru_list = 1;

// One node, one zone.
pub type zone_type = c_uint;
pub const FOLIO_NODE_SHIFT: c_ulong = 62;
pub const FOLIO_NODE_MASK: c_ulong = 1;
pub const FOLIO_ZONE_SHIFT: c_ulong = 60;
pub const FOLIO_ZONE_MASK: c_ulong = 3;
pub const FOLIO_GEN_MASK: c_ulong = world::GEN;

pub type zone_stat_item = c_uint;
pub const zone_stat_item_NR_MLOCK: zone_stat_item = 9;

pub type vm_event_item = c_uint;
pub const vm_event_item_UNEVICTABLE_PGCULLED: vm_event_item = world::CULLED as vm_event_item;
pub const vm_event_item_UNEVICTABLE_PGRESCUED: vm_event_item = world::RESCUED as vm_event_item;
pub const vm_event_item_UNEVICTABLE_PGMLOCKED: vm_event_item = world::PGMLOCKED as vm_event_item;
pub const vm_event_item_UNEVICTABLE_PGMUNLOCKED: vm_event_item = world::MUNLOCKED as vm_event_item;
pub const vm_event_item_UNEVICTABLE_PGSTRANDED: vm_event_item = world::STRANDED as vm_event_item;

pub const NUM_VMA_FLAG_BITS: c_uint = usize::BITS;
pub const VMA_LOCKED_BIT: c_uint = 13;
pub const VMA_IO_BIT: c_uint = 14;
pub const VMA_LOCKONFAULT_BIT: c_uint = 19;

pub const FOLIO_BATCH_SIZE: c_uint = world::BATCH as c_uint;

//
// Folios
//

pub unsafe fn folio_nr_pages(folio: *const folio) -> c_ulong {
    model::live(folio).nr_pages.get() as c_ulong
}

pub unsafe fn folio_test_large(folio: *const folio) -> bool {
    model::live(folio).nr_pages.get() > 1
}

pub unsafe fn folio_is_zone_device(_folio: *const folio) -> bool {
    false
}

/// Large folios do not wait in batches.
pub unsafe fn folio_may_be_lru_cached(folio: *const folio) -> bool {
    model::live(folio).nr_pages.get() == 1
}

pub unsafe fn lru_cache_disabled() -> bool {
    world().lru_disabled.get()
}

pub unsafe fn folio_test_mlocked(folio: *const folio) -> bool {
    model::test_flag(folio, world::MLOCKED)
}

pub unsafe fn folio_test_set_mlocked(folio: *mut folio) -> bool {
    model::test_set_flag(folio, world::MLOCKED)
}

pub unsafe fn folio_test_clear_mlocked(folio: *mut folio) -> bool {
    model::test_clear_flag(folio, world::MLOCKED)
}

pub unsafe fn folio_test_unevictable(folio: *const folio) -> bool {
    model::test_flag(folio, world::UNEVICTABLE)
}

pub unsafe fn folio_test_lru(folio: *const folio) -> bool {
    model::test_flag(folio, world::LRU)
}

pub unsafe fn folio_test_clear_lru(folio: *mut folio) -> bool {
    model::test_clear_flag(folio, world::LRU)
}

pub unsafe fn folio_set_lru(folio: *mut folio) {
    model::set_flag(folio, world::LRU);
}

pub unsafe fn folio_flags_read(folio: *const folio) -> c_ulong {
    model::flags_read(folio)
}

pub unsafe fn folio_flags_try_cmpxchg(folio: *mut folio, old: *mut c_ulong, new: c_ulong) -> bool {
    // SAFETY: The caller has it on its stack.
    model::try_cmpxchg(folio, unsafe { &mut *old }, new)
}

pub unsafe fn folio_mapped(folio: *const folio) -> bool {
    model::mapped(folio)
}

/// `folio_ref_count()`; no KSM.
pub unsafe fn folio_dies_unmapped(folio: *const folio) -> bool {
    model::ref_count(folio) == 1 && model::live(folio).mapping.get() == world::Mapping::Anon
}

pub unsafe fn folio_mlock_count(folio: *mut folio) -> *mut c_uint {
    model::mlock_count(folio)
}

pub unsafe fn folio_get(folio: *mut folio) {
    model::get(folio);
}

pub unsafe fn folio_put(folio: *mut folio) {
    model::put(folio);
}

pub unsafe fn folio_mapping_evictable(folio: *const folio) -> bool {
    model::live(folio).mapping.get() == world::Mapping::Anon || model::mapping_evictable(folio)
}

pub unsafe fn folio_memcg_data(folio: *const folio) -> c_ulong {
    usize::from(model::memcg(folio)) + 1
}

pub unsafe fn folio_mark_accessed_unevictable(folio: *mut folio) -> bool {
    model::test_flag(folio, world::UNEVICTABLE)
}

pub unsafe fn folio_add_lru(folio: *mut folio) {
    mm::folio_add_lru(folio);
}

//
// Lruvecs
//

/// An lruvec that the caller says it has locked.
fn lruvec_of(lruvec: *mut lruvec) -> &'static lruvec {
    if lruvec.is_null() {
        fail("no lruvec is locked");
    }
    // SAFETY: It is one of the world's.
    unsafe { &*lruvec }
}

pub unsafe fn folio_lruvec_lock_irq(folio: *mut folio) -> *mut lruvec {
    ptr::from_ref(model::lruvec_lock(folio)).cast_mut()
}

pub unsafe fn lruvec_unlock_irq(lruvec: *mut lruvec) {
    model::lruvec_unlock(lruvec_of(lruvec));
}

pub unsafe fn folio_matches_lruvec(folio: *mut folio, lruvec: *mut lruvec) -> bool {
    model::lruvec_matches(folio, lruvec)
}

pub unsafe fn lruvec_gen_add_folio(
    lruvec: *mut lruvec,
    folio: *mut folio,
    _reclaiming: bool,
) -> bool {
    model::gen_add(lruvec_of(lruvec), folio)
}

pub unsafe fn lruvec_gen_del_folio(lruvec: *mut lruvec, folio: *mut folio) -> bool {
    if !model::gen_del(lruvec_of(lruvec), folio, false) {
        fail("a folio is taken out of a generation that it is not in");
    }
    true
}

/// Nobody looks behind it: the number of the list, plus one.
#[repr(C)]
pub struct list_head(u8);

pub unsafe fn lruvec_list(_lruvec: *mut lruvec, lru: lru_list) -> *mut list_head {
    ptr::without_provenance_mut(lru as usize + 1)
}

pub unsafe fn folio_list_add(folio: *mut folio, list: *mut list_head) {
    let lru = list.addr() - 1;
    if lru != lru_list_LRU_UNEVICTABLE as usize {
        model::list_add(folio, lru as u8);
    }
}

pub unsafe fn folio_list_del(folio: *mut folio) {
    model::list_del(folio);
}

pub unsafe fn update_lru_size(lruvec: *mut lruvec, lru: lru_list, _zone: zone_type, nr: c_long) {
    model::update_lru_size(lruvec_of(lruvec), lru as u8, nr as i32);
}

pub unsafe fn lruvec_mod_nr_mlock(_lruvec: *mut lruvec, _zone: zone_type, nr: c_long) {
    model::mod_nr_mlock(nr as i32);
}

pub unsafe fn zone_stat_mod_folio(_folio: *mut folio, item: zone_stat_item, nr: c_long) {
    assert!(item == zone_stat_item_NR_MLOCK);
    model::mod_nr_mlock(nr as i32);
}

pub unsafe fn count_vm_events(item: vm_event_item, delta: c_long) {
    model::count_event(item as usize, delta as i32);
}

//
// Batches
//

pub unsafe fn lru_add_drain() {
    mm::lru_add_drain();
}

pub unsafe fn mlock_fbatch_lock() -> *mut mlock_fbatch {
    mm::mlock_fbatch_lock()
}

pub unsafe fn mlock_fbatch_unlock() {
    mm::mlock_fbatch_unlock();
}

pub unsafe fn mlock_fbatch_of(cpu: c_uint) -> *mut mlock_fbatch {
    mm::mlock_fbatch_of(cpu as usize)
}

pub unsafe fn mlock_fbatch_count(cpu: c_uint) -> c_uint {
    mm::mlock_fbatch_count(cpu as usize)
}

//
// Vmas
//

pub type task_struct = Task;
pub struct Task {
    pub mm: *mut mm_struct,
}

/// The vmas of an mm: the one of that number.
pub type maple_tree = usize;
pub type maple_status = c_uint;
pub const maple_status_ma_start: maple_status = 1;

pub struct ma_state {
    pub tree: *mut maple_tree,
    pub index: usize,
    pub last: usize,
    pub status: maple_status,
}

pub struct vma_iterator {
    pub mas: ma_state,
}

pub unsafe fn mmap_write_lock_killable(mm: *mut mm_struct) -> c_int {
    // SAFETY: It is one of the world's.
    sched::write_lock(unsafe { &(*mm).mmap_lock }, "lock mmap lock");
    0
}

pub unsafe fn mmap_write_unlock(mm: *mut mm_struct) {
    // SAFETY: It is one of the world's.
    sched::write_unlock(unsafe { &(*mm).mmap_lock });
}

pub unsafe fn mm_at_max_map_count(_mm: *mut mm_struct) -> bool {
    false
}

pub unsafe fn mm_def_vma_flags(mm: *mut mm_struct) -> *mut vma_flags_t {
    // SAFETY: It is one of the world's.
    unsafe { &raw mut (*mm).def_vma_flags }
}

pub unsafe fn vma_iter_load(vmi: *mut vma_iterator) -> *mut vm_area_struct {
    // SAFETY: The caller's, and one of the world's.
    unsafe {
        let vma = &world().vmas[*(*vmi).mas.tree];
        (*vmi).mas.last = vma.end() - 1;
        (*vmi).mas.status = 0;
        ptr::from_ref(vma).cast_mut()
    }
}

pub unsafe fn vma_prev(_vmi: *mut vma_iterator) -> *mut vm_area_struct {
    ptr::null_mut()
}

pub unsafe fn vma_next(vmi: *mut vma_iterator) -> *mut vm_area_struct {
    // SAFETY: The caller's.
    unsafe {
        if (*vmi).mas.status == maple_status_ma_start {
            vma_iter_load(vmi)
        } else {
            ptr::null_mut()
        }
    }
}

pub unsafe fn vma_find(vmi: *mut vma_iterator, _max: usize) -> *mut vm_area_struct {
    // SAFETY: As above.
    unsafe { vma_next(vmi) }
}

pub unsafe fn vma_start_write(_vma: *mut vm_area_struct) {}

pub unsafe fn vma_flags_reset_once(vma: *mut vm_area_struct, flags: *mut vma_flags_t) {
    // SAFETY: One of the world's, and one of the caller's.
    mm::vma_flags_reset(unsafe { &*vma }, unsafe { (*flags).__vma_flags[0] });
}

pub unsafe fn vma_supports_mlock(_vma: *const vm_area_struct) -> bool {
    true
}

pub unsafe fn vma_is_anonymous(_vma: *mut vm_area_struct) -> bool {
    false
}

pub unsafe fn vma_is_secretmem(_vma: *mut vm_area_struct) -> bool {
    false
}

pub unsafe fn vma_populate_write(_vma: *mut vm_area_struct) -> bool {
    false
}

pub unsafe fn vma_populate_allowed(_vma: *mut vm_area_struct) -> bool {
    false
}

pub unsafe fn vma_modify_flags(
    _vmi: *mut vma_iterator,
    _prev: *mut vm_area_struct,
    vma: *mut vm_area_struct,
    _start: usize,
    _end: usize,
    _flags: *mut vma_flags_t,
) -> *mut vm_area_struct {
    vma
}

//
// Page tables
//

pub type pmd_t = core::cell::Cell<u8>;
pub type spinlock_t = Lock;

/// The entry, as it was read.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct pte_t(core::mem::MaybeUninit<Pte>);

pub type page_walk_lock = c_uint;
pub const page_walk_lock_PGWALK_WRLOCK_VERIFY: page_walk_lock = 2;
pub type page_walk_action = c_uint;
pub const page_walk_action_ACTION_AGAIN: page_walk_action = 2;

pub struct mm_walk_ops {
    pub pmd_entry:
        Option<unsafe extern "C" fn(*mut pmd_t, c_ulong, c_ulong, *mut mm_walk) -> c_int>,
    pub walk_lock: page_walk_lock,
}

#[repr(C)]
pub struct mm_walk {
    pub vma: *mut vm_area_struct,
    pub action: page_walk_action,
    pub private: *mut c_void,
}

pub unsafe fn walk_page_range_vma(
    vma: *mut vm_area_struct,
    start: c_ulong,
    end: c_ulong,
    ops: *const mm_walk_ops,
    private: *mut c_void,
) -> c_int {
    let mut walk = mm_walk {
        vma,
        action: 0,
        private,
    };
    // SAFETY: The vma is one of the world's, and the rest the caller's.
    unsafe {
        let Some(pmd_entry) = (*ops).pmd_entry else {
            return 0;
        };
        let pmd = (&raw const (*vma).pmd).cast_mut();
        mm::walk_pmd_range(&*vma, |again| {
            walk.action = 0;
            pmd_entry(pmd, start, end, &mut walk);
            *again = walk.action == page_walk_action_ACTION_AGAIN;
        });
    }
    0
}

pub unsafe fn pmd_trans_huge_lock(_pmd: *mut pmd_t, _vma: *mut vm_area_struct) -> *mut spinlock_t {
    ptr::null_mut()
}

pub unsafe fn pte_offset_map_lock(
    mm: *mut mm_struct,
    _pmd: *mut pmd_t,
    addr: c_ulong,
    ptl: *mut *mut spinlock_t,
) -> *mut pte_t {
    // SAFETY: The mm is one of the world's, with the vma of its number.
    let vma = unsafe { &world().vmas[(*mm).__bindgen_anon_1.mm_mt] };
    if !mm::pte_offset_map_lock(vma) {
        return ptr::null_mut();
    }
    // SAFETY: The caller has it on its stack.
    unsafe { ptl.write((&raw const vma.ptl).cast_mut()) };
    let index = (addr - vma.start()) / crate::page::PAGE_SIZE;
    vma.ptes[index].as_ptr().cast()
}

pub unsafe fn spin_unlock(lock: *mut spinlock_t) {
    // SAFETY: One of the world's.
    sched::unlock(unsafe { &*lock });
}

pub unsafe fn pte_unmap_unlock(_pte: *mut pte_t, ptl: *mut spinlock_t) {
    // SAFETY: One of the world's.
    sched::unlock(unsafe { &*ptl });
}

pub unsafe fn ptep_get(pte: *mut pte_t) -> pte_t {
    // SAFETY: The caller has the lock of the table that it is in.
    let entry = unsafe { pte.read() };
    observe(value(entry).0.into());
    entry
}

fn value(pte: pte_t) -> Pte {
    // SAFETY: Made of an entry in `ptep_get()` only.
    unsafe { pte.0.assume_init() }
}

pub unsafe fn pte_present(pte: pte_t) -> bool {
    value(pte).is_present()
}

/// None is plain, so that the vma is looked at, and with it the lock.
pub unsafe fn pte_plain_folio(_pte: pte_t, _folio: &mut *mut folio) -> bool {
    false
}

/// The folio that a table maps, if the caller has the table's lock.
pub unsafe fn vm_normal_folio(vma: *mut vm_area_struct, _addr: usize, pte: pte_t) -> *mut folio {
    // SAFETY: One of the world's.
    if unsafe { (*vma).ptl.owner.get() } != sched::me() {
        fail("a page table is looked at without its lock");
    }
    let pte = value(pte);
    if !pte.is_present() {
        return ptr::null_mut();
    }
    log(|| format!("finds f{}", pte.folio()));
    ptr::from_ref(&world().folios[pte.folio()]).cast_mut()
}

pub unsafe fn pmd_normal_folio(
    _vma: *mut vm_area_struct,
    _addr: usize,
    _pmd: *mut pmd_t,
) -> *mut folio {
    ptr::null_mut()
}

pub unsafe fn pte_written(_pte: pte_t, _folio: *mut folio) -> bool {
    true
}

pub unsafe fn pmd_touched(_pmd: *mut pmd_t, _write: bool) -> bool {
    true
}

pub unsafe fn folio_pte_batch(
    folio: *mut folio,
    ptep: *mut pte_t,
    _pte: pte_t,
    max: c_uint,
) -> c_uint {
    let index = world().index_of(folio);
    let mut nr = 0;
    while nr < max {
        // SAFETY: The caller says that there are so many.
        let pte = value(unsafe { ptep.add(nr as usize).read() });
        if !pte.is_present() || pte.folio() != index {
            break;
        }
        nr += 1;
    }
    observe(nr.into());
    nr
}

/// Whether the pages of the folio would all be in the range.
pub unsafe fn folio_within_range(
    folio: *mut folio,
    vma: *mut vm_area_struct,
    start: usize,
    end: usize,
) -> bool {
    // SAFETY: The world's.
    let (vma, folio) = unsafe { (&*vma, &*folio) };
    let addr = vma.start() + usize::from(folio.offset.get()) * crate::page::PAGE_SIZE;
    start <= addr && addr + folio.nr_pages.get() as usize * crate::page::PAGE_SIZE <= end
}
