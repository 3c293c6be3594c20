// SPDX-License-Identifier: GPL-2.0

//! What must hold, and what was found. Nothing here looks at the machine by itself, so that it can
//! be tested on any.

use mlock2_guest::proc::{PRESENT, SWAP, Vma, number};

use crate::control::{OPS, Op};
use crate::layout::{PAGE, Range};

/// Failures of one kind that are printed.
const MOST_SHOWN: usize = 20;

/// Of a page that is in swap, which device has it. Ours is the only one, and so the first; others
/// stand for a page that is being migrated.
const SWAP_TYPE: u64 = (1 << 5) - 1;
/// Bits of /proc/kpageflags.
pub const LRU: u64 = 1 << 5;
pub const UNEVICTABLE: u64 = 1 << 18;
pub const MLOCKED: u64 = 1 << 33;

/// The sizes of the lists of a cgroup.
const LISTS: [&str; 5] = [
    "inactive_anon ",
    "active_anon ",
    "inactive_file ",
    "active_file ",
    "unevictable ",
];

/// Bytes of the vmas that are locked: what a process is charged, as long as it has no huge pages of
/// hugetlb and no mappings of devices, which have the flag taken away, and no secret memory.
pub fn locked(vmas: &[Vma]) -> u64 {
    let locked = vmas.iter().filter(|vma| vma.locked);
    locked.map(|vma| vma.end - vma.start).sum()
}

/// Bytes of the range that vmas which fit cover.
pub fn covered(vmas: &[Vma], range: &Range, fits: impl Fn(&Vma) -> bool) -> usize {
    vmas.iter()
        .filter(|vma| fits(vma))
        .map(|vma| {
            let (start, end) = (vma.start as usize, vma.end as usize);
            end.min(range.end()).saturating_sub(start.max(range.addr))
        })
        .sum()
}

/// Bytes of swap of the vmas that the range touches.
pub fn swapped(vmas: &[Vma], range: &Range) -> u64 {
    vmas.iter()
        .filter(|vma| (vma.start as usize) < range.end() && vma.end as usize > range.addr)
        .map(|vma| vma.swap)
        .sum()
}

/// Pages of a locked range that were used and are gone, and those that were not and are there.
pub fn misplaced(range: &Range, pagemap: &[u64]) -> (usize, usize) {
    let (mut gone, mut extra) = (0, 0);
    for (page, entry) in pagemap.iter().enumerate() {
        let present = entry & PRESENT != 0;
        gone += usize::from(range.is_used(page) && !present);
        extra += usize::from(range.is_exact() && !range.is_used(page) && present);
    }
    (gone, extra)
}

/// Pages of a locked range that were used and have neither a page nor one that is being migrated:
/// there is no moment at which that may be so.
pub fn lost(range: &Range, pagemap: &[u64]) -> usize {
    let is_there = |entry: u64| entry & PRESENT != 0 || entry & SWAP != 0 && entry & SWAP_TYPE != 0;
    let used = pagemap
        .iter()
        .enumerate()
        .filter(|(i, _)| range.is_used(*i));
    used.filter(|(_, entry)| !is_there(**entry)).count()
}

/// The counters of the machine and of the cgroup, all in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub nr_mlock: u64,
    pub mlocked: u64,
    pub nr_unevictable: u64,
    pub unevictable: u64,
    pub group: u64,
    /// All pages of the cgroup that are on a list. One that somebody has kept a reference to is on
    /// one, even if nothing else tells of it any more.
    pub listed: u64,
}

impl Counters {
    /// From /proc/vmstat, /proc/meminfo and the cgroup's memory.stat.
    pub fn parse(vmstat: &str, meminfo: &str, stat: &str) -> Option<Self> {
        Some(Self {
            nr_mlock: number(vmstat, "nr_mlock ")?,
            mlocked: number(meminfo, "Mlocked:")? * 1024 / PAGE as u64,
            nr_unevictable: number(vmstat, "nr_unevictable ")?,
            unevictable: number(meminfo, "Unevictable:")? * 1024 / PAGE as u64,
            group: number(stat, "unevictable ")? / PAGE as u64,
            listed: LISTS
                .iter()
                .filter_map(|list| number(stat, list))
                .sum::<u64>()
                / PAGE as u64,
        })
    }

