// SPDX-License-Identifier: GPL-2.0

//! The rows of the table: what one operation costs.
//!
//! Prints a line for each: `row<TAB>name<TAB>unit<TAB>value<TAB>base`. The value is the median of
//! some rounds. Where it is a difference, it is that of two medians, and the base is what the plain
//! operation costs; otherwise the base is the value.

use std::ffi::CString;
use std::io::{Error, Result};
use std::ptr;

use libc::c_int;

use crate::clock::{Clock, Trace, median};
use crate::sys::{
    LARGE, LOCKED, LargeFolios, Map, ONFAULT, check, drop_privilege, in_child, limit, mlock2,
    mlockall, munlock, munlockall, page_size, tmpfs_file,
};
use crate::{MIB, parse_size};

const NAMES: [&str; 36] = [
    "mlock_resident_page",
    "munlock_page",
    "onfault_touch_overhead",
    "munmap_locked_overhead",
    "file_cached_onfault_overhead",
    "tmpfs_write_onfault_overhead",
    "mlock_one_page",
    "munlock_one_page",
    "mlock_whole_vma_one_page",
    "munlock_whole_vma_one_page",
    "mlock_again",
    "munlock_nothing",
    "enomem_not_mapped",
    "munlockall_nothing",
    "mlock_thp",
    "munlock_thp",
    "mlock_mthp",
    "munlock_mthp",
    "onfault_touch_mthp_overhead",
    "munmap_mthp_overhead",
    "mlock_large_file",
    "munlock_large_file",
    "onfault_touch_large_file_overhead",
    "munmap_large_file_overhead",
    "mlockall_per_vma_1000",
    "munlockall_per_vma_1000",
    "mlockall_10_vmas",
    "munlockall_10_vmas",
    "mlock2_unpopulated_64m",
    "einval",
    "enomem_over_limit",
    "eperm_limit_zero",
    "fork_exec_exit_plain",
    "touch_plain",
    "munmap_plain",
    "mmap_munmap_plain",
];

/// Measure one operation after the other
#[derive(clap::Args)]
pub struct Options {
    /// Rounds of what takes long
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Rounds of a single call
    #[arg(long, default_value_t = 101, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    calls: u32,
    /// Memory for what is measured by the page, such as 16M
    #[arg(long, default_value = "16M", value_parser = parse_size)]
    size: usize,
    /// Only this row; may be given several times
    #[arg(long, value_name = "ROW", value_parser = clap::builder::PossibleValuesParser::new(NAMES))]
    only: Vec<String>,
    /// The clock counts nanoseconds, not instructions
    #[arg(long)]
    wall: bool,
    /// Put marks around the row of --only, for 'mlock2 bench profile'; waits for a line on the
    /// console first
    #[arg(long)]
    profile: bool,
}

/// What one operation costs, one sample for each round.
struct Series {
    name: &'static str,
    unit: &'static str,
    samples: Vec<f64>,
    /// The plain operation, with which it is compared
    plain: Option<Vec<f64>>,
}

impl Series {
    fn cost(name: &'static str, unit: &'static str) -> Self {
        Self {
            name,
            unit,
            samples: Vec::new(),
            plain: None,
        }
    }

    fn over_plain(name: &'static str, unit: &'static str) -> Self {
        Self {
            plain: Some(Vec::new()),
            ..Self::cost(name, unit)
        }
    }
}

struct Bench {
    options: Options,
    clock: Clock,
    trace: Trace,
}

pub fn run(options: Options) -> Result<()> {
    if options.profile && options.only.len() != 1 {
        return Err(Error::other("--profile wants one row: --only ROW"));
    }
    let bench = Bench {
        clock: Clock::new(),
        trace: Trace::new(options.profile),
        options,
    };
    if !bench.options.wall {
        bench.clock.calibrate()?;
    }

    bench.lock_resident()?;
    bench.on_fault()?;
    bench.file()?;
    bench.one_page()?;
    bench.huge()?;
    bench.large(
        libc::MAP_PRIVATE,
        ["mlock_mthp", "munlock_mthp"],
        ["onfault_touch_mthp_overhead", "munmap_mthp_overhead"],
    )?;
    bench.large(
        libc::MAP_SHARED,
        ["mlock_large_file", "munlock_large_file"],
        [
            "onfault_touch_large_file_overhead",
            "munmap_large_file_overhead",
        ],
    )?;
    bench.all()?;
    bench.calls()?;
    bench.processes();

    bench.trace.report_units();
    bench.trace.end();
    Ok(())
}

