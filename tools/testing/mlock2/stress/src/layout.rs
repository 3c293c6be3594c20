// SPDX-License-Identifier: GPL-2.0

//! Where a worker has what, at the same addresses in all of them, and what the pages hold.

use libc::c_int;

use crate::control::{FD_KEPT, FD_SHARED};

pub const PAGE: usize = 4096;
pub const HUGE: usize = 512;
/// Pages of a range, if it has no reason to be larger.
const SMALL: usize = 256;
const MB: usize = 1 << 20;

/// No range is near another, nor near anything that the kernel or a library maps.
const BASE: usize = 0x10_0000_0000;
const STEP: usize = 1 << 30;

/// The processes that lock and unlock.
pub const WORKERS: usize = 4;

/// What a worker may do besides locking and unlocking parts of the arena.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// No more: it has ranges that stay locked, and others that stay unlocked.
    Ranges,
    /// `mlockall()`: it has ranges that stay locked.
    Mlockall,
    /// `munlockall()` as well, so that nothing of it stays.
    Munlockall,
}

pub fn manner(worker: usize) -> Manner {
    match worker {
        0 | 1 => Manner::Ranges,
        2 => Manner::Mlockall,
        _ => Manner::Munlockall,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Anon,
    Huge,
    /// For KSM, all pages the same.
    Mergeable,
    Shared,
    /// A private mapping of the file, written to.
    Private,
    /// The file whose pages others have locked for good.
    Kept,
    Shm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Arena,
    /// Locked all through the round.
    Full,
    /// The same, page by page: only even pages are used.
    OnFault,
    /// Not locked in the round.
    Victim,
}

#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub kind: Kind,
    pub purpose: Use,
    pub addr: usize,
    pub pages: usize,
    /// Where it begins in the file or segment, in pages.
    pub first: usize,
}

/// Pages of the segments.
pub const SEGMENT: usize = 2 * SMALL;
pub const SHARED_PAGES: usize = 2 * SMALL;
/// Of the kept file: two ranges for shared mappings, two for private ones.
pub const STAMPED: usize = 4 * SMALL;
/// And one of each worker's own.
pub const KEPT_PAGES: usize = STAMPED + WORKERS * SMALL;

/// What the cgroup may use. All ranges together are about as large, and so is what is locked of
/// them at times, but not often.
pub const LIMIT: usize = 88 * MB;
/// What the allocator wants besides.
pub const FILL: usize = 40 * MB;

impl Range {
    pub fn len(&self) -> usize {
        self.pages * PAGE
    }

    pub fn at(&self, page: usize) -> usize {
        self.addr + page * PAGE
    }

    pub fn end(&self) -> usize {
        self.at(self.pages)
    }

