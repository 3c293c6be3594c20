// SPDX-License-Identifier: GPL-2.0

//! The whole family, call by call: each way in which a call may end, from what is refused at once
//! to what is done to hundreds of pages.
//!
//! Prints the same lines as the rows do. Each round makes what the call is about anew, so that
//! nothing but the call is measured, and it is the same each time.

use std::cell::Cell;
use std::fs::File;
use std::io::{Error, Result};
use std::ptr;

use libc::{c_int, c_long};

use crate::MIB;
use crate::clock::{Clock, Trace, median};
use crate::sys::{
    LOCKED, Map, ONFAULT, check, drop_privilege, in_child, limit, mlock2, mlockall, munlock,
    munlockall, page_size, tmpfs_file,
};

/// How many pages are locked.
const COUNTS: [usize; 5] = [1, 2, 16, 64, 512];

/// Measure every call of the family, with every outcome
#[derive(clap::Args)]
pub struct Options {
    /// Rounds of each call
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(3..=1000))]
    rounds: u32,
    /// Only what has this in its name
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// The clock counts nanoseconds, not instructions
    #[arg(long)]
    wall: bool,
    /// Put marks around the call that is named by --only, for 'mlock2 bench profile'; waits for a
    /// line on the console first
    #[arg(long)]
    profile: bool,
}

struct Sweep {
    clock: Clock,
    trace: Trace,
    options: Options,
    found: Cell<bool>,
}

pub fn run(options: Options) -> Result<()> {
    let sweep = Sweep {
        clock: Clock::new(),
        trace: Trace::new(options.profile),
        options,
        found: Cell::new(false),
    };
    if !sweep.options.wall {
        sweep.clock.calibrate()?;
    }
    for pages in COUNTS {
        sweep.ranges(pages)?;
    }
    sweep.states()?;
    sweep.refusals()?;
    sweep.holes()?;
    sweep.all()?;
    sweep.others()?;
    // The limits bind who has no privilege.
    in_child(|| sweep.over_limit())?;
    in_child(|| sweep.limit_zero())?;
    if !sweep.found.get() && !sweep.options.only.starts_with("limit") {
        return Err(Error::other("no call has that in its name"));
    }
    sweep.trace.end();
    Ok(())
}

/// What a call returned, and is to return.
type Ret = c_long;

fn failed(ret: Ret) -> c_int {
    match ret {
        -1 => Error::last_os_error().raw_os_error().unwrap_or(0),
        _ => 0,
    }
}

/// Anonymous memory that is never merged with what is beside it, each page of which is there.
fn resident(pages: usize) -> Result<Map> {
    let map = absent(pages)?;
    map.write_all();
    Ok(map)
}

/// The same, none of which is there.
fn absent(pages: usize) -> Result<Map> {
    Map::alone(pages * page_size())
}

/// Locks a mapping, if there is a way in which to do that.
fn lock(map: Map, flags: Option<c_int>) -> Result<Map> {
    if let Some(flags) = flags {
        check(mlock2(map.all(), flags), "mlock2")?;
    }
    Ok(map)
}

impl Sweep {
    fn wants(&self, name: &str) -> bool {
        let only = &self.options.only;
        // A profile is of one call, whose name may be a part of another's.
        let wanted = if self.trace.is_on() {
            name == only
        } else {
            name.contains(only)
        };
        self.found.set(self.found.get() || wanted);
        wanted
    }

    /// Ticks of so many calls. The first round is cold; a profile shows what follows.
    fn time(&self, calls: usize, cold: bool, work: impl FnOnce()) -> f64 {
        let time = || self.clock.time(work);
        if self.trace.is_on() && !cold {
            self.trace.operation(calls, time)
        } else {
            time()
        }
    }

