// SPDX-License-Identifier: GPL-2.0

//! Runs sequences of operations and says what user space can see after each one.
//!
//! The driver starts a worker, this program again, for each sequence, asks it for one operation
//! after the other, and looks at it from outside. One line for each sequence:
//!
//! ```text
//! case NAME OPERATIONS DIGEST
//! ```
//!
//! with four digits for all that was seen up to each operation, and 16 for the end. A sequence whose
//! allocations are to fail is run once for each of them, as NAME#1, NAME#2, ..., until none was left
//! to fail; then comes
//!
//! ```text
//! allocations NAME COUNT
//! ```
//!
//! and "left NAME#N WHAT" after a run that did not bring back what was locked. In a trace, there
//! is a line "op N TEXT -> RESULT" for each operation before that, and each line that is seen then
//! and was not before ("+ ..."), or the other way around ("- ...").

mod arch;
mod control;
mod driver;
mod inject;
mod observe;
mod sys;
mod tally;
mod worker;

use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done: Result<()> = match words.as_slice() {
        [worker::ARGUMENT, number, rest @ ..] => number
            .parse()
            .context("which worker?")
            .and_then(|number| Ok(worker::run(number, !rest.is_empty())?))
            .map(|never| match never {}),
        [file] => driver::run(file),
        _ => Err(anyhow!(
            "usage: mlock2-diff-guest JOB; mlock2-diff starts it"
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("mlock2-diff-guest: error: {error:#}");
            ExitCode::from(2)
        }
    }
}
