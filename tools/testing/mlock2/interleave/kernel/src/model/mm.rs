// SPDX-License-Identifier: GPL-2.0

//! The rest of mm, as far as it touches the LRU state of folios.
//!
//! Written after the kernel's C, function by function; each has the name of the one that it stands
//! for. What does not matter here is left out: swap, writeback, notifiers, statistics.

use super::{
    folio::*,
    sched::{
        self, choose, fail, lock, log, observe, observe_batch, observe_mlock_batch, seen, try_lock,
        unlock, Wants,
    },
    world::*,
};
use crate::{ffi::c_int, step};
use core::cell::Cell;

/// The functions of `mm/mlock.c`, or those that take their place.
pub struct Mlock {
    pub name: &'static str,
    pub mlock_folio: fn(*mut Folio),
    pub mlock_new_folio: fn(*mut Folio),
    pub munlock_folio: fn(*mut Folio),
    pub mlock_drain_local: fn(),
    pub mlock_drain_remote: fn(c_int),
    pub need_mlock_drain: fn(c_int) -> bool,
    /// What `mlock_fixup()` does to the flags and the pages of a vma, with the mmap lock.
    pub mlock_fixup: fn(&'static Vma, bool),
}

fn imp() -> &'static Mlock {
    match sched::sched().mlock.get() {
        Some(mlock) => mlock,
        None => panic!("nothing to test"),
    }
}

fn ptr(folio: &'static Folio) -> *mut Folio {
    core::ptr::from_ref(folio).cast_mut()
}

fn pages(folio: &Folio) -> i32 {
    folio.nr_pages.get() as i32
}

/// In a batch, or new: whoever has the batch, and the lruvec lock, may set `PG_lru`.
pub const IN_BATCH: u8 = 0xfe;
/// Isolated by compaction, of which there is one.
pub const ISOLATED: u8 = 0xfd;

//
// mm/mlock.c: the batches
//

pub fn mlock_fbatch_lock() -> *mut MlockBatch {
    let cpu = &world().cpus[sched::cpu()];
    lock(&cpu.mlock_lock, "lock mlock batch");
    // SAFETY: We have the lock.
    observe_mlock_batch(unsafe { &*cpu.mlock.get() });
    cpu.mlock.get()
}

pub fn mlock_fbatch() -> *mut MlockBatch {
    let cpu = &world().cpus[sched::cpu()];
    if cpu.mlock_lock.owner.get() != sched::me() {
        fail("a batch is touched without its lock");
    }
    // SAFETY: We have the lock.
    observe_mlock_batch(unsafe { &*cpu.mlock.get() });
    cpu.mlock.get()
}

pub fn mlock_fbatch_unlock() {
    let cpu = &world().cpus[sched::cpu()];
    log(|| "unlock mlock batch".into());
    // SAFETY: We have the lock.
    let batch = unsafe { &*cpu.mlock.get() };
    let left = batch.fbatch.nr.saturating_sub(batch.nr_dead);
    if cpu.waiting.replace(left) != 0 && left == 0 {
        cpu.drained.set(cpu.drained.get().wrapping_add(1));
    }
    unlock(&cpu.mlock_lock);
}

/// A reference is put: whoever has a batch locked puts those of the batch. With PREEMPT_RT, a walk
/// keeps the lock after that.
pub fn note_put() {
    let cpu = &world().cpus[sched::cpu()];
    if cpu.mlock_lock.owner.get() == sched::me() && cpu.waiting.get() != 0 {
        cpu.waiting.set(cpu.waiting.get() - 1);
        if cpu.waiting.get() == 0 {
            cpu.drained.set(cpu.drained.get().wrapping_add(1));
        }
    }
}

/// The batch of another CPU: for a look at its count, or of one that is gone.
pub fn mlock_fbatch_of(cpu: usize) -> *mut MlockBatch {
    step!("look at the mlock batch of CPU {cpu}");
    let batch = world().cpus[cpu].mlock.get();
    // SAFETY: There is one thread.
    observe_mlock_batch(unsafe { &*batch });
    batch
}

pub fn mlock_fbatch_count(cpu: usize) -> u32 {
    step!("look at the mlock batch of CPU {cpu}");
    // SAFETY: As above.
    let nr = unsafe { (*world().cpus[cpu].mlock.get()).fbatch.nr };
    seen(u32::from(nr != 0)) * u32::from(nr)
}

//
// mm/internal.h, mm/rmap.c
//

pub fn vma_flags_read(vma: &Vma) -> usize {
    step!("read flags of vma {}", vma.index);
    let flags = vma.flags();
    observe(flags as u64);
    flags
}

pub fn vma_flags_reset(vma: &Vma, flags: usize) {
    step!(
        "vma {}:{}{}",
        vma.index,
        if flags & VM_LOCKED != 0 {
            " VM_LOCKED"
        } else {
            " not locked"
        },
        if flags & VM_IO != 0 { " VM_IO" } else { "" },
    );
    vma.set_flags(flags);
}