    /// Measures `call` on what `prepare` makes; it is to fail with `errno`, or not if that is 0.
    fn call<T>(
        &self,
        name: &str,
        errno: c_int,
        prepare: impl Fn() -> Result<T>,
        call: impl Fn(&T) -> Ret,
    ) -> Result<()> {
        if !self.wants(name) {
            return Ok(());
        }
        let mut took = Vec::new();
        for _ in 0..=self.options.rounds {
            let given = prepare()?;
            let mut ret = 0;
            took.push(self.time(1, took.is_empty(), || ret = call(&given)));
            let got = failed(ret);
            if got != errno {
                return Err(Error::other(format!(
                    "{name}: error {got}, and {errno} was to be expected"
                )));
            }
        }
        let cost = median(&took[1..]);
        self.trace.report_units();
        println!("row\t{name}\tcall\t{cost:.2}\t{cost:.2}");
        Ok(())
    }

    /// The same for a call that may leave work to a later one: to who fills the CPU's batch. Makes
    /// that many calls in a row, of which each gets its share. What fills the batch many times by
    /// itself is measured alone.
    fn calls<T>(
        &self,
        name: &str,
        pages: usize,
        prepare: impl Fn() -> Result<T>,
        call: impl Fn(&T) -> Ret,
    ) -> Result<()> {
        // PAGEVEC_SIZE
        const BATCH: usize = 31;
        let calls = if pages < 2 * BATCH { BATCH } else { 1 };

        if !self.wants(name) {
            return Ok(());
        }
        let mut took = Vec::new();
        for _ in 0..=self.options.rounds {
            let given = (0..calls).map(|_| prepare()).collect::<Result<Vec<_>>>()?;
            let mut ret = 0;
            took.push(self.time(calls, took.is_empty(), || {
                for given in &given {
                    ret |= call(given);
                }
            }));
            check(ret, name)?;
        }
        let cost = median(&took[1..]) / calls as f64;
        self.trace.report_units();
        println!("row\t{name}\tcall\t{cost:.2}\t{cost:.2}");
        Ok(())
    }

