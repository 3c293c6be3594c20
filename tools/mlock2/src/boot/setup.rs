// SPDX-License-Identifier: GPL-2.0

//! What a boot is made of, as the command line gives it: a kernel, and how its guest is set up.

use std::path::PathBuf;

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Accel {
    /// KVM, if a trial boot with it works
    Auto,
    Kvm,
    Tcg,
}

/// What comes from the kernel's build tree
#[derive(clap::Args)]
pub struct Kernel {
    /// The kernel
    #[arg(long)]
    pub image: PathBuf,
    /// usr/gen_init_cpio of the kernel's build tree
    #[arg(long)]
    pub gen_init_cpio: PathBuf,
}

/// How a guest is set up, whichever kernel it runs
#[derive(Clone, clap::Args)]
pub struct Setup {
    /// The machine emulator; without it, the kernel is a program by itself (User-Mode Linux)
    #[arg(long)]
    pub qemu: Option<String>,
    /// Its arguments for this architecture, such as "-M q35 -cpu max"
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub qemu_args: String,
    /// The guest's serial console, such as "ttyS0"
    #[arg(long)]
    pub console: String,
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    pub accel: Accel,
    /// What QEMU is to do without KVM, such as "tcg,thread=single"
    #[arg(long, default_value = "tcg")]
    pub tcg: String,
    /// The guest's PID 1
    #[arg(long)]
    pub init: PathBuf,
    /// Where the plan's programs are; may be given several times, the first one that has it wins
    #[arg(long, required = true)]
    pub bin: Vec<PathBuf>,
    /// A file that the programs find in the guest's root; may be given several times
    #[arg(long)]
    pub file: Vec<PathBuf>,
    /// More kernel parameters
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub append: String,
    /// Memory of the guest in MiB
    #[arg(long, default_value_t = 1024, overrides_with = "mem")]
    pub mem: u32,
    #[arg(long, default_value_t = 2, overrides_with = "cpus")]
    pub cpus: u32,
    /// Data races that are known to be the kernel's own and do not count, by words that are in the
    /// report: those of one separated by '&', and one from the other by '|'
    #[arg(long, default_value = "", value_delimiter = '|')]
    pub known: Vec<String>,
    /// Seconds from the start to init
    #[arg(long, default_value_t = 300)]
    pub init_limit: u64,
    /// Seconds for the whole boot
    #[arg(long, default_value_t = 900)]
    pub timeout: u64,
    /// Seconds for one program
    #[arg(long, default_value_t = 300)]
    pub limit: u64,
    /// Show the console as it comes
    #[arg(long)]
    pub verbose: bool,
    /// More files for the guest, as gen_init_cpio takes them
    #[arg(skip)]
    pub files: String,
}