fn drain_before_large(folio: &'static Folio) {
    if world().large_apart.get() && pages(folio) > 1 {
        (imp().mlock_drain_local)();
    }
}

fn mlock_vma_folio(folio: &'static Folio, vma: &Vma) {
    if vma_flags_read(vma) & (VM_LOCKED | VM_IO) == VM_LOCKED {
        drain_before_large(folio);
        (imp().mlock_folio)(ptr(folio));
    }
}

fn munlock_vma_folio(folio: &'static Folio, vma: &Vma) {
    if vma_flags_read(vma) & VM_LOCKED != 0 {
        drain_before_large(folio);
        (imp().munlock_folio)(ptr(folio));
    }
}

fn mod_mapcount(folio: &'static Folio, pages: i32) {
    step!("mapcount of {} {pages:+}", name(folio));
    let f = live(folio);
    f.mapcount.set(f.mapcount.get() + pages);
    if f.mapcount.get() < 0 {
        fail("a folio is unmapped that is not mapped");
    }
}

/// `folio_add_file_rmap_ptes()`, for the whole folio.
fn folio_add_rmap(folio: &'static Folio, vma: &Vma) {
    mod_mapcount(folio, pages(folio));
    mlock_vma_folio(folio, vma);
}

fn folio_remove_rmap(folio: &'static Folio, vma: &Vma) {
    mod_mapcount(folio, -pages(folio));
    munlock_vma_folio(folio, vma);
}

/// Whether the vma maps the folio, or would if it were not being migrated; with the ptl.
fn maps(vma: &Vma, folio: &'static Folio, what: fn(usize, usize) -> Pte) -> bool {
    let is = ptes(vma, folio)[0].get() == what(world().index_of(folio), 0);
    seen(u64::from(is)) != 0
}

/// Where a folio is mapped, if it is.
fn ptes<'v>(vma: &'v Vma, folio: &Folio) -> &'v [Cell<Pte>] {
    let at = usize::from(folio.offset.get());
    &vma.ptes[at..at + pages(folio) as usize]
}

fn set_ptes(vma: &Vma, folio: &'static Folio, what: fn(usize, usize) -> Pte) {
    log(|| format!("vma {}: set pte", vma.index));
    for (page, pte) in ptes(vma, folio).iter().enumerate() {
        pte.set(what(world().index_of(folio), page));
    }
}

fn clear_ptes(vma: &Vma, folio: &'static Folio) {
    log(|| format!("vma {}: clear pte", vma.index));
    for pte in ptes(vma, folio) {
        pte.set(Pte::NONE);
    }
}

/// `page_vma_mapped_walk()`: the folio is found in a vma, with the ptl held.
fn page_vma_mapped(
    vma: &'static Vma,
    folio: &'static Folio,
    what: fn(usize, usize) -> Pte,
) -> bool {
    lock(&vma.ptl, "lock ptl");
    if maps(vma, folio, what) {
        return true;
    }
    page_vma_mapped_walk_done(vma);
    false
}

fn page_vma_mapped_walk_done(vma: &Vma) {
    log(|| "unlock ptl".into());
    unlock(&vma.ptl);
}

/// For who has the lock of the rmap.
fn exists(vma: &Vma) -> bool {
    seen(u64::from(vma.exists.get())) != 0
}

/// For who has the mmap lock.
fn is_attached(vma: &Vma) -> bool {
    seen(u64::from(vma.attached.get())) != 0
}

/// For who has the folio locked.
fn is_cached(folio: &Folio) -> bool {
    let cached = matches!(folio.mapping.get(), Mapping::File | Mapping::ShmLocked);
    seen(u64::from(cached)) != 0
}

fn rmap_vmas() -> impl Iterator<Item = &'static Vma> {
    world().vmas.iter().filter(|vma| exists(vma))
}

/// `folio_referenced()`: whether a vma has the folio locked. Nobody uses it otherwise.
fn folio_referenced(folio: &'static Folio) -> bool {
    for vma in rmap_vmas() {
        if !page_vma_mapped(vma, folio, Pte::present) {
            continue;
        }
        // folio_referenced_one()
        let locked = vma_flags_read(vma) & VM_LOCKED != 0;
        if locked {
            mlock_vma_folio(folio, vma);
        }
        page_vma_mapped_walk_done(vma);
        if locked {
            return true;
        }
    }
    false
}

