// SPDX-License-Identifier: GPL-2.0

//! A sequence of operations with a name, and its text.

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
