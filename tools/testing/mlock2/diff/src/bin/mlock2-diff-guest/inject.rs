// SPDX-License-Identifier: GPL-2.0

//! Allocations that fail when told to: the kernel's fault injection.
//!
//! A number in a task's `fail-nth` counts down with each allocation that the task makes, and the one
//! that brings it to 0 fails. Two kernels can be compared only if they count the same, so what the
//! allocators do for themselves, whenever their stocks happen to be low, must not count:
//!
//! - Pages for slabs, and for the stack traces that KASAN keeps of what is in them: page allocations
//!   from within mm/slub.c pass.
//! - What KASAN needs to free an object later (CONFIG_SLUB_RCU_DEBUG), unless KFENCE, now and then,
//!   has taken the object over: objects that kmem_cache_free() allocates pass.
//! - Sheaves, the stocks of free objects. Caches with consistency checks have none, so the kernel is
//!   to be booted with slab_debug=F. Nor do nodes for a maple tree come from such a stock then: each
//!   time they are allocated, and so can fail.
//! - Which cgroup an object is charged to, remembered by the slab: cgroup.memory=nokmem.
//! - The objects of CONFIG_DEBUG_OBJECTS.

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use libc::{c_int, c_long};

use mlock2_guest::file::{DEBUGFS, mount_debugfs};

use crate::control::{CANNOT_FAIL, NONE_FAILED, ONE_FAILED};
use crate::sys::result;

const SLAB: &str = "/sys/kernel/slab";
const NEEDED: &str = "CONFIG_FAULT_INJECTION, CONFIG_FAULT_INJECTION_DEBUG_FS, CONFIG_FAILSLAB, \
    CONFIG_FAIL_PAGE_ALLOC and CONFIG_FAULT_INJECTION_STACKTRACE_FILTER";
/// The ways into mm/slub.c that may end with the allocation of a page, and a function of that file
/// which the compiler puts behind them.
const SLUB: [&str; 11] = [
    "__kmalloc_cache_noprof",
    "__kmalloc_noprof",
    "kfree",
    "kmem_cache_alloc_bulk_noprof",
    "kmem_cache_alloc_lru_noprof",
    "kmem_cache_alloc_node_noprof",
    "kmem_cache_alloc_noprof",
    "kmem_cache_free",
    "kmem_cache_prefill_sheaf",
    "kmem_cache_return_sheaf",
    "validate_slab_cache",
];

/// Makes all allocations of a task candidates, those above excepted.
pub fn set_up() -> Result<()> {
    if let Err(error) = mount_debugfs() {
        bail!("cannot mount debugfs: {error}; allocations that fail need {NEEDED}");
    }
    let parameters = fs::read_to_string("/proc/cmdline")?;
    for parameter in ["slab_debug=F", "cgroup.memory=nokmem"] {
        ensure!(
            parameters.split_whitespace().any(|word| word == parameter),
            "allocations that fail need the kernel parameter {parameter}"
        );
    }
    ensure!(
        fs::read_to_string(format!("{SLAB}/vm_area_struct/sheaf_capacity"))?.trim() == "0",
        "slab_debug=F has no effect: is CONFIG_SLUB_DEBUG=y?"
    );

    let [slub, free] = slub()?;
    for (file, value) in [
        ("failslab/ignore-gfp-wait", "N"),
        ("failslab/cache-filter", "Y"),
        ("fail_page_alloc/ignore-gfp-wait", "N"),
        ("fail_page_alloc/ignore-gfp-highmem", "N"),
        ("fail_page_alloc/min-order", "0"),
        ("failslab/reject-start", &format!("{:#x}", free.start)),
        ("failslab/reject-end", &format!("{:#x}", free.end)),
        (
            "fail_page_alloc/reject-start",
            &format!("{:#x}", slub.start),
        ),
        ("fail_page_alloc/reject-end", &format!("{:#x}", slub.end)),
    ] {
        fs::write(format!("{DEBUGFS}/{file}"), value)
            .with_context(|| format!("cannot set {file}: is all there? {NEEDED}"))?;
    }
    say_where(false)?;
    for entry in fs::read_dir(SLAB)? {
        let entry = entry?;
        // Merged caches are links to one; with slab_debug=F there is none.
        if entry.file_type()?.is_dir() && entry.file_name() != "debug_objects_cache" {
            let file = entry.path().join("failslab");
            fs::write(&file, "1").with_context(|| format!("cannot set {}", file.display()))?;
        }
    }
    ensure!(
        Path::new("/proc/thread-self/fail-nth").exists(),
        "no fail-nth: {NEEDED}"
    );
    Ok(())
}

