// SPDX-License-Identifier: GPL-2.0

//! Boots a kernel with a plan of programs, watches the console and judges.

mod accel;
mod initramfs;
mod judge;
mod machine;
mod plan;
mod setup;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::results::{self, Sum};

use accel::{Chosen, Probe};
use judge::Session;
use machine::Ending;

#[cfg(feature = "bench")]
pub use accel::require_kvm;
#[cfg(feature = "bench")]
pub use machine::Event;
pub use machine::{Machine, prepare};
pub use plan::Plan;
#[cfg(feature = "bench")]
pub use setup::Accel;
pub use setup::{Kernel, Setup};

/// Boot a kernel, run a plan of programs in it, and judge
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    kernel: Kernel,
    #[command(flatten)]
    setup: Setup,
    /// What to run: lines of "name root|nobody program args..."
    #[arg(long)]
    plan: PathBuf,
    /// Where the initramfs, the logs and results.tsv go
    #[arg(long)]
    work: PathBuf,
    /// What to call this kernel in the results
    #[arg(long)]
    name: String,
    /// Run only this entry of the plan; may be given several times
    #[arg(long)]
    only: Vec<String>,
    /// What this architecture does not have, by the words with which a case is skipped for it,
    /// separated by '|'. Such a case is not there, rather than skipped
    #[arg(long, default_value = "", value_delimiter = '|')]
    absent: Vec<String>,
}

pub fn run(args: &Args) -> Result<bool> {
    let plan = Plan::read(&args.plan, &args.only)?;
    fs::create_dir_all(&args.work)
        .with_context(|| format!("cannot make {}", args.work.display()))?;
    let work = args.work.canonicalize()?;
    let results = work.join("results.tsv");
    if results.exists() {
        // No old verdict may stand if this boot comes to none.
        fs::remove_file(&results)?;
    }

    println!("{}: booting {}", args.name, args.kernel.image.display());
    let probe = Probe::new(&args.setup, &work);
    let accel = accel::choose(&args.kernel, &args.setup, &args.name, &work, &probe)?;
    println!("{}: running with {accel}", args.name);

    let start = Instant::now();
    let mut session = Session::new(
        &args.name,
        &args.kernel.image,
        &args.setup,
        &args.absent,
        &plan,
        &work,
    );
    let guest = prepare(&args.kernel, &args.setup, &work, &plan, accel.name())?;
    let machine = Machine::start(guest, &work, args.setup.verbose)?;
    let (ending, counters) = machine.watch(&args.setup, &mut |line| session.line(line))?;
    let rows = session.finish(ending, &counters, start.elapsed().as_secs_f64());
    if matches!(accel, Chosen::Failed(_)) && ending == Ending::Done {
        // Only now is it known that KVM, not the kernel, was to blame.
        probe.store("tcg");
    }

    results::write(&results, &rows)?;
    println!();
    results::print_table(&rows);
    println!();
    let sum = Sum::of(&rows);
    let verdict = if sum.good() { "PASS" } else { "FAIL" };
    println!("{}: {verdict}: {sum}; logs: {}", args.name, work.display());
    Ok(sum.good())
}
