// SPDX-License-Identifier: GPL-2.0

//! Boots a kernel with a plan of programs, watches the console and judges.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use regex_lite::Regex;

use crate::console::{Line, Marker, Splitter, is_trouble};
use crate::ktap::{self, Counts};
use crate::results::{self, Row, Sum};

/// The entry of a plan whose output is shown as it comes.
const SHOWN: &str = "demo";
/// How long a boot with nothing to do may take until KVM counts as not working.
const PROBE_LIMIT: Duration = Duration::from_secs(15);
/// How long QEMU's monitor may be silent before it has said all.
const MONITOR_LIMIT: Duration = Duration::from_secs(3);
/// How long a machine may take to switch itself off. Not all can.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(5);
const LAST_LINES: usize = 20;
const MOST_SHOWN: usize = 20;

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Accel {
    /// KVM, if a trial boot with it works
    Auto,
    Kvm,
    Tcg,
}

/// Boot a kernel, run a plan of programs in it, and judge
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    kernel: Kernel,
    #[command(flatten)]
    setup: Setup,
    /// What to run: lines of "name root|nobody program args..."
    #[arg(long)]
    plan: PathBuf,
    /// Where the initramfs, the logs and results.tsv go
    #[arg(long)]
    work: PathBuf,
    /// What to call this kernel in the results
    #[arg(long)]
    name: String,
    /// Run only this entry of the plan; may be given several times
    #[arg(long)]
    only: Vec<String>,
    /// What this architecture does not have, by the words with which a case is skipped for it,
    /// separated by '|'. Such a case is not there, rather than skipped
    #[arg(long, default_value = "", value_delimiter = '|')]
    absent: Vec<String>,
}

/// What comes from the kernel's build tree
#[derive(clap::Args)]
pub struct Kernel {
    /// The kernel
    #[arg(long)]
    pub image: PathBuf,
    /// usr/gen_init_cpio of the kernel's build tree
    #[arg(long)]
    pub gen_init_cpio: PathBuf,
}

/// How a guest is set up, whichever kernel it runs
#[derive(Clone, clap::Args)]
pub struct Setup {
    /// The machine emulator; without it, the kernel is a program by itself (User-Mode Linux)
    #[arg(long)]
    qemu: Option<String>,
    /// Its arguments for this architecture, such as "-M q35 -cpu max"
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub qemu_args: String,
    /// The guest's serial console, such as "ttyS0"
    #[arg(long)]
    console: String,
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    pub accel: Accel,
    /// What QEMU is to do without KVM, such as "tcg,thread=single"
    #[arg(long, default_value = "tcg")]
    tcg: String,
    /// The guest's PID 1
    #[arg(long)]
    init: PathBuf,
    /// Where the plan's programs are; may be given several times, the first one that has it wins
    #[arg(long, required = true)]
    bin: Vec<PathBuf>,
    /// A file that the programs find in the guest's root; may be given several times
    #[arg(long)]
    file: Vec<PathBuf>,
    /// More kernel parameters
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub append: String,
    /// Memory of the guest in MiB
    #[arg(long, default_value_t = 1024, overrides_with = "mem")]
    pub mem: u32,
    #[arg(long, default_value_t = 2, overrides_with = "cpus")]
    pub cpus: u32,
    /// Data races that are known to be the kernel's own and do not count, by words that are in the
    /// report: those of one separated by '&', and one from the other by '|'
    #[arg(long, default_value = "", value_delimiter = '|')]
    known: Vec<String>,
    /// Seconds from the start to init
    #[arg(long, default_value_t = 300)]
    pub init_limit: u64,
    /// Seconds for the whole boot
    #[arg(long, default_value_t = 900)]
    pub timeout: u64,
    /// Seconds for one program
    #[arg(long, default_value_t = 300)]
    pub limit: u64,
    /// Show the console as it comes
    #[arg(long)]
    verbose: bool,
    /// More files for the guest, as gen_init_cpio takes them
    #[arg(skip)]
    pub files: String,
}

