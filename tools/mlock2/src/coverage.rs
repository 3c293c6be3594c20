// SPDX-License-Identifier: GPL-2.0

//! Finds the lines of Rust of which a kernel executed no instruction in any boot.
//!
//! QEMU logs each block of guest code when it first translates it (`-d in_asm`), which is right
//! before it executes the block. Blocks end at jumps, so what the log lacks was never executed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

/// The objects that have our Rust in them, in a build tree.
const OBJECTS: [&str; 3] = ["mm/mlock2/mlock2.o", "rust/mm.o", "rust/kernel.o"];
/// What a function of the KUnit suites has in its name.
const KUNIT: [&str; 2] = ["5tests", "kunit"];
/// What a call of a function that panics has in its name.
const PANICS: [&str; 4] = [
    "4core9panicking",
    "4core6option13",
    "4core6result13",
    "4core4cell22panic",
];
/// How far apart ranges may be that QEMU is told as one.
const GAP: u64 = 0x1000;

/// Find the lines of Rust that no boot executed
#[derive(clap::Args)]
pub struct Args {
    /// The build tree of the kernel; its Rust has debug information
    #[arg(long)]
    tree: PathBuf,
    /// LLVM's objdump; nm and symbolizer are beside it
    #[arg(long)]
    objdump: String,
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Print the options of QEMU that log what is executed
    Options {
        /// A directory for the logs
        traces: PathBuf,
    },
    /// Compare what the logs have with the kernel
    Report {
        /// The directory of the logs
        #[arg(long)]
        traces: PathBuf,
        /// The list of lines that no test can reach, and why
        #[arg(long)]
        unreachable: PathBuf,
        /// Where to write all lines that were not executed
        #[arg(long)]
        out: PathBuf,
        /// The source files, with their paths in the kernel
        #[arg(required = true)]
        sources: Vec<String>,
    },
}

pub fn run(args: &Args) -> Result<bool> {
    let functions = Function::of(args)?;
    match &args.what {
        What::Options { traces } => {
            fs::create_dir_all(traces)?;
            let filter: Vec<String> = ranges(&functions)
                .iter()
                .map(|(start, end)| format!("{start:#x}..{:#x}", end - 1))
                .collect();
            // Each QEMU has a log of its own.
            println!(
                "-d in_asm -dfilter {} -D {}/%d.log",
                filter.join(","),
                traces.canonicalize()?.display()
            );
            Ok(true)
        }
        What::Report {
            traces,
            unreachable,
            out,
            sources,
        } => {
            let executed = Executed::read(traces)?;
            let lines = lines(args, &functions, &executed, sources)?;
            let reasons = Reasons::parse(
                &fs::read_to_string(unreachable)
                    .with_context(|| format!("cannot read {}", unreachable.display()))?,
            )?;
            report(&lines, &reasons, sources, unreachable, out)
        }
    }
}

//
// The kernel
//

/// A function in the text of the kernel.
struct Function {
    name: String,
    start: u64,
    end: u64,
}

impl Function {
    /// The functions that the objects define, in the order of their addresses.
    fn of(args: &Args) -> Result<Vec<Self>> {
        let nm = args.objdump.replace("objdump", "nm");
        let mut names = HashSet::new();
        for object in OBJECTS {
            let text = output(
                Command::new(&nm)
                    .arg("--defined-only")
                    .arg(args.tree.join(object)),
            )?;
            names.extend(text.lines().filter_map(|line| {
                let mut words = line.split_whitespace().skip(1);
                let (kind, name) = (words.next()?, words.next()?);
                "tTwW".contains(kind).then(|| name.to_string())
            }));
        }
        let map = args.tree.join("System.map");
        let text = fs::read_to_string(&map).with_context(|| format!("no {}", map.display()))?;
        let symbols: Vec<(u64, &str)> = text
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let address = u64::from_str_radix(words.next()?, 16).ok()?;
                let kind = words.next()?;
                "tTwW".contains(kind).then_some((address, words.next()?))
            })
            .collect();
        let functions: Vec<Self> = symbols
            .windows(2)
            .filter(|pair| names.contains(pair[0].1) && pair[0].0 < pair[1].0)
            .map(|pair| Self {
                name: pair[0].1.to_string(),
                start: pair[0].0,
                end: pair[1].0,
            })
            .collect();
        ensure!(
            !functions.is_empty(),
            "{}: no functions of ours",
            map.display()
        );
        Ok(functions)
    }

    fn is_kunit(&self) -> bool {
        KUNIT.iter().any(|word| self.name.contains(word))
    }
}

/// The addresses of all functions, in few ranges.
fn ranges(functions: &[Function]) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for function in functions {
        match ranges.last_mut() {
            Some(last) if function.start <= last.1 + GAP => last.1 = function.end,
            _ => ranges.push((function.start, function.end)),
        }
    }
    ranges
}

fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    ensure!(output.status.success(), "{command:?} failed");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// An instruction, as objdump shows it.
#[derive(Debug, PartialEq, Eq)]
struct Instruction {
    address: u64,
    text: String,
}

impl Instruction {
    fn parse(line: &str) -> Option<Self> {
        let (address, text) = line.split_once(':')?;
        Some(Self {
            address: u64::from_str_radix(address.trim(), 16).ok()?,
            text: text.trim().to_string(),
        })
    }

    /// It fills a gap, or marks a place that is never come to.
    fn is_padding(&self) -> bool {
        ["nop", "int3", "ud2", "cs nop", "data16"]
            .iter()
            .any(|word| self.text.starts_with(word))
            || self.text.starts_with("xchgw\t%ax, %ax")
    }

    fn panics(&self) -> bool {
        self.text.starts_with(['c', 'j']) && PANICS.iter().any(|name| self.text.contains(name))
    }

    fn ends_block(&self) -> bool {
        self.text.starts_with('j') || self.text.starts_with("ret") || self.panics()
    }
}

/// The blocks of a function: where one ends, control may go elsewhere.
fn blocks(instructions: Vec<Instruction>) -> Vec<Vec<Instruction>> {
    let mut blocks = vec![Vec::new()];
    for instruction in instructions {
        let ends = instruction.ends_block();
        if let Some(last) = blocks.last_mut() {
            last.push(instruction);
        }
        if ends {
            blocks.push(Vec::new());
        }
    }
    blocks
}

//
// What was executed
//

/// Ranges of addresses, by their first one; both ends are addresses of instructions.
#[derive(Default)]
struct Executed(BTreeMap<u64, u64>);

impl Executed {
    fn read(dir: &Path) -> Result<Self> {
        let mut executed = Self::default();
        let entries = fs::read_dir(dir).with_context(|| format!("no {}", dir.display()))?;
        for entry in entries {
            executed.add(&fs::read_to_string(entry?.path())?);
        }
        ensure!(
            !executed.0.is_empty(),
            "{}: nothing was logged",
            dir.display()
        );
        Ok(executed)
    }

    /// Adds the blocks of a log: lines "0xffffffff81000000:  bytes  text".
    fn add(&mut self, log: &str) {
        let mut block: Option<(u64, u64)> = None;
        for line in log.lines().chain([""]) {
            let address = line
                .strip_prefix("0x")
                .and_then(|rest| rest.split_once(':'))
                .and_then(|(address, _)| u64::from_str_radix(address, 16).ok());
            block = match (address, block) {
                (Some(address), Some((start, _))) => Some((start, address)),
                (Some(address), None) => Some((address, address)),
                (None, Some((start, last))) => {
                    let end = self.0.entry(start).or_insert(last);
                    *end = last.max(*end);
                    None
                }
                (None, None) => None,
            };
        }
    }

    /// The addresses that were executed, of these in ascending order.
    fn of(&self, addresses: &[u64]) -> HashSet<u64> {
        let mut executed = HashSet::new();
        for (&start, &last) in &self.0 {
            let from = addresses.partition_point(|&address| address < start);
            let to = addresses.partition_point(|&address| address <= last);
            executed.extend(&addresses[from..to.max(from)]);
        }
        executed
    }
}

//
// Lines
//

/// A file and a line of it.
type Place = (String, usize);

#[derive(Default)]
struct Lines {
    instructions: usize,
    executed: usize,
    /// Blocks that panic; none was executed, or the boot would have failed.
    panics: usize,
    /// Lines of which at least one instruction was executed.
    reached: BTreeSet<Place>,
    /// Lines of which at least one block was not, with a function that has it.
    missed: BTreeMap<Place, String>,
}

/// Looks up all instructions of the functions that come from the sources.
fn lines(
    args: &Args,
    functions: &[Function],
    executed: &Executed,
    sources: &[String],
) -> Result<Lines> {
    let mut instructions: Vec<Instruction> = Vec::new();
    for (start, end) in ranges(functions) {
        let text = output(
            Command::new(&args.objdump)
                .args(["-d", "--no-show-raw-insn"])
                .arg(format!("--start-address={start:#x}"))
                .arg(format!("--stop-address={end:#x}"))
                .arg(args.tree.join("vmlinux")),
        )?;
        instructions.extend(text.lines().filter_map(Instruction::parse));
    }
    let addresses: Vec<u64> = instructions.iter().map(|i| i.address).collect();
    let places = places(args, &addresses, sources)?;
    let executed = executed.of(&addresses);

    let mut lines = Lines::default();
    let mut rest = instructions.into_iter().peekable();
    for function in functions {
        let mut own = Vec::new();
        while let Some(instruction) = rest.next_if(|i| i.address < function.end) {
            if instruction.address >= function.start {
                own.push(instruction);
            }
        }
        for block in blocks(own) {
            lines.add(function, &block, &places, &executed);
        }
    }
    Ok(lines)
}

