//! What private servers of all kinds share: a folder, a log, a watcher, and processes that are really killed.
//!
//! The folder is made after its [`Watcher`] has started and removed before that is dismissed, so at no moment is there
//! something of a server that nobody would remove.

pub(crate) mod processes;
pub(crate) mod programs;
mod watcher;

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use self::watcher::Watcher;
use crate::scratch;

/// The folder of one server, which is removed when this is dropped; by then its processes must have ended.
#[derive(Debug)]
pub(crate) struct Home {
    folder: PathBuf,
    watcher: Watcher,
}

impl Home {
    /// Makes a folder that only this user can enter. `kind` begins its name; `processes` makes the pattern from it by which
    /// the server's processes are known, see [`Watcher::start`].
    pub(crate) fn new(kind: &str, processes: impl FnOnce(&str) -> String) -> Self {
        // With the pid for those who look; by chance, since a pid comes again.
        let name = format!(
            "{kind}-{}-{:08x}",
            std::process::id(),
            rand::random::<u32>()
        );
        let folder = scratch::folder().join(&name);
        let watcher = Watcher::start(&folder, &processes(&name));
        scratch::make_private_folder(&folder);
        Self { folder, watcher }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn name(&self) -> String {
        let name = self.folder.file_name().expect("it has one");
        name.to_string_lossy().into_owned()
    }

    /// The log, to be appended to, and how long it is now.
    pub(crate) fn open_log(&self) -> (File, usize) {
        let log = self.folder.join("log");
        let log = OpenOptions::new().create(true).append(true).open(log);
        let log = log.expect("the folder can be written to");
        let length = log.metadata().map_or(0, |found| found.len());
        (log, usize::try_from(length).expect("a log fits"))
    }

    pub(crate) fn log(&self) -> String {
        self.log_from(0)
    }

    /// What was logged since the log was `length` long.
    pub(crate) fn log_from(&self, length: usize) -> String {
        let log = fs::read(self.folder.join("log")).unwrap_or_default();
        let told = log.get(length..).unwrap_or_default();
        String::from_utf8_lossy(told).into_owned()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.folder) {
            Ok(()) => self.watcher.dismiss(),
            // It tries again when this process is gone.
            Err(error) => eprintln!("{} stays: {error}", self.folder.display()),
        }
    }
}
