// SPDX-License-Identifier: GPL-2.0

//! What user space can see of a process and of the machine.
//!
//! Of each process: the lines on memory of status; all of smaps that is not 0; pagemap; mincore(). At
//! checkpoints, kpageflags of each page as well, and the counters of vmstat and of the cgroup's
//! memory.stat that are in `Counters`.
//!
//! # What is left out of that
//!
//! Each because it is not the same when one kernel runs the same twice.
//!
//! - The device and inode of a mapping: inodes are numbered in the order of all files that were ever
//!   made, also by earlier sequences.
//! - Page frame numbers: whatever page the allocator has at hand.
//! - Of the flags of a page in /proc/kpageflags, KPF_LOCKED, which is that of lock_page().
//! - KPF_ACTIVE of swap-backed pages, or of others, once one of them was read again that reclaim had
//!   taken: whether that activates it depends on the statistics of the memory cgroup
//!   (workingset_test_recent()), which a timer brings up to date.
//! - mincore() outside of the arena, and the vsyscall page, which pagemap does not have.
//! - The counters of the machine and the flags of pages between checkpoints: a page is counted when
//!   the batch that it waits in is worked on, and anything that runs on the CPU can fill a batch.
//! - What compaction does; see `CALLS` in `generate.rs`.
//! - More than one CPU: which one has a page in its batch, and when that is worked on, is up to the
//!   scheduler. `mlock-pressure` of the selftests is for that.
//!
//! # What is made the same instead
//!
//! - QEMU's clock counts instructions, so the host's load does not matter to the guest's timers. Its
//!   random numbers and the time of day are the same in each boot.
//! - No khugepaged, no KSM scans and no periodic write-back.
//! - The program is mapped as a whole by the driver, as Pss shows by how many processes it is.
//! - After a fork, the parent goes first (see `arch::fork()`), and to wait touches no memory of a
//!   process's own (see `arch::futex()`).
//! - memory.stat is made to be up to date; see `stir()`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry::{Occupied, Vacant};
use std::fs::File;
use std::hash::Hasher;
use std::io::{Read, Result, Write};
use std::os::unix::fs::FileExt;

use mlock2_diff::op::{ARENA, ARENA_END, PAGE};
use mlock2_guest::cgroup::Group;
use mlock2_guest::proc::{self, FRAME, PRESENT, Vma, first_number, hex, is_first, words};

/// Takes what is seen, piece by piece: a hash of it, or the words.
pub trait Sink {
    fn line(&mut self, line: &[u8]);
}

#[derive(Default)]
pub struct Hash(std::hash::DefaultHasher);

impl Hash {
    pub fn get(&self) -> u64 {
        self.0.finish()
    }
}

impl Sink for Hash {
    fn line(&mut self, line: &[u8]) {
        self.0.write(line);
        self.0.write_u8(b'\n');
    }
}

#[derive(Default)]
pub struct Words(pub Vec<String>);

impl Sink for Words {
    fn line(&mut self, line: &[u8]) {
        self.0.push(String::from_utf8_lossy(line).into_owned());
    }
}

/// Reads files without opening them, and without allocating, each time: a system call is what
/// takes longest here.
#[derive(Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// By the process.
    files: BTreeMap<i32, Files>,
    /// By the process, and the start of the vma.
    known: BTreeMap<(i32, u64), Entry>,
}

/// What /proc has of a process. Two of them stay with the memory that the process had when they
/// were opened, so that an exec needs new ones.
struct Files {
    status: File,
    smaps: File,
    pagemap: File,
}

impl Files {
    fn open(pid: i32) -> Result<Self> {
        let open = |name| File::open(format!("/proc/{pid}/{name}"));
        Ok(Self {
            status: open("status")?,
            smaps: open("smaps")?,
            pagemap: open("pagemap")?,
        })
    }
}

/// What smaps says of one vma: as it stands there, and without what does not count.
#[derive(Default)]
struct Entry {
    raw: Vec<u8>,
    line: Vec<u8>,
    vma: Vma,
}

impl Reader {
    fn read(&mut self, path: &str) -> Result<&[u8]> {
        self.buffer.clear();
        // These files have no size, so nothing is reserved for them.
        File::open(path)?.read_to_end(&mut self.buffer)?;
        Ok(&self.buffer)
    }