impl Lines {
    fn add(
        &mut self,
        function: &Function,
        block: &[Instruction],
        places: &HashMap<u64, Place>,
        executed: &HashSet<u64>,
    ) {
        let panics = block.last().is_some_and(Instruction::panics);
        let mut counted = false;
        for instruction in block.iter().filter(|i| !i.is_padding()) {
            let Some(place) = places.get(&instruction.address) else {
                continue;
            };
            let is_executed = executed.contains(&instruction.address);
            if is_executed {
                self.reached.insert(place.clone());
            }
            if function.is_kunit() {
                continue;
            }
            if panics && !is_executed {
                self.panics += usize::from(!counted);
                counted = true;
                continue;
            }
            self.instructions += 1;
            self.executed += usize::from(is_executed);
            if !is_executed {
                self.missed
                    .entry(place.clone())
                    .or_insert_with(|| function.name.clone());
            }
        }
    }
}

/// The innermost line of the sources that each instruction comes from.
fn places(args: &Args, addresses: &[u64], sources: &[String]) -> Result<HashMap<u64, Place>> {
    let symbolizer = args.objdump.replace("objdump", "symbolizer");
    let mut child = Command::new(&symbolizer)
        .args(["--inlines", "--functions=none", "--output-style=LLVM"])
        .arg("--obj")
        .arg(args.tree.join("vmlinux"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {symbolizer}"))?;
    let mut input = child.stdin.take().context("no pipe")?;
    let text: String = addresses.iter().fold(String::new(), |mut text, address| {
        let _ = writeln!(text, "{address:#x}");
        text
    });
    // It answers while it is asked.
    let writer = thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    match writer.join() {
        Ok(written) => written?,
        Err(_) => bail!("writing to {symbolizer} failed"),
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let frames: Vec<&str> = text.split("\n\n").filter(|part| !part.is_empty()).collect();
    ensure!(
        frames.len() == addresses.len(),
        "{symbolizer} answers {} of {} addresses",
        frames.len(),
        addresses.len()
    );
    let places: HashMap<u64, Place> = addresses
        .iter()
        .zip(frames)
        .filter_map(|(&address, frames)| {
            let place = frames.lines().find_map(|frame| place(frame, sources))?;
            Some((address, place))
        })
        .collect();
    ensure!(
        !places.is_empty(),
        "no instruction comes from the sources: has the Rust of {} debug information?",
        args.tree.display()
    );
    Ok(places)
}

/// The place of a frame "/path/file.rs:12:3", if it is in one of the sources.
fn place(frame: &str, sources: &[String]) -> Option<Place> {
    let mut fields = frame.rsplitn(3, ':');
    let line = fields.nth(1)?.parse().ok()?;
    let path = fields.next()?;
    let source = sources.iter().find(|source| {
        path.strip_suffix(source.as_str())
            .is_some_and(|before| before.is_empty() || before.ends_with('/'))
    })?;
    Some((source.clone(), line))
}

//
// The report
//

/// Why lines cannot be reached, by file and text of the line.
///
/// A line of the list that is not indented is "file: text of the line"; indented lines below it say
/// why. Lines that begin with '#' are comments.
#[derive(Default)]
struct Reasons(BTreeMap<(String, String), String>);

impl Reasons {
    fn parse(text: &str) -> Result<Self> {
        let mut reasons = Self::default();
        let mut open: Vec<(String, String)> = Vec::new();
        let mut has_reason = true;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if line.trim().is_empty() {
                continue;
            }
            if line.starts_with([' ', '\t']) {
                ensure!(!open.is_empty(), "a reason without a line: {line}");
                for key in &open {
                    let reason = reasons.0.entry(key.clone()).or_default();
                    *reason += " ";
                    *reason += line.trim();
                }
                has_reason = true;
                continue;
            }
            if has_reason {
                open.clear();
                has_reason = false;
            }
            let (file, text) = line
                .split_once(": ")
                .with_context(|| format!("want \"file: text of the line\": {line}"))?;
            open.push((file.to_string(), text.trim().to_string()));
        }
        ensure!(has_reason, "the last line has no reason");
        Ok(reasons)
    }
}

fn report(
    lines: &Lines,
    reasons: &Reasons,
    sources: &[String],
    unreachable: &Path,
    out: &Path,
) -> Result<bool> {
    let mut texts: HashMap<&str, Vec<String>> = HashMap::new();
    for source in sources {
        let text = fs::read_to_string(source).with_context(|| format!("no {source}"))?;
        texts.insert(
            source,
            text.lines().map(|line| line.trim().to_string()).collect(),
        );
    }
    let (mut all, mut unexplained) = (String::new(), String::new());
    let (mut explained, mut in_part) = (0, 0);
    for ((file, line), function) in &lines.missed {
        let text = texts
            .get(file.as_str())
            .and_then(|lines| lines.get(line - 1))
            .map_or("", String::as_str);
        // The end of a function says nothing that its other lines do not.
        if text == "}" {
            continue;
        }
        // A line that was executed in one function, and not in another into which it is inlined, or
        // not in all of its blocks.
        if lines.reached.contains(&(file.clone(), *line)) {
            in_part += 1;
            writeln!(all, "{file}:{line}: in part: {text}\n\tin {function}")?;
            continue;
        }
        let entry = format!("{file}:{line}: never: {text}");
        match reasons.0.get(&(file.clone(), text.to_string())) {
            Some(reason) => {
                explained += 1;
                writeln!(all, "{entry}\n\t{}", reason.trim())?;
            }
            None => {
                writeln!(all, "{entry}\n\tin {function}")?;
                writeln!(unexplained, "{entry}")?;
            }
        }
    }
    fs::write(out, all).with_context(|| format!("cannot write {}", out.display()))?;

    // A reason for what is no more may hide what comes to look the same.
    let stale: Vec<_> = reasons
        .0
        .keys()
        .filter(|(file, text)| {
            !texts
                .get(file.as_str())
                .is_some_and(|lines| lines.contains(text))
        })
        .collect();
    for (file, text) in &stale {
        println!("not in the source any more: {file}: {text}");
    }
    print!("{unexplained}");
    let unexplained = unexplained.lines().count();
    println!(
        "coverage: {} of {} instructions executed, in {} lines, {in_part} of them not in all copies; \
        {} blocks that panic were not; {explained} lines not executed for a reason, {unexplained} \
        without one",
        lines.executed,
        lines.instructions,
        lines.reached.len(),
        lines.panics,
    );
    println!("all lines that were not: {}", out.display());
    if unexplained > 0 {
        println!(
            "test them, or say why that is impossible: {}",
            unreachable.display()
        );
    }
    Ok(unexplained == 0 && stale.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs() {
        let mut executed = Executed::default();
        executed.add(
            "----------------\nIN: mlock_folio\n\
            0xffffffff81000010:  55  pushq %rbp\n0xffffffff81000011:  48 89 e5  movq\n\n\
            0xffffffff81000020:  c3  retq\n",
        );
        let addresses = [0x0f, 0x10, 0x11, 0x14, 0x20].map(|low| 0xffffffff81000000 + low);
        let mut found: Vec<u64> = executed.of(&addresses).into_iter().collect();
        found.sort();
        assert_eq!(found, [addresses[1], addresses[2], addresses[4]]);
    }

    #[test]
    fn blocks_end() {
        let function = "ffffffff81000000:       testl   %edi, %edi\n\
            ffffffff81000002:       je      0xffffffff81000009 <f+0x9>\n\
            ffffffff81000004:       callq   0xff <_RNvNtNtCs_4core9panicking5panic>\n\
            ffffffff81000009:       retq\n";
        let blocks = blocks(function.lines().filter_map(Instruction::parse).collect());
        let lengths: Vec<usize> = blocks.iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 1, 1, 0]);
        assert!(blocks[1][0].panics());
    }

    #[test]
    fn frames() {
        let sources = ["mm/mlock2/walk.rs".to_string()];
        let found = Some(("mm/mlock2/walk.rs".to_string(), 12));
        assert_eq!(place("/linux/mm/mlock2/walk.rs:12:3", &sources), found);
        assert_eq!(place("mm/mlock2/walk.rs:12:3", &sources), found);
        assert_eq!(place("/linux/mm/mlock2/sidewalk.rs:12:3", &sources), None);
        assert_eq!(place("??:0:0", &sources), None);
    }

    #[test]
    fn reasons() {
        let list =
            "# comment\n\na.rs: let a = 1;\nb.rs: c: d\n\tFor both.\n\nb.rs: e\n\tFor\n\tone.\n";
        let reasons = Reasons::parse(list).unwrap();
        let of = |file: &str, text: &str| {
            let reason = reasons.0.get(&(file.to_string(), text.to_string()));
            reason.map(|reason| reason.trim().to_string())
        };
        assert_eq!(of("a.rs", "let a = 1;").as_deref(), Some("For both."));
        assert_eq!(of("b.rs", "c: d").as_deref(), Some("For both."));
        assert_eq!(of("b.rs", "e").as_deref(), Some("For one."));
        assert!(Reasons::parse("a.rs: x\n").is_err());
        assert!(Reasons::parse("\twhy\n").is_err());
    }
}
