// SPDX-License-Identifier: GPL-2.0

//! One operation, and its text form.
//!
//! `PROCESS CALL ARG...`, such as `0 mlock2 @3 4p ONFAULT`: process 0 locks four pages from page 3 of
//! the arena on. `@3+5` is an address and `4p+5` a length that is not at a page's boundary; anything
//! may be given as a number.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};

/// Bytes of a page of the guest, for which both programs are built: 4096, or what `MLOCK2_PAGE_SIZE`
/// said then.
pub const PAGE: u64 = match option_env!("MLOCK2_PAGE_SIZE") {
    Some(size) => match u64::from_str_radix(size, 10) {
        Ok(size) if size.is_power_of_two() && size >= 4096 => size,
        _ => panic!("MLOCK2_PAGE_SIZE is not a page size"),
    },
    None => 4096,
};
/// Bytes of a THP, and of a huge page: what a page middle directory maps, or, with pages of 64 KiB,
/// where that is 512 MiB, what contiguous page table entries do.
pub const HUGE: u64 = if PAGE == 16 << 10 { 32 << 20 } else { 2 << 20 };
/// Where the memory is that operations work on. What is before and after it is not mapped.
pub const ARENA: u64 = 0x10_0000_0000;
/// The first part of the arena, in pages: for ranges of a few pages.
pub const SMALL_PAGES: u64 = 48;
/// The second part starts here and is three huge pages long.
pub const BIG: u64 = ARENA + if HUGE > 512 * PAGE { HUGE } else { 512 * PAGE };
pub const ARENA_END: u64 = BIG + 3 * HUGE;
/// How many processes a sequence may have at once. The first one is 0.
pub const PROCESSES: usize = 3;
/// How many segments of System V shared memory.
pub const SEGMENTS: usize = 3;

/// What an argument is, for its text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Addr,
    Len,
    Number,
    /// A flag word, or one of several values.
    Word(Names),
}

type Names = &'static [(&'static str, u64)];

const PROT: Names = &[
    ("READ", libc::PROT_READ as u64),
    ("WRITE", libc::PROT_WRITE as u64),
    ("EXEC", libc::PROT_EXEC as u64),
];
const MAP: Names = &[
    // A value, not a set of bits: it has those of SHARED and PRIVATE.
    ("SHARED_VALIDATE", libc::MAP_SHARED_VALIDATE as u64),
    ("SHARED", libc::MAP_SHARED as u64),
    ("PRIVATE", libc::MAP_PRIVATE as u64),
    ("DROPPABLE", MAP_DROPPABLE),
    ("FIXED", libc::MAP_FIXED as u64),
    ("ANONYMOUS", libc::MAP_ANONYMOUS as u64),
    ("GROWSDOWN", libc::MAP_GROWSDOWN as u64),
    ("LOCKED", libc::MAP_LOCKED as u64),
    ("NORESERVE", libc::MAP_NORESERVE as u64),
    ("POPULATE", libc::MAP_POPULATE as u64),
    ("NONBLOCK", libc::MAP_NONBLOCK as u64),
    ("HUGETLB", libc::MAP_HUGETLB as u64),
];
const REMAP: Names = &[
    ("MAYMOVE", libc::MREMAP_MAYMOVE as u64),
    ("FIXED", libc::MREMAP_FIXED as u64),
    ("DONTUNMAP", libc::MREMAP_DONTUNMAP as u64),
];
const MLOCK2: Names = &[("ONFAULT", libc::MLOCK_ONFAULT as u64)];
const MCL: Names = &[
    ("CURRENT", libc::MCL_CURRENT as u64),
    ("FUTURE", libc::MCL_FUTURE as u64),
    ("ONFAULT", libc::MCL_ONFAULT as u64),
];
const MSYNC: Names = &[
    ("ASYNC", libc::MS_ASYNC as u64),
    ("INVALIDATE", libc::MS_INVALIDATE as u64),
    ("SYNC", libc::MS_SYNC as u64),
];
const FDS: Names = &[
    ("none", NO_FD),
    ("tmpfs", FD_TMPFS),
    ("memfd", FD_MEMFD),
    ("hugetlb", FD_HUGETLB),
    ("secretmem", FD_SECRETMEM),
    ("block", FD_BLOCK),
    ("ramfs", FD_RAMFS),
];
const ADVICE: Names = &[
    ("DONTNEED", 4),
    ("FREE", 8),
    ("REMOVE", 9),
    ("DONTFORK", 10),
    ("DOFORK", 11),
    ("MERGEABLE", 12),
    ("UNMERGEABLE", 13),
    ("HUGEPAGE", 14),
    ("NOHUGEPAGE", 15),
    ("WIPEONFORK", 18),
    ("KEEPONFORK", 19),
    ("COLD", 20),
    ("PAGEOUT", 21),
    ("POPULATE_READ", 22),
    ("POPULATE_WRITE", 23),
    ("DONTNEED_LOCKED", 24),
    ("COLLAPSE", 25),
    ("GUARD_INSTALL", 102),
    ("GUARD_REMOVE", 103),
];
const SHMGET: Names = &[
    ("HUGETLB", libc::SHM_HUGETLB as u64),
    ("NORESERVE", libc::SHM_NORESERVE as u64),
];
const SHMAT: Names = &[
    ("RDONLY", libc::SHM_RDONLY as u64),
    ("REMAP", libc::SHM_REMAP as u64),
];
const SHMCTL: Names = &[
    ("RMID", libc::IPC_RMID as u64),
    ("LOCK", libc::SHM_LOCK as u64),
    ("UNLOCK", libc::SHM_UNLOCK as u64),
];

