//! Processes of this program: one for each row, so that no row finds what another one has left in the allocator,
//! in threads that are slow to end, or in what all queues of a process share; and one that keeps a processor busy.

use std::env;
use std::hint;
use std::process::{Child, Command, Stdio};

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

fn this_program() -> Command {
    Command::new(env::current_exe().expect("the program knows its own file"))
}
