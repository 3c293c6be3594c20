// SPDX-License-Identifier: GPL-2.0

//! Where the instructions of one row are: QEMU tells of every instruction that it executes, and
//! the guest program marks those that count.
//!
//! The trace begins when the program is ready, by a command to QEMU's monitor: that of the boot
//! would take minutes.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::pair::{Pair, Progress, Side, number, write};

/// Where the kernel begins in the address space.
const KERNEL: u64 = 1 << 63;
/// The descriptor that QEMU finds its monitor at.
const MONITOR: i32 = 100;
const PROMPT: &[u8] = b"(qemu) ";

/// Show where the instructions of one row are, function by function
#[derive(clap::Args)]
pub struct Options {
    /// A row of the table
    #[arg(long)]
    row: String,
    /// It is a call of the sweep
    #[arg(long)]
    sweep: bool,
    /// llvm-objdump, for the listings
    #[arg(long)]
    objdump: String,
    /// Leave out functions with less than this share, in percent
    #[arg(long, default_value_t = 0.5)]
    least: f64,
    /// Options for the guest program
    #[arg(last = true)]
    guest: Vec<String>,
}

pub fn run(pair: &Pair, options: &Options) -> Result<bool> {
    ensure!(!pair.kvm, "a trace is not possible with KVM");
    for &side in pair.sides() {
        let progress = Progress::new(&options.row);
        progress.show(side, "booting");
        let profile = Profile::take(pair, side, options, &progress)?;
        progress.end();
        profile.report(pair, side, options)?;
    }
    Ok(true)
}

/// How often each instruction was executed, by its address.
#[derive(Default)]
struct Counts {
    operation: HashMap<u64, u64>,
    plain: HashMap<u64, u64>,
}

/// Instructions of one unit, by their address; where the row is a difference, what is more.
struct Profile {
    per_unit: BTreeMap<u64, f64>,
    total: f64,
    unit: String,
    value: f64,
}

/// The addresses of the guest program's marks.
#[derive(Clone, Copy)]
struct Marks {
    operation: u64,
    plain: u64,
    end: u64,
}

impl Profile {
    fn take(pair: &Pair, side: Side, options: &Options, progress: &Progress) -> Result<Self> {
        let work = pair.out.join(format!("profile-{}", side.tag()));
        fs::create_dir_all(&work)?;
        let fifo = work.canonicalize()?.join("trace.fifo");
        make_fifo(&fifo)?;
        let (monitor, theirs) = UnixStream::pair()?;

        let mut setup = pair.counting();
        setup.qemu_args += &format!(
            " -chardev socket,id=monitor,fd={MONITOR} -mon chardev=monitor,mode=readline -D {}",
            fifo.display()
        );
        let arguments = format!(
            "{} --profile --only {} {}",
            if options.sweep { "sweep" } else { "rows" },
            options.row,
            options.guest.join(" ")
        );
        // QEMU opens its end at once, and waits for ours.
        let trace = fifo.clone();
        let (send_marks, marks) = mpsc::channel();
        let counter = thread::spawn(move || count(&trace, &marks));

        let fd = theirs.as_raw_fd();
        let mut guest = pair.start_with(
            side,
            &setup,
            "profile",
            &arguments,
            &mut |command: &mut Command| {
                // SAFETY: `dup2()` is one system call that touches no memory, so it may be made
                // between fork and exec. The copy survives the exec.
                unsafe {
                    command.pre_exec(move || match libc::dup2(fd, MONITOR) {
                        MONITOR => Ok(()),
                        _ => Err(std::io::Error::last_os_error()),
                    });
                }
            },
        )?;
        drop(theirs);

        let mut monitor = Monitor::new(monitor)?;
        let (mut units, mut row) = ((0.0, 0.0), None);
        while let Some(line) = guest.line()? {
            let fields: Vec<&str> = line.split('\t').collect();
            match fields.as_slice() {
                ["profile", "marks", marks @ ..] => send_marks.send(Marks::parse(marks)?)?,
                ["profile", "ready"] => {
                    monitor.command("singlestep on")?;
                    monitor.command("log exec,nochain")?;
                    progress.show(side, "tracing");
                    guest.machine.send("")?;
                }
                ["profile", "units", operation, plain] => {
                    units.0 += number(operation)?;
                    units.1 += number(plain)?;
                }
                ["profile", "end"] => break,
                ["row", _, unit, value, _] => row = Some((unit.to_string(), number(value)?)),
                _ => {}
            }
        }
        guest.machine.stop();
        let counts = match counter.join() {
            Ok(counts) => counts?,
            Err(_) => bail!("reading the trace failed"),
        };
        fs::remove_file(&fifo)?;

        let (unit, value) = row.context("the guest program printed no row")?;
        ensure!(units.0 > 0.0, "the guest program measured nothing");
        let mut per_unit: BTreeMap<u64, f64> = BTreeMap::new();
        for (address, n) in counts.operation {
            *per_unit.entry(address).or_default() += n as f64 / units.0;
        }
        for (address, n) in counts.plain {
            *per_unit.entry(address).or_default() -= n as f64 / units.1;
        }
        let total = per_unit.values().sum();
        Ok(Self {
            per_unit,
            total,
            unit,
            value,
        })
    }