    /// The whole of a vma, and parts of one, by the number of pages.
    fn ranges(&self, pages: usize) -> Result<()> {
        let whole = || resident(pages);
        let locked = |flags| move || lock(resident(pages)?, Some(flags));
        // Three times as many pages, and the first, the second or the last third of them
        let thirds = move |first: bool, second: bool, third: bool| {
            move || {
                let map = resident(3 * pages)?;
                for (i, lock) in [first, second, third].into_iter().enumerate() {
                    if lock {
                        check(mlock2(map.part(i * pages, pages), LOCKED), "mlock2")?;
                    }
                }
                Ok(map)
            }
        };
        let third = |map: &Map, i: usize| map.part(i * pages, pages);
        let n = pages;

        self.call(&format!("mlock_whole_{n}"), 0, whole, |m| {
            mlock2(m.all(), LOCKED)
        })?;
        self.call(&format!("onfault_whole_{n}"), 0, whole, |m| {
            mlock2(m.all(), ONFAULT)
        })?;
        self.call(
            &format!("mlock_absent_{n}"),
            0,
            || absent(n),
            |m| mlock2(m.all(), LOCKED),
        )?;
        self.call(
            &format!("onfault_absent_{n}"),
            0,
            || absent(n),
            |m| mlock2(m.all(), ONFAULT),
        )?;
        self.call(&format!("mlock_again_{n}"), 0, locked(LOCKED), |m| {
            mlock2(m.all(), LOCKED)
        })?;
        self.call(&format!("onfault_again_{n}"), 0, locked(ONFAULT), |m| {
            mlock2(m.all(), ONFAULT)
        })?;
        self.call(
            &format!("mlock_after_onfault_{n}"),
            0,
            locked(ONFAULT),
            |m| mlock2(m.all(), LOCKED),
        )?;
        self.call(
            &format!("onfault_after_mlock_{n}"),
            0,
            locked(LOCKED),
            |m| mlock2(m.all(), ONFAULT),
        )?;
        self.call(&format!("munlock_whole_{n}"), 0, locked(LOCKED), |m| {
            munlock(m.all())
        })?;
        self.call(&format!("munlock_nothing_{n}"), 0, whole, |m| {
            munlock(m.all())
        })?;

        for (i, at) in ["start", "middle", "end"].into_iter().enumerate() {
            self.call(
                &format!("mlock_{at}_{n}"),
                0,
                thirds(false, false, false),
                |m| mlock2(third(m, i), LOCKED),
            )?;
            self.call(
                &format!("munlock_{at}_{n}"),
                0,
                thirds(true, true, true),
                |m| munlock(third(m, i)),
            )?;
            let rest = |i: usize| thirds(i != 0, i != 1, i != 2);
            self.call(&format!("mlock_rest_at_{at}_{n}"), 0, rest(i), |m| {
                mlock2(third(m, i), LOCKED)
            })?;
            let only = |i: usize| thirds(i == 0, i == 1, i == 2);
            self.call(&format!("munlock_only_at_{at}_{n}"), 0, only(i), |m| {
                munlock(third(m, i))
            })?;
            self.call(&format!("mlock_all_but_{at}_locked_{n}"), 0, rest(i), |m| {
                mlock2(m.all(), LOCKED)
            })?;
            self.call(
                &format!("munlock_all_but_{at}_locked_{n}"),
                0,
                rest(i),
                |m| munlock(m.all()),
            )?;
        }

        // Pages that are freed, or not, when they go.
        self.calls(&format!("munmap_locked_{n}"), n, locked(LOCKED), |m| {
            m.munmap(m.all())
        })?;
        self.calls(&format!("dontneed_locked_{n}"), n, locked(LOCKED), |m| {
            m.dontneed_locked()
        })?;
        let file = |flags: Option<c_int>| {
            move || {
                let file = tmpfs_file(pages * page_size())?;
                let map = Map::new(pages * page_size(), libc::MAP_SHARED, Some(&file))?;
                map.write_all();
                Ok((lock(map, flags)?, file))
            }
        };
        type Shared = (Map, File);
        self.call(
            &format!("mlock_file_{n}"),
            0,
            file(None),
            |(m, _): &Shared| mlock2(m.all(), LOCKED),
        )?;
        self.call(
            &format!("munlock_file_{n}"),
            0,
            file(Some(LOCKED)),
            |(m, _): &Shared| munlock(m.all()),
        )?;
        self.calls(
            &format!("munmap_locked_file_{n}"),
            n,
            file(Some(LOCKED)),
            |(m, _): &Shared| m.munmap(m.all()),
        )?;
        let fresh = || lock(absent(pages)?, Some(ONFAULT));
        let touch = |m: &Map| {
            m.write_all();
            0
        };
        self.calls(&format!("touch_onfault_{n}"), n, fresh, touch)
    }

    /// What the pages are like.
    fn states(&self) -> Result<()> {
        const HUGE: usize = 2 * MIB;
        const N: usize = 64;
        let protected = |prot: c_int| {
            move || {
                let map = resident(N)?;
                map.protect(prot)?;
                Ok(map)
            }
        };
        self.call("mlock_read_only", 0, protected(libc::PROT_READ), |m| {
            mlock2(m.all(), LOCKED)
        })?;
        self.call(
            "mlock_prot_none",
            libc::ENOMEM,
            protected(libc::PROT_NONE),
            |m| mlock2(m.all(), LOCKED),
        )?;
        self.call("onfault_prot_none", 0, protected(libc::PROT_NONE), |m| {
            mlock2(m.all(), ONFAULT)
        })?;
        let past_end = || {
            let file = tmpfs_file(page_size())?;
            Ok((
                Map::new(2 * page_size(), libc::MAP_SHARED, Some(&file))?,
                file,
            ))
        };
        self.call(
            "mlock_past_end_of_file",
            libc::ENOMEM,
            past_end,
            |(m, _)| mlock2(m.all(), LOCKED),
        )?;
        let half = || {
            let map = absent(N)?;
            for i in (0..N).step_by(2) {
                map.write(i * page_size());
            }
            Ok(map)
        };
        self.call("mlock_every_other_page_absent", 0, half, |m| {
            mlock2(m.all(), LOCKED)
        })?;
        self.call("onfault_every_other_page_absent", 0, half, |m| {
            mlock2(m.all(), ONFAULT)
        })?;
        let huge = |flags: Option<c_int>| {
            move || {
                let map = Map::huge(HUGE, HUGE, libc::MAP_PRIVATE)?;
                map.write_all();
                lock(map, flags)
            }
        };
        self.call("mlock_huge_page", 0, huge(None), |m| {
            mlock2(m.all(), LOCKED)
        })?;
        self.call("mlock_huge_page_again", 0, huge(Some(LOCKED)), |m| {
            mlock2(m.all(), LOCKED)
        })?;
        self.call("munlock_huge_page", 0, huge(Some(LOCKED)), |m| {
            munlock(m.all())
        })?;
        self.call("munmap_locked_huge_page", 0, huge(Some(LOCKED)), |m| {
            m.munmap(m.all())
        })?;
        self.call("mlock_part_of_huge_page", 0, huge(None), |m| {
            mlock2(m.part(16, 16), LOCKED)
        })
    }

