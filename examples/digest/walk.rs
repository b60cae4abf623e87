//! A walk: what lies under some folders, as a stream.
//!
//! It goes down depth first with an explicit stack of open folders: no recursion, and no list of what a
//! folder holds. The stack has at most [`OPEN_FOLDERS`] places, so that the deepest tree does not use up
//! the file descriptors. When all are taken, the folders found in the deepest one are noted and read
//! after it: memory goes to the names of folders alone, and only below that depth.

use std::fs::{self, DirEntry, ReadDir};
use std::io;
use std::path::PathBuf;
use std::vec;

use crate::file::{File, Links};

/// Folders that one walk holds open at most: with 8 walks a quarter of the usual 1,024 descriptors.
const OPEN_FOLDERS: usize = 32;

pub(crate) enum Found {
    /// A folder: the walk does not go into it unless told so with [`Walk::enter`].
    Folder(PathBuf),
    File(File),
    Link,
    /// A fifo, a socket or a device.
    Special,
    Failed(PathBuf, io::Error),
}

pub(crate) struct Walk {
    named: vec::IntoIter<PathBuf>,
    open: Vec<Folder>,
    /// To be read next. More than one only while no place is free in `open`.
    next: Vec<PathBuf>,
}

struct Folder {
    path: PathBuf,
    entries: ReadDir,
}

impl Walk {
    /// What the command line names.
    pub(crate) fn of_named(named: Vec<PathBuf>) -> Self {
        Self {
            named: named.into_iter(),
            open: Vec::new(),
            next: Vec::new(),
        }
    }

    /// What is in a folder that another walk found.
    pub(crate) fn of_folder(path: PathBuf) -> Self {
        Self {
            named: vec::IntoIter::default(),
            open: Vec::new(),
            next: vec![path],
        }
    }

    /// Reads that folder too, which this walk has just found.
    pub(crate) fn enter(&mut self, path: PathBuf) {
        self.next.push(path);
    }
}

impl Iterator for Walk {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            if self.open.len() < OPEN_FOLDERS {
                if let Some(path) = self.next.pop() {
                    match fs::read_dir(&path) {
                        Ok(entries) => self.open.push(Folder { path, entries }),
                        Err(error) => return Some(Found::Failed(path, error)),
                    }
                }
            }
            let Some(folder) = self.open.last_mut() else {
                return self.named.next().map(named);
            };
            match folder.entries.next() {
                Some(Ok(found)) => return Some(entry(&found)),
                Some(Err(error)) => return Some(Found::Failed(folder.path.clone(), error)),
                None => drop(self.open.pop()),
            }
        }
    }
}

/// Something in a folder: links are not followed.
fn entry(entry: &DirEntry) -> Found {
    match entry.file_type() {
        Ok(kind) if kind.is_dir() => Found::Folder(entry.path()),
        Ok(kind) if kind.is_file() => Found::File(File::new(entry.path(), Links::Refuse)),
        Ok(kind) if kind.is_symlink() => Found::Link,
        Ok(_) => Found::Special,
        Err(error) => Found::Failed(entry.path(), error),
    }
}

/// Something on the command line: a link stands for what it points to.
fn named(path: PathBuf) -> Found {
    match fs::metadata(&path) {
        Ok(data) if data.is_dir() => Found::Folder(path),
        Ok(data) if data.is_file() => Found::File(File::new(path, Links::Follow)),
        Ok(_) => Found::Special,
        Err(error) => Found::Failed(path, error),
    }
}
