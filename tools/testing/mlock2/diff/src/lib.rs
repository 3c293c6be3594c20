// SPDX-License-Identifier: GPL-2.0

//! Holds the mlock family of two kernels against each other: what both programs know.
//!
//! `mlock2-diff-guest` runs sequences of operations in a guest and says, in a hash or in words, what
//! user space can see after each. `mlock2-diff` boots it on two kernels, compares, and shrinks a
//! sequence that differs.

pub mod case;
pub mod generate;
pub mod job;
pub mod op;
