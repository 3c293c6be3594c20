// SPDX-License-Identifier: GPL-2.0

//! One round, from the outside: starts its processes, watches over them, looks at what must hold
//! when they have stopped, ends them, and looks again.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;

use mlock2_guest::proc::{FRAME, PRESENT, Vma, number, smaps, words};

use crate::check::{self, Counters, Invariant, MLOCKED, Report, Verdict};
use crate::control::{
    self, BUSY, Control, FD_HELD, FD_PROGRAM, Mapped, OPS, Op, PARKED, READY, Slot,
};
use crate::layout::{self, KEPT_PAGES, PAGE, Range, SEGMENT, SHARED_PAGES, Use, WORKERS};
use crate::machine::{self, Machine};
use crate::sys::{self, End};
use crate::{Args, Role};

const MB: usize = 1 << 20;
/// How often something is looked at again that may not have come to rest: pages are migrated, and
/// counters are brought together now and then only.
const TRIES: usize = 20;
const TRY_AGAIN: u64 = 250;
/// How often more is reclaimed until what is not locked is gone.
const SQUEEZES: usize = 200;

struct Process {
    role: Role,
    number: usize,
    pid: i32,
    alive: bool,
}

pub struct Round<'a> {
    args: Args,
    machine: &'a Machine,
    processes: Vec<Process>,
    /// Whether what is left was killed by us.
    over: bool,
}

impl<'a> Round<'a> {
    pub fn new(args: &Args, machine: &'a Machine, round: u64) -> Self {
        let mut args = args.clone();
        args.seed = args.seed.wrapping_add(round << 32);
        Self {
            args,
            machine,
            processes: Vec::new(),
            over: false,
        }
    }

    pub fn run(&mut self, report: &mut Report) -> Result<Verdict> {
        let base = self.machine.count()?;
        let verdict = {
            let shared = Shared::new()?;
            let mut verdict = self.live(shared.control.get(), report);
            // Whatever it came to: no process and no file may be left.
            if !matches!(verdict, Ok(Verdict::Stuck)) {
                self.reap(report);
                self.over = true;
                if !machine::kill_all(self.args.watchdog)? {
                    report.fail(Invariant::Ends, "a process cannot be killed");
                    verdict = Ok(Verdict::Stuck);
                }
                self.reap(report);
            }
            self.add_up(shared.control.get(), report);
            verdict?
        };
        if verdict == Verdict::Over {
            self.check_baseline(&base, report)?;
        }
        println!(
            "# round {}: {} operations, {} killed; of {} pages that stay locked, {} are mlocked",
            report.rounds + 1,
            report.operations(),
            report.killed,
            report.mlocked.1,
            report.mlocked.0
        );
        Ok(verdict)
    }

    /// What happens while the files and the segments are there.
    fn live(&mut self, control: &Control, report: &mut Report) -> Result<Verdict> {
        report.mlocked = (0, 0);
        self.start(Role::Stamp, 0)?;
        let (_, end) = sys::wait(self.processes[0].pid, 0).context("no process to wait for")?;
        ensure!(end == End::Exit(0), "the files were not written: {end:?}");
        self.processes.clear();

        for number in 0..WORKERS {
            let pid = self.start(Role::Worker, number)?;
            control.workers[number].store(pid, Relaxed);
        }
        let others = [
            Role::Fill,
            Role::Reclaim,
            Role::Compact,
            Role::Hotplug,
            Role::Hold,
        ];
        for (i, role) in others.into_iter().enumerate() {
            self.start(role, WORKERS + i)?;
        }
        if !self.until(control, report, |round| round.are(control, READY, |_| true)) {
            return Ok(Verdict::Stuck);
        }
        let looks = look_on(self.workers()?, self.args.seed);
        control.set(control::RUN);
        let end = sys::now() + self.args.round * 1000;
        if !self.until(control, report, |_| sys::now() >= end) {
            return Ok(Verdict::Stuck);
        }
        control.set(control::STOP);
        let but_one = |role| role != Role::Hotplug;
        if !self.until(control, report, |round| round.are(control, PARKED, but_one)) {
            return Ok(Verdict::Stuck);
        }
        control.set(control::LAST);
        if !self.until(control, report, |round| {
            round.are(control, PARKED, |_| true)
        }) {
            return Ok(Verdict::Stuck);
        }
        let lost: Vec<_> = looks
            .try_iter()
            .inspect(|look| report.checked(Invariant::Resident, look.pages))
            .filter_map(|look| look.lost)
            .collect();
        self.check_stopped(&lost, report)?;
        Ok(Verdict::Over)
    }

