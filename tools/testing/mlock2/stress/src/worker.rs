// SPDX-License-Identifier: GPL-2.0

//! A process whose threads lock and unlock, and do everything else to the same ranges.
//!
//! What an operation returns is not looked at: others are at the same range. That is what the
//! differential tester and the selftests are for.

use std::mem;
use std::ptr;
use std::thread;

use anyhow::{Context, Result, anyhow};
use fastrand::Rng;
use libc::{c_int, c_long, c_void, siginfo_t};

use mlock2_guest::file::has_huge_pages;

use crate::Args;
use crate::control::{Control, FD_KEPT, KEPT, Op, RUN, SHARED, STOP, Slot};
use crate::layout::{self, HUGE, Kind, Manner, PAGE, Range, SCRATCH, SEGMENT, STAMPED, Use};
use crate::machine;
use crate::sys;

/// Pages of most operations, at the most: none may take long, not even on a slow machine.
const PART: usize = 96;
/// Operations of a child.
const CHILD_OPS: usize = 6;
const STACK: usize = 64 << 10;
/// Ends of a process that say what went wrong.
const BAD_FAULT: c_int = 101;

/// Fills the file and the segment that stay locked. Who writes first is charged, so this is done
/// within the cgroup.
pub fn stamp(control: &Control) -> Result<()> {
    machine::join(0)?;
    // At a place that nobody uses; there is no process but this one.
    let range = layout::arena()[0];
    for (segment, pages) in [(false, STAMPED), (true, SEGMENT)] {
        let mapped = if segment {
            attach(control.segment(KEPT), range.addr)
        } else {
            // SAFETY: A range of the layout.
            unsafe { sys::map_at(range.addr, pages * PAGE, libc::MAP_SHARED, FD_KEPT, 0) }
        };
        mapped.map_err(error("cannot map what is to be locked"))?;
        for page in 0..pages {
            write_words(range.addr + page * PAGE, layout::stamped_tag(segment, page));
        }
    }
    Ok(())
}

pub fn run(args: &Args, control: &'static Control) -> Result<()> {
    let number = args.number;
    let slots = &control.slots[number];
    slots[0].take();
    let manner = layout::manner(number);
    // What can lock all it has is the first to go when that is too much.
    machine::join(if manner == Manner::Munlockall { 500 } else { 0 })?;
    handle_faults();

    let fixed = layout::fixed(number);
    for range in &fixed {
        set_up(control, number, range).map_err(error("cannot set up a range"))?;
    }
    for range in &layout::arena() {
        map(control, range, 0, range.pages, 0).map_err(error("cannot map the arena"))?;
    }
    let keepers: Vec<Range> = fixed
        .into_iter()
        .filter(|range| range.purpose != Use::Victim)
        .collect();
    thread::scope(|scope| {
        for (i, slot) in slots[..args.threads].iter().enumerate() {
            let keepers = &keepers;
            let seed = args.seed.wrapping_mul(1000) + (number * 10 + i) as u64;
            thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, move || {
                    slot.take();
                    slot.wait_for(control, RUN);
                    let mut thread = Thread {
                        control,
                        slot,
                        manner,
                        number,
                        arena: layout::arena(),
                        keepers,
                        rng: Rng::with_seed(seed),
                    };
                    while control.is_before(STOP) {
                        thread.step(true);
                    }
                    slot.park();
                    // What we have locked is to be looked at. We are killed after that.
                    loop {
                        sys::sleep(1000);
                    }
                })
                .context("cannot start a thread")?;
        }
        Ok(())
    })
}

fn error(what: &'static str) -> impl Fn(c_int) -> anyhow::Error {
    move |number| anyhow!("{what}: {}", std::io::Error::from_raw_os_error(number))
}

fn write_words(addr: usize, tag: u64) {
    for (offset, value) in layout::words(tag) {
        // SAFETY: The caller has mapped the page.
        unsafe { sys::write(addr + offset, value) };
    }
}