    /// The flags for mmap(), and the file.
    pub fn mapping(&self) -> (c_int, c_int) {
        match self.kind {
            Kind::Anon | Kind::Huge | Kind::Mergeable => {
                (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
            }
            Kind::Kept => (libc::MAP_SHARED, FD_KEPT),
            Kind::Shared if self.purpose == Use::Arena => (libc::MAP_SHARED, FD_SHARED),
            Kind::Private if self.purpose == Use::Arena => (libc::MAP_PRIVATE, FD_SHARED),
            Kind::Shared => (libc::MAP_SHARED, FD_KEPT),
            Kind::Private => (libc::MAP_PRIVATE, FD_KEPT),
            Kind::Shm => (libc::MAP_SHARED, -1),
        }
    }

    /// Whether the worker has used the page since it was locked.
    pub fn is_used(&self, page: usize) -> bool {
        self.purpose != Use::OnFault || page % 2 == 0
    }

    /// Whether nothing but use may bring a page in. Pages of a file come with their neighbours, and
    /// those of a huge page all at once.
    pub fn is_exact(&self) -> bool {
        self.purpose == Use::OnFault && matches!(self.kind, Kind::Anon | Kind::Mergeable)
    }

    /// Whether smaps must show no swap for it. For a file, that counts pages that are not mapped.
    pub fn is_free_of_swap(&self) -> bool {
        match self.purpose {
            Use::Full => true,
            Use::OnFault => matches!(self.kind, Kind::Anon | Kind::Huge | Kind::Mergeable),
            Use::Arena | Use::Victim => false,
        }
    }

    /// Whether the contents come from a file or segment that was stamped before.
    pub fn is_stamped(&self) -> bool {
        match self.kind {
            Kind::Shared => self.purpose != Use::Victim,
            Kind::Private | Kind::Kept | Kind::Shm => true,
            Kind::Anon | Kind::Huge | Kind::Mergeable => false,
        }
    }

    /// What makes its contents different from other pages'.
    pub fn tag(&self, worker: usize, page: usize) -> u64 {
        match self.kind {
            Kind::Mergeable => 1,
            _ if self.is_stamped() => stamped_tag(self.kind == Kind::Shm, self.first + page),
            _ => (worker as u64 + 1) << 48 | (self.addr / PAGE + page) as u64,
        }
    }
}

pub fn stamped_tag(segment: bool, page: usize) -> u64 {
    (2 + u64::from(segment)) << 60 | page as u64
}

/// The ranges that are locked, unlocked, remapped and so on by all threads.
pub fn arena() -> [Range; 6] {
    let range = |i: usize, kind, pages| Range {
        kind,
        purpose: Use::Arena,
        addr: BASE + i * STEP,
        pages,
        first: 0,
    };
    [
        range(0, Kind::Anon, 2 * SMALL),
        range(1, Kind::Huge, 2 * HUGE),
        range(2, Kind::Shared, SHARED_PAGES),
        range(3, Kind::Private, SHARED_PAGES),
        range(4, Kind::Kept, 2 * SMALL),
        range(5, Kind::Shm, SEGMENT),
    ]
}

/// The ranges of a worker that stay as they are: locked or not.
pub fn fixed(worker: usize) -> Vec<Range> {
    let mut ranges = Vec::new();
    let mut add = |kind, purpose, pages, first| {
        let addr = BASE + (16 + ranges.len()) * STEP;
        ranges.push(Range {
            kind,
            purpose,
            addr,
            pages,
            first,
        });
    };
    if manner(worker) == Manner::Munlockall {
        return ranges;
    }
    for (half, purpose) in [(0, Use::Full), (1, Use::OnFault)] {
        add(Kind::Anon, purpose, SMALL, 0);
        add(Kind::Huge, purpose, HUGE, 0);
        add(Kind::Mergeable, purpose, SMALL, 0);
        add(Kind::Shared, purpose, SMALL, half * SMALL);
        add(Kind::Private, purpose, SMALL, (2 + half) * SMALL);
        add(Kind::Shm, purpose, SMALL, half * SMALL);
    }
    if manner(worker) == Manner::Ranges {
        add(Kind::Anon, Use::Victim, SMALL, 0);
        add(Kind::Huge, Use::Victim, HUGE, 0);
        add(Kind::Shared, Use::Victim, SMALL, STAMPED + worker * SMALL);
        add(Kind::Private, Use::Victim, SMALL, 2 * SMALL);
    }
    ranges
}

/// Words of a page that have contents: enough to tell it from others, few enough to compress well.
const WORDS: usize = 8;
/// Where anybody may write, as nobody looks at it.
pub const SCRATCH: usize = PAGE / 2;

/// The offset of each word that is stamped, and its value.
pub fn words(tag: u64) -> impl Iterator<Item = (usize, u64)> {
    (0..=WORDS).map(move |i| {
        let offset = if i < WORDS { i * 8 } else { PAGE - 8 };
        (
            offset,
            (tag ^ (i as u64) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        )
    })
}

/// Whether these are the contents of a page with this tag.
pub fn is_intact(page: &[u8], tag: u64) -> bool {
    words(tag).all(|(offset, value)| page[offset..offset + 8] == value.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(tag: u64) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        for (offset, value) in words(tag) {
            page[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
        }
        page
    }

    #[test]
    fn contents() {
        let mut page = stamp(7);
        assert!(is_intact(&page, 7));
        assert!(!is_intact(&page, 8));
        assert!(!is_intact(&[0; PAGE], 7));
        page[SCRATCH..SCRATCH + 8].fill(1);
        assert!(is_intact(&page, 7));
        page[PAGE - 1] ^= 1;
        assert!(!is_intact(&page, 7));
    }

    #[test]
    fn ranges_are_apart() {
        for worker in 0..WORKERS {
            let mut all: Vec<Range> = arena().into_iter().chain(fixed(worker)).collect();
            all.sort_by_key(|range| range.addr);
            for pair in all.windows(2) {
                assert!(pair[0].end() + HUGE * PAGE <= pair[1].addr);
            }
            for range in &all {
                assert_eq!(range.addr % (HUGE * PAGE), 0);
                let (_, fd) = range.mapping();
                let pages = match fd {
                    FD_KEPT => KEPT_PAGES,
                    FD_SHARED => SHARED_PAGES,
                    _ if range.kind == Kind::Shm => SEGMENT,
                    _ => continue,
                };
                assert!(range.first + range.pages <= pages);
            }
        }
    }

    #[test]
    fn what_is_written_is_nobody_elses() {
        let tags = |worker| {
            fixed(worker)
                .into_iter()
                .filter(|range| !range.is_stamped() && range.kind != Kind::Mergeable)
                .flat_map(move |range| (0..range.pages).map(move |page| range.tag(worker, page)))
                .collect::<Vec<_>>()
        };
        let mut all: Vec<u64> = (0..WORKERS).flat_map(tags).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
