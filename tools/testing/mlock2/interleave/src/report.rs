// SPDX-License-Identifier: GPL-2.0

//! What is compared, and what is told of it.

use crate::{
    explore,
    scenario::{EndState, Folios, Group, Scenario},
    shortest, tell, Found, Outcome, C, RUST, STOCK,
};
use kernel::model::mm::Mlock;
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    ops::ControlFlow,
    time::{Duration, Instant},
};

/// What the Rust does in another way than the C, as Documentation/mm/mlock2.rst says.
pub struct Exception {
    name: &'static str,
    /// A scenario in which it is to be seen.
    scenario: &'static str,
    applies: fn(&Scenario, &EndState, &Found) -> bool,
}

const EXCEPTIONS: &[Exception] = &[
    // A munlock takes 1 off mlock_count, and then finds that somebody has isolated the folio. In the
    // C, it does not take off anything then. What is left of the count keeps the folio mlocked, as
    // if the munlock had come first; so where another vma has it locked, there is no difference.
    Exception {
        name: "munlock counts, and meets an isolation",
        scenario: "munlock0+mlock0 x check_move [MappedLocked Absent]",
        applies: |scenario, end, c| {
            if scenario.to_string() == "munlock0+mlock0 x check_move [MappedLocked MappedLocked]" {
                return false;
            }
            let one_more = |end: &EndState, count: u32| {
                end.folios
                    .replace(&format!("count {count}"), &format!("count {}", count + 1))
            };
            end.counters.contains("stranded")
                && c.ends().any(|other| {
                    other.folios != end.folios
                        && (0..3).any(|count| other.folios == one_more(end, count))
                })
        },
    },
    // The C isolates the next folio before it drops the lock of the last one's lruvec, and so two
    // tasks come to both in the same order. The folios are the same in the end, events may differ.
    Exception {
        name: "two lruvecs in another order",
        scenario: "mlock0 x munlock1 [TwoLruvecs Mapped MappedLocked]",
        applies: |scenario, end, c| {
            scenario.folios == Folios::TwoLruvecs
                && c.ends().any(|other| other.folios == end.folios)
        },
    },
    // An anonymous folio that is about to be freed is counted as rescued, without moving it. Who has
    // found it without a mapping meanwhile, as compaction does, may move it and count that, too.
    Exception {
        name: "a dying folio is counted twice",
        scenario: "munmap0 x migrate [NoneYet AbsentLocked Absent new0+drain]",
        applies: |scenario, end, c| {
            scenario.folios == Folios::NoneYet
                && end.folios.contains("freed")
                && c.ends().any(|other| other.folios == end.folios)
        },
    },
    // A large folio is moved under a hold of the lruvec lock of its own, after the batch was drained.
    // In the C, both are one hold, so nobody puts a folio back in between. If the C drained the batch
    // before, too, then it would come to the same.
    Exception {
        name: "a large folio has a hold of its own",
        scenario: "munmap0 x isolate+putback [SmallAndLarge MappedLocked Absent]",
        applies: |scenario, end, _| {
            let apart = Scenario {
                large_apart: true,
                ..scenario.clone()
            };
            scenario.folios == Folios::SmallAndLarge
                && explore(C, &apart, None, |_| false)
                    .0
                    .ends()
                    .any(|other| other == end)
        },
    },
    // A walk that comes by folios which others have isolated leaves them in the batch, but for one
    // place of it. The C drains the batch when that is full. A folio that there is no place for is
    // mlocked, and not counted if it is put back too early for that.
    Exception {
        name: "no place in the batch, no count",
        scenario: "mlock0 x fault1 x putback [Three Mapped AbsentLocked isolate Rt]",
        applies: |scenario, end, c| {
            let last = |count: u32| format!("f2 unevictable|mlocked count {count} ");
            scenario.folios == Folios::Three
                && scenario.isolates()
                && c.ends().any(|other| {
                    other.counters == end.counters
                        && (0..2).any(|count| {
                            end.folios.contains(&last(count))
                                && other.folios
                                    == end.folios.replace(&last(count), &last(count + 1))
                        })
                })
        },
    },
];

/// An end to which only the Rust comes, and the name of the exception that it is.
struct Excused {
    exception: &'static str,
    scenario: Scenario,
    end: EndState,
}

/// What is not as mlock(2) would have it, for who can come to that.
#[derive(Clone)]
struct Path {
    scenario: Scenario,
    complaint: &'static str,
    by: Vec<&'static Mlock>,
}

pub struct GroupResult {
    name: String,
    scenarios: usize,
    schedules: u64,
    states: u64,
    ends: [usize; 2],
    /// Where the C alone comes to.
    only_c: Vec<(Scenario, EndState)>,
    excused: Vec<Excused>,
    paths: Vec<Path>,
    failures: Vec<Vec<String>>,
    time: Duration,
}

