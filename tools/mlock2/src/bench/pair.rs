// SPDX-License-Identifier: GPL-2.0

//! The kernels that are compared, and a guest of each that runs one program.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::chart;
use crate::boot::{self, Event, Machine, Plan, Setup};
use crate::console::{Line, Marker, is_trouble};

/// The guest program that measures.
const PROGRAM: &str = "mlock2-bench";
/// How often a line tells how far it is, where there is no terminal.
const PROGRESS: Duration = Duration::from_secs(10);

/// The kernels, and how they are booted
#[derive(clap::Args)]
pub struct Pair {
    /// The build tree with CONFIG_MLOCK2=n
    #[arg(long)]
    pub c: PathBuf,
    /// The build tree with CONFIG_MLOCK2=y
    #[arg(long)]
    pub rust: PathBuf,
    /// The build tree with the best C, which `rows`, `sweep` and `profile` measure as well
    #[arg(long)]
    pub fair: Option<PathBuf>,
    /// The kernel's path in a build tree
    #[arg(long)]
    pub image_file: PathBuf,
    #[command(flatten)]
    pub setup: Setup,
    /// Options of QEMU with which it counts instructions, the same in each boot
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub icount: String,
    /// More kernel parameters then
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub append_icount: String,
    /// Measure nanoseconds with KVM, not instructions; an error where KVM does not work
    #[arg(long)]
    pub kvm: bool,
    /// A font in TrueType format for the charts
    #[arg(long, default_value = chart::FONT)]
    pub font: PathBuf,
    /// Where the results go
    #[arg(long)]
    pub out: PathBuf,
}

/// One of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    C,
    Rust,
    /// The C that does what the Rust does
    Fair,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::C, Self::Rust];
    pub const ALL: [Self; 3] = [Self::C, Self::Rust, Self::Fair];

    pub fn name(self) -> &'static str {
        match self {
            Self::C => "C",
            Self::Rust => "Rust",
            Self::Fair => "fair C",
        }
    }

    /// For the name of a directory.
    pub fn tag(self) -> &'static str {
        match self {
            Self::C => "c",
            Self::Rust => "rust",
            Self::Fair => "fair",
        }
    }
}

