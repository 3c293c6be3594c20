// SPDX-License-Identifier: GPL-2.0

//! Sequences of operations from a seed, and from nothing else.
//!
//! A sequence does not depend on what its operations return. It knows only what was tried: the
//! edges of the ranges used so far, and which processes were made. Few pages are used, so that
//! ranges overlap, and the limit is often near what is charged.

use fastrand::Rng;

use crate::case::Case;
use crate::op::*;

/// How many operations a sequence has.
const LENGTH: std::ops::RangeInclusive<usize> = 50..=200;

const SHARED: u64 = libc::MAP_SHARED as u64;
const PRIVATE: u64 = libc::MAP_PRIVATE as u64;
const FIXED: u64 = libc::MAP_FIXED as u64;
const ANONYMOUS: u64 = libc::MAP_ANONYMOUS as u64;
const HUGETLB: u64 = libc::MAP_HUGETLB as u64;

/// How often each call is tried. Not compaction: which pages it moves depends on where they are, and
/// a page that moves forgets how many vmas have it locked, so that one munlock may be enough to make
/// it evictable. For the same reason, nothing else here isolates pages by their place.
const CALLS: &[(u32, Call)] = &[
    (100, Call::Mlock),
    (130, Call::Mlock2),
    (110, Call::Munlock),
    (35, Call::Mlockall),
    (15, Call::Munlockall),
    (150, Call::Mmap),
    (40, Call::Munmap),
    (55, Call::Mprotect),
    (70, Call::Mremap),
    (110, Call::Madvise),
    (15, Call::Msync),
    (15, Call::Brk),
    (60, Call::Read),
    (110, Call::Write),
    (16, Call::MovePages),
    (10, Call::Ftruncate),
    (12, Call::Punch),
    (12, Call::Shmget),
    (22, Call::Shmat),
    (12, Call::Shmdt),
    (20, Call::Shmctl),
    (12, Call::Limit),
    (30, Call::LimitNear),
    (18, Call::DropCap),
    (8, Call::RaiseCap),
    (2, Call::Userns),
    (16, Call::Fork),
    (5, Call::Exec),
    (6, Call::Exit),
    (30, Call::Checkpoint),
];

/// The calls whose allocations fail in `injected()`, and how often each is taken.
const FAMILY: &[(u32, Call)] = &[
    (8, Call::Mlock),
    (8, Call::Mlock2),
    (6, Call::Munlock),
    (3, Call::Mlockall),
    (1, Call::Munlockall),
];
/// How many operations come before that, at most.
const SET_UP: std::ops::RangeInclusive<usize> = 5..=40;

/// The case of a seed and an index.
pub fn case(seed: u64, index: u64) -> Case {
    Case {
        name: format!("{seed}.{index}"),
        ops: sequence(mix(seed, index)),
        inject: false,
    }
}

/// The case of a seed and an index that ends with a call of the family, of which every allocation
/// fails once. It leaves out the big part of the arena, since there would be thousands of them.
pub fn injected(seed: u64, index: u64) -> Case {
    // Another sequence than that of `case()`
    let mut generator = Generator::new(mix(!seed, index));
    let length = generator.rng.usize(SET_UP);
    let mut ops = generator.begin();
    while ops.len() < length {
        let op = generator.op();
        if generator.alive.is_empty() {
            // Not that: somebody is to be there in the end.
            generator.alive.push(op.process);
        } else {
            ops.push(op);
        }
    }
    let alive = generator.alive.clone();
    let process = generator.pick(&alive);
    loop {
        let call = generator.weighted(FAMILY);
        // These make sense at any time.
        let args = generator.args(call, process).unwrap_or_default();
        let last = Op::new(process, call, &args);
        if is_small(&last) {
            ops.push(last);
            break;
        }
    }
    ops.retain(is_small);
    Case {
        name: format!("{seed}.inject.{index}"),
        ops,
        inject: true,
    }
}