    /// What is not as it was.
    pub fn differences(&self, base: &Self) -> Vec<String> {
        [
            ("nr_mlock", base.nr_mlock, self.nr_mlock),
            ("Mlocked", base.mlocked, self.mlocked),
            ("nr_unevictable", base.nr_unevictable, self.nr_unevictable),
            ("Unevictable", base.unevictable, self.unevictable),
            ("the cgroup's unevictable", base.group, self.group),
            ("all of the cgroup's lists", base.listed, self.listed),
        ]
        .into_iter()
        .filter(|(_, old, new)| old != new)
        .map(|(name, old, new)| format!("{name} was {old} pages and is {new}"))
        .collect()
    }

    /// What does not go with the flags of all pages, as /proc/kpageflags has them.
    pub fn against(&self, frames: &[u64]) -> Vec<String> {
        let mlocked = frames.iter().filter(|f| **f & MLOCKED != 0).count() as u64;
        let list = LRU | UNEVICTABLE;
        let unevictable = frames.iter().filter(|f| **f & list == list).count() as u64;
        [
            ("nr_mlock", self.nr_mlock, mlocked, "PG_mlocked"),
            (
                "nr_unevictable",
                self.nr_unevictable,
                unevictable,
                "PG_unevictable and PG_lru",
            ),
        ]
        .into_iter()
        .filter(|(_, count, pages, _)| count != pages)
        .map(|(name, count, pages, flags)| format!("{name} is {count}, {pages} pages have {flags}"))
        .collect()
    }
}

/// Each a line of the result.
#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Invariant {
    Pressure,
    Charge,
    Resident,
    Contents,
    Mlocked,
    Flags,
    Baseline,
    Ends,
    Alive,
    Busy,
}

const INVARIANTS: [(&str, &str); 10] = [
    ("unlocked memory was swapped out", "pages"),
    ("VmLck is the sum of the locked vmas", "vmas"),
    (
        "what is locked stays so, resident and not swapped, and nothing else comes with it",
        "pages",
    ),
    ("contents are intact, locked or not", "pages"),
    ("most pages that stay locked are mlocked", "of them"),
    (
        "the counters go with the flags of the pages",
        "mlocked pages",
    ),
    ("the counters come back when all is freed", "comparisons"),
    ("every operation ends", "operations"),
    ("no process comes to an end of its own", "processes"),
    (
        "each kind of operation succeeds, and pages are moved",
        "kinds",
    ),
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Over,
    /// Something hangs, so that there can be no more rounds.
    Stuck,
}

/// What all rounds came to.
pub struct Report {
    pub rounds: u64,
    checked: [u64; INVARIANTS.len()],
    failed: [u64; INVARIANTS.len()],
    pub done: [u64; OPS],
    pub refused: [u64; OPS],
    /// Processes of the rounds, and children of theirs, that were killed while it went on.
    pub killed: u64,
    /// Of the last round: how many pages that stay locked are mlocked, and how many there are.
    pub mlocked: (usize, usize),
    /// The rounds at whose end there was a worker with ranges of all kinds to look at, and the process
    /// that has all locked.
    pub watched: u64,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            rounds: 0,
            checked: [0; INVARIANTS.len()],
            failed: [0; INVARIANTS.len()],
            done: [0; OPS],
            refused: [0; OPS],
            killed: 0,
            mlocked: (0, 0),
            watched: 0,
        }
    }
}

impl Report {
    /// So much was looked at.
    pub fn checked(&mut self, what: Invariant, count: usize) {
        self.checked[what as usize] += count as u64;
    }

