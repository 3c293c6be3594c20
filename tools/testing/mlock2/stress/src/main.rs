// SPDX-License-Identifier: GPL-2.0

//! Locks memory, and does to it at once all that may get in the way: other locks, faults, fork,
//! remapping, reclaim, swap, migration, KSM, huge pages, and CPUs that come and go.
//!
//! The run is made of rounds. In each one, a few processes of several threads work on the same
//! ranges (`worker.rs`), others disturb them (`disturb.rs`), and when all have stopped, a controller
//! that takes no part in it looks at what must hold (`round.rs`, `check.rs`). Everything that was
//! locked in a round goes with it, down to the program's own text: what has to come back to where it
//! was is counted for pages that are freed. Pages that live on may stay unevictable in rare cases,
//! in C as well.
//!
//! To be run as root on a machine that does nothing else. Results are in KTAP.

mod check;
mod control;
mod disturb;
mod layout;
mod machine;
mod round;
mod sys;
mod worker;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use mlock2_guest::proc::page_size;

use crate::check::{Report, Verdict};
use crate::control::Control;
use crate::machine::Machine;
use crate::round::Round;

/// What a process of a round does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Writes what the files and segments that all share hold
    Stamp,
    Worker,
    Fill,
    Reclaim,
    Compact,
    Hotplug,
    Hold,
}

/// Lock memory under pressure from all sides, and check what must hold all the same
#[derive(Clone, Parser)]
pub struct Args {
    /// Seconds for the whole run; the round that is on then is the last one
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seconds that the threads of a round are busy
    #[arg(long, default_value_t = 10)]
    round: u64,
    /// What the sequences of operations are made from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads of each process, at the most 8
    #[arg(long, default_value_t = 3)]
    threads: usize,
    /// Seconds after which an operation hangs
    #[arg(long, default_value_t = 60)]
    watchdog: u64,
    /// What a process of a round does; the program sets it
    #[arg(long, hide = true, value_enum)]
    role: Option<Role>,
    /// Which of them it is
    #[arg(long, hide = true, default_value_t = 0)]
    number: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(role) = args.role {
        return match take_part(&args, role) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("# {role:?} {}: {error:#}", args.number);
                ExitCode::from(2)
            }
        };
    }
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("Bail out! mlock2-stress: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn take_part(args: &Args, role: Role) -> Result<()> {
    sys::die_with_parent();
    let control = Control::map().context("no control memory")?;
    match role {
        Role::Stamp => worker::stamp(control),
        Role::Worker => worker::run(args, control),
        Role::Fill => disturb::fill(args, control),
        Role::Reclaim => disturb::reclaim(args, control),
        Role::Compact => disturb::compact(args, control),
        Role::Hotplug => disturb::hotplug(args, control),
        Role::Hold => disturb::hold(args, control),
    }
}

fn run(args: &Args) -> Result<bool> {
    ensure!(
        (1..=control::THREADS).contains(&args.threads),
        "--threads is to be 1 to {}",
        control::THREADS
    );
    ensure!(
        page_size() == layout::PAGE,
        "this machine's pages have another size than {} bytes",
        layout::PAGE
    );
    println!("KTAP version 1");
    let machine = Machine::set_up()?;
    let start = Instant::now();
    let before = machine.events()?;
    let mut report = Report::default();
    loop {
        let verdict = Round::new(args, &machine, report.rounds).run(&mut report)?;
        report.rounds += 1;
        if verdict == Verdict::Stuck || start.elapsed() >= Duration::from_secs(args.seconds) {
            break;
        }
    }
    let mut idle = machine::NEEDED.to_vec();
    for ((name, old), (_, new)) in before.iter().zip(machine.events()?) {
        println!("# {name}: {}", new - old);
        if new != *old {
            idle.retain(|needed| needed != name);
        }
        if *name == machine::OOM_KILLS {
            report.check_killed(new - old);
        }
    }
    report.check_busy(&idle, &machine::cannot());
    report.check_watched();
    let good = report.print();
    machine.restore();
    Ok(good)
}
