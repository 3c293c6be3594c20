// SPDX-License-Identifier: GPL-2.0

//! Settings of the machine: files of /proc and /sys, and the filesystems that hold them.

use std::ffi::CStr;
use std::fs;
use std::io::{Error, Result as IoResult};
use std::path::Path;
use std::ptr;

use anyhow::{Context, Result};

/// Settings of transparent huge pages; not all architectures have them.
pub const THP: &str = "/sys/kernel/mm/transparent_hugepage";
/// Where `mount_debugfs()` has it.
pub const DEBUGFS: &str = "/sys/kernel/debug";

pub fn has_huge_pages() -> bool {
    Path::new(THP).exists()
}

pub fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

pub fn write(path: &str, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {text:?} to {path}"))
}

/// Mounts a filesystem that has no device.
pub fn mount(kind: &CStr, dir: &CStr) -> IoResult<()> {
    // SAFETY: The names are strings.
    match unsafe { libc::mount(kind.as_ptr(), dir.as_ptr(), kind.as_ptr(), 0, ptr::null()) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// Fails if it is mounted already.
pub fn mount_debugfs() -> IoResult<()> {
    mount(c"debugfs", c"/sys/kernel/debug")
}
