// SPDX-License-Identifier: GPL-2.0

//! Puts one mistake at a time into the kernel's code, and sees which test notices.
//!
//! A mutant is a patch of the kernel source. It is applied to the source itself, and built in a tree
//! that starts out for each mutant as it was without any: so only what the mutant changes is compiled,
//! and what it leaves behind does not last.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Error, Result, bail, ensure};
use regex_lite::Regex;

use crate::results::Sum;

const HEADER: &str = "mutant\tresult\tnoticed by\tseconds\twhen";
/// The name of the code as it is, which every test has to pass.
const NONE: &str = "(none)";
/// What a boot says for which the time was up.
const TOO_SLOW: &str = "The boot took more than";
/// How often to look whether a command has ended.
const POLL: Duration = Duration::from_millis(50);

/// Put one mistake at a time into the kernel's code, and see which test notices
#[derive(clap::Args)]
pub struct Args {
    /// The kernel source with our files in it, a git repository
    #[arg(long)]
    linux: PathBuf,
    /// A build tree of it
    #[arg(long)]
    from: PathBuf,
    /// The build tree for mutants, which starts as a copy of that
    #[arg(long)]
    tree: PathBuf,
    /// Where logs and results.tsv go
    #[arg(long)]
    work: PathBuf,
    /// The command that builds it
    #[arg(long)]
    build: String,
    /// A test of what was built, as NAME=COMMAND; several are tried in turn until one fails
    #[arg(long, required = true)]
    stage: Vec<Stage>,
    /// A file that tests are made of: what was noticed with an older one is tried again
    #[arg(long)]
    test: Vec<PathBuf>,
    /// Try those again that were noticed before
    #[arg(long)]
    again: bool,
    /// Patches of the kernel source
    #[arg(required = true)]
    mutants: Vec<PathBuf>,
}

impl Args {
    /// The build tree without any mutant, to start the next one from.
    fn pristine(&self) -> PathBuf {
        self.tree.with_extension("pristine")
    }

    /// Whether a verdict is of this code and of these tests.
    fn is_of_today(&self, verdict: Option<&Verdict>) -> bool {
        is_newer(verdict, &self.from.join("vmlinux"))
            && self.test.iter().all(|test| is_newer(verdict, test))
    }
}

#[derive(Clone)]
struct Stage {
    name: String,
    command: String,
}

impl FromStr for Stage {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, command) = text.split_once('=').context("want NAME=COMMAND")?;
        Ok(Self {
            name: name.to_string(),
            command: command.to_string(),
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// A test noticed: this one.
    Killed(String),
    Survived,
    /// It is none, and this is why.
    Broken(String),
}

impl Outcome {
    fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Killed(by) => ("killed", by),
            Self::Survived => ("survived", ""),
            Self::Broken(why) => ("broken", why),
        }
    }
}

/// What a mutant came to.
#[derive(Clone)]
struct Verdict {
    outcome: Outcome,
    seconds: f64,
    /// Since the epoch.
    when: u64,
}

pub fn run(args: &Args) -> Result<bool> {
    let mutants = named(&args.mutants)?;
    fs::create_dir_all(&args.work)
        .with_context(|| format!("cannot make {}", args.work.display()))?;
    let _alone = be_alone(&args.work)?;
    catch_signals();
    Source::new(args).recover()?;
    require_clean(&args.linux)?;
    require_applicable(&args.linux, &mutants)?;

    let file = args.work.join("results.tsv");
    let mut verdicts = read(&file)?;
    // Those that are no more: nothing may depend on what came of them.
    let patches = mutants[0].1.parent().unwrap_or(Path::new("."));
    verdicts.retain(|name, _| name == NONE || patches.join(format!("{name}.diff")).exists());
    let todo: Vec<_> = mutants
        .iter()
        .filter(|(name, patch)| {
            let verdict = verdicts.get(name);
            args.again || !is_settled(verdict, patch) || !args.is_of_today(verdict)
        })
        .collect();
    if !todo.is_empty() {
        // What the tests say of a mutant means nothing if they say it of the code as it is.
        let none = verdicts.get(NONE);
        let good = none.is_some_and(|verdict| verdict.outcome == Outcome::Survived)
            && args.is_of_today(none)
            && args.pristine().exists();
        if args.again || !good {
            verdicts.insert(NONE.to_string(), attempt(args, NONE, None)?);
            write(&file, &verdicts)?;
        }
        let (result, why) = verdicts[NONE].outcome.words();
        ensure!(
            verdicts[NONE].outcome == Outcome::Survived,
            "without any mutant: {result}: {why}; see {}",
            args.work.join(NONE).display()
        );
    }
    for (i, (name, patch)) in todo.iter().enumerate() {
        print!("{:>3}/{} ", i + 1, todo.len());
        verdicts.insert(name.clone(), attempt(args, name, Some(patch))?);
        write(&file, &verdicts)?;
    }
    Ok(report(&mutants, &verdicts))
}

