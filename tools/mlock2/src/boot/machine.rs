// SPDX-License-Identifier: GPL-2.0

//! The machine: how a guest is started, and its console.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use regex_lite::Regex;

use super::initramfs;
use super::plan::Plan;
use super::setup::{Kernel, Setup};
use crate::console::{Line, Marker, Splitter};

/// How long QEMU's monitor may be silent before it has said all.
const MONITOR_LIMIT: Duration = Duration::from_secs(3);
/// How long a machine may take to switch itself off. Not all can.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(5);

/// Makes the initramfs in `work` and the command that boots it.
pub fn prepare(
    kernel: &Kernel,
    setup: &Setup,
    work: &Path,
    plan: &Plan,
    accel: &str,
) -> Result<Command> {
    let initramfs = initramfs::make(kernel, setup, work, plan)?;
    Ok(command(kernel, setup, &initramfs, accel))
}

/// The one place that knows how a guest is started.
fn command(kernel: &Kernel, setup: &Setup, initramfs: &Path, accel: &str) -> Command {
    // The time stamps tell kernel messages from the programs' output. A panic must end the guest.
    let append = format!(
        "console={} printk.time=1 panic=-1 mlock2.limit={} {}",
        setup.console, setup.limit, setup.append
    );
    let Some(qemu) = &setup.qemu else {
        let mut command = Command::new(&kernel.image);
        command
            .arg(format!("mem={}M", setup.mem))
            .arg(format!("ncpus={}", setup.cpus))
            .arg(format!("initrd={}", initramfs.display()))
            .args(["con=null", "con0=fd:0,fd:1"])
            .args(append.split_whitespace());
        return command;
    };
    let accel = if accel == "tcg" { &setup.tcg } else { accel };
    let mut command = Command::new(qemu);
    command
        .args(setup.qemu_args.split_whitespace())
        .args(["-accel", accel])
        .args(["-m", &setup.mem.to_string()])
        .args(["-smp", &setup.cpus.to_string()])
        .args(["-nodefaults", "-display", "none", "-serial", "mon:stdio"])
        .arg("-no-reboot")
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", append.trim_end()]);
    command
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// init came to its end.
    Done,
    /// The machine stopped before that.
    Stopped,
    /// The kernel never came to init.
    NoInit,
    TimedOut,
}

/// A child that never outlives this program.
struct Guest(Child);

impl Guest {
    fn spawn(mut command: Command, errors: &Path) -> Result<Self> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(errors)?);
        // SAFETY: `prctl(PR_SET_PDEATHSIG)` is one system call that touches no memory, so it may
        // be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().with_context(|| {
            let program = command.get_program().to_string_lossy();
            format!("cannot run {program}: is it installed?")
        })?;
        Ok(Self(child))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What comes next from a machine.
pub enum Event {
    Line(Line),
    TimedOut,
    /// It has stopped.
    End,
}

/// A guest that runs, and its console.
pub struct Machine {
    #[cfg_attr(not(feature = "bench"), expect(dead_code))]
    guest: Guest,
    keyboard: ChildStdin,
    screen: Receiver<Vec<u8>>,
    splitter: Splitter,
    lines: VecDeque<Line>,
    log: File,
    verbose: bool,
}

impl Machine {
    /// Starts what `prepare()` made; console.log and qemu.log go to `work`.
    pub fn start(command: Command, work: &Path, verbose: bool) -> Result<Self> {
        let log = File::create(work.join("console.log"))?;
        let mut guest = Guest::spawn(command, &work.join("qemu.log"))?;
        let keyboard = guest.0.stdin.take().context("no pipe to the console")?;
        let mut pipe = guest.0.stdout.take().context("no pipe to the console")?;
        let (sender, screen) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = pipe.read(&mut buffer) {
                if sender.send(buffer[..len].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            guest,
            keyboard,
            screen,
            splitter: Splitter::default(),
            lines: VecDeque::new(),
            log,
            verbose,
        })
    }

    /// Types a line on the console.
    #[cfg(feature = "bench")]
    pub fn send(&mut self, line: &str) -> Result<()> {
        writeln!(self.keyboard, "{line}").context("the guest's console is closed")
    }

    /// Waits for the next line of the console.
    pub fn next(&mut self, deadline: Instant) -> Result<Event> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(Event::Line(line));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => {
                    self.log.write_all(&bytes)?;
                    if self.verbose {
                        io::stdout().write_all(&bytes)?;
                    }
                    self.lines.extend(self.splitter.push(&bytes));
                }
                Err(RecvTimeoutError::Timeout) => return Ok(Event::TimedOut),
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(self.splitter.finish().map_or(Event::End, Event::Line));
                }
            }
        }
    }

    /// Lets it run to its end, and passes every line of its console to `sink`. If it does not
    /// come to one in time, also returns where its CPUs are.
    pub fn watch(
        mut self,
        setup: &Setup,
        sink: &mut dyn FnMut(Line) -> Result<()>,
    ) -> Result<(Ending, Vec<u64>)> {
        let start = Instant::now();
        let (to_init, to_end) = (
            start + Duration::from_secs(setup.init_limit),
            start + Duration::from_secs(setup.timeout),
        );
        let mut deadline = to_init.min(to_end);
        let mut late = Ending::NoInit;
        loop {
            let line = match self.next(deadline)? {
                Event::Line(line) => Some(line),
                Event::TimedOut => self.splitter.finish(),
                Event::End if late == Ending::Done => return Ok((Ending::Done, Vec::new())),
                Event::End => return Ok((Ending::Stopped, Vec::new())),
            };
            let Some(line) = line else {
                break;
            };
            if let Line::Program(text) = &line
                && let Some(marker) = Marker::parse(text)
            {
                if marker == Marker::Done {
                    late = Ending::Done;
                    deadline = Instant::now() + POWER_OFF_LIMIT;
                } else if late == Ending::NoInit {
                    late = Ending::TimedOut;
                    deadline = to_end;
                }
            }
            sink(line)?;
        }
        let counters = match late {
            Ending::Done => Vec::new(),
            _ => self.program_counters()?,
        };
        Ok((late, counters))
    }

    /// Where its CPUs are, as QEMU's monitor tells; what else that tells goes to the log.
    fn program_counters(&mut self) -> Result<Vec<u64>> {
        static COUNTER: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"\b(?:RIP|PC|pc|NIP|addr)[ =]+(?:0x)?([0-9a-f]{8,16})\b").unwrap()
        });
        // ^A c turns from the guest's console to the monitor. One that has ended does not answer.
        if writeln!(self.keyboard, "\x01cinfo registers -a").is_err() {
            return Ok(Vec::new());
        }
        let mut counters = Vec::new();
        while let Event::Line(Line::Program(text)) = self.next(Instant::now() + MONITOR_LIMIT)? {
            let hex = COUNTER.captures(&text).map(|found| found[1].to_string());
            counters.extend(hex.and_then(|hex| u64::from_str_radix(&hex, 16).ok()));
        }
        Ok(counters)
    }

    /// Ends it where it is.
    #[cfg(feature = "bench")]
    pub fn stop(self) {
        drop(self.guest);
    }
}