fn set_up(control: &Control, worker: usize, range: &Range) -> Result<(), c_int> {
    map(control, range, 0, range.pages, 0)?;
    let advice = match range.kind {
        Kind::Huge => libc::MADV_HUGEPAGE,
        _ => libc::MADV_NOHUGEPAGE,
    };
    if has_huge_pages() {
        madvise(range, 0, range.pages, advice)?;
    }
    if range.kind == Kind::Mergeable {
        madvise(range, 0, range.pages, libc::MADV_MERGEABLE)?;
    }
    // One way to lock comes before the pages, the other one after them. What is not locked in the
    // round was so once, and must have lost every trace of that. A few folios may keep one, when
    // somebody else had taken them off their list at the moment: so not where it is all one folio.
    let is_victim = range.purpose == Use::Victim;
    let is_locked = !is_victim || range.kind != Kind::Huge;
    let on_fault = range.purpose == Use::OnFault || (is_victim && worker % 2 == 0);
    if is_locked && on_fault {
        mlock(range.addr, range.len(), true)?;
    }
    for page in (0..range.pages).filter(|page| range.is_used(*page)) {
        let addr = range.at(page);
        if is_victim || !range.is_stamped() {
            write_words(addr, range.tag(worker, page));
        } else {
            // SAFETY: Mapped above.
            unsafe { sys::read(addr) };
        }
    }
    if is_locked && !on_fault {
        mlock(range.addr, range.len(), false)?;
    }
    if is_victim {
        // SAFETY: Changes no memory.
        unsafe { sys::call(libc::SYS_munlock, &[range.addr, range.len()]) }?;
    }
    Ok(())
}

pub fn mlock(addr: usize, len: usize, on_fault: bool) -> Result<usize, c_int> {
    // SAFETY: Changes no memory.
    unsafe {
        if on_fault {
            sys::call(libc::SYS_mlock2, &[addr, len, libc::MLOCK_ONFAULT as usize])
        } else {
            sys::call(libc::SYS_mlock, &[addr, len])
        }
    }
}

/// Maps a part of the range anew, as it was at first.
fn map(
    control: &Control,
    range: &Range,
    page: usize,
    pages: usize,
    flags: c_int,
) -> Result<(), c_int> {
    if range.kind == Kind::Shm {
        return attach_range(control, range);
    }
    let (kind, fd) = range.mapping();
    let at = (range.first + page) * PAGE;
    // SAFETY: A range of the layout.
    unsafe { sys::map_at(range.at(page), pages * PAGE, kind | flags, fd, at) }
}

/// A segment can be attached as a whole only. What is not wanted of it goes again.
fn attach_range(control: &Control, range: &Range) -> Result<(), c_int> {
    if range.purpose == Use::Arena {
        return attach(control.segment(SHARED), range.addr);
    }
    attach(control.segment(KEPT), range.addr)?;
    let from = range.addr + range.first * PAGE;
    // SAFETY: Ranges of the layout, which has room around them.
    unsafe {
        if from == range.addr {
            sys::call(
                libc::SYS_munmap,
                &[range.end(), SEGMENT * PAGE - range.len()],
            )?;
        } else {
            let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as usize;
            sys::call(
                libc::SYS_mremap,
                &[from, range.len(), range.len(), flags, range.addr],
            )?;
        }
    }
    Ok(())
}

fn attach(segment: c_int, addr: usize) -> Result<(), c_int> {
    // SAFETY: The caller passes an address of the layout.
    let got = unsafe { libc::shmat(segment, ptr::without_provenance(addr), libc::SHM_REMAP) };
    if got.addr() == usize::MAX {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
    }
    got.expose_provenance();
    Ok(())
}

fn madvise(range: &Range, page: usize, pages: usize, advice: c_int) -> Result<usize, c_int> {
    // SAFETY: Nothing in Rust refers to the layout's ranges.
    unsafe {
        sys::call(
            libc::SYS_madvise,
            &[range.at(page), pages * PAGE, advice as usize],
        )
    }
}

/// An access to the arena finds no mapping there, or one that forbids it, when another thread has
/// come before: give it one and let it go on.
extern "C" fn on_fault(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: The kernel passes it, with the address for these signals. errno belongs to what was
    // interrupted; the page is in the arena.
    unsafe {
        let addr = (*info).si_addr().addr() & !(PAGE - 1);
        if !layout::arena()
            .iter()
            .any(|range| (range.addr..range.end()).contains(&addr))
        {
            libc::_exit(BAD_FAULT);
        }
        let errno = *libc::__errno_location();
        // SEGV_ACCERR
        if signal == libc::SIGSEGV && (*info).si_code == 2 {
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            let _ = sys::call(libc::SYS_mprotect, &[addr, PAGE, prot as usize]);
        } else {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let _ = sys::map_at(addr, PAGE, flags, -1, 0);
        }
        *libc::__errno_location() = errno;
    }
}

fn handle_faults() {
    // SAFETY: All zero is a valid sigaction, and the handler has the form that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            libc::sigaction(signal, &action, ptr::null_mut());
        }
    }
}

