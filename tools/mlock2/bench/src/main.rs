// SPDX-License-Identifier: GPL-2.0

//! Measures the mlock family in a guest. `mlock2 bench` on the host boots it and reads what it
//! prints.
//!
//! Under QEMU's `-icount shift=0` the guest's clock counts instructions. Runs as root and in one
//! thread; the programs that it starts are itself.

mod clock;
mod compile;
mod cpus;
mod growth;
mod paper;
mod rows;
mod stream;
mod stress_ng;
mod sweep;
mod sys;

use std::io::Result;
use std::process::ExitCode;

use clap::Parser;

const MIB: usize = 1 << 20;

/// Measures the mlock family in a guest
#[derive(Parser)]
enum Command {
    Rows(rows::Options),
    Sweep(sweep::Options),
    Growth(growth::Options),
    Cpus(cpus::Options),
    Paper(paper::Options),
    /// Measure memory bandwidth
    Stream,
    Compile(compile::Options),
    StressNg(stress_ng::Options),
}

/// Bytes from "4096", "64K", "16M" or "1G"; whole pages.
fn parse_size(text: &str) -> std::result::Result<usize, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((i, 'K' | 'k')) => (&text[..i], 10),
        Some((i, 'M' | 'm')) => (&text[..i], 20),
        Some((i, 'G' | 'g')) => (&text[..i], 30),
        _ => (text, 0),
    };
    let bytes = digits
        .parse::<usize>()
        .ok()
        .and_then(|n| n.checked_mul(1 << shift))
        .filter(|&n| n > 0 && n % sys::page_size() == 0);
    bytes.ok_or_else(|| format!("{text:?}: want whole pages, such as 64K, 16M or 1G"))
}

fn run() -> Result<()> {
    let command = Command::parse();
    // SAFETY: No pointers.
    let ret = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 0, 0, 0, 0) };
    sys::check(ret.into(), "prctl")?;
    sys::limit(libc::RLIM_INFINITY)?;
    match command {
        Command::Rows(options) => rows::run(options),
        Command::Sweep(options) => sweep::run(options),
        Command::Growth(options) => growth::run(&options),
        Command::Cpus(options) => cpus::run(&options),
        Command::Paper(options) => paper::run(&options),
        Command::Stream => stream::run(),
        Command::Compile(options) => compile::run(&options),
        Command::StressNg(options) => stress_ng::run(&options),
    }
}

fn main() -> ExitCode {
    // What fork_exec_exit_plain executes; it is not to measure how options are parsed.
    if std::env::args_os().nth(1).is_some_and(|a| a == "nothing") {
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}
