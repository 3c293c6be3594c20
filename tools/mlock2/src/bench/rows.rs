// SPDX-License-Identifier: GPL-2.0

//! What one operation costs, and what each call does, row by row, in C, in Rust and, if there is such
//! a kernel, in the best C. Each kernel is booted twice, and the two boots must agree.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::chart::{Bars, Group};
use super::host::program_files;
use super::pair::{Fields, Pair, Side, number, write};
use crate::boot::Setup;

/// How far two boots may be apart, as a share of the base.
const TOLERANCE: f64 = 0.005;
/// Below this many ticks for each unit, two boots need not agree any closer.
const RESOLUTION: f64 = 1.0;

/// What one operation costs: results.tsv, results.svg and results.png
#[derive(clap::Args)]
pub struct Options {
    /// Options for the guest program, such as --rounds 5 --size 16M --only ROW
    #[arg(last = true)]
    guest: Vec<String>,
}

/// A row of one boot.
pub struct Sample {
    pub name: String,
    pub unit: String,
    pub value: f64,
    /// What the plain operation costs where the value is a difference; otherwise the value
    base: f64,
}

/// A row of the table.
struct Row {
    name: String,
    unit: String,
    /// Ticks for each unit
    c: f64,
    rust: f64,
    fair: Option<f64>,
}

impl Row {
    /// Rust over C, where both cost something.
    fn ratio(&self) -> String {
        over(self.rust, Some(self.c))
    }

    /// Rust over the best C, the same.
    fn ratio_fair(&self) -> String {
        over(self.rust, self.fair)
    }
}

fn over(value: f64, base: Option<f64>) -> String {
    match base {
        // What is a gain on one side or the other has no ratio.
        Some(base) if base > 0.0 && value > 0.0 => format!("{:.3}", value / base),
        _ => "-".to_string(),
    }
}

pub fn run(pair: &Pair, options: &Options) -> Result<bool> {
    let (rows, agree) = measure(pair, &pair.counting(), "rows", &options.guest)?;
    show(&rows, pair.ticks());
    println!("An overhead is what the operation costs more than the plain one.");
    save(pair, &rows, "results.tsv")?;
    pair.draw("results", &bars(pair, &rows))?;
    println!("and results.svg, results.png");
    Ok(agree)
}

fn bars(pair: &Pair, rows: &[Row]) -> Bars<'static> {
    let group = |row: &Row| Group {
        name: format!("{} (per {})", row.name, row.unit),
        values: [row.c, row.rust],
        right: row.ratio(),
    };
    Bars {
        title: format!("The mlock family in C and in Rust: {}", pair.ticks()),
        notes: "Shorter is better. Each pair of bars has its own scale. An overhead below zero is a gain, and has no ratio."
            .to_string(),
        series: Side::BOTH.map(Side::name),
        right: "Rust / C",
        groups: rows.iter().map(group).collect(),
    }
}

/// Every call of the family, with every outcome, the worst first: sweep.tsv
#[derive(clap::Args)]
pub struct SweepOptions {
    /// Options for the guest program, such as --rounds 5 --only munlock
    #[arg(last = true)]
    guest: Vec<String>,
}

pub fn sweep(pair: &Pair, options: &SweepOptions) -> Result<bool> {
    let (mut rows, agree) = measure(pair, &pair.counting(), "sweep", &options.guest)?;
    rows.sort_by(|a, b| (b.rust / b.c).total_cmp(&(a.rust / a.c)));
    show(&rows, pair.ticks());
    save(pair, &rows, "sweep.tsv")?;
    let dearer = |base: fn(&Row) -> Option<f64>| {
        let more =
            |row: &&Row| base(row).is_some_and(|b| row.rust > b * (1.0 + TOLERANCE) + RESOLUTION);
        rows.iter().filter(more).count()
    };
    println!(
        "{} of {} calls are dearer than in C{}",
        dearer(|row| Some(row.c)),
        rows.len(),
        match pair.fair {
            Some(_) => format!(", {} than in the fair C", dearer(|row| row.fair)),
            None => String::new(),
        }
    );
    Ok(agree)
}

/// The stressors of stress-ng with which LKP watches mlock: stress-ng.tsv
#[derive(clap::Args)]
pub struct StressNgOptions {
    /// stress-ng on this machine
    #[arg(long, default_value = "/usr/bin/stress-ng")]
    program: PathBuf,
    /// Options for the guest program, such as --only mlock
    #[arg(last = true)]
    guest: Vec<String>,
}

pub fn stress_ng(pair: &Pair, options: &StressNgOptions) -> Result<bool> {
    const NAME: &str = "/usr/stress-ng";
    let mut setup = pair.counting();
    setup.files = program_files(&options.program, NAME)?;
    let mut guest = vec![format!("--program {NAME}")];
    guest.extend_from_slice(&options.guest);
    let (rows, agree) = measure(pair, &setup, "stress-ng", &guest)?;
    show(&rows, pair.ticks());
    save(pair, &rows, "stress-ng.tsv")?;
    Ok(agree)
}