/// A lock that ends with this program, however that ends. Two at once would put each other's mutants
/// into the source.
fn be_alone(work: &Path) -> Result<File> {
    let lock = File::create(work.join("lock"))?;
    // SAFETY: `flock()` touches no memory, and the descriptor is open.
    let status = unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    ensure!(status == 0, "another run is at it in {}", work.display());
    Ok(lock)
}

/// Each patch with its name, by which logs and results go.
fn named(patches: &[PathBuf]) -> Result<Vec<(String, PathBuf)>> {
    patches
        .iter()
        .map(|patch| {
            let patch = patch
                .canonicalize()
                .with_context(|| format!("no file {}", patch.display()))?;
            let name = patch.file_stem().unwrap_or_default().to_string_lossy();
            Ok((name.into_owned(), patch))
        })
        .collect()
}

/// Whether a mutant need not be tried again. One that survived may meet new tests.
fn is_settled(verdict: Option<&Verdict>, patch: &Path) -> bool {
    verdict.is_some_and(|verdict| matches!(verdict.outcome, Outcome::Killed(_)))
        && is_newer(verdict, patch)
}

fn is_newer(verdict: Option<&Verdict>, file: &Path) -> bool {
    let time = fs::metadata(file)
        .and_then(|data| data.modified())
        .map_or(u64::MAX, seconds);
    verdict.is_some_and(|verdict| verdict.when >= time)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

//
// One mutant
//

/// Builds and tests a mutant, or the code as it is.
fn attempt(args: &Args, name: &str, patch: Option<&Path>) -> Result<Verdict> {
    let logs = args.work.join(name);
    fs::create_dir_all(&logs)?;
    print!("{name}:");
    io::stdout().flush()?;

    let start = Instant::now();
    let mut source = Source::new(args);
    let outcome = source
        .apply(patch)
        .and_then(|()| build_and_test(args, &logs, patch.is_some()));
    let restored = source.restore();
    let outcome = outcome?;
    restored?;
    let (result, by) = outcome.words();
    println!("; {result}{}{by}", if by.is_empty() { "" } else { " by " });
    Ok(Verdict {
        outcome,
        seconds: start.elapsed().as_secs_f64(),
        when: seconds(SystemTime::now()),
    })
}

fn build_and_test(args: &Args, logs: &Path, is_mutant: bool) -> Result<Outcome> {
    let image = |tree: &Path| fs::metadata(tree.join("vmlinux")).and_then(|data| data.modified());
    let log = logs.join("build.log");

    let pristine = args.pristine();
    if is_mutant || is_same(&args.from.join(".config"), &pristine.join(".config")) {
        copy_tree(&pristine, &args.tree)?;
    } else {
        // In another place, much of it has to be built again.
        copy_tree(&args.from, &args.tree)?;
    }
    let before = image(&args.tree)?;
    if !step("build", &args.build, &log)?.success() {
        return Ok(Outcome::Broken(format!(
            "it does not compile: {}",
            log.display()
        )));
    }
    if !is_mutant {
        copy_tree(&args.tree, &pristine)?;
    } else if image(&args.tree)? == before {
        return Ok(Outcome::Broken("it changes nothing that is built".into()));
    }
    for stage in &args.stage {
        let log = logs.join(format!("{}.log", stage.name));
        let mut status = step(&stage.name, &stage.command, &log)?;
        if status.code() == Some(1) && is_too_slow(&fs::read_to_string(&log)?) {
            // It may have been the host that was.
            status = step(&stage.name, &stage.command, &log)?;
        }
        match status.code() {
            Some(0) => {}
            Some(1) => return Ok(Outcome::Killed(noticed(&fs::read_to_string(&log)?))),
            // What could not be run has noticed nothing.
            _ => {
                let log = log.display();
                return Ok(Outcome::Broken(format!(
                    "{} did not run: {log}",
                    stage.name
                )));
            }
        }
    }
    Ok(Outcome::Survived)
}

fn is_same(one: &Path, other: &Path) -> bool {
    matches!((fs::read(one), fs::read(other)), (Ok(one), Ok(other)) if one == other)
}

/// Makes the copy what the original is, time stamps included: make relies on them.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let mut contents = from.as_os_str().to_owned();
    contents.push("/");
    let status = Command::new("rsync")
        .args(["-a", "--delete", "--modify-window=-1"])
        // what boots leave behind
        .args(["--exclude=/run", "--exclude=/test", "--exclude=*.log"])
        .arg(contents)
        .arg(to)
        .status()
        .context("cannot run rsync: is it installed?")?;
    ensure!(status.success(), "rsync failed: {status}");
    Ok(())
}

