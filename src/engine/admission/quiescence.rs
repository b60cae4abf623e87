//! Who waits for the pool to be at rest, and the count of the moments at which it was.
//!
//! A thread that finds a moment counted since it came has what it waited for, even if the pool is busy again by the
//! time it looks. The count changes, and a waiter comes, under one lock. That no moment goes uncounted while a thread
//! waits is for [`Admission`](super::Admission) to keep (A5).

use crate::engine::spin;
use crate::sync::{
    AtomicU64, Condvar, Instant, Mutex, MutexGuard, Ordering, Processors, is_past, lock, sooner,
    try_lock, wait_until,
};

pub(crate) struct Quiescence {
    moments: AtomicU64,
    /// How often waiters were told to look again. Changes under the lock, like `moments`.
    nudges: AtomicU64,
    lock: Mutex<()>,
    changed: Condvar,
    processors: Processors,
}

impl Quiescence {
    pub(crate) fn new(processors: Processors) -> Quiescence {
        Quiescence {
            moments: AtomicU64::new(0),
            nudges: AtomicU64::new(0),
            lock: Mutex::new(()),
            changed: Condvar::new(),
            processors,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, ()> {
        lock(&self.lock)
    }

    /// Nobody holds the lock.
    pub(crate) fn is_unlocked(&self) -> bool {
        try_lock(&self.lock).is_some()
    }

    /// Counts a moment of rest, with the lock held.
    pub(crate) fn count(&self, _lock: &MutexGuard<'_, ()>) {
        self.moments.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// The number of the last moment, with the lock held.
    pub(crate) fn moment(&self, _lock: &MutexGuard<'_, ()>) -> u64 {
        self.moments.load(Ordering::SeqCst)
    }

    /// Makes all waiters look again: something happened that may concern them.
    pub(crate) fn nudge(&self) {
        let _lock = self.lock();
        self.nudges.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// Waits for a moment after `last`; false if `deadline` passed first. Calls `retry` again and again, which
    /// returns when to call it next.
    pub(crate) fn wait_after(
        &self,
        last: u64,
        deadline: Option<Instant>,
        retry: impl Fn() -> Option<Instant>,
    ) -> bool {
        let came = || self.moments.load(Ordering::SeqCst) != last;
        if came() || spin::turns_until(self.processors.spins(spin::REST), came) {
            return true;
        }
        loop {
            let nudges = self.nudges.load(Ordering::SeqCst);
            let again = retry();
            let guard = self.lock();
            if came() {
                return true;
            }
            if self.nudges.load(Ordering::SeqCst) != nudges {
                continue;
            }
            if is_past(deadline) {
                return false;
            }
            drop(wait_until(&self.changed, guard, sooner(again, deadline)));
        }
    }
}
