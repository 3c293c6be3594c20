// SPDX-License-Identifier: GPL-2.0

//! The experiment of the letter that brought MLOCK_ONFAULT, and its two checks for overhead, beside the
//! figures of 2015.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::chart::{Bars, Group, short};
use super::host::{output, program_files};
use super::pair::{Fields, Pair, Side, number, write};

/// MiB of the letter's file, and for the guest's kernel and programs besides it.
const FILE: f64 = 5.0 * 1024.0;
const SPARE: f64 = 512.0;
/// Seconds for a boot at full scale, and at least.
const FULL: f64 = 24.0 * 3600.0;
const LEAST: f64 = 900.0;

/// What is measured, and the letter's figures: before its patches, where it has that, and with them.
/// The letter's times are in milliseconds, its rates in MB/s.
const ROWS: [(&str, &str, Option<f64>, Option<f64>); 20] = [
    ("mlock_all", "setup", None, Some(8228.666)),
    ("mlock_all", "processing", None, Some(8274.257)),
    ("mlock_each_access", "setup", None, Some(0.113)),
    ("mlock_each_access", "processing", None, Some(90993.552)),
    ("handler_batch_1", "setup", None, Some(0.058)),
    ("handler_batch_1", "processing", None, Some(69488.073)),
    ("handler_batch_8", "setup", None, Some(0.068)),
    ("handler_batch_8", "processing", None, Some(38204.116)),
    ("handler_batch_16", "setup", None, Some(0.044)),
    ("handler_batch_16", "processing", None, Some(29671.180)),
    ("mlock_onfault", "setup", None, Some(0.189)),
    ("mlock_onfault", "processing", None, Some(17904.899)),
    ("stream", "copy", Some(10566.5), Some(10421.0)),
    ("stream", "scale", Some(10685.0), Some(10503.5)),
    ("stream", "add", Some(12044.1), Some(11814.2)),
    ("stream", "triad", Some(12064.8), Some(11846.3)),
    ("compile", "elapsed", Some(78453.0), Some(78991.0)),
    ("compile", "user", Some(64239.5), Some(65235.5)),
    ("compile", "system", Some(9733.5), Some(9708.5)),
    ("compile", "context_switches", Some(22211.5), Some(22412.1)),
];

/// C files of the kernel's tree that compile as they are, for a compile job.
const SOURCES: [&str; 4] = [
    "scripts/basic/fixdep.c",
    "scripts/kallsyms.c",
    "scripts/sorttable.c",
    "usr/gen_init_cpio.c",
];

/// The experiment of the 2015 letter: paper.tsv, paper.svg and paper.png
#[derive(clap::Args)]
pub struct Options {
    /// Of the letter's size; 1 is 5 GiB and 15 000 000 accesses
    #[arg(long, default_value_t = 1.0 / 32.0, value_parser = scale)]
    scale: f64,
    /// The kernel's source, for the compile job
    #[arg(long)]
    linux: PathBuf,
    /// The C compiler, whose cc1 the guest runs
    #[arg(long)]
    cc: String,
}

/// A number, or a fraction such as 1/32.
fn scale(text: &str) -> Result<f64, String> {
    let parse = |text: &str| text.trim().parse::<f64>().ok();
    let value = match text.split_once('/') {
        Some((over, under)) => parse(over).zip(parse(under)).map(|(a, b)| a / b),
        None => parse(text),
    };
    value
        .filter(|s| (1e-4..=1.0).contains(s))
        .ok_or_else(|| format!("{text:?}: want a number from 0.0001 to 1, or 1/32"))
}

