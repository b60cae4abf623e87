//! What is of Postgres alone in its processes: the file that the postmaster keeps, and a segment of shared memory.

use std::fs;
use std::path::Path;
use std::process::Child;

/// Whether the server accepts connections, as `pg_ctl` looks: by the file that the postmaster keeps.
pub(super) fn is_ready(postmaster: &Child, data: &Path) -> bool {
    let lines = read_pid_file(data);
    // The file may be that of a server that was killed.
    let ours = lines.first() == Some(&postmaster.id().to_string());
    ours && lines.get(7).is_some_and(|status| status.trim() == "ready")
}

/// The lines of `postmaster.pid`, of which the first is the pid, the seventh tells the shared memory and the eighth is the
/// server's state.
fn read_pid_file(data: &Path) -> Vec<String> {
    let text = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
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