/// Tries all scenarios of a group.
pub fn try_group(group: &Group, bound: Option<u8>, stock: bool) -> GroupResult {
    let start = Instant::now();
    let mut result = GroupResult::new(&group.name);
    result.scenarios = group.scenarios.len();
    for scenario in &group.scenarios {
        result.try_scenario(scenario, bound, stock);
    }
    result.time = start.elapsed();
    result
}

impl GroupResult {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            scenarios: 0,
            schedules: 0,
            states: 0,
            ends: [0; 2],
            only_c: Vec::new(),
            excused: Vec::new(),
            paths: Vec::new(),
            failures: Vec::new(),
            time: Duration::ZERO,
        }
    }

    fn try_scenario(&mut self, scenario: &Scenario, bound: Option<u8>, stock: bool) {
        let mut tested = vec![RUST, C];
        if stock {
            tested.push(STOCK);
        }
        let all: Vec<(&'static Mlock, Found)> = tested
            .into_iter()
            .map(|mlock| (mlock, explore(mlock, scenario, bound, |_| false).0))
            .collect();
        let (rust, c) = (&all[0].1, &all[1].1);

        for (mlock, found) in &all {
            self.schedules += found.schedules;
            self.states += found.states;
            for outcome in found.outcomes.keys() {
                if let Outcome::Failed(what) = outcome {
                    self.fail(mlock, scenario, outcome, what);
                }
            }
        }
        self.ends[0] += rust.ends().count();
        self.ends[1] += c.ends().count();

        // Refinement
        let mut full = None;
        for end in rust.ends() {
            if c.ends().any(|other| other == end) {
                continue;
            }
            // The C may need more preemptions than were allowed.
            let c = full.get_or_insert_with(|| explore(C, scenario, None, |_| false).0);
            if c.ends().any(|other| other == end) {
                continue;
            }
            match EXCEPTIONS.iter().find(|e| (e.applies)(scenario, end, c)) {
                Some(exception) => self.excused.push(Excused {
                    exception: exception.name,
                    scenario: scenario.clone(),
                    end: end.clone(),
                }),
                None => {
                    let what = format!("the C does not come to: {end}");
                    self.fail(RUST, scenario, &Outcome::Ended(end.clone()), &what);
                }
            }
        }
        // Counters apart: they tell the ways apart that come to the same folios.
        let mut only_c: BTreeMap<&str, &EndState> = BTreeMap::new();
        for end in c.ends() {
            if !rust.ends().any(|other| other.folios == end.folios) {
                only_c.entry(&end.folios).or_insert(end);
            }
        }
        self.only_c.extend(
            only_c
                .into_values()
                .map(|end| (scenario.clone(), end.clone())),
        );

        // What neither should come to
        let mut paths: BTreeMap<&str, Path> = BTreeMap::new();
        let full = full.iter().map(|found| (C, found));
        for (mlock, found) in all.iter().map(|(mlock, found)| (*mlock, found)).chain(full) {
            for complaint in found.ends().flat_map(|end| &end.complaints) {
                let path = paths.entry(complaint).or_insert(Path {
                    scenario: scenario.clone(),
                    complaint,
                    by: Vec::new(),
                });
                if !path.by.iter().any(|by| by.name == mlock.name) {
                    path.by.push(mlock);
                }
            }
        }
        self.paths.extend(paths.into_values());
    }

    fn fail(&mut self, mlock: &'static Mlock, scenario: &Scenario, outcome: &Outcome, what: &str) {
        let mut lines = vec![format!("{scenario}: {}: {what}", mlock.name)];
        // One schedule is enough to begin with.
        if self.failures.is_empty() {
            if let Some((preemptions, path)) = shortest(mlock, scenario, |o| o == outcome) {
                lines.push(format!("with {preemptions} preemptions:"));
                lines.extend(tell(mlock, scenario, &path));
            }
        }
        self.failures.push(lines);
    }
}

#[derive(Default)]
pub struct Report {
    groups: Vec<GroupResult>,
}

impl Report {
    /// Prints a result; returns whether it is a good one.
    pub fn add(&mut self, group: GroupResult) -> bool {
        let number = self.groups.len() + 1;
        let ok = group.failures.is_empty();
        for lines in group.failures.iter().take(10) {
            for line in lines {
                println!("# {line}");
            }
        }
        println!(
            "{} {number} {} # {} scenarios, {} schedules, {} states; ends: {} Rust, {} C, {} only C; {:.1} s",
            if ok { "ok" } else { "not ok" },
            group.name,
            group.scenarios,
            group.schedules,
            group.states,
            group.ends[0],
            group.ends[1],
            group.only_c.len(),
            group.time.as_secs_f64()
        );
        let _ = io::stdout().flush();
        self.groups.push(group);
        ok
    }

    /// The test of the exceptions: one that is not seen where it was is none any more. For a run of
    /// all groups.
    pub fn check_exceptions(&mut self) {
        let mut result = GroupResult::new("exceptions are seen");
        for exception in EXCEPTIONS {
            if !self
                .excused(exception)
                .any(|excused| excused.scenario.to_string() == exception.scenario)
            {
                result.failures.push(vec![format!(
                    "not seen: {}: {}",
                    exception.name, exception.scenario
                )]);
            }
        }
        self.add(result);
    }