fn try_to_unmap(folio: &'static Folio, ignore_mlock: bool) {
    for vma in rmap_vmas() {
        if !page_vma_mapped(vma, folio, Pte::present) {
            continue;
        }
        // try_to_unmap_one()
        if !ignore_mlock && vma_flags_read(vma) & VM_LOCKED != 0 {
            mlock_vma_folio(folio, vma);
            page_vma_mapped_walk_done(vma);
            return;
        }
        clear_ptes(vma, folio);
        folio_remove_rmap(folio, vma);
        if vma_flags_read(vma) & VM_LOCKED != 0 {
            (imp().mlock_drain_local)();
        }
        put_refs(folio);
        page_vma_mapped_walk_done(vma);
    }
}

/// Puts a reference for each page that was mapped.
fn put_refs(folio: &'static Folio) {
    for _ in 0..pages(folio) {
        put(folio);
    }
}

//
// mm/pagewalk.c, mm/pgtable-generic.c
//

pub fn walk_pmd_range(vma: &Vma, mut pmd_entry: impl FnMut(&mut bool)) {
    loop {
        step!("read pmd of vma {}", vma.index);
        if seen(u64::from(vma.pmd.get())) == 0 {
            return;
        }
        let mut again = false;
        pmd_entry(&mut again);
        if !again {
            return;
        }
    }
}

/// The table may have changed while it was looked for; that it does so once is enough.
pub fn pte_offset_map_lock(vma: &'static Vma) -> bool {
    if vma.pmd.get() == PMD_CHANGES && choose(2) != 0 {
        log(|| "the page table has changed".into());
        vma.pmd.set(1);
        return false;
    }
    lock(&vma.ptl, "lock ptl");
    if seen(u64::from(vma.pmd.get())) == 0 {
        page_vma_mapped_walk_done(vma);
        return false;
    }
    true
}

/// A page table that once is not there when it is to be locked.
pub const PMD_CHANGES: u8 = 2;

//
// mm/folio.c
//

fn lru_add(lruvec: &Lruvec, folio: &'static Folio) {
    folio.claim.set(sched::me());
    let was_unevictable = test_clear_flag(folio, UNEVICTABLE);

    if evictable(folio) {
        if was_unevictable {
            count_event(RESCUED, pages(folio));
        }
    } else {
        clear_flag(folio, ACTIVE);
        set_flag(folio, UNEVICTABLE);
        // SAFETY: The lruvec is locked.
        unsafe { mlock_count(folio).write(0) };
        if !was_unevictable {
            count_event(CULLED, pages(folio));
        }
    }
    lruvec_add_folio(lruvec, folio);
}

/// For `lru_add()`.
fn folio_batch_move_lru(batch: *mut FolioBatch) {
    // SAFETY: The caller has its lock, or its CPU is gone.
    let FolioBatch { nr, folios, .. } = unsafe { batch.read() };
    let mut lruvec = None;
    let mut dead = [false; BATCH];

    for i in 0..usize::from(nr) {
        let folio = world().folio(folios[i]);
        if ref_freeze(folio, 1) {
            folio.claim.set(sched::me());
            folio.flags.set(folio.flags.get() & !(ACTIVE | UNEVICTABLE));
            dead[i] = true;
            continue;
        }
        let locked = lruvec_relock(folio, lruvec);
        lruvec = Some(locked);
        lru_add(locked, folio);
        set_flag(folio, LRU);
    }
    if let Some(lruvec) = lruvec {
        lruvec_unlock(lruvec);
    }
    for i in 0..usize::from(nr) {
        if dead[i] {
            free(folios[i]);
        }
    }
    for i in 0..usize::from(nr) {
        if !dead[i] {
            put(folios[i]);
        }
    }
    // SAFETY: As above.
    unsafe { batch.write(FolioBatch::EMPTY) };
}

pub fn folio_add_lru(folio: *const Folio) {
    let folio = world().folio(folio);
    folio.claim.set(IN_BATCH);
    get(folio);
    let cpu = &world().cpus[sched::cpu()];
    lock(&cpu.lru_lock, "lock lru_add batch");
    let batch = cpu.lru_add.get();
    // SAFETY: We have the lock.
    let nr = unsafe {
        observe_batch(&*batch);
        let nr = (*batch).nr;
        (*batch).folios[usize::from(nr)] = ptr(folio);
        (*batch).nr = nr + 1;
        nr + 1
    };
    log(|| format!("{} waits in the lru_add batch", name(folio)));
    if usize::from(nr) == BATCH || pages(folio) > 1 || world().lru_disabled.get() {
        folio_batch_move_lru(batch);
    }
    unlock(&cpu.lru_lock);
}

fn folio_add_lru_vma(folio: &'static Folio, vma: &Vma) {
    if vma_flags_read(vma) & (VM_LOCKED | VM_IO) == VM_LOCKED {
        (imp().mlock_new_folio)(ptr(folio));
    } else {
        folio_add_lru(folio);
    }
}

fn lru_add_drain_cpu(cpu: usize) {
    let batch = world().cpus[cpu].lru_add.get();
    // SAFETY: The caller has its lock, or its CPU is gone.
    let nr = unsafe {
        observe_batch(&*batch);
        (*batch).nr
    };
    if nr != 0 {
        folio_batch_move_lru(batch);
    }
}

