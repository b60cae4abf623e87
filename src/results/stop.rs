//! The signal to end, for tasks that live long.

use crate::engine::{Core, fork};
use crate::pool::PoolHandle;
use crate::sync::{
    Arc, AtomicBool, Condvar, Mutex, Ordering, Weak, deadline_after, is_past, lock, try_lock,
    wait_until,
};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

/// What all tokens of one signal share.
pub(crate) struct Stop {
    stopped: AtomicBool,
    /// `stopped` is set under it, so that nobody waits past it.
    lock: Mutex<()>,
    changed: Condvar,
}

impl Stop {
    pub(crate) fn new() -> Arc<Stop> {
        Arc::new(Stop {
            stopped: AtomicBool::new(false),
            lock: Mutex::new(()),
            changed: Condvar::new(),
        })
    }

    /// G2 of [`fork`](crate::engine::fork): nobody holds the lock.
    pub(crate) fn is_unlocked(&self) -> bool {
        try_lock(&self.lock).is_some()
    }

    pub(crate) fn stop(&self) {
        let _lock = lock(&self.lock);
        // ORDERING: Release: who sees the signal sees what came before it.
        self.stopped.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    fn is_stopped(&self) -> bool {
        // ORDERING: Acquire: pairs with `stop`.
        self.stopped.load(Ordering::Acquire)
    }
}

/// Tells tasks that live long when to end: once their pool is released (or dropped).
///
/// A pool does not end before its tasks do; a task that runs for ever must look at its token, or sleep on
/// it. Tokens are cheap to clone. [`reboot`](PoolHandle::reboot) brings a new signal; tokens from before it
/// stay stopped.
///
/// ```
/// use anthill::Pool;
/// use std::time::Duration;
///
/// let pool = Pool::with_capacity(2);
/// let stop = pool.stop_token();
/// pool.submit(move || {
///     while !stop.wait_timeout(Duration::from_millis(1)) {
///         // what is to be done each millisecond
///     }
/// })?;
/// drop(pool); // returns, since the task ends
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Clone)]
pub struct StopToken {
    stop: Arc<Stop>,
    /// Whose signal it is, if it is a pool's.
    core: Option<Weak<Core>>,
}

impl StopToken {
    #[cfg_attr(
        not(feature = "jobs"),
        expect(dead_code, reason = "for handlers of jobs")
    )]
    pub(crate) fn new(stop: Arc<Stop>) -> StopToken {
        StopToken { stop, core: None }
    }

    fn of(core: &Arc<Core>) -> StopToken {
        StopToken {
            stop: core.stop_signal(),
            core: Some(Arc::downgrade(core)),
        }
    }

    /// G1 of [`fork`]: nobody in this process gives the signal any more.
    fn is_foreign(&self) -> bool {
        let is_foreign = |core: &Weak<Core>| core.upgrade().is_none_or(|core| core.is_foreign());
        fork::has_forked() && self.core.as_ref().is_some_and(is_foreign)
    }

    /// Whether it is time to end.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(1);
    /// let stop = pool.stop_token();
    /// assert!(!stop.is_stopped());
    /// pool.release();
    /// assert!(stop.is_stopped());
    /// ```
    pub fn is_stopped(&self) -> bool {
        self.stop.is_stopped() || self.is_foreign()
    }

    /// Waits until it is time to end, for `timeout` at most (`Duration::MAX` is for ever): whether it is.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let stop = anthill::Pool::with_capacity(1).stop_token(); // the pool is dropped at once
    /// assert!(stop.wait_timeout(Duration::MAX));
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let deadline = deadline_after(timeout);
        if self.is_stopped() {
            return true;
        }
        let mut guard = lock(&self.stop.lock);
        while !self.stop.is_stopped() {
            if is_past(deadline) {
                return false;
            }
            guard = wait_until(&self.stop.changed, guard, deadline);
        }
        true
    }
}

/// What it shares is never left half-changed by a panic.
impl UnwindSafe for StopToken {}
impl RefUnwindSafe for StopToken {}

impl fmt::Debug for StopToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopToken")
            .field("stopped", &self.is_stopped())
            .finish()
    }
}

impl PoolHandle {
    /// The signal by which the pool's tasks learn that it was released.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(1);
    /// pool.release();
    /// assert!(pool.stop_token().is_stopped());
    /// pool.reboot();
    /// assert!(!pool.stop_token().is_stopped());
    /// ```
    #[must_use]
    pub fn stop_token(&self) -> StopToken {
        StopToken::of(self.core())
    }
}