pub const MAP_DROPPABLE: u64 = 0x08;
const MAP_TYPE: u64 = libc::MAP_TYPE as u64;
/// The files that every process has open, by the number of the descriptor.
pub const NO_FD: u64 = u64::MAX;
pub const FD_TMPFS: u64 = 10;
pub const FD_MEMFD: u64 = 11;
pub const FD_HUGETLB: u64 = 12;
pub const FD_SECRETMEM: u64 = 13;
pub const FD_BLOCK: u64 = 14;
pub const FD_RAMFS: u64 = 15;
/// How long the files are, in pages; the hugetlb one is longer.
pub const FILE_PAGES: u64 = 64;

/// Declares `Call`: its variants, their names and the kinds of their arguments.
macro_rules! calls {
    ($($(#[$doc:meta])* $variant:ident $name:literal [$($kind:expr),*] $nr:expr;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Call { $($(#[$doc])* $variant,)* }

        impl Call {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            pub fn kinds(self) -> &'static [Kind] {
                use Kind::*;
                match self { $(Self::$variant => &[$($kind),*],)* }
            }

            /// The system call that takes these arguments as they stand, if there is one.
            pub fn number(self) -> Option<libc::c_long> {
                match self { $(Self::$variant => $nr,)* }
            }
        }
    };
}

calls! {
    Mlock "mlock" [Addr, Len] Some(libc::SYS_mlock);
    Mlock2 "mlock2" [Addr, Len, Word(MLOCK2)] Some(libc::SYS_mlock2);
    Munlock "munlock" [Addr, Len] Some(libc::SYS_munlock);
    Mlockall "mlockall" [Word(MCL)] Some(libc::SYS_mlockall);
    Munlockall "munlockall" [] Some(libc::SYS_munlockall);
    Mmap "mmap" [Addr, Len, Word(PROT), Word(MAP), Word(FDS), Len] Some(libc::SYS_mmap);
    Munmap "munmap" [Addr, Len] Some(libc::SYS_munmap);
    Mprotect "mprotect" [Addr, Len, Word(PROT)] Some(libc::SYS_mprotect);
    Mremap "mremap" [Addr, Len, Len, Word(REMAP), Addr] Some(libc::SYS_mremap);
    Madvise "madvise" [Addr, Len, Word(ADVICE)] Some(libc::SYS_madvise);
    Msync "msync" [Addr, Len, Word(MSYNC)] Some(libc::SYS_msync);
    /// Moves the break to so many bytes past where it was when the program started.
    Brk "brk" [Len] None;
    /// Reads the first byte of so many pages, the last page first.
    Read "read" [Addr, Number] None;
    /// Writes to the first byte of so many pages, the last page first.
    Write "write" [Addr, Number] None;
    /// Migrates a page to a node.
    MovePages "move_pages" [Addr, Number] None;
    /// Changes the length of a file.
    Ftruncate "ftruncate" [Word(FDS), Len] Some(libc::SYS_ftruncate);
    /// Makes a hole in a file: offset, length.
    Punch "punch" [Word(FDS), Len, Len] None;
    /// The segment, its size and flags.
    Shmget "shmget" [Number, Len, Word(SHMGET)] None;
    Shmat "shmat" [Number, Addr, Word(SHMAT)] None;
    Shmdt "shmdt" [Addr] Some(libc::SYS_shmdt);
    Shmctl "shmctl" [Number, Word(SHMCTL)] None;
    /// Sets RLIMIT_MEMLOCK to so many bytes.
    Limit "limit" [Len] None;
    /// Sets RLIMIT_MEMLOCK to what is charged and so many bytes more, or less (two's complement).
    LimitNear "limit_near" [Number] None;
    /// Takes CAP_IPC_LOCK out of the effective set, or puts it in again.
    DropCap "drop_cap" [] None;
    RaiseCap "raise_cap" [] None;
    /// Goes to a user namespace of its own.
    Userns "userns" [] None;
    /// Makes a process with this number.
    Fork "fork" [Number] None;
    /// Starts the program anew.
    Exec "exec" [] None;
    Exit "exit" [] None;
    /// Compacts memory, and with that migrates pages.
    Compact "compact" [] None;
    /// Drains all batches and looks at the counters, and at the flags of each page.
    Checkpoint "checkpoint" [] None;
}

impl Call {
    /// Whether a worker does no more for it than one system call.
    pub fn is_one_system_call(self) -> bool {
        self.number().is_some() || self == Self::Brk
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|call| call.name() == name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    pub process: usize,
    pub call: Call,
    pub args: [u64; 6],
}

impl Op {
    pub fn new(process: usize, call: Call, given: &[u64]) -> Self {
        let mut args = [0; 6];
        args[..given.len()].copy_from_slice(given);
        Self {
            process,
            call,
            args,
        }
    }
}

impl Op {
    /// The call, and in what way, where that is much of what it does: the advice, what is mapped.
    pub fn way(&self) -> String {
        let mut way = self.call.name().to_string();
        let at = match self.call {
            Call::Mmap => 4,
            Call::Madvise | Call::Msync => 2,
            Call::Mremap => 3,
            Call::Shmctl => 1,
            _ => return way,
        };
        way.push('.');
        let special: &[u64] = &[libc::MAP_HUGETLB as u64, libc::MAP_GROWSDOWN as u64];
        let (names, value) = match self.call {
            Call::Mmap if self.args[4] == NO_FD => {
                let flags = self.args[3];
                let kind = special.iter().find(|flag| flags & **flag != 0);
                (MAP, kind.copied().unwrap_or(flags & MAP_TYPE))
            }
            _ => match self.call.kinds()[at] {
                Kind::Word(names) => (names, self.args[at]),
                _ => return way,
            },
        };
        // String does not fail.
        let _ = word(&mut way, names, value);
        way
    }
}

/// The ways of calls that have a name, each of which is to be tried.
pub fn ways() -> impl Iterator<Item = (Call, String)> {
    let of = |call, at: usize, names: Names| {
        names.iter().map(move |(_, value)| {
            let mut args = [0; 6];
            args[at] = *value;
            (call, Op::new(0, call, &args).way())
        })
    };
    of(Call::Mmap, 4, FDS)
        .filter(|(_, way)| !way.ends_with(".0"))
        .chain(of(Call::Madvise, 2, ADVICE))
        .chain(of(Call::Shmctl, 1, SHMCTL))
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.process, self.call.name())?;
        for (&kind, &value) in self.call.kinds().iter().zip(&self.args) {
            f.write_str(" ")?;
            match kind {
                Kind::Addr if (ARENA..ARENA_END).contains(&value) => {
                    pages(f, "@", (value - ARENA) / PAGE, "", value % PAGE)?;
                }
                Kind::Len if value < 1 << 32 => pages(f, "", value / PAGE, "p", value % PAGE)?,
                Kind::Addr | Kind::Len => write!(f, "{value:#x}")?,
                Kind::Number => write!(f, "{}", value as i64)?,
                Kind::Word(names) => word(f, names, value)?,
            }
        }
        Ok(())
    }
}