    /// The workers that are alive.
    fn workers(&self) -> Result<Vec<Worker>> {
        self.processes
            .iter()
            .filter(|process| process.role == Role::Worker && process.alive)
            .map(|process| Worker::open(process.number, process.pid))
            .collect()
    }

    fn start(&mut self, role: Role, number: usize) -> Result<i32> {
        let args = &self.args;
        let program = match role {
            Role::Hold => FD_HELD,
            _ => FD_PROGRAM,
        };
        let child = Command::new(format!("/proc/self/fd/{program}"))
            .args(["--role", &format!("{role:?}").to_lowercase()])
            .args(["--number", &number.to_string()])
            .args(["--seed", &args.seed.to_string()])
            .args(["--threads", &args.threads.to_string()])
            .spawn()
            .context("cannot start a process")?;
        let pid = child.id() as i32;
        self.processes.push(Process {
            role,
            number,
            pid,
            alive: true,
        });
        Ok(pid)
    }

    /// The slots that a process has in use.
    fn slots<'b>(&self, control: &'b Control, process: &Process) -> &'b [Slot] {
        let threads = match process.role {
            Role::Worker => self.args.threads,
            _ => 1,
        };
        &control.slots[process.number][..threads]
    }

    /// Whether all threads of the processes with such a role are in `state`.
    fn are(&self, control: &Control, state: u32, with: impl Fn(Role) -> bool) -> bool {
        self.processes
            .iter()
            .filter(|process| process.alive && with(process.role))
            .flat_map(|process| self.slots(control, process))
            .all(|slot| slot.state() == state)
    }

    /// Waits until it is `over`. Returns false when a thread stands still.
    fn until(
        &mut self,
        control: &Control,
        report: &mut Report,
        over: impl Fn(&Self) -> bool,
    ) -> bool {
        loop {
            self.reap(report);
            for process in self.processes.iter().filter(|process| process.alive) {
                for slot in self.slots(control, process) {
                    // The clock first: the slot may begin anew after that.
                    let now = sys::now();
                    let still = now.saturating_sub(slot.since.load(Acquire));
                    if slot.state() == BUSY && still > self.args.watchdog * 1000 {
                        report.fail(Invariant::Ends, &describe(process, slot, still));
                        return false;
                    }
                }
            }
            if over(self) {
                return true;
            }
            sys::sleep(50);
        }
    }

    /// Takes note of what has ended.
    fn reap(&mut self, report: &mut Report) {
        while let Some((pid, end)) = sys::wait(-1, libc::WNOHANG) {
            let Some(process) = self.processes.iter_mut().find(|process| process.pid == pid) else {
                // A child of one that was killed, which is killed with it.
                if !matches!(end, End::Exit(0) | End::Signal(libc::SIGKILL)) {
                    report.fail(Invariant::Alive, &format!("a child ended: {end:?}"));
                }
                continue;
            };
            process.alive = false;
            let disturber = process.role != Role::Worker;
            match end {
                End::Signal(libc::SIGKILL) if self.over => {}
                End::Signal(libc::SIGKILL) => report.killed += 1,
                End::Exit(0) if disturber => {}
                _ => {
                    let why = format!("{:?} {} ended: {end:?}", process.role, process.number);
                    report.fail(Invariant::Alive, &why);
                }
            }
        }
    }

    fn add_up(&self, control: &Control, report: &mut Report) {
        for slot in control.slots.iter().flatten() {
            for op in 0..OPS {
                report.done[op] += slot.done[op].load(Relaxed);
                report.refused[op] += slot.refused[op].load(Relaxed);
            }
            report.killed += slot.killed.load(Relaxed);
            let crashed = slot.crashed.load(Relaxed);
            if crashed > 0 {
                report.fail(
                    Invariant::Alive,
                    &format!("{crashed} children ended by themselves"),
                );
            }
        }
        report.checked(Invariant::Alive, self.processes.len());
    }

    //
    // When nobody changes anything any more
    //

    /// `lost` is what was missing meanwhile, by the number of the worker.
    fn check_stopped(&self, lost: &[(usize, String)], report: &mut Report) -> Result<()> {
        let workers = self.workers()?;
        // Of one that is killed the memory is taken at once.
        let alive = |number| workers.iter().any(|worker| worker.number == number);
        for (_, why) in lost.iter().filter(|(number, _)| alive(*number)) {
            report.fail(Invariant::Resident, why);
        }
        squeeze(&workers, report)?;

        let mut mlocked = (0, 0);
        for worker in &workers {
            let vmas = worker.check_charge(report)?;
            for range in layout::fixed(worker.number) {
                if range.purpose == Use::Victim {
                    continue;
                }
                worker.check_locked(&range, &vmas, report)?;
            }
        }
        let frames = self.check_flags(report)?;
        for worker in &workers {
            for range in layout::fixed(worker.number) {
                if range.purpose != Use::Victim {
                    worker.count_mlocked(&range, &frames, &mut mlocked)?;
                }
                worker.check_contents(&range, report)?;
            }
        }
        // The count of locks may be too low; that reclaim mends it is seen here.
        report.checked(Invariant::Mlocked, mlocked.0);
        report.mlocked = mlocked;
        let whole = |worker: &Worker| layout::manner(worker.number) == layout::Manner::Ranges;
        let holds = |process: &Process| process.role == Role::Hold && process.alive;
        let watched = workers.iter().any(whole) && self.processes.iter().any(holds);
        report.watched += u64::from(watched);
        if mlocked.0 * 4 < mlocked.1 * 3 {
            let why = format!(
                "of {} pages that stay locked, {} are mlocked",
                mlocked.1, mlocked.0
            );
            report.fail(Invariant::Mlocked, &why);
        }
        Ok(())
    }

    /// Returns the flags of all pages.
    fn check_flags(&self, report: &mut Report) -> Result<Vec<u64>> {
        let mut tries = TRIES;
        loop {
            let counters = self.machine.count()?;
            let frames = self.machine.frames()?;
            let wrong = counters.against(&frames);
            tries -= 1;
            if wrong.is_empty() || tries == 0 {
                report.checked(Invariant::Flags, counters.nr_mlock as usize);
                for why in &wrong {
                    report.fail(Invariant::Flags, why);
                }
                return Ok(frames);
            }
            sys::sleep(TRY_AGAIN);
        }
    }

    //
    // When all is gone
    //

    fn check_baseline(&self, base: &Counters, report: &mut Report) -> Result<()> {
        report.checked(Invariant::Baseline, 1);
        let mut differences = Vec::new();
        for _ in 0..TRIES {
            differences = self.machine.count()?.differences(base);
            if differences.is_empty() {
                return Ok(());
            }
            // A page that was on its way to swap when its process went is left in the swap cache
            // until reclaim comes by. One that somebody has a reference to stays all the same.
            let _ = machine::GROUP.reclaim(MB);
            sys::sleep(TRY_AGAIN);
        }
        for why in &differences {
            report.fail(Invariant::Baseline, why);
        }
        Ok(())
    }
}

