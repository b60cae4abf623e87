//! The processes of a server: the postmaster, which this process starts, and those that the postmaster starts.
//!
//! Each of the latter leads a session of its own, so no process group holds them all. They are found as the postmaster's
//! children while it is stopped and can start no more.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use crate::{becomes_true, eventually};

/// Far beyond what a server needs for its start, a recovery or a shutdown on a busy machine.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// Waits until the server accepts connections, as `pg_ctl` does: by the file that the postmaster keeps. If its process
/// ends before, the server cannot start.
pub(super) fn await_ready(postmaster: &mut Child, data: &Path) -> Result<(), String> {
    let mut ended = None;
    let ready = becomes_true(LIMIT, || {
        ended = postmaster.try_wait().expect("the child can be waited for");
        ended.is_some() || {
            let lines = read_pid_file(data);
            // The file may be that of a server that was killed.
            let ours = lines.first() == Some(&postmaster.id().to_string());
            ours && lines.get(7).is_some_and(|status| status.trim() == "ready")
        }
    });
    match ended {
        None if ready => Ok(()),
        None => Err(format!("not ready after {LIMIT:?}")),
        Some(status) => Err(format!("ended ({status})")),
    }
}

/// The lines of `postmaster.pid`, of which the first is the pid, the seventh tells the shared memory and the eighth is the
/// server's state.
fn read_pid_file(data: &Path) -> Vec<String> {
    let text = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Sends a signal to a postmaster that has not been waited for, and so has its pid still.
pub(super) fn signal(postmaster: &Child, signal: libc::c_int) {
    send(pid_of(postmaster), signal);
}

/// Waits until the postmaster has ended; says whether it has in time.
pub(super) fn ends(postmaster: &mut Child) -> bool {
    becomes_true(LIMIT, || {
        let ended = postmaster.try_wait().expect("the child can be waited for");
        ended.is_some()
    })
}

/// Kills the postmaster and all that it has started, at one moment, and waits until they are gone.
pub(super) fn kill_all(postmaster: &mut Child) {
    let pid = pid_of(postmaster);
    send(pid, libc::SIGSTOP);
    eventually("the postmaster is stopped", || {
        Process::find(pid).is_none_or(|found| matches!(found.state, 'T' | 'Z' | 'X'))
    });
    let children: Vec<Process> = Process::all().filter(|one| one.parent == pid).collect();
    send(pid, libc::SIGKILL);
    for child in &children {
        send(child.pid, libc::SIGKILL);
    }
    postmaster.wait().expect("the child can be waited for");
    eventually("the server's processes are gone", || {
        !children.iter().any(Process::is_alive)
    });
}

/// Removes the segment of shared memory that a killed server has left: a few bytes that show others that it runs.
pub(super) fn remove_shared_memory(data: &Path) {
    let lines = read_pid_file(data);
    let segment = lines
        .get(6)
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    if let Some(segment) = segment {
        // SAFETY: no buffer is read or written; an id that is none any more is an error without effect.
        unsafe { libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut()) };
    }
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
