// SPDX-License-Identifier: GPL-2.0

//! The memory through which the controller and the processes of a round know of each other.

use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

use crate::sys::{self, End};

/// The descriptors that all processes of a round have these open at.
pub const FD: i32 = 100;
/// A copy of the program: its text is locked, too, and has to go with the round.
pub const FD_PROGRAM: i32 = 101;
/// Another one, for the process that has all locked all the time: the text of the others is not to be.
pub const FD_HELD: i32 = 104;
/// The file behind the ranges that stay locked.
pub const FD_KEPT: i32 = 102;
/// The file that is locked and unlocked, and has holes punched into it.
pub const FD_SHARED: i32 = 103;

pub const THREADS: usize = 8;
/// Workers and disturbers.
pub const PROCESSES: usize = 9;
/// Which of the segments stays locked.
pub const KEPT: usize = 0;
pub const SHARED: usize = 1;

macro_rules! ops {
    ($($op:ident $name:literal,)*) => {
        /// What a thread is at.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Op { $($op,)* }

        impl Op {
            pub const NAMES: &[&str] = &[$($name,)*];
        }
    };
}

ops! {
    Setup "set-up",
    Mlock "mlock",
    MlockOnfault "mlock2(ONFAULT)",
    Munlock "munlock",
    Mlockall "mlockall",
    Munlockall "munlockall",
    Read "read",
    Write "write",
    Keeper "use-of-keepers",
    Fork "fork",
    Map "mmap",
    Unmap "munmap",
    Resize "mremap-shrink-grow",
    Move "mremap-move",
    Protect "mprotect",
    DontNeed "MADV_DONTNEED",
    DontNeedLocked "MADV_DONTNEED_LOCKED",
    Free "MADV_FREE",
    Pageout "MADV_PAGEOUT",
    Cold "MADV_COLD",
    Mergeable "MADV_MERGEABLE",
    Unmergeable "MADV_UNMERGEABLE",
    Hugepage "MADV_HUGEPAGE",
    NoHugepage "MADV_NOHUGEPAGE",
    Collapse "MADV_COLLAPSE",
    Populate "MADV_POPULATE_WRITE",
    Remove "MADV_REMOVE",
    ShmLock "SHM_LOCK",
    ShmUnlock "SHM_UNLOCK",
    Fill "fill-memory",
    Reclaim "memory.reclaim",
    High "memory.high",
    Compact "compact_memory",
    MovePages "move_pages",
    Hotplug "cpu-off-and-on",
    Hold "use-of-all-locked",
}

pub const OPS: usize = Op::NAMES.len();

/// What the processes of the round are to do. First, to set up what they need.
pub const RUN: u32 = 1;
pub const STOP: u32 = 2;
/// All but one have stopped: some CPUs are to be turned off for good.
pub const LAST: u32 = 3;

/// What a thread does. 0 is none.
pub const BUSY: u32 = 1;
/// It waits for the phase that it has something to do in.
pub const READY: u32 = 2;
/// It changes nothing any more.
pub const PARKED: u32 = 3;

#[repr(C)]
pub struct Slot {
    pub state: AtomicU32,
    pub op: AtomicU32,
    /// When that began, by `sys::now()`.
    pub since: AtomicU64,
    pub thread: AtomicI32,
    /// A child that it waits for, and that has the slot meanwhile.
    pub child: AtomicI32,
    pub done: [AtomicU64; OPS],
    pub refused: [AtomicU64; OPS],
    /// Children that were killed, which is what the OOM killer does.
    pub killed: AtomicU64,
    /// Children that came to another end.
    pub crashed: AtomicU64,
}

#[repr(C)]
pub struct Control {
    pub phase: AtomicU32,
    pub segments: [AtomicI32; 2],
    /// The processes that `move_pages()` is for.
    pub workers: [AtomicI32; PROCESSES],
    pub slots: [[Slot; THREADS]; PROCESSES],
}

/// A new memfd behind `fd`, which stays open over exec.
pub fn memfd(fd: i32, len: usize) -> Result<File> {
    // SAFETY: The name is a string, and `fd` is ours to replace.
    let file = unsafe {
        let new = libc::memfd_create(c"mlock2-stress".as_ptr(), 0);
        if new < 0 || libc::dup2(new, fd) < 0 || libc::close(new) != 0 {
            return Err(Error::last_os_error());
        }
        File::from_raw_fd(fd)
    };
    file.set_len(len as u64)?;
    Ok(file)
}

/// The controller's own mapping, which goes with the round.
pub struct Mapped(&'static Control);

impl Mapped {
    pub fn new(file: &File) -> Result<Self> {
        debug_assert_eq!(file.as_raw_fd(), FD);
        Control::map().map(Self)
    }

    pub fn get(&self) -> &Control {
        self.0
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: It was mapped by `Control::map()`, and the only reference goes with us.
        unsafe {
            libc::munmap(
                ptr::from_ref(self.0).cast_mut().cast(),
                size_of::<Control>(),
            )
        };
    }
}

impl Control {
    /// Maps what is behind `FD`.
    pub fn map() -> Result<&'static Self> {
        // SAFETY: A new mapping. All zero is a valid `Control`, which has only atomic fields.
        unsafe {
            let at = libc::mmap(
                ptr::null_mut(),
                size_of::<Self>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                FD,
                0,
            );
            if at == libc::MAP_FAILED {
                return Err(Error::last_os_error());
            }
            Ok(&*at.cast::<Self>())
        }
    }

    /// Whether it has not come to `phase` yet.
    pub fn is_before(&self, phase: u32) -> bool {
        self.phase.load(Acquire) < phase
    }

    pub fn set(&self, phase: u32) {
        self.phase.store(phase, Release);
    }

    pub fn segment(&self, which: usize) -> i32 {
        self.segments[which].load(Relaxed)
    }
}

impl Slot {
    pub fn begin(&self, op: Op) {
        self.op.store(op as u32, Relaxed);
        self.since.store(sys::now(), Release);
    }

    pub fn count<T>(&self, op: Op, result: std::result::Result<T, i32>) {
        let counts = match result {
            Ok(_) => &self.done,
            Err(_) => &self.refused,
        };
        counts[op as usize].fetch_add(1, Relaxed);
    }

    /// There is nothing to be done until it has come to `phase`.
    pub fn wait_for(&self, control: &Control, phase: u32) {
        self.state.store(READY, Release);
        while control.is_before(phase) {
            sys::sleep(10);
        }
        self.begin(Op::Setup);
        self.state.store(BUSY, Release);
    }

    pub fn take(&self) {
        self.thread.store(sys::thread_id(), Relaxed);
        self.begin(Op::Setup);
        self.state.store(BUSY, Release);
    }

    /// Waits for the end of a child, which may be killed, but is to come to no other end than its own.
    pub fn wait_for_child(&self, pid: i32) {
        self.child.store(pid, Relaxed);
        let end = sys::wait(pid, 0).map(|(_, end)| end);
        self.child.store(0, Relaxed);
        let count = match end {
            Some(End::Exit(0)) => return,
            Some(End::Signal(libc::SIGKILL)) => &self.killed,
            _ => &self.crashed,
        };
        count.fetch_add(1, Relaxed);
    }

    pub fn park(&self) {
        self.state.store(PARKED, Release);
    }

    pub fn state(&self) -> u32 {
        self.state.load(Acquire)
    }
}