/// Whether the kernel's log says where an allocation fails.
pub fn say_where(say: bool) -> Result<()> {
    for kind in ["failslab", "fail_page_alloc"] {
        let level = if say { "2" } else { "0" };
        fs::write(format!("{DEBUGFS}/{kind}/verbose"), level)?;
    }
    Ok(())
}

/// From where to where mm/slub.c is in the kernel, as far as it matters, and its kmem_cache_free().
fn slub() -> Result<[Range<u64>; 2]> {
    let text = fs::read_to_string("/proc/kallsyms")?;
    let mut symbols = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        if let (Some(address), _, Some(name)) = (words.next(), words.next(), words.next()) {
            symbols.push((u64::from_str_radix(address, 16)?, name));
        }
    }
    symbols.sort_unstable();
    let found: Vec<_> = symbols
        .iter()
        .filter(|(_, name)| SLUB.contains(name))
        .collect();
    let free = symbols
        .windows(2)
        .find(|pair| pair[0].1 == "kmem_cache_free");
    match (found.as_slice(), free) {
        ([(start @ 1.., _), .., (end, "validate_slab_cache")], Some(free))
            if found.len() == SLUB.len() =>
        {
            Ok([*start..*end, free[0].0..free[1].0])
        }
        _ => bail!("mm/slub.c is not where it is looked for: {found:x?}"),
    }
}

/// Makes a system call of which the `nth` allocation fails, for a worker. A negative error or the
/// result, and whether it came to that.
pub fn system_call(nth: u32, number: c_long, args: &[u64; 6]) -> (i64, u32) {
    // SAFETY: The name is a string.
    let fd = unsafe { libc::open(c"/proc/thread-self/fail-nth".as_ptr(), libc::O_RDWR) };
    if fd < 0 {
        return (0, CANNOT_FAIL);
    }
    // First with a call that is not there. It fails, which is written to memory, too: after that,
    // this process has no page fault between here and the real one.
    armed(fd, 0, -1, args);
    let (ret, left) = armed(fd, nth, number, args);
    // SAFETY: Nobody else knows it.
    unsafe { libc::close(fd) };
    let failed = match left {
        Some(0) => ONE_FAILED,
        Some(_) => NONE_FAILED,
        None => CANNOT_FAIL,
    };
    (ret, failed)
}

/// What the call returned, and what was left to count then.
#[inline(never)]
fn armed(fd: c_int, nth: u32, number: c_long, a: &[u64; 6]) -> (i64, Option<u32>) {
    let mut text = [0u8; 16];
    // It has room for any number.
    let _ = write!(&mut text[..], "{nth}");
    let mut left = [0u8; 16];
    // SAFETY: For the system call itself, see `Worker::answer()`; the others use these two arrays,
    // within their bounds.
    let (wrote, ret, read, disarmed) = unsafe {
        let wrote = libc::pwrite(fd, text.as_ptr().cast(), text.len(), 0);
        let ret = libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
        let ret = result(ret);
        let read = libc::pread(fd, left.as_mut_ptr().cast(), left.len(), 0);
        let disarmed = libc::pwrite(fd, c"0".as_ptr().cast(), 1, 0);
        (wrote, ret, read, disarmed)
    };
    if wrote < 0 || read < 0 || disarmed < 0 {
        return (ret, None);
    }
    let digits = left.iter().take_while(|byte| byte.is_ascii_digit());
    let left = digits.fold(0, |n, digit| n * 10 + u32::from(digit - b'0'));
    (ret, Some(left))
}
