// SPDX-License-Identifier: GPL-2.0

//! What system calls return.

use std::io::Error;

use libc::c_long;

/// What a system call returned: a negative error, or the result.
pub fn result(ret: c_long) -> i64 {
    if ret == -1 {
        i64::from(-Error::last_os_error().raw_os_error().unwrap_or(0))
    } else {
        ret
    }
}

/// As `result()`, for results that are no more than a success.
pub fn success(ret: c_long) -> i64 {
    result(ret).min(0)
}
