// SPDX-License-Identifier: GPL-2.0

//! How the cost of an operation grows with the memory, or with the vmas.
//!
//! Prints `growth<TAB>operation<TAB>unit<TAB>count<TAB>cost` for each size: the cost is that of the
//! whole operation, the median of the rounds.

use std::io::Result;

use crate::clock::{Clock, median};
use crate::sys::{LOCKED, Map, ONFAULT, check, mlock2, mlockall, munlock, munlockall, page_size};

/// So many pages in all rounds of one size together, if that makes a round at all.
const PAGES_IN_ALL: usize = 1 << 14;
const VMAS_IN_ALL: usize = 1 << 14;
const MOST_ROUNDS: usize = 31;

/// Measure how cost grows
#[derive(clap::Args)]
pub struct Options {
    /// Sizes in pages
    #[arg(long, value_delimiter = ',', required = true)]
    pages: Vec<usize>,
    /// Numbers of vmas, for mlockall and munlockall
    #[arg(long, value_delimiter = ',', required = true)]
    vmas: Vec<usize>,
    /// The clock counts nanoseconds, not instructions
    #[arg(long)]
    wall: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let clock = Clock::new();
    if !options.wall {
        clock.calibrate()?;
    }
    for &pages in &options.pages {
        by_page(&clock, pages)?;
    }
    for &vmas in &options.vmas {
        by_vma(&clock, vmas)?;
    }
    Ok(())
}

/// An odd number of rounds, and a cold one before them where there are more than one.
fn rounds(in_all: usize, each: usize) -> usize {
    (in_all / each.max(1)).clamp(1, MOST_ROUNDS) | 1
}

fn report(operation: &str, unit: &str, count: usize, costs: &[f64]) {
    let warm = if costs.len() > 1 { &costs[1..] } else { costs };
    println!("growth\t{operation}\t{unit}\t{count}\t{:.0}", median(warm));
}

fn by_page(clock: &Clock, pages: usize) -> Result<()> {
    let [mut touch, mut unlock, mut lock, mut unmap] = [const { Vec::new() }; 4];
    let scratch = Map::anon(page_size())?;
    scratch.write_all();
    for _ in 0..rounds(PAGES_IN_ALL, pages) {
        let map = Map::anon(pages * page_size())?;
        let mut ret = mlock2(map.all(), ONFAULT);
        // What the last round has left in the kernel's batches is not this round's cost: a call
        // that finds pages to lock works on it first.
        ret |= mlock2(scratch.all(), LOCKED) | munlock(scratch.all());
        touch.push(clock.time(|| map.write_all()));
        unlock.push(clock.time(|| ret |= munlock(map.all())));
        lock.push(clock.time(|| ret |= mlock2(map.all(), LOCKED)));
        unmap.push(clock.time(|| map.unmap()));
        check(ret, "mlock2 or munlock")?;
    }
    report("mlock_resident", "page", pages, &lock);
    report("munlock", "page", pages, &unlock);
    report("onfault_touch", "page", pages, &touch);
    report("munmap_locked", "page", pages, &unmap);
    Ok(())
}

fn by_vma(clock: &Clock, vmas: usize) -> Result<()> {
    let map = Map::anon(2 * vmas * page_size())?;
    map.punch_every_other_page()?;
    let [mut lock, mut unlock] = [const { Vec::new() }; 2];
    for _ in 0..rounds(VMAS_IN_ALL, vmas) {
        let mut ret = 0;
        lock.push(clock.time(|| ret |= mlockall(libc::MCL_CURRENT | libc::MCL_ONFAULT)));
        unlock.push(clock.time(|| ret |= munlockall()));
        check(ret, "mlockall or munlockall")?;
    }
    report("mlockall", "vma", vmas, &lock);
    report("munlockall", "vma", vmas, &unlock);
    Ok(())
}