    pub fn fail(&mut self, what: Invariant, why: &str) {
        let failed = &mut self.failed[what as usize];
        *failed += 1;
        if *failed as usize <= MOST_SHOWN {
            println!("# round {}: {why}", self.rounds + 1);
        }
    }

    /// An operation that was always refused, unless the machine cannot do it, and `idle` events that
    /// never came, mean that less was tried than was meant to be.
    pub fn check_busy(&mut self, idle: &[&str], cannot: &[Op]) {
        // The set-up is not counted, and the last one comes once in ten seconds.
        const SELDOM: [Op; 2] = [Op::Setup, Op::High];
        let left_out: Vec<usize> = SELDOM.iter().chain(cannot).map(|op| *op as usize).collect();
        for (op, name) in Op::NAMES.iter().enumerate() {
            if left_out.contains(&op) {
                continue;
            }
            self.checked(Invariant::Busy, 1);
            if self.done[op] == 0 {
                self.fail(Invariant::Busy, &format!("{name} never succeeded"));
            }
        }
        for name in idle {
            self.fail(Invariant::Busy, &format!("{name} did not change"));
        }
    }

    /// The OOM killer may take whom it likes, but not leave nothing to look at.
    pub fn check_watched(&mut self) {
        if self.watched * 2 < self.rounds {
            let why = format!("only {} rounds had somebody to look at", self.watched);
            self.fail(Invariant::Alive, &why);
        }
    }

    /// Nobody else kills what takes part in a round, so the kernel must have said of each that it did.
    pub fn check_killed(&mut self, oom_kills: u64) {
        if self.killed > oom_kills {
            let why = format!(
                "{} were killed, {oom_kills} of them by the OOM killer",
                self.killed
            );
            self.fail(Invariant::Alive, &why);
        }
    }

    pub fn operations(&self) -> u64 {
        self.done.iter().sum::<u64>() + self.refused.iter().sum::<u64>()
    }

    /// What was never looked at does not hold.
    fn holds(&self, what: usize) -> bool {
        self.failed[what] == 0 && self.checked[what] > 0
    }

    pub fn good(&self) -> bool {
        (0..INVARIANTS.len()).all(|what| self.holds(what))
    }

    pub fn print(&mut self) -> bool {
        self.checked[Invariant::Ends as usize] = self.operations();
        for (i, name) in Op::NAMES.iter().enumerate() {
            println!(
                "# {name}: {} done, {} refused",
                self.done[i], self.refused[i]
            );
        }
        println!("# {} processes of the rounds were killed", self.killed);
        println!("1..{}", INVARIANTS.len());
        for (what, (name, unit)) in INVARIANTS.iter().enumerate() {
            let verdict = if self.holds(what) { "ok" } else { "not ok" };
            println!(
                "{verdict} {} {name} # {} {unit}, {} failures, {} rounds",
                what + 1,
                self.checked[what],
                self.failed[what],
                self.rounds
            );
        }
        self.good()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Kind, Use, fixed};

    /// On fault and partly swapped; locked; and not locked
    fn vmas() -> [Vma; 3] {
        [
            Vma {
                start: 0x1000,
                end: 0x3000,
                swap: 4096,
                locked: true,
                on_fault: true,
                ..Vma::default()
            },
            Vma {
                start: 0x3000,
                end: 0x4000,
                locked: true,
                ..Vma::default()
            },
            Vma {
                start: 0x7ff_d000,
                end: 0x7ff_e000,
                ..Vma::default()
            },
        ]
    }

    fn range(purpose: Use) -> Range {
        Range {
            kind: Kind::Anon,
            purpose,
            addr: 0x2000,
            pages: 4,
            first: 0,
        }
    }

    #[test]
    fn parts_of_a_range() {
        let vmas = vmas();
        assert_eq!(locked(&vmas), 0x3000);
        // The last two pages are not mapped at all.
        assert_eq!(covered(&vmas, &range(Use::Full), |vma| vma.locked), 0x2000);
        assert_eq!(
            covered(&vmas, &range(Use::Full), |vma| vma.on_fault),
            0x1000
        );
        assert_eq!(swapped(&vmas, &range(Use::Full)), 4096);
    }

