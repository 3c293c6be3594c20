// SPDX-License-Identifier: GPL-2.0

//! The modules of `mm/mlock2/` without kernel types, and their tests, as cargo-mutants wants them: in
//! one directory, with pages of one size, and declared by no macro. `../src/lib.rs` is the same for
//! all sizes.

mod abi {
    pub(crate) const MLOCK_ONFAULT: i32 = 1;
    pub(crate) const MCL_CURRENT: i32 = 1;
    pub(crate) const MCL_FUTURE: i32 = 2;
    pub(crate) const MCL_ONFAULT: i32 = 4;
    pub(crate) const PAGE_SHIFT: usize = 12;
    pub(crate) const RLIM_INFINITY: usize = usize::MAX;
}
mod limit;
#[cfg(test)]
mod limit_test;
mod range;
#[cfg(test)]
mod range_test;
mod request;
#[cfg(test)]
mod request_test;
#[cfg(test)]
mod values;
