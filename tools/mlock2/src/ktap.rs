// SPDX-License-Identifier: GPL-2.0

//! Counts the cases in a program's KTAP output (Documentation/dev-tools/ktap.rst).
//!
//! The crates for TAP (tap_parser, tap-consooomer) and the kernel's `kunit.py parse` want a document
//! that is complete. What has to be judged here comes line by line from a console, between the
//! kernel's messages, and may break off when the program, or the kernel, crashes.

/// What a program's cases came to.
///
/// Only the innermost cases count: the result line of a case that has subtests sums those up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    /// Planned (`1..N`), but without a result line.
    pub missing: u64,
}

impl Counts {
    pub fn total(&self) -> u64 {
        self.passed + self.failed + self.skipped + self.missing
    }

    pub fn add(&mut self, other: &Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.missing += other.missing;
    }
}

/// The cases at one depth of indentation, and all below them.
#[derive(Default)]
struct Level {
    indent: usize,
    plan: Option<u64>,
    seen: u64,
    counts: Counts,
}

impl Level {
    fn close(mut self) -> Counts {
        match self.plan {
            Some(plan) if plan > self.seen => self.counts.missing += plan - self.seen,
            // More cases than planned: the plan or the program is wrong.
            Some(plan) if plan < self.seen => self.counts.failed += 1,
            _ => {}
        }
        self.counts
    }
}

/// Takes a program's output line by line.
#[derive(Default)]
pub struct Parser {
    done: Counts,
    open: Vec<Level>,
    ktap: bool,
}

impl Parser {
    /// Whether there was any KTAP at all.
    pub fn is_ktap(&self) -> bool {
        self.ktap
    }

    /// Returns true for a line that tells of a failure.
    pub fn line(&mut self, line: &str) -> bool {
        let text = line.trim_start();
        let indent = line.len() - text.len();

        if text.starts_with("Bail out!") {
            return true;
        }
        if text.starts_with("TAP version ") || text.starts_with("KTAP version ") {
            self.ktap = true;
            // The same depth again is another program's output, not more of the first one's.
            self.close_to(indent);
        } else if let Some(plan) = text.strip_prefix("1..") {
            let (number, rest) = split_number(plan);
            if let Some(plan) = number {
                self.ktap = true;
                self.plan(indent, plan, is_skip(rest));
            }
        } else if let Some(result) = Outcome::parse(text) {
            self.ktap = true;
            self.result(indent, result);
            return result == Outcome::Fail;
        }
        false
    }

    /// The sum. What is planned and has not come is missing.
    pub fn finish(mut self) -> Counts {
        self.close_to(0);
        self.done
    }

    fn plan(&mut self, indent: usize, plan: u64, skip: bool) {
        let planned = |level: &Level| level.indent == indent && level.plan.is_some();
        self.close_to(indent + 1);
        if self.open.last().is_some_and(planned) {
            self.close_to(indent);
        }
        let level = self.level(indent);
        level.plan = Some(plan);
        if plan == 0 && skip {
            level.counts.skipped += 1;
        }
    }

    fn result(&mut self, indent: usize, result: Outcome) {
        let mut below = Counts::default();
        while let Some(level) = self.pop_from(indent + 1) {
            below.add(&level.close());
        }
        if below.total() == 0 {
            match result {
                Outcome::Pass => below.passed = 1,
                Outcome::Fail => below.failed = 1,
                Outcome::Skip => below.skipped = 1,
            }
        } else if result == Outcome::Fail && below.failed + below.missing == 0 {
            below.failed = 1;
        }
        let level = self.level(indent);
        level.seen += 1;
        level.counts.add(&below);
    }

    fn level(&mut self, indent: usize) -> &mut Level {
        if self.open.last().is_none_or(|level| level.indent < indent) {
            self.open.push(Level {
                indent,
                ..Level::default()
            });
        }
        self.open.last_mut().expect("pushed above")
    }

    fn pop_from(&mut self, indent: usize) -> Option<Level> {
        let deep = self.open.last().is_some_and(|level| level.indent >= indent);
        if deep { self.open.pop() } else { None }
    }

