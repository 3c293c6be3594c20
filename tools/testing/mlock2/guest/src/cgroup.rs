// SPDX-License-Identifier: GPL-2.0

//! A memory cgroup.

use std::fs;

use anyhow::{Context, Result};

use crate::file;

const ROOT: &str = "/sys/fs/cgroup";

/// A cgroup below the root, by its name.
pub struct Group(pub &'static str);

impl Group {
    /// Makes it, with the memory controller.
    pub fn make(&self) -> Result<()> {
        file::write(&format!("{ROOT}/cgroup.subtree_control"), "+memory")
            .context("want cgroup2 with the memory controller on /sys/fs/cgroup")?;
        let dir = format!("{ROOT}/{}", self.0);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {dir}"))
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> String {
        format!("{ROOT}/{}/{name}", self.0)
    }

    pub fn read(&self, name: &str) -> Result<String> {
        file::read(&self.file(name))
    }

    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        file::write(&self.file(name), text)
    }

    /// Moves this process into it.
    pub fn join(&self) -> Result<()> {
        self.write("cgroup.procs", "0")
    }

    /// Whether it has processes.
    pub fn is_populated(&self) -> Result<bool> {
        Ok(!self.read("cgroup.events")?.contains("populated 0"))
    }

    /// Asks for so many bytes to be reclaimed. An error of EAGAIN says that it had no more.
    pub fn reclaim(&self, bytes: usize) -> Result<(), i32> {
        fs::write(self.file("memory.reclaim"), bytes.to_string())
            .map_err(|error| error.raw_os_error().unwrap_or(0))
    }

    /// Fails if there are processes in it.
    pub fn remove(&self) -> Result<()> {
        Ok(fs::remove_dir(format!("{ROOT}/{}", self.0))?)
    }
}
