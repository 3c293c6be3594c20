// SPDX-License-Identifier: GPL-2.0

//! Reads what user space is promised on every architecture: the numbers of the system calls and the
//! flags, from the kernel's tables and headers; and looks that our code has no such number itself.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

const CALLS: [&str; 5] = ["mlock", "munlock", "mlockall", "munlockall", "mlock2"];
const FLAGS: [&str; 4] = ["MLOCK_ONFAULT", "MCL_CURRENT", "MCL_FUTURE", "MCL_ONFAULT"];
/// The table of those that have none of their own.
const GENERIC: &str = "scripts/syscall.tbl";
/// It has the tables and the headers of the architecture that it runs on.
const WITHOUT_ITS_OWN: &str = "um";

/// Show the numbers of the mlock family on every architecture, and that our code takes them from
/// there
#[derive(clap::Args)]
pub struct Args {
    /// The kernel source with our files
    #[arg(long)]
    linux: PathBuf,
    /// A C compiler, which only has to read headers
    #[arg(long, default_value = "cc")]
    cc: String,
}

pub fn run(args: &Args) -> Result<bool> {
    let mut arches = Vec::new();
    for entry in fs::read_dir(args.linux.join("arch"))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && entry.file_name() != WITHOUT_ITS_OWN {
            arches.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    let promised = promises().filter_map(|row| row.split(' ').next());
    arches.extend(promised.map(String::from));
    arches.sort();
    arches.dedup();

    println!("KTAP version 1\n1..{}", arches.len() + 1);
    println!(
        "#   {:<12} {:<12} {:>6}  {}",
        "arch",
        "ABI",
        "mlock2",
        FLAGS.join(" ")
    );
    let mut all_good = true;
    let mut result = |number: usize, name: &str, faults: &[String]| {
        for fault in faults {
            println!("#   {fault}");
        }
        let good = if faults.is_empty() { "ok" } else { "not ok" };
        println!("{good} {number} {name}");
        all_good &= faults.is_empty();
    };
    for (number, arch) in (1..).zip(&arches) {
        result(number, arch, &architecture(args, arch)?);
    }
    let faults = numbers_of_ours(&args.linux)?;
    result(
        arches.len() + 1,
        "our code has the flags from the bindings",
        &faults,
    );
    Ok(all_good)
}

/// Prints the rows of an architecture. Returns what is wrong with it.
fn architecture(args: &Args, arch: &str) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let flags = flags(args, arch)?;
    let mut values = Vec::new();
    for name in FLAGS {
        match flags.get(name) {
            Some(value) => values.push(*value),
            None => faults.push(format!("its headers have no {name}")),
        }
    }
    if let &[on_fault, ref mcl @ ..] = values.as_slice() {
        let union = mcl.iter().fold(0, |all, flag| all | flag);
        if on_fault.count_ones() != 1 || mcl.iter().any(|flag| flag.count_ones() != 1) {
            faults.push("a flag is not one bit".to_string());
        }
        if union.count_ones() as usize != mcl.len() {
            faults.push("flags of mlockall() share a bit".to_string());
        }
    }
    let mut rows = Vec::new();
    let shown: Vec<String> = values.iter().map(|value| format!("{value:#x}")).collect();
    for table in tables(&args.linux, arch)? {
        let text = fs::read_to_string(args.linux.join(&table))
            .with_context(|| format!("cannot read {table}"))?;
        for call in CALLS {
            let entries = entries(&text, call);
            if entries.is_empty() {
                faults.push(format!("{table} has no {call}"));
            }
            for entry in entries {
                if entry.function != format!("sys_{call}") {
                    faults.push(format!("{table}: {call} is {}", entry.function));
                }
                if call == "mlock2" {
                    let abi = abi(&table, entry.abi);
                    let (number, shown) = (entry.number, shown.join(" "));
                    println!("#   {arch:<12} {abi:<12} {number:>6}  {shown}");
                    rows.push(format!("{arch} {abi} {number} {shown}"));
                }
            }
        }
    }
    let of_arch = |row: &&str| row.split(' ').next() == Some(arch);
    faults.extend(broken(&rows, promises().filter(of_arch)));
    Ok(faults)
}