pub fn run(args: &Args) -> Result<bool> {
    let plan = Plan::read(&args.plan, &args.only)?;
    fs::create_dir_all(&args.work)
        .with_context(|| format!("cannot make {}", args.work.display()))?;
    let work = args.work.canonicalize()?;
    let results = work.join("results.tsv");
    if results.exists() {
        // No old verdict may stand if this boot comes to none.
        fs::remove_file(&results)?;
    }

    println!("{}: booting {}", args.name, args.kernel.image.display());
    let probe = Probe::new(&args.setup, &work);
    let accel = choose_accel(&args.kernel, &args.setup, &args.name, &work, &probe)?;
    println!("{}: running with {accel}", args.name);

    let start = Instant::now();
    let mut session = Session::new(args, &plan, &work);
    let guest = prepare(&args.kernel, &args.setup, &work, &plan, accel.name())?;
    let machine = Machine::start(guest, &work, args.setup.verbose)?;
    let (ending, counters) = machine.watch(&args.setup, &mut |line| session.line(line))?;
    let rows = session.finish(ending, &counters, start.elapsed().as_secs_f64());
    if matches!(accel, Chosen::Failed(_)) && ending == Ending::Done {
        // Only now is it known that KVM, not the kernel, was to blame.
        probe.store("tcg");
    }

    results::write(&results, &rows)?;
    println!();
    results::print_table(&rows);
    println!();
    let sum = Sum::of(&rows);
    let verdict = if sum.good() { "PASS" } else { "FAIL" };
    println!("{}: {verdict}: {sum}; logs: {}", args.name, work.display());
    Ok(sum.good())
}

//
// The plan and the initramfs
//

struct Entry {
    name: String,
    program: String,
    line: String,
}

pub struct Plan(Vec<Entry>);

impl Plan {
    fn read(file: &Path, only: &[String]) -> Result<Self> {
        let text = fs::read_to_string(file)
            .with_context(|| format!("cannot read the plan {}", file.display()))?;
        let plan = Self::parse(&text, only).with_context(|| file.display().to_string())?;
        ensure!(!plan.0.is_empty(), "{}: nothing to run", file.display());
        Ok(plan)
    }

    pub fn parse(text: &str, only: &[String]) -> Result<Self> {
        let mut plan: Vec<Entry> = Vec::new();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let &[name, "root" | "nobody", program, ..] = words.as_slice() else {
                bail!("{line:?}: want: name root|nobody program args...");
            };
            ensure!(
                name.chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)),
                "{name:?}: a name has letters, digits and '.', '_', '-' only"
            );
            ensure!(
                plan.iter().all(|entry| entry.name != name),
                "{name:?} is there twice; names must differ"
            );
            plan.push(Entry {
                name: name.to_string(),
                program: program.to_string(),
                line: line.to_string(),
            });
        }
        for name in only {
            ensure!(
                plan.iter().any(|entry| entry.name == *name),
                "it has no {name:?}; it has: {}",
                plan.iter()
                    .map(|entry| entry.name.as_str())
                    .collect::<Vec<_>>()
                    .join(" ")
            );
        }
        if !only.is_empty() {
            plan.retain(|entry| only.contains(&entry.name));
        }
        Ok(Self(plan))
    }
}

/// Makes the initramfs in `work` and the command that boots it.
pub fn prepare(
    kernel: &Kernel,
    setup: &Setup,
    work: &Path,
    plan: &Plan,
    accel: &str,
) -> Result<Command> {
    for (file, hint) in [
        (&kernel.image, "build the kernel first"),
        (
            &kernel.gen_init_cpio,
            "it comes with a kernel that has CONFIG_BLK_DEV_INITRD=y",
        ),
        (&setup.init, "build guest/init.c first"),
    ] {
        ensure!(file.is_file(), "no file {}: {hint}", file.display());
    }
    let absolute = |path: &Path| -> Result<String> {
        let path = path.canonicalize()?;
        match path.to_str() {
            Some(text) if !text.contains(char::is_whitespace) => Ok(text.to_string()),
            _ => bail!(
                "gen_init_cpio takes no path with blanks: {}",
                path.display()
            ),
        }
    };
    let write = |name: &str, text: &str| -> Result<PathBuf> {
        let path = work.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };

    let text: String = plan.0.iter().map(|e| format!("{}\n", e.line)).collect();
    let plan_file = write("plan", &text)?;
    let mut list = String::new();
    for dir in ["/dev", "/proc", "/sys", "/tmp", "/bin"] {
        list += &format!("dir {dir} 755 0 0\n");
    }
    list += "nod /dev/console 600 0 0 c 5 1\n";
    list += &format!("file /init {} 755 0 0\n", absolute(&setup.init)?);
    list += &format!("file /plan {} 644 0 0\n", absolute(&plan_file)?);
    for file in &setup.file {
        let path = absolute(file).with_context(|| format!("no file {}", file.display()))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        list += &format!("file /{name} {path} 755 0 0\n");
    }
    let mut programs: Vec<&str> = plan.0.iter().map(|e| e.program.as_str()).collect();
    programs.sort_unstable();
    programs.dedup();
    let mut dirs: Vec<&str> = programs
        .iter()
        .filter_map(|program| Some(program.rsplit_once('/')?.0))
        .collect();
    dirs.dedup();
    for dir in dirs {
        list += &format!("dir /bin/{dir} 755 0 0\n");
    }
    for program in programs {
        // The guest reports the ones that are missing.
        if let Some(path) = setup
            .bin
            .iter()
            .map(|dir| dir.join(program))
            .find(|p| p.is_file())
        {
            list += &format!("file /bin/{program} {} 755 0 0\n", absolute(&path)?);
        }
    }
    list += &setup.files;
    let list = write("initramfs.list", &list)?;

    let initramfs = work.join("initramfs.cpio");
    let status = Command::new(&kernel.gen_init_cpio)
        .arg(&list)
        .stdout(File::create(&initramfs)?)
        .status()
        .with_context(|| format!("cannot run {}", kernel.gen_init_cpio.display()))?;
    ensure!(
        status.success(),
        "{} {} failed: {status}",
        kernel.gen_init_cpio.display(),
        list.display()
    );
    Ok(guest_command(kernel, setup, &initramfs, accel))
}

