// SPDX-License-Identifier: GPL-2.0

//! What the guest's program is told to run: a text file.
//!
//! ```text
//! # a comment
//! trace NAME               say all that is seen in this case, not only a hash
//! generate SEED OPS        sequences that have so many operations together
//! case NAME                a sequence as it follows, to the next "case" or the end
//! 0 mlock @0 1p
//! inject NAME              the same, run once for each allocation of its last operation, which fails
//! ```

use anyhow::{Context, Result, bail};

use crate::generate;
use crate::op::{Call, Op};

#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub ops: Vec<Op>,
    /// Whether the allocations of the last operation are to fail, one in each run.
    pub inject: bool,
}

impl Case {
    /// All that one run does. If an allocation fails in it, then it also looks at what that left
    /// behind, and does the same again with no failure.
    pub fn steps(&self) -> Vec<Op> {
        let mut steps = self.ops.clone();
        if let (true, Some(&last)) = (self.inject, self.ops.last()) {
            let checkpoint = Op::new(last.process, Call::Checkpoint, &[]);
            steps.extend([checkpoint, last, checkpoint]);
        }
        steps
    }

    /// The name of a run; of the one in which the `nth` allocation fails.
    pub fn run_name(&self, nth: u32) -> String {
        if self.inject {
            format!("{}#{nth}", self.name)
        } else {
            self.name.clone()
        }
    }
}

/// The most operations of a case; its whole text goes to the process that runs it.
pub const MOST_OPS: usize = 400;

#[derive(Default)]
pub struct Job {
    /// The name of a run.
    pub trace: Option<String>,
    pub generate: Option<(u64, u64)>,
    pub cases: Vec<Case>,
}

impl Job {
    pub fn parse(text: &str) -> Result<Self> {
        let mut job = Self::default();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                ["trace", name] => job.trace = Some((*name).to_string()),
                ["generate", seed, ops] => {
                    let number = |text: &str| {
                        text.parse()
                            .with_context(|| format!("{line:?}: {text:?} is no number"))
                    };
                    job.generate = Some((number(seed)?, number(ops)?));
                }
                [what @ ("case" | "inject"), name] => job.cases.push(Case {
                    name: (*name).to_string(),
                    ops: Vec::new(),
                    inject: *what == "inject",
                }),
                _ => match job.cases.last_mut() {
                    Some(case) => case.ops.push(line.parse()?),
                    None => bail!("{line:?} is in no case"),
                },
            }
        }
        for case in &job.cases {
            if case.ops.len() > MOST_OPS {
                bail!("case {}: more than {MOST_OPS} operations", case.name);
            }
            let last = case.ops.last().map(|op| op.call);
            if case.inject && !last.is_some_and(Call::is_one_system_call) {
                bail!(
                    "case {}: the last operation is no single system call, so its allocations cannot be counted",
                    case.name
                );
            }
        }
        Ok(job)
    }

    /// The cases that are to be run, in order. The generated ones are named SEED.INDEX.
    pub fn all(&self) -> impl Iterator<Item = Case> {
        let (seed, ops) = self.generate.unwrap_or((0, 0));
        let mut left = ops;
        let generated = (0..).map_while(move |index| {
            if left == 0 {
                return None;
            }
            let case = generate::case(seed, index);
            left = left.saturating_sub(case.ops.len() as u64);
            Some(case)
        });
        self.cases.iter().cloned().chain(generated)
    }
}

/// The text of cases, for `Job::parse()`.
pub fn text(cases: &[Case]) -> String {
    let mut text = String::new();
    for case in cases {
        let what = if case.inject { "inject" } else { "case" };
        text += &format!("{what} {}\n", case.name);
        for op in &case.ops {
            text += &format!("{op}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_there_and_back() {
        let given = "case a\n0 mlock @0 1p\ninject b\n0 write @0 1\n1 brk 1p\n";
        let job = Job::parse(given).unwrap();
        assert_eq!(text(&job.cases), given);
        assert_eq!(job.cases[0].run_name(3), "a");
        assert_eq!(job.cases[1].run_name(3), "b#3");
        assert_eq!(job.cases[0].steps(), job.cases[0].ops);
        let steps: Vec<String> = job.cases[1].steps().iter().map(Op::to_string).collect();
        let again = [
            "0 write @0 1",
            "1 brk 1p",
            "1 checkpoint",
            "1 brk 1p",
            "1 checkpoint",
        ];
        assert_eq!(steps, again);
    }

    #[test]
    fn only_a_system_call_has_allocations_that_fail() {
        assert!(Job::parse("inject x\n0 mlock @0 1p\n").is_ok());
        for wrong in ["inject x\n", "inject x\n0 mlock @0 1p\n0 write @0 1\n"] {
            assert!(Job::parse(wrong).is_err(), "{wrong}");
        }
    }
}
