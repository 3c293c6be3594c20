// SPDX-License-Identifier: GPL-2.0

//! What the guest's program is told to run: a text file.
//!
//! ```text
//! # a comment
//! trace NAME STEP          say all that is seen in this case from that step on, not only a hash
//! generate SEED OPS        sequences that have so many operations together
//! case NAME                a sequence as it follows, to the next "case" or the end
//! 0 mlock @0 1p
//! inject NAME              the same, run once for each allocation of its last operation, which fails
//! ```

use anyhow::{Context, Result, bail};

use crate::case::Case;
use crate::generate;
use crate::op::Call;

/// The most operations of a case; its whole text goes to the process that runs it.
pub const MOST_OPS: usize = 400;

#[derive(Default)]
pub struct Job {
    /// The name of a run, and the step.
    pub trace: Option<(String, usize)>,
    pub generate: Option<(u64, u64)>,
    pub cases: Vec<Case>,
}

impl Job {
    pub fn parse(text: &str) -> Result<Self> {
        let mut job = Self::default();
        for line in text.lines() {
            // The name of a run has such a sign, too, but not after a space.
            let line = match line.split_once(" #") {
                Some((before, _)) => before.trim(),
                None if line.starts_with('#') => "",
                None => line.trim(),
            };
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |text: &str| -> Result<u64> {
                text.parse()
                    .with_context(|| format!("{line:?}: {text:?} is no number"))
            };
            match words.as_slice() {
                [] => {}
                ["trace", name, step] => {
                    job.trace = Some(((*name).to_string(), number(step)? as usize));
                }
                ["generate", seed, ops] => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::text;
    use crate::op::Op;

    #[test]
    fn a_trace_from_a_step() {
        let job = Job::parse("trace 7.3#2      12\ngenerate 7 100\n").unwrap();
        assert_eq!(job.trace, Some(("7.3#2".to_string(), 12)));
        assert!(Job::parse("trace 7.3\n").is_err());
    }

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

    #[test]
    fn generated_cases_can_be_run() {
        for index in 0..300 {
            let case = generate::injected(1, index);
            let text = text(std::slice::from_ref(&case));
            assert!(Job::parse(&text).is_ok(), "{text}");
        }
    }
}
