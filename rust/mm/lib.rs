// SPDX-License-Identifier: GPL-2.0

//! The `mm` crate.
//!
//! Abstractions for memory management itself: folios and their LRU lists, page tables, mutable
//! vmas. They rely on rules internal to mm, and may change with these. Only built-in code can use
//! this crate: neither its symbols nor its helpers are exported to modules.
//!
//! Abstractions for all of the kernel are in [`kernel::mm`].

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
