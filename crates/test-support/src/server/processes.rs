//! The processes of a server: the first, which this process starts, and those that it starts itself.
//!
//! The latter may lead sessions of their own, so no process group holds them all. They are found as the children of the first
//! while that is stopped and can start no more.

use std::fs;
use std::io;
use std::process::Child;
use std::time::Duration;

use crate::{becomes_true, eventually};

/// Far beyond what a server needs for its start, a recovery or a shutdown on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Waits until `is_ready`, or the process has ended, which then cannot serve any more.
pub(crate) fn await_ready(
    server: &mut Child,
    mut is_ready: impl FnMut(&Child) -> bool,
) -> Result<(), String> {
    let mut ended = None;
    let ready = becomes_true(LIMIT, || {
        ended = server.try_wait().expect("the child can be waited for");
        ended.is_some() || is_ready(server)
    });
    match ended {
        None if ready => Ok(()),
        None => Err(format!("not ready after {LIMIT:?}")),
        Some(status) => Err(format!("ended ({status})")),
    }
}

/// Sends a signal to a process that has not been waited for, and so has its pid still.
pub(crate) fn signal(server: &Child, signal: libc::c_int) {
    send(pid_of(server), signal);
}

/// Waits until the process has ended, and calls `meanwhile` until then; says whether it has in time.
pub(crate) fn ends(server: &mut Child, mut meanwhile: impl FnMut(&Child)) -> bool {
    becomes_true(LIMIT, || {
        let ended = server.try_wait().expect("the child can be waited for");
        if ended.is_none() {
            meanwhile(server);
        }
        ended.is_some()
    })
}

/// Stops a process as `SIGSTOP` does, and waits until it is stopped.
pub(crate) fn pause(server: &Child) {
    let pid = pid_of(server);
    send(pid, libc::SIGSTOP);
    eventually("the server is stopped", || {
        Process::find(pid).is_none_or(|found| matches!(found.state, 'T' | 'Z' | 'X'))
    });
}

/// Kills a process and all that it has started, at one moment, and waits until they are gone.
pub(crate) fn kill_all(server: &mut Child) {
    pause(server);
    let pid = pid_of(server);
    let children: Vec<Process> = Process::all().filter(|one| one.parent == pid).collect();
    send(pid, libc::SIGKILL);
    for child in &children {
        send(child.pid, libc::SIGKILL);
    }
    server.wait().expect("the child can be waited for");
    eventually("the server's processes are gone", || {
        !children.iter().any(Process::is_alive)
    });
}

fn pid_of(child: &Child) -> libc::pid_t {
    libc::pid_t::try_from(child.id()).expect("a pid fits")
}

fn send(pid: libc::pid_t, signal: libc::c_int) {
    // SAFETY: it touches no memory.
    let sent = unsafe { libc::kill(pid, signal) };
    // A child of the server may have ended.
    let error = io::Error::last_os_error();
    assert!(
        sent == 0 || error.raw_os_error() == Some(libc::ESRCH),
        "signal {signal} to {pid}: {error}"
    );
}

/// A line of the system's list of processes.
#[derive(Debug)]
struct Process {
    pid: libc::pid_t,
    parent: libc::pid_t,
    state: char,
    /// When it started, in ticks: another process may get its pid.
    started: u64,
}

impl Process {
    fn find(pid: libc::pid_t) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in parentheses and may hold spaces; what follows it starts with field 3.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Self {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            state: fields.first()?.chars().next()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    fn all() -> impl Iterator<Item = Self> {
        let entries = fs::read_dir("/proc").expect("/proc is mounted");
        entries.filter_map(|entry| Self::find(entry.ok()?.file_name().to_str()?.parse().ok()?))
    }

    /// Whether it still runs. One that has ended and that nobody has waited for does not.
    fn is_alive(&self) -> bool {
        Self::find(self.pid)
            .is_some_and(|now| now.started == self.started && !matches!(now.state, 'Z' | 'X'))
    }
}
