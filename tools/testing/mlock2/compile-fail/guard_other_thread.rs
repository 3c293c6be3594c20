// SPDX-License-Identifier: GPL-2.0

//! The thread that took the mmap lock drops it.

use kernel::{
    mm::MmWithUser,
    prelude::*, //
};

fn on_other_thread<T: Send>(value: T) {
    drop(value);
}

pub fn hand_over(mm: &'static MmWithUser) -> Result {
    let guard = mm.mmap_write_lock_killable()?;

    #[cfg(mistake)]
    // error: E0277 cannot be sent between threads safely
    on_other_thread(guard);
    #[cfg(not(mistake))]
    on_other_thread(guard.locked_vm());
    Ok(())
}