    /// Prints the functions, and writes listings of them.
    fn report(&self, pair: &Pair, side: Side, options: &Options) -> Result<()> {
        let symbols = Symbols::read(&pair.tree(side)?.join("System.map"))?;
        let mut functions: HashMap<&str, f64> = HashMap::new();
        for (&address, n) in &self.per_unit {
            *functions.entry(symbols.name(address)).or_default() += n;
        }
        let mut functions: Vec<(&str, f64)> = functions.into_iter().collect();
        functions.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(b.0)));

        println!(
            "\n{}, {}: {:.1} instructions for each {} (the clock says {:.1})",
            options.row,
            side.name(),
            self.total,
            self.unit,
            self.value
        );
        let base: f64 = functions.iter().map(|f| f.1.abs()).sum();
        let (mut rest, mut tsv) = (0.0, "function\tinstructions\tshare\n".to_string());
        for &(name, n) in &functions {
            let share = 100.0 * n / base;
            writeln!(tsv, "{name}\t{n:.2}\t{share:.2}")?;
            if share.abs() >= options.least {
                println!("{n:>10.1} {share:>6.1} %  {name}");
            } else {
                rest += n;
            }
        }
        println!(
            "{rest:>10.1} {:>6.1} %  (what has less than {} % each)",
            100.0 * rest / base,
            options.least
        );

        let stem = format!("{}-{}", options.row, side.tag());
        let table = pair.out.join(format!("profile-{stem}.tsv"));
        write(&table, &tsv)?;
        let listing = pair.out.join(format!("profile-{stem}.txt"));
        let mut text = String::new();
        for (name, n) in functions {
            if 100.0 * n.abs() / base >= options.least && !name.starts_with('(') {
                self.list(&mut text, name, n, pair.tree(side)?, &symbols, options)?;
            }
        }
        write(&listing, &text)?;
        println!("all functions: {}", table.display());
        println!("each instruction: {}", listing.display());
        Ok(())
    }

    /// A disassembly of one function, with how often each instruction was executed.
    fn list(
        &self,
        text: &mut String,
        name: &str,
        n: f64,
        tree: &Path,
        symbols: &Symbols,
        options: &Options,
    ) -> Result<()> {
        for &(start, end) in &symbols.ranges(name) {
            if self.per_unit.range(start..end).next().is_none() {
                continue;
            }
            writeln!(
                text,
                "\n{name}: {n:.1} instructions for each {}\n",
                self.unit
            )?;
            let output = Command::new(&options.objdump)
                .args(["-d", "--no-show-raw-insn", "--demangle"])
                .arg(format!("--start-address={start:#x}"))
                .arg(format!("--stop-address={end:#x}"))
                .arg(tree.join("vmlinux"))
                .output()
                .with_context(|| format!("cannot run {}", options.objdump))?;
            ensure!(
                output.status.success(),
                "{} failed: {}",
                options.objdump,
                String::from_utf8_lossy(&output.stderr)
            );
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                let address = line
                    .split_once(':')
                    .and_then(|(address, _)| u64::from_str_radix(address.trim(), 16).ok());
                let Some(address) = address else {
                    continue;
                };
                match self.per_unit.get(&address) {
                    Some(n) => writeln!(text, "{n:>10.3}  {line}")?,
                    None => writeln!(text, "{:>10}  {line}", "")?,
                }
            }
        }
        Ok(())
    }
}

fn make_fifo(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_file(path)?;
    }
    let name = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: The name ends in a zero.
    let ret = unsafe { libc::mkfifo(name.as_ptr(), 0o600) };
    ensure!(
        ret == 0,
        "cannot make {}: {}",
        path.display(),
        std::io::Error::last_os_error()
    );
    Ok(())
}