    /// Ends the levels from `indent` on, which nothing sums up.
    fn close_to(&mut self, indent: usize) {
        while let Some(level) = self.pop_from(indent) {
            let counts = level.close();
            match self.open.last_mut() {
                Some(above) => above.counts.add(&counts),
                None => self.done.add(&counts),
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Pass,
    Fail,
    Skip,
}

impl Outcome {
    /// `ok 1 ...` or `not ok 1 ...`; without a number it is prose, not KTAP.
    fn parse(text: &str) -> Option<Self> {
        let (ok, rest) = match text.strip_prefix("not ok ") {
            Some(rest) => (false, rest),
            None => (true, text.strip_prefix("ok ")?),
        };
        let (number, rest) = split_number(rest);
        number?;
        Some(match (ok, is_skip(rest)) {
            (true, true) => Self::Skip,
            (true, false) => Self::Pass,
            (false, _) => Self::Fail,
        })
    }
}

fn split_number(text: &str) -> (Option<u64>, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    if !rest.is_empty() && !rest.starts_with(char::is_whitespace) {
        return (None, rest);
    }
    (number.parse().ok(), rest)
}

/// Why a case was skipped, if that is what a line says.
pub fn skipped(line: &str) -> Option<&str> {
    match Outcome::parse(line.trim_start()) {
        Some(Outcome::Skip) => line
            .split_once(" # SKIP")
            .map(|(_, why)| why.trim_start_matches(':').trim()),
        _ => None,
    }
}

fn is_skip(rest: &str) -> bool {
    rest.split(" #")
        .skip(1)
        .any(|directive| directive.trim_start().starts_with("SKIP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons() {
        assert_eq!(skipped("ok 3 a.b # SKIP no hugetlb"), Some("no hugetlb"));
        assert_eq!(skipped("ok 3 a.b"), None);
        assert_eq!(skipped("# SKIP no hugetlb"), None);
    }

    fn count(text: &str) -> (u64, u64, u64, u64) {
        let mut parser = Parser::default();
        for line in text.lines() {
            parser.line(line);
        }
        let c = parser.finish();
        (c.passed, c.failed, c.skipped, c.missing)
    }

    #[test]
    fn flat() {
        let text = "TAP version 13\n1..4\nok 1 a\nnot ok 2 b\nok 3 # SKIP c\nok 4 # XFAIL d\n\
            # Totals: pass:2 fail:1 xfail:1 xpass:0 skip:1 error:0\n";
        assert_eq!(count(text), (2, 1, 1, 0));
    }

    #[test]
    fn missing_cases() {
        assert_eq!(
            count("TAP version 13\n1..15\nok 1 a\nBail out! mlock\n"),
            (1, 0, 0, 14)
        );
        assert_eq!(count("1..3\n"), (0, 0, 0, 3));
    }

    #[test]
    fn more_than_planned() {
        assert_eq!(count("1..1\nok 1 a\nok 2 b\n"), (2, 1, 0, 0));
    }

    #[test]
    fn plan_at_the_end() {
        assert_eq!(count("ok 1 a\nok 2 b\n1..3\n"), (2, 0, 0, 1));
    }

    #[test]
    fn all_skipped() {
        assert_eq!(
            count("TAP version 13\n1..0 # SKIP no memory\n"),
            (0, 0, 1, 0)
        );
    }

    #[test]
    fn nested() {
        let text = "KTAP version 1\n1..2\n  KTAP version 1\n  1..2\n    KTAP version 1\n    1..2\n\
            \x20   ok 1 x\n    ok 2 y\n  ok 1 a\n  not ok 2 b\nnot ok 1 suite\nok 2 flat\n";
        assert_eq!(count(text), (3, 1, 0, 0));
    }

    #[test]
    fn nested_missing() {
        let text = "1..2\n    1..3\n    ok 1 x\nnot ok 1 suite\n";
        assert_eq!(count(text), (1, 0, 0, 3));
    }

    #[test]
    fn a_suite_can_fail_by_itself() {
        assert_eq!(
            count("1..1\n  1..1\n  ok 1 x\nnot ok 1 suite\n"),
            (1, 1, 0, 0)
        );
    }

    #[test]
    fn two_programs_in_a_row() {
        let text = "TAP version 13\n1..2\nok 1 a\nTAP version 13\n1..1\nok 1 b\n";
        assert_eq!(count(text), (2, 0, 0, 1));
    }

    #[test]
    fn harness() {
        let text = "TAP version 13\n1..1\n# Starting 1 tests from 1 test cases.\n\
            #  RUN           global.lock ...\n#            OK  global.lock\nok 1 global.lock\n\
            # PASSED: 1 / 1 tests passed.\n";
        assert_eq!(count(text), (1, 0, 0, 0));
    }

    #[test]
    fn prose_is_not_ktap() {
        let mut parser = Parser::default();
        for line in ["ok, done", "ok then", "# not ok 1 quoted", "1..x", "okay 1"] {
            assert!(!parser.line(line));
        }
        assert!(!parser.is_ktap());
        assert_eq!(parser.finish().total(), 0);
    }
}