pub fn lru_add_drain() {
    let cpu = &world().cpus[sched::cpu()];
    lock(&cpu.lru_lock, "lock lru_add batch");
    lru_add_drain_cpu(sched::cpu());
    unlock(&cpu.lru_lock);
    (imp().mlock_drain_local)();
}

pub fn mlock_drain_local() {
    (imp().mlock_drain_local)();
}

fn cpu_needs_drain(cpu: usize) -> bool {
    step!("look at the lru_add batch of CPU {cpu}");
    // SAFETY: There is one thread.
    let nr = unsafe { (*world().cpus[cpu].lru_add.get()).nr };
    seen(u64::from(nr != 0)) != 0 || (imp().need_mlock_drain)(cpu as c_int)
}

pub fn is_online(cpu: usize) -> bool {
    seen(u64::from(world().cpus[cpu].online.get())) != 0
}

/// Must not return before all folios are gone from the batches that were there when it was called.
pub fn lru_add_drain_all() {
    let home = sched::cpu();
    step!("lru_add_drain_all()");
    let before: [_; CPUS] = core::array::from_fn(|cpu| {
        let cpu = &world().cpus[cpu];
        let drained = cpu.drained.get();
        seen(u64::from(drained));
        (cpu.waiting.get() != 0, drained)
    });
    lru_add_drain();
    let mut has_work = [false; CPUS];
    for (cpu, has_work) in has_work.iter_mut().enumerate() {
        *has_work = is_online(cpu) && cpu_needs_drain(cpu);
    }
    for (cpu, has_work) in has_work.iter().enumerate() {
        if *has_work {
            // The kworker of that CPU, or if it is gone meanwhile, of another one:
            // lru_add_drain_per_cpu()
            if is_online(cpu) {
                sched::move_to_cpu(cpu);
            }
            lru_add_drain();
            sched::move_to_cpu(home);
        }
    }
    for (cpu, (waiting, drained)) in before.into_iter().enumerate() {
        observe(waiting.into());
        if waiting && is_online(cpu) && world().cpus[cpu].drained.get() == drained {
            fail("lru_add_drain_all() returns before a batch is drained");
        }
    }
}

//
// mm/page_alloc.c
//

/// CPU hotplug: all tasks have left the CPU.
pub fn page_alloc_cpu_dead(cpu: usize) {
    sched::point(Wants::DeadCpu(cpu));
    log(|| format!("CPU {cpu} is gone"));
    world().cpus[cpu].online.set(false);
    lru_add_drain_cpu(cpu);
    (imp().mlock_drain_remote)(cpu as c_int);
}

//
// mm/vmscan.c
//

fn folio_putback_lru(folio: &'static Folio) {
    folio_add_lru(folio);
    put(folio);
}

/// `isolate_lru_folios()`, of a list that has this folio or none; or of a generation, as
/// `isolate_folio()`.
fn isolate_lru_folio(folio: &'static Folio) -> bool {
    let home = seen(u64::from(folio.home.get()));
    let lruvec = &world().lruvecs[home as usize];
    lock(&lruvec.lock, "lock lruvec");
    let list = folio.list.get();
    observe(list.into());
    let mut taken = false;
    // A folio that goes away is taken off the list first.
    if usize::from(list) < LISTS
        && holds(&world().lruvecs[usize::from(folio.home.get())])
        && test_flag(folio, LRU)
        && try_get(folio)
    {
        if test_clear_flag(folio, LRU) {
            if !gen_del(lruvec, folio, true) {
                update_lru_size(lruvec, list, -pages(folio));
            }
            folio.list.set(PRIVATE | sched::me());
            taken = true;
        }
        lruvec_unlock(lruvec);
        if !taken {
            put(folio);
        }
    } else {
        lruvec_unlock(lruvec);
    }
    taken
}

fn move_folio_to_lru(folio: &'static Folio) {
    let lruvec = lruvec_lock(folio);
    folio.list.set(NO_LIST);
    if !evictable(folio) {
        lruvec_unlock(lruvec);
        folio_putback_lru(folio);
        return;
    }
    set_flag(folio, LRU);
    if put_testzero(folio) {
        clear_lru_flags(folio);
        lruvec_unlock(lruvec);
        free(folio);
        return;
    }
    lruvec_add_folio(lruvec, folio);
    lruvec_unlock(lruvec);
}