/// What user space relies on: rows with single blanks.
fn promises() -> impl Iterator<Item = &'static str> {
    let lines = include_str!("uapi.txt").lines();
    lines.filter(|line| !line.starts_with('#'))
}

/// What is there and was not promised like that, and what was promised and is not there.
fn broken<'a>(rows: &[String], promised: impl Iterator<Item = &'a str>) -> Vec<String> {
    let promised: Vec<&str> = promised.collect();
    let new = rows.iter().filter(|row| !promised.contains(&row.as_str()));
    let gone = promised
        .iter()
        .filter(|row| !rows.iter().any(|r| r == *row));
    new.map(|row| format!("this was not promised: {row}"))
        .chain(gone.map(|row| format!("this was promised: {row}")))
        .collect()
}

/// The tables of an architecture's system calls, one for each of its ABIs.
fn tables(linux: &Path, arch: &str) -> Result<Vec<String>> {
    let mut tables = Vec::new();
    for dir in ["kernel/syscalls", "entry/syscalls", "tools"] {
        let dir = format!("arch/{arch}/{dir}");
        let Ok(entries) = fs::read_dir(linux.join(&dir)) else {
            continue;
        };
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with("syscall") && name.ends_with(".tbl") {
                tables.push(format!("{dir}/{name}"));
            }
        }
    }
    if tables.is_empty() {
        tables.push(GENERIC.to_string());
    }
    tables.sort();
    Ok(tables)
}

/// What to call an ABI: by the table's name, or if that says nothing, by what stands in it.
fn abi<'a>(table: &'a str, inside: &'a str) -> &'a str {
    let stem = table.rsplit('/').next().unwrap_or(table);
    let stem = stem.strip_suffix(".tbl").unwrap_or(stem);
    stem.strip_prefix("syscall_").unwrap_or(inside)
}

#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    number: u32,
    abi: &'a str,
    function: &'a str,
}

/// The lines "NUMBER ABI NAME FUNCTION..." of one call.
fn entries<'a>(table: &'a str, call: &str) -> Vec<Entry<'a>> {
    table
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let number = words.next()?.parse().ok()?;
            let abi = words.next()?;
            let name = words.next()?;
            let function = words.next()?;
            (name == call).then_some(Entry {
                number,
                abi,
                function,
            })
        })
        .collect()
}

/// The flags, as programs for this architecture see them.
fn flags(args: &Args, arch: &str) -> Result<BTreeMap<String, u32>> {
    let own = format!("arch/{arch}/include/uapi");
    let header = if args.linux.join(&own).join("asm/mman.h").exists() {
        "asm/mman.h"
    } else {
        // The kernel's build makes a header that includes this one.
        "asm-generic/mman.h"
    };
    let mut child = Command::new(&args.cc)
        .current_dir(&args.linux)
        .args([
            "-E",
            "-dM",
            "-nostdinc",
            "-I",
            &own,
            "-I",
            "include/uapi",
            "-x",
            "c",
            "-",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", args.cc))?;
    let mut stdin = child.stdin.take().context("no pipe to the compiler")?;
    writeln!(stdin, "#include <{header}>")?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{} cannot read <{header}> of {arch}",
        args.cc
    );
    Ok(defined(&String::from_utf8_lossy(&output.stdout)))
}

/// The numbers that "#define NAME NUMBER" has.
fn defined(text: &str) -> BTreeMap<String, u32> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.strip_prefix("#define ")?.split_once(' ')?;
            let value = match value.trim().strip_prefix("0x") {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => value.trim().parse(),
            };
            Some((name.to_string(), value.ok()?))
        })
        .collect()
}

