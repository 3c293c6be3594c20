// SPDX-License-Identifier: GPL-2.0

//! Tries every interleaving of the page part of mlock, in Rust and in C.
//!
//! Each scenario is tried to the end with both. Then, what the Rust came to must be something that
//! the C can come to as well, apart from exceptions that have a name. The results are KTAP, a test for
//! each group of scenarios.

mod oracle;
mod product;
mod report;
mod scenario;

use kernel::model::{
    mm::Mlock,
    sched::{sched, End},
};
use report::Report;
use scenario::{EndState, Scenario};
use std::{
    collections::BTreeMap,
    env,
    ops::ControlFlow,
    process::ExitCode,
    sync::{
        atomic::{AtomicUsize, Ordering},
        Mutex,
    },
    thread,
};

/// What is tested, and what it is compared with.
const RUST: &Mlock = &product::MLOCK;
const C: &Mlock = &oracle::MLOCK;
/// For what the fixes are good for.
const STOCK: &Mlock = &oracle::STOCK;

/// How one schedule came out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Outcome {
    Failed(String),
    Ended(EndState),
}

/// What came of a scenario.
#[derive(Default)]
pub struct Found {
    pub schedules: u64,
    pub states: u64,
    /// How each outcome can be got to.
    pub outcomes: BTreeMap<Outcome, Vec<u8>>,
}

impl Found {
    pub fn ends(&self) -> impl Iterator<Item = &EndState> {
        self.outcomes.keys().filter_map(|outcome| match outcome {
            Outcome::Ended(end) => Some(end),
            Outcome::Failed(_) => None,
        })
    }
}

/// Tries all schedules of a scenario with at most `bound` preemptions, until `stop` says so of an
/// outcome.
pub fn explore(
    mlock: &'static Mlock,
    scenario: &Scenario,
    bound: Option<u8>,
    stop: impl Fn(&Outcome) -> bool,
) -> (Found, ControlFlow<Vec<u8>>) {
    let sched = sched();
    let mut found = Found::default();
    let mut flow = ControlFlow::Continue(());

    sched.mlock.set(Some(mlock));
    sched.explorer.borrow_mut().start(bound);
    loop {
        found.schedules += 1;
        let end = sched.run(&scenario.jobs());
        let path = sched.explorer.borrow().path();
        let outcome = match end {
            End::Seen => None,
            End::Failed(what) => Some(Outcome::Failed(what)),
            End::Done => Some(look_at_end()),
        };
        if let Some(outcome) = outcome {
            if stop(&outcome) {
                flow = ControlFlow::Break(path.clone());
            }
            found.outcomes.entry(outcome).or_insert(path);
        }
        if flow.is_break() || !sched.explorer.borrow_mut().next_run() {
            break;
        }
    }
    found.states = sched.explorer.borrow().states() as u64;
    (found, flow)
}

fn look_at_end() -> Outcome {
    let mut end = match scenario::look_at_end() {
        Ok(end) => end,
        Err(what) => return Outcome::Failed(what),
    };
    end.complaints = scenario::complaints();
    // Then reclaim takes what it can get.
    let locked = scenario::locked_pages();
    match sched().run(&Scenario::reclaim_jobs()) {
        End::Failed(what) => return Outcome::Failed(format!("reclaim after that: {what}")),
        _ if scenario::locked_pages() != locked => {
            return Outcome::Failed(format!("lost to reclaim: {}", end.folios));
        }
        _ if !scenario::are_locked_unevictable() => {
            return Outcome::Failed(format!("reclaim does not mlock again: {}", end.folios));
        }
        _ => (),
    }
    Outcome::Ended(end)
}

/// The schedule with the fewest preemptions that comes to something.
pub fn shortest(
    mlock: &'static Mlock,
    scenario: &Scenario,
    wanted: impl Fn(&Outcome) -> bool,
) -> Option<(u8, Vec<u8>)> {
    (0..16).find_map(
        |bound| match explore(mlock, scenario, Some(bound), &wanted).1 {
            ControlFlow::Break(path) => Some((bound, path)),
            ControlFlow::Continue(()) => None,
        },
    )
}

/// What happens on one way.
pub fn tell(mlock: &'static Mlock, scenario: &Scenario, path: &[u8]) -> Vec<String> {
    let sched = sched();
    sched.mlock.set(Some(mlock));
    sched.explorer.borrow_mut().replay(path);
    sched.start_log();
    let end = sched.run(&scenario.jobs());
    let mut last = None;
    let mut lines = Vec::new();
    for entry in sched.take_log() {
        if last != Some((entry.task, entry.cpu)) {
            last = Some((entry.task, entry.cpu));
            lines.push(format!("{} on CPU {}:", entry.task, entry.cpu));
        }
        lines.push(format!("    {}", entry.words));
    }
    if let End::Failed(what) = end {
        lines.push(what);
    }
    lines
}

struct Args {
    bound: Option<u8>,
    triples: Option<u8>,
    jobs: usize,
    only: String,
    first: bool,
    stock: bool,
    paths: Option<String>,
}

const USAGE: &str = "usage: mlock2-interleave [--preemptions N] [--triples N|all] [--jobs N] \
    [--only TEXT] [--first] [--stock] [--paths FILE]";

fn parse() -> Option<Args> {
    let mut args = Args {
        bound: None,
        triples: None,
        jobs: thread::available_parallelism().map_or(1, |n| n.get()),
        only: String::new(),
        first: false,
        stock: false,
        paths: None,
    };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--preemptions" => args.bound = Some(words.next()?.parse().ok()?),
            "--triples" => {
                args.triples = Some(match words.next()?.as_str() {
                    "all" => u8::MAX,
                    number => number.parse().ok()?,
                })
            }
            "--jobs" => args.jobs = words.next()?.parse().ok()?,
            "--only" => args.only = words.next()?,
            "--first" => args.first = true,
            "--stock" => args.stock = true,
            "--paths" => args.paths = Some(words.next()?),
            _ => return None,
        }
    }
    Some(args)
}

fn main() -> ExitCode {
    let Some(args) = parse() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut groups: Vec<_> = scenario::all()
        .into_iter()
        .map(|g| (g, args.bound))
        .collect();
    if let Some(bound) = args.triples {
        let bound = (bound != u8::MAX).then_some(bound);
        groups.extend(scenario::triples().into_iter().map(|g| (g, bound)));
    }
    groups.retain(|(group, _)| group.name.contains(&args.only));

    // Fewer schedules or scenarios need not show all of them.
    let all = args.bound.is_none() && args.only.is_empty() && !args.first;
    println!("KTAP version 1\n1..{}", groups.len() + usize::from(all));
    let report = Mutex::new(Report::default());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| {
                while let Some((group, bound)) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = report::try_group(group, *bound, args.stock);
                    let mut report = report.lock().unwrap_or_else(|e| e.into_inner());
                    let ok = report.add(result);
                    if !ok && args.first {
                        next.store(groups.len(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap_or_else(|e| e.into_inner());
    if all {
        report.check_exceptions();
    }
    report.print();
    if let Some(file) = args.paths {
        if let Err(error) = report.write_paths(&file) {
            eprintln!("{file}: {error}");
            return ExitCode::FAILURE;
        }
    }
    if report.failed() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
