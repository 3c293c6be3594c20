// SPDX-License-Identifier: GPL-2.0

//! Several CPUs that lock and fault at once.
//!
//! Processes, each with memory of its own and bound to a CPU: what they share is what the kernel
//! shares, that is, the lruvecs and their locks. Says `cpus<TAB>ready`, and for each line on the
//! console it runs one round and prints `cpus<TAB>seconds`, from the start to the end of the last one.

use std::fs::File;
use std::io::{Error, Read, Result, stdin};
use std::mem;
use std::os::fd::FromRawFd;

use crate::MIB;
use crate::clock::now;
use crate::sys::{LOCKED, Map, ONFAULT, check, mlock2, munlock};

const MEMORY: usize = 4 * MIB;

/// Lock and fault on several CPUs at once
#[derive(clap::Args)]
pub struct Options {
    /// How many processes, one on each CPU
    #[arg(long)]
    workers: usize,
    /// How often each of them locks, faults in, unlocks and unmaps 4 MiB
    #[arg(long, default_value_t = 8)]
    times: u32,
}

pub fn run(options: &Options) -> Result<()> {
    round(options)?;
    println!("cpus\tready");
    let mut line = String::new();
    while stdin().read_line(&mut line)? > 0 {
        println!("cpus\t{:.6}", round(options)?);
        line.clear();
    }
    Ok(())
}

fn round(options: &Options) -> Result<f64> {
    let (gate, keeper) = pipe()?;
    let mut children = Vec::new();
    for cpu in 0..options.workers {
        // SAFETY: There is one thread.
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(keeper);
            let done = bind(cpu)
                .and_then(|()| (&gate).read(&mut [0]))
                .and_then(|_| (0..options.times).try_for_each(|_| work()))
                .inspect_err(|e| eprintln!("bench: CPU {cpu}: {e}"));
            // SAFETY: Ends the child.
            unsafe { libc::_exit(if done.is_ok() { 0 } else { 1 }) };
        }
        check(if child < 0 { -1 } else { 0 }, "fork")?;
        children.push(child);
    }
    drop(gate);
    let start = now();
    // The end of the file is what all of them wait for.
    drop(keeper);
    let mut bad = 0;
    for child in children {
        let mut status = 0;
        // SAFETY: `status` is ours to write to.
        unsafe { libc::waitpid(child, &mut status, 0) };
        bad |= status;
    }
    let seconds = (now() - start) as f64 / 1e9;
    match bad {
        0 => Ok(seconds),
        _ => Err(Error::other(format!(
            "a process did not end well (status {bad:#x})"
        ))),
    }
}

/// The two ends of a pipe.
fn pipe() -> Result<(File, File)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` is ours to write to.
    check(unsafe { libc::pipe(ends.as_mut_ptr()) }.into(), "pipe")?;
    // SAFETY: The descriptors are new and nobody else's.
    let ends = ends.map(|fd| unsafe { File::from_raw_fd(fd) });
    let [reader, writer] = ends;
    Ok((reader, writer))
}

fn bind(cpu: usize) -> Result<()> {
    // SAFETY: A set of CPUs is a bitmap, of which zeros are one.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is ours to write to.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: `set` is read.
    let ret = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) };
    check(ret.into(), "sched_setaffinity")
}

fn work() -> Result<()> {
    let map = Map::anon(MEMORY)?;
    check(mlock2(map.all(), ONFAULT), "mlock2")?;
    map.write_all();
    check(munlock(map.all()), "munlock")?;
    check(mlock2(map.all(), LOCKED), "mlock2")
}
