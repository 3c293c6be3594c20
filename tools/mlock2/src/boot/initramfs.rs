// SPDX-License-Identifier: GPL-2.0

//! The initramfs: init, the plan, and the programs of the plan.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::plan::Plan;
use super::setup::{Kernel, Setup};

/// Makes the initramfs in `work`. Returns its path.
pub fn make(kernel: &Kernel, setup: &Setup, work: &Path, plan: &Plan) -> Result<PathBuf> {
    for (file, hint) in [
        (&kernel.image, "build the kernel first"),
        (
            &kernel.gen_init_cpio,
            "it comes with a kernel that has CONFIG_BLK_DEV_INITRD=y",
        ),
        (&setup.init, "build guest/init.c first"),
    ] {
        ensure!(file.is_file(), "no file {}: {hint}", file.display());
    }
    let absolute = |path: &Path| -> Result<String> {
        let path = path.canonicalize()?;
        match path.to_str() {
            Some(text) if !text.contains(char::is_whitespace) => Ok(text.to_string()),
            _ => bail!(
                "gen_init_cpio takes no path with blanks: {}",
                path.display()
            ),
        }
    };
    let write = |name: &str, text: &str| -> Result<PathBuf> {
        let path = work.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };

    let text: String = plan.0.iter().map(|e| format!("{}\n", e.line)).collect();
    let plan_file = write("plan", &text)?;
    let mut list = String::new();
    for dir in ["/dev", "/proc", "/sys", "/tmp", "/bin"] {
        list += &format!("dir {dir} 755 0 0\n");
    }
    list += "nod /dev/console 600 0 0 c 5 1\n";
    list += &format!("file /init {} 755 0 0\n", absolute(&setup.init)?);
    list += &format!("file /plan {} 644 0 0\n", absolute(&plan_file)?);
    for file in &setup.file {
        let path = absolute(file).with_context(|| format!("no file {}", file.display()))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        list += &format!("file /{name} {path} 755 0 0\n");
    }
    let mut programs: Vec<&str> = plan.0.iter().map(|e| e.program.as_str()).collect();
    programs.sort_unstable();
    programs.dedup();
    let mut dirs: Vec<&str> = programs
        .iter()
        .filter_map(|program| Some(program.rsplit_once('/')?.0))
        .collect();
    dirs.dedup();
    for dir in dirs {
        list += &format!("dir /bin/{dir} 755 0 0\n");
    }
    for program in programs {
        // The guest reports the ones that are missing.
        if let Some(path) = setup
            .bin
            .iter()
            .map(|dir| dir.join(program))
            .find(|p| p.is_file())
        {
            list += &format!("file /bin/{program} {} 755 0 0\n", absolute(&path)?);
        }
    }
    list += &setup.files;
    let list = write("initramfs.list", &list)?;

    let initramfs = work.join("initramfs.cpio");
    let status = Command::new(&kernel.gen_init_cpio)
        .arg(&list)
        .stdout(File::create(&initramfs)?)
        .status()
        .with_context(|| format!("cannot run {}", kernel.gen_init_cpio.display()))?;
    ensure!(
        status.success(),
        "{} {} failed: {status}",
        kernel.gen_init_cpio.display(),
        list.display()
    );
    Ok(initramfs)
}
