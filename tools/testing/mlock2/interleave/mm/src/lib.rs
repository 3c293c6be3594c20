// SPDX-License-Identifier: GPL-2.0

//! The kernel's `mm` crate, unmodified, on the stand-in for the `kernel` crate.

#![allow(clippy::missing_safety_doc)]

// `pin_init::zeroed()`
extern crate kernel as pin_init;

#[path = "../../../../../../rust/mm/folio.rs"]
pub mod folio;
#[path = "../../../../../../rust/mm/folio_batch.rs"]
pub mod folio_batch;
#[path = "../../../../../../rust/mm/mmap_write.rs"]
pub mod mmap_write;
#[path = "../../../../../../rust/mm/pagewalk.rs"]
pub mod pagewalk;

pub mod bindings {
    //! All of them are in one place.

    pub use kernel::bindings::*;
}

pub mod mlock_trace {
    //! Trace events, which are off.

    use crate::folio::Folio;

    pub fn is_mlock_traced() -> bool {
        false
    }

    pub fn is_munlock_traced() -> bool {
        false
    }

    pub fn folio_mlocked(_: Folio<'_>, _was_unevictable: bool) {}

    pub fn folio_munlocked(_: Folio<'_>, _was_unevictable: bool) {}
}
