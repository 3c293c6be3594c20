// SPDX-License-Identifier: GPL-2.0

//! A job of the kind that kernels are built with: a real compiler, one process for each file.
//!
//! Prints `compile<TAB>measure<TAB>value`: the time that passed, the user's and the kernel's part of it in
//! milliseconds, and the context switches.

use std::fs;
use std::io::{Error, Result};
use std::mem::MaybeUninit;
use std::process::{Command, Stdio};

use crate::clock::now;
use crate::sys::check;

/// Compile every file of a directory
#[derive(clap::Args)]
pub struct Options {
    /// The compiler proper
    #[arg(long)]
    compiler: String,
    /// Where the preprocessed files are
    #[arg(long)]
    sources: String,
}

pub fn run(options: &Options) -> Result<()> {
    let mut sources: Vec<_> = fs::read_dir(&options.sources)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_>>()?;
    sources.sort();
    // The first one only warms up, and is not counted.
    let Some(first) = sources.first() else {
        return Err(Error::other("no files to compile"));
    };
    compile(options, first)?;
    let before = usage()?;
    let start = now();
    for source in &sources {
        compile(options, source)?;
    }
    let elapsed = (now() - start) as f64 / 1e6;
    let after = usage()?;
    println!("compile\telapsed\t{elapsed:.3}");
    for (name, i) in [("user", 0), ("system", 1), ("context_switches", 2)] {
        println!("compile\t{name}\t{:.3}", after[i] - before[i]);
    }
    Ok(())
}

fn compile(options: &Options, source: &std::path::Path) -> Result<()> {
    let output = Command::new(&options.compiler)
        .args(["-quiet", "-fpreprocessed", "-O1", "-o", "/tmp/out.s"])
        .arg(source)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Error::other(format!("{}: {e}", options.compiler)))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(Error::other(format!(
        "{} {}: {}",
        options.compiler,
        source.display(),
        errors.lines().next().unwrap_or("failed")
    )))
}

/// What the children used: milliseconds of the user and of the kernel, and context switches.
fn usage() -> Result<[f64; 3]> {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is ours to write to.
    let ret = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
    check(ret.into(), "getrusage")?;
    // SAFETY: It was written, and zeros are valid as well.
    let usage = unsafe { usage.assume_init() };
    let ms = |t: libc::timeval| t.tv_sec as f64 * 1e3 + t.tv_usec as f64 / 1e3;
    Ok([
        ms(usage.ru_utime),
        ms(usage.ru_stime),
        (usage.ru_nvcsw + usage.ru_nivcsw) as f64,
    ])
}
