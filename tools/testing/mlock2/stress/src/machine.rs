// SPDX-License-Identifier: GPL-2.0

//! The machine: its swap, the cgroup, KSM, and its counters.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Error;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::check::{Counters, number};
use crate::control::Op;
use crate::layout::{LIMIT, PAGE};
use crate::sys;

const ROOT: &str = "/sys/fs/cgroup";
const GROUP: &str = "/sys/fs/cgroup/mlock2-stress";
const KSM: &str = "/sys/kernel/mm/ksm";
const THP: &str = "/sys/kernel/mm/transparent_hugepage";
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

pub fn write(path: &str, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {text:?} to {path}"))
}

/// Whether the kernel has huge pages for any program.
pub fn has_huge_pages() -> bool {
    Path::new(THP).exists()
}

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

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

/// How soon this process is to be killed when memory is short: 1000 is first, -1000 never.
pub fn set_oom_score(score: i32) -> Result<()> {
    write("/proc/self/oom_score_adj", &score.to_string())
}

/// Has this process charged to the cgroup, and says how soon it is to be killed.
pub fn join(oom_score: i32) -> Result<()> {
    set_oom_score(oom_score)?;
    group("cgroup.procs", "0")
}

/// Writes to a file of the cgroup.
pub fn group(file: &str, text: &str) -> Result<()> {
    write(&format!("{GROUP}/{file}"), text)
}

/// Whether the cgroup has processes.
pub fn is_populated() -> Result<bool> {
    Ok(!read(&format!("{GROUP}/cgroup.events"))?.contains("populated 0"))
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

        write(&format!("{ROOT}/cgroup.subtree_control"), "+memory")
            .context("want cgroup2 with the memory controller on /sys/fs/cgroup")?;
        fs::create_dir_all(GROUP).with_context(|| format!("cannot make {GROUP}"))?;
        group("memory.max", &LIMIT.to_string())?;
        machine.swap = swap_on()?;
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
        let (name, dir) = (c"debugfs", c"/sys/kernel/debug");
        // SAFETY: The names are strings. Without debugfs, or where it is mounted, this fails.
        unsafe {
            libc::mount(
                name.as_ptr(),
                dir.as_ptr(),
                name.as_ptr(),
                0,
                std::ptr::null(),
            )
        };
        for cpu in 0.. {
            let path = format!("/sys/kernel/debug/sched/fair_server/cpu{cpu}/runtime");
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
        let _ = fs::remove_dir(GROUP);
        let device = CString::new(format!("/dev/{}", self.swap)).unwrap_or_default();
        // SAFETY: The name is a string.
        unsafe { libc::swapoff(device.as_ptr()) };
        let _ = write(&format!("/sys/block/{}/reset", self.swap), "1");
        let id = self.swap.trim_start_matches("zram");
        let _ = write("/sys/class/zram-control/hot_remove", id);
    }

    /// Empties what waits in batches and counters of the CPUs, and counts.
    pub fn count(&self) -> Result<Counters> {
        write("/proc/sys/vm/drop_caches", "1")?;
        write("/proc/sys/vm/stat_refresh", "1")?;
        Counters::parse(
            &read("/proc/vmstat")?,
            &read("/proc/meminfo")?,
            &read(&format!("{GROUP}/memory.stat"))?,
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
        Ok(words(&text))
    }
}

pub fn words(bytes: &[u8]) -> Vec<u64> {
    bytes
        .chunks_exact(8)
        .map(|word| u64::from_ne_bytes(word.try_into().unwrap()))
        .collect()
}

/// Swaps to a zram device of our own. Returns its name.
fn swap_on() -> Result<String> {
    let id = read("/sys/class/zram-control/hot_add").context("cannot add a zram device")?;
    let name = format!("zram{}", id.trim());
    write(&format!("/sys/block/{name}/disksize"), &SWAP.to_string())?;
    let path = format!("/dev/{name}");
    // What mkswap writes: the version and the last page, and the signature at the end of the page.
    let mut page = vec![0; PAGE];
    page[1024..1028].copy_from_slice(&1u32.to_ne_bytes());
    page[1028..1032].copy_from_slice(&((SWAP / PAGE as u64) as u32 - 1).to_ne_bytes());
    page[PAGE - 10..].copy_from_slice(b"SWAPSPACE2");
    let device = File::options().write(true).open(&path);
    let device = device.with_context(|| format!("cannot open {path}"))?;
    device.write_all_at(&page, 0)?;
    device.sync_all()?;
    let device = CString::new(path)?;
    // SAFETY: The name is a string.
    let ret = unsafe { libc::swapon(device.as_ptr(), 0) };
    ensure!(
        ret == 0,
        "cannot swap to /dev/{name}: {}",
        Error::last_os_error()
    );
    Ok(name)
}

/// Asks for so many bytes of the cgroup to be reclaimed. It may have no more.
pub fn reclaim(bytes: usize) -> Result<(), i32> {
    let path = format!("{GROUP}/memory.reclaim");
    fs::write(path, bytes.to_string()).map_err(|error| error.raw_os_error().unwrap_or(0))
}

/// Brings the statistics of the cgroup up to date, which reclaim goes by: else they may be two seconds
/// old, and say that there are inactive pages enough when there are none.
pub fn flush() -> Result<()> {
    read(&format!("{GROUP}/memory.stat"))?;
    Ok(())
}

/// Ends all processes of the cgroup. Returns false if that takes longer than `seconds`.
pub fn kill_all(seconds: u64) -> Result<bool> {
    group("cgroup.kill", "1")?;
    let end = sys::now() + seconds * 1000;
    while is_populated()? {
        if sys::now() >= end {
            return Ok(false);
        }
        sys::sleep(20);
    }
    Ok(true)
}
