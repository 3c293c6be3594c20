// SPDX-License-Identifier: GPL-2.0

//! Takes the guest's console apart: kernel messages, the programs' output and the markers of
//! guest/init.c come through one serial line.

use std::sync::LazyLock;

use regex_lite::Regex;

/// The time stamp that starts a kernel message (`printk.time=1`), perhaps with a caller.
static STAMP: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\[ *[0-9]+\.[0-9]{6}\](?:\[ *[TC][0-9]+\])? ").unwrap());

/// What the kernel says when something is wrong with it. Precise, because harmless messages and
/// the command line have the same words.
static TROUBLE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"\bBUG: |\b[Kk]ernel BUG at |-\[ cut here \]-|^WARNING: ",
        r"|\bOops\b|\bKernel panic\b|\bpanicked at |\bUnable to handle kernel ",
        r"|^general protection fault|^Internal error: |^UBSAN: |^kmemleak: [0-9]",
        r"|\bINFO: (?:rcu|task |possible |inconsistent |suspicious |trying to register )",
        r"|\bhung task\b|\bblocked for more than\b|\bsoft lockup\b|\bhard LOCKUP\b",
        r"|\bDEBUG_LOCKS_WARN_ON\b|\bturning off the locking correctness validator\b",
        r"|\bODEBUG disabled\b|: bad (?:pte|pmd|pud|p4d|pgd) |\bBad swap (?:file|offset) entry |^vmstat_refresh: ",
        // A report may have been among them.
        r"|\bprintk messages dropped\b",
        r"|^\s*not ok\b",
    ))
    .unwrap()
});

/// What repeats the kernel's command line, which may have any word in it.
static ECHO: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^(?:(?:Kernel c|C)ommand|Unknown kernel command) line").unwrap());

/// Whether a line of the console, without its time stamp, is a report of trouble in the kernel or
/// of a failed test case.
pub fn is_trouble(text: &str) -> bool {
    !ECHO.is_match(text) && TROUBLE.is_match(text)
}

/// A line of the console by who wrote it.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A kernel message without its time stamp.
    Kernel(String),
    /// A program's line, or the kernel's or the firmware's before there are time stamps.
    Program(String),
}

/// Makes lines of bytes, and puts together again what a kernel message cut in two.
#[derive(Default)]
pub struct Splitter {
    bytes: Vec<u8>,
    held: String,
}

impl Splitter {
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        for &byte in bytes {
            if byte == b'\n' {
                lines.extend(self.raw_line());
            } else {
                self.bytes.push(byte);
            }
        }
        lines
    }

    /// The last line, if it has no end.
    pub fn finish(&mut self) -> Option<Line> {
        if self.bytes.is_empty() && self.held.is_empty() {
            return None;
        }
        self.raw_line()
    }

    fn raw_line(&mut self) -> Option<Line> {
        let bytes = std::mem::take(&mut self.bytes);
        let text = String::from_utf8_lossy(&bytes);
        if let Some(stamp) = STAMP.find(&text) {
            // A kernel message is written at once. What stands before it is the begin of a
            // program's line, whose rest follows after the message.
            self.held += &text[..stamp.start()];
            return Some(Line::Kernel(text[stamp.end()..].trim_end().to_string()));
        }
        let mut line = std::mem::take(&mut self.held);
        line += &text;
        line.truncate(line.trim_end_matches('\r').len());
        Some(Line::Program(line))
    }
}