/// Runs a command of a mutant, with its output in `log`, and says so.
fn step(name: &str, command: &str, log: &Path) -> Result<ExitStatus> {
    print!(" {name}");
    io::stdout().flush()?;
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let start = Instant::now();
    let mut child = Command::new("bash")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        // What it starts goes with it.
        .process_group(0)
        .spawn()
        .context("cannot run bash")?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let signal = SIGNAL.load(Ordering::Relaxed);
        if signal != 0 {
            // SAFETY: `kill()` touches no memory; the group is our child's, which is not reaped yet.
            unsafe { libc::kill(-(child.id() as libc::pid_t), libc::SIGKILL) };
            child.wait()?;
            bail!("interrupted by signal {signal}");
        }
        thread::sleep(POLL);
    };
    print!(" {:.0} s", start.elapsed().as_secs_f64());
    io::stdout().flush()?;
    Ok(status)
}

/// Whether a stage may tell of nothing but that time was up.
fn is_too_slow(log: &str) -> bool {
    static UNFINISHED: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?m)^not ok .*, 0 differ, [1-9][0-9]* without a result").unwrap()
    });
    let by = noticed(log);
    by == "timeout" || by.starts_with(TOO_SLOW) || UNFINISHED.is_match(log)
}

/// Which test failed first, or what else went wrong, by the output of a stage.
fn noticed(log: &str) -> String {
    /// The form of what tells, what tells the most first.
    static SIGNS: LazyLock<[Regex; 5]> = LazyLock::new(|| {
        [
            r"(?m)not ok [0-9]+ (?:- )?([^ :\n][^:#\n]*)",
            // but for the line that says where to cut
            r"(?m)^ *console\.log:[0-9]+: ([^-].*)$",
            &format!("(?m)^({TOO_SLOW} [0-9]+ s)"),
            r"(?m)^    it ended with: (.*)$",
            r"(?m)^(\S+ +fail .*)$",
        ]
        .map(|sign| Regex::new(sign).unwrap())
    });
    SIGNS
        .iter()
        .find_map(|sign| sign.captures(log)?.get(1))
        .map_or("a failure that it does not name".to_string(), |found| {
            found.as_str().trim().replace('\t', " ")
        })
}

//
// The source
//

fn git(linux: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(linux);
    command
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().context("cannot run git")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn require_clean(linux: &Path) -> Result<()> {
    let changes = output(git(linux).args(["status", "--porcelain"]))?;
    ensure!(
        changes.is_empty(),
        "{0} has changes of its own; look at them with 'git -C {0} status':\n{1}",
        linux.display(),
        changes.trim_end()
    );
    Ok(())
}

/// A mutant that the code has moved away from is found before hours have passed.
fn require_applicable(linux: &Path, mutants: &[(String, PathBuf)]) -> Result<()> {
    let stale: Vec<&str> = mutants
        .iter()
        .filter(|(_, patch)| output(git(linux).args(["apply", "--check"]).arg(patch)).is_err())
        .map(|(name, _)| name.as_str())
        .collect();
    ensure!(
        stale.is_empty(),
        "these do not apply to {}; the code has changed, so make them anew: {}",
        linux.display(),
        stale.join(" ")
    );
    Ok(())
}

/// The kernel source while a mutant is in it. What it changes is kept beside, so that it comes back
/// whatever happens, with its time stamps: otherwise make would build it anew everywhere.
struct Source<'a> {
    linux: &'a Path,
    saved: PathBuf,
}

