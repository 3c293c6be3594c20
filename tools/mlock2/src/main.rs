// SPDX-License-Identifier: GPL-2.0

//! Boots a kernel in QEMU, runs a plan of tests in it and reports.

#[cfg(feature = "bench")]
mod bench;
mod boot;
mod console;
mod coverage;
mod ktap;
mod mutants;
mod results;
mod uapi;

use std::process::ExitCode;

use clap::Parser;

/// Boots a kernel in QEMU, runs a plan of tests in it and reports
///
/// The exit status is 0 only if all that ran passed and nothing was skipped; it is 1 if not, and 2
/// if it could not be tried.
#[derive(Parser)]
enum Command {
    Boot(Box<boot::Args>),
    #[cfg(feature = "bench")]
    Bench(Box<bench::Args>),
    Coverage(coverage::Args),
    Mutants(Box<mutants::Args>),
    Report(results::ReportArgs),
    Record(results::RecordArgs),
    Uapi(uapi::Args),
}

fn main() -> ExitCode {
    let good = match Command::parse() {
        Command::Boot(args) => boot::run(&args),
        #[cfg(feature = "bench")]
        Command::Bench(args) => bench::run(&args),
        Command::Coverage(args) => coverage::run(&args),
        Command::Mutants(args) => mutants::run(&args),
        Command::Report(args) => results::report(&args),
        Command::Record(args) => results::record(&args).map(|()| true),
        Command::Uapi(args) => uapi::run(&args),
    };
    match good {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("mlock2: error: {error:#}");
            ExitCode::from(2)
        }
    }
}
