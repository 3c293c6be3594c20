// SPDX-License-Identifier: GPL-2.0

//! The scheduler: one task runs at a time, and gives way before each operation that others can see.
//!
//! A task's own state is never looked at. It is known all the same: the task does always the same
//! after it has seen the same, so a hash of what its operations have returned stands for it. What a
//! task reads of plain memory, which a lock protects, goes into that hash, too.

use super::{
    coroutine::{interleave_switch, Stack},
    explore::Explorer,
    mm::Mlock,
    world::{world, FolioBatch, Hash, Lock, MlockBatch, RwLock, CPUS, NOBODY},
};
use core::{
    cell::{Cell, RefCell},
    ptr,
};
use std::panic;

/// One that comes before all others, three at once, and one that cleans up.
pub const TASKS: usize = 5;

/// What a task needs to go on.
#[derive(Clone, Copy)]
pub enum Wants {
    Nothing,
    Lock(*const Lock),
    Read(*const RwLock),
    Write(*const RwLock),
    /// All other tasks are done.
    Others,
    /// No other task that is not done has this CPU.
    DeadCpu(usize),
}

/// How many locks a task may hold at once.
const DEPTH: usize = 8;

pub struct Task {
    pub name: Cell<&'static str>,
    pub cpu: Cell<usize>,
    job: Cell<Option<&'static dyn Fn()>>,
    wants: Cell<Wants>,
    done: Cell<bool>,
    /// How often preemption was turned off.
    preempt: Cell<u32>,
    history: Cell<u128>,
    sp: Cell<*mut u8>,
    held: Cell<[u8; DEPTH]>,
    depth: Cell<usize>,
}

/// Why a run came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// All tasks are done.
    Done,
    /// From here on, all was seen.
    Seen,
    Failed(String),
}

/// A line of the log.
pub struct Entry {
    pub task: &'static str,
    pub cpu: usize,
    pub words: String,
}

pub struct Sched {
    pub tasks: [Task; TASKS],
    pub number: Cell<usize>,
    current: Cell<usize>,
    main: Cell<*mut u8>,
    stacks: RefCell<Vec<Stack>>,
    failure: RefCell<Option<String>>,
    log: RefCell<Option<Vec<Entry>>>,
    pub explorer: RefCell<Explorer>,
    /// What is tested.
    pub mlock: Cell<Option<&'static Mlock>>,
}

const NO_TASK: usize = usize::MAX;

thread_local! {
    // Never dropped, and so there for as long as the thread.
    static SCHED: &'static Sched = Box::leak(Box::new(Sched::new()));
}

pub fn sched() -> &'static Sched {
    SCHED.with(|sched| *sched)
}

/// Something for a task to do, on a CPU.
pub struct Job {
    pub name: &'static str,
    pub cpu: usize,
    pub work: &'static dyn Fn(),
}

impl Sched {
    fn new() -> Self {
        Self {
            tasks: core::array::from_fn(|_| Task {
                name: Cell::new(""),
                cpu: Cell::new(0),
                job: Cell::new(None),
                wants: Cell::new(Wants::Nothing),
                done: Cell::new(true),
                preempt: Cell::new(0),
                history: Cell::new(0),
                sp: Cell::new(ptr::null_mut()),
                held: Cell::new([0; DEPTH]),
                depth: Cell::new(0),
            }),
            number: Cell::new(0),
            current: Cell::new(NO_TASK),
            main: Cell::new(ptr::null_mut()),
            stacks: RefCell::new((0..TASKS).map(|_| Stack::new()).collect()),
            failure: RefCell::new(None),
            log: RefCell::new(None),
            explorer: RefCell::new(Explorer::default()),
            mlock: Cell::new(None),
        }
    }

