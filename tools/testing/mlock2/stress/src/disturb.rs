// SPDX-License-Identifier: GPL-2.0

//! Processes that make memory short, move it about, and turn CPUs off, until the round is over; and
//! one that does not get to feel that.

use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use libc::c_int;

use mlock2_guest::file::write;

use crate::Args;
use crate::control::{Control, LAST, Op, RUN, STOP, Slot};
use crate::layout::{self, FILL, LIMIT, PAGE, WORKERS};
use crate::machine;
use crate::sys;
use crate::worker;

/// Pages that a batch has room for.
const BATCH: usize = 5;
/// What libc does not have.
const MPOL_MF_MOVE_ALL: c_int = 1 << 2;
const MB: usize = 1 << 20;
/// Pages that one process has locked and uses all the time.
const HELD: usize = 256;
/// Of all pages of a range, those that are asked to be moved.
const MOVED: usize = 64;

fn slot<'a>(args: &Args, control: &'a Control) -> &'a Slot {
    let slot = &control.slots[args.number][0];
    slot.take();
    slot
}

fn result(done: Result<()>) -> Result<(), c_int> {
    done.map_err(|error| {
        let error = error.downcast_ref::<std::io::Error>();
        error.and_then(std::io::Error::raw_os_error).unwrap_or(0)
    })
}

/// Wants more than there is. A child does it, which is the first to be killed.
pub fn fill(args: &Args, control: &Control) -> Result<()> {
    let slot = slot(args, control);
    machine::join(-500)?;
    slot.wait_for(control, RUN);
    while control.is_before(STOP) {
        slot.begin(Op::Fill);
        // SAFETY: There is one thread.
        match unsafe { libc::fork() } {
            -1 => slot.count(Op::Fill, Err::<(), _>(0)),
            0 => {
                sys::die_with_parent();
                fill_once(slot, control)?;
                // SAFETY: No preconditions.
                unsafe { libc::_exit(0) }
            }
            pid => slot.wait_for_child(pid),
        }
    }
    slot.park();
    Ok(())
}

fn fill_once(slot: &Slot, control: &Control) -> Result<()> {
    machine::set_oom_score(1000)?;
    let addr = layout::arena()[0].addr;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: A range of the layout; this process has no use for it.
    unsafe { sys::map_at(addr, FILL, flags, -1, 0) }
        .map_err(std::io::Error::from_raw_os_error)
        .context("cannot map memory to fill")?;
    for from in (0..FILL).step_by(MB) {
        if !control.is_before(STOP) {
            break;
        }
        slot.begin(Op::Fill);
        for at in (from..from + MB).step_by(PAGE) {
            // SAFETY: Mapped above.
            unsafe { sys::write(addr + at, at as u64) };
        }
        slot.count(Op::Fill, Ok(()));
    }
    Ok(())
}

/// Reclaims from the cgroup, by order and by a limit that it is over.
pub fn reclaim(args: &Args, control: &Control) -> Result<()> {
    let slot = slot(args, control);
    let mut rng = Rng::with_seed(args.seed);
    slot.wait_for(control, RUN);
    while control.is_before(STOP) {
        slot.begin(Op::Reclaim);
        slot.count(
            Op::Reclaim,
            machine::GROUP.reclaim((1 + rng.usize(..8)) * MB),
        );
        sys::sleep(30);
        if rng.u32(..8) == 0 {
            // Not for long: who charges more meanwhile is put to sleep for up to two seconds each
            // time.
            slot.begin(Op::High);
            let low = (LIMIT / 4 * 3).to_string();
            slot.count(Op::High, result(machine::GROUP.write("memory.high", &low)));
            sys::sleep(50);
            slot.count(Op::High, result(machine::GROUP.write("memory.high", "max")));
        }
    }
    machine::GROUP.write("memory.high", "max")?;
    slot.park();
    Ok(())
}

