// SPDX-License-Identifier: GPL-2.0

//! A process that does what the driver asks for. It may run with all its memory locked and its
//! limit reached, so it allocates nothing, and what it stands on is not in the arena.

use std::convert::Infallible;
use std::ffi::CStr;
use std::io::Result;
use std::ptr;
use std::sync::atomic::Ordering::Relaxed;

use libc::{c_int, c_long, c_void};

use mlock2_diff::op::{ARENA, ARENA_END, Call, PAGE};

use crate::arch;
use crate::control::{ASKED, Control, DONE, MINCORE, Slot};
use crate::inject;
use crate::sys::{result, success};

/// How the program is called to be a worker.
pub const ARGUMENT: &str = "worker";

/// The environment: no restartable sequences, since for these the kernel writes to memory when it
/// switches between processes.
pub const ENVIRONMENT: &CStr = c"GLIBC_TUNABLES=glibc.pthread.rseq=0";

const CAP_IPC_LOCK: u32 = 14;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: c_int,
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

struct Worker {
    control: &'static Control,
    number: usize,
}

/// Runs process `number`. `again` after an exec: the driver waits for its end then.
pub fn run(number: usize, again: bool) -> Result<Infallible> {
    arch::prepare();
    let control = Control::map()?;
    let mut worker = Worker { control, number };
    // SAFETY: A break of 0 changes nothing.
    let first_break = unsafe { libc::syscall(libc::SYS_brk, 0) } as u64;
    let slot = worker.slot();
    slot.first_break
        .store(first_break.next_multiple_of(PAGE), Relaxed);
    if again {
        slot.ret.store(0, Relaxed);
        slot.set(DONE);
    }
    loop {
        while !worker.slot().is(ASKED) {
            let turn = worker.slot().turn.load(Relaxed);
            if turn != ASKED {
                worker.slot().wait_while(turn, None);
            }
        }
        let ret = worker.answer();
        worker.slot().ret.store(ret, Relaxed);
        worker.slot().set(DONE);
    }
}