/// The one place that knows how a guest is started.
fn guest_command(kernel: &Kernel, setup: &Setup, initramfs: &Path, accel: &str) -> Command {
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

//
// Running it
//

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
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
    fn watch(
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

//
// KVM or not
//

enum Chosen {
    Asked(&'static str),
    Known(&'static str),
    /// KVM, as the trial boot worked.
    Worked,
    /// TCG, and why the trial boot with KVM failed.
    Failed(String),
    /// TCG, and why KVM cannot be tried.
    Without(String),
    /// The kernel is a program.
    Itself,
}

impl Chosen {
    fn name(&self) -> &'static str {
        match self {
            Self::Asked(name) | Self::Known(name) => name,
            Self::Worked => "kvm",
            Self::Failed(_) | Self::Without(_) => "tcg",
            Self::Itself => "itself",
        }
    }
}

impl std::fmt::Display for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.name();
        match self {
            Self::Asked(_) => write!(f, "{name}, as asked for"),
            Self::Known("kvm") => write!(f, "kvm, which worked before"),
            Self::Known(_) => write!(f, "{name}: a trial boot with kvm failed before"),
            Self::Worked => write!(f, "{name}: a trial boot worked"),
            Self::Failed(why) => write!(f, "{name}: a trial boot with kvm failed: {why}"),
            Self::Without(why) => write!(f, "{name}: /dev/kvm: {why}"),
            Self::Itself => write!(f, "{name}: it is a program"),
        }
    }
}

/// Whether KVM works here is found out once in the life of the machine that this runs on.
struct Probe {
    file: PathBuf,
    key: String,
}

impl Probe {
    fn new(setup: &Setup, work: &Path) -> Self {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let qemu_args: Vec<&str> = setup.qemu_args.split_whitespace().collect();
        Self {
            file: work.parent().unwrap_or(work).join("kvm-probe"),
            key: format!(
                "{} {} {}",
                boot_id.trim(),
                setup.qemu.as_deref().unwrap_or_default(),
                qemu_args.join(" ")
            ),
        }
    }

    fn load(&self) -> Option<&'static str> {
        let text = fs::read_to_string(&self.file).ok()?;
        let outcome = text
            .lines()
            .find_map(|line| line.strip_prefix(&self.key)?.strip_prefix('\t'))?;
        match outcome {
            "kvm" => Some("kvm"),
            "tcg" => Some("tcg"),
            _ => None,
        }
    }

    /// It is only a cache: without it, the next boot tries again.
    fn store(&self, outcome: &str) {
        let _ = File::options()
            .append(true)
            .create(true)
            .open(&self.file)
            .and_then(|mut file| writeln!(file, "{}\t{outcome}", self.key));
    }
}

/// An error if a trial boot with KVM does not work here.
#[cfg(feature = "bench")]
pub fn require_kvm(kernel: &Kernel, setup: &Setup, work: &Path) -> Result<()> {
    let setup = Setup {
        accel: Accel::Auto,
        tcg: "tcg".to_string(),
        ..setup.clone()
    };
    let chosen = choose_accel(kernel, &setup, "kvm", work, &Probe::new(&setup, work))?;
    ensure!(
        chosen.name() == "kvm",
        "KVM does not work here, so nothing was measured with it: {chosen}"
    );
    Ok(())
}