impl Marks {
    fn parse(fields: &[&str]) -> Result<Self> {
        let address = |i: usize| {
            fields
                .get(i)
                .and_then(|text| u64::from_str_radix(text, 16).ok())
                .context("the guest program's marks have no addresses")
        };
        Ok(Self {
            operation: address(0)?,
            plain: address(1)?,
            end: address(2)?,
        })
    }
}

/// QEMU's monitor for people: it answers with a prompt.
struct Monitor(UnixStream);

impl Monitor {
    fn new(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut monitor = Self(stream);
        monitor.wait()?;
        Ok(monitor)
    }

    fn wait(&mut self) -> Result<()> {
        let mut seen = Vec::new();
        let mut buffer = [0; 256];
        while !seen.ends_with(PROMPT) {
            let n = self.0.read(&mut buffer).context("QEMU's monitor")?;
            ensure!(n > 0, "QEMU's monitor is closed");
            seen.extend_from_slice(&buffer[..n]);
        }
        Ok(())
    }

    fn command(&mut self, text: &str) -> Result<()> {
        writeln!(self.0, "{text}")?;
        self.wait()
    }
}

/// Reads the trace until QEMU ends and counts what lies between the marks.
fn count(trace: &Path, marks: &Receiver<Marks>) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut reader = BufReader::with_capacity(1 << 20, File::open(trace)?);
    let Ok(marks) = marks.recv() else {
        return Ok(counts);
    };
    let mut line = Vec::new();
    let (mut state, mut last) = (marks.end, 0);
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(counts);
        }
        if line.starts_with(b"Stopped execution") {
            // The instruction of the line before was not executed after all.
            let count = counts.of(state, marks).and_then(|map| map.get_mut(&last));
            if let Some(n) = count {
                *n -= 1;
            }
            continue;
        }
        let Some(address) = traced(&line) else {
            continue;
        };
        last = address;
        if [marks.operation, marks.plain, marks.end].contains(&address) {
            state = address;
        } else if let Some(map) = counts.of(state, marks) {
            *map.entry(address).or_default() += 1;
        }
    }
}

impl Counts {
    fn of(&mut self, state: u64, marks: Marks) -> Option<&mut HashMap<u64, u64>> {
        match state {
            s if s == marks.operation => Some(&mut self.operation),
            s if s == marks.plain => Some(&mut self.plain),
            _ => None,
        }
    }
}

/// The address in a line "Trace 0: 0x7f... [cs_base/address/flags/cflags] symbol".
fn traced(line: &[u8]) -> Option<u64> {
    if !line.starts_with(b"Trace ") {
        return None;
    }
    let mut fields = line.split(|&b| b == b'/');
    let address = std::str::from_utf8(fields.nth(1)?).ok()?;
    u64::from_str_radix(address, 16).ok()
}

/// The functions of a kernel, by their addresses.
struct Symbols(Vec<(u64, String)>);

impl Symbols {
    fn read(map: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(map).with_context(|| format!("cannot read {}", map.display()))?;
        let mut symbols: Vec<(u64, String)> = Vec::new();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(address), Some("t" | "T" | "w" | "W"), Some(name)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let address = u64::from_str_radix(address, 16).context("System.map")?;
            if symbols.last().is_none_or(|last| last.0 != address) {
                symbols.push((address, format!("{:#}", rustc_demangle::demangle(name))));
            }
        }
        ensure!(!symbols.is_empty(), "{}: no functions", map.display());
        Ok(Self(symbols))
    }

    fn name(&self, address: u64) -> &str {
        if address < KERNEL {
            return "(user space)";
        }
        match self.0.partition_point(|symbol| symbol.0 <= address) {
            0 => "(unknown)",
            i => &self.0[i - 1].1,
        }
    }

    /// Where the functions of this name are.
    fn ranges(&self, name: &str) -> Vec<(u64, u64)> {
        self.0
            .windows(2)
            .filter(|pair| pair[0].1 == name)
            .map(|pair| (pair[0].0, pair[1].0))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces() {
        let line = b"Trace 0: 0x7f3c40000100 [0000000000000000/ffffffff81000040/00c0b0f1/ff000201] mlock_folio\n";
        assert_eq!(traced(line), Some(0xffffffff81000040));
        assert_eq!(
            traced(b"Stopped execution of TB chain before 0x1 [x/1] y"),
            None
        );
    }
}
