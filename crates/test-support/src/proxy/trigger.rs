//! When an armed cut strikes, and how a test learns that it has.

use std::fmt::Display;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::DEADLINE;

/// Which request it is.
#[derive(Clone, Debug)]
pub struct Trigger {
    of: Like,
    nth: usize,
}

/// What a request that counts is like.
#[derive(Clone, Debug)]
enum Like {
    Any,
    /// It has these bytes in it.
    Containing(Vec<u8>),
    /// This says so of a whole one.
    Being(fn(&[u8]) -> bool),
}

impl Trigger {
    /// The next request, whatever it says.
    pub fn next() -> Self {
        Self {
            of: Like::Any,
            nth: 1,
        }
    }

    /// The next request with these bytes in it.
    pub fn containing(needle: impl AsRef<[u8]>) -> Self {
        let needle = needle.as_ref().to_vec();
        Self {
            of: Like::Containing(needle),
            ..Self::next()
        }
    }

    /// The next request of which, when it has come whole, this is true.
    pub fn being(of: fn(&[u8]) -> bool) -> Self {
        Self {
            of: Like::Being(of),
            ..Self::next()
        }
    }

    /// The `nth` such request from now on, counted over all connections; 1 is the next.
    #[must_use]
    pub fn nth(mut self, nth: usize) -> Self {
        assert!(nth > 0, "the first is number 1");
        self.nth = nth;
        self
    }
}

/// Where the connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    BeforeRequest,
    BeforeReply,
}

/// A trigger that waits for its request.
#[derive(Debug)]
pub(super) struct Armed {
    /// Its identity.
    pub(super) number: u64,
    pub(super) place: Place,
    pub(super) cut: Cut,
    of: Like,
    left: usize,
}

impl Armed {
    pub(super) fn new(number: u64, place: Place, trigger: Trigger) -> Self {
        Self {
            number,
            place,
            cut: Cut::default(),
            of: trigger.of,
            left: trigger.nth,
        }
    }

    /// Whether this request is one of those that count, as far as it has come. Without a needle it is one when it is whole.
    pub(super) fn matches(&self, request: &[u8], whole: bool) -> bool {
        match &self.of {
            Like::Any => whole,
            Like::Containing(needle) if needle.is_empty() => whole,
            Like::Containing(needle) => {
                let mut windows = request.windows(needle.len());
                windows.any(|window| window == needle)
            }
            Like::Being(is) => whole && is(request),
        }
    }

    /// Counts one; says whether it is the one to strike at.
    pub(super) fn count(&mut self) -> bool {
        self.left -= 1;
        self.left == 0
    }
}

/// A cut that was ordered. It stays ordered when this is dropped.
#[derive(Clone, Debug, Default)]
pub struct Cut(Arc<(Mutex<Progress>, Condvar)>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    Ordered,
    Struck,
    /// The server, or the client, ended the connection before.
    Missed,
}

impl Cut {
    /// Whether it has struck.
    pub fn has_struck(&self) -> bool {
        *self.progress() == Progress::Struck
    }

    /// Waits until it has struck; panics if it does not in time, or if the connection ended before the server's reply.
    #[track_caller]
    pub fn wait(&self, what: impl Display) {
        let (_, changed) = &*self.0;
        let (progress, _) = changed
            .wait_timeout_while(self.progress(), DEADLINE, |now| *now == Progress::Ordered)
            .unwrap_or_else(PoisonError::into_inner);
        let progress = *progress;
        assert_eq!(progress, Progress::Struck, "cut: {what}");
    }

    pub(super) fn strike(&self) {
        self.end(Progress::Struck);
    }

    pub(super) fn miss(&self) {
        self.end(Progress::Missed);
    }

    fn end(&self, how: Progress) {
        *self.progress() = how;
        self.0.1.notify_all();
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