    /// Runs all jobs to their end, or until nothing new can come of it: the first one alone, before
    /// all others.
    ///
    /// The world must be as it is to be at the start. Jobs are called on stacks that may be left in
    /// the middle, and never gone back to.
    pub fn run(&self, jobs: &[Job]) -> End {
        assert!(jobs.len() <= TASKS);
        self.number.set(jobs.len());
        self.failure.replace(None);
        for (i, job) in jobs.iter().enumerate() {
            let task = &self.tasks[i];
            task.name.set(job.name);
            task.cpu.set(job.cpu);
            task.job.set(Some(job.work));
            task.wants.set(Wants::Nothing);
            task.done.set(false);
            task.preempt.set(0);
            task.history.set(i as u128);
            task.depth.set(0);
            task.sp.set(self.stacks.borrow_mut()[i].start(entry));
        }
        let mut last = NO_TASK;

        loop {
            let mut enabled = [0; TASKS];
            let mut number = 0;
            // The one that ran last comes first, so that the first run has no preemption.
            if last != NO_TASK && self.is_enabled(last) {
                enabled[number] = last;
                number += 1;
            }
            for i in 0..self.number.get() {
                if i != last && self.is_enabled(i) {
                    enabled[number] = i;
                    number += 1;
                }
            }
            let next = match number {
                0 if self.tasks[..self.number.get()].iter().all(|t| t.done.get()) => {
                    return End::Done;
                }
                0 => return End::Failed(format!("deadlock: {}", self.who_waits())),
                1 => 0,
                _ => {
                    let preempts = enabled[0] == last;
                    let mut explorer = self.explorer.borrow_mut();
                    // Who ran last only matters where preemptions are counted.
                    let bounded = explorer.is_bounded();
                    let hash = || self.hash(if bounded { last } else { NO_TASK });
                    match explorer.decide(number, preempts, hash) {
                        Some(next) => next,
                        None => return End::Seen,
                    }
                }
            };
            last = enabled[next];
            self.current.set(last);
            // SAFETY: The task was made above, or has left its stack by `leave()`.
            unsafe { interleave_switch(self.main.as_ptr(), self.tasks[last].sp.get()) };
            self.current.set(NO_TASK);
            if let Some(failure) = self.failure.take() {
                return End::Failed(failure);
            }
        }
    }

    fn is_enabled(&self, i: usize) -> bool {
        let task = &self.tasks[i];
        if task.done.get() || (i != 0 && !self.tasks[0].done.get()) {
            return false;
        }
        let others = || {
            self.tasks[..self.number.get()]
                .iter()
                .enumerate()
                .filter(|(j, t)| *j != i && !t.done.get())
        };

        // Who has turned preemption off keeps the CPU.
        if others().any(|(_, t)| t.cpu.get() == task.cpu.get() && t.preempt.get() > 0) {
            return false;
        }
        // SAFETY: Locks are in the world, or on no stack.
        unsafe {
            match task.wants.get() {
                Wants::Nothing => true,
                Wants::Lock(lock) => (*lock).owner.get() == NOBODY,
                Wants::Read(lock) => (*lock).writer.get() == NOBODY,
                Wants::Write(lock) => (*lock).writer.get() == NOBODY && (*lock).readers.get() == 0,
                Wants::Others => others().next().is_none(),
                Wants::DeadCpu(cpu) => others().all(|(_, t)| t.cpu.get() != cpu),
            }
        }
    }

    fn who_waits(&self) -> String {
        let waiting = self.tasks[..self.number.get()]
            .iter()
            .filter(|t| !t.done.get());
        waiting.map(|t| t.name.get()).collect::<Vec<_>>().join(", ")
    }

    fn hash(&self, last: usize) -> u128 {
        let mut hash = Hash::new();
        world().hash(&mut hash);
        for task in &self.tasks[..self.number.get()] {
            let history = task.history.get();
            hash.mix(history as u64);
            hash.mix((history >> 64) as u64);
            hash.mix(task.cpu.get() as u64 | u64::from(task.done.get()) << 8);
        }
        hash.mix(last as u64);
        hash.get()
    }

    pub fn me(&self) -> usize {
        self.current.get()
    }

    fn task(&self) -> &Task {
        &self.tasks[self.current.get()]
    }

