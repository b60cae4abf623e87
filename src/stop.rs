//! The signal to end: for tasks that live long, and for who waits for the end of a pool.
//!
//! - ST1: `stopped` is set under the lock, which whoever waits holds from its look to its sleep.
//! - ST2: Who waits for a pool's end sleeps on the lock of that pool's threads instead. It is entered here first and looks
//!   at `stopped` under the threads' lock; the signal is set first and takes the threads' lock of all who are entered
//!   then. So one sees the other. The threads' lock is taken under the one here, never the other way round.

use crate::fork;
use crate::sync::{
    Arc, AtomicBool, Condvar, Mutex, Ordering, Weak, deadline_after, is_past, lock, try_lock,
    wait_until,
};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

/// A pool, as a signal sees it.
pub(crate) trait SignalledPool: Send + Sync {
    /// Has those who await the end of the pool look again.
    fn nudge(&self);
    /// G1 of [`fork`].
    fn is_foreign(&self) -> bool;
}

/// What all tokens of one signal share.
pub(crate) struct Stop {
    stopped: AtomicBool,
    /// ST2: the pools whose end somebody awaits who gives up at this signal.
    ending: Mutex<Vec<Arc<dyn SignalledPool>>>,
    changed: Condvar,
}

impl Stop {
    pub(crate) fn new() -> Arc<Stop> {
        Arc::new(Stop {
            stopped: AtomicBool::new(false),
            ending: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// G2 of [`fork`](crate::fork): nobody holds the lock.
    pub(crate) fn is_unlocked(&self) -> bool {
        try_lock(&self.ending).is_some()
    }

    pub(crate) fn stop(&self) {
        let ending = lock(&self.ending);
        // ORDERING: Release: who sees the signal sees what came before it.
        self.stopped.store(true, Ordering::Release);
        self.changed.notify_all();
        ending.iter().for_each(|pool| pool.nudge());
    }

    /// ST2: while what it returns lives, the signal has whoever awaits the end of this pool look again.
    pub(crate) fn interrupts(&self, pool: Arc<dyn SignalledPool>) -> impl Drop + use<'_> {
        struct Entered<'a>(&'a Stop, Arc<dyn SignalledPool>);
        impl Drop for Entered<'_> {
            fn drop(&mut self) {
                let Entered(stop, pool) = self;
                let mut ending = lock(&stop.ending);
                if let Some(at) = ending.iter().position(|other| Arc::ptr_eq(other, pool)) {
                    // Not the last: `pool` is another.
                    ending.swap_remove(at);
                }
            }
        }
        lock(&self.ending).push(Arc::clone(&pool));
        Entered(self, pool)
    }

    fn is_stopped(&self) -> bool {
        // ORDERING: Acquire: pairs with `stop`.
        self.stopped.load(Ordering::Acquire)
    }
}

/// Tells tasks that live long when to end: once their pool is released (or dropped), or once the
/// [`StopSource`] that the token is from says so.
///
/// A pool does not end before its tasks do; a task that runs for ever must look at its token, or sleep on
/// it. Tokens are cheap to clone. [`reboot`](crate::PoolHandle::reboot) brings a new signal; tokens from before it
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
    pool: Option<Weak<dyn SignalledPool>>,
}

impl StopToken {
    pub(crate) fn new(stop: Arc<Stop>) -> StopToken {
        StopToken { stop, pool: None }
    }

    /// A token of a pool's own signal.
    pub(crate) fn of_pool(stop: Arc<Stop>, pool: Weak<dyn SignalledPool>) -> StopToken {
        let pool = Some(pool);
        StopToken { stop, pool }
    }

    pub(crate) fn signal(&self) -> &Stop {
        &self.stop
    }

    /// G1 of [`fork`]: nobody in this process gives the signal any more.
    fn is_foreign(&self) -> bool {
        let is_foreign =
            |pool: &Weak<dyn SignalledPool>| pool.upgrade().is_none_or(|pool| pool.is_foreign());
        fork::has_forked() && self.pool.as_ref().is_some_and(is_foreign)
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
        let mut guard = lock(&self.stop.ending);
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

/// A signal of your own: all its [tokens](StopSource::token) are stopped when [`stop`](StopSource::stop) is called.
///
/// It is for tasks that are to end before their pool does, and for who awaits the end of a pool and may lose
/// patience ([`release_until`](crate::PoolHandle::release_until)). Cheap to clone; all clones give the same signal, once and
/// for ever. Dropping them gives none.
///
/// ```
/// use anthill::{Pool, StopSource};
/// use std::time::Duration;
///
/// let pool = Pool::with_capacity(1);
/// let poll = StopSource::new();
/// let stop = poll.token();
/// pool.submit(move || while !stop.wait_timeout(Duration::from_millis(1)) {})?;
/// poll.stop();
/// pool.wait_idle(); // the task has ended, and the pool is open
/// assert!(!pool.is_closed());
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Clone)]
pub struct StopSource {
    stop: Arc<Stop>,
}

impl StopSource {
    /// A signal that was not given.
    #[must_use]
    pub fn new() -> StopSource {
        StopSource { stop: Stop::new() }
    }

    /// A token by which others learn of the signal.
    #[must_use]
    pub fn token(&self) -> StopToken {
        StopToken::new(Arc::clone(&self.stop))
    }

    /// Gives the signal: whoever waits for it is woken. Does not wait.
    ///
    /// All that came before it happens before [`StopToken::is_stopped`] is true.
    ///
    /// ```
    /// let source = anthill::StopSource::new();
    /// let token = source.token();
    /// assert!(!token.is_stopped());
    /// source.stop();
    /// assert!(token.is_stopped());
    /// ```
    pub fn stop(&self) {
        self.stop.stop();
    }
}

impl Default for StopSource {
    fn default() -> StopSource {
        StopSource::new()
    }
}

/// What it shares is never left half-changed by a panic.
impl UnwindSafe for StopSource {}
impl RefUnwindSafe for StopSource {}

impl fmt::Debug for StopSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopSource")
            .field("stopped", &self.stop.is_stopped())
            .finish()
    }
}
