//! The timers of a pool that are not over, which end with the pool.
//!
//! - TR1: A timer is added while the pool is open, or is refused; a pool that closes takes all of them out, in one step
//!   under the lifecycle lock, and cancels them without a lock. So none outlives a release, whichever way it is
//!   made.
//! - TR2: The lock is a leaf, and nothing is dropped under it: what a timer captured is of users.

use crate::sync::{Arc, Mutex, lock, try_lock};
use std::collections::BTreeMap;
use std::mem;

/// A timer, as its pool sees it.
pub(crate) trait PoolTimer: Send + Sync {
    /// Ends the timer, and drops what it captured; false if it is over. What it submitted is a task like any other.
    fn cancel(&self) -> bool;
}

/// Two timers that are not over have different addresses.
fn address<T: ?Sized>(timer: *const T) -> usize {
    timer.cast::<()>() as usize
}

#[derive(Default)]
pub(crate) struct Timers(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    is_closed: bool,
    /// By address.
    timers: BTreeMap<usize, Arc<dyn PoolTimer>>,
}

impl Timers {
    /// TR1: false if the pool is closed.
    pub(crate) fn add(&self, timer: Arc<dyn PoolTimer>) -> bool {
        let mut inner = lock(&self.0);
        let is_open = !inner.is_closed;
        if is_open {
            inner.timers.insert(address(Arc::as_ptr(&timer)), timer);
            return true;
        }
        // TR2
        drop(inner);
        false
    }

    /// Takes a timer that is over out.
    pub(crate) fn remove<T: ?Sized>(&self, timer: *const T) -> Option<Arc<dyn PoolTimer>> {
        lock(&self.0).timers.remove(&address(timer))
    }

    /// Whether the timer was added, and the pool was not closed since.
    pub(crate) fn has<T: ?Sized>(&self, timer: *const T) -> bool {
        lock(&self.0).timers.contains_key(&address(timer))
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.0).timers.len()
    }

    /// TR1: takes all timers out, for the caller to cancel.
    pub(crate) fn close(&self) -> impl Iterator<Item = Arc<dyn PoolTimer>> + use<> {
        let mut inner = lock(&self.0);
        inner.is_closed = true;
        mem::take(&mut inner.timers).into_values()
    }

    pub(crate) fn reopen(&self) {
        lock(&self.0).is_closed = false;
    }

    /// G2 of [`fork`](crate::fork): there is no timer, and nobody holds the lock.
    pub(crate) fn is_untouched(&self) -> bool {
        try_lock(&self.0).is_some_and(|inner| inner.timers.is_empty())
    }
}