    /// Writes down what tasks do from now on.
    pub fn start_log(&self) {
        self.log.replace(Some(Vec::new()));
    }

    pub fn take_log(&self) -> Vec<Entry> {
        self.log.take().unwrap_or_default()
    }

    pub fn is_logging(&self) -> bool {
        self.log.borrow().is_some()
    }

    fn leave(&self) {
        // SAFETY: The scheduler has left its stack to come here.
        unsafe { interleave_switch(self.task().sp.as_ptr(), self.main.get()) };
    }
}

extern "C" fn entry() -> ! {
    let sched = sched();
    let task = sched.task();

    if let Some(job) = task.job.get() {
        if let Err(panic) = panic::catch_unwind(panic::AssertUnwindSafe(job)) {
            let words = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
            fail(&format!("panic: {}", words.unwrap_or_default()));
        }
    }
    if task.depth.get() != 0 || task.preempt.get() != 0 {
        fail("a task ended with a lock held");
    }
    task.done.set(true);
    task.history.set(u128::MAX);
    loop {
        sched.leave();
    }
}

/// Ends this run with a mistake.
pub fn fail(what: &str) -> ! {
    let sched = sched();
    if sched.current.get() == NO_TASK {
        panic!("{what}");
    }
    let words = format!("{}: {what}", sched.task().name.get());
    sched.failure.borrow_mut().get_or_insert(words);
    loop {
        sched.leave();
    }
}

pub fn log(words: impl FnOnce() -> String) {
    let sched = sched();
    if sched.is_logging() {
        let words = words();
        if let Some(log) = &mut *sched.log.borrow_mut() {
            log.push(Entry {
                task: sched.task().name.get(),
                cpu: sched.task().cpu.get(),
                words,
            });
        }
    }
}

/// Lets others go first, then goes on when what is wanted is there.
pub fn point(wants: Wants) {
    let sched = sched();
    let task = sched.task();
    // It has come that far.
    observe(0);
    task.wants.set(wants);
    sched.leave();
    task.wants.set(Wants::Nothing);
}

/// An operation that others can see: a step, and what it does.
#[macro_export]
macro_rules! step {
    ($($words:tt)*) => {{
        $crate::model::sched::point($crate::model::sched::Wants::Nothing);
        $crate::model::sched::log(|| format!($($words)*));
    }};
}

/// Notes what the task has seen, which is what its state depends on.
pub fn observe(value: u64) {
    let task = sched().task();
    let mut hash = Hash::from(task.history.get());
    hash.mix(value);
    task.history.set(hash.raw());
}

/// As [`observe`], for what is returned.
pub fn seen<T: Copy + Into<u64>>(value: T) -> T {
    observe(value.into());
    log(|| format!("  = {:#x}", value.into()));
    value
}

/// Forgets what the task has seen: its state is the same whatever that was. `place` tells it from
/// other places of the kind.
pub fn forget(place: u64) {
    let task = sched().task();
    let mut hash = Hash::new();
    hash.mix(sched().me() as u64);
    hash.mix(place);
    task.history.set(hash.raw());
}

/// One of several things, each of which is tried.
pub fn choose(alternatives: usize) -> usize {
    let chosen = sched().explorer.borrow_mut().choose(alternatives);
    observe(chosen as u64);
    chosen
}

pub fn me() -> u8 {
    sched().me() as u8
}

pub fn cpu() -> usize {
    sched().task().cpu.get()
}

/// Goes on, on another CPU, when that can be had.
pub fn move_to_cpu(cpu: usize) {
    let task = sched().task();
    if task.preempt.get() != 0 {
        fail("a task went to another CPU with preemption off");
    }
    assert!(cpu < CPUS);
    if task.cpu.get() != cpu {
        task.cpu.set(cpu);
        step!("now on CPU {cpu}");
    }
}

pub fn preempt_disable() {
    let preempt = &sched().task().preempt;
    preempt.set(preempt.get() + 1);
}