    fn files(files: &mut BTreeMap<i32, Files>, pid: i32) -> Result<&Files> {
        Ok(match files.entry(pid) {
            Occupied(entry) => entry.into_mut(),
            Vacant(entry) => entry.insert(Files::open(pid)?),
        })
    }

    /// The lines on memory of /proc/PID/status. Returns VmLck in bytes.
    pub fn status(&mut self, pid: i32, sink: &mut dyn Sink) -> Result<u64> {
        let file = &Self::files(&mut self.files, pid)?.status;
        // It comes as one piece, of a kilobyte or two.
        self.buffer.resize(8 << 10, 0);
        let len = file.read_at(&mut self.buffer, 0)?;
        let text = &self.buffer[..len];
        let mut charged = 0;
        for line in text.split(|&b| b == b'\n') {
            if line.starts_with(b"Vm") || line.starts_with(b"Rss") || line.starts_with(b"Huge") {
                sink.line(line);
            }
            if let Some(rest) = line.strip_prefix(b"VmLck:") {
                charged = first_number(rest) * 1024;
            }
        }
        Ok(charged)
    }

    /// All of smaps that is not zero. Returns the vmas, but for the vsyscall page.
    pub fn smaps(&mut self, pid: i32, sink: &mut dyn Sink, vmas: &mut Vec<Vma>) -> Result<()> {
        vmas.clear();
        let mut known = std::mem::take(&mut self.known);
        let mut text = whole(&Self::files(&mut self.files, pid)?.smaps, &mut self.buffer)?;
        while let Some(dash) = text.iter().position(|&b| b == b'-') {
            // Most vmas are what they were when we looked last: they need not be taken apart.
            let entry = known.entry((pid, hex(&text[..dash]))).or_default();
            if entry.raw.is_empty() || !text.starts_with(&entry.raw) {
                *entry = entry_of(text);
            }
            text = &text[entry.raw.len()..];
            sink.line(&entry.line);
            if entry.vma.end <= VSYSCALL {
                vmas.push(entry.vma);
            }
        }
        self.known = known;
        Ok(())
    }

    /// Forgets a process: it has ended, or runs another program.
    pub fn forget(&mut self, pid: i32) {
        self.files.remove(&pid);
        self.known.retain(|key, _| key.0 != pid);
    }

    /// All pages, as /proc/PID/pagemap has them: present or swapped, of a file, mapped once, guards,
    /// soft-dirty. Not where they are.
    pub fn pagemap(&mut self, pid: i32, vmas: &[Vma], sink: &mut dyn Sink) -> Result<()> {
        let file = &Self::files(&mut self.files, pid)?.pagemap;
        for vmas in vmas.chunk_by(is_near) {
            let start = vmas.first().map_or(0, |vma| vma.start);
            let end = vmas.last().map_or(0, |vma| vma.end);
            let entries = pagemap(file, &mut self.buffer, start, end)?;
            for vma in vmas {
                let mut line = format!("pages {:x}", vma.start).into_bytes();
                let entries = entries.clone().skip(pages(start, vma.start));
                let entries = entries.take(pages(vma.start, vma.end));
                runs(entries.map(|entry| entry >> 55), &mut line);
                sink.line(&line);
            }
        }
        Ok(())
    }