/// Boots each kernel twice with a program of the guest, and whether the boots agree.
fn measure(
    pair: &Pair,
    setup: &Setup,
    program: &str,
    guest: &[String],
) -> Result<(Vec<Row>, bool)> {
    let arguments = format!("{program} {} {}", pair.clock_option(), guest.join(" "));
    let mut boots = Vec::new();
    for boot in ["first", "second"] {
        let name = format!("{program}-{boot}");
        let printed = pair.on(pair.sides(), setup, &name, &arguments)?;
        let samples: Result<Vec<_>> = printed.iter().map(|lines| samples(lines)).collect();
        boots.push(samples?);
    }
    let (first, second) = (&boots[0], &boots[1]);

    let mut apart = Vec::new();
    let mut rows = Vec::new();
    for (i, c) in first[0].iter().enumerate() {
        let mut values = [0.0; Side::ALL.len()];
        for &side in pair.sides() {
            let of = |boot: &[Vec<Sample>]| -> Result<(f64, f64)> {
                let sample = boot[side as usize].get(i).filter(|s| s.name == c.name);
                let sample = sample.context("the boots did not print the same rows")?;
                Ok((sample.value, sample.base))
            };
            let ((one, base), (two, _)) = (of(first)?, of(second)?);
            values[side as usize] = (one + two) / 2.0;
            let most = allowed(one, base);
            if (one - two).abs() > most {
                apart.push(format!(
                    "{}: two boots of the {} kernel are {:.2} apart, more than {most:.2}: {one:.2} and {two:.2}",
                    c.name,
                    side.name(),
                    (one - two).abs(),
                ));
            }
        }
        rows.push(Row {
            name: c.name.clone(),
            unit: c.unit.clone(),
            c: values[Side::C as usize],
            rust: values[Side::Rust as usize],
            fair: pair.fair.as_ref().map(|_| values[Side::Fair as usize]),
        });
    }
    ensure!(!rows.is_empty(), "the guest program printed no rows");

    for line in &apart {
        println!("bench: {}{line}", if pair.kvm { "" } else { "error: " });
    }
    // Nothing else on the machine changes the count of instructions; it does change the time.
    Ok((rows, apart.is_empty() || pair.kvm))
}

fn show(rows: &[Row], ticks: &str) {
    let fair = rows.iter().any(|row| row.fair.is_some());
    let title = format!("{:<34} {:<8} {:>10}", "operation", "unit", "C");
    match fair {
        true => println!(
            "{title} {:>10} {:>10} {:>8} {:>11}",
            "fair C", "Rust", "Rust/C", "Rust/fair C"
        ),
        false => println!("{title} {:>10} {:>8}", "Rust", "Rust/C"),
    }
    for row in rows {
        let Row {
            name,
            unit,
            c,
            rust,
            ..
        } = row;
        let ratio = row.ratio();
        let line = format!("{name:<34} {unit:<8} {c:>10.1}");
        match row.fair {
            Some(fair) => println!(
                "{line} {fair:>10.1} {rust:>10.1} {ratio:>8} {:>11}",
                row.ratio_fair()
            ),
            None => println!("{line} {rust:>10.1} {ratio:>8}"),
        }
    }
    println!("{ticks} for each unit; the mean of two boots.");
}

fn save(pair: &Pair, rows: &[Row], name: &str) -> Result<()> {
    let mut tsv = "operation\tunit\tc\trust\tratio\tfair\tratio_fair\n".to_string();
    for row in rows {
        let fair = row
            .fair
            .map_or("-".to_string(), |fair| format!("{fair:.1}"));
        writeln!(
            tsv,
            "{}\t{}\t{:.1}\t{:.1}\t{}\t{fair}\t{}",
            row.name,
            row.unit,
            row.c,
            row.rust,
            row.ratio(),
            row.ratio_fair()
        )?;
    }
    let file = pair.out.join(name);
    write(&file, &tsv)?;
    println!("results: {}", file.display());
    Ok(())
}

pub fn samples(lines: &[Fields]) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for fields in lines {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        if let ["row", name, unit, value, base] = fields.as_slice() {
            samples.push(Sample {
                name: name.to_string(),
                unit: unit.to_string(),
                value: number(value)?,
                base: number(base)?,
            });
        }
    }
    Ok(samples)
}

/// How far two boots may be apart in a row.
///
/// A cost must be the same within 0.5 %. A difference of two costs has the errors of both, however
/// small it is itself, so that the plain cost is the base; but since that one is mostly page clearing,
/// 0.5 % of it would let a difference pass that is nothing but error. So a difference must be the same
/// within 0.5 % of the plain cost and, where that is stricter, within one tick or 0.5 % of itself,
/// whichever is more.
fn allowed(value: f64, base: f64) -> f64 {
    let own = TOLERANCE * value.abs();
    if value == base {
        return own;
    }
    own.max(RESOLUTION).min(TOLERANCE * base.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios() {
        assert_eq!(over(5.0, Some(10.0)), "0.500");
        for (value, base) in [
            (-5.0, Some(10.0)),
            (-5.0, Some(-10.0)),
            (5.0, Some(0.0)),
            (5.0, None),
        ] {
            assert_eq!(over(value, base), "-");
        }
    }

    #[test]
    fn tolerances() {
        assert_eq!(allowed(1000.0, 1000.0), 5.0);
        assert_eq!(allowed(10.0, 6000.0), 1.0);
        assert_eq!(allowed(-600.0, 6000.0), 3.0);
        assert_eq!(allowed(10.0, 100.0), 0.5);
    }
}
