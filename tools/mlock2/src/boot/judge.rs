// SPDX-License-Identifier: GPL-2.0

//! The judgement: what each program came to, and the boot itself, by the lines of the console.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::machine::Ending;
use super::plan::Plan;
use super::setup::Setup;
use crate::console::{Line, Marker, is_trouble};
use crate::ktap::{self, Counts};
use crate::results::Row;

/// The entry of a plan whose output is shown as it comes.
const SHOWN: &str = "demo";
const LAST_LINES: usize = 20;
const MOST_SHOWN: usize = 20;

/// How many lines of what a case has said are shown if it fails.
const MOST_SAID: usize = 8;

/// A program that runs.
struct Running {
    name: String,
    start: Instant,
    log: File,
    ktap: ktap::Parser,
    failures: Vec<String>,
    /// What the case that runs has said.
    said: Vec<String>,
    /// Why cases were skipped.
    skips: Vec<String>,
    /// Empty lines that have come; init puts one before its marker.
    blanks: usize,
    shown: bool,
}

impl Running {
    fn line(&mut self, text: &str) -> Result<()> {
        if text.is_empty() {
            self.blanks += 1;
            return Ok(());
        }
        self.put_blanks(self.blanks)?;
        let line = text.trim();
        if self.ktap.line(text) {
            self.failures.push(line.to_string());
            self.failures
                .extend(self.said.drain(..).map(|said| format!("  {said}")));
        }
        if line.starts_with("ok ") || line.contains(" RUN  ") {
            self.said.clear();
        } else if line.starts_with('#') && self.said.len() < MOST_SAID {
            self.said.push(line.to_string());
        }
        if let Some(why) = ktap::skipped(text) {
            self.skips.push(why.to_string());
        }
        self.put(text)
    }

    fn put_blanks(&mut self, count: usize) -> Result<()> {
        self.blanks = 0;
        (0..count).try_for_each(|_| self.put(""))
    }

    fn put(&mut self, text: &str) -> Result<()> {
        if self.shown {
            println!("{text}");
        }
        Ok(writeln!(self.log, "{text}")?)
    }
}

/// A data race that KCSAN tells of, up to where its report ends.
struct Race {
    /// The line of the log that tells where it begins.
    at: String,
    report: String,
}

impl Race {
    const TITLE: &str = "BUG: KCSAN: ";
    const END: &str = "==========";

    /// Whether it is among what is known: all the words that belong together are in the report, and
    /// neither access is in a function of mm/mlock2, of the mm crate or of kernel::mm.
    fn is_known(&self, known: &[String]) -> bool {
        const OURS: [&str; 4] = ["6mlock2", "mlock2_", "_2mm", "6kernel2mm"];
        let title = self.report.lines().next().unwrap_or_default();
        known
            .iter()
            .map(|words| words.trim())
            .filter(|words| !words.is_empty())
            .any(|words| words.split('&').all(|words| self.report.contains(words)))
            && !OURS.iter().any(|ours| title.contains(ours))
    }
}

/// What a boot has come to so far, by its console.
pub struct Session<'a> {
    /// What this kernel is called
    kernel: &'a str,
    image: &'a Path,
    setup: &'a Setup,
    /// See `Args::absent`.
    absent: &'a [String],
    plan: &'a Plan,
    work: &'a Path,
    lines: usize,
    running: Option<Running>,
    rows: Vec<Row>,
    /// What was run, but is about nothing that this kernel has
    none: Vec<String>,
    trouble: Vec<String>,
    known: Vec<String>,
    race: Option<Race>,
}

impl<'a> Session<'a> {
    pub fn new(
        kernel: &'a str,
        image: &'a Path,
        setup: &'a Setup,
        absent: &'a [String],
        plan: &'a Plan,
        work: &'a Path,
    ) -> Self {
        Self {
            kernel,
            image,
            setup,
            absent,
            plan,
            work,
            lines: 0,
            running: None,
            rows: Vec::new(),
            none: Vec::new(),
            trouble: Vec::new(),
            known: Vec::new(),
            race: None,
        }
    }

    /// Takes a line of the console.
    pub fn line(&mut self, line: Line) -> Result<()> {
        self.lines += 1;
        let text = match line {
            Line::Kernel(text) => {
                self.look_for_trouble(&text);
                return Ok(());
            }
            Line::Program(text) => text,
        };
        match Marker::parse(&text) {
            Some(Marker::Begin(name)) => self.begin(name)?,
            Some(Marker::End(name, how)) => {
                if self.running.as_ref().is_some_and(|r| r.name == name) {
                    self.end(how)?;
                } else {
                    self.add_trouble(&text);
                }
            }
            Some(Marker::Error(_)) => self.add_trouble(&text),
            Some(Marker::Done) => {}
            None => match &mut self.running {
                Some(running) => {
                    let failures = running.failures.len();
                    running.line(&text)?;
                    // A failed case counts where it is, not twice.
                    if running.failures.len() == failures {
                        self.look_for_trouble(&text);
                    }
                }
                None => self.look_for_trouble(&text),
            },
        }
        Ok(())
    }

