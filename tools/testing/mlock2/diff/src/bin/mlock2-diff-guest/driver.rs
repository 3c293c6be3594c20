// SPDX-License-Identifier: GPL-2.0

//! Runs the sequences of a job, each in processes of its own, and looks at them from outside.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::iter::zip;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use libc::c_int;

use mlock2_diff::case::Case;
use mlock2_diff::job::Job;
use mlock2_diff::op::*;
use mlock2_guest::cgroup::Group;
use mlock2_guest::file::{THP, mount, write};
use mlock2_guest::proc::{Vma, page_size};
use mlock2_guest::swap;

use crate::control::{
    BEGIN, CANNOT_FAIL, Control, DONE, IDLE, MINCORE, NONE_FAILED, ONE_FAILED, RANGES,
};
use crate::inject;
use crate::observe::{
    Counters, Hash, Reader, Refaulted, Sink, Words, drain, is_before, is_in_arena,
};
use crate::tally::Tally;
use crate::worker;

const CGROUP: Group = Group("mlock2-diff");
const RAMFS: &str = "/tmp/ramfs";
/// How long one operation may take.
const OP_LIMIT: Duration = Duration::from_secs(60);

/// Runs what is in the file `job`.
pub fn run(job: &str) -> Result<()> {
    let text = fs::read_to_string(job).with_context(|| format!("cannot read {job}"))?;
    let job = Job::parse(&text).with_context(|| job.to_string())?;
    set_up()?;
    if job.cases.iter().any(|case| case.inject) {
        inject::set_up()?;
    }
    let mut driver = Driver {
        trace: false,
        trace_from: None,
        said: String::new(),
        name: String::new(),
        control: {
            Control::create()?;
            Control::map()?
        },
        reader: Reader::default(),
        tally: Tally::default(),
        brief: false,
        base: Counters::default(),
        pids: [0; PROCESSES],
        seen: Default::default(),
        vmas: Vec::new(),
    };
    populate_program()?;
    let start = Instant::now();
    // Everything that is needed to look at a process gets into memory now.
    let warm_up = Case {
        name: "warm-up".to_string(),
        ops: Vec::new(),
        inject: false,
    };
    driver.case(&warm_up, 0)?;
    for case in job.all() {
        let mut nth = u32::from(case.inject);
        loop {
            let name = case.run_name(nth);
            driver.trace_from = match &job.trace {
                Some((run, step)) if *run == name => Some(*step),
                _ => None,
            };
            driver.name.clone_from(&name);
            let say_where = case.inject && driver.trace_from.is_some();
            if say_where {
                inject::say_where(true)?;
            }
            let before = driver.tally.ops();
            let (digest, failed) = driver.case(&case, nth)?;
            if say_where {
                inject::say_where(false)?;
            }
            print!("{}", std::mem::take(&mut driver.said));
            // Those of a process that had ended were left out.
            println!("case {name} {} {digest}", driver.tally.ops() - before);
            if !failed {
                break;
            }
            nth += 1;
        }
        if case.inject {
            println!("allocations {} {}", case.name, nth - 1);
        }
    }
    driver.tally.print();
    println!("tally seconds {:.1}", start.elapsed().as_secs_f64());
    Ok(())
}

//
// The machine
//

const HUGETLB: &str = "/proc/sys/vm/nr_hugepages";

/// Whether the kernel has something that not every architecture has. Operations on it fail then, on
/// both kernels.
fn has(what: &str, file: &str) -> bool {
    let has = Path::new(file).exists();
    if !has {
        println!("no {what}");
    }
    has
}

