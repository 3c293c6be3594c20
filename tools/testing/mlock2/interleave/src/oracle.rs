// SPDX-License-Identifier: GPL-2.0

//! The C: `mm/mlock.c`, and the operations of the model by the names that it calls them.

use kernel::{
    bindings::{self, pte_t},
    ffi::{c_int, c_long, c_uint, c_ulong},
    model::{
        folio as model,
        mm::{self, Mlock},
        sched::{self, fail},
        world::*,
    },
};

type Pmd = core::cell::Cell<u8>;

#[repr(C)]
pub struct MmWalk {
    vma: *const Vma,
    action: c_int,
}

#[repr(C)]
pub struct MmWalkOps {
    pmd_entry: Option<unsafe extern "C" fn(*const Pmd, c_ulong, c_ulong, *mut MmWalk) -> c_int>,
    walk_lock: c_int,
}

macro_rules! oracle {
    ($name:ident, $what:literal, $mlock_folio:ident, $mlock_new_folio:ident, $munlock_folio:ident,
        $mlock_drain_local:ident, $mlock_drain_remote:ident, $need_mlock_drain:ident,
        $mlock_vma_pages_range:ident) => {
        #[allow(improper_ctypes)]
        mod $name {
            use super::*;

            extern "C" {
                fn $mlock_folio(folio: *mut Folio);
                fn $mlock_new_folio(folio: *mut Folio);
                fn $munlock_folio(folio: *mut Folio);
                fn $mlock_drain_local();
                fn $mlock_drain_remote(cpu: c_int);
                fn $need_mlock_drain(cpu: c_int) -> bool;
                fn $mlock_vma_pages_range(
                    vma: *const Vma,
                    start: c_ulong,
                    end: c_ulong,
                    flags: c_ulong,
                );
            }

            // SAFETY: Called as the kernel calls them: with a folio that the caller has a reference
            // to, or with the mmap lock.
            pub const MLOCK: Mlock = Mlock {
                name: $what,
                mlock_folio: |folio| unsafe { $mlock_folio(folio) },
                mlock_new_folio: |folio| unsafe { $mlock_new_folio(folio) },
                munlock_folio: |folio| unsafe { $munlock_folio(folio) },
                mlock_drain_local: || unsafe { $mlock_drain_local() },
                mlock_drain_remote: |cpu| unsafe { $mlock_drain_remote(cpu) },
                need_mlock_drain: |cpu| unsafe { $need_mlock_drain(cpu) },
                mlock_fixup: |vma, locked| {
                    mlock_fixup(vma, locked, |start, end, flags| unsafe {
                        $mlock_vma_pages_range(vma, start, end, flags)
                    })
                },
            };
        }
    };
}

oracle!(
    fixed,
    "C",
    fixed_mlock_folio,
    fixed_mlock_new_folio,
    fixed_munlock_folio,
    fixed_mlock_drain_local,
    fixed_mlock_drain_remote,
    fixed_need_mlock_drain,
    fixed_mlock_vma_pages_range
);
oracle!(
    stock,
    "stock C",
    stock_mlock_folio,
    stock_mlock_new_folio,
    stock_munlock_folio,
    stock_mlock_drain_local,
    stock_mlock_drain_remote,
    stock_need_mlock_drain,
    stock_mlock_vma_pages_range
);

pub use fixed::MLOCK;
pub use stock::MLOCK as STOCK;

/// As `mlock_fixup()` for the whole of a vma.
fn mlock_fixup(vma: &'static Vma, locked: bool, pages: impl FnOnce(usize, usize, usize)) {
    let mm = &world().mms[vma.index];
    sched::write_lock(&mm.mmap_lock, "lock mmap lock");
    if mm::is_to_change(vma, locked) {
        let flags = vma.flags();
        pages(
            vma.start(),
            vma.end(),
            if locked {
                flags | VM_LOCKED
            } else {
                flags & !VM_LOCKED
            },
        );
    }
    sched::write_unlock(&mm.mmap_lock);
}

/// Defines functions that C calls.
macro_rules! for_c {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $ret:ty)? $body:block)*) => {
        $(
            #[no_mangle]
            extern "C" fn $name($($arg: $type),*) $(-> $ret)? $body
        )*
    };
}