    /// The flags of the page frames behind that.
    /// Without KPF_ACTIVE of the kind of pages that have refaulted.
    pub fn page_flags(
        &mut self,
        pid: i32,
        vmas: &[Vma],
        refaulted: Refaulted,
        sink: &mut dyn Sink,
    ) -> Result<()> {
        // In place of KPF_LOCKED, which comes and goes: that there is a page.
        const PAGE_IS_THERE: u64 = 1 << 0;
        const ACTIVE: u64 = 1 << 6;
        const SWAPBACKED: u64 = 1 << 14;

        let file = &Self::files(&mut self.files, pid)?.pagemap;
        let flags = File::open("/proc/kpageflags")?;
        for vma in vmas {
            let mut line = format!("frames {:x}", vma.start).into_bytes();
            let mut all = Vec::new();
            let mut ahead: (u64, Vec<u64>) = (0, Vec::new());
            for entry in pagemap(file, &mut self.buffer, vma.start, vma.end)? {
                if entry & PRESENT == 0 {
                    all.push(0);
                    continue;
                }
                let frame = entry & FRAME;
                // Frames of a THP follow each other: read some at once.
                let hit = frame
                    .checked_sub(ahead.0)
                    .filter(|i| *i < ahead.1.len() as u64);
                let value = match hit {
                    Some(i) => ahead.1[i as usize],
                    None => {
                        let mut bytes = [0; 64 * 8];
                        let len = flags.read_at(&mut bytes, frame * 8)?;
                        ahead = (frame, words(&bytes[..len]).collect());
                        ahead.1.first().copied().unwrap_or(0)
                    }
                };
                let refaulted = if value & SWAPBACKED != 0 {
                    refaulted.swap_backed
                } else {
                    refaulted.file
                };
                let unsure = if refaulted { ACTIVE } else { 0 };
                all.push(value & !unsure | PAGE_IS_THERE);
            }
            runs(all.into_iter(), &mut line);
            sink.line(&line);
        }
        Ok(())
    }

    pub fn counters(&mut self, cgroup: &Group) -> Result<Counters> {
        let mut counters = Counters::default();
        let mut take = |text: &[u8], names: &[&str], at: usize| {
            for line in text.split(|&b| b == b'\n') {
                for (i, name) in names.iter().enumerate() {
                    if let Some(value) = line
                        .strip_prefix(name.as_bytes())
                        .and_then(|rest| rest.strip_prefix(b" "))
                    {
                        counters.0[at + i] = first_number(value) as i64;
                    }
                }
            }
        };
        take(
            self.read("/proc/vmstat")?,
            &Counters::NAMES[..Counters::VMSTAT],
            0,
        );
        take(
            self.read(&cgroup.file("memory.stat"))?,
            &Counters::NAMES[Counters::VMSTAT..],
            Counters::VMSTAT,
        );
        Ok(counters)
    }
}

/// Swap-backed pages, and others, that were read again after reclaim had taken them.
const REFAULTS: [&str; 2] = ["workingset_refault_anon", "workingset_refault_file"];

/// Of which kind there were such pages.
#[derive(Clone, Copy)]
pub struct Refaulted {
    swap_backed: bool,
    file: bool,
}

/// Those that say how much is locked now.
const LOCKED: [&str; 3] = ["nr_mlock", "nr_unevictable", "unevictable"];

/// Counters of the machine, and of the memory cgroup.
#[derive(Clone, Copy, Default)]
pub struct Counters(pub [i64; 13]);

impl Counters {
    const VMSTAT: usize = 11;
    pub const NAMES: [&str; 13] = [
        "nr_mlock",
        "nr_unevictable",
        "unevictable_pgs_culled",
        "unevictable_pgs_scanned",
        "unevictable_pgs_rescued",
        "unevictable_pgs_mlocked",
        "unevictable_pgs_munlocked",
        "unevictable_pgs_cleared",
        "unevictable_pgs_stranded",
        REFAULTS[0],
        REFAULTS[1],
        // of the cgroup
        "unevictable",
        "shmem",
    ];

    pub fn show(&self, since: &Self, sink: &mut dyn Sink) {
        let mut line = b"counters".to_vec();
        for ((name, now), then) in Self::NAMES.iter().zip(self.0).zip(since.0) {
            // Vec does not fail.
            let _ = write!(line, " {name}={}", now - then);
        }
        sink.line(&line);
    }

    /// The counters of what is locked that are not as they were, in words.
    pub fn locked(&self, since: &Self) -> String {
        let counters = Self::NAMES.iter().zip(self.0).zip(since.0);
        counters
            .filter(|((name, now), then)| LOCKED.contains(name) && now != then)
            .map(|((name, now), then)| format!(" {name}={}", now - then))
            .collect()
    }

    pub fn refaulted(&self, since: &Self) -> Refaulted {
        let [swap_backed, file] = REFAULTS.map(|refaults| {
            let at = Self::NAMES.iter().position(|name| *name == refaults);
            at.is_some_and(|at| self.0[at] != since.0[at])
        });
        Refaulted { swap_backed, file }
    }

