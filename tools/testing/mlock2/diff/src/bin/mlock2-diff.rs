// SPDX-License-Identifier: GPL-2.0

//! Runs sequences of operations on two kernels, compares what user space saw, and shrinks a sequence
//! that differs to the operations that matter. Where a sequence says so, its last operation is run
//! once for each of its allocations, which fails. The results are KTAP.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use mlock2_diff::case::{self, Case};
use mlock2_diff::generate;
use mlock2_diff::job::Job;
use mlock2_diff::op::{Call, Op};

/// How often to say how far it is.
const SAY: Duration = Duration::from_secs(20);
/// Seconds for a boot, and for an operation at the most.
const BOOT_SECONDS: u64 = 300;
const OPS_PER_SECOND: u64 = 10;
/// How many allocations the last operation of a case makes for which each is to fail, at a guess.
const RUNS: u64 = 40;
/// How many lines of a difference are shown.
const LINES: usize = 30;
/// How many of a hundred operations have to be done at least, for a comparison to count.
const ENOUGH: u64 = 95;
/// From so many generated operations on, every state has to come up.
const MANY: u64 = 50_000;

/// Compares what user space sees of the mlock family on two kernels
///
/// The exit status is 0 if there is no difference, 1 if there is one, and 2 if it could not be
/// tried.
#[derive(Parser)]
struct Args {
    /// The command that boots the kernel that is right, without --work, --file and limits
    #[arg(long)]
    oracle: String,
    /// The same for the kernel that is tested
    #[arg(long)]
    tested: String,
    /// Where jobs, logs and what is found go
    #[arg(long)]
    work: PathBuf,
    /// A directory of *.case files, which are run first; may be given several times. Those that say
    /// "inject" need a kernel with fault injection, booted with slab_debug=F cgroup.memory=nokmem
    #[arg(long)]
    cases: Vec<PathBuf>,
    /// How many operations are generated
    #[arg(long, default_value_t = 50_000)]
    ops: u64,
    /// How many sequences are generated whose last call is run again with each of its allocations
    /// failing; they need such a kernel, too
    #[arg(long, default_value_t = 0)]
    inject: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What this architecture does not have and the sequences do without, in the words of the
    /// guest's program, separated by '|'
    #[arg(long, default_value = "", value_delimiter = '|')]
    absent: Vec<String>,
    /// Fail if a call never succeeds or a state is never reached in many operations
    #[arg(long)]
    reach_all: bool,
    /// How many of the sequences that differ are shrunk
    #[arg(long, default_value_t = 3)]
    shrink: usize,
}

