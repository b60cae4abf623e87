//! The identity of a queue's files, so that what is acknowledged is where others see it: the database, its log (`-wal`) and
//! the log's index (`-shm`).
//!
//! SQLite locks the database with POSIX locks, and a process loses all its locks on a file as soon as anything in it opens
//! and closes that file, as a copy does. Another process then takes itself for the last one, and unlinks log and index
//! when it is done; and a process that has them open goes on to write where nothing will ever read. The same happens to a
//! database that is deleted, moved or replaced.
//!
//! - FI1. A store has its files open, so no other file gets their inodes: the files are its own as long as the paths lead to
//!   the same inodes as when it was opened.
//! - FI2. That is checked under the lock of a writer, before the first write, and after the commit, before any result is
//!   handed out; and after each read. A store that finds other files is *detached*, and stays so.
//!   A writer takes the lock again before each of these checks ([`relock`](super::relock)): a process that unlinks the log
//!   after the last one sees what was committed before it.
//! - FI3. No connection of anthill unlinks a log: see `connection::connect`.
//! - FI4. A detached store writes nothing, does not checkpoint, and closes its connections: SQLite makes all connections
//!   of a process to the same database share an index, and so a stale index with new connections.
//! - FI5. No file in use is opened here: closing it would drop the locks.

use super::relock;
use crate::QueueError;
use crate::sync::lock;
use rusqlite::Connection;
use std::ffi::OsString;
#[cfg(unix)]
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The identity of a file, whatever its name. On systems without one an open file cannot be unlinked or replaced
/// either.
#[cfg(unix)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Id {
    device: u64,
    inode: u64,
}

#[cfg(unix)]
impl Id {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn of(path: &Path) -> io::Result<Id> {
        use rustix::fs::{AtFlags, CWD, StatxFlags, makedev};
        use rustix::io::Errno;
        // The inode and nothing else: a request for the times of a file makes the next write to it record a new time
        // (since Linux 6.13), and the next `fsync` wait for that as well.
        match rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::INO) {
            Ok(found) => Ok(Id {
                device: makedev(found.stx_dev_major, found.stx_dev_minor),
                inode: found.stx_ino,
            }),
            // An old kernel, or a sandbox.
            Err(Errno::NOSYS | Errno::PERM) => Id::of_all(path),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn of(path: &Path) -> io::Result<Id> {
        Id::of_all(path)
    }

    fn of_all(path: &Path) -> io::Result<Id> {
        use std::os::unix::fs::MetadataExt;
        let found = path.metadata()?;
        Ok(Id {
            device: found.dev(),
            inode: found.ino(),
        })
    }
}

#[cfg(not(unix))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Id;

#[cfg(not(unix))]
impl Id {
    fn of(path: &Path) -> io::Result<Id> {
        path.metadata().map(|_| Id)
    }
}

/// The identities of the files at a path, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    /// The path as it was asked for, possibly with links.
    asked: PathBuf,
    /// The path without links; log and index are beside it.
    real: PathBuf,
    log_path: PathBuf,
    index_path: PathBuf,
    database: Id,
    log: Id,
    index: Id,
}

impl Files {
    /// The files that an absolute path leads to now; an error if one of the three is missing.
    pub(super) fn at(asked: &Path) -> io::Result<Files> {
        let real = asked.canonicalize()?;
        let (log_path, index_path) = (log(&real), index(&real));
        Ok(Files {
            database: Id::of(asked)?,
            log: Id::of(&log_path)?,
            index: Id::of(&index_path)?,
            asked: asked.to_owned(),
            real,
            log_path,
            index_path,
        })
    }

    /// The path to open a connection with.
    pub(super) fn asked(&self) -> &Path {
        &self.asked
    }

    /// The path without links.
    pub(super) fn path(&self) -> &Path {
        &self.real
    }

    /// Whether they are of the same database, whatever its name.
    pub(super) fn are_of(&self, other: &Files) -> bool {
        self.database == other.database && (cfg!(unix) || self.real == other.real)
    }

    /// Checks that the paths still lead to these files.
    fn check(&self) -> Result<(), QueueError> {
        let same = |path: &Path, id: Id| {
            let path_now = match Id::of(path) {
                Ok(now) if now == id => return Ok(()),
                Ok(_) => "is another file now",
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    "is gone"
                }
                Err(error) => {
                    let why = format!("cannot access {}: {error}", path.display());
                    return Err(QueueError::Broker(why.into()));
                }
            };
            let why = format!("{} {path_now}", path.display());
            Err(QueueError::Detached(why))
        };
        same(&self.asked, self.database)?;
        if self.asked != self.real {
            same(&self.real, self.database)?;
        }
        same(&self.index_path, self.index)?;
        same(&self.log_path, self.log)
    }

    /// Checks that a new connection has this index, and not one that was unlinked: an older connection of this process to the
    /// same database, by any library, may still have that one open (FI4).
    pub(super) fn refuse_stale_index(&self) -> Result<(), QueueError> {
        if has_open(self.index) {
            Ok(())
        } else {
            Err(stale_index(&self.real))
        }
    }
}