    /// Pages that are locked more than `since`.
    pub fn mlocked(&self, since: &Self) -> i64 {
        self.0[0] - since.0[0]
    }
}

/// Empties the batches and the deltas of all CPUs, also those of memory.stat.
pub fn drain() -> Result<()> {
    proc::drain()?;
    stir()
}

/// Makes the next reader of memory.stat see it as it is. As long as no more than 64 changes are
/// pending, it would see the sums as they were at the last flush, which comes every two seconds.
fn stir() -> Result<()> {
    const PAGES: usize = 64;
    let len = PAGES * PAGE as usize;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    // SAFETY: A new mapping, which nobody uses.
    unsafe {
        let at = libc::mmap(std::ptr::null_mut(), len, prot, flags, -1, 0);
        if at == libc::MAP_FAILED || libc::munmap(at, len) != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

pub fn is_in_arena(vma: &Vma) -> bool {
    vma.start >= ARENA && vma.end <= ARENA_END
}

/// Whether there is no gap between a vma and the next one.
pub fn is_before(vma: &Vma, next: &Vma) -> bool {
    vma.end == next.start
}

/// Whether what is between may be read as well, to save a system call.
fn is_near(vma: &Vma, next: &Vma) -> bool {
    const NEAR: u64 = 64;
    next.start.saturating_sub(vma.end) <= NEAR * PAGE
}

/// What is above is the kernel's.
const VSYSCALL: u64 = 1 << 63;

/// Takes apart what smaps says of the first vma in `text`.
fn entry_of(text: &[u8]) -> Entry {
    let mut entry = Entry::default();
    let (line, vma) = (&mut entry.line, &mut entry.vma);
    for whole in text.split_inclusive(|&b| b == b'\n') {
        entry.raw.extend_from_slice(whole);
        let field = whole.trim_ascii_end();
        if is_first(field) {
            *vma = Vma::new(field).unwrap_or_default();
            header(field, line);
            continue;
        }
        vma.take(field);
        if let Some(flags) = field.strip_prefix(b"VmFlags:") {
            line.extend_from_slice(flags);
            break;
        }
        if !field.ends_with(b" 0 kB") {
            let mut words = field.split(|&b| b == b' ').filter(|word| !word.is_empty());
            let (name, value) = (words.next().unwrap_or(field), words.next().unwrap_or(field));
            line.push(b' ');
            line.extend_from_slice(name);
            line.extend_from_slice(value);
        }
    }
    entry
}

/// "START-END PERM OFFSET DEV INODE PATH" without the device and the inode.
fn header(line: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let words = line.split(|&b| b == b' ').filter(|word| !word.is_empty());
    for (i, word) in words.enumerate() {
        if i == 3 || i == 4 {
            continue;
        }
        if i > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

/// All of a file that has no size.
fn whole<'a>(file: &File, buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
    const SOME: usize = 16 << 10;
    let mut len = 0;
    loop {
        buffer.resize(buffer.len().max(len + SOME), 0);
        match file.read_at(&mut buffer[len..], len as u64)? {
            0 => return Ok(&buffer[..len]),
            read => len += read,
        }
    }
}

fn pages(start: u64, end: u64) -> usize {
    ((end - start) / PAGE) as usize
}

/// The entries of a range.
fn pagemap<'a>(
    file: &File,
    buffer: &'a mut Vec<u8>,
    start: u64,
    end: u64,
) -> Result<impl Iterator<Item = u64> + Clone + use<'a>> {
    buffer.resize(pages(start, end) * 8, 0);
    file.read_exact_at(buffer, start / PAGE * 8)?;
    Ok(words(buffer))
}

/// Appends " VALUExCOUNT" for each run of a value.
fn runs(values: impl Iterator<Item = u64>, line: &mut Vec<u8>) {
    let mut run: Option<(u64, u64)> = None;
    let mut put = |run: Option<(u64, u64)>| {
        if let Some((value, count)) = run {
            // Vec does not fail.
            let _ = write!(line, " {value:x}x{count}");
        }
    };
    for value in values {
        run = match run {
            Some((same, count)) if same == value => Some((same, count + 1)),
            other => {
                put(other);
                Some((value, 1))
            }
        };
    }
    put(run);
}