impl Bench {
    fn wants(&self, names: &[&str]) -> bool {
        let only = &self.options.only;
        only.is_empty() || names.iter().any(|name| only.iter().any(|o| o == name))
    }

    /// Takes a sample of what `per` units cost.
    fn sample(&self, series: &mut Series, per: usize, work: impl FnOnce()) {
        // The first round is cold; a profile shows what follows.
        let marked = self.profiles(series) && !series.samples.is_empty();
        let time = || self.clock.time(work);
        let took = if marked {
            self.trace.operation(per, time)
        } else {
            time()
        };
        series.samples.push(took / per as f64);
    }

    /// Takes a sample of the plain operation, which is a row of its own in `plain` or none.
    fn sample_plain(
        &self,
        series: &mut Series,
        row: Option<&mut Series>,
        per: usize,
        work: impl FnOnce(),
    ) {
        let samples = series.plain.get_or_insert_default();
        let cold = samples.is_empty();
        let marked = self.profiles(series) && !cold;
        let marked_row = row.as_ref().is_some_and(|row| self.profiles(row)) && !cold;
        let time = || self.clock.time(work);
        let took = if marked {
            self.trace.plain(per, time)
        } else if marked_row {
            self.trace.operation(per, time)
        } else {
            time()
        };
        let took = took / per as f64;
        series.plain.get_or_insert_default().push(took);
        if let Some(row) = row {
            row.samples.push(took);
        }
    }

    fn profiles(&self, series: &Series) -> bool {
        self.options.profile && self.options.only[0] == series.name
    }

    fn report(&self, series: Series) {
        if !self.wants(&[series.name]) {
            return;
        }
        let cost = median(&series.samples);
        let (value, base) = match &series.plain {
            Some(plain) => (cost - median(plain), median(plain)),
            None => (cost, cost),
        };
        println!(
            "row\t{}\t{}\t{value:.2}\t{base:.2}",
            series.name, series.unit
        );
    }

    /// mlock and munlock of what is resident: `map` is `per` units.
    fn lock_and_unlock(
        &self,
        mut lock: Series,
        mut unlock: Series,
        rounds: u32,
        range: (*mut u8, usize),
        per: usize,
    ) -> Result<()> {
        for _ in 0..rounds {
            let mut ret = 0;
            self.sample(&mut lock, per, || ret |= mlock2(range, LOCKED));
            self.sample(&mut unlock, per, || ret |= munlock(range));
            check(ret, lock.name)?;
        }
        self.report(lock);
        self.report(unlock);
        Ok(())
    }

    fn lock_resident(&self) -> Result<()> {
        let lock = Series::cost("mlock_resident_page", "page");
        let unlock = Series::cost("munlock_page", "page");
        if !self.wants(&[lock.name, unlock.name]) {
            return Ok(());
        }
        let map = Map::anon(self.options.size)?;
        map.write_all();
        let rounds = self.options.rounds;
        self.lock_and_unlock(lock, unlock, rounds, map.all(), map.pages())
    }

    /// What a first touch costs more under MLOCK_ONFAULT, and what munmap costs more then.
    fn on_fault(&self) -> Result<()> {
        let mut touch = Series::over_plain("onfault_touch_overhead", "page");
        let mut unmap = Series::over_plain("munmap_locked_overhead", "page");
        let mut touch_plain = Series::cost("touch_plain", "page");
        let mut unmap_plain = Series::cost("munmap_plain", "page");
        if !self.wants(&[touch.name, unmap.name, touch_plain.name, unmap_plain.name]) {
            return Ok(());
        }
        for _ in 0..self.options.rounds {
            let map = Map::anon(self.options.size)?;
            let per = map.pages();
            self.sample_plain(&mut touch, Some(&mut touch_plain), per, || map.write_all());
            self.sample_plain(&mut unmap, Some(&mut unmap_plain), per, || map.unmap());

            let map = Map::anon(self.options.size)?;
            check(mlock2(map.all(), ONFAULT), "mlock2")?;
            self.sample(&mut touch, per, || map.write_all());
            self.sample(&mut unmap, per, || map.unmap());
        }
        for series in [touch, unmap, touch_plain, unmap_plain] {
            self.report(series);
        }
        Ok(())
    }