/// `shrink_inactive_list()` and `shrink_active_list()`, for a folio of the page cache.
pub fn reclaim(folio: &'static Folio) {
    // Which list is scanned.
    let list = folio.list.get();
    let active = seen(u64::from(list != GENERATION && list & 1 != 0)) != 0;
    if !isolate_lru_folio(folio) {
        return;
    }
    if active {
        // shrink_active_list()
        folio.list.set(NO_LIST);
        if !evictable(folio) {
            folio_putback_lru(folio);
            return;
        }
        folio_referenced(folio);
        clear_flag(folio, ACTIVE);
        move_folio_to_lru(folio);
        return;
    }
    // shrink_folio_list()
    folio.list.set(NO_LIST);
    if try_lock(&folio.lock, "try to lock folio") {
        if shrink_folio(folio) {
            return;
        }
        unlock(&folio.lock);
    }
    move_folio_to_lru(folio);
}

/// Whether the folio is freed.
fn shrink_folio(folio: &'static Folio) -> bool {
    // Anonymous ones have no swap to go to.
    let mut keep =
        !evictable(folio) || folio_referenced(folio) || folio.mapping.get() == Mapping::Anon;

    if !keep && mapped(folio) {
        try_to_unmap(folio, false);
        keep = mapped(folio);
    }
    // __remove_mapping()
    if !keep && is_cached(folio) {
        if ref_freeze(folio, 1 + pages(folio)) {
            folio.mapping.set(Mapping::None);
            unlock(&folio.lock);
            free(folio);
            return true;
        }
        return false;
    }
    // activate_locked
    if keep && !test_flag(folio, MLOCKED) {
        set_flag(folio, ACTIVE);
    }
    false
}

/// `lru_gen_look_around()`: what a vma maps was used, so it goes to the youngest generation. Its list
/// follows later.
pub fn lru_gen_look_around(vma: &'static Vma) {
    lock(&vma.ptl, "lock page table");
    for pte in &vma.ptes {
        let pte = seen(u64::from(pte.get().0));
        let pte = Pte(pte as u8);
        if !pte.is_present() {
            continue;
        }
        // folio_update_gen()
        let folio = &world().folios[pte.folio()];
        let mut old = flags_read(folio);
        while old & GEN != 0 {
            let new = old & !GEN | YOUNGEST;
            if try_cmpxchg(folio, &mut old, new) {
                break;
            }
        }
    }
    unlock(&vma.ptl);
}

pub fn check_move_unevictable_folios(folio: &'static Folio) {
    // find_get_entries()
    if !try_get(folio) {
        return;
    }
    if test_clear_flag(folio, LRU) {
        let lruvec = lruvec_lock(folio);
        if evictable(folio) && test_flag(folio, UNEVICTABLE) {
            lruvec_del_folio(lruvec, folio);
            clear_flag(folio, UNEVICTABLE);
            lruvec_add_folio(lruvec, folio);
            count_event(RESCUED, pages(folio));
        }
        set_flag(folio, LRU);
        lruvec_unlock(lruvec);
    }
    put(folio);
}

/// `shmctl(SHM_UNLOCK)`
pub fn shmem_unlock(folio: &'static Folio) {
    step!("mapping of {} is not unevictable any more", name(folio));
    if folio.mapping.get() == Mapping::ShmLocked {
        folio.mapping.set(Mapping::File);
    }
    check_move_unevictable_folios(folio);
}

//
// mm/migrate.c
//

/// `folio_isolate_lru()`, by who has no reference.
fn folio_isolate_lru(folio: &'static Folio) -> bool {
    if !try_get(folio) {
        return false;
    }
    if !test_clear_flag(folio, LRU) {
        put(folio);
        return false;
    }
    let lruvec = lruvec_lock(folio);
    lruvec_del_folio(lruvec, folio);
    lruvec_unlock(lruvec);
    true
}

fn try_to_migrate(folio: &'static Folio) {
    for vma in rmap_vmas() {
        if !page_vma_mapped(vma, folio, Pte::present) {
            continue;
        }
        set_ptes(vma, folio, Pte::migration);
        folio_remove_rmap(folio, vma);
        if vma_flags_read(vma) & VM_LOCKED != 0 {
            (imp().mlock_drain_local)();
        }
        put_refs(folio);
        page_vma_mapped_walk_done(vma);
    }
}

fn remove_migration_ptes(src: &'static Folio, dst: &'static Folio) {
    for vma in rmap_vmas() {
        if !page_vma_mapped(vma, src, Pte::migration) {
            continue;
        }
        for _ in 0..pages(dst) {
            get(dst);
        }
        folio_add_rmap(dst, vma);
        set_ptes(vma, dst, Pte::present);
        if vma_flags_read(vma) & VM_LOCKED != 0 {
            (imp().mlock_drain_local)();
        }
        page_vma_mapped_walk_done(vma);
    }
}

/// `migrate_pages()` of one folio to another. `pinned`: somebody has a reference, so that it fails.
pub fn migrate(src: &'static Folio, dst: &'static Folio, pinned: bool) {
    if !folio_isolate_lru(src) {
        return;
    }
    if !try_lock(&src.lock, "try to lock folio") {
        folio_putback_lru(src);
        return;
    }
    if !migrate_folio(src, dst, pinned) {
        unlock(&src.lock);
        folio_putback_lru(src);
    }
}

