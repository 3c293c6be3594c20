// SPDX-License-Identifier: GPL-2.0

//! The benchmarks: they boot the C kernel and the Rust one with guest programs of
//! tools/mlock2/bench, and put side by side what these print.

mod profile;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::boot::{self, Event, Machine, Plan, Setup};
use crate::console::{Line, Marker, is_trouble};

/// The guest program that measures.
const PROGRAM: &str = "mlock2-bench";

/// Measure the C kernel and the Rust one
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pair: Pair,
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Profile(profile::Options),
}

pub fn run(args: &Args) -> Result<bool> {
    let pair = &args.pair;
    fs::create_dir_all(&pair.out).with_context(|| format!("cannot make {}", pair.out.display()))?;
    match &args.what {
        What::Profile(options) => profile::run(pair, options),
    }
}

/// The two kernels, and how they are booted
#[derive(clap::Args)]
struct Pair {
    /// The build tree with CONFIG_MLOCK2=n
    #[arg(long)]
    c: PathBuf,
    /// The build tree with CONFIG_MLOCK2=y
    #[arg(long)]
    rust: PathBuf,
    /// The kernel's path in a build tree
    #[arg(long)]
    image_file: PathBuf,
    #[command(flatten)]
    setup: Setup,
    /// More kernel parameters where QEMU counts instructions
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    append_icount: String,
    /// Where the results go
    #[arg(long)]
    out: PathBuf,
}

/// One of the two kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    C,
    Rust,
}

impl Side {
    const BOTH: [Self; 2] = [Self::C, Self::Rust];

    fn name(self) -> &'static str {
        match self {
            Self::C => "C",
            Self::Rust => "Rust",
        }
    }
}

impl Pair {
    fn tree(&self, side: Side) -> &Path {
        match side {
            Side::C => &self.c,
            Side::Rust => &self.rust,
        }
    }

    /// A setup whose clock counts instructions.
    fn icount(&self) -> Setup {
        let mut setup = self.setup.clone();
        setup.accel = boot::Accel::Tcg;
        setup.cpus = 1;
        setup.qemu_args += " -icount shift=0,sleep=off";
        setup.append = format!("{} {} norandmaps", setup.append, self.append_icount);
        setup
    }

    /// Boots one of the kernels with a guest program; `arguments` are that program's.
    fn start(
        &self,
        side: Side,
        setup: &Setup,
        accel: &str,
        name: &str,
        arguments: &str,
    ) -> Result<Guest> {
        self.start_with(side, setup, accel, name, arguments, &mut |_| {})
    }

    /// The same; `change` may add to the command that starts QEMU.
    fn start_with(
        &self,
        side: Side,
        setup: &Setup,
        accel: &str,
        name: &str,
        arguments: &str,
        change: &mut dyn FnMut(&mut Command),
    ) -> Result<Guest> {
        let work = self
            .out
            .join(format!("{name}-{}", side.name().to_lowercase()));
        fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
        let work = work.canonicalize()?;
        let tree = self.tree(side);
        let kernel = boot::Kernel {
            image: tree.join(&self.image_file),
            gen_init_cpio: tree.join("usr/gen_init_cpio"),
        };
        let plan = Plan::parse(&format!("bench root {PROGRAM} {arguments}\n"), &[])?;
        let mut command = boot::prepare(&kernel, setup, &work, &plan, accel)?;
        change(&mut command);
        Ok(Guest {
            machine: Machine::start(command, &work, false)?,
            deadline: Instant::now() + Duration::from_secs(setup.timeout),
            work,
            name: format!("{} kernel", side.name()),
            last: String::new(),
            begun: false,
        })
    }
}

/// A guest that runs one program.
struct Guest {
    machine: Machine,
    deadline: Instant,
    work: PathBuf,
    name: String,
    /// The last line of the program, which tells why it failed
    last: String,
    begun: bool,
}

impl Guest {
    /// The next line of the program; none when it has ended well.
    fn line(&mut self) -> Result<Option<String>> {
        loop {
            let line = match self.machine.next(self.deadline)? {
                Event::Line(line) => line,
                Event::TimedOut => bail!("the {} took too long{}", self.name, self.see()),
                Event::End => bail!("the {} stopped early{}", self.name, self.see()),
            };
            let text = match line {
                Line::Kernel(text) | Line::Program(text) if is_trouble(&text) => {
                    bail!(
                        "the {} is in trouble: {}{}",
                        self.name,
                        text.trim(),
                        self.see()
                    )
                }
                Line::Kernel(_) => continue,
                Line::Program(text) => text,
            };
            match Marker::parse(&text) {
                Some(Marker::Begin(_)) => self.begun = true,
                Some(Marker::End(_, "exit=0")) => return Ok(None),
                Some(Marker::End(_, how)) => bail!(
                    "on the {}, the guest program ended with {how}: {}{}",
                    self.name,
                    self.last,
                    self.see()
                ),
                Some(Marker::Error(text)) => bail!("the {}: {text}{}", self.name, self.see()),
                Some(Marker::Done) => bail!("the {} ran nothing{}", self.name, self.see()),
                None if !self.begun || text.is_empty() => {}
                None => {
                    self.last.clone_from(&text);
                    return Ok(Some(text));
                }
            }
        }
    }

    fn see(&self) -> String {
        format!("\n  see {}/console.log", self.work.display())
    }
}

/// A line that shows how far it is: rewritten in place on a terminal.
fn progress(text: &str) {
    let mut out = io::stdout();
    let _ = if out.is_terminal() {
        write!(out, "\r\x1b[K{text}").and_then(|()| out.flush())
    } else {
        writeln!(out, "{text}")
    };
}

fn progress_done() {
    if io::stdout().is_terminal() {
        print!("\r\x1b[K");
    }
}

fn number(text: &str) -> Result<f64> {
    text.parse()
        .with_context(|| format!("the guest printed {text:?} where a number was expected"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