    /// A file on tmpfs: pages that are cached, and pages that are not there yet.
    fn file(&self) -> Result<()> {
        let mut cached = Series::over_plain("file_cached_onfault_overhead", "page");
        let mut new = Series::over_plain("tmpfs_write_onfault_overhead", "page");
        if !self.wants(&[cached.name, new.name]) {
            return Ok(());
        }
        for _ in 0..self.options.rounds {
            for on_fault in [false, true] {
                let file = tmpfs_file(self.options.size)?;
                for series in [&mut new, &mut cached] {
                    let map = Map::new(self.options.size, libc::MAP_SHARED, Some(&file))?;
                    let write = series.name == "tmpfs_write_onfault_overhead";
                    let work = || {
                        if write {
                            map.write_all()
                        } else {
                            map.read_all()
                        }
                    };
                    if on_fault {
                        check(mlock2(map.all(), ONFAULT), "mlock2")?;
                        self.sample(series, map.pages(), work);
                    } else {
                        self.sample_plain(series, None, map.pages(), work);
                    }
                }
            }
        }
        self.report(cached);
        self.report(new);
        Ok(())
    }

    fn one_page(&self) -> Result<()> {
        let lock = Series::cost("mlock_one_page", "call");
        let unlock = Series::cost("munlock_one_page", "call");
        if self.wants(&[lock.name, unlock.name]) {
            let map = Map::anon(MIB)?;
            map.write_all();
            let middle = map.part(map.pages() / 2, 1);
            self.lock_and_unlock(lock, unlock, self.options.calls, middle, 1)?;
        }

        let mut lock = Series::cost("mlock_whole_vma_one_page", "call");
        let mut unlock = Series::cost("munlock_whole_vma_one_page", "call");
        let mut again = Series::cost("mlock_again", "call");
        let mut nothing = Series::cost("munlock_nothing", "call");
        if self.wants(&[lock.name, unlock.name, again.name, nothing.name]) {
            let map = Map::alone(page_size())?;
            map.write_all();
            for _ in 0..self.options.calls {
                let mut ret = 0;
                self.sample(&mut lock, 1, || ret |= mlock2(map.all(), LOCKED));
                self.sample(&mut again, 1, || ret |= mlock2(map.all(), LOCKED));
                self.sample(&mut unlock, 1, || ret |= munlock(map.all()));
                self.sample(&mut nothing, 1, || ret |= munlock(map.all()));
                check(ret, lock.name)?;
            }
            for series in [lock, unlock, again, nothing] {
                self.report(series);
            }
        }

        let mut hole = Series::cost("enomem_not_mapped", "call");
        if self.wants(&[hole.name]) {
            let map = Map::alone(page_size())?;
            check(map.munmap(map.all()), "munmap")?;
            for _ in 0..self.options.calls {
                let mut ret = 0;
                self.sample(&mut hole, 1, || ret = mlock2(map.all(), LOCKED));
                if ret != -1 {
                    return Err(Error::other("what is not mapped was locked"));
                }
            }
            self.report(hole);
        }
        Ok(())
    }

    fn huge(&self) -> Result<()> {
        const HUGE_PAGE: usize = 2 * MIB;
        const PAGES: usize = 8;
        let lock = Series::cost("mlock_thp", "THP");
        let unlock = Series::cost("munlock_thp", "THP");
        if !self.wants(&[lock.name, unlock.name]) {
            return Ok(());
        }
        let map = Map::huge(PAGES * HUGE_PAGE, HUGE_PAGE, libc::MAP_PRIVATE)?;
        map.write_all();
        self.lock_and_unlock(lock, unlock, self.options.rounds, map.all(), PAGES)
    }

    /// Folios of 64 KiB: of anonymous memory, or of a file on tmpfs if the memory is shared.
    fn large(&self, kind: c_int, locks: [&'static str; 2], overs: [&'static str; 2]) -> Result<()> {
        let [lock, unlock] = locks.map(|name| Series::cost(name, "folio"));
        let [mut touch, mut unmap] = overs.map(|name| Series::over_plain(name, "folio"));
        if !self.wants(&[lock.name, unlock.name, touch.name, unmap.name]) {
            return Ok(());
        }
        let Some(_large) = LargeFolios::allow()? else {
            eprintln!(
                "bench: this kernel has no folios of 64 KiB: {} and so on are left out",
                lock.name
            );
            return Ok(());
        };
        let per = self.options.size / LARGE;
        let make = || Map::huge(per * LARGE, LARGE, kind);

        let map = make()?;
        map.write_all();
        self.lock_and_unlock(lock, unlock, self.options.rounds, map.all(), per)?;
        map.unmap();
        for _ in 0..self.options.rounds {
            let map = make()?;
            self.sample_plain(&mut touch, None, per, || map.write_all());
            self.sample_plain(&mut unmap, None, per, || map.unmap());

            let map = make()?;
            check(mlock2(map.all(), ONFAULT), "mlock2")?;
            self.sample(&mut touch, per, || map.write_all());
            self.sample(&mut unmap, per, || map.unmap());
        }
        self.report(touch);
        self.report(unmap);
        Ok(())
    }

