// SPDX-License-Identifier: GPL-2.0

//! Measures the mlock family in a guest whose clock counts instructions (QEMU's `-icount shift=0`).
//!
//! Prints one line for each row: `row<TAB>name<TAB>unit<TAB>instructions`. A figure is the median of
//! some rounds; where it is a difference, of the differences. Runs as root and in one thread; the
//! programs that it starts are itself.

use std::ffi::CString;
use std::io::{Error, Result};
use std::process::ExitCode;
use std::ptr;

use libc::{c_int, c_long, c_void};

const MIB: usize = 1 << 20;
/// Rounds of what takes long, and of what is short.
const ROUNDS: usize = 7;
const MANY: usize = 101;

fn page_size() -> usize {
    // SAFETY: No preconditions.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// The guest's clock in nanoseconds, that is, in instructions.
fn now() -> u64 {
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `t` is ours to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// What a call of `now()` costs by itself.
fn clock_cost() -> u64 {
    median((0..MANY).map(|_| {
        let t = now();
        (now() - t) as f64
    })) as u64
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut v: Vec<f64> = values.into_iter().collect();
    v.sort_by(f64::total_cmp);
    v[v.len() / 2]
}

fn check(ret: c_long, what: &str) -> Result<()> {
    if ret == 0 {
        return Ok(());
    }
    Err(Error::other(format!("{what}: {}", Error::last_os_error())))
}

/// A mapping, unmapped when it is dropped.
struct Map {
    addr: *mut u8,
    len: usize,
}

impl Map {
    fn new(len: usize, flags: c_int, fd: c_int, align: usize) -> Result<Self> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let hint = if align == 0 {
            ptr::null_mut()
        } else {
            // An address of its own, aligned, far from everything else.
            (0x10_0000_0000 + align) as *mut c_void
        };
        let fixed = if align == 0 {
            0
        } else {
            libc::MAP_FIXED_NOREPLACE
        };
        // SAFETY: A new mapping, which replaces none.
        let addr = unsafe { libc::mmap(hint, len, prot, flags | fixed, fd, 0) };
        if addr == libc::MAP_FAILED {
            return Err(Error::other(format!("mmap: {}", Error::last_os_error())));
        }
        Ok(Self {
            addr: addr.cast(),
            len,
        })
    }

    fn anon(len: usize) -> Result<Self> {
        let map = Self::new(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)?;
        map.advise(libc::MADV_NOHUGEPAGE)?;
        Ok(map)
    }

    fn advise(&self, advice: c_int) -> Result<()> {
        // SAFETY: Our own mapping.
        check(
            unsafe { libc::madvise(self.addr.cast(), self.len, advice) }.into(),
            "madvise",
        )
    }

    fn pages(&self) -> usize {
        self.len / page_size()
    }

    fn write_all(&self) {
        for i in 0..self.pages() {
            // SAFETY: In the mapping, which is writable.
            unsafe { self.addr.add(i * page_size()).write_volatile(1) };
        }
    }

    fn read_all(&self) {
        for i in 0..self.pages() {
            // SAFETY: In the mapping, which is readable.
            unsafe { self.addr.add(i * page_size()).read_volatile() };
        }
    }

    /// A part of the mapping, in pages.
    fn part(&self, first: usize, pages: usize) -> (*mut u8, usize) {
        assert!(first + pages <= self.pages());
        (
            self.addr.wrapping_add(first * page_size()),
            pages * page_size(),
        )
    }

    fn all(&self) -> (*mut u8, usize) {
        (self.addr, self.len)
    }

    fn unmap(self) {
        drop(self);
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: Our own mapping, which nobody uses any more.
        unsafe { libc::munmap(self.addr.cast(), self.len) };
    }
}

fn mlock2((addr, len): (*mut u8, usize), flags: c_int) -> c_long {
    // SAFETY: Locking changes nothing that the program can see.
    unsafe { libc::syscall(libc::SYS_mlock2, addr, len, flags) }
}

fn munlock((addr, len): (*mut u8, usize)) -> c_long {
    // SAFETY: As above.
    unsafe { libc::syscall(libc::SYS_munlock, addr, len) }
}

fn mlockall(flags: c_int) -> c_long {
    // SAFETY: As above.
    unsafe { libc::syscall(libc::SYS_mlockall, flags) }
}

fn munlockall() -> c_long {
    // SAFETY: As above.
    unsafe { libc::syscall(libc::SYS_munlockall) }
}

const LOCKED: c_int = 0;
const ONFAULT: c_int = libc::MLOCK_ONFAULT as c_int;

struct Bench {
    clock: u64,
}

impl Bench {
    /// Instructions of one call of `work`.
    fn time(&self, work: impl FnOnce()) -> f64 {
        let t = now();
        work();
        (now() - t).saturating_sub(self.clock) as f64
    }

    fn row(&self, name: &str, unit: &str, value: f64) {
        println!("row\t{name}\t{unit}\t{value:.1}");
    }

    /// Refuses a clock that is not one tick for each instruction.
    fn calibrate(&self) -> Result<()> {
        const STEPS: u64 = 1_000_000;
        let took = median((0..ROUNDS).map(|_| self.time(|| count_down(STEPS))));
        let expected = (STEPS * LOOP_INSTRUCTIONS) as f64;
        println!("# a loop of {expected} instructions took {took} ticks");
        if (took / expected - 1.0).abs() > 0.01 {
            return Err(Error::other(
                "the clock does not count instructions: boot with -icount shift=0,sleep=off, tsc=reliable",
            ));
        }
        Ok(())
    }

    /// mlock and munlock of what is resident, per `per` units.
    fn lock_resident(&self, names: [&str; 2], unit: &str, map: &Map, per: usize) -> Result<()> {
        let (mut lock, mut unlock) = (vec![], vec![]);
        for _ in 0..ROUNDS {
            let mut ret = 0;
            lock.push(self.time(|| ret |= mlock2(map.all(), LOCKED)) / per as f64);
            unlock.push(self.time(|| ret |= munlock(map.all())) / per as f64);
            check(ret, names[0])?;
        }
        self.row(names[0], unit, median(lock));
        self.row(names[1], unit, median(unlock));
        Ok(())
    }

    fn anonymous(&self) -> Result<()> {
        let map = Map::anon(16 * MIB)?;
        map.write_all();
        self.lock_resident(
            ["mlock_resident_page", "munlock_page"],
            "page",
            &map,
            map.pages(),
        )?;

        let (mut touch, mut touch_plain) = (vec![], vec![]);
        let (mut unmap, mut unmap_plain) = (vec![], vec![]);
        for _ in 0..ROUNDS {
            for flags in [None, Some(ONFAULT)] {
                let map = Map::anon(16 * MIB)?;
                let pages = map.pages() as f64;
                if let Some(flags) = flags {
                    check(mlock2(map.all(), flags), "mlock2")?;
                }
                let t = self.time(|| map.write_all()) / pages;
                let u = self.time(|| map.unmap()) / pages;
                if flags.is_some() {
                    touch.push(t);
                    unmap.push(u);
                } else {
                    touch_plain.push(t);
                    unmap_plain.push(u);
                }
            }
        }
        let (touch_plain, unmap_plain) = (median(touch_plain), median(unmap_plain));
        self.row(
            "onfault_touch_overhead",
            "page",
            median(touch) - touch_plain,
        );
        self.row(
            "munmap_locked_overhead",
            "page",
            median(unmap) - unmap_plain,
        );
        self.row("touch_plain", "page", touch_plain);
        self.row("munmap_plain", "page", unmap_plain);
        Ok(())
    }

    /// A file on tmpfs: pages that are cached, and pages that are not there yet.
    fn file(&self) -> Result<()> {
        let name = c"bench";
        let len = 16 * MIB;
        let [mut cached, mut cached_plain] = [vec![], vec![]];
        let [mut new, mut new_plain] = [vec![], vec![]];

        for round in 0..2 * ROUNDS {
            let on_fault = round % 2 == 1;
            // SAFETY: A name that ends in a zero; a new file.
            let fd = unsafe { libc::memfd_create(name.as_ptr(), 0) };
            // SAFETY: Our own file.
            check(
                unsafe { libc::ftruncate(fd, len as libc::off_t) }.into(),
                "ftruncate",
            )?;
            for filled in [false, true] {
                let map = Map::new(len, libc::MAP_SHARED, fd, 0)?;
                let pages = map.pages() as f64;
                if on_fault {
                    check(mlock2(map.all(), ONFAULT), "mlock2")?;
                }
                let t = if filled {
                    self.time(|| map.read_all())
                } else {
                    self.time(|| map.write_all())
                } / pages;
                match (filled, on_fault) {
                    (true, true) => cached.push(t),
                    (true, false) => cached_plain.push(t),
                    (false, true) => new.push(t),
                    (false, false) => new_plain.push(t),
                }
            }
            // SAFETY: Our own file, which is closed once.
            unsafe { libc::close(fd) };
        }
        self.row(
            "file_cached_onfault_overhead",
            "page",
            median(cached) - median(cached_plain),
        );
        self.row(
            "tmpfs_write_onfault_overhead",
            "page",
            median(new) - median(new_plain),
        );
        Ok(())
    }

    fn one_page(&self) -> Result<()> {
        let map = Map::anon(MIB)?;
        map.write_all();
        let middle = map.part(map.pages() / 2, 1);
        let (mut lock, mut unlock) = (vec![], vec![]);
        for _ in 0..MANY {
            let mut ret = 0;
            lock.push(self.time(|| ret |= mlock2(middle, LOCKED)));
            unlock.push(self.time(|| ret |= munlock(middle)));
            check(ret, "mlock_one_page")?;
        }
        self.row("mlock_one_page", "call", median(lock));
        self.row("munlock_one_page", "call", median(unlock));

        // A vma of its own: another kind of mapping keeps it from being merged.
        let map = Map::new(page_size(), libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0)?;
        map.write_all();
        let mut lock = vec![];
        for _ in 0..MANY {
            let mut ret = 0;
            lock.push(self.time(|| ret |= mlock2(map.all(), LOCKED)));
            check(ret | munlock(map.all()), "mlock_whole_vma_one_page")?;
        }
        self.row("mlock_whole_vma_one_page", "call", median(lock));
        Ok(())
    }

    fn huge(&self) -> Result<()> {
        let size = 2 * MIB;
        let map = Map::new(8 * size, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, size)?;
        map.advise(libc::MADV_HUGEPAGE)?;
        map.write_all();
        self.lock_resident(["mlock_thp", "munlock_thp"], "THP", &map, 8)
    }

    fn all(&self) -> Result<()> {
        const VMAS: usize = 1000;
        // Every other page is unmapped, so that the vmas cannot merge.
        let map = Map::anon(2 * VMAS * page_size())?;
        for i in 0..VMAS {
            let (addr, len) = map.part(2 * i, 1);
            // SAFETY: A page of ours that nobody uses.
            check(unsafe { libc::munmap(addr.cast(), len) }.into(), "munmap")?;
        }
        let (mut lock, mut unlock) = (vec![], vec![]);
        for _ in 0..ROUNDS {
            let mut ret = 0;
            lock.push(
                self.time(|| ret |= mlockall(libc::MCL_CURRENT | libc::MCL_ONFAULT)) / VMAS as f64,
            );
            unlock.push(self.time(|| ret |= munlockall()) / VMAS as f64);
            check(ret, "mlockall")?;
        }
        self.row("mlockall_per_vma_1000", "vma", median(lock));
        self.row("munlockall_per_vma_1000", "vma", median(unlock));
        Ok(())
    }

    fn calls(&self) -> Result<()> {
        let map = Map::anon(64 * MIB)?;
        let mut lock = vec![];
        for _ in 0..MANY {
            let mut ret = 0;
            lock.push(self.time(|| ret |= mlock2(map.all(), ONFAULT)));
            check(ret | munlock(map.all()), "mlock2_unpopulated_64m")?;
        }
        self.row("mlock2_unpopulated_64m", "call", median(lock));

        let refused = |flags, errno: c_int| -> Result<f64> {
            let mut times = vec![];
            for _ in 0..MANY {
                let mut ret = 0;
                times.push(self.time(|| ret = mlock2(map.all(), flags)));
                if ret != -1 || Error::last_os_error().raw_os_error() != Some(errno) {
                    return Err(Error::other("a call that is to be refused was not"));
                }
            }
            Ok(median(times))
        };
        self.row("einval", "call", refused(0x80, libc::EINVAL)?);
        // The limits bind who has no privilege.
        in_child(|| {
            limit(64 * 1024)?;
            drop_privilege()?;
            self.row("enomem_over_limit", "call", refused(ONFAULT, libc::ENOMEM)?);
            limit(0)?;
            self.row("eperm_limit_zero", "call", refused(ONFAULT, libc::EPERM)?);
            Ok(())
        })?;

        let times = (0..MANY).map(|_| {
            self.time(|| {
                if let Ok(map) = Map::new(MIB, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) {
                    map.unmap();
                }
            })
        });
        self.row("mmap_munmap_plain", "pair", median(times));
        Ok(())
    }

    fn processes(&self) -> Result<()> {
        let path = CString::new("/proc/self/exe")?;
        let argument = CString::new("nothing")?;
        let argv = [path.as_ptr(), argument.as_ptr(), ptr::null()];
        let mut times = vec![];
        for _ in 0..ROUNDS * 3 {
            times.push(self.time(|| {
                // SAFETY: The child does nothing but execute, or end.
                unsafe {
                    let child = libc::fork();
                    if child == 0 {
                        libc::execv(path.as_ptr(), argv.as_ptr());
                        libc::_exit(1);
                    }
                    libc::waitpid(child, ptr::null_mut(), 0);
                }
            }));
        }
        self.row("fork_exec_exit_plain", "process", median(times));
        Ok(())
    }
}

/// How many instructions a step of `count_down()` has.
const LOOP_INSTRUCTIONS: u64 = 2;

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

fn limit(bytes: u64) -> Result<()> {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // Only the soft limit is lowered, so that it can be changed again without privilege.
    // SAFETY: `limit` is read.
    check(
        unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) }.into(),
        "setrlimit",
    )
}

fn drop_privilege() -> Result<()> {
    // SAFETY: No preconditions.
    check(unsafe { libc::setuid(65534) }.into(), "setuid")
}

fn in_child(work: impl FnOnce() -> Result<()>) -> Result<()> {
    // SAFETY: There is one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let good = work().inspect_err(|e| eprintln!("bench: {e}")).is_ok();
        // SAFETY: Ends the child.
        unsafe { libc::_exit(if good { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `status` is ours to write to.
    unsafe { libc::waitpid(child, &mut status, 0) };
    check(status.into(), "a child")
}

fn run() -> Result<()> {
    // SAFETY: No preconditions.
    check(
        unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 0, 0, 0, 0) }.into(),
        "prctl",
    )?;
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `limit` is read.
    check(
        unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) }.into(),
        "setrlimit",
    )?;

    let bench = Bench {
        clock: clock_cost(),
    };
    bench.calibrate()?;
    bench.anonymous()?;
    bench.file()?;
    bench.one_page()?;
    bench.huge()?;
    bench.all()?;
    bench.calls()?;
    bench.processes()
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("nothing") {
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}
