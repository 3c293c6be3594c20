// SPDX-License-Identifier: GPL-2.0

//! Programs of this machine: run here, or taken to a guest with the libraries that they need.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A program and its libraries, as gen_init_cpio takes them: the program as `name` below /usr, the
/// libraries below /lib, where the loader looks for them.
pub fn program_files(program: &Path, name: &str) -> Result<String> {
    let mut files = format!(
        "dir /usr 755 0 0\ndir /lib 755 0 0\ndir /lib64 755 0 0\nfile {name} {} 755 0 0\n",
        resolved(program)?
    );
    for line in output(Command::new("ldd").arg(program))?.lines() {
        // "libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x...)", and the loader without an arrow
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [name, "=>", path, ..] if path.starts_with('/') => {
                writeln!(
                    files,
                    "file /lib/{name} {} 755 0 0",
                    resolved(path.as_ref())?
                )?;
            }
            [path, _] if path.starts_with('/') => {
                writeln!(files, "file {path} {} 755 0 0", resolved(path.as_ref())?)?;
            }
            _ => {}
        }
    }
    Ok(files)
}

fn resolved(path: &Path) -> Result<String> {
    let path = fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()))?;
    Ok(path.display().to_string())
}

/// What a command prints.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}: is it installed?"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