impl Worker {
    fn slot(&self) -> &'static Slot {
        &self.control.slots[self.number]
    }

    fn answer(&mut self) -> i64 {
        let slot = self.slot();
        let asked = slot.call.load(Relaxed);
        if asked == MINCORE {
            return self.mincore();
        }
        let mut a = [0; 6];
        for (to, from) in a.iter_mut().zip(&slot.args) {
            *to = from.load(Relaxed);
        }
        let Some(&call) = Call::ALL.get(asked as usize) else {
            return i64::MIN;
        };
        if let Some(number) = call.number() {
            return self.system_call(number, &a);
        }
        match call {
            Call::Brk => {
                let to = slot.first_break.load(Relaxed).wrapping_add(a[0]);
                // The heap of the C library is below.
                let at = self.system_call(libc::SYS_brk, &[to, 0, 0, 0, 0, 0]) as u64;
                at.wrapping_sub(to) as i64
            }
            Call::Read => touch(a[0], a[1], arch::read),
            Call::Write => touch(a[0], a[1], |addr| arch::write(addr, 1)),
            Call::MovePages => {
                let (page, node, mut status) = (a[0], a[1] as c_int, -1 as c_int);
                // SAFETY: The arrays have one element.
                let ret = result(unsafe {
                    libc::syscall(libc::SYS_move_pages, 0, 1, &page, &node, &mut status, 0)
                });
                ret.wrapping_mul(1000).wrapping_add(i64::from(status))
            }
            Call::Punch => {
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                // SAFETY: A file of ours.
                success(unsafe { libc::syscall(libc::SYS_fallocate, a[0], mode, a[1], a[2]) })
            }
            Call::Shmget => {
                let flags = a[2] as c_int | libc::IPC_CREAT | 0o600;
                // SAFETY: No preconditions.
                let id = result(unsafe {
                    libc::syscall(libc::SYS_shmget, libc::IPC_PRIVATE, a[1], flags)
                });
                if id >= 0 {
                    let old = self.segment(a[0]);
                    self.control.segments[a[0] as usize].store(id as i32 + 1, Relaxed);
                    // SAFETY: A segment of ours, which goes when nobody has it attached.
                    unsafe { libc::syscall(libc::SYS_shmctl, old, libc::IPC_RMID, 0) };
                }
                id.min(0)
            }
            Call::Shmat => {
                // SAFETY: As with `mmap()`.
                result(unsafe { libc::syscall(libc::SYS_shmat, self.segment(a[0]), a[1], a[2]) })
            }
            Call::Shmctl => {
                // SAFETY: None of these commands uses the buffer.
                success(unsafe { libc::syscall(libc::SYS_shmctl, self.segment(a[0]), a[1], 0) })
            }
            Call::Limit => limit(a[0]),
            Call::LimitNear => limit(
                slot.charged
                    .load(Relaxed)
                    .saturating_add_signed(a[0] as i64),
            ),
            Call::DropCap => set_ipc_lock(false),
            Call::RaiseCap => set_ipc_lock(true),
            // SAFETY: No preconditions.
            Call::Userns => success(unsafe { libc::unshare(libc::CLONE_NEWUSER) }.into()),
            Call::Fork => self.fork(a[0] as usize),
            Call::Exec => self.exec(),
            // SAFETY: No preconditions.
            Call::Exit => unsafe { libc::_exit(0) },
            _ => i64::MIN,
        }
    }

    /// Makes a system call, with the allocation failing that is to fail.
    fn system_call(&self, number: c_long, a: &[u64; 6]) -> i64 {
        let slot = self.slot();
        let nth = slot.nth.load(Relaxed);
        if nth != 0 {
            let (ret, failed) = inject::system_call(nth, number, a);
            slot.failed.store(failed, Relaxed);
            return ret;
        }
        // SAFETY: These calls change nothing but the arena and what they map themselves: the
        // sequences are made like that.
        result(unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) })
    }

    /// The id of a segment, -1 if there is none.
    fn segment(&self, slot: u64) -> c_int {
        self.control.segments[slot as usize].load(Relaxed) - 1
    }

    /// Asks for each range by itself, as mincore() wants no holes. The number of pages in core.
    fn mincore(&self) -> i64 {
        let count = self.control.range_count.load(Relaxed) as usize;
        let mut failed = 0;
        for range in &self.control.ranges[..count] {
            let (start, end) = (range[0].load(Relaxed), range[1].load(Relaxed));
            let vec = &self.control.in_core[((start - ARENA) / PAGE) as usize];
            // SAFETY: The arena has a byte for each of its pages.
            let ret = unsafe { libc::syscall(libc::SYS_mincore, start, end - start, vec.as_ptr()) };
            failed += i64::from(ret != 0);
        }
        failed
    }

    fn fork(&mut self, number: usize) -> i64 {
        let child = &self.control.slots[number];
        let pid = arch::fork(&child.turn);
        if pid == 0 {
            // Back to the loop: that this process is there is what the driver now waits for.
            self.number = number;
            return 0;
        }
        if pid > 0 {
            child
                .first_break
                .store(self.slot().first_break.load(Relaxed), Relaxed);
            child.pid.store(pid as i32, Relaxed);
        }
        pid.min(0)
    }

    fn exec(&self) -> i64 {
        let names = [c"0", c"1", c"2"];
        let arguments: [*const libc::c_char; 5] = [
            c"mlock2-diff-guest".as_ptr(),
            c"worker".as_ptr(),
            names[self.number].as_ptr(),
            c"again".as_ptr(),
            ptr::null(),
        ];
        let environment = [ENVIRONMENT.as_ptr(), ptr::null()];
        // SAFETY: Both arrays end with a null pointer.
        unsafe {
            libc::execve(
                c"/proc/self/exe".as_ptr(),
                arguments.as_ptr(),
                environment.as_ptr(),
            )
        };
        result(-1)
    }
}

/// How many accesses failed, and the sum of what was read.
fn touch(addr: u64, pages: u64, access: impl Fn(u64) -> i32) -> i64 {
    let (mut failed, mut sum) = (0, 0);
    for page in (0..pages).rev() {
        let at = addr + page * PAGE;
        if !(ARENA..ARENA_END).contains(&at) {
            continue;
        }
        match access(at) {
            value @ 0.. => sum += i64::from(value),
            signal => failed += 1 + i64::from(-signal) * 10_000,
        }
    }
    sum + (failed << 32)
}

fn limit(soft: u64) -> i64 {
    let new = libc::rlimit {
        rlim_cur: soft,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `new` is there to be read.
    success(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &new) }.into())
}

fn set_ipc_lock(on: bool) -> i64 {
    let header = CapHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let mut data = [CapData::default(); 2];
    let header = ptr::from_ref(&header).cast::<c_void>();
    // SAFETY: Version 3 has two elements.
    let ret = unsafe { libc::syscall(libc::SYS_capget, header, data.as_mut_ptr()) };
    if ret != 0 {
        return result(ret);
    }
    if on {
        data[0].effective |= 1 << CAP_IPC_LOCK;
    } else {
        data[0].effective &= !(1 << CAP_IPC_LOCK);
    }
    // SAFETY: As above.
    success(unsafe { libc::syscall(libc::SYS_capset, header, data.as_ptr()) })
}