impl<'a> Source<'a> {
    fn new(args: &'a Args) -> Self {
        Self {
            linux: &args.linux,
            saved: args.work.join("saved"),
        }
    }

    fn apply(&mut self, patch: Option<&Path>) -> Result<()> {
        let Some(patch) = patch else {
            return Ok(());
        };
        let names = output(
            git(self.linux)
                .args(["apply", "--numstat", "-z"])
                .arg(patch),
        )?;
        let new = self.saved.with_extension("new");
        if new.exists() {
            fs::remove_dir_all(&new)?;
        }
        for entry in names.split_terminator('\0') {
            let name = entry.rsplit('\t').next().unwrap_or_default();
            copy(&self.linux.join(name), &new.join(name))?;
        }
        // There all at once, or not at all.
        fs::rename(&new, &self.saved)?;
        output(git(self.linux).arg("apply").arg(patch))
            .with_context(|| format!("{} does not apply", patch.display()))?;
        Ok(())
    }

    fn restore(&mut self) -> Result<()> {
        if !self.saved.exists() {
            return Ok(());
        }
        put_back(&self.saved, self.linux)?;
        fs::remove_dir_all(&self.saved)?;
        require_clean(self.linux)
    }

    /// Restores what a run that was cut off has left.
    fn recover(&mut self) -> Result<()> {
        if self.saved.exists() {
            println!(
                "mutants: taking the last one out of {}",
                self.linux.display()
            );
        }
        self.restore()
    }
}

impl Drop for Source<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            eprintln!("mutants: {error:#}");
        }
    }
}

fn put_back(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            put_back(&path, &target)?;
        } else {
            copy(&path, &target)?;
        }
    }
    Ok(())
}

/// Copies a file and its time stamp.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = || -> io::Result<()> {
        fs::create_dir_all(to.parent().unwrap_or(to))?;
        fs::copy(from, to)?;
        let time = fs::metadata(from)?.modified()?;
        File::options().write(true).open(to)?.set_modified(time)
    };
    copied().with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// What this program was told to end by, or 0.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// Leaves it to `step()` to come to an end, so that the source is restored.
fn catch_signals() {
    extern "C" fn note(signal: libc::c_int) {
        SIGNAL.store(signal, Ordering::Relaxed);
    }
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
        // SAFETY: The handler does nothing but store to an atomic.
        unsafe {
            // nohup means it.
            if libc::signal(signal, note as *const () as libc::sighandler_t) == libc::SIG_IGN {
                libc::signal(signal, libc::SIG_IGN);
            }
        }
    }
}

//
// Results
//

fn read(file: &Path) -> Result<HashMap<String, Verdict>> {
    if !file.exists() {
        return Ok(HashMap::new());
    }
    let text = fs::read_to_string(file)?;
    let mut lines = text.lines();
    ensure!(
        lines.next() == Some(HEADER),
        "{}: its first line must be {HEADER:?}",
        file.display()
    );
    lines
        .map(|line| parse(line).with_context(|| format!("{}: {line:?}", file.display())))
        .collect()
}

fn parse(line: &str) -> Result<(String, Verdict)> {
    let fields: Vec<&str> = line.split('\t').collect();
    let &[name, result, by, seconds, when] = fields.as_slice() else {
        bail!("{} fields instead of 5", fields.len());
    };
    let outcome = match result {
        "killed" => Outcome::Killed(by.to_string()),
        "survived" => Outcome::Survived,
        "broken" => Outcome::Broken(by.to_string()),
        _ => bail!("no result"),
    };
    let verdict = Verdict {
        outcome,
        seconds: seconds.parse()?,
        when: when.parse()?,
    };
    Ok((name.to_string(), verdict))
}

