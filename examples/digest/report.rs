//! What the program says: digests on standard output; progress, failures and numbers on standard error.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use indicatif::{HumanBytes, HumanCount, ProgressBar};
use sha2::Sha256;
use sha2::digest::Output;

use crate::engine::Crew;

/// Lines are written in chunks of about this many bytes, or with the next tick.
const CHUNK: usize = 64 * 1024;

pub(crate) struct Report {
    files: AtomicU64,
    bytes: AtomicU64,
    links: AtomicU64,
    special: AtomicU64,
    failed: AtomicU64,
    stopped: AtomicBool,
    lines: Mutex<Vec<u8>>,
    /// Hidden by itself unless standard error is a terminal.
    progress: ProgressBar,
    begun: Instant,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            links: AtomicU64::new(0),
            special: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            lines: Mutex::new(Vec::with_capacity(CHUNK + 1024)),
            progress: ProgressBar::new_spinner(),
            begun: Instant::now(),
        }
    }

    /// Nobody reads any more: what runs should end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    pub(crate) fn read(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn passed_over_link(&self) {
        self.links.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn passed_over_special(&self) {
        self.special.fetch_add(1, Ordering::Relaxed);
    }

    /// The line of one file.
    pub(crate) fn line(&self, sha256: &Output<Sha256>, path: &Path) {
        self.files.fetch_add(1, Ordering::Relaxed);
        let name = path.as_os_str();
        let mut lines = self.lines.lock().expect("nothing panics under this lock");
        if needs_escape(name) {
            lines.push(b'\\');
        }
        write!(lines, "{sha256:x}  ").expect("a Vec takes all");
        push_escaped(&mut lines, name);
        lines.push(b'\n');
        if lines.len() >= CHUNK {
            self.write(&mut lines);
        }
    }

    /// What could not be read, and why; on one line, whatever the name.
    pub(crate) fn fail(&self, what: impl AsRef<OsStr>, why: &(impl Display + ?Sized)) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut line = b"digest: ".to_vec();
        push_escaped(&mut line, what.as_ref());
        writeln!(line, ": {why}").expect("a Vec takes all");
        // If that fails, there is nobody left to tell.
        let _ = self.progress.suspend(|| io::stderr().write_all(&line));
    }

    /// Writes what waits, draws the progress.
    pub(crate) fn tick(&self) {
        self.write(&mut self.lines.lock().expect("nothing panics under this lock"));
        if !self.progress.is_hidden() {
            let (files, bytes) = (
                self.files.load(Ordering::Relaxed),
                self.bytes.load(Ordering::Relaxed),
            );
            self.progress.set_message(format!(
                "{} files, {}",
                HumanCount(files),
                HumanBytes(bytes)
            ));
            self.progress.tick();
        }
    }

    /// Called under the lock of the lines, so that each comes out whole.
    fn write(&self, lines: &mut Vec<u8>) {
        if !self.is_stopped() && !lines.is_empty() {
            let mut stdout = io::stdout().lock();
            let written = self
                .progress
                .suspend(|| stdout.write_all(lines).and_then(|()| stdout.flush()));
            if let Err(error) = written {
                self.stopped.store(true, Ordering::Relaxed);
                if error.kind() != io::ErrorKind::BrokenPipe {
                    self.fail("standard output", &error);
                }
            }
        }
        lines.clear();
    }

    /// The last lines and the numbers.
    pub(crate) fn finish(&self, crew: &Crew) {
        self.tick();
        self.progress.finish_and_clear();
        if self.is_stopped() {
            return;
        }
        // If that fails, there is nobody left to tell.
        let _ = self.write_numbers(&mut io::stderr().lock(), crew);
    }

    fn write_numbers(&self, out: &mut impl Write, crew: &Crew) -> io::Result<()> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (bytes, time) = (count(&self.bytes), self.begun.elapsed());
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = bytes as f64 / 1e6 / time.as_secs_f64();
        writeln!(out, "files: {}", count(&self.files))?;
        writeln!(out, "bytes: {bytes}")?;
        writeln!(out, "failed: {}", count(&self.failed))?;
        writeln!(out, "links passed over: {}", count(&self.links))?;
        writeln!(out, "special files passed over: {}", count(&self.special))?;
        writeln!(out, "time: {time:.2?}")?;
        writeln!(out, "MB/s: {rate:.1}")?;
        writeln!(out, "peak workers: {}", crew.peak)?;
        writeln!(out, "threads started: {}", crew.started)?;
        match crew.stats {
            Some(stats) => writeln!(out, "{stats:?}"),
            None => Ok(()),
        }
    }

    /// The engine could not do it, or not all of it.
    pub(crate) fn abandon(&self, why: &(dyn Error + Send + Sync)) {
        self.tick();
        self.progress.finish_and_clear();
        self.fail("engine", why);
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        if self.failed.load(Ordering::Relaxed) == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// GNU marks a line whose name is escaped with a backslash in front.
fn needs_escape(name: &OsStr) -> bool {
    name.as_encoded_bytes()
        .iter()
        .any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'))
}

/// All other bytes stay as they are, text or not.
fn push_escaped(line: &mut Vec<u8>, name: &OsStr) {
    for byte in name.as_encoded_bytes() {
        match byte {
            b'\\' => line.extend(b"\\\\"),
            b'\n' => line.extend(b"\\n"),
            b'\r' => line.extend(b"\\r"),
            other => line.push(*other),
        }
    }
}