fn migrate_folio(src: &'static Folio, dst: &'static Folio, pinned: bool) -> bool {
    // migrate_folio_unmap()
    let was_mlocked = test_flag(src, MLOCKED);
    let mut was_mapped = false;
    let cached = is_cached(src);

    if mapped(src) {
        try_to_migrate(src);
        was_mapped = true;
    }
    // folio_migrate_mapping()
    let count = 1 + if cached { pages(src) } else { 0 };
    if pinned || mapped(src) || !ref_freeze(src, count) {
        if was_mapped {
            remove_migration_ptes(src, src);
        }
        return false;
    }
    dst.exists.set(true);
    dst.nr_pages.set(src.nr_pages.get());
    dst.offset.set(src.offset.get());
    dst.refcount.set(count);
    dst.claim.set(sched::me());
    dst.mapping.set(src.mapping.get());
    dst.flags.set(src.flags.get() & (SWAPBACKED | HEAD));
    dst.home.set(src.home.get());
    if cached {
        src.mapping.set(Mapping::None);
    }
    src.refcount.set(1);
    // folio_migrate_flags()
    if test_clear_flag(src, ACTIVE) {
        set_flag(dst, ACTIVE);
    } else if test_clear_flag(src, UNEVICTABLE) {
        set_flag(dst, UNEVICTABLE);
    }
    // migrate_folio_move()
    folio_add_lru(dst);
    if was_mlocked {
        lru_add_drain();
    }
    if was_mapped {
        remove_migration_ptes(src, dst);
    }
    put(dst);
    unlock(&src.lock);
    put(src);
    true
}

//
// mm/compaction.c
//

/// `isolate_migratepages()`, of all folios. Who does so goes on with [`putback_movable_pages`].
pub fn isolate_migratepages() {
    for folio in &world().folios {
        if folio_isolate_lru(folio) {
            folio.claim.set(ISOLATED);
        }
    }
}

/// There is nowhere to migrate them to.
pub fn putback_movable_pages() {
    for folio in &world().folios {
        if folio.claim.get() == ISOLATED {
            folio_putback_lru(folio);
        }
    }
}

//
// mm/huge_memory.c
//

/// `__folio_split()` of the large folio that starts the page cache, with the fixes of mm-fixes/: also
/// one of the page cache is mapped again. Its second page becomes a folio.
pub fn split() {
    let Some(folio) = filemap_entry(0) else {
        return;
    };
    if !try_get(folio) {
        return;
    }
    if !try_lock(&folio.lock, "try to lock folio") {
        put(folio);
        return;
    }
    let mut tail = None;
    if is_cached(folio) && is_pmd_order(folio) && ref_count(folio) == expected_ref_count(folio) + 1
    {
        // unmap_folio()
        try_to_migrate(folio);
        // __folio_freeze_and_split_unmapped()
        if ref_freeze(folio, HPAGE_PMD_NR + 1) {
            let new = alloc_folio();
            sched::lock_new(&new.lock);
            let lruvec = lruvec_lock(folio);
            split_unmapped_folio(folio, new);
            lruvec_unlock(lruvec);
            tail = Some(new);
        }
        // remap_page()
        remove_migration_ptes(folio, folio);
        if let Some(tail) = tail {
            remove_migration_ptes(tail, tail);
        }
    }
    if let Some(tail) = tail {
        unlock(&tail.lock);
        put(tail);
    }
    unlock(&folio.lock);
    put(folio);
}

/// `folio_expected_ref_count()`
fn expected_ref_count(folio: &Folio) -> i32 {
    let mapcount = seen(folio.mapcount.get() as u32) as i32;
    mapcount + pages(folio)
}

/// `__split_unmapped_folio()` and `lru_add_split_folio()`
fn split_unmapped_folio(folio: &'static Folio, tail: &'static Folio) {
    step!("split {}", name(folio));
    let flags = folio.flags.get() & !HEAD;
    if flags & LRU == 0 {
        fail("a folio is split that is on no list");
    }
    folio.flags.set(flags);
    folio.nr_pages.set(1);
    tail.offset.set(folio.offset.get() + 1);
    tail.home.set(folio.home.get());
    tail.mapping.set(folio.mapping.get());
    tail.flags.set(flags);
    if flags & UNEVICTABLE != 0 {
        tail.mlock_count.set(0);
    } else {
        tail.list.set(folio.list.get());
    }
    folio.refcount.set(2);
    tail.refcount.set(2);
    // The page stays the same, only its folio is another.
    let (head, new) = (world().index_of(folio), world().index_of(tail));
    for pte in world().vmas.iter().flat_map(|vma| &vma.ptes) {
        if pte.get() == Pte::migration(head, 1) {
            pte.set(Pte::migration(new, 0));
        }
    }
}

