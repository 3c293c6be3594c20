// SPDX-License-Identifier: GPL-2.0

//! How the cost of an operation grows with the memory and with the vmas.

use std::fmt::Write as _;

use anyhow::{Result, ensure};

use super::chart::{Curves, Panel};
use super::pair::{Pair, Side, number, write};

/// MiB for the guest's kernel and programs besides what is locked.
const SPARE: usize = 512;

/// How cost grows: growth.tsv, growth.svg and growth.png
#[derive(clap::Args)]
pub struct Options {
    /// Sizes in pages
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1,16,256,4096,65536,262144"
    )]
    pages: Vec<usize>,
    /// Numbers of vmas, for mlockall and munlockall
    #[arg(long, value_delimiter = ',', default_value = "10,1000,10000,60000")]
    vmas: Vec<usize>,
}

/// The whole operation at one size.
struct Point {
    operation: String,
    unit: String,
    count: f64,
    /// Ticks in all
    c: f64,
    rust: f64,
}

pub fn run(pair: &Pair, options: &Options) -> Result<bool> {
    let join = |list: &[usize]| {
        let list: Vec<String> = list.iter().map(usize::to_string).collect();
        list.join(",")
    };
    let mut setup = pair.counting();
    let largest = options.pages.iter().max().copied().unwrap_or(0);
    setup.mem = (SPARE + largest / 256 * 17 / 16).try_into()?;
    let arguments = format!(
        "growth {} --pages {} --vmas {}",
        pair.clock_option(),
        join(&options.pages),
        join(&options.vmas)
    );
    let [c, rust] = pair.both(&setup, "growth", &arguments)?;

    let mut points = Vec::new();
    for (c, rust) in c.iter().zip(&rust) {
        let ([kind, operation, unit, count, c], [_, same, _, same_count, rust]) =
            (c.as_slice(), rust.as_slice())
        else {
            continue;
        };
        ensure!(
            kind != "growth" || (operation == same && count == same_count),
            "the boots did not print the same rows"
        );
        points.push(Point {
            operation: operation.clone(),
            unit: unit.clone(),
            count: number(count)?,
            c: number(c)?,
            rust: number(rust)?,
        });
    }
    ensure!(!points.is_empty(), "the guest program printed nothing");

    let mut tsv = "operation\tunit\tcount\tc\trust\tratio\n".to_string();
    println!(
        "{:<16} {:>8} {:<5} {:>14} {:>14} {:>12} {:>12} {:>7}",
        "operation", "count", "unit", "C", "Rust", "C each", "Rust each", "ratio"
    );
    points.sort_by(|a, b| a.operation.cmp(&b.operation));
    for Point {
        operation,
        unit,
        count,
        c,
        rust,
    } in &points
    {
        let ratio = rust / c;
        println!(
            "{operation:<16} {count:>8} {unit:<5} {c:>14.0} {rust:>14.0} {:>12.1} {:>12.1} {ratio:>7.3}",
            c / count,
            rust / count
        );
        writeln!(
            tsv,
            "{operation}\t{unit}\t{count}\t{c:.0}\t{rust:.0}\t{ratio:.3}"
        )?;
    }
    println!("{} for the whole operation", pair.ticks());
    let file = pair.out.join("growth.tsv");
    write(&file, &tsv)?;
    pair.draw("growth", &curves(pair, &points))?;
    println!("results: {}; growth.svg, growth.png", file.display());
    Ok(true)
}

/// What an operation costs for each unit, by size. `points` are sorted by operation.
fn curves<'a>(pair: &Pair, points: &'a [Point]) -> Curves<'a> {
    let panel = |chunk: &'a [Point]| {
        let first = chunk.first()?;
        let line = |cost: fn(&Point) -> f64| {
            let each = |p: &Point| (p.count, cost(p) / p.count);
            chunk.iter().map(each).collect()
        };
        Some(Panel {
            title: &first.operation,
            across: format!("{}s", first.unit),
            up: format!("per {}", first.unit),
            lines: [line(|p| p.c), line(|p| p.rust)],
        })
    };
    Curves {
        title: format!(
            "{} by size, in C and in Rust (both axes are logarithmic; where the curve is flat, the whole cost grows with the size)",
            pair.title_ticks()
        ),
        series: Side::BOTH.map(Side::name),
        panels: points
            .chunk_by(|a, b| a.operation == b.operation)
            .filter_map(panel)
            .collect(),
    }
}