fn main() -> ExitCode {
    match compare(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("mlock2-diff: error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn compare(args: &Args) -> Result<bool> {
    let mut stored = Vec::new();
    for dir in &args.cases {
        stored.extend(read_cases(dir)?);
    }
    stored.extend((0..args.inject).map(|index| generate::injected(args.seed, index)));
    let machines = Machines::new(args)?;
    let mut job = case::text(&stored);
    if args.ops > 0 {
        job += &format!("generate {} {}\n", args.seed, args.ops);
    }
    let cases: Vec<Case> = Job::parse(&job)?.all().collect();
    ensure!(!cases.is_empty(), "there is nothing to run");
    let mut names = HashSet::new();
    if let Some(twice) = cases.iter().find(|case| !names.insert(&case.name)) {
        bail!(
            "two cases are named {}, so one would hide the other",
            twice.name
        );
    }
    let (stored, generated) = cases.split_at(stored.len());
    let (injected, plain): (Vec<&Case>, Vec<&Case>) = stored.iter().partition(|case| case.inject);
    let groups = [
        ("stored cases".to_string(), plain),
        (format!("seed {}", args.seed), generated.iter().collect()),
        ("every allocation fails once".to_string(), injected),
    ];
    let groups = groups.iter().filter(|(_, cases)| !cases.is_empty());

    println!("KTAP version 1");
    println!("1..{}", groups.clone().count());
    println!(
        "# oracle: {}; tested: {}",
        kernel(&args.oracle),
        kernel(&args.tested)
    );
    let start = Instant::now();
    let [oracle, tested] = machines.run("all", NO_TRACE, &job, operations(&cases))?;
    for (log, name) in [(&oracle, "oracle"), (&tested, "tested")] {
        let file = |what: &str| args.work.join(format!("{what}.{name}"));
        fs::write(file("tally"), log.tally.join("\n") + "\n")?;
        let counts = cases.iter().filter_map(|case| {
            let count = log.allocations.get(&case.name)?;
            Some(format!("{} {count}\n", case.name))
        });
        fs::write(file("allocations"), counts.collect::<String>())?;
    }
    for absent in oracle.absent.iter().chain(&tested.absent) {
        ensure!(
            args.absent.contains(absent),
            "the kernel has {absent}, which --absent does not allow for"
        );
    }
    say_coverage(&oracle);
    eprintln!(
        "# {} sequences in {:.0} s",
        cases.len(),
        start.elapsed().as_secs_f64()
    );

    let unreached = match args.ops {
        MANY.. if args.reach_all => unreached(&oracle.tally),
        _ => Vec::new(),
    };
    for what in &unreached {
        println!("# in so many operations, none came to this: {what}");
    }

    let died: Vec<&String> = oracle.died.iter().chain(&tested.died).collect();
    for died in died.iter().take(LINES) {
        println!("# it was not to be the end of a process: {died}");
    }

    let different = |case: &&&Case| oracle.runs(case) != tested.runs(case);
    let missing = |case: &&&Case| !(oracle.is_complete(case) && tested.is_complete(case));
    let mut bad: Vec<&Case> = Vec::new();
    // Else less was compared than was meant to be.
    let mut all_good = unreached.is_empty() && died.is_empty();
    for (number, (name, group)) in (1..).zip(groups.clone()) {
        let differ = group.iter().filter(different).count();
        let lost = group.iter().filter(missing).count();
        bad.extend(group.iter().filter(different));
        let mut good = differ == 0 && lost == 0;
        let what = if group[0].inject {
            let counts = || {
                group
                    .iter()
                    .filter_map(|case| oracle.allocations.get(&case.name))
            };
            let failed: u64 = counts().sum();
            let none = counts().filter(|count| **count == 0).count();
            let left = oracle.left.len() + tested.left.len();
            // None that failed would mean that nothing was tried.
            good &= left == 0 && failed > 0;
            format!(
                "{} scenarios ({none} without an allocation), {failed} failed allocations, {left} left something locked",
                group.len()
            )
        } else {
            let ops = |case: &&Case| oracle.operations.get(&case.name);
            let done: u64 = group.iter().filter_map(ops).sum();
            let asked: u64 = group.iter().map(|case| case.ops.len() as u64).sum();
            // What a process that is gone was asked for is not done.
            if done < asked * ENOUGH / 100 {
                println!("# {} of {asked} operations were not done", asked - done);
                good = false;
            }
            format!("{done} operations of {asked}, {} sequences", group.len())
        };
        all_good &= good;
        println!(
            "{} {number} {name}: {what}, {differ} differ, {lost} without a result",
            if good { "ok" } else { "not ok" }
        );
    }
    for (log, name) in [(&oracle, "oracle"), (&tested, "tested")] {
        for left in log.left.iter().take(LINES) {
            println!("# {name}: after all processes are gone, {left} more than before");
        }
    }
    for log in [&oracle, &tested] {
        if let Some(trouble) = &log.trouble {
            println!("# {trouble}");
        }
    }
    if let Some(case) = cases.iter().find(|case| missing(&case)) {
        // What a kernel did not survive cannot be shrunk with many trials in one boot.
        let file = machines.store(&[], case, &args.work, &[])?;
        println!("# the first without a result: {}", file.display());
        return Ok(false);
    }
    for case in &bad {
        println!("#   {}", first_difference(&oracle, &tested, case).words);
    }
    for case in bad.iter().take(args.shrink) {
        let first = first_difference(&oracle, &tested, case);
        report(&machines, &job, &cases, case, &first, &args.work)?;
    }
    Ok(all_good && oracle.trouble.is_none() && tested.trouble.is_none())
}

/// Which kernel a command boots, by the name that it gives it.
fn kernel(command: &str) -> &str {
    let name = command.split_once("--name '").map(|(_, rest)| rest);
    name.and_then(|rest| rest.split('\'').next())
        .unwrap_or("no name")
}

/// About how many operations cases take, for the time that they may take.
fn operations(cases: &[Case]) -> u64 {
    let one = |case: &Case| case.steps().len() as u64 * if case.inject { RUNS } else { 1 };
    cases.iter().map(one).sum()
}

fn read_cases(dir: &Path) -> Result<Vec<Case>> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .with_context(|| format!("cannot read {}", dir.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "case")
    });
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let job =
            Job::parse(&fs::read_to_string(&file)?).with_context(|| file.display().to_string())?;
        cases.extend(job.cases);
    }
    Ok(cases)
}