fn choose_accel(
    kernel: &Kernel,
    setup: &Setup,
    name: &str,
    work: &Path,
    probe: &Probe,
) -> Result<Chosen> {
    if setup.qemu.is_none() {
        return Ok(Chosen::Itself);
    }
    match setup.accel {
        Accel::Kvm => return Ok(Chosen::Asked("kvm")),
        Accel::Tcg => return Ok(Chosen::Asked("tcg")),
        Accel::Auto => {}
    }
    if let Err(error) = File::options().read(true).write(true).open("/dev/kvm") {
        return Ok(Chosen::Without(error.to_string()));
    }
    if let Some(known) = probe.load() {
        return Ok(Chosen::Known(known));
    }
    // A /dev/kvm that opens can still hang the guest.
    println!("{name}: trying kvm (at most {} s)", PROBE_LIMIT.as_secs());
    let work = work.join("kvm-probe");
    fs::create_dir_all(&work)?;
    let guest = prepare(kernel, setup, &work, &Plan(Vec::new()), "kvm")?;
    let machine = Machine::start(guest, &work, false)?;
    let setup = Setup {
        timeout: PROBE_LIMIT.as_secs(),
        ..setup.clone()
    };
    let (ending, _) = machine.watch(&setup, &mut |_| Ok(()))?;
    Ok(match ending {
        Ending::Done => {
            probe.store("kvm");
            Chosen::Worked
        }
        Ending::NoInit | Ending::TimedOut => {
            Chosen::Failed("it did not come to its end in time".to_string())
        }
        Ending::Stopped => {
            let errors = fs::read_to_string(work.join("qemu.log")).unwrap_or_default();
            let why = errors.lines().next().unwrap_or("it stopped early");
            Chosen::Failed(why.to_string())
        }
    })
}

//
// What the console says
//

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
    /// neither access is in a function of mm/mlock2 or of kernel::mm.
    fn is_known(&self, known: &[String]) -> bool {
        const OURS: [&str; 3] = ["6mlock2", "mlock2_", "6kernel2mm"];
        let title = self.report.lines().next().unwrap_or_default();
        known
            .iter()
            .map(|words| words.trim())
            .filter(|words| !words.is_empty())
            .any(|words| words.split('&').all(|words| self.report.contains(words)))
            && !OURS.iter().any(|ours| title.contains(ours))
    }
}

struct Session<'a> {
    args: &'a Args,
    plan: &'a Plan,
    work: &'a Path,
    lines: usize,
    running: Option<Running>,
    rows: Vec<Row>,
    trouble: Vec<String>,
    known: Vec<String>,
    race: Option<Race>,
}

impl<'a> Session<'a> {
    fn new(args: &'a Args, plan: &'a Plan, work: &'a Path) -> Self {
        Self {
            args,
            plan,
            work,
            lines: 0,
            running: None,
            rows: Vec::new(),
            trouble: Vec::new(),
            known: Vec::new(),
            race: None,
        }
    }

    fn line(&mut self, line: Line) -> Result<()> {
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
            if race.is_known(&self.args.setup.known) {
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
        let shown = name == SHOWN && !self.args.setup.verbose;
        if shown {
            println!();
        } else if !self.args.setup.verbose {
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
        if running.shown || self.args.setup.verbose {
            print!("{:<24} ", running.name);
        }
        let is_ktap = running.ktap.is_ktap();
        let mut counts = judge(running.ktap.finish(), is_ktap, how);
        let absent = |why: &&String| self.args.absent.contains(why);
        let absent = running.skips.iter().filter(absent).count() as u64;
        counts.skipped = counts.skipped.saturating_sub(absent);
        let row = Row::new(
            &self.args.name,
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
    fn finish(mut self, ending: Ending, counters: &[u64], seconds: f64) -> Vec<Row> {
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
            if !self.rows.iter().any(|row| row.test == entry.name) {
                println!("{:<24} fail  it did not run", entry.name);
                self.rows
                    .push(Row::new(&self.args.name, &entry.name, failed, 0.0));
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
                    self.args.setup.timeout
                ),
                Ending::NoInit => println!(
                    "\nThe kernel did not come to init within {} s and was ended (--init-limit).",
                    self.args.setup.init_limit
                ),
                _ => println!("\nThe machine stopped before init was done."),
            }
            print_counters(counters, &self.args.kernel.image);
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
            .push(Row::new(&self.args.name, "boot", counts, seconds));
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
    fn plans() {
        let text = "# a comment\n\na root a\n  b\tnobody\tp -x y\n";
        let plan = Plan::parse(text, &[]).unwrap();
        let entries: Vec<_> = plan
            .0
            .iter()
            .map(|e| (e.name.as_str(), e.program.as_str()))
            .collect();
        assert_eq!(entries, [("a", "a"), ("b", "p")]);
        assert_eq!(plan.0[1].line, "b\tnobody\tp -x y");

        let plan = Plan::parse(text, &["b".to_string()]).unwrap();
        assert_eq!(plan.0.len(), 1);
        assert!(Plan::parse(text, &["c".to_string()]).is_err());
        for wrong in ["a root", "a admin a", "a/b root a", "a root a\na root b"] {
            assert!(Plan::parse(wrong, &[]).is_err(), "{wrong}");
        }
    }

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
