// SPDX-License-Identifier: GPL-2.0

//! A flag word of user space is no mode until it is parsed.

mod abi {
    pub(crate) const MLOCK_ONFAULT: i32 = 1;
    pub(crate) const MCL_CURRENT: i32 = 1;
    pub(crate) const MCL_FUTURE: i32 = 2;
    pub(crate) const MCL_ONFAULT: i32 = 4;
}
#[path = "../../../../mm/mlock2/request.rs"]
mod request;

use request::LockMode;

fn is_lock(mode: LockMode) -> bool {
    mode != LockMode::Unlocked
}

pub fn mlock2(flags: i32) -> Option<bool> {
    #[cfg(mistake)]
    let mode = flags;
    #[cfg(not(mistake))]
    let mode = LockMode::from_mlock2_flags(flags)?;

    // error: E0308 expected `LockMode`, found `i32`
    Some(is_lock(mode))
}