fn set_up() -> Result<()> {
    let size = page_size();
    ensure!(
        size as u64 == PAGE,
        "this is for pages of {PAGE} bytes, not of {size}"
    );
    // What would happen by itself, at a time of its own
    if has("transparent huge pages", THP) {
        write(&format!("{THP}/enabled"), "madvise")?;
        write(&format!("{THP}/defrag"), "madvise")?;
        write(
            &format!("{THP}/hugepages-{}kB/enabled", HUGE >> 10),
            "madvise",
        )?;
        write(
            &format!("{THP}/khugepaged/scan_sleep_millisecs"),
            "4000000000",
        )?;
    }
    write("/sys/kernel/mm/ksm/run", "0")?;
    write("/proc/sys/vm/dirty_writeback_centisecs", "0")?;
    // Dropping caches is not to be logged each time.
    write("/proc/sys/vm/drop_caches", "4")?;
    if secret_memory().is_err_and(|error| is_missing(&error)) {
        println!("no memfd_secret()");
    }
    if has("hugetlb", HUGETLB) {
        write(HUGETLB, "8")?;
        let there = fs::read_to_string(HUGETLB)?;
        ensure!(there.trim() == "8", "only {there} huge pages");
    }

    CGROUP.make()?;
    CGROUP.join()?;

    swap::start("zram0", 64 << 20)?;
    if !Path::new("/dev/zram1").exists() {
        swap::add_zram()?;
    }
    swap::set_size("zram1", 1 << 20)?;

    fs::create_dir_all(RAMFS)?;
    mount(c"ramfs", c"/tmp/ramfs").context("cannot mount a ramfs")?;

    let all = libc::rlimit {
        rlim_cur: 8 << 20,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `all` is there to be read.
    check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &all) })?;
    let handler: extern "C" fn(c_int) = on_child;
    // SAFETY: All zero is a valid sigaction; the handler does nothing but end a sleep, so without
    // SA_RESTART.
    check(unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        libc::sigaction(libc::SIGCHLD, &action, std::ptr::null_mut())
    })?;
    Ok(())
}

extern "C" fn on_child(_: c_int) {}

fn check(ret: c_int) -> Result<()> {
    if ret < 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(())
}

/// Maps all of this program into the driver. The workers are the same program, and how many
/// processes map a page is what their Pss shows: that must not depend on which code the driver
/// happened to run.
fn populate_program() -> Result<()> {
    for line in fs::read_to_string("/proc/self/maps")?.lines() {
        let Some((start, end)) = line
            .split_once(' ')
            .filter(|_| line.ends_with("mlock2-diff-guest"))
            .and_then(|(range, _)| range.split_once('-'))
        else {
            continue;
        };
        let start = usize::from_str_radix(start, 16)?;
        let length = usize::from_str_radix(end, 16)? - start;
        let start = std::ptr::without_provenance_mut(start);
        // SAFETY: To be mapped changes nothing that the program sees.
        check(unsafe { libc::madvise(start, length, libc::MADV_POPULATE_READ) })
            .context("cannot map the program as a whole")?;
    }
    Ok(())
}

/// Opens the files that all processes share, new and empty ones.
fn open_files() -> Result<()> {
    let long = FILE_PAGES * PAGE;
    let create = |path: &str| {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        fs::remove_file(path)?;
        Ok::<OwnedFd, io::Error>(file.into())
    };
    // SAFETY: The names are strings, and a descriptor that is returned is ours.
    let memfd = |flags| unsafe { owned(libc::memfd_create(c"diff".as_ptr(), flags)) };

    place(create("/tmp/mlock2-diff")?, FD_TMPFS, Some(long))?;
    place(memfd(0)?, FD_MEMFD, Some(long))?;
    if Path::new(HUGETLB).exists() {
        let huge = memfd(libc::MFD_HUGETLB).context("memfd of huge pages")?;
        place(huge, FD_HUGETLB, Some(3 * HUGE))?;
    }
    match secret_memory() {
        Ok(secret) => place(secret, FD_SECRETMEM, Some(long))?,
        Err(error) if is_missing(&error) => {}
        Err(error) => return Err(error.into()),
    }
    let block = File::options().read(true).write(true).open("/dev/zram1")?;
    discard(&block).context("cannot empty /dev/zram1")?;
    place(block.into(), FD_BLOCK, None)?;
    place(create("/tmp/ramfs/mlock2-diff")?, FD_RAMFS, Some(long))
}