/// How often, and what.
const CHOICE: &[(u32, Op)] = &[
    (14, Op::Mlock),
    (14, Op::MlockOnfault),
    (20, Op::Munlock),
    (3, Op::Mlockall),
    (3, Op::Munlockall),
    (14, Op::Read),
    (20, Op::Write),
    (8, Op::Keeper),
    (3, Op::Fork),
    (6, Op::Map),
    (3, Op::Unmap),
    (4, Op::Resize),
    (4, Op::Move),
    (5, Op::Protect),
    (5, Op::DontNeed),
    (4, Op::DontNeedLocked),
    (3, Op::Free),
    (6, Op::Pageout),
    (4, Op::Cold),
    (3, Op::Mergeable),
    (2, Op::Unmergeable),
    (3, Op::Hugepage),
    (1, Op::NoHugepage),
    (3, Op::Collapse),
    (4, Op::Populate),
    (3, Op::Remove),
    (2, Op::ShmLock),
    (3, Op::ShmUnlock),
];

struct Thread<'a> {
    control: &'a Control,
    slot: &'a Slot,
    manner: Manner,
    number: usize,
    arena: [Range; 6],
    keepers: &'a [Range],
    rng: Rng,
}

impl Thread<'_> {
    fn step(&mut self, may_fork: bool) {
        let sum: u32 = CHOICE.iter().map(|(weight, _)| weight).sum();
        let mut at = self.rng.u32(0..sum);
        let mut op = Op::Read;
        for (weight, choice) in CHOICE {
            if at < *weight {
                op = *choice;
                break;
            }
            at -= weight;
        }
        let allowed = match op {
            Op::Mlockall => self.manner != Manner::Ranges,
            Op::Munlockall => self.manner == Manner::Munlockall,
            Op::Keeper => !self.keepers.is_empty(),
            Op::Fork => may_fork,
            _ => true,
        };
        if !allowed {
            return;
        }
        self.slot.begin(op);
        let result = self.perform(op);
        self.slot.count(op, result);
    }

    /// A range of the arena, and a part of it: where it begins, and its pages.
    fn pick(&mut self) -> (Range, usize, usize) {
        let range = self.arena[self.rng.usize(..self.arena.len())];
        if range.kind == Kind::Huge && self.rng.bool() {
            return (range, self.rng.usize(..range.pages / HUGE) * HUGE, HUGE);
        }
        let pages = 1 + self.rng.usize(..PART);
        (range, self.rng.usize(..=range.pages - pages), pages)
    }

    fn perform(&mut self, op: Op) -> Result<(), c_int> {
        let (range, page, pages) = self.pick();
        let (addr, len) = (range.at(page), pages * PAGE);
        let advise = |advice| madvise(&range, page, pages, advice).map(drop);
        let call = |number: c_long, args: &[usize]| {
            // SAFETY: Only the arena is changed, which nothing in Rust refers to.
            unsafe { sys::call(number, args) }.map(drop)
        };
        // The pages that others have locked are not to be given up for everybody, nor to be put
        // together to a huge one: that takes a file's pages out of all page tables.
        let is_kept = range.kind == Kind::Kept;
        match op {
            Op::Mlock => mlock(addr, len, false).map(drop),
            Op::MlockOnfault => mlock(addr, len, true).map(drop),
            Op::Munlock => call(libc::SYS_munlock, &[addr, len]),
            Op::Mlockall => {
                let what = 1 + self.rng.usize(..3);
                let on_fault = if self.rng.bool() { 4 } else { 0 };
                call(libc::SYS_mlockall, &[what | on_fault])
            }
            Op::Munlockall => call(libc::SYS_munlockall, &[]),
            Op::Read => {
                for i in page..page + pages {
                    // SAFETY: In the arena: `on_fault()` maps it.
                    unsafe { sys::read(range.at(i) + SCRATCH) };
                }
                Ok(())
            }
            Op::Write => {
                // Few values, for KSM.
                let value = self.rng.u64(..4);
                for i in page..page + pages {
                    // SAFETY: As above.
                    unsafe { sys::write(range.at(i) + SCRATCH, value) };
                }
                Ok(())
            }
            Op::Keeper => self.use_keeper(),
            Op::Fork => self.fork(),
            Op::Map if range.kind == Kind::Shm => attach_range(self.control, &range),
            Op::Map => {
                let flags = [0, 0, libc::MAP_LOCKED, libc::MAP_POPULATE][self.rng.usize(..4)];
                map(self.control, &range, page, pages, flags)
            }
            Op::Unmap => call(libc::SYS_munmap, &[addr, len]),
            Op::Resize => {
                let less = len / 2 / PAGE * PAGE;
                if less == 0 {
                    return Ok(());
                }
                call(libc::SYS_mremap, &[addr, len, less, 0])?;
                call(libc::SYS_mremap, &[addr, less, len, 0])
            }
            Op::Move => {
                let pages = pages.min(range.pages / 2);
                let from = self.rng.usize(..=range.pages / 2 - pages);
                let to = range.pages / 2 + self.rng.usize(..=range.pages / 2 - pages);
                let (from, to) = if self.rng.bool() {
                    (from, to)
                } else {
                    (to, from)
                };
                let mut flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
                if self.rng.u32(..4) == 0 {
                    flags |= libc::MREMAP_DONTUNMAP;
                }
                let len = pages * PAGE;
                let args = [range.at(from), len, len, flags as usize, range.at(to)];
                call(libc::SYS_mremap, &args)
            }
            Op::Protect => {
                let rw = libc::PROT_READ | libc::PROT_WRITE;
                let prot = [libc::PROT_NONE, libc::PROT_READ, rw, rw][self.rng.usize(..4)];
                call(libc::SYS_mprotect, &[addr, len, prot as usize])
            }
            Op::DontNeed => advise(libc::MADV_DONTNEED),
            Op::DontNeedLocked => advise(sys::MADV_DONTNEED_LOCKED),
            Op::Free => advise(libc::MADV_FREE),
            Op::Pageout => advise(libc::MADV_PAGEOUT),
            Op::Cold => advise(libc::MADV_COLD),
            Op::Mergeable => advise(libc::MADV_MERGEABLE),
            Op::Unmergeable => advise(libc::MADV_UNMERGEABLE),
            Op::Hugepage | Op::Remove if is_kept => Err(libc::EINVAL),
            Op::Hugepage => advise(libc::MADV_HUGEPAGE),
            Op::NoHugepage => advise(libc::MADV_NOHUGEPAGE),
            Op::Collapse => {
                // Nothing else is large enough.
                let Some(range) = self.arena.iter().find(|range| range.kind == Kind::Huge) else {
                    return Err(libc::EINVAL);
                };
                let page = self.rng.usize(..range.pages / HUGE) * HUGE;
                madvise(range, page, HUGE, sys::MADV_COLLAPSE).map(drop)
            }
            Op::Populate => advise(libc::MADV_POPULATE_WRITE),
            Op::Remove => advise(libc::MADV_REMOVE),
            Op::ShmLock | Op::ShmUnlock => {
                let command = if op == Op::ShmLock {
                    sys::SHM_LOCK
                } else {
                    sys::SHM_UNLOCK
                };
                let segment = self.control.segment(self.rng.usize(..2));
                call(libc::SYS_shmctl, &[segment as usize, command as usize, 0])
            }
            // What the disturbers do.
            Op::Setup
            | Op::Fill
            | Op::Reclaim
            | Op::High
            | Op::Compact
            | Op::MovePages
            | Op::Hotplug
            | Op::Hold => Ok(()),
        }
    }

    /// Memory that stays locked is used, too, and refuses what would take it away.
    fn use_keeper(&mut self) -> Result<(), c_int> {
        let range = self.keepers[self.rng.usize(..self.keepers.len())];
        let pages = 1 + self.rng.usize(..PART);
        let page = self.rng.usize(..=range.pages - pages);
        let refused = [
            libc::MADV_DONTNEED,
            libc::MADV_FREE,
            libc::MADV_PAGEOUT,
            libc::MADV_COLD,
        ];
        match self.rng.usize(..4) {
            0 => {
                let advice = refused[self.rng.usize(..refused.len())];
                return madvise(&range, page, pages, advice).map(drop);
            }
            1 => {
                return mlock(range.at(page), pages * PAGE, range.purpose == Use::OnFault)
                    .map(drop);
            }
            _ => {}
        }
        let write = self.rng.bool();
        for i in (page..page + pages).filter(|i| range.is_used(*i)) {
            // SAFETY: It was mapped at first, and stays.
            unsafe {
                if write && range.kind != Kind::Mergeable {
                    sys::write(range.at(i) + SCRATCH, self.number as u64);
                } else {
                    sys::read(range.at(i));
                }
            }
        }
        Ok(())
    }

    /// A child has everything unlocked, does some of the same, and dies with what it has locked.
    fn fork(&mut self) -> Result<(), c_int> {
        let seed = self.rng.u64(..);
        // SAFETY: The child makes nothing but system calls and accesses, and no allocation.
        match unsafe { libc::fork() } {
            -1 => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
            0 => {
                sys::die_with_parent();
                self.rng = Rng::with_seed(seed);
                // Its keepers are not locked, and the parent's are not its own to advise on.
                self.keepers = &[];
                for _ in 0..CHILD_OPS {
                    self.step(false);
                }
                // SAFETY: No preconditions.
                unsafe { libc::_exit(0) }
            }
            pid => {
                self.slot.wait_for_child(pid);
                Ok(())
            }
        }
    }
}