    fn all(&self) -> Result<()> {
        const VMAS: usize = 1000;
        let flags = libc::MCL_CURRENT | libc::MCL_ONFAULT;
        let mut lock = Series::cost("mlockall_per_vma_1000", "vma");
        let mut unlock = Series::cost("munlockall_per_vma_1000", "vma");
        if self.wants(&[lock.name, unlock.name]) {
            let map = Map::anon(2 * VMAS * page_size())?;
            map.punch_every_other_page()?;
            for _ in 0..self.options.rounds {
                let mut ret = 0;
                self.sample(&mut lock, VMAS, || ret |= mlockall(flags));
                self.sample(&mut unlock, VMAS, || ret |= munlockall());
                check(ret, lock.name)?;
            }
            self.report(lock);
            self.report(unlock);
        }

        // What the program has is some ten vmas.
        let mut lock = Series::cost("mlockall_10_vmas", "call");
        let mut unlock = Series::cost("munlockall_10_vmas", "call");
        let mut nothing = Series::cost("munlockall_nothing", "call");
        if self.wants(&[lock.name, unlock.name, nothing.name]) {
            for _ in 0..self.options.calls {
                let mut ret = 0;
                self.sample(&mut lock, 1, || ret |= mlockall(flags));
                self.sample(&mut unlock, 1, || ret |= munlockall());
                self.sample(&mut nothing, 1, || ret |= munlockall());
                check(ret, lock.name)?;
            }
            for series in [lock, unlock, nothing] {
                self.report(series);
            }
        }
        Ok(())
    }

    fn calls(&self) -> Result<()> {
        let map = Map::anon(64 * MIB)?;
        let mut lock = Series::cost("mlock2_unpopulated_64m", "call");
        if self.wants(&[lock.name]) {
            for _ in 0..self.options.calls {
                let mut ret = 0;
                self.sample(&mut lock, 1, || ret |= mlock2(map.all(), ONFAULT));
                check(ret | munlock(map.all()), lock.name)?;
            }
            self.report(lock);
        }

        self.refused(&map, "einval", 0x80, libc::EINVAL)?;
        // The limits bind who has no privilege.
        in_child(|| {
            // The parent does not see what its child counts.
            self.trace.forget_units();
            limit(64 * 1024)?;
            drop_privilege()?;
            self.refused(&map, "enomem_over_limit", ONFAULT, libc::ENOMEM)?;
            limit(0)?;
            self.refused(&map, "eperm_limit_zero", ONFAULT, libc::EPERM)?;
            self.trace.report_units();
            Ok(())
        })?;

        let mut pair = Series::cost("mmap_munmap_plain", "pair");
        if self.wants(&[pair.name]) {
            for _ in 0..self.options.calls {
                let mut good = false;
                self.sample(&mut pair, 1, || {
                    good = Map::new(MIB, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, None)
                        .map(Map::unmap)
                        .is_ok();
                });
                if !good {
                    return Err(Error::other("mmap failed"));
                }
            }
            self.report(pair);
        }
        Ok(())
    }

    /// A call that is refused with `errno`.
    fn refused(&self, map: &Map, name: &'static str, flags: c_int, errno: c_int) -> Result<()> {
        if !self.wants(&[name]) {
            return Ok(());
        }
        let mut refused = Series::cost(name, "call");
        for _ in 0..self.options.calls {
            let mut ret = 0;
            self.sample(&mut refused, 1, || ret = mlock2(map.all(), flags));
            if ret != -1 || Error::last_os_error().raw_os_error() != Some(errno) {
                return Err(Error::other(format!("{name}: the call was not refused so")));
            }
        }
        self.report(refused);
        Ok(())
    }

    fn processes(&self) {
        let mut series = Series::cost("fork_exec_exit_plain", "process");
        if !self.wants(&[series.name]) {
            return;
        }
        let path = CString::from(c"/proc/self/exe");
        let argument = CString::from(c"nothing");
        let argv = [path.as_ptr(), argument.as_ptr(), ptr::null()];
        for _ in 0..self.options.rounds * 3 {
            self.sample(&mut series, 1, || {
                // SAFETY: The child does nothing but execute, or end.
                unsafe {
                    let child = libc::fork();
                    if child == 0 {
                        libc::execv(path.as_ptr(), argv.as_ptr());
                        libc::_exit(1);
                    }
                    libc::waitpid(child, ptr::null_mut(), 0);
                }
            });
        }
        self.report(series);
    }
}