    fn look_for_trouble(&mut self, text: &str) {
        if let Some(race) = &mut self.race {
            if text.starts_with(Race::END) {
                self.end_race();
                return;
            }
            race.report += "\n";
            race.report += text;
        }
        if text.contains(Race::TITLE) {
            self.end_race();
            self.race = Some(Race {
                at: self.locate(text),
                report: text.to_string(),
            });
        } else if is_trouble(text) {
            self.add_trouble(text);
        }
    }

    fn end_race(&mut self) {
        if let Some(race) = self.race.take() {
            if race.is_known(&self.setup.known) {
                self.known.push(race.at);
            } else {
                self.trouble.push(race.at);
            }
        }
    }

    fn add_trouble(&mut self, text: &str) {
        let line = self.locate(text);
        self.trouble.push(line);
    }

    /// Where in the log a line of the console stands.
    fn locate(&self, text: &str) -> String {
        let during = match &self.running {
            Some(running) => format!(" (seen during {})", running.name),
            None => String::new(),
        };
        format!("console.log:{}: {}{during}", self.lines, text.trim())
    }

    fn begin(&mut self, name: &str) -> Result<()> {
        if self.running.is_some() {
            self.end("without an end marker")?;
        }
        if !self.plan.0.iter().any(|entry| entry.name == name) {
            self.add_trouble(&format!("{name:?} was begun, but is not in the plan"));
            return Ok(());
        }
        let shown = name == SHOWN && !self.setup.verbose;
        if shown {
            println!();
        } else if !self.setup.verbose {
            print!("{name:<24} ");
            io::stdout().flush()?;
        }
        self.running = Some(Running {
            name: name.to_string(),
            start: Instant::now(),
            log: File::create(self.work.join(format!("{name}.log")))?,
            ktap: ktap::Parser::default(),
            failures: Vec::new(),
            said: Vec::new(),
            skips: Vec::new(),
            blanks: 0,
            shown,
        });
        Ok(())
    }

    fn end(&mut self, how: &str) -> Result<()> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        running.put_blanks(running.blanks.saturating_sub(1))?;
        if running.shown {
            println!();
        }
        if running.shown || self.setup.verbose {
            print!("{:<24} ", running.name);
        }
        let is_ktap = running.ktap.is_ktap();
        let mut counts = judge(running.ktap.finish(), is_ktap, how);
        let absent = |why: &&String| self.absent.contains(why);
        let absent = running.skips.iter().filter(absent).count() as u64;
        counts.skipped = counts.skipped.saturating_sub(absent);
        if absent > 0 && counts.passed + counts.failed + counts.missing + counts.skipped == 0 {
            println!("none  this kernel has nothing that its {absent} cases are about");
            self.none.push(running.name);
            return Ok(());
        }
        let row = Row::new(
            self.kernel,
            &running.name,
            counts,
            running.start.elapsed().as_secs_f64(),
        );
        println!(
            "{}  {} passed, {} failed, {} skipped, {:.1} s",
            row.result(),
            row.passed,
            row.failed,
            row.skipped,
            row.seconds
        );
        if absent > 0 {
            println!("    {absent} cases are about what this architecture does not have");
        }
        if row.result() == "fail" {
            print_some(&running.failures);
            if counts.missing > 0 {
                println!("    {} planned cases have no result", counts.missing);
            }
            if how != "exit=1" || running.failures.is_empty() {
                println!("    it ended with: {how}");
            }
            println!("    see {}/{}.log", self.work.display(), running.name);
        }
        self.rows.push(row);
        Ok(())
    }

    /// The rows of all that was planned, the boot itself last.
    pub fn finish(mut self, ending: Ending, counters: &[u64], seconds: f64) -> Vec<Row> {
        let how = match ending {
            Ending::Done => "nothing, before init was done",
            Ending::Stopped => "the end of the machine",
            Ending::NoInit => "the end of the time to come to init",
            Ending::TimedOut => "the end of the time for the whole boot",
        };
        if let Err(error) = self.end(how) {
            self.trouble.push(format!("{error:#}"));
        }
        let failed = Counts {
            failed: 1,
            ..Counts::default()
        };
        for entry in &self.plan.0 {
            let was_run = self.rows.iter().any(|row| row.test == entry.name)
                || self.none.contains(&entry.name);
            if !was_run {
                println!("{:<24} fail  it did not run", entry.name);
                self.rows
                    .push(Row::new(self.kernel, &entry.name, failed, 0.0));
            }
        }

        self.end_race();
        if !self.known.is_empty() {
            println!("\nThe console tells of trouble that is not ours (--known):");
            print_some(&self.known);
        }
        if !self.trouble.is_empty() {
            println!("\nThe console tells of trouble:");
            print_some(&self.trouble);
        }
        if ending != Ending::Done {
            match ending {
                Ending::TimedOut => println!(
                    "\nThe boot took more than {} s and was ended (--timeout).",
                    self.setup.timeout
                ),
                Ending::NoInit => println!(
                    "\nThe kernel did not come to init within {} s and was ended (--init-limit).",
                    self.setup.init_limit
                ),
                _ => println!("\nThe machine stopped before init was done."),
            }
            print_counters(counters, self.image);
            for name in ["qemu.log", "console.log"] {
                print_last_lines(&self.work.join(name));
            }
        }
        let good = ending == Ending::Done && self.trouble.is_empty();
        let counts = Counts {
            passed: good.into(),
            failed: (!good).into(),
            ..Counts::default()
        };
        self.rows
            .push(Row::new(self.kernel, "boot", counts, seconds));
        self.rows
    }
}