/// Has pages moved from one place to another.
pub fn compact(args: &Args, control: &Control) -> Result<()> {
    let slot = slot(args, control);
    let mut rng = Rng::with_seed(args.seed);
    slot.wait_for(control, RUN);
    while control.is_before(STOP) {
        slot.begin(Op::Compact);
        slot.count(
            Op::Compact,
            result(write("/proc/sys/vm/compact_memory", "1")),
        );
        slot.begin(Op::MovePages);
        let worker = rng.usize(..WORKERS);
        let pid = control.workers[worker].load(Relaxed);
        let mut ranges = layout::fixed(worker);
        ranges.extend(layout::arena());
        let range = ranges[rng.usize(..ranges.len())];
        let first = rng.usize(..=range.pages - MOVED);
        let pages: Vec<usize> = (first..first + MOVED).map(|page| range.at(page)).collect();
        let nodes = [rng.i32(0..2); MOVED];
        let mut status = [0 as c_int; MOVED];
        // SAFETY: The arrays have as many elements as it says.
        let moved = unsafe {
            libc::syscall(
                libc::SYS_move_pages,
                pid,
                MOVED,
                pages.as_ptr(),
                nodes.as_ptr(),
                status.as_mut_ptr(),
                MPOL_MF_MOVE_ALL,
            )
        };
        // It says so for each page, too.
        let there = moved >= 0 && status.contains(&nodes[0]);
        slot.count(Op::MovePages, if there { Ok(()) } else { Err(0) });
        sys::sleep(100);
    }
    slot.park();
    Ok(())
}

/// Turns one CPU after the other off and on again.
pub fn hotplug(args: &Args, control: &Control) -> Result<()> {
    let slot = slot(args, control);
    machine::join(-500)?;
    let cpus = machine::spare_cpus();
    let mut rng = Rng::with_seed(args.seed);
    for (_, file) in &cpus {
        write(file, "1")?;
    }
    slot.wait_for(control, RUN);
    while control.is_before(STOP) {
        slot.begin(Op::Hotplug);
        if let Some((_, file)) = rng.choice(&cpus) {
            slot.count(Op::Hotplug, result(write(file, "0")));
            sys::sleep(rng.u64(..200));
            slot.count(Op::Hotplug, result(write(file, "1")));
        }
        sys::sleep(rng.u64(..600));
    }
    slot.wait_for(control, LAST);
    for (cpu, file) in cpus.iter().step_by(2) {
        slot.begin(Op::Hotplug);
        turn_off_with_batch(*cpu, file)?;
    }
    slot.park();
    // What waited in the batches is ours, and is to be looked at. We are killed after that.
    loop {
        sys::sleep(1000);
    }
}

/// Has all its memory locked, and uses it all the time: no page may have to be brought back from swap,
/// which the kernel counts as a major fault.
pub fn hold(args: &Args, control: &Control) -> Result<()> {
    let slot = slot(args, control);
    machine::join(-500)?;
    let (addr, len) = (layout::arena()[0].addr, HELD * PAGE);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: A range of the layout; this process has no other use for it.
    unsafe {
        sys::map_at(addr, len, flags, -1, 0)
            .and_then(|()| sys::call(libc::SYS_mlockall, &[libc::MCL_CURRENT as usize]))
    }
    .map_err(std::io::Error::from_raw_os_error)
    .context("cannot lock all memory")?;
    let use_all = |value| {
        for at in (addr..addr + len).step_by(PAGE) {
            // SAFETY: Mapped above.
            unsafe { sys::write(at, value) };
        }
    };
    use_all(0);
    let before = sys::major_faults();
    slot.wait_for(control, RUN);
    let mut value = 0;
    loop {
        if control.is_before(STOP) {
            slot.begin(Op::Hold);
            slot.count(Op::Hold, Ok(()));
        } else {
            // The others have stopped, but more is reclaimed. We are killed after that.
            slot.park();
        }
        value += 1;
        use_all(value);
        let faults = sys::major_faults() - before;
        ensure!(faults == 0, "{faults} locked pages were brought back");
        sys::sleep(5);
    }
}

/// Leaves some pages in the batch of the CPU before it goes: fewer than it holds, and while nobody
/// else works on it. It stays off until all has been looked at.
fn turn_off_with_batch(cpu: usize, file: &str) -> Result<()> {
    let range = layout::arena()[0];
    let (addr, len) = (range.at(cpu * BATCH), BATCH * PAGE);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: A range of the layout; this process has no other use for it.
    unsafe { sys::map_at(addr, len, flags, -1, 0) }
        .and_then(|()| worker::mlock(addr, len, true))
        .map_err(std::io::Error::from_raw_os_error)
        .context("cannot lock memory to be touched")?;
    sys::run_on(cpu)?;
    for at in (addr..addr + len).step_by(PAGE) {
        // SAFETY: Mapped above.
        unsafe { sys::write(at, 1) };
    }
    sys::run_on(0)?;
    write(file, "0")
}
