// SPDX-License-Identifier: GPL-2.0

//! The clock: instructions under QEMU's `-icount shift=0`, nanoseconds otherwise; and the marks
//! by which a trace of the machine is cut into what is measured and what is not.

use std::cell::Cell;
use std::hint::black_box;
use std::io::{Error, Result};

/// How many instructions a step of `count_down()` has.
const LOOP_INSTRUCTIONS: u64 = 2;
/// How far the clock may be from one tick for each instruction.
const MOST_OFF: f64 = 0.01;

/// The guest's clock in nanoseconds.
pub fn now() -> u64 {
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `t` is ours to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// The middle one of some values, the upper one of two.
pub fn median(values: &[f64]) -> f64 {
    let mut v = values.to_vec();
    v.sort_by(f64::total_cmp);
    v[v.len() / 2]
}

/// A clock that knows what it costs to read it.
pub struct Clock {
    cost: u64,
}

impl Clock {
    pub fn new() -> Self {
        let costs: Vec<f64> = (0..101)
            .map(|_| {
                let t = now();
                (now() - t) as f64
            })
            .collect();
        Self {
            cost: median(&costs) as u64,
        }
    }

    /// Ticks of one call of `work`.
    pub fn time(&self, work: impl FnOnce()) -> f64 {
        let t = now();
        work();
        (now() - t).saturating_sub(self.cost) as f64
    }

    /// Refuses a clock that is not one tick for each instruction.
    pub fn calibrate(&self) -> Result<()> {
        const STEPS: u64 = 1_000_000;
        let took: Vec<f64> = (0..7).map(|_| self.time(|| count_down(STEPS))).collect();
        let took = median(&took);
        let expected = (STEPS * LOOP_INSTRUCTIONS) as f64;
        println!("# a loop of {expected} instructions took {took} ticks");
        if (took / expected - 1.0).abs() > MOST_OFF {
            return Err(Error::other(
                "the clock does not count instructions: boot with -icount shift=0,sleep=off, tsc=reliable",
            ));
        }
        Ok(())
    }
}

#[cfg(target_arch = "x86_64")]
fn count_down(steps: u64) {
    // SAFETY: Only the register is changed.
    unsafe {
        std::arch::asm!("2: dec {n}", "jnz 2b", n = inout(reg) steps => _, options(nomem, nostack));
    }
}

#[cfg(target_arch = "aarch64")]
fn count_down(steps: u64) {
    // SAFETY: Only the register is changed.
    unsafe {
        std::arch::asm!("2: subs {n}, {n}, #1", "b.ne 2b", n = inout(reg) steps => _, options(nomem, nostack));
    }
}

/// The marks by which 'mlock2 bench profile' finds what is measured in a trace of the machine.
pub struct Trace {
    on: bool,
    /// Whether the host has been waited for
    running: Cell<bool>,
    /// How many units the operation was marked for, and the plain one
    units: Cell<(usize, usize)>,
}

impl Trace {
    /// Tells the host where the marks are, if it wants a profile.
    pub fn new(on: bool) -> Self {
        if on {
            println!(
                "profile\tmarks\t{:x}\t{:x}\t{:x}",
                mark_operation as fn() as usize,
                mark_plain as fn() as usize,
                mark_end as fn() as usize,
            );
        }
        Self {
            on,
            running: Cell::new(false),
            units: Cell::new((0, 0)),
        }
    }

    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Does `work`, which is the operation for so many units.
    pub fn operation<T>(&self, units: usize, work: impl FnOnce() -> T) -> T {
        let (operation, plain) = self.units.get();
        self.units.set((operation + units, plain));
        self.marked(mark_operation, work)
    }

    /// The same for the plain operation, with which the measured one is compared.
    pub fn plain<T>(&self, units: usize, work: impl FnOnce() -> T) -> T {
        let (operation, plain) = self.units.get();
        self.units.set((operation, plain + units));
        self.marked(mark_plain, work)
    }

    fn marked<T>(&self, mark: fn(), work: impl FnOnce() -> T) -> T {
        if !self.running.replace(true) {
            println!("profile\tready");
            // An end of the console is no reason to wait either.
            let _ = std::io::stdin().read_line(&mut String::new());
        }
        mark();
        let done = work();
        mark_end();
        done
    }

    /// In a child, whose parent tells of what it has marked.
    pub fn forget_units(&self) {
        self.units.set((0, 0));
    }

    /// Tells how many units were marked since the last time.
    pub fn report_units(&self) {
        let (operation, plain) = self.units.take();
        if self.on {
            println!("profile\tunits\t{operation}\t{plain}");
        }
    }

    /// Tells that there is no more.
    pub fn end(&self) {
        if self.on {
            println!("profile\tend");
        }
    }
}

// The host finds the marks in the trace by their addresses, so each is a function of its own.
// What differs keeps them from being made one.

/// From here on it is the operation that is measured.
#[inline(never)]
fn mark_operation() {
    black_box(1);
}

/// From here on it is the plain operation, with which the measured one is compared.
#[inline(never)]
fn mark_plain() {
    black_box(2);
}

#[inline(never)]
fn mark_end() {
    black_box(3);
}