//
// mm/khugepaged.c
//

/// Pages of a huge one.
const HPAGE_PMD_NR: i32 = 2;

fn is_pmd_order(folio: &Folio) -> bool {
    seen(u64::from(pages(folio) == HPAGE_PMD_NR)) != 0
}

/// `collapse_file()` for `MADV_COLLAPSE`, which takes no heed of vmas that are locked: the folios are
/// replaced by one large folio, and page tables go away.
pub fn collapse_file() {
    let mut pagelist: Vec<&'static Folio> = Vec::new();
    let mut failed = false;

    for index in 0..HPAGE_PMD_NR {
        let Some(folio) = filemap_entry(index as u8) else {
            continue;
        };
        if !isolate_to_collapse(folio) {
            failed = true;
            break;
        }
        pagelist.push(folio);
    }
    if failed || pagelist.is_empty() {
        // rollback
        for folio in pagelist {
            unlock(&folio.lock);
            folio_putback_lru(folio);
            put(folio);
        }
        return;
    }
    // The large folio takes the place of all others in one step.
    let new = alloc_folio();
    sched::lock_new(&new.lock);
    new.refcount.set(1 + HPAGE_PMD_NR);
    new.nr_pages.set(HPAGE_PMD_NR as u32);
    new.flags.set(HEAD);
    new.mapping.set(pagelist[0].mapping.get());
    new.home.set(pagelist[0].home.get());
    for folio in &pagelist {
        folio.mapping.set(Mapping::None);
    }
    folio_add_lru(new);
    retract_page_tables();
    unlock(&new.lock);
    put(new);
    for folio in pagelist {
        clear_flag(folio, ACTIVE);
        clear_flag(folio, UNEVICTABLE);
        unlock(&folio.lock);
        // folio_put_refs(): ours, that of who isolated it, and that of the page cache
        for _ in 0..2 + pages(folio) {
            put(folio);
        }
    }
}

/// Locks, isolates and unmaps a folio, if nobody else has it.
fn isolate_to_collapse(folio: &'static Folio) -> bool {
    if !try_get(folio) {
        return false;
    }
    if !try_lock(&folio.lock, "try to lock folio") {
        put(folio);
        return false;
    }
    if !is_pmd_order(folio) && is_cached(folio) && folio_isolate_lru(folio) {
        if mapped(folio) {
            try_to_unmap(folio, true);
        }
        // References: as in collapse_file()
        if ref_count(folio) == 2 + pages(folio) {
            return true;
        }
        folio_putback_lru(folio);
    }
    // out_unlock
    unlock(&folio.lock);
    put(folio);
    false
}

fn retract_page_tables() {
    for vma in rmap_vmas() {
        lock(&vma.ptl, "lock ptl");
        if vma.ptes.iter().any(|pte| pte.get() != Pte::NONE) {
            fail("a page table is removed that maps something");
        }
        log(|| format!("the page table of vma {} goes away", vma.index));
        vma.pmd.set(0);
        page_vma_mapped_walk_done(vma);
    }
}

//
// mm/memory.c, mm/filemap.c
//

/// `xas_load()`: what the page cache has at an index.
fn filemap_entry(index: u8) -> Option<&'static Folio> {
    step!("look up page {index} of the file");
    let found = world().folios.iter().position(|f| {
        let first = f.offset.get();
        let pages = first..first + f.nr_pages.get() as u8;
        matches!(f.mapping.get(), Mapping::File | Mapping::ShmLocked) && pages.contains(&index)
    });
    observe(found.map_or(u64::MAX, |i| i as u64));
    found.map(|i| &world().folios[i])
}

/// A folio that is none yet.
fn alloc_folio() -> &'static Folio {
    match world().folios.iter().position(|f| !f.exists.get()) {
        Some(i) => {
            observe(i as u64);
            world().folios[i].exists.set(true);
            &world().folios[i]
        }
        None => fail("the model has no folio left"),
    }
}

/// `filemap_map_pages()`: a fault on what is in the page cache.
pub fn filemap_map_pages(vma: &'static Vma, folio: &'static Folio) {
    let mm = &world().mms[vma.index];
    sched::read_lock(&mm.mmap_lock, "lock mmap lock for reading");
    if is_attached(vma) && try_get(folio) {
        // next_uptodate_folio()
        let mut mapped = false;
        if try_lock(&folio.lock, "try to lock folio") {
            if is_cached(folio) && pte_offset_map_lock(vma) {
                // set_pte_range()
                if seen(u64::from(ptes(vma, folio)[0].get().0)) == 0 {
                    for _ in 1..pages(folio) {
                        get(folio);
                    }
                    folio_add_rmap(folio, vma);
                    set_ptes(vma, folio, Pte::present);
                    mapped = true;
                }
                page_vma_mapped_walk_done(vma);
            }
            unlock(&folio.lock);
        }
        if !mapped {
            put(folio);
        }
    }
    sched::read_unlock(&mm.mmap_lock);
}