    /// What is refused before anything is looked for.
    fn refusals(&self) -> Result<()> {
        let one = || resident(1);
        self.call("unknown_flag", libc::EINVAL, one, |m| mlock2(m.all(), 0x80))?;
        self.call("no_pages", 0, one, |m| mlock2((m.all().0, 0), LOCKED))?;
        self.call("munlock_no_pages", 0, one, |m| munlock((m.all().0, 0)))?;
        self.call("range_wraps", libc::EINVAL, one, |m| {
            mlock2((m.all().0, usize::MAX - 2 * page_size()), LOCKED)
        })?;
        self.call("munlock_range_wraps", libc::EINVAL, one, |m| {
            munlock((m.all().0, usize::MAX - 2 * page_size()))
        })?;
        self.call("not_aligned", 0, one, |m| {
            mlock2((m.all().0.wrapping_add(1), 1), LOCKED)
        })?;
        self.call(
            "mlockall_no_flags",
            libc::EINVAL,
            || Ok(()),
            |()| mlockall(0),
        )?;
        self.call(
            "mlockall_unknown_flag",
            libc::EINVAL,
            || Ok(()),
            |()| mlockall(0x80),
        )?;
        self.call(
            "mlockall_onfault_alone",
            libc::EINVAL,
            || Ok(()),
            |()| mlockall(libc::MCL_ONFAULT),
        )
    }

    /// Nothing is mapped in a part of the range.
    fn holes(&self) -> Result<()> {
        const N: usize = 6;
        let hole = |first: usize, pages: usize, lock: bool| {
            move || {
                let map = resident(N)?;
                if lock {
                    check(mlock2(map.all(), LOCKED), "mlock2")?;
                }
                check(map.munmap(map.part(first, pages)), "munmap")?;
                Ok(map)
            }
        };
        for (at, first, pages) in [
            ("start", 0, 2),
            ("middle", 2, 2),
            ("end", 4, 2),
            ("all", 0, N),
        ] {
            self.call(
                &format!("mlock_hole_{at}"),
                libc::ENOMEM,
                hole(first, pages, false),
                |m| mlock2(m.all(), LOCKED),
            )?;
            self.call(
                &format!("onfault_hole_{at}"),
                libc::ENOMEM,
                hole(first, pages, false),
                |m| mlock2(m.all(), ONFAULT),
            )?;
            self.call(
                &format!("munlock_hole_{at}"),
                libc::ENOMEM,
                hole(first, pages, true),
                |m| munlock(m.all()),
            )?;
        }
        Ok(())
    }