/// The states that no process was in, and the calls that never succeeded, by a guest's tally.
fn unreached(tally: &[String]) -> Vec<&str> {
    // Who exits gets no result; compaction is not compared; the last must not be.
    const NEVER: [&str; 6] = [
        "call exit",
        "call compact",
        // not allowed
        "call mremap.FIXED",
        "call mremap.DONTUNMAP",
        "call msync.ASYNC|SYNC",
        "state not_back_to_baseline",
    ];
    tally
        .iter()
        .filter(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            ["state", _, count] => count == "0",
            ["call", _, ref results @ ..] => !results.iter().any(|ret| ret.starts_with("ok=")),
            _ => false,
        })
        .filter(|line| {
            let what = line.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ");
            !NEVER.contains(&what.as_str())
        })
        .map(String::as_str)
        .collect()
}

fn say_coverage(log: &Log) {
    for line in &log.tally {
        if ["call", "not_after"]
            .iter()
            .all(|word| !line.starts_with(word))
        {
            println!("# {line}");
        }
    }
}

//
// Two kernels
//

/// No run has this name.
const NO_TRACE: (&str, usize) = ("none", 0);

struct Machines {
    commands: [(PathBuf, String); 2],
}

/// What came out of one boot.
#[derive(Default)]
struct Log {
    /// By the name of the run, as are the operations that were run.
    digests: HashMap<String, String>,
    operations: HashMap<String, u64>,
    /// By the name of the case, how many of its allocations failed, one after the other.
    allocations: HashMap<String, u64>,
    /// The runs in which a process came to an end that it was not to come to, and of what.
    died: Vec<String>,
    /// What was still locked when all processes were gone.
    left: Vec<String>,
    tally: Vec<String>,
    /// What the kernel does not have.
    absent: Vec<String>,
    lines: Vec<String>,
    trouble: Option<String>,
}

impl Log {
    /// What came out of each run of a case; of a case without failures, there is one.
    fn runs(&self, case: &Case) -> Vec<&String> {
        let most = if case.inject { u32::MAX } else { 1 };
        (1..=most)
            .map_while(|nth| self.digests.get(&case.run_name(nth)))
            .collect()
    }

    fn is_complete(&self, case: &Case) -> bool {
        if case.inject {
            self.allocations.contains_key(&case.name)
        } else {
            self.digests.contains_key(&case.name)
        }
    }
}

impl Machines {
    fn new(args: &Args) -> Result<Self> {
        let work = |name: &str| -> Result<PathBuf> {
            let dir = args.work.join(name);
            fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
            Ok(dir)
        };
        Ok(Self {
            commands: [
                (work("oracle")?, args.oracle.clone()),
                (work("tested")?, args.tested.clone()),
            ],
        })
    }

    /// Runs a job on both kernels at once, with one run traced from a step on. Without a trace, the
    /// job has a line of the same length, so that time passes alike.
    fn run(
        &self,
        what: &str,
        (traced, from): (&str, usize),
        job: &str,
        ops: u64,
    ) -> Result<[Log; 2]> {
        let job = &format!("trace {traced:<32} {from:>4}\n{job}");
        thread::scope(|scope| {
            let running = self
                .commands
                .each_ref()
                .map(|(work, command)| scope.spawn(move || boot(what, work, command, job, ops)));
            let [first, second] = running.map(|thread| match thread.join() {
                Ok(log) => log,
                Err(_) => bail!("a thread panicked"),
            });
            Ok([first?, second?])
        })
    }