/// `do_anonymous_page()`: a fault on what was never used.
pub fn do_anonymous_page(vma: &'static Vma, folio: &'static Folio) {
    let mm = &world().mms[vma.index];
    sched::read_lock(&mm.mmap_lock, "lock mmap lock for reading");
    if is_attached(vma) {
        folio.exists.set(true);
        folio.refcount.set(1);
        folio.mapping.set(Mapping::Anon);
        folio.flags.set(SWAPBACKED);
        folio.claim.set(IN_BATCH);
        if pte_offset_map_lock(vma) {
            mod_mapcount(folio, pages(folio));
            folio_add_lru_vma(folio, vma);
            set_ptes(vma, folio, Pte::present);
            page_vma_mapped_walk_done(vma);
        }
    }
    sched::read_unlock(&mm.mmap_lock);
}

/// `zap_pte_range()` of a vma, or of one folio that it maps.
fn zap(vma: &'static Vma, only: Option<&'static Folio>) {
    let mut zapped = [false; FOLIOS];
    lock(&vma.ptl, "lock ptl");
    for pte in &vma.ptes {
        let pte = Pte(seen(u64::from(pte.get().0)) as u8);
        let folio = &world().folios[pte.folio()];
        // The pages of one folio are zapped at once.
        if pte == Pte::NONE || pte.page() != 0 || only.is_some_and(|o| !core::ptr::eq(o, folio)) {
            continue;
        }
        clear_ptes(vma, folio);
        if pte.is_present() {
            folio_remove_rmap(folio, vma);
            zapped[pte.folio()] = true;
        }
    }
    page_vma_mapped_walk_done(vma);
    // tlb_finish_mmu()
    for (folio, zapped) in world().folios.iter().zip(zapped) {
        if zapped {
            put_refs(folio);
        }
    }
}

pub fn munmap(vma: &'static Vma) {
    let mm = &world().mms[vma.index];
    sched::write_lock(&mm.mmap_lock, "lock mmap lock");
    let attached = is_attached(vma);
    vma.attached.set(false);
    sched::write_downgrade(&mm.mmap_lock);
    // unmap_region()
    if attached {
        zap(vma, None);
    }
    // unlink_file_vma(), unlink_anon_vmas()
    step!("vma {} goes away", vma.index);
    vma.exists.set(false);
    sched::read_unlock(&mm.mmap_lock);
}

/// `madvise(MADV_DONTNEED)`, with the vma locked for reading.
pub fn madvise_dontneed(vma: &'static Vma) {
    let mm = &world().mms[vma.index];
    sched::read_lock(&mm.mmap_lock, "lock mmap lock for reading");
    if is_attached(vma) {
        zap(vma, None);
    }
    sched::read_unlock(&mm.mmap_lock);
}

/// `truncate_inode_folio()`
pub fn truncate(folio: &'static Folio) {
    // find_lock_entries()
    if !try_get(folio) {
        return;
    }
    if !try_lock(&folio.lock, "try to lock folio") {
        put(folio);
        return;
    }
    if is_cached(folio) {
        // truncate_cleanup_folio()
        if mapped(folio) {
            for vma in rmap_vmas() {
                zap(vma, Some(folio));
            }
        }
        // filemap_remove_folio()
        step!("{} leaves the page cache", name(folio));
        folio.mapping.set(Mapping::None);
        put_refs(folio);
    }
    unlock(&folio.lock);
    put(folio);
}

//
// mm/mlock.c: the system calls
//

/// Whether `mlock_fixup()` has something to do: the vma is there, and is not as it is to be.
pub fn is_to_change(vma: &Vma, locked: bool) -> bool {
    is_attached(vma) && (seen(vma.flags() as u64) & VM_LOCKED as u64 != 0) != locked
}

/// mlock(2) or munlock(2) of a vma, without populating it.
pub fn mlock(vma: &'static Vma, locked: bool) {
    (imp().mlock_fixup)(vma, locked);
}

//
// mm/memcontrol.c
//

/// `memcg_reparent_objcgs()`: what was charged to the first is charged to the second from now on.
pub fn memcg_reparent_objcgs() {
    let [child, parent] = &world().lruvecs;
    lock(&child.lock, "lock lruvec of the child");
    lock(&parent.lock, "lock lruvec of the parent");
    // lru_reparent_memcg()
    for lru in 0..LISTS {
        let size = child.sizes[lru].replace(0);
        parent.sizes[lru].set(parent.sizes[lru].get() + size);
    }
    for folio in &world().folios {
        folio.home.set(1);
    }
    lruvec_unlock(parent);
    lruvec_unlock(child);
}