for_c! {
    fn model_warn_on(cond: bool) {
        if cond {
            fail("the C warns");
        }
    }
    fn model_cond_resched() {
        sched::check_may_sleep("cond_resched()");
    }

    fn model_mlock_count() -> c_uint {
        model::touch_mlock_counts();
        0
    }
    fn folio_test_lru(folio: *const Folio) -> bool {
        model::test_flag(folio, LRU)
    }
    fn folio_test_clear_lru(folio: *const Folio) -> bool {
        model::test_clear_flag(folio, LRU)
    }
    fn folio_set_lru(folio: *const Folio) {
        model::set_flag(folio, LRU);
    }
    fn folio_test_unevictable(folio: *const Folio) -> bool {
        model::test_flag(folio, UNEVICTABLE)
    }
    fn folio_set_unevictable(folio: *const Folio) {
        model::set_flag(folio, UNEVICTABLE);
    }
    fn folio_clear_unevictable(folio: *const Folio) {
        model::clear_flag(folio, UNEVICTABLE);
    }
    fn folio_test_mlocked(folio: *const Folio) -> bool {
        model::test_flag(folio, MLOCKED)
    }
    fn folio_test_set_mlocked(folio: *const Folio) -> bool {
        model::test_set_flag(folio, MLOCKED)
    }
    fn folio_test_clear_mlocked(folio: *const Folio) -> bool {
        model::test_clear_flag(folio, MLOCKED)
    }
    fn folio_set_mlocked(folio: *const Folio) {
        model::set_flag(folio, MLOCKED);
    }
    fn folio_clear_active(folio: *const Folio) {
        model::clear_flag(folio, ACTIVE);
    }
    fn folio_evictable(folio: *const Folio) -> bool {
        model::evictable(folio)
    }
    fn folio_mapped(folio: *const Folio) -> bool {
        model::mapped(folio)
    }
    fn folio_test_large(folio: *const Folio) -> bool {
        model::live(folio).nr_pages.get() > 1
    }
    fn folio_nr_pages(folio: *const Folio) -> c_long {
        model::live(folio).nr_pages.get() as c_long
    }
    fn folio_is_zone_device(_folio: *const Folio) -> bool {
        false
    }
    fn folio_may_be_lru_cached(folio: *const Folio) -> bool {
        model::live(folio).nr_pages.get() == 1
    }
    fn lru_cache_disabled() -> bool {
        world().lru_disabled.get()
    }
    fn folio_get(folio: *const Folio) {
        model::get(folio);
    }
    fn folio_put(folio: *const Folio) {
        model::put(folio);
    }

    fn folio_lruvec_relock_irq(folio: *const Folio, locked: *const Lruvec) -> *const Lruvec {
        // SAFETY: It is null, or one of the world's.
        model::lruvec_relock(folio, unsafe { locked.as_ref() })
    }
    fn lruvec_unlock_irq(lruvec: &Lruvec) {
        model::lruvec_unlock(lruvec);
    }
    fn lruvec_add_folio(lruvec: &Lruvec, folio: *const Folio) {
        model::lruvec_add_folio(lruvec, folio);
    }
    fn lruvec_del_folio(lruvec: &Lruvec, folio: *const Folio) {
        model::lruvec_del_folio(lruvec, folio);
    }
    fn model_mod_nr_mlock(nr: c_long) {
        model::mod_nr_mlock(nr as i32);
    }
    fn model_count_event(item: c_int, delta: c_long) {
        model::count_event(item as usize, delta as i32);
    }

    fn model_mlock_fbatch_lock() {
        mm::mlock_fbatch_lock();
    }
    fn model_mlock_fbatch_unlock() {
        mm::mlock_fbatch_unlock();
    }
    fn model_mlock_fbatch() -> *mut FolioBatch {
        mm::mlock_fbatch().cast()
    }
    fn model_mlock_fbatch_of(cpu: c_int) -> *mut FolioBatch {
        mm::mlock_fbatch_of(cpu as usize).cast()
    }
    fn model_cpu_online(cpu: c_int) -> bool {
        world().cpus[cpu as usize].online.get()
    }
    fn lru_add_drain() {
        mm::lru_add_drain();
    }

    fn model_vma_test(vma: &Vma, bit: c_int) -> bool {
        // The walk has the mmap lock: nobody changes it meanwhile.
        vma.flags() >> bit & 1 != 0
    }
    fn model_vma_flags_reset(vma: &Vma, flags: c_ulong) {
        mm::vma_flags_reset(vma, flags);
    }
    fn model_walk_page_range_vma(vma: &Vma, start: c_ulong, end: c_ulong, ops: &MmWalkOps) {
        let mut walk = MmWalk { vma, action: 0 };
        let Some(pmd_entry) = ops.pmd_entry else {
            return;
        };
        mm::walk_pmd_range(vma, |again| {
            walk.action = 0;
            // SAFETY: All of it is as the callback expects.
            unsafe { pmd_entry(&vma.pmd, start, end, &mut walk) };
            *again = walk.action == bindings::page_walk_action_ACTION_AGAIN as c_int;
        });
    }
    fn model_pte_offset_map_lock(vma: &Vma, addr: c_ulong, ptl: &mut *const Lock) -> *const pte_t {
        let vma = &world().vmas[vma.index];
        if !mm::pte_offset_map_lock(vma) {
            return core::ptr::null();
        }
        *ptl = &vma.ptl;
        vma.ptes[(addr - vma.start()) / kernel::page::PAGE_SIZE].as_ptr().cast()
    }
    fn ptep_get(pte: *mut pte_t) -> pte_t {
        // SAFETY: The caller has the table's lock.
        unsafe { bindings::ptep_get(pte) }
    }
    fn pte_present(_pte: pte_t) -> bool {
        // vm_normal_folio() looks.
        true
    }
    fn vm_normal_folio(vma: *mut Vma, addr: c_ulong, pte: pte_t) -> *mut Folio {
        // SAFETY: The caller has the table's lock.
        unsafe { bindings::vm_normal_folio(vma, addr, pte) }
    }
    fn folio_pte_batch(folio: *mut Folio, ptep: *mut pte_t, pte: pte_t, max: c_uint) -> c_uint {
        // SAFETY: As above.
        unsafe { bindings::folio_pte_batch(folio, ptep, pte, max) }
    }
    fn folio_within_range(folio: *mut Folio, vma: *mut Vma, start: c_ulong, end: c_ulong) -> bool {
        // SAFETY: All are the world's.
        unsafe { bindings::folio_within_range(folio, vma, start, end) }
    }
    fn spin_unlock(lock: &Lock) {
        sched::unlock(lock);
    }
}