    /// A whole process, which has some more vmas.
    fn all(&self) -> Result<()> {
        for vmas in [0, 10, 100] {
            let current = libc::MCL_CURRENT;
            let vmas_of = |now: Option<c_int>| {
                move || {
                    check(munlockall(), "munlockall")?;
                    let map = Map::anon(2 * (vmas + 1) * page_size())?;
                    map.punch_every_other_page()?;
                    if let Some(flags) = now {
                        check(mlockall(flags), "mlockall")?;
                    }
                    Ok(map)
                }
            };
            let modes = [
                ("current", current),
                ("current_onfault", current | libc::MCL_ONFAULT),
                ("future", libc::MCL_FUTURE),
                ("future_onfault", libc::MCL_FUTURE | libc::MCL_ONFAULT),
                ("both", current | libc::MCL_FUTURE),
            ];
            for (mode, flags) in modes {
                self.call(&format!("mlockall_{mode}_{vmas}"), 0, vmas_of(None), |_| {
                    mlockall(flags)
                })?;
                self.call(
                    &format!("mlockall_{mode}_again_{vmas}"),
                    0,
                    vmas_of(Some(flags)),
                    |_| mlockall(flags),
                )?;
            }
            self.call(
                &format!("munlockall_{vmas}"),
                0,
                vmas_of(Some(current)),
                |_| munlockall(),
            )?;
            self.call(
                &format!("munlockall_nothing_{vmas}"),
                0,
                vmas_of(None),
                |_| munlockall(),
            )?;
        }
        check(munlockall(), "munlockall")
    }

    /// Calls that are not of the family, and lock or unlock.
    fn others(&self) -> Result<()> {
        const N: usize = 16;
        let len = N * page_size();
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // The mapping is left behind: few rounds, and the process ends.
        let mapped = |result: Result<Map>| match result {
            Ok(map) => {
                std::mem::forget(map);
                0
            }
            Err(_) => -1,
        };
        self.call(
            "mmap_locked",
            0,
            || Ok(()),
            |()| mapped(Map::new(len, flags | libc::MAP_LOCKED, None)),
        )?;
        let future = |all: c_int| move || check(munlockall() | mlockall(all), "mlockall");
        self.call("mmap_future", 0, future(libc::MCL_FUTURE), |()| {
            mapped(Map::new(len, flags, None))
        })?;
        self.call(
            "mmap_future_onfault",
            0,
            future(libc::MCL_FUTURE | libc::MCL_ONFAULT),
            |()| mapped(Map::new(len, flags, None)),
        )?;
        check(munlockall(), "munlockall")?;
        let locked = || lock(resident(N)?, Some(LOCKED));
        self.calls("mremap_shrinks_locked", N / 2, locked, |m| {
            m.mremap(len, len / 2)
        })?;
        let onfault = || {
            let map = resident(2 * N)?;
            check(map.munmap(map.part(N, N)), "munmap")?;
            check(mlock2(map.part(0, N), ONFAULT), "mlock2")?;
            Ok(map)
        };
        self.call("mremap_grows_locked", 0, onfault, |m| {
            m.mremap(len, 2 * len)
        })?;
        self.call("mprotect_locked", 0, locked, |m| {
            m.protect(libc::PROT_READ).map_or(-1, |()| 0)
        })?;
        self.call("mprotect_part_of_locked", 0, locked, |m| {
            m.protect_part(1, 2, libc::PROT_READ)
        })?;
        self.call("fork_with_locked", 0, locked, |_| {
            // SAFETY: The child does nothing but end.
            unsafe {
                let child = libc::fork();
                if child == 0 {
                    libc::_exit(0);
                }
                libc::waitpid(child, ptr::null_mut(), 0);
                c_long::from(child).min(0)
            }
        })?;
        let segment = |lock: bool| {
            move || {
                let segment = Segment::new(N * page_size())?;
                if lock {
                    check(segment.control(libc::SHM_LOCK), "SHM_LOCK")?;
                }
                Ok(segment)
            }
        };
        self.call("shm_lock", 0, segment(false), |s| s.control(libc::SHM_LOCK))?;
        self.call("shm_lock_again", 0, segment(true), |s| {
            s.control(libc::SHM_LOCK)
        })?;
        self.call("shm_unlock", 0, segment(true), |s| {
            s.control(libc::SHM_UNLOCK)
        })?;
        self.call("shm_unlock_nothing", 0, segment(false), |s| {
            s.control(libc::SHM_UNLOCK)
        })
    }