/// What a program came to, by its cases and the way it ended. The exit statuses are those of
/// tools/testing/selftests/kselftest.h.
fn judge(mut counts: Counts, is_ktap: bool, how: &str) -> Counts {
    match how {
        // Without KTAP, the program is one case. With it, having run none is no success.
        "exit=0" if counts.total() == 0 && is_ktap => counts.failed = 1,
        "exit=0" if counts.total() == 0 => counts.passed = 1,
        "exit=0" => {}
        // A skip of it all, at whatever point
        "exit=4" => {
            counts.skipped += counts.missing;
            counts.missing = 0;
            counts.skipped = counts.skipped.max(1);
        }
        _ if counts.failed + counts.missing == 0 => counts.failed = 1,
        _ => {}
    }
    counts
}

fn print_some(lines: &[String]) {
    for line in lines.iter().take(MOST_SHOWN) {
        println!("    {line}");
    }
    if lines.len() > MOST_SHOWN {
        println!("    ... and {} more", lines.len() - MOST_SHOWN);
    }
}

/// Where the CPUs were, with the symbols of the System.map above the image, if there is one.
fn print_counters(counters: &[u64], image: &Path) {
    let map = image.ancestors().map(|dir| dir.join("System.map"));
    let map = map.into_iter().find_map(|map| fs::read_to_string(map).ok());
    let map = map.unwrap_or_default();
    for (cpu, &counter) in counters.iter().enumerate() {
        // Sorted by address, and all in one line each: "address type symbol"
        let symbol = map.lines().map_while(|line| {
            let (address, symbol) = line.split_once(' ')?;
            let address = u64::from_str_radix(address, 16).ok()?;
            (address <= counter).then_some((address, symbol))
        });
        match symbol.last() {
            Some((address, symbol)) => {
                println!("CPU {cpu} was at {symbol}+{:#x}", counter - address);
            }
            None => println!("CPU {cpu} was at {counter:#x}"),
        }
    }
}

fn print_last_lines(file: &Path) {
    let bytes = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return;
    }
    println!("The last lines of {}:", file.display());
    for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
        println!("    {}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn races_that_are_known() {
        let known = ["", "race in a / b ", "race in c&read&d+"].map(String::from);
        let is_known = |report: &str| {
            let report = format!("BUG: KCSAN: {report}");
            let at = String::new();
            Race { at, report }.is_known(&known)
        };
        assert!(is_known("race in a / b"));
        assert!(!is_known("race in a / x"));
        assert!(is_known("race in c / x\nread\n c+0x1\n d+0x1"));
        assert!(!is_known("race in c / x\nread\n c+0x1\n e+0x1"));
        assert!(!is_known("race in c / _RNvNt6mlock2\nread\n c+0x1\n d+0x1"));
    }

    #[test]
    fn judgements() {
        let counts = |passed, failed, skipped, missing| Counts {
            passed,
            failed,
            skipped,
            missing,
        };
        let none = Counts::default();
        assert_eq!(judge(none, false, "exit=0"), counts(1, 0, 0, 0));
        assert_eq!(judge(none, true, "exit=0"), counts(0, 1, 0, 0));
        assert_eq!(judge(none, false, "exit=1"), counts(0, 1, 0, 0));
        assert_eq!(judge(none, false, "missing"), counts(0, 1, 0, 0));
        assert_eq!(judge(none, true, "exit=4"), counts(0, 0, 1, 0));
        let some = counts(2, 0, 0, 1);
        assert_eq!(judge(some, true, "exit=0"), some);
        assert_eq!(judge(some, true, "exit=4"), counts(2, 0, 1, 0));
        assert_eq!(judge(some, true, "timeout"), some);
        let good = counts(2, 0, 0, 0);
        assert_eq!(judge(good, true, "signal=11"), counts(2, 1, 0, 0));
        assert_eq!(judge(good, true, "exit=2"), counts(2, 1, 0, 0));
    }
}