/// Where our code, or a test of it, gives one of the flags a value that is not that of the bindings.
fn numbers_of_ours(linux: &Path) -> Result<Vec<String>> {
    let mut files = vec![linux.join("tools/testing/selftests/mm/mlock-helpers.h")];
    for dir in ["mm/mlock2", "rust/mm", "rust/kernel/mm"] {
        for entry in fs::read_dir(linux.join(dir))? {
            files.push(entry?.path());
        }
    }
    files.retain(|path| {
        path.extension()
            .is_some_and(|e| e == "rs" || e == "c" || e == "h")
    });
    let mut faults = Vec::new();
    let mut from_bindings = 0;
    for path in files {
        for (number, line) in (1..).zip(fs::read_to_string(&path)?.lines()) {
            for flag in FLAGS {
                match value_of(line, flag) {
                    Some(value) if value == format!("bindings::{flag} as i32;") => {
                        from_bindings += 1;
                    }
                    Some(_) => faults.push(format!("{}:{number}: {}", path.display(), line.trim())),
                    None => {}
                }
            }
        }
    }
    if from_bindings != FLAGS.len() {
        faults.push(format!(
            "{from_bindings} of {} flags come from the bindings",
            FLAGS.len()
        ));
    }
    Ok(faults)
}

/// What a line defines `name` as.
fn value_of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let line = line.split("//").next()?.trim();
    if let Some(rest) = line.strip_prefix("#define ") {
        return rest.strip_prefix(name)?.strip_prefix(' ').map(str::trim);
    }
    let (left, value) = line.split_once('=')?;
    let (_, declared) = left.split_once("const ")?;
    (declared.split(':').next()?.trim() == name).then_some(value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let text = "# 325 common mlock2 no\n325\tcommon\tmlock2\t\tsys_mlock2\n\
            149 common  mlock sys_mlock\n";
        let entry = Entry {
            number: 325,
            abi: "common",
            function: "sys_mlock2",
        };
        assert_eq!(entries(text, "mlock2"), [entry]);
        assert_eq!(entries(text, "munlock"), []);
        assert_eq!(
            abi("arch/mips/kernel/syscalls/syscall_n32.tbl", "n32"),
            "n32"
        );
        assert_eq!(
            abi("arch/sh/kernel/syscalls/syscall.tbl", "common"),
            "common"
        );
    }

    #[test]
    fn what_was_promised() {
        let rows = ["a 64 325 0x1".to_string(), "a 32 376 0x1".to_string()];
        assert!(broken(&rows, ["a 32 376 0x1", "a 64 325 0x1"].into_iter()).is_empty());
        assert_eq!(broken(&rows, ["a 64 325 0x1"].into_iter()).len(), 1);
        assert_eq!(broken(&rows[..1], ["a 64 325 0x2"].into_iter()).len(), 2);
        assert!(promises().any(|row| row == "x86 64 325 0x1 0x1 0x2 0x4"));
    }

    #[test]
    fn headers() {
        let flags = defined("#define MCL_FUTURE 0x4000\n#define MCL_CURRENT 8192\n#define X (1)\n");
        assert_eq!(flags.len(), 2);
        assert_eq!(flags["MCL_FUTURE"], 0x4000);
        assert_eq!(flags["MCL_CURRENT"], 8192);
    }

    #[test]
    fn numbers() {
        let line = "    pub(crate) const MCL_ONFAULT: i32 = bindings::MCL_ONFAULT as i32;";
        assert_eq!(
            value_of(line, "MCL_ONFAULT"),
            Some("bindings::MCL_ONFAULT as i32;")
        );
        assert_eq!(
            value_of("const MCL_ONFAULT: i32 = 4;", "MCL_ONFAULT"),
            Some("4;")
        );
        assert_eq!(value_of("#define MCL_ONFAULT 4", "MCL_ONFAULT"), Some("4"));
        assert_eq!(
            value_of("if flags & MCL_ONFAULT != 0 {", "MCL_ONFAULT"),
            None
        );
        assert_eq!(
            value_of("// const MCL_ONFAULT: i32 = 4;", "MCL_ONFAULT"),
            None
        );
    }
}
