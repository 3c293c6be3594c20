// SPDX-License-Identifier: GPL-2.0

//! KVM or not: whether it works here, by a trial boot.

use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
#[cfg(feature = "bench")]
use anyhow::ensure;

use super::machine::{Ending, Machine, prepare};
use super::plan::Plan;
use super::setup::{Accel, Kernel, Setup};

/// How long a boot with nothing to do may take until KVM counts as not working.
const PROBE_LIMIT: Duration = Duration::from_secs(15);

pub enum Chosen {
    Asked(&'static str),
    Known(&'static str),
    /// KVM, as the trial boot worked.
    Worked,
    /// TCG, and why the trial boot with KVM failed.
    Failed(String),
    /// TCG, and why KVM cannot be tried.
    Without(String),
    /// The kernel is a program.
    Itself,
}

impl Chosen {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Asked(name) | Self::Known(name) => name,
            Self::Worked => "kvm",
            Self::Failed(_) | Self::Without(_) => "tcg",
            Self::Itself => "itself",
        }
    }
}

impl Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Self::Asked(_) => write!(f, "{name}, as asked for"),
            Self::Known("kvm") => write!(f, "kvm, which worked before"),
            Self::Known(_) => write!(f, "{name}: a trial boot with kvm failed before"),
            Self::Worked => write!(f, "{name}: a trial boot worked"),
            Self::Failed(why) => write!(f, "{name}: a trial boot with kvm failed: {why}"),
            Self::Without(why) => write!(f, "{name}: /dev/kvm: {why}"),
            Self::Itself => write!(f, "{name}: it is a program"),
        }
    }
}

/// Whether KVM works here is found out once in the life of the machine that this runs on.
pub struct Probe {
    file: PathBuf,
    key: String,
}

impl Probe {
    pub fn new(setup: &Setup, work: &Path) -> Self {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let qemu_args: Vec<&str> = setup.qemu_args.split_whitespace().collect();
        Self {
            file: work.parent().unwrap_or(work).join("kvm-probe"),
            key: format!(
                "{} {} {}",
                boot_id.trim(),
                setup.qemu.as_deref().unwrap_or_default(),
                qemu_args.join(" ")
            ),
        }
    }

    fn load(&self) -> Option<&'static str> {
        let text = fs::read_to_string(&self.file).ok()?;
        let outcome = text
            .lines()
            .find_map(|line| line.strip_prefix(&self.key)?.strip_prefix('\t'))?;
        match outcome {
            "kvm" => Some("kvm"),
            "tcg" => Some("tcg"),
            _ => None,
        }
    }

    /// It is only a cache: without it, the next boot tries again.
    pub fn store(&self, outcome: &str) {
        let _ = File::options()
            .append(true)
            .create(true)
            .open(&self.file)
            .and_then(|mut file| writeln!(file, "{}\t{outcome}", self.key));
    }
}

/// An error if a trial boot with KVM does not work here.
#[cfg(feature = "bench")]
pub fn require_kvm(kernel: &Kernel, setup: &Setup, work: &Path) -> Result<()> {
    let setup = Setup {
        accel: Accel::Auto,
        tcg: "tcg".to_string(),
        ..setup.clone()
    };
    let chosen = choose(kernel, &setup, "kvm", work, &Probe::new(&setup, work))?;
    ensure!(
        chosen.name() == "kvm",
        "KVM does not work here, so nothing was measured with it: {chosen}"
    );
    Ok(())
}

pub fn choose(
    kernel: &Kernel,
    setup: &Setup,
    name: &str,
    work: &Path,
    probe: &Probe,
) -> Result<Chosen> {
    if setup.qemu.is_none() {
        return Ok(Chosen::Itself);
    }
    match setup.accel {
        Accel::Kvm => return Ok(Chosen::Asked("kvm")),
        Accel::Tcg => return Ok(Chosen::Asked("tcg")),
        Accel::Auto => {}
    }
    if let Err(error) = File::options().read(true).write(true).open("/dev/kvm") {
        return Ok(Chosen::Without(error.to_string()));
    }
    if let Some(known) = probe.load() {
        return Ok(Chosen::Known(known));
    }
    // A /dev/kvm that opens can still hang the guest.
    println!("{name}: trying kvm (at most {} s)", PROBE_LIMIT.as_secs());
    let work = work.join("kvm-probe");
    fs::create_dir_all(&work)?;
    let guest = prepare(kernel, setup, &work, &Plan(Vec::new()), "kvm")?;
    let machine = Machine::start(guest, &work, false)?;
    let setup = Setup {
        timeout: PROBE_LIMIT.as_secs(),
        ..setup.clone()
    };
    let (ending, _) = machine.watch(&setup, &mut |_| Ok(()))?;
    Ok(match ending {
        Ending::Done => {
            probe.store("kvm");
            Chosen::Worked
        }
        Ending::NoInit | Ending::TimedOut => {
            Chosen::Failed("it did not come to its end in time".to_string())
        }
        Ending::Stopped => {
            let errors = fs::read_to_string(work.join("qemu.log")).unwrap_or_default();
            let why = errors.lines().next().unwrap_or("it stopped early");
            Chosen::Failed(why.to_string())
        }
    })
}
