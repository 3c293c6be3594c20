// SPDX-License-Identifier: GPL-2.0

//! Operations on folios, LRU lists and counters. The Rust and the C under test, and the rest of mm in
//! [`super::mm`], all use these.

use super::{
    mm::IN_BATCH,
    sched::{self, fail, lock, log, observe, seen, unlock},
    world::*,
};
use crate::step;

/// The name of a folio in a log.
pub fn name(folio: *const Folio) -> String {
    format!("f{}", world().index_of(folio))
}

pub fn flag_names(flags: usize) -> String {
    let mut names = Vec::new();
    for (flag, name) in [
        (LRU, "lru"),
        (ACTIVE, "active"),
        (UNEVICTABLE, "unevictable"),
        (MLOCKED, "mlocked"),
        (GEN, "gen"),
    ] {
        if flags & flag != 0 {
            names.push(name);
        }
    }
    if names.is_empty() {
        "-".into()
    } else {
        names.join("|")
    }
}

/// The folio, which must not be freed.
pub fn live(folio: *const Folio) -> &'static Folio {
    let f = world().folio(folio);
    if f.freed.get() || !f.exists.get() {
        fail("a folio is touched that is freed");
    }
    f
}

//
// Flags
//

/// Follows who has claimed a folio, and that flags change only where they may.
fn flags_change(f: &Folio, old: usize, new: usize) {
    let me = sched::me();
    let locked = holds_lruvec_of(f);

    // Who clears the flag has claimed the folio.
    if old & !new & LRU != 0 {
        f.claim.set(me);
    }
    let claim = f.claim.get();
    let ours = claim == me || (claim == IN_BATCH && locked);
    if (old ^ new) & (UNEVICTABLE | ACTIVE) != 0 && !ours && !(old & new & LRU != 0 && locked) {
        fail("PG_unevictable or PG_active changes without a claim on the folio");
    }
    if new & !old & LRU != 0 {
        if !ours {
            fail("PG_lru is set by somebody who has not claimed the folio");
        }
        if !locked {
            fail("PG_lru is set without the lruvec lock");
        }
        f.claim.set(NOBODY);
    }
    if new & UNEVICTABLE != 0 && new & (ACTIVE | GEN) != 0 {
        fail("a folio is unevictable, and active or in a generation");
    }
    if (old & GEN == 0) != (new & GEN == 0) && !locked {
        fail("a folio gets into a generation or out of it without the lruvec lock");
    }
}

fn set_flags(f: &Folio, new: usize) {
    let old = f.flags.replace(new);
    flags_change(f, old, new);
}

pub fn flags_read(folio: *const Folio) -> usize {
    step!("read flags of {}", name(folio));
    let flags = live(folio).flags.get();
    observe(flags as u64);
    log(|| format!("  = {}", flag_names(flags)));
    flags
}

pub fn test_flag(folio: *const Folio, flag: usize) -> bool {
    step!("test {} of {}", flag_names(flag), name(folio));
    let f = live(folio);
    seen(u64::from(f.flags.get() & flag != 0)) != 0
}

pub fn test_set_flag(folio: *const Folio, flag: usize) -> bool {
    step!("set {} of {}", flag_names(flag), name(folio));
    let f = live(folio);
    let old = f.flags.get();
    set_flags(f, old | flag);
    seen(u64::from(old & flag != 0)) != 0
}

pub fn test_clear_flag(folio: *const Folio, flag: usize) -> bool {
    step!("clear {} of {}", flag_names(flag), name(folio));
    let f = live(folio);
    let old = f.flags.get();
    set_flags(f, old & !flag);
    seen(u64::from(old & flag != 0)) != 0
}

/// As [`test_set_flag`], when nobody looks at the answer.
pub fn set_flag(folio: *const Folio, flag: usize) {
    step!("set {} of {}", flag_names(flag), name(folio));
    let f = live(folio);
    set_flags(f, f.flags.get() | flag);
}

pub fn clear_flag(folio: *const Folio, flag: usize) {
    step!("clear {} of {}", flag_names(flag), name(folio));
    let f = live(folio);
    set_flags(f, f.flags.get() & !flag);
}