/// A line of guest/init.c's own.
#[derive(Debug, PartialEq, Eq)]
pub enum Marker<'a> {
    Begin(&'a str),
    /// The name, and how it ended: `exit=N`, `signal=N`, `timeout` or `missing`.
    End(&'a str, &'a str),
    Error(&'a str),
    Done,
}

impl<'a> Marker<'a> {
    pub fn parse(line: &'a str) -> Option<Self> {
        let text = line.strip_prefix("### mlock2 ")?;
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        match verb {
            "begin" => Some(Self::Begin(rest)),
            "end" => rest.split_once(' ').map(|(name, how)| Self::End(name, how)),
            "error" => Some(Self::Error(rest)),
            "done" => Some(Self::Done),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(text: &str) -> Line {
        Line::Program(text.to_string())
    }

    fn kernel(text: &str) -> Line {
        Line::Kernel(text.to_string())
    }

    #[test]
    fn lines() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.push(b"ok 1 a\r\n[    0.1234"), [program("ok 1 a")]);
        assert_eq!(splitter.push(b"56] Freeing\r\n"), [kernel("Freeing")]);
        assert_eq!(splitter.push(b"### mlock2 done"), []);
        assert_eq!(splitter.finish(), Some(program("### mlock2 done")));
        assert_eq!(splitter.finish(), None);
    }

    #[test]
    fn a_message_within_a_line() {
        let mut splitter = Splitter::default();
        assert_eq!(
            splitter.push(
                b"not o[   12.345678][   T42] WARNING: a\r\n[   12.345679][   T42] b\r\nk 3 c\r\n"
            ),
            [kernel("WARNING: a"), kernel("b"), program("not ok 3 c")]
        );
        assert_eq!(
            splitter.push(b"ok 1 a\r[    1.000000] b\r\n\n"),
            [kernel("b"), program("ok 1 a")]
        );
    }

    #[test]
    fn indentation_stays() {
        let mut splitter = Splitter::default();
        assert_eq!(
            splitter.push(b"[    1.000000]     not ok 1 x\r\n    ok 1 y\r\n"),
            [kernel("    not ok 1 x"), program("    ok 1 y")]
        );
    }

    #[test]
    fn markers() {
        assert_eq!(
            Marker::parse("### mlock2 begin a-b"),
            Some(Marker::Begin("a-b"))
        );
        assert_eq!(
            Marker::parse("### mlock2 end a exit=1"),
            Some(Marker::End("a", "exit=1"))
        );
        assert_eq!(
            Marker::parse("### mlock2 error no /plan"),
            Some(Marker::Error("no /plan"))
        );
        assert_eq!(Marker::parse("### mlock2 done"), Some(Marker::Done));
        assert_eq!(Marker::parse("### mlock2 donec"), None);
        assert_eq!(Marker::parse(" ### mlock2 done"), None);
    }

    #[test]
    fn trouble() {
        for line in [
            "BUG: kernel NULL pointer dereference, address: 0000000000000000",
            "BUG: KASAN: slab-use-after-free in mlock_folio+0x1/0x2",
            "BUG: Bad rss-counter state mm:0000 type:MM_ANONPAGES val:1",
            "BUG: sleeping function called from invalid context at mm/mlock.c:1",
            "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [demo:1]",
            "kernel BUG at mm/mlock.c:63!",
            "------------[ cut here ]------------",
            "WARNING: CPU: 0 PID: 1 at mm/mlock.c:63 mlock_folio+0x1/0x2",
            "WARNING: mm/mlock.c:63 at mlock_folio+0x1/0x2, CPU#0: demo/1",
            "WARNING: possible circular locking dependency detected",
            "WARNING: suspicious RCU usage",
            "Oops: general protection fault, probably for non-canonical address",
            "Internal error: Oops - BUG: 00000000f2000800 [#1] SMP",
            "Unable to handle kernel paging request at virtual address 0",
            "Kernel panic - not syncing: Attempted to kill init!",
            "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:",
            "INFO: rcu_preempt self-detected stall on CPU",
            "INFO: task demo:1 blocked for more than 120 seconds.",
            "INFO: trying to register non-static key.",
            "UBSAN: array-index-out-of-bounds in mm/mlock.c:1:2",
            "rust_kernel: panicked at mm/mlock2/range.rs:1:2:",
            "get_swap_device: Bad swap offset entry 0000000000000001",
            "mm/pgtable-generic.c:42: bad pmd 0000000000000001",
            "vmstat_refresh: nr_mlock -1",
            "Out of memory. ODEBUG disabled",
            "** 3 printk messages dropped **",
            "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
            "not ok 1 mlock2_range",
            "    not ok 2 empty",
        ] {
            assert!(is_trouble(line), "{line}");
        }
    }

    #[test]
    fn no_trouble() {
        for line in [
            "Kernel command line: console=ttyS0 panic=-1 oops=panic hung_task_panic=1",
            "Command line: dyndbg=\"WARNING: BUG: Oops\"",
            "Unknown kernel command line parameters \"BUG: x\", will be passed to user space.",
            "rcu: Hierarchical RCU implementation.",
            "Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible",
            "x86/bugs: SMT on, CPU bug present",
            "# Warning: file a is missing!",
            "ok 1 panic",
            "# Totals: pass:1 fail:0 xfail:0 xpass:0 skip:0 error:0",
            "kmemleak: Kernel memory leak detector initialized",
            "ok 3 not ok",
        ] {
            assert!(!is_trouble(line), "{line}");
        }
    }
}