    /// Which of `cases` differ.
    fn try_all(&self, cases: &[Case]) -> Result<Vec<bool>> {
        let logs = self.run_all(cases)?;
        let differs = |case| logs[0].runs(case) != logs[1].runs(case);
        Ok(cases.iter().map(differs).collect())
    }

    fn run_all(&self, cases: &[Case]) -> Result<[Log; 2]> {
        self.run("shrink", NO_TRACE, &case::text(cases), operations(cases))
    }

    /// The first step from `from` on after which run `nth` of `case` differs in a job, and the lines
    /// that do.
    fn trace(
        &self,
        (job, ops): (&str, u64),
        case: &Case,
        nth: u32,
        from: usize,
    ) -> Result<Option<(usize, Vec<String>)>> {
        let logs = self.run("trace", (&case.run_name(nth), from), job, ops)?;
        let [first, second] = logs.each_ref().map(|log| blocks(&log.lines));
        let end = case.steps().len();
        for i in 0..first.len().max(second.len()) {
            let (one, other) = (first.get(i), second.get(i));
            if one == other {
                continue;
            }
            let (one, other) = (
                one.copied().unwrap_or_default(),
                other.copied().unwrap_or_default(),
            );
            let mut lines = Vec::new();
            for (name, here, there) in [("oracle", one, other), ("tested", other, one)] {
                lines.extend(
                    here.iter()
                        .filter(|line| !there.contains(line))
                        .map(|line| format!("{name}: {line}")),
                );
            }
            let index = one
                .first()
                .or(other.first())
                .and_then(|line| line.strip_prefix("op ")?.split(' ').next()?.parse().ok());
            return Ok(Some((index.unwrap_or(end), lines)));
        }
        Ok(None)
    }

    /// Writes a case, and what is to be run before it, to a file of its own. Their names are not
    /// those of generated ones, beside which they may be run.
    fn store(
        &self,
        before: &[Case],
        case: &Case,
        work: &Path,
        notes: &[String],
    ) -> Result<PathBuf> {
        let dir = work.join("found");
        fs::create_dir_all(&dir)?;
        let file = dir.join(format!("{}.case", case.name));
        let notes: String = notes.iter().map(|note| format!("# {note}\n")).collect();
        let named = |case: &Case| Case {
            name: format!("found-{}", case.name),
            ..case.clone()
        };
        let cases: Vec<Case> = before.iter().chain([case]).map(named).collect();
        fs::write(&file, notes + &case::text(&cases))?;
        Ok(file)
    }
}

/// The lines of a trace, operation by operation.
fn blocks(lines: &[String]) -> Vec<&[String]> {
    lines
        .chunk_by(|_, next| !(next.starts_with("op ") || next == "end"))
        .collect()
}