    fn excused(&self, exception: &Exception) -> impl Iterator<Item = &Excused> {
        let name = exception.name;
        self.groups
            .iter()
            .flat_map(|g| &g.excused)
            .filter(move |excused| excused.exception == name)
    }

    pub fn failed(&self) -> usize {
        self.groups
            .iter()
            .filter(|g| !g.failures.is_empty())
            .count()
    }

    fn sum(&self, of: impl Fn(&GroupResult) -> u64) -> u64 {
        self.groups.iter().map(of).sum()
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.groups.iter().flat_map(|g| &g.paths)
    }

    pub fn print(&self) {
        println!(
            "# {} scenarios, {} schedules, {} states; {} end states of the Rust, {} of the C, {} of the C alone",
            self.sum(|g| g.scenarios as u64),
            self.sum(|g| g.schedules),
            self.sum(|g| g.states),
            self.sum(|g| g.ends[0] as u64),
            self.sum(|g| g.ends[1] as u64),
            self.sum(|g| g.only_c.len() as u64),
        );
        for exception in EXCEPTIONS {
            println!(
                "# only the Rust: {}: {} ends, as in {}",
                exception.name,
                self.excused(exception).count(),
                exception.scenario
            );
        }
        let mut by: BTreeMap<(&str, String), usize> = BTreeMap::new();
        for path in self.paths() {
            *by.entry((path.complaint, path.names())).or_default() += 1;
        }
        for ((complaint, names), scenarios) in by {
            println!("# {complaint}: {names}: in {scenarios} scenarios");
        }
        println!(
            "# {} groups passed, {} failed",
            self.groups.len() - self.failed(),
            self.failed()
        );
    }

    /// Writes, for each exception and for each complaint and those who come to it, the shortest
    /// schedule that there is of it, and in what scenarios it was seen; and the ends to which the C
    /// alone comes.
    pub fn write_paths(&self, file: &str) -> io::Result<()> {
        let mut out = io::BufWriter::new(fs::File::create(file)?);
        for exception in EXCEPTIONS {
            writeln!(out, "{}: Rust", exception.name)?;
            if let Some(seen) = self.excused(exception).next() {
                let wanted = Outcome::Ended(seen.end.clone());
                write_shortest(&mut out, RUST, &[&seen.scenario], |o| *o == wanted)?;
            }
            writeln!(out, "  all of its ends:")?;
            for seen in self.excused(exception) {
                writeln!(out, "    {}: {}", seen.scenario, seen.end)?;
            }
            writeln!(out)?;
        }
        let mut kinds: BTreeMap<(&str, String), Vec<&Path>> = BTreeMap::new();
        for path in self.paths() {
            kinds
                .entry((path.complaint, path.names()))
                .or_default()
                .push(path);
        }
        for ((complaint, names), paths) in &kinds {
            writeln!(out, "{complaint}: {names}")?;
            let scenarios: Vec<_> = paths.iter().map(|path| &path.scenario).collect();
            for mlock in &paths[0].by {
                write_shortest(&mut out, mlock, &scenarios, |outcome| match outcome {
                    Outcome::Ended(end) => end.complaints.contains(complaint),
                    Outcome::Failed(_) => false,
                })?;
            }
            writeln!(out, "  in these scenarios:")?;
            for path in paths {
                writeln!(out, "    {}", path.scenario)?;
            }
            writeln!(out)?;
        }
        writeln!(out, "ends to which the C alone comes:")?;
        for (scenario, end) in self.groups.iter().flat_map(|g| &g.only_c) {
            writeln!(out, "    {scenario}: {end}")?;
        }
        out.flush()
    }
}

/// Writes the schedule with the fewest preemptions that comes to something in one of several
/// scenarios.
fn write_shortest(
    out: &mut impl Write,
    mlock: &'static Mlock,
    scenarios: &[&Scenario],
    wanted: impl Fn(&Outcome) -> bool,
) -> io::Result<()> {
    let shortest = (0..8).find_map(|bound| {
        scenarios.iter().find_map(|scenario| {
            match explore(mlock, scenario, Some(bound), &wanted).1 {
                ControlFlow::Break(way) => Some((bound, scenario, way)),
                ControlFlow::Continue(()) => None,
            }
        })
    });
    if let Some((preemptions, scenario, way)) = shortest {
        writeln!(
            out,
            "  {} with {preemptions} preemptions: {scenario}",
            mlock.name
        )?;
        for line in tell(mlock, scenario, &way) {
            writeln!(out, "    {line}")?;
        }
    }
    Ok(())
}

impl Path {
    fn names(&self) -> String {
        let names: Vec<_> = self.by.iter().map(|mlock| mlock.name).collect();
        names.join(", ")
    }
}
