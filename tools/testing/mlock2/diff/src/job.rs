// SPDX-License-Identifier: GPL-2.0

//! What the guest's program is told to run: a text file.
//!
//! ```text
//! # a comment
//! trace NAME               say all that is seen in this case, not only a hash
//! generate SEED OPS        sequences that have so many operations together
//! case NAME                a sequence as it follows, to the next "case" or the end
//! 0 mlock @0 1p
//! ```

use anyhow::{Context, Result, bail};

use crate::generate;
use crate::op::Op;

#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub ops: Vec<Op>,
}

/// The most operations of a case; its whole text goes to the process that runs it.
pub const MOST_OPS: usize = 400;

#[derive(Default)]
pub struct Job {
    /// The name of a case.
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
                ["case", name] => job.cases.push(Case {
                    name: (*name).to_string(),
                    ops: Vec::new(),
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
        text += &format!("case {}\n", case.name);
        for op in &case.ops {
            text += &format!("{op}\n");
        }
    }
    text
}