pub fn run(pair: &Pair, options: &Options) -> Result<bool> {
    let mut setup = pair.counting();
    setup.mem = (SPARE + options.scale * FILE * 1.1) as u32;
    setup.timeout = (FULL * options.scale).max(LEAST) as u64;
    setup.limit = setup.timeout;
    let wall = pair.clock_option();
    let arguments = format!("paper {wall} --scale {}", options.scale);
    let ways = pair.both(&setup, "paper", &arguments)?;
    let mut setup = pair.counting();
    let stream = pair.both(&setup, "stream", "stream")?;
    setup.files = compile_job(options, &pair.out)?;
    let compile = pair.both(
        &setup,
        "compile",
        "compile --compiler /usr/cc1 --sources /usr/src",
    )?;

    let c = figures([&ways[0], &stream[0], &compile[0]])?;
    let rust = figures([&ways[1], &stream[1], &compile[1]])?;
    let mut groups = Vec::new();
    let mut tsv =
        "experiment\tmeasure\tunit\tc\trust\tratio\tletter_2015_before\tletter_2015\n".to_string();
    let unit_of = |experiment: &str, measure: &str| match (experiment, measure) {
        ("stream", _) => "MB/s",
        (_, "context_switches") => "times",
        _ => "ms",
    };
    println!(
        "{:<18} {:<17} {:<5} {:>12} {:>12} {:>7} {:>12} {:>12}",
        "experiment", "measure", "unit", "C", "Rust", "ratio", "2015 before", "2015"
    );
    for (experiment, measure, before, letter) in ROWS {
        let of = |figures: &HashMap<(String, String), f64>| {
            let key = (experiment.to_string(), measure.to_string());
            let value = figures.get(&key).copied();
            value.with_context(|| format!("the guest did not print {experiment} {measure}"))
        };
        let (c, rust) = (of(&c)?, of(&rust)?);
        // A sample at each timer tick is too coarse for a ratio.
        let sampled = experiment == "compile" && matches!(measure, "user" | "system");
        let ratio = if c > 0.0 && !sampled {
            format!("{:.3}", rust / c)
        } else {
            "-".to_string()
        };
        let unit = unit_of(experiment, measure);
        let show = |v: Option<f64>| v.map_or("-".to_string(), |v| v.to_string());
        println!(
            "{experiment:<18} {measure:<17} {unit:<5} {c:>12.3} {rust:>12.3} {ratio:>7} {:>12} {:>12}",
            show(before),
            show(letter)
        );
        writeln!(
            tsv,
            "{experiment}\t{measure}\t{unit}\t{c:.3}\t{rust:.3}\t{ratio}\t{}\t{}",
            show(before),
            show(letter)
        )?;
        if !sampled {
            let letter = letter.map_or(String::new(), |v| format!(" (2015: {})", short(v)));
            groups.push(Group {
                name: format!("{experiment} {measure}{letter}"),
                values: [c, rust],
                right: ratio,
            });
        }
    }
    println!(
        "scale {}: a file of {:.0} MiB on the guest's tmpfs (there is no disk), {:.0} random accesses; the letter's: 5 GB, 15000000.",
        options.scale,
        options.scale * FILE,
        options.scale * 15e6
    );
    if pair.kvm {
        println!("In wall time, with KVM.");
    } else {
        println!(
            "C and Rust: a millisecond is 10^6 instructions, counted by QEMU; 2015: wall time of another machine.\n\
             Compare the ratios between rows, not the figures. User and system time are sampled at timer ticks, too coarse for a ratio."
        );
    }
    let file = pair.out.join("paper.tsv");
    write(&file, &tsv)?;
    pair.draw("paper", &bars(pair, groups, options.scale))?;
    println!("results: {}; paper.svg, paper.png", file.display());
    Ok(true)
}

fn bars(pair: &Pair, groups: Vec<Group>, scale: f64) -> Bars<'static> {
    Bars {
        title: "The experiment of 2015, in C and in Rust".to_string(),
        notes: format!(
            "At {scale} of the size. Milliseconds of 10^6 {}; stream is in MB/s, where longer is better. Each pair has its own scale.",
            pair.ticks()
        ),
        series: Side::BOTH.map(Side::name),
        right: "Rust / C",
        groups,
    }
}

/// What the three programs printed, in milliseconds and MB/s.
fn figures(programs: [&[Fields]; 3]) -> Result<HashMap<(String, String), f64>> {
    let mut figures = HashMap::new();
    for fields in programs.into_iter().flatten() {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let mut put = |experiment: &str, measure: &str, value| {
            figures.insert((experiment.to_string(), measure.to_string()), value)
        };
        match fields.as_slice() {
            ["paper", way, setup, processing] => {
                put(way, "setup", number(setup)? / 1e6);
                put(way, "processing", number(processing)? / 1e6);
            }
            [experiment @ ("stream" | "compile"), measure, value] => {
                put(experiment, measure, number(value)?);
            }
            _ => {}
        }
    }
    Ok(figures)
}

/// The files of the compile job, as gen_init_cpio takes them: the compiler proper with its libraries,
/// and some C files, preprocessed.
fn compile_job(options: &Options, out: &Path) -> Result<String> {
    let cc1 = output(Command::new(&options.cc).arg("-print-prog-name=cc1"))?;
    let cc1 = Path::new(cc1.trim());
    ensure!(
        cc1.is_file(),
        "{} has no cc1: want a GCC for the compile job",
        options.cc
    );
    let mut files = program_files(cc1, "/usr/cc1")? + "dir /usr/src 755 0 0\n";
    let dir = out.join("sources");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for source in SOURCES {
        let name = Path::new(source).with_extension("i");
        let name = Path::new(name.file_name().context("a source has no name")?);
        let preprocessed = dir.join(name);
        output(
            Command::new(&options.cc)
                .current_dir(&options.linux)
                .args(["-E", "-Iscripts/include", "-Itools/include", source, "-o"])
                .arg(std::path::absolute(&preprocessed)?),
        )?;
        writeln!(
            files,
            "file /usr/src/{} {} 644 0 0",
            name.display(),
            preprocessed.canonicalize()?.display()
        )?;
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales() {
        assert_eq!(scale("1"), Ok(1.0));
        assert_eq!(scale("1/32"), Ok(0.03125));
        for wrong in ["", "0", "2", "1/0", "a/b"] {
            assert!(scale(wrong).is_err(), "{wrong}");
        }
    }
}