fn pages(f: &mut fmt::Formatter<'_>, pre: &str, n: u64, post: &str, bytes: u64) -> fmt::Result {
    write!(f, "{pre}{n}{post}")?;
    if bytes != 0 {
        write!(f, "+{bytes}")?;
    }
    Ok(())
}

/// Whether a word is one value rather than flags.
fn is_value(names: Names) -> bool {
    std::ptr::eq(names, ADVICE) || std::ptr::eq(names, FDS) || std::ptr::eq(names, SHMCTL)
}

fn word(f: &mut dyn fmt::Write, names: Names, value: u64) -> fmt::Result {
    if let Some((name, _)) = names.iter().find(|(_, v)| *v == value) {
        return f.write_str(name);
    }
    if is_value(names) || value == 0 {
        return write!(f, "{value}");
    }
    let mut left = value;
    let mut first = true;
    for (name, bits) in names {
        if left & bits == *bits {
            left &= !bits;
            write!(f, "{}{name}", if first { "" } else { "|" })?;
            first = false;
        }
    }
    if left != 0 {
        write!(f, "{}{left:#x}", if first { "" } else { "|" })?;
    }
    Ok(())
}

fn number(text: &str) -> Result<u64> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None if text.starts_with('-') => text.parse().map(|n: i64| n as u64),
        None => text.parse(),
    };
    parsed.with_context(|| format!("{text:?} is no number"))
}

