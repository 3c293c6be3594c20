// SPDX-License-Identifier: GPL-2.0

//! The experiment of the letter that brought MLOCK_ONFAULT (v9, 2015): ways to keep in memory what is
//! used of a large file, at random accesses.
//!
//! Prints `paper<TAB>way<TAB>setup<TAB>processing` in ticks. The file is on tmpfs.

use std::fs::File;
use std::hint::black_box;
use std::io::{Error, Result, Write};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::{c_int, c_void, siginfo_t};

use crate::MIB;
use crate::clock::{Clock, now};
use crate::sys::{
    LOCKED, Map, ONFAULT, allow_vmas, check, in_child, mlock2, page_size, tmpfs_file,
};

/// Bytes of the letter's file, and its accesses.
const FILE: f64 = 5.0 * 1024.0 * 1024.0 * 1024.0;
const ACCESSES: f64 = 15_000_000.0;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Access a large file at random, in the ways of the 2015 letter
#[derive(clap::Args)]
pub struct Options {
    /// Of the letter's size; 1 is 5 GiB and 15 000 000 accesses
    #[arg(long)]
    scale: f64,
    /// The clock counts nanoseconds, not instructions
    #[arg(long)]
    wall: bool,
}

#[derive(Clone, Copy)]
enum Way {
    LockAll,
    LockEachAccess,
    /// The signal handler locks this many pages
    Handler(usize),
    OnFault,
}

pub fn run(options: &Options) -> Result<()> {
    if !options.wall {
        Clock::new().calibrate()?;
    }
    let pages = ((FILE * options.scale) as usize / page_size()).max(16);
    let accesses = (ACCESSES * options.scale) as usize;
    println!("# a file of {pages} pages, {accesses} accesses");
    // A page that is locked alone is a vma of its own, and so is what is between two.
    allow_vmas(2 * pages + 1000)?;
    let file = random_file(pages * page_size())?;
    for (name, way) in [
        ("mlock_all", Way::LockAll),
        ("mlock_each_access", Way::LockEachAccess),
        ("handler_batch_1", Way::Handler(1)),
        ("handler_batch_8", Way::Handler(8)),
        ("handler_batch_16", Way::Handler(16)),
        ("mlock_onfault", Way::OnFault),
    ] {
        in_child(|| {
            let (setup, processing) = experiment(way, &file, pages, accesses)?;
            println!("paper\t{name}\t{setup}\t{processing}");
            Ok(())
        })?;
    }
    Ok(())
}

/// xorshift64*, as good as any for addresses.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

fn random_file(len: usize) -> Result<File> {
    let mut file = tmpfs_file(0)?;
    let mut random = Random(SEED);
    let mut left = len;
    while left > 0 {
        let buffer: Vec<u8> = (0..MIB / 8)
            .flat_map(|_| random.next().to_ne_bytes())
            .collect();
        let n = left.min(buffer.len());
        file.write_all(&buffer[..n])?;
        left -= n;
    }
    Ok(file)
}

/// Ticks of the setup and of the accesses.
fn experiment(way: Way, file: &File, pages: usize, accesses: usize) -> Result<(u64, u64)> {
    let len = pages * page_size();
    let start = now();
    let map = Map::new(len, libc::MAP_SHARED, Some(file))?;
    match way {
        Way::LockAll => check(mlock2(map.all(), LOCKED), "mlock2")?,
        Way::OnFault => check(mlock2(map.all(), ONFAULT), "mlock2")?,
        Way::LockEachAccess => {}
        Way::Handler(batch) => {
            map.protect(libc::PROT_NONE)?;
            handle_faults(batch)?;
        }
    }
    let setup = now() - start;

    let mut random = Random(SEED);
    let each = matches!(way, Way::LockEachAccess);
    let mut failed = 0;
    let start = now();
    for _ in 0..accesses {
        let offset = (random.next() % len as u64) as usize;
        if each {
            failed |= mlock2(map.part(offset / page_size(), 1), LOCKED);
        }
        black_box(map.read(offset));
    }
    let processing = now() - start;
    check(failed, "mlock2")?;
    if FAILED.load(Ordering::Relaxed) != 0 {
        return Err(Error::other("the signal handler could not lock a page"));
    }
    Ok((setup, processing))
}

static BATCH: AtomicUsize = AtomicUsize::new(0);
static FAILED: AtomicUsize = AtomicUsize::new(0);

fn handle_faults(batch: usize) -> Result<()> {
    BATCH.store(batch, Ordering::Relaxed);
    // SAFETY: All zeros is a valid action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_fault as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: The handler makes system calls only.
    let ret = unsafe { libc::sigaction(libc::SIGSEGV, &action, ptr::null_mut()) };
    check(ret.into(), "sigaction")
}

/// Unlocks and locks the page of the fault, for which that is known to be possible; then, without
/// knowing where the mapping ends, the pages after it.
extern "C" fn on_fault(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    let size = page_size();
    // SAFETY: The kernel filled it in, for SIGSEGV with an address.
    let page = unsafe { (*info).si_addr() } as usize & !(size - 1);
    if !admit(page, size) {
        FAILED.store(1, Ordering::Relaxed);
        // SAFETY: Ends the process, which would fault again for ever.
        unsafe { libc::_exit(1) };
    }
    let more = BATCH.load(Ordering::Relaxed) - 1;
    if more > 0 {
        admit(page + size, more * size);
    }
}

fn admit(addr: usize, len: usize) -> bool {
    let addr = addr as *mut c_void;
    // SAFETY: Reading is allowed where it was not; at worst, beyond the mapping.
    unsafe {
        libc::mprotect(addr, len, libc::PROT_READ) == 0 && mlock2((addr.cast(), len), LOCKED) == 0
    }
}
