// SPDX-License-Identifier: GPL-2.0

//! Whether the checker finds what is there to be found.

use super::{
    folio as model, mm,
    sched::{self, sched, End, Job},
    world::{self, world, Mapping, ACTIVE, LRU, UNEVICTABLE},
};
use crate::step;
use std::collections::BTreeSet;

/// Tries all schedules of two tasks on two CPUs, and returns how they ended.
fn explore(
    bound: Option<u8>,
    rt: bool,
    cpus: [usize; 2],
    first: &'static dyn Fn(),
    second: &'static dyn Fn(),
) -> BTreeSet<String> {
    let mut ends = BTreeSet::new();
    sched().explorer.borrow_mut().start(bound);
    loop {
        world::reset();
        let w = world();
        w.rt.set(rt);
        let folio = &w.folios[0];
        folio.exists.set(true);
        folio.refcount.set(1);
        folio.mapping.set(Mapping::File);
        folio.flags.set(LRU);
        folio.list.set(world::list_of(LRU));
        w.lruvecs[0].sizes[usize::from(folio.list.get())].set(1);
        let jobs = [
            Job {
                name: "begin",
                cpu: 0,
                work: &|| (),
            },
            Job {
                name: "first",
                cpu: cpus[0],
                work: first,
            },
            Job {
                name: "second",
                cpu: cpus[1],
                work: second,
            },
        ];
        match sched().run(&jobs) {
            End::Seen => (),
            End::Done => {
                ends.insert(w.nr_mlock.get().to_string());
            }
            End::Failed(what) => {
                ends.insert(what);
            }
        }
        if !sched().explorer.borrow_mut().next_run() {
            return ends;
        }
    }
}

fn words<const N: usize>(of: [&str; N]) -> BTreeSet<String> {
    of.map(String::from).into()
}

fn count_in_two_steps() {
    step!("read");
    let count = world().nr_mlock.get();
    sched::observe(count as u64);
    step!("write");
    world().nr_mlock.set(count + 1);
}

#[test]
fn an_update_is_lost() {
    let ends = explore(
        None,
        false,
        [0, 1],
        &count_in_two_steps,
        &count_in_two_steps,
    );
    assert_eq!(ends, words(["1", "2"]));
}

#[test]
fn without_preemption_it_is_not() {
    let ends = explore(
        Some(0),
        false,
        [0, 1],
        &count_in_two_steps,
        &count_in_two_steps,
    );
    assert_eq!(ends, words(["2"]));
    let ends = explore(
        Some(1),
        false,
        [0, 1],
        &count_in_two_steps,
        &count_in_two_steps,
    );
    assert_eq!(ends, words(["1", "2"]));
}

fn count_under_lock() {
    let lock = &world().vmas[0].ptl;
    sched::lock(lock, "lock");
    count_in_two_steps();
    sched::unlock(lock);
}

#[test]
fn a_lock_keeps_others_out() {
    for (rt, cpus) in [(false, [0, 1]), (false, [0, 0]), (true, [0, 0])] {
        let ends = explore(None, rt, cpus, &count_under_lock, &count_under_lock);
        assert_eq!(ends, words(["2"]));
    }
}

#[test]
fn a_spinlock_keeps_the_cpu_except_on_rt() {
    fn with_a_lock_of_ones_own() {
        let lock = &world().vmas[usize::from(sched::me()) - 1].ptl;
        sched::lock(lock, "lock");
        count_in_two_steps();
        sched::unlock(lock);
    }
    let run = |rt| {
        explore(
            None,
            rt,
            [0, 0],
            &with_a_lock_of_ones_own,
            &with_a_lock_of_ones_own,
        )
    };
    assert_eq!(run(false), words(["2"]));
    assert_eq!(run(true), words(["1", "2"]));
}

#[test]
fn a_deadlock_is_found() {
    let two = |a: usize, b: usize| {
        move || {
            let [a, b] = [a, b].map(|i| &world().folios[i].lock);
            assert!(sched::try_lock(a, "try"));
            sched::point(sched::Wants::Lock(b));
        }
    };
    let first: &'static dyn Fn() = Box::leak(Box::new(two(0, 1)));
    let second: &'static dyn Fn() = Box::leak(Box::new(two(1, 0)));
    let ends = explore(None, false, [0, 1], first, second);
    assert!(
        ends.iter().any(|end| end.starts_with("deadlock")),
        "{ends:?}"
    );
}

#[test]
fn the_order_of_locks_is_checked() {
    let ends = explore(
        None,
        false,
        [0, 1],
        &|| {
            let w = world();
            sched::lock(&w.lruvecs[0].lock, "lruvec");
            sched::lock(&w.vmas[0].ptl, "ptl");
        },
        &|| (),
    );
    assert_eq!(ends, words(["first: locks are taken in the wrong order"]));
}

#[test]
fn flags_belong_to_who_has_isolated_the_folio() {
    let ends = explore(
        None,
        false,
        [0, 1],
        &|| {
            model::test_clear_flag(&world().folios[0], LRU);
        },
        &|| model::set_flag(&world().folios[0], ACTIVE),
    );
    assert!(
        ends.iter().all(|end| end.contains("without a claim")),
        "{ends:?}"
    );
}

#[test]
fn lists_belong_to_who_has_the_lock() {
    let ends = explore(
        None,
        false,
        [0, 1],
        &|| model::list_del(&world().folios[0]),
        &|| (),
    );
    assert_eq!(
        ends,
        words(["first: a list changes without the lruvec lock"])
    );

    let ends = explore(
        None,
        false,
        [0, 1],
        &|| {
            let lruvec = model::lruvec_lock(&world().folios[0]);
            model::set_flag(&world().folios[0], UNEVICTABLE);
            model::lruvec_unlock(lruvec);
        },
        &|| (),
    );
    assert_eq!(
        ends,
        words(["first: a folio is not on the list that its flags say"])
    );
}

#[test]
fn a_freed_folio_is_left_alone() {
    let ends = explore(
        None,
        false,
        [0, 1],
        &|| model::put(&world().folios[0]),
        &|| {
            model::test_flag(&world().folios[0], LRU);
        },
    );
    assert_eq!(
        ends,
        words(["0", "second: a folio is touched that is freed"])
    );
}

#[test]
fn a_folio_is_collapsed_and_split() {
    let ends = explore(
        None,
        false,
        [0, 1],
        &|| {
            mm::collapse_file();
            mm::split();
            let w = world();
            let live = w.folios.iter().filter(|f| f.exists.get() && !f.freed.get());
            w.nr_mlock.set(live.count() as i32);
        },
        &|| (),
    );
    // The large folio has replaced the first one, and then was split.
    assert_eq!(ends, words(["2"]));
}