fn stale_index(path: &Path) -> QueueError {
    QueueError::Detached(format!(
        "{} is not the file that an older connection of this process has open; close that one first",
        index(path).display()
    ))
}

/// The error if the files are other ones after each opening than before it.
pub(super) fn unstable(path: &Path) -> QueueError {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if real.exists() && !index(&real).exists() {
        return stale_index(&real);
    }
    let why = format!("{} or its log is replaced again and again", path.display());
    QueueError::Detached(why)
}

/// Whether this process has the file open; true where this cannot be found out.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn has_open(file: Id) -> bool {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else {
        return true;
    };
    open.flatten()
        .any(|open| Id::of(&open.path()).is_ok_and(|open| open == file))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn has_open(_: Id) -> bool {
    true
}

/// The files of a store, and whether it is detached from those that others see.
pub(super) struct Attachment {
    files: Files,
    /// A forked child inherits connections without their locks.
    process: u32,
    /// Why it is detached, if it is.
    lost: Mutex<Option<String>>,
}

impl Attachment {
    pub(super) fn new(files: Files) -> Attachment {
        Attachment {
            files,
            process: std::process::id(),
            lost: Mutex::default(),
        }
    }

    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// Checks the files (FI2).
    pub(super) fn check(&self) -> Result<(), QueueError> {
        if self.process != std::process::id() {
            let why = format!("process {} opened them, before a fork", self.process);
            return Err(QueueError::Detached(why));
        }
        let mut lost = lock(&self.lost);
        if let Some(why) = &*lost {
            return Err(QueueError::Detached(why.clone()));
        }
        let checked = self.files.check();
        if let Err(QueueError::Detached(why)) = &checked {
            *lost = Some(why.clone());
        }
        checked
    }

    /// Checks the files (FI2), so that the answer holds until the locks are lost again.
    pub(super) fn hold(&self, connection: &Connection) -> Result<(), QueueError> {
        let held = relock::relock(connection);
        if let Err(QueueError::Detached(why)) = &held {
            lock(&self.lost).get_or_insert_with(|| why.clone());
        }
        held?;
        self.check()
    }

    pub(super) fn is_detached(&self) -> bool {
        lock(&self.lost).is_some()
    }
}

pub(super) fn log(path: &Path) -> PathBuf {
    sibling(path, "-wal")
}

fn index(path: &Path) -> PathBuf {
    sibling(path, "-shm")
}

fn sibling(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

/// The size of a file, which is not opened for it (FI5).
pub(super) fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |found| found.len())
}

/// The absolute path, which a change of the working folder does not affect, and which SQLite does not take for a URI.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, QueueError> {
    let refuse = |why: &str| Err(QueueError::address(&path.to_string_lossy(), why));
    if path.as_os_str().is_empty() {
        return refuse("it names no file");
    }
    if path == Path::new(":memory:") {
        return refuse("SQLite keeps no write-ahead log of a database in memory");
    }
    match std::path::absolute(path) {
        Ok(absolute) => Ok(absolute),
        Err(error) => refuse(&error.to_string()),
    }
}

/// Refuses a path that cannot be a queue's file, whatever is in it.
pub(super) fn refuse_unfit(path: &Path) -> Result<(), QueueError> {
    let refuse = |why: String| Err(QueueError::address(&path.to_string_lossy(), why));
    if let Some(folder) = path.parent() {
        match folder.metadata() {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return refuse(format!("{} is not a folder", folder.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return refuse(format!("there is no folder {}", missing(folder).display()));
            }
            // The error of the file itself is better.
            Err(_) => {}
        }
    }
    let Ok(found) = path.metadata() else {
        return Ok(());
    };
    if found.is_dir() {
        return refuse("it is a folder".to_owned());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let names = found.nlink();
        if names > 1 {
            return refuse(format!(
                "the file has {names} names (hard links), and SQLite keeps a log for each name: a process that opens it by \
                 another name would not see what is written here"
            ));
        }
    }
    Ok(())
}

/// The first folder of the path that does not exist.
fn missing(folder: &Path) -> &Path {
    let mut missing = folder;
    while let Some(parent) = missing.parent() {
        if parent.exists() {
            break;
        }
        missing = parent;
    }
    missing
}

/// Creates a new file, with the permissions of another one.
pub(super) fn make_new(path: &Path, like: &Path) -> Result<(), QueueError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        if let Ok(like) = like.metadata() {
            options.mode(like.permissions().mode() & 0o777);
        }
    }
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) => {
            let why = format!("cannot create {}: {error}", path.display());
            Err(QueueError::Broker(why.into()))
        }
    }
}

/// Waits until a file that is not in use yet, and its name, are on the disk.
pub(super) fn sync(path: &Path) -> Result<(), QueueError> {
    let sync = || {
        OpenOptions::new().write(true).open(path)?.sync_all()?;
        #[cfg(unix)]
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    };
    sync().map_err(|error: io::Error| QueueError::Broker(error.into()))
}
