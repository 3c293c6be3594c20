// SPDX-License-Identifier: GPL-2.0

//! The model: a machine with two CPUs and a few folios, the parts of mm that touch a folio's LRU
//! state, and a scheduler that tries every order in which their steps can happen.

pub mod coroutine;
pub mod explore;
pub mod folio;
pub mod mm;
pub mod sched;
#[cfg(test)]
mod tests;
pub mod world;
