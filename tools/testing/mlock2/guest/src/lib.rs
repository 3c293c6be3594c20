// SPDX-License-Identifier: GPL-2.0

//! What the programs of `diff` and `stress` have in common. Both run as root in a guest, set up its
//! swap, a cgroup and debugfs, and read what /proc says of memory.

pub mod cgroup;
pub mod file;
pub mod proc;
pub mod swap;