fn boot(what: &str, work: &Path, command: &str, job: &str, ops: u64) -> Result<Log> {
    let job_file = work.join("diff.job");
    let log_file = work.join("diff.log");
    fs::write(&job_file, job).with_context(|| format!("cannot write {}", job_file.display()))?;
    if log_file.exists() {
        fs::remove_file(&log_file)?;
    }
    let seconds = BOOT_SECONDS + ops / OPS_PER_SECOND;
    let output = fs::File::create(work.join("boot.log"))?;
    let command = format!(
        "exec {command} --work '{}' --file '{}' --limit {seconds} --timeout {}",
        work.display(),
        job_file.display(),
        seconds + BOOT_SECONDS
    );
    let mut child = Command::new("bash")
        .args(["-c", &command])
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("cannot run bash")?;
    let mut next = Instant::now() + SAY;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > next {
            next += SAY;
            let log = fs::read_to_string(&log_file).unwrap_or_default();
            let done: u64 = log
                .lines()
                .filter_map(case_line)
                .map(|(_, ops, _)| ops)
                .sum();
            let work = work.display();
            eprintln!("# {what}: {work}: {done} of about {ops} operations");
        }
        thread::sleep(Duration::from_millis(50));
    };

    let text = fs::read_to_string(&log_file)
        .with_context(|| format!("the boot came to nothing; see {}/boot.log", work.display()))?;
    let mut log = Log::default();
    for line in text.lines() {
        if let Some((name, ops, digest)) = case_line(line) {
            log.digests.insert(name.to_string(), digest.to_string());
            log.operations.insert(name.to_string(), ops);
        } else if let Some((name, count)) = allocations_line(line) {
            log.allocations.insert(name.to_string(), count);
        } else if let Some(left) = line.strip_prefix("left ") {
            log.left.push(left.to_string());
        } else if let Some(died) = line.strip_prefix("died ") {
            log.died.push(died.to_string());
        } else if line.starts_with("no ") {
            log.absent.push(line.to_string());
        } else if let Some(tally) = line.strip_prefix("tally ") {
            log.tally.push(tally.to_string());
        } else {
            log.lines.push(line.to_string());
        }
    }
    if !status.success() {
        let error = log.lines.iter().find(|line| line.contains("error:"));
        log.trouble = Some(format!(
            "{}: {}; see boot.log there",
            work.display(),
            error.map_or("the boot failed", |line| line)
        ));
    }
    Ok(log)
}

/// The name, the number of operations and the digest of "case NAME OPERATIONS DIGEST".
fn case_line(line: &str) -> Option<(&str, u64, &str)> {
    let mut words = line.strip_prefix("case ")?.split(' ');
    Some((words.next()?, words.next()?.parse().ok()?, words.next()?))
}

/// The name and the number of "allocations NAME COUNT".
fn allocations_line(line: &str) -> Option<(&str, u64)> {
    let (name, count) = line.strip_prefix("allocations ")?.split_once(' ')?;
    Some((name, count.parse().ok()?))
}

//
// A difference
//

/// Where a case differs that does: the run, the step, and both in words.
struct First {
    nth: u32,
    step: usize,
    words: String,
}