impl Pair {
    /// The kernels that there are.
    pub fn sides(&self) -> &'static [Side] {
        match self.fair {
            Some(_) => &Side::ALL,
            None => &Side::BOTH,
        }
    }

    pub fn tree(&self, side: Side) -> Result<&Path> {
        match side {
            Side::C => Ok(&self.c),
            Side::Rust => Ok(&self.rust),
            Side::Fair => self
                .fair
                .as_deref()
                .context("no build tree with the best C: give one with --fair"),
        }
    }

    pub fn kernel(&self, side: Side) -> Result<boot::Kernel> {
        let tree = self.tree(side)?;
        Ok(boot::Kernel {
            image: tree.join(&self.image_file),
            gen_init_cpio: tree.join("usr/gen_init_cpio"),
        })
    }

    /// A machine with one CPU whose clock counts instructions; with KVM, nanoseconds.
    pub fn counting(&self) -> Setup {
        let mut setup = self.setup.clone();
        setup.cpus = 1;
        if self.kvm {
            setup.accel = boot::Accel::Kvm;
            return setup;
        }
        setup.accel = boot::Accel::Tcg;
        setup.qemu_args = format!("{} {}", setup.qemu_args, self.icount);
        setup.append = format!("{} {} norandmaps", setup.append, self.append_icount);
        setup
    }

    /// A kernel that is a program, whose clock is that of this machine.
    pub fn native(&self) -> Setup {
        let mut setup = self.setup.clone();
        setup.cpus = 1;
        setup.append += " norandmaps";
        setup
    }

    /// What the clock of `counting()` counts.
    pub fn ticks(&self) -> &'static str {
        if self.kvm {
            "nanoseconds"
        } else {
            "instructions"
        }
    }

    /// The same, to begin a title with.
    pub fn title_ticks(&self) -> String {
        let (first, rest) = self.ticks().split_at(1);
        first.to_uppercase() + rest
    }

    /// The guest program's option for that clock.
    pub fn clock_option(&self) -> &'static str {
        if self.kvm { "--wall" } else { "" }
    }

    /// Draws a chart of the C kernel and the Rust one: NAME.svg and NAME.png.
    pub fn draw(&self, name: &str, picture: &impl chart::Picture) -> Result<()> {
        chart::save(&self.out.join(name), &self.font, picture)
    }

    /// Runs a guest program on both kernels and returns what they printed, in lines of fields:
    /// first the C kernel, then the Rust one.
    pub fn both(&self, setup: &Setup, name: &str, arguments: &str) -> Result<[Vec<Fields>; 2]> {
        let results = self.on(&Side::BOTH, setup, name, arguments)?;
        <[_; 2]>::try_from(results).map_err(|_| anyhow!("a kernel is missing"))
    }

    /// The same on any kernels. They run at the same time where the clock counts instructions,
    /// which nothing else on the machine changes.
    pub fn on(
        &self,
        sides: &[Side],
        setup: &Setup,
        name: &str,
        arguments: &str,
    ) -> Result<Vec<Vec<Fields>>> {
        let progress = Progress::new(name);
        let one = |side| self.one(side, setup, name, arguments, &progress);
        let results: Vec<Result<Vec<Fields>>> = if self.kvm {
            sides.iter().map(|&side| one(side)).collect()
        } else {
            thread::scope(|scope| {
                let threads: Vec<_> = sides
                    .iter()
                    .map(|&side| scope.spawn(move || one(side)))
                    .collect();
                let join = |thread: thread::ScopedJoinHandle<'_, _>| match thread.join() {
                    Ok(result) => result,
                    Err(_) => bail!("a thread failed"),
                };
                threads.into_iter().map(join).collect()
            })
        };
        progress.end();
        results.into_iter().collect()
    }

    pub fn one(
        &self,
        side: Side,
        setup: &Setup,
        name: &str,
        arguments: &str,
        progress: &Progress,
    ) -> Result<Vec<Fields>> {
        progress.show(side, "booting");
        let mut guest = self.start(side, setup, name, arguments)?;
        let mut lines: Vec<Fields> = Vec::new();
        while let Some(line) = guest.line()? {
            let fields: Fields = line.split('\t').map(str::to_string).collect();
            progress.show(side, &fields[..fields.len().min(2)].join(" "));
            lines.push(fields);
        }
        progress.show(side, "done");
        Ok(lines)
    }

    /// Boots one of the kernels with a guest program; `arguments` are that program's.
    pub fn start(&self, side: Side, setup: &Setup, name: &str, arguments: &str) -> Result<Guest> {
        self.start_with(side, setup, name, arguments, &mut |_| {})
    }

    /// The same; `change` may add to the command that starts QEMU.
    pub fn start_with(
        &self,
        side: Side,
        setup: &Setup,
        name: &str,
        arguments: &str,
        change: &mut dyn FnMut(&mut Command),
    ) -> Result<Guest> {
        let work = self.out.join(format!("{name}-{}", side.tag()));
        fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
        let work = work.canonicalize()?;
        let accel = match setup.accel {
            boot::Accel::Kvm => "kvm",
            _ => "tcg",
        };
        let plan = Plan::parse(&format!("bench root {PROGRAM} {arguments}\n"), &[])?;
        let mut command = boot::prepare(&self.kernel(side)?, setup, &work, &plan, accel)?;
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
pub struct Guest {
    pub machine: Machine,
    pub deadline: Instant,
    work: PathBuf,
    name: String,
    /// The last line of the program, which tells why it failed
    last: String,
    pub begun: bool,
}

impl Guest {
    /// The next line of the program; none when it has ended well.
    pub fn line(&mut self) -> Result<Option<String>> {
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
                    // clap explains an error in more lines.
                    if !self.last.starts_with("error:") {
                        self.last.clone_from(&text);
                    }
                    return Ok(Some(text));
                }
            }
        }
    }

    fn see(&self) -> String {
        format!("\n  see {}/console.log", self.work.display())
    }
}

/// A line of the guest program, by its tabulators.
pub type Fields = Vec<String>;

/// Shows how far the kernels are: in one line that is rewritten on a terminal, and every ten seconds
/// where there is none.
pub struct Progress {
    name: String,
    state: Mutex<(Option<Instant>, [String; Side::ALL.len()])>,
    start: Instant,
}

impl Progress {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_string(),
            state: Mutex::new((None, Side::ALL.map(|_| String::new()))),
            start: Instant::now(),
        }
    }

    pub fn show(&self, side: Side, text: &str) {
        let Ok(mut state) = self.state.lock() else {
            return;
        };
        let (last, sides) = &mut *state;
        sides[side as usize] = text.to_string();
        let mut line = format!("{} ({} s)", self.name, self.start.elapsed().as_secs());
        for side in Side::ALL {
            let text = &sides[side as usize];
            if !text.is_empty() {
                let _ = write!(line, "  {}: {text}", side.name());
            }
        }
        let mut out = io::stdout();
        // It is only for the eye: what cannot be shown is no error.
        if out.is_terminal() {
            let _ = write!(out, "\r\x1b[K{line:.100}").and_then(|()| out.flush());
        } else if last.is_none_or(|last| last.elapsed() >= PROGRESS) {
            println!("{line}");
            *last = Some(Instant::now());
        }
    }

    pub fn end(&self) {
        if io::stdout().is_terminal() {
            print!("\r\x1b[K");
        }
    }
}

pub fn number(text: &str) -> Result<f64> {
    text.parse()
        .with_context(|| format!("the guest printed {text:?} where a number was expected"))
}

pub fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
