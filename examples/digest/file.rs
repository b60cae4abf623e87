//! One file: opened without ever blocking, read through a buffer that each thread keeps.

use std::cell::RefCell;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::digest::Output;
use sha2::{Digest, Sha256};

use crate::report::Report;

const BUFFER: usize = 128 * 1024;

thread_local! {
    /// Workers are reused, and so is what they keep: one buffer a thread, however many files.
    static BUFFER_OF_THREAD: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// What to do if the path is a symbolic link at the moment of opening.
#[derive(Clone, Copy)]
pub(crate) enum Links {
    Follow,
    Refuse,
}

pub(crate) enum Contents {
    Sha256(Output<Sha256>),
    /// It was a regular file when it was found and is none any more.
    NotRegular,
    /// The program is to end.
    Abandoned,
}

pub(crate) struct File {
    path: PathBuf,
    links: Links,
}

impl File {
    pub(crate) fn new(path: PathBuf, links: Links) -> Self {
        Self { path, links }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn read(&self, report: &Report) -> io::Result<Contents> {
        let mut file = self.open()?;
        if !file.metadata()?.is_file() {
            return Ok(Contents::NotRegular);
        }
        let mut sha256 = Sha256::new();
        BUFFER_OF_THREAD.with_borrow_mut(|buffer| {
            loop {
                if report.is_stopped() {
                    return Ok(Contents::Abandoned);
                }
                match file.read(buffer) {
                    Ok(0) => return Ok(Contents::Sha256(sha256.finalize())),
                    Ok(length) => {
                        sha256.update(&buffer[..length]);
                        report.read(length);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        })
    }

    /// By now the file may have become a fifo, which an open for reading waits on, or a link.
    #[cfg(unix)]
    fn open(&self) -> io::Result<fs::File> {
        use std::os::unix::fs::OpenOptionsExt;

        let links = match self.links {
            Links::Follow => 0,
            Links::Refuse => libc::O_NOFOLLOW,
        };
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | links)
            .open(&self.path)
    }

    #[cfg(not(unix))]
    fn open(&self) -> io::Result<fs::File> {
        match self.links {
            Links::Refuse if fs::symlink_metadata(&self.path)?.is_symlink() => {
                Err(io::Error::other("has become a symbolic link"))
            }
            Links::Refuse | Links::Follow => OpenOptions::new().read(true).open(&self.path),
        }
    }
}