fn secret_memory() -> io::Result<OwnedFd> {
    // SAFETY: No preconditions, and the descriptor is ours.
    match unsafe { libc::syscall(libc::SYS_memfd_secret, 0) } as c_int {
        ..0 => Err(io::Error::last_os_error()),
        // SAFETY: As above.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

fn is_missing(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOSYS)
}

/// Takes over a descriptor that a system call returned.
///
/// # Safety
///
/// Nobody else may own it.
unsafe fn owned(fd: c_int) -> Result<OwnedFd> {
    check(fd)?;
    // SAFETY: By the contract.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts a file where processes look for it, and sets its length.
fn place(fd: OwnedFd, at: u64, length: Option<u64>) -> Result<()> {
    if let Some(length) = length {
        // SAFETY: A descriptor of ours.
        check(unsafe { libc::ftruncate(fd.as_raw_fd(), length as i64) })?;
    }
    // Whatever is at the number is one of these files, of the sequence before.
    let from = fd.as_raw_fd();
    if from == at as c_int {
        // It stays there until it is replaced.
        let _ = fd.into_raw_fd();
        return Ok(());
    }
    // SAFETY: As above; the new descriptor is for processes only.
    check(unsafe { libc::dup2(from, at as c_int) })
}

fn discard(block: &File) -> Result<()> {
    const BLKDISCARD: libc::c_ulong = 0x1277;
    let range = [0u64, 1 << 20];
    // SAFETY: The range is there to be read.
    check(unsafe { libc::ioctl(block.as_raw_fd(), BLKDISCARD as _, range.as_ptr()) })
}

//
// A sequence
//

struct Driver {
    /// Whether the current step is traced: those of this run from `trace_from` on are.
    trace: bool,
    trace_from: Option<usize>,
    /// What a trace has to say: printed late, since that takes time, which is to pass as it does
    /// without a trace.
    said: String,
    /// The run that is on.
    name: String,
    control: &'static Control,
    reader: Reader,
    tally: Tally,
    /// Whether only /proc/PID/status is looked at: before the operation that matters.
    brief: bool,
    /// The counters before the sequence.
    base: Counters,
    /// 0 where there is no process.
    pids: [i32; PROCESSES],
    /// In a trace, what was seen last of each process, and of the machine.
    seen: [BTreeSet<String>; PROCESSES + 1],
    vmas: Vec<Vma>,
}

impl Driver {
    /// Runs a sequence, with the `nth` allocation of its last operation failing if that is not 0.
    /// What was seen up to each step, and to the end, as four digits each; and whether there was
    /// such an allocation.
    fn case(&mut self, case: &Case, nth: u32) -> Result<(String, bool)> {
        self.trace = false;
        Control::create()?;
        self.control = Control::map()?;
        open_files()?;
        drain()?;
        self.base = self.reader.counters(&CGROUP)?;
        self.tally.start();
        self.seen = Default::default();
        self.start()?;

        let mut all = Hash::default();
        let mut digest = String::new();
        let mut failed = false;
        for (i, op) in case.steps().iter().enumerate() {
            let inject = nth != 0 && i + 1 == case.ops.len();
            self.brief = nth != 0 && i + 1 < case.ops.len();
            self.trace(case, nth, i)?;
            if inject {
                self.control.slots[op.process].nth.store(nth, Relaxed);
            }
            self.op(i, op, &mut all)
                .with_context(|| format!("case {} operation {i}: {op}", case.name))?;
            if inject {
                failed = self
                    .has_failed(op.process)
                    .with_context(|| format!("case {}: allocation {nth} of {op}", case.name))?;
                if self.trace {
                    let what = if failed { "failed" } else { "was not made" };
                    writeln!(self.said, "+ allocation {nth} {what}")?;
                }
            }
            write!(digest, "{:04x}", all.get() & 0xffff)?;
        }
        self.trace(case, nth, usize::MAX)?;
        self.end()?;
        drain()?;
        let counters = self.reader.counters(&CGROUP)?;
        self.tally
            .count("not_back_to_baseline", counters.mlocked(&self.base) != 0);
        self.show("end", PROCESSES, &mut all, |driver, sink| {
            counters.show(&driver.base, sink);
            Ok(())
        })?;
        write!(digest, "{:016x}", all.get())?;
        let locked = counters.locked(&self.base);
        if nth != 0 && !locked.is_empty() {
            writeln!(self.said, "left {}{locked}", case.run_name(nth))?;
        }
        Ok((digest, failed))
    }

    /// Starts the trace if the run is to be traced from this step on.
    fn trace(&mut self, case: &Case, nth: u32, step: usize) -> Result<()> {
        if !self.trace && self.trace_from.is_some_and(|from| step >= from) {
            self.trace = true;
            writeln!(self.said, "trace {}", case.run_name(nth))?;
        }
        Ok(())
    }

    /// Whether an allocation failed in what a process was just asked for.
    fn has_failed(&self, process: usize) -> Result<bool> {
        let slot = &self.control.slots[process];
        slot.nth.store(0, Relaxed);
        if self.pids[process] == 0 {
            bail!("the process is gone");
        }
        match slot.failed.swap(CANNOT_FAIL, Relaxed) {
            ONE_FAILED => Ok(true),
            NONE_FAILED => Ok(false),
            _ => bail!("there is no fail-nth in /proc, or it does not work"),
        }
    }

    /// Hashes, or says, what `look` sees; the words that are not as they were, by `seen`.
    fn show(
        &mut self,
        what: &str,
        seen: usize,
        all: &mut Hash,
        look: impl Fn(&mut Self, &mut dyn Sink) -> Result<()>,
    ) -> Result<u64> {
        if !self.trace {
            let mut hash = Hash::default();
            look(self, &mut hash)?;
            let hash = hash.get();
            all.line(&hash.to_ne_bytes());
            return Ok(hash);
        }
        let mut words = Words::default();
        look(self, &mut words)?;
        let mut hash = Hash::default();
        for line in &words.0 {
            hash.line(line.as_bytes());
        }
        all.line(&hash.get().to_ne_bytes());
        writeln!(self.said, "{what}")?;
        let now: BTreeSet<String> = words.0.iter().cloned().collect();
        let mut gone: Vec<&String> = self.seen[seen].difference(&now).collect();
        gone.sort();
        for line in gone {
            writeln!(self.said, "- {line}")?;
        }
        for line in words
            .0
            .iter()
            .filter(|line| !self.seen[seen].contains(*line))
        {
            writeln!(self.said, "+ {line}")?;
        }
        self.seen[seen] = now;
        Ok(hash.get())
    }

    /// Starts process 0.
    fn start(&mut self) -> Result<()> {
        let slot = &self.control.slots[0];
        slot.turn.store(IDLE, Relaxed);
        // The same name as after an exec, since it stands on the stack.
        let child = Command::new("/proc/self/exe")
            .args([worker::ARGUMENT, "0", "again"])
            .env_clear()
            .envs(worker::ENVIRONMENT.to_str()?.split_once('='))
            .spawn()
            .context("cannot start a worker")?;
        self.pids[0] = child.id() as i32;
        match self.wait(0)? {
            Ended::Done(0) => Ok(()),
            _ => bail!("the worker did not start"),
        }
    }

    fn end(&mut self) -> Result<()> {
        for pid in &mut self.pids {
            if *pid != 0 {
                // SAFETY: A child of ours that was not waited for.
                unsafe {
                    libc::kill(*pid, libc::SIGKILL);
                    while libc::waitpid(*pid, std::ptr::null_mut(), 0) < 0 {}
                }
                self.reader.forget(*pid);
                *pid = 0;
            }
        }
        for id in &self.control.segments {
            let id = id.load(Relaxed) - 1;
            if id >= 0 {
                // SAFETY: A segment that a worker made. It may be gone.
                unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
            }
        }
        open_files()
    }

    /// Waits until a process has done what it was asked for, or has ended.
    fn wait(&mut self, process: usize) -> Result<Ended> {
        const SLEEP: Duration = Duration::from_millis(100);

        let slot = &self.control.slots[process];
        let mut slept = Duration::ZERO;
        while slept < OP_LIMIT {
            let turn = slot.turn.load(Relaxed);
            if turn != DONE {
                // That a child has ended interrupts it, or has done so before.
                slot.wait_while(turn, Some(SLEEP));
                slept += SLEEP;
            }
            if slot.is(DONE) {
                slot.turn.store(IDLE, Relaxed);
                return Ok(Ended::Done(slot.ret.load(Relaxed)));
            }
            let mut status = 0;
            // SAFETY: A child of ours; `status` is ours to write to.
            let gone = unsafe { libc::waitpid(self.pids[process], &mut status, libc::WNOHANG) };
            if gone == self.pids[process] {
                self.reader.forget(gone);
                self.pids[process] = 0;
                slot.turn.store(IDLE, Relaxed);
                return Ok(Ended::Died(status));
            }
        }
        bail!("it does not come to its end");
    }

    fn op(&mut self, index: usize, op: &Op, all: &mut Hash) -> Result<()> {
        let what = format!("op {index} {op}");
        if self.pids[op.process] == 0 {
            return Ok(());
        }
        if let Call::Checkpoint | Call::Compact = op.call {
            if op.call == Call::Compact {
                fs::write("/proc/sys/vm/compact_memory", "1")?;
            }
            drain()?;
            let counters = self.reader.counters(&CGROUP)?;
            self.tally.op(op, 0);
            let frames = Some(counters.refaulted(&self.base));
            self.show(&what, PROCESSES, all, |driver, sink| {
                counters.show(&driver.base, sink);
                for process in 0..PROCESSES {
                    driver.look(process, frames, sink)?;
                }
                Ok(())
            })?;
            return Ok(());
        }
        if op.call == Call::Fork && self.pids[op.args[0] as usize] != 0 {
            return Ok(());
        }
        self.control.ask(op);
        let ended = self.wait(op.process)?;
        let ret = match ended {
            Ended::Done(ret) => ret,
            Ended::Died(status) => {
                if op.call != Call::Exit || status != 0 {
                    writeln!(self.said, "died {}: {op}", self.name)?;
                }
                -10_000 - i64::from(status)
            }
        };
        if op.call == Call::Fork && ret == 0 {
            let new = op.args[0] as usize;
            self.pids[new] = self.control.slots[new].pid.load(Relaxed);
            self.control.slots[new].set(BEGIN);
            if let Ended::Died(_) = self.wait(new)? {
                writeln!(self.said, "died {}: the child of {op}", self.name)?;
            }
        }
        if op.call == Call::Exec {
            self.reader.forget(self.pids[op.process]);
        }
        self.tally.op(op, ret);
        all.line(&ret.to_ne_bytes());
        let what = format!("{what} -> {ret}");
        let process = op.process;
        let hash = self.show(&what, process, all, |driver, sink| {
            driver.look(process, None, sink)
        })?;
        if self.brief {
            return Ok(());
        }
        if self.pids[process] != 0 {
            self.note(process, hash)?;
        }
        // What it did to the others
        for other in (0..PROCESSES).filter(|other| *other != process) {
            self.show("besides", other, all, |driver, sink| {
                driver.look(other, None, sink)
            })?;
        }
        Ok(())
    }

    /// What can be seen of a process, and with `frames`, of the page frames that it maps: whether
    /// pages have refaulted.
    fn look(
        &mut self,
        process: usize,
        frames: Option<Refaulted>,
        sink: &mut dyn Sink,
    ) -> Result<()> {
        let pid = self.pids[process];
        if pid == 0 {
            return Ok(());
        }
        sink.line(format!("process {process}").as_bytes());
        let charged = self.reader.status(pid, sink)?;
        self.control.slots[process].charged.store(charged, Relaxed);
        if self.brief {
            return Ok(());
        }
        let mut vmas = std::mem::take(&mut self.vmas);
        self.reader.smaps(pid, sink, &mut vmas)?;
        self.reader.pagemap(pid, &vmas, sink)?;
        if let Some(refaulted) = frames {
            self.reader.page_flags(pid, &vmas, refaulted, sink)?;
        }
        vmas.retain(is_in_arena);
        self.in_core(process, &vmas, sink)?;
        self.vmas = vmas;
        Ok(())
    }

    fn in_core(&mut self, process: usize, vmas: &[Vma], sink: &mut dyn Sink) -> Result<()> {
        let vmas = &vmas[..vmas.len().min(RANGES)];
        let mut ranges = 0;
        for (range, vmas) in zip(&self.control.ranges, vmas.chunk_by(is_before)) {
            if let [first, ..] = vmas
                && let [.., last] = vmas
            {
                range[0].store(first.start, Relaxed);
                range[1].store(last.end, Relaxed);
                ranges += 1;
            }
        }
        self.control.range_count.store(ranges, Relaxed);
        self.control.ask_for(process, MINCORE, &[0; 6]);
        let Ended::Done(failed) = self.wait(process)? else {
            bail!("process {process} died of mincore()");
        };
        sink.line(format!("mincore failed {failed}").as_bytes());
        for vma in vmas {
            let range = ((vma.start - ARENA) / PAGE) as usize..((vma.end - ARENA) / PAGE) as usize;
            let mut line = format!("core {:x} ", vma.start).into_bytes();
            line.extend(
                self.control.in_core[range]
                    .iter()
                    .map(|b| b'0' + b.load(Relaxed)),
            );
            sink.line(&line);
        }
        Ok(())
    }

    /// Counts the states that were reached.
    fn note(&mut self, process: usize, hash: u64) -> Result<()> {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: `limit` is ours to write to.
        check(unsafe {
            libc::prlimit(
                self.pids[process],
                libc::RLIMIT_MEMLOCK,
                std::ptr::null(),
                &mut limit,
            )
        })?;
        let charged = self.control.slots[process].charged.load(Relaxed);
        self.tally.state(hash, charged, limit.rlim_cur, &self.vmas);
        Ok(())
    }
}

/// How a wait for a process came out.
enum Ended {
    Done(i64),
    /// With this status of waitpid().
    Died(i32),
}
