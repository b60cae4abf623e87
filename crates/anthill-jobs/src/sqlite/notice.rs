//! Hears from the system that a log was written, by whatever process, where the system tells: by inotify, on Linux. So a store looks at once
//! when there may be something, and hardly ever otherwise.
//!
//! - NO1. A write is no commit yet: its time comes when the log is on the disk, of which the system does not tell. And what the
//!   system does not tell at all (a log that is replaced, a file system that cannot) is found by a slow look.
//! - NO2. The file is not opened (FI5).
//! - NO3. However often a log is written, it is told once in [`PAUSE`] at most.

use std::path::Path;
use std::time::Duration;

/// The shortest time between two calls of the listener.
const PAUSE: Duration = Duration::from_millis(10);

/// What the system said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The log was written.
    Written,
    /// The system will say no more.
    Over,
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use super::{Heard, PAUSE, Path};
    use crate::sync::spawn;
    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
    use rustix::io::Errno;
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::sync::Arc;
    use std::thread;

    /// Ends the thread that hears when it is dropped.
    pub(in super::super) struct Notice {
        queue: Arc<OwnedFd>,
        watch: i32,
    }

    impl Notice {
        /// Calls the listener for each write, on a thread of its own; `None` if the system does not tell of this file.
        pub(in super::super) fn start(
            log: &Path,
            listener: impl Fn(Heard) + Send + 'static,
        ) -> Option<Notice> {
            let queue = Arc::new(inotify::init(CreateFlags::CLOEXEC).ok()?);
            let of = WatchFlags::MODIFY
                | WatchFlags::ATTRIB
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF;
            let watch = inotify::add_watch(&queue, log, of).ok()?;
            let own = Arc::clone(&queue);
            spawn("anthill-notice".to_owned(), move || {
                hear(&own, &listener);
                listener(Heard::Over);
            })
            .ok()?;
            Some(Notice { queue, watch })
        }
    }

    impl Drop for Notice {
        fn drop(&mut self) {
            // The thread hears that it is removed.
            let _ = inotify::remove_watch(&self.queue, self.watch);
        }
    }

    fn hear(queue: &OwnedFd, listener: &impl Fn(Heard)) {
        let mut room = [MaybeUninit::uninit(); 1024];
        // Also when its last name is gone, while it is open; and when there were more events than fit.
        let written = ReadFlags::MODIFY | ReadFlags::ATTRIB | ReadFlags::QUEUE_OVERFLOW;
        let mut events = inotify::Reader::new(queue, &mut room);
        loop {
            match events.next() {
                Ok(event) if event.events().intersects(written) => {
                    listener(Heard::Written);
                    thread::sleep(PAUSE);
                }
                Err(Errno::INTR) => {}
                // The log is gone or replaced, or nobody wants to hear.
                Ok(_) | Err(_) => return,
            }
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    use super::{Heard, Path};

    /// There is none.
    pub(in super::super) enum Notice {}

    impl Notice {
        pub(in super::super) fn start(
            _: &Path,
            _: impl Fn(Heard) + Send + 'static,
        ) -> Option<Notice> {
            let _ = (super::PAUSE, Heard::Written, Heard::Over);
            None
        }
    }
}

pub(super) use system::Notice;

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::sync::mpsc::{RecvTimeoutError, channel};

    #[test]
    fn writes_are_heard_until_the_notice_is_dropped_or_the_file_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let (log, wait) = (folder.path().join("log"), Duration::from_secs(20));
        for is_dropped in [true, false] {
            fs::write(&log, "").unwrap();
            let (sender, heard) = channel();
            let notice = Notice::start(&log, move |what| {
                let _ = sender.send(what);
            })
            .unwrap();
            let mut file = OpenOptions::new().append(true).open(&log).unwrap();
            file.write_all(b"1").unwrap();
            assert_eq!(heard.recv_timeout(wait), Ok(Heard::Written));
            drop(file);
            if is_dropped {
                drop(notice);
            } else {
                fs::remove_file(&log).unwrap();
            }
            let last = std::iter::from_fn(|| heard.recv_timeout(wait).ok()).last();
            assert_eq!(last, Some(Heard::Over));
            assert_eq!(
                heard.recv_timeout(wait),
                Err(RecvTimeoutError::Disconnected)
            );
        }
        assert!(Notice::start(&log, |_| {}).is_none(), "it is not there");
    }
}
