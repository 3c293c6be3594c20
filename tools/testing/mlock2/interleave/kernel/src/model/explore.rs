// SPDX-License-Identifier: GPL-2.0

//! Which of the tasks that can run is to run next: every one of them, in one run or another.
//!
//! A depth-first search that starts each run from the beginning, and goes the way that is next. It
//! leaves a state that it has come to before, on whatever way: what follows was tried.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// The keys are hashes already.
#[derive(Default)]
pub struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!()
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub chosen: u8,
    alternatives: u8,
}

#[derive(Default)]
pub struct Explorer {
    path: Vec<Decision>,
    depth: usize,
    /// Each state, and with how many preemptions left it was seen.
    visited: HashMap<u128, u8, BuildHasherDefault<Identity>>,
    /// How often a task may be made to wait that could go on; `None` for any number.
    bound: Option<u8>,
    preemptions: u8,
    replay: bool,
}

impl Explorer {
    pub fn start(&mut self, bound: Option<u8>) {
        *self = Self {
            bound,
            ..Self::default()
        };
    }

    /// Goes one way again.
    pub fn replay(&mut self, path: &[u8]) {
        self.start(None);
        self.replay = true;
        self.path = path
            .iter()
            .map(|&chosen| Decision {
                chosen,
                alternatives: 0,
            })
            .collect();
    }

    pub fn is_bounded(&self) -> bool {
        self.bound.is_some()
    }

    pub fn states(&self) -> usize {
        self.visited.len()
    }

    pub fn path(&self) -> Vec<u8> {
        self.path[..self.depth].iter().map(|d| d.chosen).collect()
    }

    pub fn preemptions(&self) -> u8 {
        self.preemptions
    }

    /// Gets ready for a run; `false` if there is none left.
    pub fn next_run(&mut self) -> bool {
        while let Some(last) = self.path.last_mut() {
            if last.chosen + 1 < last.alternatives {
                last.chosen += 1;
                break;
            }
            self.path.pop();
        }
        self.begin_run();
        !self.path.is_empty()
    }

    pub fn begin_run(&mut self) {
        self.depth = 0;
        self.preemptions = 0;
    }

    /// Returns which of several tasks is to run, or `None` if all that follows was seen. `preempts`
    /// says that all but the first would take the place of one that could go on.
    pub fn decide(
        &mut self,
        alternatives: usize,
        preempts: bool,
        hash: impl FnOnce() -> u128,
    ) -> Option<usize> {
        if self.depth == self.path.len() {
            let left = self.bound.map_or(u8::MAX, |bound| bound - self.preemptions);
            if !self.replay {
                let seen = self.visited.entry(hash()).or_insert(0);
                // 0 is for what was never seen.
                if *seen > left || (*seen != 0 && self.bound.is_none()) {
                    return None;
                }
                *seen = left.saturating_add(1);
            }
            let alternatives = if preempts && left == 0 {
                1
            } else {
                alternatives
            };
            self.path.push(Decision {
                chosen: 0,
                alternatives: alternatives as u8,
            });
        }
        let chosen = self.path[self.depth].chosen;
        self.depth += 1;
        if preempts && chosen != 0 {
            self.preemptions = self.preemptions.saturating_add(1);
        }
        Some(chosen.into())
    }

    pub fn choose(&mut self, alternatives: usize) -> usize {
        if self.depth == self.path.len() {
            self.path.push(Decision {
                chosen: 0,
                alternatives: alternatives as u8,
            });
        }
        let chosen = self.path[self.depth].chosen;
        self.depth += 1;
        chosen.into()
    }
}