pub fn try_cmpxchg(folio: *const Folio, old: &mut usize, new: usize) -> bool {
    step!(
        "flags of {}: {} to {}",
        name(folio),
        flag_names(*old),
        flag_names(new)
    );
    let f = live(folio);
    let is = f.flags.get();
    observe(is as u64);
    if is != *old {
        log(|| format!("  but is {}", flag_names(is)));
        *old = is;
        return false;
    }
    set_flags(f, new);
    true
}

//
// References
//

pub fn get(folio: *const Folio) {
    step!("get {}", name(folio));
    let f = live(folio);
    if f.refcount.get() <= 0 {
        fail("a reference is taken to a folio that has none");
    }
    f.refcount.set(f.refcount.get() + 1);
}

pub fn ref_count(folio: *const Folio) -> i32 {
    step!("references of {}", name(folio));
    seen(live(folio).refcount.get() as u32) as i32
}

pub fn try_get(folio: *const Folio) -> bool {
    step!("try to get {}", name(folio));
    let f = world().folio(folio);
    let ok = f.refcount.get() > 0;
    if ok {
        f.refcount.set(f.refcount.get() + 1);
    }
    seen(u64::from(ok)) != 0
}

/// Puts a reference and returns whether it was the last.
pub fn put_testzero(folio: *const Folio) -> bool {
    step!("put {}", name(folio));
    let f = live(folio);
    if f.refcount.get() <= 0 {
        fail("a reference is put that nobody has");
    }
    super::mm::note_put();
    f.refcount.set(f.refcount.get() - 1);
    seen(u64::from(f.refcount.get() == 0)) != 0
}

/// `folio_ref_freeze()`
pub fn ref_freeze(folio: *const Folio, count: i32) -> bool {
    step!("freeze {} at {count}", name(folio));
    let f = live(folio);
    let ok = f.refcount.get() == count;
    if ok {
        f.refcount.set(0);
    }
    seen(u64::from(ok)) != 0
}

pub fn put(folio: *const Folio) {
    if put_testzero(folio) {
        release(folio);
    }
}

/// `__folio_put()`
fn release(folio: *const Folio) {
    // page_cache_release()
    if test_flag(folio, LRU) {
        let lruvec = lruvec_lock(folio);
        lruvec_del_folio(lruvec, folio);
        clear_lru_flags(folio);
        lruvec_unlock(lruvec);
    }
    free(folio);
}

/// `__folio_clear_lru_flags()`: nobody else has the folio.
pub fn clear_lru_flags(folio: *const Folio) {
    let f = world().folio(folio);
    f.flags.set(f.flags.get() & !(LRU | ACTIVE | UNEVICTABLE));
}

/// `free_unref_folios()`
pub fn free(folio: *const Folio) {
    let f = live(folio);
    if f.list.get() != NO_LIST {
        fail("a folio is freed that is on a list");
    }
    if f.flags.get() & (LRU | ACTIVE | UNEVICTABLE | GEN) != 0 {
        fail("a folio is freed with flags of the LRU lists");
    }
    if f.mapcount.get() != 0 {
        fail("a folio is freed that is mapped");
    }
    if f.refcount.get() != 0 {
        fail("a folio is freed that somebody has a reference to");
    }
    // __free_pages_prepare()
    if f.flags.get() & MLOCKED != 0 {
        f.flags.set(f.flags.get() & !MLOCKED);
        let pages = f.nr_pages.get() as i32;
        mod_nr_mlock(-pages);
        count_event(CLEARED, pages);
    }
    f.freed.set(true);
    f.mlock_count.set(POISON);
    log(|| format!("{} is freed", name(folio)));
}

pub fn mapped(folio: *const Folio) -> bool {
    step!("is {} mapped?", name(folio));
    let f = live(folio);
    seen(u64::from(f.mapcount.get() != 0)) != 0
}

/// `folio_evictable()` but for `PG_mlocked`; anonymous folios do not ask.
pub fn mapping_evictable(folio: *const Folio) -> bool {
    step!("is the mapping of {} evictable?", name(folio));
    let f = live(folio);
    seen(u64::from(f.mapping.get() != Mapping::ShmLocked)) != 0
}

