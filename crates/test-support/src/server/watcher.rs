//! A process that ends a server when the process that started it is gone, however that went.
//!
//! Not the kernel's signal to the children of a process that dies: it is sent when the *thread* that started the child
//! ends, and the thread of a test ends before those that share its server. Nor a drop: a static has none.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const SCRIPT: &str = include_str!("watcher.sh");

/// Watches this process from the moment that it is started, and ends the server in its folder when this process is gone.
#[derive(Debug)]
pub(super) struct Watcher(Child);

impl Watcher {
    /// To be started before there is a server, or a folder. Each process of the server has an argument, or a title that it
    /// gives itself, that matches the extended regular expression `processes`; the expression itself must not match it.
    pub(super) fn start(folder: &Path, processes: &str) -> Self {
        let child = Command::new("sh")
            .args(["-c", SCRIPT])
            .arg(folder.file_name().expect("the folder has a name"))
            .arg(processes)
            .current_dir(folder.parent().expect("the folder is in another"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Not of the group that a terminal or a runner ends.
            .process_group(0)
            .spawn();
        Self(child.expect("a shell starts"))
    }

    /// Tells it that there is nothing left to end.
    pub(super) fn dismiss(&mut self) {
        if let Some(mut told) = self.0.stdin.take() {
            let _ = told.write_all(b"\n");
        }
        let _ = self.0.wait();
    }
}
