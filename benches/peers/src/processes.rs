//! Processes of this program: one for each row, so that no row finds what another one has left in the allocator,
//! in threads that are slow to end, or in what all queues of a process share; those that keep a processor busy; and the share of a processor that all of them get.

use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::{env, fs, hint, io};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a process is told that measures a row by itself, before the row's name.
pub(crate) const ROW: &str = "--row=";

/// What a process is told that keeps a processor busy.
pub(crate) const SPIN: &str = "--spin";

/// Has a process measure a row, with these options.
pub(crate) fn measure<T: DeserializeOwned>(row: &str, options: &[&str]) -> T {
    let output = this_program()
        .arg(format!("{ROW}{row}"))
        .args(options)
        .stderr(Stdio::inherit())
        .output()
        .expect("the system has a process to give");
    assert!(output.status.success(), "{row}: {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{row}: {error}"))
}

/// Tells the process that waits in `measure` what was found.
pub(crate) fn tell<T: Serialize>(found: &T) {
    let json = serde_json::to_string(found).expect("a record is plain data");
    println!("{json}");
}

pub(crate) fn spin() -> ! {
    loop {
        hint::spin_loop();
    }
}

/// A process that keeps a processor busy until this is dropped.
pub(crate) struct Busy(Child);

impl Busy {
    pub(crate) fn start() -> Self {
        let child = this_program().arg(SPIN).spawn();
        Self(child.expect("the system has a process to give"))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.kill().expect("it runs until it is killed");
        self.0.wait().expect("it was killed");
    }
}

/// A control group of this process's own, which grants it and its children a share of a processor until this is dropped.
pub(crate) struct Quota {
    share: f64,
    group: PathBuf,
    /// Where this process goes back to, as the group of a process that runs cannot be removed.
    before: PathBuf,
}

impl Quota {
    const PERIOD_US: f64 = 100_000.0;

    pub(crate) fn enter(share: f64) -> io::Result<Self> {
        let name = format!("anthill-peers-{}", process::id());
        let first = Path::new("/sys/fs/cgroup/cpu");
        let (before, second) = if first.is_dir() {
            (first, false)
        } else {
            (Path::new("/sys/fs/cgroup"), true)
        };
        let group = before.join(name);
        fs::create_dir(&group)?;
        let quota = Self {
            share,
            group,
            before: before.to_owned(),
        };
        let granted = (share * Self::PERIOD_US).round();
        if second {
            fs::write(
                quota.group.join("cpu.max"),
                format!("{granted} {}", Self::PERIOD_US),
            )?;
        } else {
            fs::write(
                quota.group.join("cpu.cfs_period_us"),
                Self::PERIOD_US.to_string(),
            )?;
            fs::write(quota.group.join("cpu.cfs_quota_us"), granted.to_string())?;
        }
        fs::write(quota.group.join("cgroup.procs"), process::id().to_string())?;
        Ok(quota)
    }

    pub(crate) fn told(&self) -> String {
        format!(", with a quota of {} processors", self.share)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let back = fs::write(self.before.join("cgroup.procs"), process::id().to_string());
        if let Err(error) = back.and_then(|()| fs::remove_dir(&self.group)) {
            eprintln!("{} is left behind: {error}", self.group.display());
        }
    }
}

fn this_program() -> Command {
    Command::new(env::current_exe().expect("the program knows its own file"))
}