/// `folio_evictable()`, which looks at the mapping first.
pub fn evictable(folio: *const Folio) -> bool {
    let anon = live(folio).mapping.get() == Mapping::Anon;
    (anon || mapping_evictable(folio)) && !test_flag(folio, MLOCKED)
}

//
// Lruvecs and their lists
//

/// What a folio is charged to, and so its lruvec.
pub fn memcg(folio: *const Folio) -> u8 {
    if world().reparents.get() {
        step!("what is {} charged to?", name(folio));
        seen(u64::from(live(folio).home.get())) as u8
    } else {
        live(folio).home.get()
    }
}

/// Locks the lruvec of a folio: looks again under the lock which that is.
pub fn lruvec_lock(folio: *const Folio) -> &'static Lruvec {
    loop {
        let lruvec = &world().lruvecs[usize::from(memcg(folio))];
        lock(&lruvec.lock, "lock lruvec");
        if lruvec_matches(folio, lruvec) {
            return lruvec;
        }
        lruvec_unlock(lruvec);
    }
}

pub fn lruvec_matches(folio: *const Folio, lruvec: *const Lruvec) -> bool {
    core::ptr::eq(&world().lruvecs[usize::from(memcg(folio))], lruvec)
}

/// `folio_lruvec_relock_irq()`
pub fn lruvec_relock(folio: *const Folio, locked: Option<&'static Lruvec>) -> &'static Lruvec {
    if let Some(lruvec) = locked {
        if lruvec_matches(folio, lruvec) {
            return lruvec;
        }
        lruvec_unlock(lruvec);
    }
    lruvec_lock(folio)
}

pub fn holds(lruvec: &Lruvec) -> bool {
    lruvec.lock.owner.get() == sched::me()
}

fn holds_lruvec_of(f: &Folio) -> bool {
    holds(&world().lruvecs[usize::from(f.home.get())])
}

pub fn lruvec_unlock(lruvec: &Lruvec) {
    if !holds(lruvec) {
        fail("an lruvec is unlocked that is not locked");
    }
    check_lists(lruvec);
    unlock(&lruvec.lock);
    log(|| "unlock lruvec".into());
}

/// What holds whenever nobody has the lock.
fn check_lists(lruvec: &Lruvec) {
    let mut sizes = [0; LISTS];
    for f in &world().folios {
        if f.freed.get() || !core::ptr::eq(&world().lruvecs[usize::from(f.home.get())], lruvec) {
            continue;
        }
        let flags = f.flags.get();
        let list = f.list.get();
        if usize::from(list) < LISTS {
            sizes[usize::from(list)] += f.nr_pages.get() as i32;
        }
        if flags & LRU != 0 {
            let due = match list_of(flags) {
                LRU_UNEVICTABLE => NO_LIST,
                due => due,
            };
            if list != due {
                fail("a folio is not on the list that its flags say");
            }
        }
        if flags & UNEVICTABLE != 0 && usize::from(list) < LISTS {
            fail("an unevictable folio is on a list");
        }
    }
    for (lru, size) in sizes.iter().enumerate() {
        let counted = lruvec.sizes[lru].get();
        if counted < 0 {
            fail("the size of a list is below zero");
        }
        if lru != usize::from(LRU_UNEVICTABLE) && counted != *size {
            fail(&format!(
                "list {lru} has {size} pages, and its size is {counted}"
            ));
        }
    }
}

pub fn update_lru_size(lruvec: &Lruvec, lru: u8, pages: i32) {
    if !holds(lruvec) {
        fail("the size of a list changes without the lruvec lock");
    }
    let size = &lruvec.sizes[usize::from(lru)];
    size.set(size.get() + pages);
}

fn check_list(folio: *const Folio) -> &'static Folio {
    let f = live(folio);
    if !holds_lruvec_of(f) {
        fail("a list changes without the lruvec lock");
    }
    f
}

/// Links a folio to a list that is not of unevictable ones.
pub fn list_add(folio: *const Folio, list: u8) {
    let f = check_list(folio);
    if f.list.get() != NO_LIST {
        fail("a folio is put on a second list");
    }
    if list == LRU_UNEVICTABLE {
        fail("a folio is put on the list that does not exist");
    }
    f.list.set(list);
    // The links are where the count was.
    f.mlock_count.set(POISON);
}

