// SPDX-License-Identifier: GPL-2.0

//! Errors, of which none occurs here.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error(i32);

pub mod code {
    use super::Error;

    pub const EINTR: Error = Error(-4);
    pub const EINVAL: Error = Error(-22);
}

pub type Result<T = (), E = Error> = core::result::Result<T, E>;

pub fn from_err_ptr<T>(ptr: *mut T) -> Result<*mut T> {
    Ok(ptr)
}
