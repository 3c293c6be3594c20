// SPDX-License-Identifier: GPL-2.0

//! What /proc says of memory.

use std::fs;
use std::io::{ErrorKind, Result};

/// Bits of /proc/PID/pagemap.
pub const PRESENT: u64 = 1 << 63;
pub const SWAP: u64 = 1 << 62;
pub const FRAME: u64 = (1 << 55) - 1;

pub fn page_size() -> usize {
    // SAFETY: No preconditions.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// Empties the batches and the counters' deltas of all CPUs; drops what is clean in the page cache.
pub fn drain() -> Result<()> {
    fs::write("/proc/sys/vm/drop_caches", "1")?;
    // A kernel for one CPU has no deltas, and no such file.
    match fs::write("/proc/sys/vm/stat_refresh", "1") {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The number after `key`, which begins a line.
pub fn number(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
}

/// The first number in `text`.
pub fn first_number(text: &[u8]) -> u64 {
    text.iter()
        .skip_while(|b| !b.is_ascii_digit())
        .take_while(|b| b.is_ascii_digit())
        .fold(0, |n, b| n * 10 + u64::from(b - b'0'))
}

pub fn hex(text: &[u8]) -> u64 {
    text.iter().fold(0, |n, b| {
        n << 4 | u64::from((*b as char).to_digit(16).unwrap_or(0))
    })
}

/// The words of pagemap, or of kpageflags.
pub fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + Clone {
    bytes.chunks_exact(8).map(|chunk| {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    })
}

/// What smaps says of a vma; sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vma {
    pub start: u64,
    pub end: u64,
    pub locked: bool,
    pub on_fault: bool,
    pub rss: u64,
    pub huge: u64,
    pub swap: u64,
    pub locked_rss: u64,
}

impl Vma {
    /// From the first line of a vma: "START-END ...".
    pub fn new(line: &[u8]) -> Option<Self> {
        let range = line.split(|&b| b == b' ').next()?;
        let dash = range.iter().position(|&b| b == b'-')?;
        Some(Self {
            start: hex(&range[..dash]),
            end: hex(&range[dash + 1..]),
            ..Self::default()
        })
    }

    /// Takes one of the lines after that.
    pub fn take(&mut self, line: &[u8]) {
        if let Some(flags) = line.strip_prefix(b"VmFlags:") {
            for flag in flags.split(|&b| b == b' ') {
                self.locked |= flag == b"lo";
                self.on_fault |= flag == b"lf";
            }
            return;
        }
        let colon = line.iter().position(|&b| b == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        match name {
            b"Rss" => self.rss = first_number(value) * 1024,
            b"Locked" => self.locked_rss = first_number(value) * 1024,
            b"AnonHugePages" => self.huge = first_number(value) * 1024,
            b"Swap" => self.swap = first_number(value) * 1024,
            _ => {}
        }
    }
}

/// Whether a line of smaps is the first one of a vma: only these begin with a small letter or a digit.
pub fn is_first(line: &[u8]) -> bool {
    !line.first().is_some_and(u8::is_ascii_uppercase)
}

/// The vmas of a text of smaps.
pub fn smaps(text: &[u8]) -> Vec<Vma> {
    let mut vmas: Vec<Vma> = Vec::new();
    for line in text.split(|&b| b == b'\n') {
        if is_first(line) {
            vmas.extend(Vma::new(line));
        } else if let Some(vma) = vmas.last_mut() {
            vma.take(line);
        }
    }
    vmas
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &[u8] = b"\
1000-3000 rw-p 00000000 00:00 0
Size:                  8 kB
Rss:                   8 kB
Swap:                  4 kB
SwapPss:               2 kB
Locked:                4 kB
VmFlags: rd wr mr mw me ac lo lf sd
3000-4000 rw-s 00000000 00:01 7                          /memfd:f-f (deleted)
Swap:                  0 kB
VmFlags: rd wr mr mw me ac lo
7ffd000-7ffe000 r-xp 00000000 00:00 0                    [vdso]
AnonHugePages:      2048 kB
VmFlags: rd ex mr mw me de sd
";

    #[test]
    fn vmas() {
        let vmas = smaps(SMAPS);
        let first = Vma {
            start: 0x1000,
            end: 0x3000,
            locked: true,
            on_fault: true,
            rss: 8192,
            huge: 0,
            swap: 4096,
            locked_rss: 4096,
        };
        assert_eq!(vmas.len(), 3);
        assert_eq!(vmas[0], first);
        assert!(vmas[1].locked && !vmas[1].on_fault);
        assert!(!vmas[2].locked);
        assert_eq!(vmas[2].huge, 2 << 20);
    }

    #[test]
    fn numbers() {
        assert_eq!(number("ab 5\na 3 x\n", "a "), Some(3));
        assert_eq!(number("ab 5\n", "a "), None);
        assert_eq!(number("a  12 kB\n", "a "), Some(12));
        assert_eq!(first_number(b"  12 kB"), 12);
        assert_eq!(hex(b"7ffd000"), 0x7ff_d000);
        let bytes: Vec<u8> = [1u64, 2].iter().flat_map(|w| w.to_ne_bytes()).collect();
        assert!(words(&bytes).eq([1, 2]));
    }
}
