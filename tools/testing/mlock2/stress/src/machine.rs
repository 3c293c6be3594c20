// SPDX-License-Identifier: GPL-2.0

//! The machine: its swap, the cgroup, KSM, and its counters.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use mlock2_guest::cgroup::Group;
use mlock2_guest::file::{DEBUGFS, THP, has_huge_pages, mount_debugfs, read, write};
use mlock2_guest::proc::{drain, number, words};
use mlock2_guest::swap;

use crate::check::Counters;
use crate::control::Op;
use crate::layout::LIMIT;
use crate::sys;

pub const GROUP: Group = Group("mlock2-stress");
const KSM: &str = "/sys/kernel/mm/ksm";
const EVENTS: &[&str] = &[
    "pswpout",
    "pswpin",
    "pgmigrate_success",
    "compact_success",
    "ksm_swpin_copy",
    "cow_ksm",
    "thp_fault_alloc",
    "thp_collapse_alloc",
    "thp_split_page",
    "thp_swpout",
    "unevictable_pgs_culled",
    "unevictable_pgs_rescued",
    "unevictable_pgs_mlocked",
    "unevictable_pgs_munlocked",
    "unevictable_pgs_cleared",
    "unevictable_pgs_stranded",
    OOM_KILLS,
];
pub const OOM_KILLS: &str = "oom_kill";
/// Those that must not stand still, or the load was none.
pub const NEEDED: [&str; 3] = ["pswpout", "pgmigrate_success", "cow_ksm"];
const SWAP: u64 = 512 << 20;

/// The operations that cannot succeed on this machine.
pub fn cannot() -> Vec<Op> {
    let mut ops = Vec::new();
    if !has_huge_pages() {
        ops.extend([Op::Hugepage, Op::NoHugepage, Op::Collapse]);
    }
    if !Path::new("/sys/devices/system/node/node1").exists() {
        ops.push(Op::MovePages);
    }
    if spare_cpus().is_empty() {
        ops.push(Op::Hotplug);
    }
    ops
}

/// How soon this process is to be killed when memory is short: 1000 is first, -1000 never.
pub fn set_oom_score(score: i32) -> Result<()> {
    write("/proc/self/oom_score_adj", &score.to_string())
}

/// Has this process charged to the cgroup, and says how soon it is to be killed.
pub fn join(oom_score: i32) -> Result<()> {
    set_oom_score(oom_score)?;
    GROUP.join()
}

/// The CPUs that can be turned off, each with the file that does it.
pub fn spare_cpus() -> Vec<(usize, String)> {
    (1..)
        .map(|cpu| (cpu, format!("/sys/devices/system/cpu/cpu{cpu}")))
        .take_while(|(_, dir)| Path::new(dir).exists())
        .map(|(cpu, dir)| (cpu, format!("{dir}/online")))
        .filter(|(_, file)| Path::new(file).exists())
        .collect()
}

pub struct Machine {
    swap: String,
    /// The files that were written to, and what they held.
    before: Vec<(String, String)>,
}

impl Machine {
    pub fn set_up() -> Result<Self> {
        // SAFETY: No preconditions.
        ensure!(unsafe { libc::geteuid() } == 0, "this needs root");
        // We are to see the end of every process, and are not to be killed for what they do.
        // SAFETY: Touches no memory.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1 as libc::c_ulong) };
        set_oom_score(-1000)?;
        let mut machine = Self {
            swap: String::new(),
            before: Vec::new(),
        };
        if Path::new("/proc/sys/vm/oom_dump_tasks").exists() {
            machine.set("/proc/sys/vm/oom_dump_tasks", "0")?;
        }
        machine.set(&format!("{KSM}/pages_to_scan"), "500")?;
        machine.set(&format!("{KSM}/sleep_millisecs"), "50")?;
        machine.set(&format!("{KSM}/run"), "1")?;
        if has_huge_pages() {
            machine.set(&format!("{THP}/enabled"), "madvise")?;
            machine.set(&format!("{THP}/khugepaged/scan_sleep_millisecs"), "1000")?;
            // khugepaged would take locked pages of a file out of all page tables.
            machine.set(&format!("{THP}/shmem_enabled"), "never")?;
        }
        machine.stop_deadline_servers()?;
        let swaps = read("/proc/swaps")?;
        ensure!(
            swaps.lines().count() == 1,
            "this machine swaps already, and ours is to be the only one:\n{swaps}"
        );
        // Dropping caches is not to be logged each time.
        write("/proc/sys/vm/drop_caches", "4")?;

        GROUP.make()?;
        GROUP.write("memory.max", &LIMIT.to_string())?;
        machine.swap = swap::add_zram()?;
        swap::start(&machine.swap, SWAP)?;
        Ok(machine)
    }

