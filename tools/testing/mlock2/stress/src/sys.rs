// SPDX-License-Identifier: GPL-2.0

//! System calls, and memory that other threads and processes change.

use std::io::Error;
use std::ptr;

use libc::{c_int, c_long};

/// What libc does not have for every C library.
pub const MADV_DONTNEED_LOCKED: c_int = 24;
pub const MADV_COLLAPSE: c_int = 25;
pub const SHM_LOCK: c_int = 11;
pub const SHM_UNLOCK: c_int = 12;

/// A system call: what it returned, or the error.
///
/// # Safety
///
/// The call may not change memory that Rust has references to.
pub unsafe fn call(number: c_long, args: &[usize]) -> Result<usize, c_int> {
    let mut a = [0; 6];
    a[..args.len()].copy_from_slice(args);
    // SAFETY: By the contract.
    let ret = unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) };
    if ret == -1 {
        return Err(Error::last_os_error().raw_os_error().unwrap_or(0));
    }
    Ok(ret as usize)
}

/// mmap() at a fixed address, in place of what was there.
///
/// # Safety
///
/// Only ranges of `layout.rs` may be mapped: nothing in Rust refers to those.
pub unsafe fn map_at(
    addr: usize,
    len: usize,
    flags: c_int,
    fd: c_int,
    at: usize,
) -> Result<(), c_int> {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: By the contract.
    let got = unsafe {
        libc::mmap(
            ptr::without_provenance_mut(addr),
            len,
            prot,
            flags | libc::MAP_FIXED,
            fd,
            at as i64,
        )
    };
    if got == libc::MAP_FAILED {
        return Err(Error::last_os_error().raw_os_error().unwrap_or(0));
    }
    // What read() and write() below find again.
    got.expose_provenance();
    Ok(())
}

/// Reads a word that anybody may write to at the same time.
///
/// # Safety
///
/// The address is in a range of `layout.rs` that was mapped, or is mapped by the handler of the
/// fault.
pub unsafe fn read(addr: usize) -> u64 {
    // SAFETY: Not memory that Rust knows of, and aligned.
    unsafe { ptr::with_exposed_provenance::<u64>(addr).read_volatile() }
}

/// Writes a word.
///
/// # Safety
///
/// As `read()`.
pub unsafe fn write(addr: usize, value: u64) {
    // SAFETY: As above.
    unsafe { ptr::with_exposed_provenance_mut::<u64>(addr).write_volatile(value) };
}

/// Milliseconds of a clock that all processes have in common.
pub fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is there to be written to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

pub fn sleep(milliseconds: u64) {
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
}

/// Of this process so far.
pub fn major_faults() -> i64 {
    // SAFETY: All zero is a valid rusage, and it is ours to write to.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage.ru_majflt
    }
}

pub fn thread_id() -> i32 {
    // SAFETY: No preconditions.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

/// Has this thread run on one CPU only.
pub fn run_on(cpu: usize) -> std::io::Result<()> {
    // SAFETY: All zero is an empty set, and `set` is there to be read.
    let ret = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    if ret != 0 {
        return Err(Error::last_os_error());
    }
    Ok(())
}

/// No process may be left when the one that started it is gone.
pub fn die_with_parent() {
    // SAFETY: Touches no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) };
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exit(i32),
    Signal(i32),
}

/// Waits for the child `pid`, or for any if it is -1. `None`: there is none, or with `WNOHANG`, none
/// has ended.
pub fn wait(pid: i32, flags: c_int) -> Option<(i32, End)> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is there to be written to.
        let got = unsafe { libc::waitpid(pid, &mut status, flags) };
        if got > 0 {
            let end = if libc::WIFSIGNALED(status) {
                End::Signal(libc::WTERMSIG(status))
            } else {
                End::Exit(libc::WEXITSTATUS(status))
            };
            return Some((got, end));
        }
        if got == 0 || Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return None;
        }
    }
}
