// SPDX-License-Identifier: GPL-2.0

//! How far the sequences got: which calls and results, which pairs of calls, which states.

use std::collections::{BTreeMap, BTreeSet};

use mlock2_diff::op::{Call, Op, PAGE, ways};
use mlock2_guest::proc::Vma;

#[derive(Default)]
pub struct Tally {
    ops: u64,
    /// By the call, its way, and what it returned.
    results: BTreeMap<(Call, String, i64), u64>,
    pairs: BTreeSet<(Call, Call)>,
    last: Option<Call>,
    states: BTreeMap<&'static str, u64>,
    seen: BTreeSet<u64>,
}

impl Tally {
    pub fn start(&mut self) {
        self.last = None;
    }

    /// How many operations were counted.
    pub fn ops(&self) -> u64 {
        self.ops
    }

    /// Counts an operation; its error, or 0.
    pub fn op(&mut self, op: &Op, ret: i64) {
        let call = op.call;
        self.ops += 1;
        let result = (call, op.way(), ret.min(0));
        *self.results.entry(result).or_default() += 1;
        if let Some(last) = self.last.replace(call) {
            self.pairs.insert((last, call));
        }
    }

    pub fn count(&mut self, state: &'static str, reached: bool) {
        *self.states.entry(state).or_default() += u64::from(reached);
    }

    /// Counts what a process looks like; `hash` stands for all of it.
    pub fn state(&mut self, hash: u64, charged: u64, limit: u64, vmas: &[Vma]) {
        self.seen.insert(hash);
        self.count("charged", charged > 0);
        self.count(
            "charged_less_than_a_page_below_limit",
            charged > 0 && charged <= limit && limit - charged < PAGE,
        );
        self.count("charged_over_limit", charged > limit);
        self.count("locked", vmas.iter().any(|v| v.locked && !v.on_fault));
        self.count("on_fault", vmas.iter().any(|v| v.on_fault));
        self.count(
            "on_fault_partly_present",
            vmas.iter()
                .any(|v| v.on_fault && v.rss > 0 && v.rss < v.end - v.start),
        );
        self.count(
            "locked_not_all_present",
            vmas.iter()
                .any(|v| v.locked && !v.on_fault && v.rss < v.end - v.start),
        );
        self.count("locked_thp", vmas.iter().any(|v| v.locked && v.huge > 0));
        self.count(
            "locked_swapped",
            vmas.iter().any(|v| v.locked && v.swap > 0),
        );
        self.count("swapped", vmas.iter().any(|v| v.swap > 0));
        self.count(
            "locked_shared_pages",
            vmas.iter()
                .any(|v| v.locked && v.locked_rss > 0 && v.locked_rss < v.rss),
        );
        self.count(
            "split_by_lock",
            vmas.windows(2)
                .any(|v| v[0].end == v[1].start && v[0].locked != v[1].locked),
        );
        self.count(
            "full_beside_on_fault",
            vmas.windows(2).any(|v| {
                v[0].end == v[1].start
                    && v[0].locked
                    && v[1].locked
                    && v[0].on_fault != v[1].on_fault
            }),
        );
    }

    pub fn print(&self) {
        println!("tally operations {}", self.ops);
        println!("tally distinct_states {}", self.seen.len());
        let calls = Call::ALL.len();
        println!("tally pairs {} of {}", self.pairs.len(), calls * calls);
        for (state, count) in &self.states {
            println!("tally state {state} {count}");
        }
        // Nothing follows what was never tried.
        let mut lines: BTreeMap<(Call, String), String> =
            ways().map(|way| (way, String::new())).collect();
        for ((call, way, ret), count) in &self.results {
            let line = lines.entry((*call, way.clone())).or_default();
            *line += &match ret {
                0 => format!(" ok={count}"),
                _ => format!(" {}={count}", errno(-ret)),
            };
        }
        for call in Call::ALL {
            if !lines.keys().any(|(tried, _)| tried == call) {
                println!("tally call {}", call.name());
            }
        }
        for ((_, way), line) in &lines {
            println!("tally call {way}{line}");
        }
        for first in Call::ALL {
            let missing: Vec<&str> = Call::ALL
                .iter()
                .filter(|second| !self.pairs.contains(&(*first, **second)))
                .map(|call| call.name())
                .collect();
            if !missing.is_empty() {
                println!("tally not_after {} {}", first.name(), missing.join(" "));
            }
        }
    }
}

fn errno(number: i64) -> String {
    match i32::try_from(number) {
        Ok(libc::EPERM) => "EPERM".into(),
        Ok(libc::ENOENT) => "ENOENT".into(),
        Ok(libc::EAGAIN) => "EAGAIN".into(),
        Ok(libc::ENOMEM) => "ENOMEM".into(),
        Ok(libc::EACCES) => "EACCES".into(),
        Ok(libc::EFAULT) => "EFAULT".into(),
        Ok(libc::EBUSY) => "EBUSY".into(),
        Ok(libc::EEXIST) => "EEXIST".into(),
        Ok(libc::EINVAL) => "EINVAL".into(),
        Ok(libc::ENODEV) => "ENODEV".into(),
        Ok(libc::EIDRM) => "EIDRM".into(),
        Ok(libc::ENOSPC) => "ENOSPC".into(),
        Ok(libc::EOPNOTSUPP) => "EOPNOTSUPP".into(),
        Ok(libc::ENOSYS) => "ENOSYS".into(),
        _ => format!("error-{number}"),
    }
}
