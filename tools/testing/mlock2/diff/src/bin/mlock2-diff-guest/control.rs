// SPDX-License-Identifier: GPL-2.0

//! The memory through which the driver tells its workers what to do.

use std::io::{Error, Result};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use mlock2_diff::op::{ARENA, ARENA_END, Op, PAGE, PROCESSES, SEGMENTS};

use crate::arch;

/// Far from the arena, at the same place everywhere.
const ADDRESS: usize = 0x20_0000_0000;
/// The descriptor that all processes have it open at.
pub const FD: i32 = 9;
const ARENA_PAGES: usize = ((ARENA_END - ARENA) / PAGE) as usize;
/// The most vmas of the arena whose pages are asked for.
pub const RANGES: usize = 256;

/// Whose turn it is.
/// What `arch::fork()` waits for the end of.
pub const IDLE: u32 = 0;
pub const ASKED: u32 = 1;
pub const DONE: u32 = 2;
/// For a process that was just made: it may begin.
pub const BEGIN: u32 = 3;

/// No allocation could be made to fail: there is no `fail-nth`.
pub const CANNOT_FAIL: u32 = 0;
/// The call made fewer allocations.
pub const NONE_FAILED: u32 = 1;
pub const ONE_FAILED: u32 = 2;

/// What a worker is asked for besides operations: mincore() on `Control::ranges`.
pub const MINCORE: u32 = u32::MAX;

#[repr(C)]
pub struct Slot {
    pub turn: AtomicU32,
    /// `Call as u32`, or `MINCORE`.
    pub call: AtomicU32,
    pub args: [AtomicU64; 6],
    pub ret: AtomicI64,
    /// The process's id, set by the one that made it.
    pub pid: AtomicI32,
    /// The break at the start of the program.
    pub first_break: AtomicU64,
    /// VmLck in bytes, as it was seen last.
    pub charged: AtomicU64,
    /// Which allocation of the system call is to fail, counted from 1; 0 for none.
    pub nth: AtomicU32,
    /// What came of that: one of the three below.
    pub failed: AtomicU32,
}

#[repr(C)]
pub struct Control {
    pub slots: [Slot; PROCESSES],
    /// What `shmget()` returned.
    pub segments: [AtomicI32; SEGMENTS],
    pub range_count: AtomicU32,
    pub ranges: [[AtomicU64; 2]; RANGES],
    /// What mincore() said for each page of the arena.
    pub in_core: [AtomicU8; ARENA_PAGES],
}

impl Control {
    /// A new, empty one behind `FD`.
    pub fn create() -> Result<()> {
        // SAFETY: The name is a string, and `FD` is ours to replace.
        let ok = unsafe {
            let fd = libc::memfd_create(c"control".as_ptr(), 0);
            fd >= 0
                && libc::ftruncate(fd, size_of::<Self>() as i64) == 0
                && (fd == FD || (libc::dup2(fd, FD) >= 0 && libc::close(fd) == 0))
        };
        if ok {
            Ok(())
        } else {
            Err(Error::last_os_error())
        }
    }

    /// Maps what is behind `FD`, in place of what was mapped before.
    pub fn map() -> Result<&'static Self> {
        // SAFETY: Nothing else is mapped there. All zero is a valid `Control`, which has only
        // atomic fields.
        unsafe {
            let at = libc::mmap(
                ptr::without_provenance_mut(ADDRESS),
                size_of::<Self>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_FIXED,
                FD,
                0,
            );
            if at == libc::MAP_FAILED {
                return Err(Error::last_os_error());
            }
            Ok(&*at.cast::<Self>())
        }
    }

    pub fn ask(&self, op: &Op) {
        self.ask_for(op.process, op.call as u32, &op.args);
    }

    pub fn ask_for(&self, process: usize, call: u32, args: &[u64; 6]) {
        let slot = &self.slots[process];
        slot.call.store(call, Ordering::Relaxed);
        for (to, from) in slot.args.iter().zip(args) {
            to.store(*from, Ordering::Relaxed);
        }
        slot.set(ASKED);
    }
}

impl Slot {
    /// Passes the turn on.
    pub fn set(&self, turn: u32) {
        self.turn.store(turn, Ordering::Release);
        // SAFETY: The word is in shared memory that stays.
        unsafe { arch::futex(self.turn.as_ptr(), libc::FUTEX_WAKE, 1, ptr::null()) };
    }

    pub fn is(&self, turn: u32) -> bool {
        self.turn.load(Ordering::Acquire) == turn
    }

    /// Sleeps while it is `turn`; until a signal came or `limit` has passed at the most.
    pub fn wait_while(&self, turn: u32, limit: Option<Duration>) {
        let limit = limit.map(|limit| libc::timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: i64::from(limit.subsec_nanos()),
        });
        let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        let word = self.turn.as_ptr();
        // SAFETY: As above, and `limit` lives on.
        unsafe { arch::futex(word, libc::FUTEX_WAIT, turn, limit) };
    }
}
