// SPDX-License-Identifier: GPL-2.0

//! Stressors of stress-ng with which LKP watches mlock. In place of a time they get a number of
//! operations, so that both boots of a kernel do the same. LKP's mlockmany is left out: it counts
//! forks, while its children lock as much as they get to.
//!
//! Prints lines as `rows` does: what one of stress-ng's operations takes.

use std::fs;
use std::io::{Error, Result};
use std::process::Command;

use crate::clock::Clock;
use crate::sys;

/// RLIMIT_MEMLOCK in bytes. The stressor of mlock() makes a table of the hard limit's size or more,
/// and populates it by mlockall().
const LIMIT: u64 = 256 << 10;
/// Stressors and how many operations of each to run: locks of one to three pages; and pages that
/// remap_file_pages() maps in another order, and that are then locked and unlocked one by one.
const STRESSORS: [(&str, u32); 2] = [("mlock", 8000), ("remap", 20)];
const RESULTS: &str = "/tmp/stress-ng.yaml";

/// Measure stressors of stress-ng
#[derive(clap::Args)]
pub struct Options {
    /// Take time for what it is, not for instructions
    #[arg(long)]
    wall: bool,
    /// The stress-ng to run
    #[arg(long)]
    program: String,
    /// Only this stressor
    #[arg(long)]
    only: Option<String>,
}

pub fn run(options: &Options) -> Result<()> {
    if !options.wall {
        Clock::new().calibrate()?;
    }
    sys::limits(LIMIT, LIMIT)?;
    for (stressor, operations) in STRESSORS {
        if options.only.as_deref().is_some_and(|only| only != stressor) {
            continue;
        }
        // What the last one left is not to be taken for the next one's.
        let _ = fs::remove_file(RESULTS);
        let output = Command::new(&options.program)
            .args(["--no-rand-seed", "--verify", "--metrics", "--pathological"])
            .args(["--temp-path", "/tmp", "--yaml", RESULTS])
            .args([format!("--{stressor}"), "1".to_string()])
            .args([format!("--{stressor}-ops"), operations.to_string()])
            .output()
            .map_err(|e| Error::other(format!("{}: {e}", options.program)))?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(Error::other(format!("stress-ng --{stressor}: {errors}")));
        }
        let yaml = fs::read_to_string(RESULTS)?;
        let nanoseconds = of(&yaml, "wall-clock-time")? * 1e9 / of(&yaml, "bogo-ops")?;
        println!("row\tstress_ng_{stressor}\tbogo-op\t{nanoseconds:.1}\t{nanoseconds:.1}");
    }
    Ok(())
}

/// The value of a key that has just one.
fn of(yaml: &str, key: &str) -> Result<f64> {
    yaml.lines()
        .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(':'))
        .and_then(|value| value.trim().parse::<f64>().ok())
        .filter(|&value| value > 0.0)
        .ok_or_else(|| Error::other(format!("stress-ng did not say its {key}")))
}
