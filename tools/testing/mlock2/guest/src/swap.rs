// SPDX-License-Identifier: GPL-2.0

//! Swap on a zram device.

use std::ffi::CString;
use std::fs::File;
use std::io::{Error, Write};

use anyhow::{Context, Result, ensure};

use crate::file::{read, write};
use crate::proc::page_size;

/// Adds a zram device. Returns its name.
pub fn add_zram() -> Result<String> {
    let id = read("/sys/class/zram-control/hot_add").context("cannot add a zram device")?;
    Ok(format!("zram{}", id.trim()))
}

/// The size of a zram device, such as "zram0". It can be set once.
pub fn set_size(device: &str, bytes: u64) -> Result<()> {
    write(&format!("/sys/block/{device}/disksize"), &bytes.to_string())
}

/// Makes a zram device as large as that, and has the kernel swap to it.
pub fn start(device: &str, bytes: u64) -> Result<()> {
    set_size(device, bytes)?;
    // What mkswap writes: the version and the last page, and the signature at the end of the page.
    let size = page_size();
    let last = u32::try_from(bytes / size as u64)? - 1;
    let mut page = vec![0; size];
    page[1024..1028].copy_from_slice(&1u32.to_ne_bytes());
    page[1028..1032].copy_from_slice(&last.to_ne_bytes());
    page[size - 10..].copy_from_slice(b"SWAPSPACE2");
    let path = format!("/dev/{device}");
    let mut file = File::options()
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {path}"))?;
    file.write_all(&page)?;
    file.sync_all()?;
    drop(file);
    let name = CString::new(path)?;
    // SAFETY: The name is a string.
    let ret = unsafe { libc::swapon(name.as_ptr(), 0) };
    ensure!(
        ret == 0,
        "cannot swap to /dev/{device}: {}",
        Error::last_os_error()
    );
    Ok(())
}

/// Stops to swap there, and removes a device that `add_zram()` added.
pub fn stop(device: &str) -> Result<()> {
    let name = CString::new(format!("/dev/{device}"))?;
    // SAFETY: The name is a string.
    let ret = unsafe { libc::swapoff(name.as_ptr()) };
    ensure!(
        ret == 0,
        "cannot stop to swap to /dev/{device}: {}",
        Error::last_os_error()
    );
    write(&format!("/sys/block/{device}/reset"), "1")?;
    let id = device.trim_start_matches("zram");
    write("/sys/class/zram-control/hot_remove", id)
}