/// What all processes of a round share. It goes when it is dropped, and with it every page that a
/// process of the round may have locked.
struct Shared {
    control: Mapped,
    segments: [i32; 2],
    _files: [File; 5],
}

impl Shared {
    fn new() -> Result<Self> {
        let state = control::memfd(control::FD, size_of::<Control>())?;
        let program = fs::read("/proc/self/exe").context("cannot read this program")?;
        let [copy, held] = [copy(FD_PROGRAM, &program)?, copy(FD_HELD, &program)?];
        let kept = control::memfd(control::FD_KEPT, KEPT_PAGES * PAGE)?;
        let shared = control::memfd(control::FD_SHARED, SHARED_PAGES * PAGE)?;
        let control = Mapped::new(&state)?;
        let mut segments = [0; 2];
        for (segment, shown) in segments.iter_mut().zip(&control.get().segments) {
            // SAFETY: No preconditions.
            *segment =
                unsafe { libc::shmget(libc::IPC_PRIVATE, SEGMENT * PAGE, libc::IPC_CREAT | 0o600) };
            ensure!(*segment >= 0, "shmget: {}", std::io::Error::last_os_error());
            shown.store(*segment, Relaxed);
        }
        Ok(Self {
            control,
            segments,
            _files: [state, copy, held, kept, shared],
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for segment in self.segments {
            // SAFETY: The command uses no buffer.
            unsafe { libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut()) };
        }
    }
}

/// A copy of the program behind `fd`. It is open for reading only, as a file that is open for writing
/// cannot be run.
fn copy(fd: i32, program: &[u8]) -> Result<File> {
    let file = control::memfd(fd, program.len())?;
    file.write_all_at(program, 0)
        .context("cannot copy this program")?;
    let new = File::open(format!("/proc/self/fd/{fd}")).context("cannot open the copy")?;
    drop(file);
    // SAFETY: Nobody has a file open there any more.
    let got = unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&new), fd) };
    ensure!(got == fd, "dup2: {}", std::io::Error::last_os_error());
    // SAFETY: dup2() has just made it.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) })
}

