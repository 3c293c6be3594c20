// SPDX-License-Identifier: GPL-2.0

//! The benchmarks: they boot the C kernel, the Rust one and, where that is given, the one with the
//! best C of tools/mlock2/fair/ with guest programs of tools/mlock2/bench, and put side by side what
//! these print.

mod chart;
mod cpus;
mod growth;
mod host;
mod native;
mod pair;
mod paper;
mod profile;
mod rows;

use std::fs;

use anyhow::{Context, Result};

use crate::boot;
use pair::{Pair, Side};

/// Measure the C kernel and the Rust one
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pair: Pair,
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Rows(rows::Options),
    Sweep(rows::SweepOptions),
    StressNg(rows::StressNgOptions),
    Growth(growth::Options),
    Cpus(cpus::Options),
    Paper(paper::Options),
    Native(native::Options),
    Profile(profile::Options),
}

pub fn run(args: &Args) -> Result<bool> {
    let pair = &args.pair;
    fs::create_dir_all(&pair.out).with_context(|| format!("cannot make {}", pair.out.display()))?;
    if pair.kvm {
        let work = pair.out.join("kvm");
        fs::create_dir_all(&work)?;
        boot::require_kvm(&pair.kernel(Side::C)?, &pair.setup, &work)?;
    }
    match &args.what {
        What::Rows(options) => rows::run(pair, options),
        What::Sweep(options) => rows::sweep(pair, options),
        What::StressNg(options) => rows::stress_ng(pair, options),
        What::Growth(options) => growth::run(pair, options),
        What::Cpus(options) => cpus::run(pair, options),
        What::Paper(options) => paper::run(pair, options),
        What::Native(options) => native::run(pair, options),
        What::Profile(options) => profile::run(pair, options),
    }
}