/// `N` and `BYTES` of "N+BYTES" or "N".
fn sum(text: &str) -> Result<(u64, u64)> {
    let (n, bytes) = text.split_once('+').unwrap_or((text, "0"));
    Ok((number(n.trim_end_matches('p'))?, number(bytes)?))
}

fn parse(kind: Kind, text: &str) -> Result<u64> {
    if let Some(rest) = text.strip_prefix('@') {
        let (n, bytes) = sum(rest)?;
        return Ok(ARENA + n * PAGE + bytes);
    }
    match kind {
        Kind::Len if text.contains('p') => {
            let (n, bytes) = sum(text)?;
            Ok(n * PAGE + bytes)
        }
        Kind::Word(names) => text.split('|').try_fold(0, |word, part| {
            match names.iter().find(|(name, _)| *name == part) {
                Some((_, bits)) => Ok(word | bits),
                None => Ok(word | number(part)?),
            }
        }),
        _ => number(text),
    }
}

impl FromStr for Op {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace();
        let mut next = |what| words.next().with_context(|| format!("{text:?}: no {what}"));
        let process = number(next("process")?)? as usize;
        let name = next("call")?;
        let Some(call) = Call::parse(name) else {
            bail!("{text:?}: there is no call {name:?}");
        };
        if process >= PROCESSES {
            bail!("{text:?}: processes are 0 to {}", PROCESSES - 1);
        }
        let mut args = [0; 6];
        for (arg, &kind) in args.iter_mut().zip(call.kinds()) {
            *arg = parse(kind, next("argument")?).with_context(|| format!("{text:?}"))?;
        }
        if words.next().is_some() {
            bail!("{text:?}: too many arguments");
        }
        let most = match call {
            Call::Fork => Some(PROCESSES as u64),
            Call::Shmget | Call::Shmat | Call::Shmctl => Some(SEGMENTS as u64),
            _ => None,
        };
        if most.is_some_and(|most| args[0] >= most) {
            bail!("{text:?}: there is no number {} of these", args[0]);
        }
        Ok(Self {
            process,
            call,
            args,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for seed in 0..200 {
            for op in crate::generate::sequence(seed) {
                let text = op.to_string();
                assert_eq!(text.parse::<Op>().unwrap(), op, "{text}");
            }
        }
    }

    #[test]
    fn text() {
        let op: Op = "0 mlock2 @3+5 4p ONFAULT|0x80".parse().unwrap();
        assert_eq!(op.args[..3], [ARENA + 3 * PAGE + 5, 4 * PAGE, 0x81]);
        assert_eq!(op.to_string(), "0 mlock2 @3+5 4p ONFAULT|0x80");
        for wrong in [
            "",
            "0",
            "0 nothing",
            "9 exit",
            "0 mlock @1",
            "0 exit 1",
            "0 mlock x 1p",
        ] {
            assert!(wrong.parse::<Op>().is_err(), "{wrong}");
        }
    }
}
