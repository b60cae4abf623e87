//! Events in files, which processes append to and one process reads.
//!
//! A line begins with its break and ends with a mark, and is written by one call to a file that is open to append. So several
//! processes may share a file, and what a process that dies in mid-write leaves is a line without its mark, which says
//! nothing: it tells of no request that was sent, since that comes after the write.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::check::{Report, Rules, check};
use super::{Event, What};

const MARK: &str = " .";

/// The time of the host's steady clock, in nanoseconds: the same for all processes of a host.
#[cfg(unix)]
pub fn now() -> u64 {
    // SAFETY: all zeroes is a time.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is valid for a write.
    let told = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    assert_eq!(told, 0, "{}", io::Error::last_os_error());
    let seconds = u64::try_from(time.tv_sec).expect("the clock began at zero");
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).expect("it is below a second")
}

/// The time since 1970, where there is no steady clock that processes share.
#[cfg(not(unix))]
pub fn now() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("the clock is right");
    u64::try_from(since.as_nanos()).expect("this century")
}

/// Appends events to a file. May be shared by threads.
#[derive(Debug)]
pub struct Recorder {
    file: File,
    by: String,
}

impl Recorder {
    /// Of the process, in this life of it, that is called `by`.
    ///
    /// # Errors
    ///
    /// If the file can be neither made nor opened.
    pub fn append_to(file: impl AsRef<Path>, by: impl Into<String>) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(file)?;
        Ok(Self {
            file,
            by: by.into(),
        })
    }

    /// Records that something happens now. When it returns no kill of this process takes it back.
    ///
    /// # Panics
    ///
    /// If it cannot be written: a history with gaps proves nothing.
    pub fn record(&self, what: What) {
        let event = Event {
            at: now(),
            by: self.by.clone(),
            what,
        };
        let line = format!("\n{event}{MARK}");
        let written = (&self.file).write(line.as_bytes());
        assert_eq!(
            written.expect("the file takes a line"),
            line.len(),
            "{event}"
        );
    }
}

/// All that was recorded, in the order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The events.
    pub events: Vec<Event>,
    /// How many lines had no end, because their process died.
    pub torn: usize,
}

impl History {
    /// Judges it.
    pub fn check(&self, rules: &Rules) -> Report {
        check(&self.events, rules)
    }
}

/// Reads the files of all recorders. One that does not exist has no events.
///
/// # Errors
///
/// A file that cannot be read, or has a line that is no event.
pub fn read<P: AsRef<Path>>(files: impl IntoIterator<Item = P>) -> Result<History, String> {
    let mut history = History::default();
    for file in files {
        let file = file.as_ref();
        let told = match fs::read(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            told => told.map_err(|error| format!("{}: {error}", file.display()))?,
        };
        for line in String::from_utf8_lossy(&told).lines() {
            match line.strip_suffix(MARK) {
                Some(line) => {
                    let event = line.parse();
                    let event = event.map_err(|error| format!("{}: {error}", file.display()))?;
                    history.events.push(event);
                }
                None if line.is_empty() => {}
                None => history.torn += 1,
            }
        }
    }
    history.events.sort_by_key(|event| event.at);
    Ok(history)
}