    fn set(&mut self, path: &str, text: &str) -> Result<()> {
        let before = read(path)?;
        // Of a choice, the one in brackets.
        let chosen = before
            .split_once('[')
            .and_then(|(_, rest)| rest.split_once(']'));
        let before = chosen.map_or(before.trim(), |(word, _)| word).to_string();
        write(path, text)?;
        self.before.push((path.to_string(), before));
        Ok(())
    }

    /// The scheduler's deadline servers give time to the rest where there are real-time tasks, of which
    /// there are none here. Where a CPU is slow, the kernel may warn of their timer: dl_server_timer()
    /// lets update_curr() start it and then finds it queued. Debugfs has the switch.
    fn stop_deadline_servers(&mut self) -> Result<()> {
        // Fails without debugfs, and where it is mounted.
        let _ = mount_debugfs();
        for cpu in 0.. {
            let path = format!("{DEBUGFS}/sched/fair_server/cpu{cpu}/runtime");
            if !Path::new(&path).exists() {
                break;
            }
            self.set(&path, "0")?;
        }
        Ok(())
    }

    /// As it was before, as far as that can be had.
    pub fn restore(&self) {
        for (_, file) in spare_cpus() {
            let _ = write(&file, "1");
        }
        for (path, text) in self.before.iter().rev() {
            let _ = write(path, text);
        }
        let _ = GROUP.remove();
        let _ = swap::stop(&self.swap);
    }

    /// Empties what waits in batches and counters of the CPUs, and counts.
    pub fn count(&self) -> Result<Counters> {
        drain().context("cannot drain")?;
        Counters::parse(
            &read("/proc/vmstat")?,
            &read("/proc/meminfo")?,
            &GROUP.read("memory.stat")?,
        )
        .context("the kernel does not count mlocked or unevictable pages")
    }

    /// What the kernel says that it did: it goes with the results, since a run in which nothing was
    /// swapped or migrated says little.
    pub fn events(&self) -> Result<Vec<(&'static str, u64)>> {
        let text = read("/proc/vmstat")?;
        let count = |name: &&'static str| Some((*name, number(&text, &format!("{name} "))?));
        Ok(EVENTS.iter().filter_map(count).collect())
    }

    /// The flags of all pages of the machine.
    pub fn frames(&self) -> Result<Vec<u64>> {
        let text = fs::read("/proc/kpageflags").context("cannot read /proc/kpageflags")?;
        Ok(words(&text).collect())
    }
}

/// Brings the statistics of the cgroup up to date, which reclaim goes by: else they may be two seconds
/// old, and say that there are inactive pages enough when there are none.
pub fn flush() -> Result<()> {
    GROUP.read("memory.stat")?;
    Ok(())
}

/// Ends all processes of the cgroup. Returns false if that takes longer than `seconds`.
pub fn kill_all(seconds: u64) -> Result<bool> {
    GROUP.write("cgroup.kill", "1")?;
    let end = sys::now() + seconds * 1000;
    while GROUP.is_populated()? {
        if sys::now() >= end {
            return Ok(false);
        }
        sys::sleep(20);
    }
    Ok(true)
}