/// By the digests: they have four digits for each step.
fn first_difference(oracle: &Log, tested: &Log, case: &Case) -> First {
    let (here, there) = (oracle.runs(case), tested.runs(case));
    let same = here.iter().zip(&there).take_while(|(a, b)| a == b).count();
    let nth = same as u32 + 1;
    let (Some(one), Some(other)) = (here.get(same), there.get(same)) else {
        let (here, there) = (here.len(), there.len());
        let words = format!("{}: {here} runs, but {there} in the tested", case.name);
        return First {
            nth,
            step: 0,
            words,
        };
    };
    let equal = one
        .bytes()
        .zip(other.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let steps = case.steps();
    let step = equal / 4;
    let what = match steps.get(step) {
        Some(op) => format!("step {step}, {op}"),
        None => "the end of all processes".to_string(),
    };
    let name = case.run_name(nth);
    let words = format!("{name} differs first after {what}: {one} and {other}");
    First { nth, step, words }
}

/// Shrinks a case that differs in a job of `cases`, and says what is left of it.
fn report(
    machines: &Machines,
    job: &str,
    cases: &[Case],
    case: &Case,
    first: &First,
    work: &Path,
) -> Result<()> {
    println!(
        "# case {} differs; shrinking its {} operations",
        case.name,
        case.ops.len()
    );
    let alone = std::slice::from_ref(case);
    let [oracle, tested] = machines.run_all(alone)?;
    if oracle.runs(case) == tested.runs(case) {
        let at = cases.iter().position(|other| other.name == case.name);
        let before = &cases[..at.unwrap_or(0)];
        let First { nth, step, .. } = *first;
        let mut notes = vec!["differs only after what ran before it".to_string()];
        if case.inject {
            notes.push(format!("differs when allocation {nth} fails"));
        }
        // As it was run, and without a trace until then: it may depend on when a timer expires.
        if let Some((at, lines)) = machines.trace((job, operations(cases)), case, nth, step)? {
            notes.push(format!("differs after operation {at}:"));
            notes.extend(lines.into_iter().take(LINES));
        }
        let file = machines.store(before, case, work, &notes)?;
        println!(
            "# it does not differ by itself, but after those before it: {}",
            file.display()
        );
        for note in notes {
            println!("#   {note}");
        }
        return Ok(());
    }
    let index = first_difference(&oracle, &tested, case).step;
    let mut case = case.clone();
    // The operation whose allocations fail stays.
    let kept = if case.inject { case.ops.pop() } else { None };
    let with = |name: String, mut ops: Vec<Op>| {
        ops.extend(kept);
        let inject = kept.is_some();
        Case { name, ops, inject }
    };
    if kept.is_none() {
        // All of them, if it differs when the processes are gone.
        let ops = case.ops.iter().take(index + 1).copied().collect();
        let cut = with(case.name.clone(), ops);
        if machines.try_all(std::slice::from_ref(&cut))?[0] {
            case = cut;
        }
    }
    let ops = shrink(case.ops, &mut |tries| {
        let tries = tries.iter().enumerate();
        let cases: Vec<Case> = tries
            .map(|(i, ops)| with(format!("try-{i}"), ops.clone()))
            .collect();
        machines.try_all(&cases)
    })?;
    let case = with(case.name, ops);
    let (nth, mut notes) = differing_run(machines, &case)?;
    let alone = std::slice::from_ref(&case);
    let (at, mut lines) = machines
        .trace((&case::text(alone), operations(alone)), &case, nth, 0)?
        .unwrap_or((0, vec!["(not again)".into()]));
    notes.push(match case.steps().get(at) {
        Some(op) => format!("differs after operation {at}, {op}:"),
        None => "differs when all processes are gone:".to_string(),
    });
    let all = lines.len();
    lines.truncate(LINES);
    if all > LINES {
        lines.push(format!("... and {} lines more", all - LINES));
    }
    notes.extend(lines);
    let file = machines.store(&[], &case, work, &notes)?;
    println!(
        "# shrunk to {} operations: {}",
        case.ops.len(),
        file.display()
    );
    for line in fs::read_to_string(&file)?.lines() {
        println!("#   {line}");
    }
    let dir = if case.inject {
        "cases-inject/more"
    } else {
        "cases"
    };
    println!("# copy it to tools/testing/mlock2/diff/{dir} to run it each time");
    Ok(())
}

/// The first run of a case that differs, and what there is to say about that.
fn differing_run(machines: &Machines, case: &Case) -> Result<(u32, Vec<String>)> {
    if !case.inject {
        return Ok((1, Vec::new()));
    }
    let [oracle, tested] = machines.run_all(std::slice::from_ref(case))?;
    let count = |log: &Log| match log.allocations.get(&case.name) {
        Some(count) => count.to_string(),
        None => "an unknown number of".to_string(),
    };
    let nth = first_difference(&oracle, &tested, case).nth;
    let counts = format!(
        "allocations of the last operation: oracle {}, tested {}",
        count(&oracle),
        count(&tested)
    );
    let log = "a trace leaves where that is in console.log";
    let notes = vec![counts, format!("differs when number {nth} fails; {log}")];
    Ok((nth, notes))
}

type Trial<'a> = &'a mut dyn FnMut(&[Vec<Op>]) -> Result<Vec<bool>>;

/// Takes operations away while `trial`, asked for many at once, says that it still differs.
fn shrink(mut ops: Vec<Op>, trial: Trial) -> Result<Vec<Op>> {
    let mut chunk = ops.len().div_ceil(4).max(1);
    loop {
        // All that goes by itself ...
        let starts: Vec<usize> = (0..ops.len()).step_by(chunk).collect();
        let without = |gone: &[usize]| -> Vec<Op> {
            ops.chunks(chunk)
                .zip(&starts)
                .filter(|(_, start)| !gone.contains(start))
                .flat_map(|(ops, _)| ops.iter().copied())
                .collect()
        };
        let tries: Vec<Vec<Op>> = starts.iter().map(|start| without(&[*start])).collect();
        let good: Vec<usize> = trial(&tries)?
            .iter()
            .zip(&starts)
            .filter(|(differs, _)| **differs)
            .map(|(_, start)| *start)
            .collect();
        // ... and as much of that together as does.
        let mut tries = Vec::new();
        let mut n = good.len();
        while n > 0 {
            tries.push(without(&good[..n]));
            tries.push(without(&good[good.len() - n..]));
            n = if n > 8 { n * 3 / 4 } else { n - 1 };
        }
        if tries.is_empty() {
            if chunk == 1 {
                return simplify(ops, trial);
            }
            chunk = chunk.div_ceil(2);
            continue;
        }
        let differs = trial(&tries)?;
        let best = tries
            .into_iter()
            .zip(differs)
            .filter(|(_, differs)| *differs)
            .map(|(ops, _)| ops)
            .min_by_key(Vec::len);
        match best {
            Some(best) => ops = best,
            // It did differ a moment ago.
            None => return Ok(ops),
        }
        chunk = chunk.min(ops.len().div_ceil(2).max(1));
    }
}

/// Makes what is left plainer: process 0 for any, mlock for mlock2, one page for several.
fn simplify(mut ops: Vec<Op>, trial: Trial) -> Result<Vec<Op>> {
    for _ in 0..3 {
        let mut tries = Vec::new();
        for (i, op) in ops.iter().enumerate() {
            let mut plain = |new: Op| {
                if new != *op {
                    let mut ops = ops.clone();
                    ops[i] = new;
                    tries.push(ops);
                }
            };
            if op.call == Call::Mmap {
                let mut new = *op;
                new.args[3] &=
                    !(libc::MAP_NORESERVE | libc::MAP_POPULATE | libc::MAP_LOCKED) as u64;
                plain(new);
            }
            if op.call == Call::Mlock2 {
                plain(Op::new(op.process, Call::Mlock, &op.args[..2]));
            }
            if op.call == Call::Mlockall {
                plain(Op::new(op.process, Call::Mlockall, &[1]));
            }
            if op.call == Call::Write {
                plain(Op::new(op.process, Call::Write, &[op.args[0], 1]));
            }
        }
        if tries.is_empty() {
            break;
        }
        match tries
            .iter()
            .zip(trial(&tries)?)
            .find(|(_, differs)| *differs)
        {
            Some((plainer, _)) => ops = plainer.clone(),
            None => break,
        }
    }
    Ok(ops)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrinks_to_what_matters() {
        let case = generate::case(1, 0);
        let matter = |op: &Op| op.call == Call::Munmap || op.call == Call::Fork;
        let mut trials = 0;
        let want = case.ops.iter().filter(|op| matter(op)).count();
        let left = shrink(case.ops, &mut |tries| {
            trials += 1;
            Ok(tries
                .iter()
                .map(|ops| ops.iter().filter(|op| matter(op)).count() == want)
                .collect())
        })
        .unwrap();
        assert_eq!(left.len(), want);
        assert!(trials < 60, "{trials}");
    }

    #[test]
    fn what_was_not_reached() {
        let tally = [
            "state locked 3",
            "state swapped 0",
            "state not_back_to_baseline 0",
            "call mlock ok=3 EPERM=2",
            "call move_pages ENOSYS=9",
            "call exit error--10000=1",
            "call madvise.COLLAPSE EINVAL=2",
            "call mremap.FIXED EINVAL=2",
            "call mremap.MAYMOVE|FIXED ok=1",
            "pairs 3 of 4",
        ];
        let tally = tally.map(String::from);
        assert_eq!(
            unreached(&tally),
            [
                "state swapped 0",
                "call move_pages ENOSYS=9",
                "call madvise.COLLAPSE EINVAL=2"
            ]
        );
    }

    #[test]
    fn blocks_of_a_trace() {
        let lines: Vec<String> = ["trace x", "op 0 a", "+ b", "op 1 c", "end", "+ d"]
            .map(String::from)
            .into();
        let sizes: Vec<usize> = blocks(&lines).iter().map(|block| block.len()).collect();
        assert_eq!(sizes, [1, 2, 1, 2]);
    }
}
