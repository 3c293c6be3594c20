// SPDX-License-Identifier: GPL-2.0

//! Results: the file they are kept in, the table, and the sum.

use std::fmt::{self, Display};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::ktap::Counts;

const HEADER: &str = "kernel\ttest\tresult\tpassed\tfailed\tskipped\tseconds";

/// What one test came to on one kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub kernel: String,
    pub test: String,
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    pub seconds: f64,
}

impl Row {
    pub fn new(kernel: &str, test: &str, counts: Counts, seconds: f64) -> Self {
        Self {
            kernel: kernel.to_string(),
            test: test.to_string(),
            passed: counts.passed,
            failed: counts.failed + counts.missing,
            skipped: counts.skipped,
            seconds,
        }
    }

    pub fn result(&self) -> &'static str {
        if self.failed > 0 || self.passed + self.skipped == 0 {
            "fail"
        } else if self.skipped > 0 {
            "skip"
        } else {
            "pass"
        }
    }

    fn parse(line: &str) -> Result<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[kernel, test, result, passed, failed, skipped, seconds] = fields.as_slice() else {
            bail!("{} fields instead of 7: {line:?}", fields.len());
        };
        let row = Self {
            kernel: kernel.to_string(),
            test: test.to_string(),
            passed: passed.parse().context("passed")?,
            failed: failed.parse().context("failed")?,
            skipped: skipped.parse().context("skipped")?,
            seconds: seconds.parse().context("seconds")?,
        };
        ensure!(
            result == row.result(),
            "the result is {result:?}, but the counts say {:?}: {line:?}",
            row.result()
        );
        Ok(row)
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\t{}\t{}\t{}\t{}\t{}\t{:.1}",
            self.kernel,
            self.test,
            self.result(),
            self.passed,
            self.failed,
            self.skipped,
            self.seconds
        )
    }
}

/// Writes a file of results anew.
pub fn write(file: &Path, rows: &[Row]) -> Result<()> {
    let mut text = format!("{HEADER}\n");
    for row in rows {
        text += &format!("{row}\n");
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

pub fn read(file: &Path) -> Result<Vec<Row>> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("cannot read {}: did the run end early?", file.display()))?;
    let mut lines = text.lines();
    ensure!(
        lines.next() == Some(HEADER),
        "{}: this is not a file of results: its first line must be {HEADER:?}",
        file.display()
    );
    lines
        .enumerate()
        .map(|(i, line)| Row::parse(line).with_context(|| format!("{}:{}", file.display(), i + 2)))
        .collect()
}

/// The sum over `rows`, and whether it is what it must be.
pub struct Sum {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Sum {
    pub fn of(rows: &[Row]) -> Self {
        Self {
            passed: rows.iter().map(|row| row.passed).sum(),
            failed: rows.iter().map(|row| row.failed).sum(),
            skipped: rows.iter().map(|row| row.skipped).sum(),
        }
    }

    pub fn good(&self) -> bool {
        self.failed == 0 && self.skipped == 0 && self.passed > 0
    }
}

impl Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

pub fn print_table(rows: &[Row]) {
    let width = |head: &str, of: fn(&Row) -> &str| {
        rows.iter()
            .map(|row| of(row).chars().count())
            .chain([head.len()])
            .max()
            .unwrap_or_default()
    };
    let kernel = width("kernel", |row| &row.kernel);
    let test = width("test", |row| &row.test);

    println!(
        "{:kernel$}  {:test$}  result  passed  failed  skipped  seconds",
        "kernel", "test"
    );
    for row in rows {
        println!(
            "{:kernel$}  {:test$}  {:<6}  {:>6}  {:>6}  {:>7}  {:>7.1}",
            row.kernel,
            row.test,
            row.result(),
            row.passed,
            row.failed,
            row.skipped,
            row.seconds
        );
    }
}

/// Print the results of several runs as one table, and their sum
#[derive(clap::Args)]
pub struct ReportArgs {
    /// Files of results, as "boot" and "record" write them
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

pub fn report(args: &ReportArgs) -> Result<bool> {
    let mut rows = Vec::new();
    for file in &args.files {
        rows.extend(read(file)?);
    }
    print_table(&rows);
    let sum = Sum::of(&rows);
    println!();
    println!("{sum}");
    Ok(sum.good())
}

/// Add a result that did not come from a boot
#[derive(clap::Args)]
pub struct RecordArgs {
    /// The file of results; made if there is none
    #[arg(long)]
    file: PathBuf,
    /// The kernel, or what was tested instead of one
    #[arg(long)]
    kernel: String,
    #[arg(long)]
    test: String,
    #[arg(long, default_value_t = 0)]
    passed: u64,
    #[arg(long, default_value_t = 0)]
    failed: u64,
    #[arg(long, default_value_t = 0)]
    skipped: u64,
    #[arg(long, default_value_t = 0.0)]
    seconds: f64,
}

pub fn record(args: &RecordArgs) -> Result<()> {
    ensure!(
        args.passed + args.failed + args.skipped > 0,
        "{}: nothing was counted: no case ran, or --passed, --failed and --skipped are missing",
        args.test
    );
    for name in [&args.kernel, &args.test] {
        ensure!(
            !name.contains(['\t', '\n']),
            "{name:?}: a name in a file of results has no tab and no newline"
        );
    }
    let counts = Counts {
        passed: args.passed,
        failed: args.failed,
        skipped: args.skipped,
        missing: 0,
    };
    let row = Row::new(&args.kernel, &args.test, counts, args.seconds);
    if !args.file.exists() {
        return write(&args.file, &[row]);
    }
    read(&args.file)?;
    OpenOptions::new()
        .append(true)
        .open(&args.file)
        .and_then(|mut file| writeln!(file, "{row}"))
        .with_context(|| format!("cannot write {}", args.file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(passed: u64, failed: u64, skipped: u64) -> Row {
        Row {
            kernel: "x y=n".to_string(),
            test: "t".to_string(),
            passed,
            failed,
            skipped,
            seconds: 1.5,
        }
    }

    #[test]
    fn results() {
        assert_eq!(row(1, 0, 0).result(), "pass");
        assert_eq!(row(1, 0, 1).result(), "skip");
        assert_eq!(row(1, 1, 1).result(), "fail");
        assert_eq!(row(0, 0, 0).result(), "fail");
    }

    #[test]
    fn there_and_back() {
        let row = row(3, 2, 1);
        assert_eq!(Row::parse(&row.to_string()).unwrap(), row);
        assert!(Row::parse("x\tt\tpass\t3\t2\t1\t1.5").is_err());
        assert!(Row::parse("x\tt\tfail\t3\t2\t1").is_err());
        assert!(Row::parse("x\tt\tfail\t3\tmany\t1\t1.5").is_err());
    }

    #[test]
    fn sums() {
        let sum = Sum::of(&[row(1, 0, 0), row(2, 0, 0)]);
        assert_eq!(sum.to_string(), "3 passed, 0 failed, 0 skipped");
        assert!(sum.good());
        assert!(!Sum::of(&[]).good());
        assert!(!Sum::of(&[row(1, 0, 1)]).good());
        assert!(!Sum::of(&[row(1, 1, 0)]).good());
    }
}