    /// Of who may lock eight pages, and has locked four of them.
    fn over_limit(&self) -> Result<()> {
        const N: usize = 4;
        let len = |pages: usize| pages * page_size();
        limit(len(8) as u64)?;
        drop_privilege()?;
        let some = || {
            let map = resident(16)?;
            check(mlock2(map.part(0, N), LOCKED), "mlock2")?;
            Ok(map)
        };
        self.call("limit_mlock_permitted", 0, some, |m| {
            mlock2(m.part(N, N), LOCKED)
        })?;
        self.call("limit_mlock_over", libc::ENOMEM, some, |m| {
            mlock2(m.part(N, 8), LOCKED)
        })?;
        self.call("limit_mlock_over_but_locked", 0, some, |m| {
            mlock2(m.part(0, 8), LOCKED)
        })?;
        self.call("limit_mlock_too_large", libc::ENOMEM, some, |m| {
            mlock2(m.all(), LOCKED)
        })?;
        self.call("limit_mlockall", libc::ENOMEM, some, |_| {
            mlockall(libc::MCL_CURRENT)
        })?;
        self.call("limit_munlock", 0, some, |m| munlock(m.part(0, N)))?;
        self.call("limit_mmap_locked", libc::EAGAIN, some, |_| {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_LOCKED;
            // SAFETY: A new mapping, which replaces none.
            let addr = unsafe { libc::mmap(ptr::null_mut(), len(8), 3, flags, -1, 0) };
            if addr == libc::MAP_FAILED { -1 } else { 0 }
        })?;
        let alone = || {
            let map = resident(16)?;
            check(map.munmap(map.part(N, 12)), "munmap")?;
            check(mlock2(map.part(0, N), LOCKED), "mlock2")?;
            Ok(map)
        };
        self.call("limit_mremap", libc::EAGAIN, alone, |m| {
            m.mremap(len(N), len(12))
        })
    }

    fn limit_zero(&self) -> Result<()> {
        limit(0)?;
        drop_privilege()?;
        let one = || resident(1);
        self.call("limit_zero_mlock", libc::EPERM, one, |m| {
            mlock2(m.all(), LOCKED)
        })?;
        self.call("limit_zero_munlock", 0, one, |m| munlock(m.all()))?;
        self.call("limit_zero_mlockall", libc::EPERM, one, |_| {
            mlockall(libc::MCL_CURRENT)
        })?;
        self.call("limit_zero_munlockall", 0, one, |_| munlockall())
    }
}

/// A System V shared memory segment, all of which is there; removed when it is dropped.
struct Segment {
    id: c_int,
    addr: *mut libc::c_void,
}

impl Segment {
    fn new(len: usize) -> Result<Self> {
        // SAFETY: No pointers.
        let id = unsafe { libc::shmget(libc::IPC_PRIVATE, len, 0o600) };
        check(id.min(0).into(), "shmget")?;
        // SAFETY: A new mapping, which replaces none.
        let addr = unsafe { libc::shmat(id, ptr::null(), 0) };
        if addr as isize == -1 {
            return Err(Error::other("shmat failed"));
        }
        for i in (0..len).step_by(page_size()) {
            // SAFETY: In the segment, which is attached and may be written to.
            unsafe { addr.cast::<u8>().add(i).write_volatile(1) };
        }
        Ok(Self { id, addr })
    }

    fn control(&self, what: c_int) -> Ret {
        // SAFETY: These have no argument.
        unsafe { libc::shmctl(self.id, what, ptr::null_mut()) }.into()
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: Nobody uses it any more.
        unsafe {
            libc::shmdt(self.addr);
            libc::shmctl(self.id, libc::IPC_RMID, ptr::null_mut());
        }
    }
}
