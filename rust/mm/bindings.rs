// SPDX-License-Identifier: GPL-2.0

//! Bindings of the kernel crate, and those that only mm may use.
//!
//! If both define a name, mm's binding takes precedence.

#![allow(
    clippy::all,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    non_snake_case,
    improper_ctypes,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    dead_code,
    clippy::as_underscore,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks
)]
#![cfg_attr(not(CONFIG_RUSTC_HAS_UNNECESSARY_TRANSMUTES), allow(unknown_lints))]
#![allow(unnecessary_transmutes)]

use kernel::ffi;
use pin_init::MaybeZeroable;

pub use kernel::bindings::*;

include!(concat!(env!("OBJTREE"), "/rust/mm/bindings_generated.rs"));
include!(concat!(
    env!("OBJTREE"),
    "/rust/mm/bindings_helpers_generated.rs"
));
