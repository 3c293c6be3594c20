// SPDX-License-Identifier: GPL-2.0

//! What one operation takes on this machine itself: the kernels are programs (User-Mode Linux), which
//! run one after the other, again and again, so that what else the machine does meets all of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use super::cpus::quantile;
use super::pair::{Pair, Side, write};
use super::rows;

/// Nanoseconds of each operation, with kernels of ARCH=um: native.tsv
#[derive(clap::Args)]
pub struct Options {
    /// How often each kernel runs
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(3..=1000))]
    runs: u32,
    /// What the results are called
    #[arg(long, default_value = "native")]
    name: String,
    /// Options for the guest program, such as --rounds 5 --size 16M --only ROW
    #[arg(last = true)]
    guest: Vec<String>,
}

/// A row: its name and unit, and what each run of each kernel took.
struct Row {
    name: String,
    unit: String,
    runs: BTreeMap<&'static str, Vec<f64>>,
}

pub fn run(pair: &Pair, options: &Options) -> Result<bool> {
    let setup = pair.native();
    let arguments = format!("rows --wall {}", options.guest.join(" "));
    let sides = pair.sides();
    let mut all: Vec<Row> = Vec::new();
    for run in 0..options.runs as usize {
        // Each of them is first, second and last as often as the others.
        for i in 0..sides.len() {
            let side = sides[(run + i) % sides.len()];
            let name = format!("native-{}-of-{}", run + 1, options.runs);
            let printed = pair.on(&[side], &setup, &name, &arguments)?;
            for (i, sample) in rows::samples(&printed[0])?.into_iter().enumerate() {
                if i == all.len() {
                    all.push(Row {
                        name: sample.name.clone(),
                        unit: sample.unit,
                        runs: BTreeMap::new(),
                    });
                }
                ensure!(
                    all[i].name == sample.name,
                    "the runs did not print the same rows"
                );
                let runs = all[i].runs.entry(side.tag()).or_default();
                runs.push(sample.value);
            }
        }
    }
    ensure!(!all.is_empty(), "the guest program printed no rows");

    let head = "operation\tunit\tkernel\tnanoseconds\tlower quartile\tupper quartile\truns";
    let mut tsv = format!("{head}\tthis over C: median\tlower quartile\tupper quartile\n");
    println!(
        "{:<32} {:<8} {:<7} {:>10} {:>21}   {:>7} {:>15}",
        "operation", "unit", "kernel", "ns", "quartiles", "over C", "quartiles"
    );
    for row in &all {
        let c = row.runs.get(Side::C.tag()).context("no run of the C")?;
        for side in sides {
            let runs = row.runs.get(side.tag()).context("no run of a kernel")?;
            let [low, middle, high] = quartiles(runs);
            // Those that ran one after the other are a pair.
            let ratios: Vec<f64> = runs.iter().zip(c).map(|(run, c)| run / c).collect();
            let over = quartiles(&ratios);
            let (name, unit, n) = (&row.name, &row.unit, runs.len());
            let kernel = side.name();
            // Next to nothing, or less, on one side or the other has no ratio.
            let ratio = if quartiles(c)[0] > 0.0 && low > 0.0 {
                format!("{:.3}\t{:.3}\t{:.3}", over[1], over[0], over[2])
            } else {
                "-\t-\t-".to_string()
            };
            writeln!(
                tsv,
                "{name}\t{unit}\t{kernel}\t{middle:.1}\t{low:.1}\t{high:.1}\t{n}\t{ratio}"
            )?;
            let ratio: Vec<&str> = ratio.split('\t').collect();
            println!(
                "{name:<32} {unit:<8} {kernel:<7} {middle:>10.1} {low:>10.1} {high:>10.1}   {:>7} {:>7} {:>7}",
                ratio[0], ratio[1], ratio[2]
            );
        }
    }
    println!(
        "Nanoseconds for each unit: the median of {} runs of each kernel.",
        options.runs
    );
    let file = pair.out.join(format!("{}.tsv", options.name));
    write(&file, &tsv)?;
    println!("results: {}", file.display());
    Ok(true)
}

fn quartiles(values: &[f64]) -> [f64; 3] {
    [0.25, 0.5, 0.75].map(|share| quantile(values, share))
}
