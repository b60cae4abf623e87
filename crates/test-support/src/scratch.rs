//! What the tests of a user share on a host: a folder for temporary files, and numbers that one process at a time uses.
//!
//! A number (a port, a subnet) is reserved by a lock on the byte of that position of a file. The kernel drops the lock
//! when the process ends, however it does, so no reservation outlives its owner and none needs to be cleaned up.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Below the ports that systems give to outgoing connections: what connects somewhere never has one of these.
const PORTS: Range<u16> = 20_000..32_000;

/// As long as a socket's path may be (107 bytes) after the names below the folder.
const LONGEST: usize = 60;

pub(crate) fn user_id() -> u32 {
    // SAFETY: it reads the caller's id and cannot fail.
    unsafe { libc::geteuid() }
}

/// The folder of this user's tests. Others may pass through it, since a server does not run as root, but not list it.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let chosen = std::env::temp_dir();
        let suits = |path: &Path| {
            path.as_os_str().len() <= LONGEST
                && (user_id() != 0 || path.ancestors().all(lets_others_pass))
        };
        let parent = if suits(&chosen) {
            chosen
        } else {
            PathBuf::from("/tmp")
        };
        let folder = parent.join(format!("anthill-tests-{}", user_id()));
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&folder);
        made.unwrap_or_else(|error| panic!("no folder {}: {error}", folder.display()));
        // Its name can be guessed, so somebody else may have made it.
        let found = fs::symlink_metadata(&folder).expect("the folder was made");
        assert!(
            found.is_dir() && found.uid() == user_id() && found.mode() & 0o022 == 0,
            "{} is not a folder that only this user can write to",
            folder.display()
        );
        folder
    })
}

/// Makes a folder that only its user can enter.
pub(crate) fn make_private_folder(folder: &Path) {
    DirBuilder::new()
        .mode(0o700)
        .create(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
}

fn lets_others_pass(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|found| found.mode() & 0o001 != 0)
}

/// A number that no other process of this user's tests has.
#[derive(Debug)]
pub(crate) struct Reservation {
    number: u16,
    _lock: File,
}

impl Reservation {
    /// One of `numbers` that `suits`, from a random one on; panics if there is none. `kind` names the file.
    pub(crate) fn new(kind: &str, numbers: Range<u16>, suits: impl Fn(u16) -> bool) -> Self {
        let path = folder().join(kind);
        let open = || {
            OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let first = rand::random_range(numbers.clone());
        let mut lock = open();
        for number in (first..numbers.end).chain(numbers.start..first) {
            if lock_byte(&lock, number) {
                if suits(number) {
                    return Self {
                        number,
                        _lock: lock,
                    };
                }
                // A file of its own for the next: this one holds the lock of a number that does not suit.
                lock = open();
            }
        }
        panic!("each number of {numbers:?} is in use ({})", path.display());
    }

    /// A port of 127.0.0.1 on which nobody listens, and which no cooperating process takes while this one keeps it.
    pub(crate) fn port() -> Self {
        Self::new("ports", PORTS, nobody_listens)
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

fn nobody_listens(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Whether the byte at `position` is this file's now. The lock belongs to the open file and not to the process, so
/// that another reservation of this process is another owner.
#[cfg(target_os = "linux")]
fn lock_byte(file: &File, position: u16) -> bool {
    use std::os::fd::AsRawFd;

    let short = |constant: libc::c_int| libc::c_short::try_from(constant).expect("it is small");
    // SAFETY: all zeroes is a value of these fields; the pid must be zero.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = short(libc::F_WRLCK);
    lock.l_whence = short(libc::SEEK_SET);
    lock.l_start = libc::off_t::from(position);
    lock.l_len = 1;
    // SAFETY: the descriptor is open, and the pointer is valid for the call.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) == 0 }
}

/// Elsewhere only what `suits` says decides.
#[cfg(not(target_os = "linux"))]
fn lock_byte(_file: &File, _position: u16) -> bool {
    true
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::eventually;

    fn is_to_be_had(kind: &str, number: u16, suits: fn(u16) -> bool) -> bool {
        std::panic::catch_unwind(|| Reservation::new(kind, number..number + 1, suits)).is_ok()
    }

    #[test]
    fn a_number_has_one_owner_at_a_time() {
        let kind = format!("numbers-{}", std::process::id());
        let all: Vec<_> = (0..3)
            .map(|_| Reservation::new(&kind, 7..10, |_| true))
            .collect();
        let mut numbers: Vec<_> = all.iter().map(Reservation::number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [7, 8, 9]);
        assert!((7..10).all(|number| !is_to_be_had(&kind, number, |_| true)));
        drop(all);
        // Not at once: a process that another test starts at this moment has the descriptors until it runs its program.
        eventually("numbers are free again", || {
            (7..10).all(|number| is_to_be_had(&kind, number, |_| true))
        });
        fs::remove_file(folder().join(kind)).unwrap();
    }

    #[test]
    fn a_number_that_does_not_suit_is_left_to_others() {
        let kind = format!("unsuited-{}", std::process::id());
        let reserved = Reservation::new(&kind, 7..9, |number| number == 8);
        assert_eq!(reserved.number(), 8);
        eventually("7 is free", || is_to_be_had(&kind, 7, |_| true));
        fs::remove_file(folder().join(kind)).unwrap();
    }

    #[test]
    fn a_port_on_which_somebody_listens_is_not_given() {
        let port = Reservation::port();
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number())).unwrap();
        assert!(!nobody_listens(port.number()));
    }
}
