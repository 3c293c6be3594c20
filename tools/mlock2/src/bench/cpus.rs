// SPDX-License-Identifier: GPL-2.0

//! Several CPUs that lock and fault at once, in wall time. Machines with both kernels are up at the
//! same time and take turns, so that what else goes on meets both.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::pair::{Guest, Pair, Progress, Side, number, write};
use crate::boot::{self, Setup};

/// How long a boot may take, and one round.
const BOOT: Duration = Duration::from_secs(60);
const ROUND: Duration = Duration::from_secs(180);
/// How often a boot is tried.
const TRIES: u32 = 3;

/// Several CPUs at once, in wall time: cpus.tsv
#[derive(clap::Args)]
pub struct Options {
    /// Numbers of CPUs
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8",
          value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: Vec<u32>,
    /// Pairs of rounds for each number
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: u32,
    /// How often each CPU locks, faults in, unlocks and unmaps 4 MiB in a round
    #[arg(long, default_value_t = 8)]
    times: u32,
}

pub fn run(pair: &Pair, options: &Options) -> Result<bool> {
    let mut tsv =
        "cpus\tpairs\tc_seconds\trust_seconds\tratio_median\tratio_q1\tratio_q3\tratio_min\tratio_max\n"
            .to_string();
    let mut table = format!(
        "{:>4} {:>6} {:>10} {:>10} {:>8} {:>15} {:>15}\n",
        "CPUs", "pairs", "C", "Rust", "ratio", "quartiles", "min..max"
    );
    for &cpus in &options.cpus {
        let [c, rust] = measure(pair, options, cpus)?;
        let ratios: Vec<f64> = c.iter().zip(&rust).map(|(c, rust)| rust / c).collect();
        let [c, rust, ratio] = [&c, &rust, &ratios].map(|v| quantile(v, 0.5));
        let [q1, q3, min, max] = [0.25, 0.75, 0.0, 1.0].map(|q| quantile(&ratios, q));
        let pairs = options.pairs;
        writeln!(
            table,
            "{cpus:>4} {pairs:>6} {c:>9.3}s {rust:>9.3}s {ratio:>8.3} {q1:>7.3} {q3:>7.3} {min:>7.3} {max:>7.3}"
        )?;
        writeln!(
            tsv,
            "{cpus}\t{pairs}\t{c:.4}\t{rust:.4}\t{ratio:.3}\t{q1:.3}\t{q3:.3}\t{min:.3}\t{max:.3}"
        )?;
    }
    let host = thread::available_parallelism()?;
    print!("{table}");
    println!(
        "wall time, on a machine that others may use: medians of rounds by turns; the ratio is that of each pair.\n\
         Each CPU has a process with memory of its own: they meet at the lruvecs, not at one mm.\n\
         This host has {host} CPUs: with more than that, virtual CPUs wait for each other, also for one that \
         holds a lock and does not run."
    );
    let file = pair.out.join("cpus.tsv");
    write(&file, &tsv)?;
    println!("results: {}", file.display());
    Ok(true)
}

/// Seconds of each round on the C kernel and on the Rust one.
fn measure(pair: &Pair, options: &Options, cpus: u32) -> Result<[Vec<f64>; 2]> {
    let mut setup = pair.setup.clone();
    setup.accel = if pair.kvm {
        boot::Accel::Kvm
    } else {
        boot::Accel::Tcg
    };
    setup.cpus = cpus;
    if !pair.kvm {
        // The kernel's check of the clocks by each other takes a busy host for a bad clock.
        setup.append = format!("{} {}", setup.append, pair.append_icount);
    }
    let arguments = format!("cpus --workers {cpus} --times {}", options.times);
    let name = format!("cpus-{cpus}");
    let progress = Progress::new(&name);
    let mut guests = Vec::new();
    for side in Side::BOTH {
        progress.show(side, "booting");
        guests.push(boot_one(pair, side, &setup, &name, &arguments)?);
    }
    let mut seconds = [Vec::new(), Vec::new()];
    for round in 0..options.pairs {
        let mut order = Side::BOTH;
        if round % 2 == 1 {
            order.reverse();
        }
        for side in order {
            progress.show(side, &format!("round {} of {}", round + 1, options.pairs));
            let guest = &mut guests[side as usize];
            guest.deadline = Instant::now() + ROUND;
            guest.machine.send("")?;
            seconds[side as usize].push(number(&answer(guest)?)?);
        }
    }
    progress.end();
    guests.into_iter().for_each(|guest| guest.machine.stop());
    Ok(seconds)
}

/// A machine that is ready for a round. An emulated one with several CPUs now and then stops in early
/// boot when its host is busy, whichever the kernel; it gets other tries.
fn boot_one(pair: &Pair, side: Side, setup: &Setup, name: &str, arguments: &str) -> Result<Guest> {
    let mut tries = 1;
    loop {
        let mut guest = pair.start(side, setup, name, arguments)?;
        guest.deadline = Instant::now() + BOOT;
        match answer(&mut guest) {
            Ok(text) if text == "ready" => return Ok(guest),
            Ok(text) => bail!("the guest program is not ready: {text:?}"),
            Err(error) if tries < TRIES && !guest.begun => {
                println!("{name}: {error:#}\n{name}: trying again ({tries} of {TRIES})");
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

fn answer(guest: &mut Guest) -> Result<String> {
    while let Some(line) = guest.line()? {
        if let Some(text) = line.strip_prefix("cpus\t") {
            return Ok(text.to_string());
        }
    }
    bail!("the guest program ended too early");
}

/// The value below which this share of the values lies, between two of them if need be.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut v = values.to_vec();
    v.sort_by(f64::total_cmp);
    let at = share * (v.len() - 1) as f64;
    let (low, high) = (v[at.floor() as usize], v[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let v = [3.0, 1.0, 2.0, 4.0];
        assert_eq!(quantile(&v, 0.0), 1.0);
        assert_eq!(quantile(&v, 0.5), 2.5);
        assert_eq!(quantile(&v, 1.0), 4.0);
    }
}
