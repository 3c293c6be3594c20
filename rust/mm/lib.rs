// SPDX-License-Identifier: GPL-2.0

//! The `mm` crate.
//!
//! Abstractions for the kernel's own memory management: folios and their LRU lists, page tables,
//! vmas that change. What is here relies on rules that only mm keeps, and may change with them. It
//! is for code that is built into the kernel: no symbol of this crate, and no helper of it, is
//! exported to modules.
//!
//! What is of use to all of the kernel is in [`kernel::mm`].

#![no_std]
//
// Stable since Rust 1.87.0.
#![feature(asm_goto)]
//
// Inline assembly is not stable on MIPS.
#![cfg_attr(CONFIG_MIPS, feature(asm_experimental_arch))]

pub mod bindings;
pub mod folio;
pub mod folio_batch;
#[cfg(CONFIG_MLOCK2_KUNIT_TEST)]
pub mod kunit;
pub mod mlock_trace;
pub mod mmap_write;
pub mod pagewalk;
pub mod user;