pub fn list_del(folio: *const Folio) {
    let f = check_list(folio);
    if usize::from(f.list.get()) >= LISTS {
        fail("a folio is taken off a list, and is on none");
    }
    f.list.set(NO_LIST);
}

/// `lruvec_add_folio()`
pub fn lruvec_add_folio(lruvec: &Lruvec, folio: *const Folio) {
    let f = live(folio);
    if gen_add(lruvec, folio) {
        return;
    }
    let lru = lru_of(folio);
    update_lru_size(lruvec, lru, f.nr_pages.get() as i32);
    if lru != LRU_UNEVICTABLE {
        list_add(folio, lru);
    }
}

/// `lruvec_del_folio()`
pub fn lruvec_del_folio(lruvec: &Lruvec, folio: *const Folio) {
    let f = live(folio);
    if gen_del(lruvec, folio, false) {
        return;
    }
    let lru = lru_of(folio);
    if lru != LRU_UNEVICTABLE {
        list_del(folio);
    }
    update_lru_size(lruvec, lru, -(f.nr_pages.get() as i32));
}

/// `lru_gen_add_folio()`
pub fn gen_add(lruvec: &Lruvec, folio: *const Folio) -> bool {
    let f = check_list(folio);
    if !world().lru_gen.get() || test_flag(folio, UNEVICTABLE) {
        return false;
    }
    step!("put {} into a generation", name(folio));
    let old = f.flags.get();
    if old & GEN != 0 {
        fail("a folio is put into a second generation");
    }
    // PG_lru may be set already, and somebody may have isolated the folio since: he waits for the
    // lock. So this need not be ours any more.
    f.flags.set(old & !ACTIVE | OLDEST);
    update_lru_size(lruvec, GENERATION, f.nr_pages.get() as i32);
    list_add(folio, GENERATION);
    true
}

/// `lru_gen_del_folio()`
pub fn gen_del(lruvec: &Lruvec, folio: *const Folio, reclaiming: bool) -> bool {
    let f = check_list(folio);
    if !world().lru_gen.get() || !test_flag(folio, GEN) {
        return false;
    }
    step!("take {} out of its generation", name(folio));
    let old = f.flags.get();
    if old & (ACTIVE | UNEVICTABLE) != 0 {
        fail("a folio in a generation is active or unevictable");
    }
    let is_active = !reclaiming && old & GEN == YOUNGEST;
    set_flags(f, old & !GEN | if is_active { ACTIVE } else { 0 });
    list_del(folio);
    update_lru_size(lruvec, GENERATION, -(f.nr_pages.get() as i32));
    true
}

/// The list that the flags say, for who has claimed the folio: nobody else changes them.
pub fn lru_of(folio: *const Folio) -> u8 {
    let lru = list_of(live(folio).flags.get());
    observe(lru.into());
    lru
}

/// The place of `mlock_count`, for who has the lruvec lock.
pub fn mlock_count(folio: *const Folio) -> *mut u32 {
    let f = check_list(folio);
    if usize::from(f.list.get()) < LISTS {
        fail("mlock_count is touched where the links of a list are");
    }
    observe(f.mlock_count.get().into());
    log(|| format!("mlock_count of {} is {}", name(folio), count_name(f)));
    f.mlock_count.as_ptr()
}

/// As [`mlock_count`], where it is not said whose: the C has it as a member of its structure.
pub fn touch_mlock_counts() {
    if !world().lruvecs.iter().any(holds) {
        fail("mlock_count is touched without an lruvec lock");
    }
    for f in &world().folios {
        observe(f.mlock_count.get().into());
    }
}

pub fn count_name(f: &Folio) -> String {
    match f.mlock_count.get() {
        POISON => "-".into(),
        count => count.to_string(),
    }
}

//
// Counters, which nobody here reads: it does not matter in what order they change.
//

pub fn mod_nr_mlock(pages: i32) {
    let count = &world().nr_mlock;
    count.set(count.get() + pages);
}

pub fn count_event(event: usize, pages: i32) {
    let count = &world().events[event];
    count.set(count.get() + pages);
}