pub fn preempt_enable() {
    let preempt = &sched().task().preempt;
    preempt.set(preempt.get() - 1);
}

fn push(rank: u8, may_wait: bool) {
    let task = sched().task();
    let mut held = task.held.get();
    let depth = task.depth.get();
    if held[..depth]
        .iter()
        .any(|&other| other > rank || (may_wait && other == rank))
    {
        fail("locks are taken in the wrong order");
    }
    held[depth] = rank;
    task.held.set(held);
    task.depth.set(depth + 1);
}

fn pop(rank: u8) {
    let task = sched().task();
    let mut held = task.held.get();
    let depth = task.depth.get();
    let Some(at) = held[..depth].iter().position(|&other| other == rank) else {
        fail("a lock is unlocked that is not held");
    };
    held.copy_within(at + 1..depth, at);
    task.held.set(held);
    task.depth.set(depth - 1);
}

pub fn holds_above(rank: u8) -> bool {
    let task = sched().task();
    task.held.get()[..task.depth.get()]
        .iter()
        .any(|&other| other >= rank)
}

/// Sleeping is a mistake inside of spinlocks.
pub fn check_may_sleep(what: &str) {
    if holds_above(super::world::RANK_PTL) {
        fail(&format!("{what} with a spinlock held"));
    }
}

/// Takes a lock; one that spins turns preemption off, unless on PREEMPT_RT, where all of them sleep.
pub fn lock(lock: &Lock, name: &str) {
    let spins = lock.rank.get() >= super::world::RANK_PTL;
    push(lock.rank.get(), true);
    point(Wants::Lock(lock));
    log(|| format!("{name}"));
    if spins && !world().rt.get() {
        preempt_disable();
    }
    lock.owner.set(me());
}

/// Does not wait, so it may take several locks of one rank.
pub fn try_lock(lock: &Lock, name: &str) -> bool {
    step!("{name}");
    let free = lock.owner.get() == NOBODY;
    if free {
        lock_new(lock);
    }
    seen(u64::from(free)) != 0
}

/// Takes a lock that nobody else can hold.
pub fn lock_new(lock: &Lock) {
    push(lock.rank.get(), false);
    lock.owner.set(me());
}

pub fn unlock(lock: &Lock) {
    if lock.owner.get() != me() {
        fail("a lock is unlocked that somebody else has");
    }
    pop(lock.rank.get());
    lock.owner.set(NOBODY);
    if lock.rank.get() >= super::world::RANK_PTL && !world().rt.get() {
        preempt_enable();
    }
}

pub fn read_lock(lock: &RwLock, name: &str) {
    push(super::world::RANK_MMAP, true);
    point(Wants::Read(lock));
    log(|| format!("{name}"));
    lock.readers.set(lock.readers.get() + 1);
}

pub fn read_unlock(lock: &RwLock) {
    pop(super::world::RANK_MMAP);
    lock.readers.set(lock.readers.get() - 1);
}

pub fn write_lock(lock: &RwLock, name: &str) {
    push(super::world::RANK_MMAP, true);
    point(Wants::Write(lock));
    log(|| format!("{name}"));
    lock.writer.set(me());
}

pub fn write_unlock(lock: &RwLock) {
    pop(super::world::RANK_MMAP);
    lock.writer.set(NOBODY);
}

pub fn write_downgrade(lock: &RwLock) {
    lock.writer.set(NOBODY);
    lock.readers.set(lock.readers.get() + 1);
}

/// Notes what a batch holds, which a lock keeps as it is from now on.
pub fn observe_batch(batch: &FolioBatch) {
    let task = sched().task();
    let mut hash = Hash::from(task.history.get());
    hash.mix_batch(batch);
    task.history.set(hash.raw());
}

pub fn observe_mlock_batch(batch: &MlockBatch) {
    let task = sched().task();
    let mut hash = Hash::from(task.history.get());
    hash.mix_mlock_batch(batch);
    task.history.set(hash.raw());
}