    #[test]
    fn pages() {
        let all = [PRESENT; 4];
        let even = [PRESENT, 0, PRESENT, 0];
        let swap = [PRESENT, 0, 1 << 62, 0];
        assert_eq!(misplaced(&range(Use::Full), &all), (0, 0));
        assert_eq!(misplaced(&range(Use::Full), &even), (2, 0));
        assert_eq!(misplaced(&range(Use::OnFault), &even), (0, 0));
        assert_eq!(misplaced(&range(Use::OnFault), &swap), (1, 0));
        assert_eq!(misplaced(&range(Use::OnFault), &all), (0, 2));

        assert_eq!(lost(&range(Use::Full), &all), 0);
        assert_eq!(lost(&range(Use::Full), &even), 2);
        assert_eq!(lost(&range(Use::OnFault), &even), 0);
        assert_eq!(lost(&range(Use::OnFault), &swap), 1);
        assert_eq!(
            lost(
                &range(Use::Full),
                &[SWAP | 25, PRESENT, SWAP | 32, SWAP | 1]
            ),
            1
        );
    }

    #[test]
    fn counters() {
        let vmstat = "nr_mlock_x 5\nnr_mlock 3\nnr_unevictable 4\n";
        let meminfo = "Unevictable:          16 kB\nMlocked:              12 kB\n";
        let stat = "active_anon 4096\nunevictable 8192\n";
        let base = Counters::parse(vmstat, meminfo, stat).unwrap();
        assert_eq!(
            base,
            Counters {
                nr_mlock: 3,
                mlocked: 3,
                nr_unevictable: 4,
                unevictable: 4,
                group: 2,
                listed: 3,
            }
        );
        assert!(Counters::parse("", meminfo, "unevictable 0\n").is_none());
        assert!(base.differences(&base).is_empty());
        // One page too many, or too few, in any of them.
        for change in [
            |c: &mut Counters| c.nr_mlock += 1,
            |c: &mut Counters| c.mlocked -= 1,
            |c: &mut Counters| c.nr_unevictable -= 1,
            |c: &mut Counters| c.unevictable += 1,
            |c: &mut Counters| c.group += 1,
            |c: &mut Counters| c.listed += 1,
        ] {
            let mut now = base;
            change(&mut now);
            assert_eq!(now.differences(&base).len(), 1);
        }
    }

    #[test]
    fn flags() {
        let counters = Counters {
            nr_mlock: 2,
            nr_unevictable: 1,
            ..Counters::default()
        };
        // The second one is mlocked and still on its way.
        let frames = [MLOCKED | UNEVICTABLE | LRU, MLOCKED, LRU, UNEVICTABLE];
        assert!(counters.against(&frames).is_empty());
        assert_eq!(counters.against(&frames[1..]).len(), 2);
    }

    #[test]
    fn verdict() {
        let mut report = Report::default();
        assert!(!report.good());
        report.checked = [1; INVARIANTS.len()];
        assert!(report.good());
        for what in 0..INVARIANTS.len() {
            report.failed[what] = 1;
            assert!(!report.good());
            report.failed[what] = 0;
            report.checked[what] = 0;
            assert!(!report.good());
            report.checked[what] = 1;
        }
    }

    #[test]
    fn idle() {
        let mut report = Report {
            done: [1; OPS],
            ..Report::default()
        };
        report.done[Op::Setup as usize] = 0;
        report.done[Op::Collapse as usize] = 0;
        report.check_busy(&[], &[Op::Collapse]);
        assert_eq!(report.failed[Invariant::Busy as usize], 0);
        report.check_busy(&["pswpout"], &[]);
        assert_eq!(report.failed[Invariant::Busy as usize], 2);
    }

    #[test]
    fn the_last_invariant() {
        assert_eq!(Invariant::Busy as usize, INVARIANTS.len() - 1);
        assert!(fixed(0).iter().any(|range| range.is_exact()));
    }
}