fn write(file: &Path, verdicts: &HashMap<String, Verdict>) -> Result<()> {
    let mut names: Vec<&String> = verdicts.keys().collect();
    names.sort();
    let mut text = format!("{HEADER}\n");
    for name in names {
        let verdict = &verdicts[name];
        let (result, by) = verdict.outcome.words();
        text += &format!(
            "{name}\t{result}\t{by}\t{:.0}\t{}\n",
            verdict.seconds, verdict.when
        );
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Returns whether every mutant was noticed.
fn report(mutants: &[(String, PathBuf)], verdicts: &HashMap<String, Verdict>) -> bool {
    let width = mutants.iter().map(|(name, _)| name.len()).max();
    let width = width.unwrap_or_default().max(6);
    println!("\n{:width$}  result    seconds  noticed by", "mutant");
    let mut failed = Vec::new();
    for (name, _) in mutants {
        let verdict = &verdicts[name];
        let (result, by) = verdict.outcome.words();
        println!("{name:width$}  {result:<8}  {:>7.0}  {by}", verdict.seconds);
        if !matches!(verdict.outcome, Outcome::Killed(_)) {
            failed.push(name.as_str());
        }
    }
    println!();
    if !failed.is_empty() {
        println!("No test has noticed: {}", failed.join(" "));
    }
    let sum = Sum {
        passed: (mutants.len() - failed.len()) as u64,
        failed: failed.len() as u64,
        skipped: 0,
    };
    println!("{sum}");
    sum.good()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_slow() {
        let lost = "not ok 2 seed 1: 9 operations of 10, 2 sequences, 0 differ, 1 without a result";
        for log in [
            "    it ended with: timeout\n",
            "The boot took more than 60 s\n",
            lost,
        ] {
            assert!(is_too_slow(log), "{log}");
        }
        let differs = lost.replace("0 differ", "1 differ");
        for log in ["not ok 1 a case\n    it ended with: timeout\n", &differs] {
            assert!(!is_too_slow(log), "{log}");
        }
    }

    #[test]
    fn who_noticed() {
        let cases = [
            (
                "a  pass\nb  fail  1 passed, 2 failed\n    not ok 7 group.case\n    not ok 8 x\n",
                "group.case",
            ),
            (
                "not ok 1 stored cases: 9 operations, 1 sequences\n",
                "stored cases",
            ),
            (
                "b  fail\n    it ended with: the end of the machine\n\nThe console tells of trouble:\n    \
                 console.log:8: ---[ cut here ]--- (seen during b)\n    console.log:9: BUG: at x (seen during b)\n",
                "BUG: at x (seen during b)",
            ),
            (
                "    it ended with: timeout\nThe boot took more than 60 s and was ended (--timeout).\n",
                "The boot took more than 60 s",
            ),
            ("    it ended with: timeout\n", "timeout"),
            ("", "a failure that it does not name"),
        ];
        for (log, want) in cases {
            assert_eq!(noticed(log), want, "{log}");
        }
    }

    #[test]
    fn there_and_back() {
        let line = "m\tkilled\ta test\t12\t1700000000";
        let (name, verdict) = parse(line).unwrap();
        assert_eq!(name, "m");
        assert_eq!(verdict.outcome, Outcome::Killed("a test".into()));
        assert!(parse("m\tkilled\ta\t12").is_err());
        assert!(parse("m\tgone\ta\t12\t1").is_err());
    }

    #[test]
    fn only_what_was_killed_is_settled() {
        let file = Path::new("/proc/self/exe");
        let verdict = |outcome, when| Verdict {
            outcome,
            seconds: 1.0,
            when,
        };
        let killed = Outcome::Killed("a".into());
        assert!(is_settled(Some(&verdict(killed.clone(), u64::MAX)), file));
        assert!(!is_settled(Some(&verdict(killed, 0)), file));
        assert!(!is_settled(
            Some(&verdict(Outcome::Survived, u64::MAX)),
            file
        ));
        assert!(!is_settled(None, file));
    }
}