/// What stands still, and where in the kernel.
fn describe(process: &Process, slot: &Slot, still: u64) -> String {
    let op = Op::NAMES
        .get(slot.op.load(Relaxed) as usize)
        .unwrap_or(&"?");
    let (thread, child) = (slot.thread.load(Relaxed), slot.child.load(Relaxed));
    let mut text = format!(
        "{:?} {} hangs in {op} for {} s",
        process.role,
        process.number,
        still / 1000
    );
    for id in [thread, child].into_iter().filter(|id| *id != 0) {
        for file in ["status", "wchan", "syscall", "stack"] {
            let Ok(found) = fs::read_to_string(format!("/proc/{id}/{file}")) else {
                continue;
            };
            for line in found.lines() {
                if file != "status" || line.starts_with("State:") {
                    text += &format!("\n#   {id} {file}: {line}");
                }
            }
        }
    }
    text
}

/// A look at a range that is locked.
#[derive(Default)]
struct Look {
    pages: usize,
    /// Which worker lacks something, and what: that means nothing if it has been killed since.
    lost: Option<(usize, String)>,
}

/// Looks on while everybody is at it, until nobody wants to know any more. In a thread of its own,
/// since it may come to wait for a lock that is never dropped, and somebody has to notice that.
fn look_on(workers: Vec<Worker>, seed: u64) -> Receiver<Look> {
    let (sender, looks) = mpsc::channel();
    let mut rng = Rng::with_seed(seed);
    thread::spawn(move || {
        let mut look = || rng.choice(&workers)?.look(&mut rng);
        while sender.send(look().unwrap_or_default()).is_ok() {
            sys::sleep(50);
        }
    });
    looks
}

/// A worker, as it is seen from outside.
struct Worker {
    number: usize,
    pid: i32,
    pagemap: File,
    memory: File,
}

