// SPDX-License-Identifier: GPL-2.0

//! What one operation costs, row by row, in C and in Rust. Each kernel is booted twice, and the two
//! boots must agree.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use super::{Fields, Pair, Side, chart, number, write};

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
struct Sample {
    name: String,
    unit: String,
    value: f64,
    /// What the plain operation costs where the value is a difference; otherwise the value
    base: f64,
}

/// A row of the table.
pub struct Row {
    pub name: String,
    pub unit: String,
    /// Ticks for each unit
    pub c: f64,
    pub rust: f64,
}

impl Row {
    /// Rust over C, where that says something.
    pub fn ratio(&self) -> String {
        if self.c > 0.0 {
            format!("{:.3}", self.rust / self.c)
        } else {
            "-".to_string()
        }
    }
}

pub fn run(pair: &Pair, options: &Options) -> Result<bool> {
    let setup = pair.counting();
    let arguments = format!("rows {} {}", pair.clock_option(), options.guest.join(" "));
    let mut boots = Vec::new();
    for boot in ["first", "second"] {
        let name = format!("rows-{boot}");
        let [c, rust] = pair.both(&setup, &name, &arguments)?;
        boots.push([samples(&c)?, samples(&rust)?]);
    }
    let (first, second) = (&boots[0], &boots[1]);

    let mut apart = Vec::new();
    let mut rows = Vec::new();
    for (i, c) in first[0].iter().enumerate() {
        let mut values = [0.0; 2];
        for side in Side::BOTH {
            let of = |boot: &[Vec<Sample>; 2]| -> Result<(f64, f64)> {
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
            c: values[0],
            rust: values[1],
        });
    }
    ensure!(!rows.is_empty(), "the guest program printed no rows");

    let mut tsv = "operation\tunit\tc\trust\tratio\n".to_string();
    println!(
        "{:<30} {:<8} {:>10} {:>10} {:>8}",
        "operation", "unit", "C", "Rust", "ratio"
    );
    for row in &rows {
        let Row {
            name,
            unit,
            c,
            rust,
        } = row;
        let ratio = row.ratio();
        println!("{name:<30} {unit:<8} {c:>10.1} {rust:>10.1} {ratio:>8}");
        writeln!(tsv, "{name}\t{unit}\t{c:.1}\t{rust:.1}\t{ratio}")?;
    }
    println!(
        "{} for each unit; the mean of two boots. An overhead is what the operation costs more than the plain one.",
        pair.ticks()
    );
    let file = pair.out.join("results.tsv");
    write(&file, &tsv)?;
    chart::rows(pair, &rows)?;
    println!("results: {}; results.svg, results.png", file.display());

    for line in &apart {
        println!("bench: {}{line}", if pair.kvm { "" } else { "error: " });
    }
    // Nothing else on the machine changes the count of instructions; it does change the time.
    Ok(apart.is_empty() || pair.kvm)
}

fn samples(lines: &[Fields]) -> Result<Vec<Sample>> {
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
    fn tolerances() {
        assert_eq!(allowed(1000.0, 1000.0), 5.0);
        assert_eq!(allowed(10.0, 6000.0), 1.0);
        assert_eq!(allowed(-600.0, 6000.0), 3.0);
        assert_eq!(allowed(10.0, 100.0), 0.5);
    }
}