/// Whether an operation leaves the big part of the arena alone.
fn is_small(op: &Op) -> bool {
    let mut args = op.call.kinds().iter().zip(op.args);
    args.all(|(kind, arg)| *kind != Kind::Addr || !(BIG..ARENA_END).contains(&arg))
}

/// Far apart, so that neighbouring seeds share no case.
fn mix(seed: u64, index: u64) -> u64 {
    Rng::with_seed(seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).u64(..)
}

/// The sequence of a seed.
pub fn sequence(seed: u64) -> Vec<Op> {
    let mut generator = Generator::new(seed);
    let length = generator.rng.usize(LENGTH);
    let mut ops = generator.begin();
    while ops.len() < length && !generator.alive.is_empty() {
        ops.push(generator.op());
    }
    ops
}

struct Generator {
    rng: Rng,
    /// Page numbers in the small part of the arena where a range started or ended.
    edges: Vec<u64>,
    alive: Vec<usize>,
    /// How many segments of shared memory were asked for.
    segments: u64,
    /// Where they were attached.
    attached: Vec<u64>,
    /// The pages of the small part that are mapped, if all calls did what they were to do.
    mapped: u64,
    /// The same for the huge pages of the big part.
    mapped_big: u64,
}

impl Generator {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            edges: vec![0, 8],
            alive: vec![0],
            segments: 0,
            attached: Vec::new(),
            mapped: 0,
            mapped_big: 0,
        }
    }

    /// What a sequence starts with.
    fn begin(&mut self) -> Vec<Op> {
        let mut ops = Vec::new();
        // Half of them run without privilege, under a small limit, from the start.
        if self.one_in(2) {
            ops.push(Op::new(0, Call::DropCap, &[]));
            let pages = self.rng.u64(1..40);
            ops.push(Op::new(0, Call::Limit, &[pages * PAGE]));
        }
        // Something is to be there.
        let mut page = 0;
        while page < SMALL_PAGES {
            let pages = self.rng.u64(4..=24).min(SMALL_PAGES - page);
            let mut args = self.mmap();
            if args[4] != FD_HUGETLB && args[3] & HUGETLB == 0 && !self.one_in(4) {
                args[0] = ARENA + page * PAGE;
                args[1] = pages * PAGE;
                self.edges.push(page);
                self.note_mapped(args[0], args[1], true);
                ops.push(Op::new(0, Call::Mmap, &args));
            }
            page += pages;
        }
        if self.one_in(2) {
            let args = [BIG, 3 * HUGE, 3, PRIVATE | ANONYMOUS | FIXED, NO_FD, 0];
            self.note_mapped(BIG, 3 * HUGE, true);
            ops.push(Op::new(0, Call::Mmap, &args));
            if !self.one_in(4) {
                ops.push(Op::new(0, Call::Madvise, &[BIG, 3 * HUGE, 14]));
            }
        }
        ops
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(0..n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(0..from.len())]
    }

    fn weighted<T: Copy>(&mut self, from: &[(u32, T)]) -> T {
        let total: u32 = from.iter().map(|(weight, _)| weight).sum();
        let mut n = self.rng.u32(0..total);
        for &(weight, value) in from {
            if n < weight {
                return value;
            }
            n -= weight;
        }
        unreachable!("n is below the sum")
    }

    /// Each flag with a chance of one in `n`.
    fn flags(&mut self, from: &[(u32, u64)]) -> u64 {
        from.iter().fold(
            0,
            |flags, &(n, flag)| {
                if self.one_in(n) { flags | flag } else { flags }
            },
        )
    }

    /// A page number in the small part, often where something starts or ends.
    fn page(&mut self) -> u64 {
        if self.one_in(3) {
            return self.rng.u64(0..SMALL_PAGES);
        }
        let edges = std::mem::take(&mut self.edges);
        let edge = self.pick(&edges);
        self.edges = edges;
        let by = self.weighted(&[(6, 0i64), (1, -1), (1, 1)]);
        edge.saturating_add_signed(by).min(SMALL_PAGES - 1)
    }

    fn small_length(&mut self, page: u64) -> u64 {
        let length = if self.one_in(12) {
            self.rng.u64(1..=SMALL_PAGES)
        } else {
            self.rng.u64(1..=8)
        };
        length.min(SMALL_PAGES - page)
    }

    /// The pages of a range as bits of `mapped` and `mapped_big`.
    fn bits(addr: u64, len: u64) -> (u64, u64) {
        let bits = |start: u64, unit: u64| {
            let first = addr.saturating_sub(start) / unit;
            let end = (addr + len).saturating_sub(start).div_ceil(unit);
            let below = |n: u64| 1u64.checked_shl(n as u32).map_or(u64::MAX, |bit| bit - 1);
            below(end) & !below(first)
        };
        if addr < BIG {
            (bits(ARENA, PAGE), 0)
        } else {
            (0, bits(BIG, HUGE) & 7)
        }
    }

    fn note_mapped(&mut self, addr: u64, len: u64, mapped: bool) {
        let (small, big) = Self::bits(addr, len);
        if mapped {
            self.mapped |= small;
            self.mapped_big |= big;
        } else {
            self.mapped &= !small;
            self.mapped_big &= !big;
        }
    }

    /// The address and length of pages in the arena, mostly without a hole.
    fn range(&mut self) -> (u64, u64) {
        let tries = self.pick(&[1, 5, 5]);
        let mut range = self.some_range();
        for _ in 1..tries {
            let (small, big) = Self::bits(range.0, range.1);
            if small & !self.mapped == 0 && big & !self.mapped_big == 0 {
                break;
            }
            range = self.some_range();
        }
        range
    }

    fn some_range(&mut self) -> (u64, u64) {
        if self.one_in(9) {
            return self.big_range();
        }
        let page = self.page();
        let length = self.small_length(page);
        self.edges.push(page);
        self.edges.push(page + length);
        if self.edges.len() > 12 {
            let gone = self.rng.usize(0..self.edges.len());
            self.edges.swap_remove(gone);
        }
        (ARENA + page * PAGE, length * PAGE)
    }

    /// As `range()`, in the big part: mostly whole huge pages.
    fn big_range(&mut self) -> (u64, u64) {
        let first = self.rng.u64(0..3);
        let count = self.rng.u64(1..=3 - first);
        let (mut addr, mut len) = (BIG + first * HUGE, count * HUGE);
        match self.rng.u32(0..6) {
            0 => len -= self.rng.u64(1..8) * PAGE,
            1 => {
                let less = self.rng.u64(1..8) * PAGE;
                addr += less;
                len -= less;
            }
            2 => len = self.rng.u64(1..=8) * PAGE,
            _ => {}
        }
        (addr, len)
    }

    /// As `range()`, now and then not at the boundaries of pages, or empty.
    fn uneven(&mut self) -> (u64, u64) {
        let (mut addr, mut len) = self.range();
        if self.one_in(10) {
            addr += self.rng.u64(1..PAGE);
        }
        if self.one_in(10) {
            len = len - PAGE + self.rng.u64(1..PAGE);
        }
        if self.one_in(40) {
            len = 0;
        }
        (addr, len)
    }

    /// As `uneven()`, now and then anything. Only for calls that cannot take away what the
    /// processes stand on.
    fn any_range(&mut self) -> (u64, u64) {
        let (mut addr, mut len) = self.uneven();
        if self.one_in(25) {
            let near = self.rng.u64(0..3 * PAGE);
            len = self.pick(&[
                u64::MAX,
                u64::MAX - PAGE,
                u64::MAX - near,
                1 << 63,
                1 << 47,
                addr.wrapping_neg(),
                addr.wrapping_neg().wrapping_sub(near),
                addr.wrapping_neg().wrapping_add(near),
                ARENA_END - addr.min(ARENA_END),
            ]);
        }
        if self.one_in(40) {
            let near = self.rng.u64(0..3 * PAGE);
            addr = self.pick(&[
                0,
                near,
                u64::MAX,
                u64::MAX - near,
                1 << 63,
                (1 << 47) - near,
                0xffff_ffff_ff60_0000,
                ARENA_END,
                ARENA - PAGE,
            ]);
        }
        (addr, len)
    }

    /// As `uneven()`, now and then so long that it wraps around. For calls that look at nothing
    /// then.
    fn wrapping_range(&mut self) -> (u64, u64) {
        let (addr, mut len) = self.uneven();
        if self.one_in(60) {
            len = self.pick(&[u64::MAX, u64::MAX - PAGE + 2]);
        }
        (addr, len)
    }

    fn any_word(&mut self) -> u64 {
        let shift = self.rng.u32(0..64);
        match self.rng.u32(0..3) {
            0 => 1 << shift,
            1 => self.rng.u64(0..16),
            _ => self.rng.u64(..),
        }
    }

    fn op(&mut self) -> Op {
        let alive = std::mem::take(&mut self.alive);
        let process = self.pick(&alive);
        self.alive = alive;
        loop {
            let call = self.weighted(CALLS);
            if let Some(args) = self.args(call, process) {
                match call {
                    Call::Mmap if args[0] != 0 => self.note_mapped(args[0], args[1], true),
                    Call::Munmap if args[1] < ARENA => self.note_mapped(args[0], args[1], false),
                    Call::Mremap if args[3] & 2 != 0 => {
                        self.note_mapped(args[0], args[1], args[3] & 4 != 0);
                        self.note_mapped(args[4], args[2], true);
                    }
                    Call::Mremap if args[2] < args[1] => {
                        self.note_mapped(args[0] + args[2], args[1] - args[2], false);
                    }
                    Call::Shmat => self.attached.push(args[1]),
                    _ => {}
                }
                return Op::new(process, call, &args);
            }
        }
    }

    /// The arguments for a call, unless it makes no sense now.
    fn args(&mut self, call: Call, process: usize) -> Option<Vec<u64>> {
        Some(match call {
            Call::Mlock | Call::Munlock => {
                let (addr, len) = self.any_range();
                vec![addr, len]
            }
            Call::Mlock2 => {
                let (addr, len) = self.any_range();
                let flags = match self.rng.u32(0..16) {
                    0 => self.any_word(),
                    1..=4 => 0,
                    _ => 1,
                };
                vec![addr, len, flags]
            }
            Call::Mlockall => vec![if self.one_in(10) {
                self.any_word()
            } else {
                self.rng.u64(0..8)
            }],
            Call::Mmap => self.mmap(),
            Call::Munmap => {
                let (addr, len) = self.wrapping_range();
                vec![addr, len]
            }
            Call::Mprotect => {
                let (addr, len) = self.wrapping_range();
                vec![addr, len, self.pick(&[0, 1, 3, 3, 3, 5, 7])]
            }
            Call::Mremap => self.mremap(),
            Call::Madvise => {
                let (addr, len) = self.wrapping_range();
                let advice = self.weighted(&[
                    (10, 4),
                    (8, 8),
                    (8, 9),
                    (3, 10),
                    (1, 11),
                    (4, 12),
                    (3, 13),
                    (14, 14),
                    (3, 15),
                    (3, 18),
                    (1, 19),
                    (6, 20),
                    (10, 21),
                    (8, 22),
                    (9, 23),
                    (8, 24),
                    (6, 25),
                    (6, 102),
                    (5, 103),
                ]);
                vec![addr, len, advice]
            }
            Call::Msync => {
                let (addr, len) = self.wrapping_range();
                vec![addr, len, self.pick(&[2, 2, 3, 4, 6, 0, 5])]
            }
            Call::Brk => vec![self.rng.u64(0..12) * PAGE],
            Call::Read | Call::Write => {
                let (addr, len) = self.range();
                // Just below a mapping, for one that grows down.
                let below = if self.one_in(8) { PAGE } else { 0 };
                let pages = (len / PAGE).min(if self.one_in(20) { 512 } else { 12 });
                vec![(addr - below).max(ARENA), pages]
            }
            Call::MovePages => vec![self.range().0, self.rng.u64(0..2)],
            Call::Ftruncate => {
                let fd = self.pick(&[FD_TMPFS, FD_MEMFD, FD_RAMFS, FD_SECRETMEM]);
                vec![fd, self.rng.u64(0..=FILE_PAGES) * PAGE]
            }
            Call::Punch => {
                let fd = self.pick(&[FD_TMPFS, FD_MEMFD, FD_MEMFD, FD_HUGETLB]);
                let (page, pages) = (self.rng.u64(0..24), self.rng.u64(1..12));
                if fd == FD_HUGETLB {
                    vec![fd, 0, 2 * HUGE]
                } else {
                    vec![fd, page * PAGE, pages * PAGE]
                }
            }
            Call::Shmget => {
                let slot = self.segments % SEGMENTS as u64;
                self.segments += 1;
                let flags = self.pick(&[0, 0, 0, libc::SHM_NORESERVE as u64]);
                if self.one_in(6) {
                    vec![slot, HUGE, libc::SHM_HUGETLB as u64]
                } else {
                    let bytes = self.rng.u64(1..PAGE);
                    let pages = self.rng.u64(0..12);
                    let uneven = self.one_in(3);
                    vec![
                        slot,
                        pages * PAGE + if uneven { bytes } else { PAGE },
                        flags,
                    ]
                }
            }
            Call::Shmat => {
                let slot = self.segment()?;
                let (addr, _) = self.range();
                let flags = self.pick(&[0, 0o50000, 0o40000, 0o40000, 0o40000]);
                vec![slot, addr, flags]
            }
            Call::Shmdt => {
                if self.attached.is_empty() {
                    return None;
                }
                let attached = std::mem::take(&mut self.attached);
                let addr = self.pick(&attached);
                self.attached = attached;
                vec![addr]
            }
            Call::Shmctl => {
                let slot = self.segment()?;
                vec![slot, self.weighted(&[(1, 0), (6, 11), (4, 12)])]
            }
            Call::Limit => {
                let pages = self.rng.u64(0..64);
                let odd = self.rng.u64(0..PAGE);
                vec![match self.rng.u32(0..10) {
                    0 => 0,
                    1 => u64::MAX,
                    2 => odd,
                    3 => pages * PAGE + odd,
                    4 => HUGE * (1 + pages % 3),
                    _ => pages * PAGE,
                }]
            }
            Call::LimitNear => {
                let pages = self.rng.i64(-2..12);
                vec![(pages * PAGE as i64) as u64]
            }
            Call::Fork => {
                let new = (0..PROCESSES).find(|p| !self.alive.contains(p))?;
                self.alive.push(new);
                vec![new as u64]
            }
            Call::Exit => {
                // The last one goes rarely.
                if self.alive.len() == 1 && !self.one_in(8) {
                    return None;
                }
                self.alive.retain(|p| *p != process);
                vec![]
            }
            Call::Munlockall
            | Call::DropCap
            | Call::RaiseCap
            | Call::Userns
            | Call::Exec
            | Call::Compact
            | Call::Checkpoint => vec![],
        })
    }

    fn segment(&mut self) -> Option<u64> {
        match self.segments.min(SEGMENTS as u64) {
            0 => None,
            n => Some(self.rng.u64(0..n)),
        }
    }

    fn mmap(&mut self) -> Vec<u64> {
        let (mut addr, mut len) = self.some_range();
        if addr < BIG && self.one_in(2) {
            let longer = len + self.rng.u64(1..12) * PAGE;
            len = longer.min(ARENA + SMALL_PAGES * PAGE - addr);
        }
        let mut prot = self.weighted(&[(14, 3), (2, 1), (2, 0), (1, 7), (1, 5)]);
        let mut flags = FIXED
            | self.flags(&[
                (6, libc::MAP_LOCKED as u64),
                (8, libc::MAP_POPULATE as u64),
                (30, libc::MAP_NONBLOCK as u64),
                (25, libc::MAP_NORESERVE as u64),
            ]);
        let mut fd = NO_FD;
        let mut offset = 0;
        match self.rng.u32(0..100) {
            0..50 => {
                flags |= PRIVATE | ANONYMOUS;
                if self.one_in(8) {
                    flags |= libc::MAP_GROWSDOWN as u64;
                }
            }
            50..58 => flags |= SHARED | ANONYMOUS,
            58..63 => flags = flags & !(libc::MAP_LOCKED as u64) | MAP_DROPPABLE | ANONYMOUS,
            63..66 => flags |= MAP_DROPPABLE | ANONYMOUS,
            66..69 => {
                fd = FD_SECRETMEM;
                flags |= SHARED;
            }
            69..73 => {
                (addr, len) = self.big_range();
                addr = addr / HUGE * HUGE;
                len = len.div_ceil(HUGE) * HUGE;
                if self.one_in(2) {
                    flags |= self.pick(&[SHARED, PRIVATE]) | ANONYMOUS | HUGETLB;
                } else {
                    fd = FD_HUGETLB;
                    flags |= self.pick(&[SHARED, PRIVATE]);
                }
            }
            _ => {
                fd = self.pick(&[FD_TMPFS, FD_MEMFD, FD_MEMFD, FD_BLOCK, FD_BLOCK, FD_RAMFS]);
                flags |= self.pick(&[SHARED, SHARED, PRIVATE]);
                offset = self.weighted(&[(4, 0), (2, addr % (64 * PAGE)), (1, 3 * PAGE)]);
                if offset >= FILE_PAGES * PAGE {
                    offset = 0;
                }
            }
        }
        if self.one_in(60) {
            prot = 3;
            flags |= self.pick(&[0, libc::MAP_FIXED_NOREPLACE as u64]);
        }
        if self.one_in(80) {
            // Where the kernel likes.
            flags &= !FIXED;
            addr = 0;
        }
        vec![addr, len, prot, flags, fd, offset]
    }

    fn mremap(&mut self) -> Vec<u64> {
        let (addr, old) = self.range();
        let small = addr < BIG;
        let mut new = match self.rng.u32(0..4) {
            0 => old,
            1 if small => self.rng.u64(1..=16) * PAGE,
            1 => old / 2,
            2 => old + self.rng.u64(1..=6) * PAGE,
            _ => old.saturating_sub(self.rng.u64(1..4) * PAGE).max(PAGE),
        };
        let (mut to, _) = if small {
            self.range()
        } else {
            self.big_range()
        };
        let flags = self.weighted(&[(6, 0), (3, 1), (8, 3), (4, 5), (3, 7), (1, 4), (1, 2)]);
        if flags & 4 != 0 && !self.one_in(8) {
            new = old;
        }
        // Nothing may land on what is behind the arena.
        if to + new > ARENA_END {
            to = BIG;
        }
        let old = if self.one_in(15) { 0 } else { old };
        vec![addr, old, new, flags, to]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn injected_cases_end_with_a_call_of_the_family() {
        for index in 0..300 {
            let case = injected(1, index);
            let text = crate::case::text(std::slice::from_ref(&case));
            let last = case.ops.last().unwrap();
            assert!(FAMILY.iter().any(|(_, call)| *call == last.call), "{text}");
            assert!(case.ops.iter().all(is_small), "{text}");
            let mut alive = vec![0];
            for op in &case.ops {
                match op.call {
                    Call::Fork => alive.push(op.args[0] as usize),
                    Call::Exit => alive.retain(|process| *process != op.process),
                    _ => {}
                }
            }
            assert!(alive.contains(&last.process), "{text}");
        }
    }
}