impl Worker {
    fn open(number: usize, pid: i32) -> Result<Self> {
        let open = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            File::open(&path).with_context(|| format!("cannot open {path}"))
        };
        Ok(Self {
            number,
            pid,
            pagemap: open("pagemap")?,
            memory: open("mem")?,
        })
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.pid);
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }

    fn entries(&self, range: &Range) -> Result<Vec<u64>> {
        let mut bytes = vec![0; range.pages * 8];
        self.pagemap
            .read_exact_at(&mut bytes, (range.addr / PAGE * 8) as u64)
            .context("cannot read pagemap")?;
        Ok(words(&bytes).collect())
    }

    /// Looks whether all is there of a range that is locked. Of a worker that has been killed, there
    /// is nothing to be seen.
    fn look(&self, rng: &mut Rng) -> Option<Look> {
        let mut ranges = layout::fixed(self.number);
        ranges.retain(|range| range.purpose != Use::Victim);
        let range = rng.choice(&ranges)?;
        let lost = check::lost(range, &self.entries(range).ok()?);
        let why = || {
            format!(
                "worker {}: {:?} {:?}: {lost} locked pages are not there meanwhile",
                self.number, range.kind, range.purpose
            )
        };
        Some(Look {
            pages: range.pages,
            lost: (lost > 0).then(|| (self.number, why())),
        })
    }

    fn victims(&self) -> impl Iterator<Item = Range> {
        let ranges = layout::fixed(self.number).into_iter();
        ranges.filter(|range| range.purpose == Use::Victim)
    }

    fn check_charge(&self, report: &mut Report) -> Result<Vec<Vma>> {
        let vmas = smaps(self.read("smaps")?.as_bytes());
        let charged = number(&self.read("status")?, "VmLck:").context("no VmLck")? * 1024;
        let locked = check::locked(&vmas);
        report.checked(
            Invariant::Charge,
            vmas.iter().filter(|vma| vma.locked).count(),
        );
        if charged != locked {
            let why = format!(
                "worker {}: VmLck is {charged}, the locked vmas have {locked} bytes",
                self.number
            );
            report.fail(Invariant::Charge, &why);
        }
        Ok(vmas)
    }

    fn check_locked(&self, range: &Range, vmas: &[Vma], report: &mut Report) -> Result<()> {
        let mut fail = |why: String| {
            let why = format!(
                "worker {}: {:?} {:?}: {why}",
                self.number, range.kind, range.purpose
            );
            report.fail(Invariant::Resident, &why);
        };
        let locked = check::covered(vmas, range, |vma| vma.locked);
        if locked != range.len() {
            fail(format!("{locked} of {} bytes are locked", range.len()));
        }
        // mlockall() may have asked for all pages since.
        let exact = layout::manner(self.number) == layout::Manner::Ranges;
        let wanted = range.purpose == Use::OnFault;
        let right = check::covered(vmas, range, |vma| vma.on_fault == wanted);
        if exact && right != range.len() {
            fail(format!(
                "{right} of {} bytes are locked in that way",
                range.len()
            ));
        }
        let swapped = check::swapped(vmas, range);
        if range.is_free_of_swap() && swapped > 0 {
            fail(format!("{swapped} bytes are swapped"));
        }
        // A page that is being migrated is back in a moment.
        let mut tries = TRIES;
        let (gone, extra) = loop {
            let (gone, extra) = check::misplaced(range, &self.entries(range)?);
            tries -= 1;
            if gone == 0 || tries == 0 {
                break (gone, extra);
            }
            sys::sleep(TRY_AGAIN);
        };
        if gone > 0 {
            fail(format!("{gone} pages are not resident"));
        }
        if exact && extra > 0 {
            fail(format!("{extra} pages are resident that were never used"));
        }
        report.checked(Invariant::Resident, range.pages);
        Ok(())
    }

    fn count_mlocked(
        &self,
        range: &Range,
        frames: &[u64],
        count: &mut (usize, usize),
    ) -> Result<()> {
        for entry in self.entries(range)? {
            if entry & PRESENT != 0 {
                let flags = frames.get((entry & FRAME) as usize).unwrap_or(&0);
                count.0 += usize::from(flags & MLOCKED != 0);
                count.1 += 1;
            }
        }
        Ok(())
    }

    /// Brings back what is swapped. Pages that were never used are left alone.
    fn check_contents(&self, range: &Range, report: &mut Report) -> Result<()> {
        let mut page = vec![0; PAGE];
        let mut broken = 0;
        for i in (0..range.pages).filter(|i| range.is_used(*i)) {
            let read = self.memory.read_exact_at(&mut page, range.at(i) as u64);
            let tag = range.tag(self.number, i);
            broken += usize::from(read.is_err() || !layout::is_intact(&page, tag));
            report.checked(Invariant::Contents, 1);
        }
        if broken > 0 {
            let why = format!(
                "worker {}: {:?} {:?}: {broken} of {} pages are not what they were",
                self.number, range.kind, range.purpose, range.pages
            );
            report.fail(Invariant::Contents, &why);
        }
        Ok(())
    }
}

/// Reclaims until half of every range that is not locked is gone: what is locked has to stand that.
fn squeeze(workers: &[Worker], report: &mut Report) -> Result<()> {
    for worker in workers {
        for range in worker.victims() {
            let mut tries = SQUEEZES;
            loop {
                let entries = worker.entries(&range)?;
                let present = entries.iter().filter(|entry| **entry & PRESENT != 0);
                let present = present.count();
                if present <= range.pages / 2 {
                    break;
                }
                if tries == 0 {
                    let why = format!(
                        "worker {}: {:?}: {present} of {} pages that are not locked stay",
                        worker.number, range.kind, range.pages
                    );
                    report.fail(Invariant::Pressure, &why);
                    break;
                }
                tries -= 1;
                machine::flush()?;
                // It may have less than that.
                let _ = machine::GROUP.reclaim(8 * MB);
                sys::sleep(20);
            }
        }
        let vmas = smaps(worker.read("smaps")?.as_bytes());
        let swapped: u64 = worker
            .victims()
            .map(|range| check::swapped(&vmas, &range))
            .sum();
        report.checked(Invariant::Pressure, swapped as usize / PAGE);
    }
    Ok(())
}
