//! The signal to stop: for long-running tasks, and for those who wait for the end of a pool.
//!
//! - ST1: `stopped` is set under the lock. Whoever waits for it holds that lock from its look to its sleep.
//! - ST2: A thread that waits for a pool's end sleeps on the lock of that pool's threads instead. It is entered here
//!   first, and then looks at `stopped` under the threads' lock; the signal is set first, and then takes the threads'
//!   lock of every pool that is entered. So one of the two sees the other. The threads' lock is taken while the lock
//!   here is held, never the other way round.
//! - ST3: A submitter that waits for room parks instead. It is entered here first, and then looks at `stopped` before
//!   each time it parks; the signal is set first, and then unparks all that are entered.

use crate::fork;
use crate::sync::{
    Arc, AtomicBool, Condvar, Mutex, Ordering, Weak, deadline_after, is_past, lock, try_lock,
    wait_until,
};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

/// What a signal needs of whom it interrupts. It is called under the lock here, and calls no user code.
pub(crate) trait Nudge: Send + Sync {
    /// Makes a submitter look again, or those who wait for the end of a pool.
    fn nudge(&self);
}

/// What a token needs of its pool.
pub(crate) trait SignalledPool: Send + Sync {
    /// G1 of [`fork`].
    fn is_foreign(&self) -> bool;
}

/// A signal: what its tokens share.
pub(crate) struct Stop {
    stopped: AtomicBool,
    /// ST2, ST3: the pools for whose end somebody waits who gives up at this signal, and the submitters who do.
    interrupted: Mutex<Vec<Arc<dyn Nudge>>>,
    changed: Condvar,
}

impl Stop {
    pub(crate) fn new() -> Arc<Stop> {
        Arc::new(Stop {
            stopped: AtomicBool::new(false),
            interrupted: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// G2 of [`fork`]: nobody holds the lock.
    pub(crate) fn is_unlocked(&self) -> bool {
        try_lock(&self.interrupted).is_some()
    }

    pub(crate) fn stop(&self) {
        let interrupted = lock(&self.interrupted);
        // ORDERING: Release: whoever sees the signal sees what came before it.
        self.stopped.store(true, Ordering::Release);
        self.changed.notify_all();
        interrupted.iter().for_each(|waits| waits.nudge());
    }

    /// ST2, ST3: while the returned value lives, the signal makes `waits` look again.
    pub(crate) fn interrupts(&self, waits: Arc<dyn Nudge>) -> impl Drop + use<'_> {
        struct Entered<'a>(&'a Stop, Arc<dyn Nudge>);
        impl Drop for Entered<'_> {
            fn drop(&mut self) {
                let Entered(stop, waits) = self;
                let mut interrupted = lock(&stop.interrupted);
                if let Some(at) = interrupted
                    .iter()
                    .position(|other| Arc::ptr_eq(other, waits))
                {
                    // It does not drop the last reference: `waits` is another one.
                    interrupted.swap_remove(at);
                }
            }
        }
        lock(&self.interrupted).push(Arc::clone(&waits));
        Entered(self, waits)
    }

    fn is_stopped(&self) -> bool {
        // ORDERING: Acquire: pairs with `stop`.
        self.stopped.load(Ordering::Acquire)
    }
}

/// Tells a long-running task when to stop: once its pool is released (or dropped), or once the [`StopSource`] that made
/// the token is stopped.
///
/// A pool does not end before its tasks do, so a task that would run for ever must look at its token, or sleep on it.
/// Tokens are cheap to clone. A [`reboot`](crate::PoolHandle::reboot) of the pool makes a new signal; tokens from
/// before it stay stopped.
///
/// ```
/// use anthill::Pool;
/// use std::time::Duration;
///
/// let pool = Pool::with_capacity(2);
/// let stop = pool.stop_token();
/// pool.submit(move || {
///     while !stop.wait_timeout(Duration::from_millis(1)) {
///         // the work of each millisecond
///     }
/// })?;
/// drop(pool); // returns, since the task ends
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Clone)]
pub struct StopToken {
    stop: Arc<Stop>,
    /// The pool, if the signal is that of a pool.
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

    /// G1 of [`fork`]: nobody in this process can give the signal any more.
    fn is_foreign(&self) -> bool {
        let is_foreign =
            |pool: &Weak<dyn SignalledPool>| pool.upgrade().is_none_or(|pool| pool.is_foreign());
        fork::has_forked() && self.pool.as_ref().is_some_and(is_foreign)
    }

    /// Returns whether it is time to stop.
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

    /// Waits until it is time to stop, but at most for `timeout` (`Duration::MAX` means without a limit). Returns
    /// whether it is time to stop.
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
        let mut guard = lock(&self.stop.interrupted);
        while !self.stop.is_stopped() {
            if is_past(deadline) {
                return false;
            }
            guard = wait_until(&self.stop.changed, guard, deadline);
        }
        true
    }
}

/// No panic leaves what it shares half-changed.
impl UnwindSafe for StopToken {}
impl RefUnwindSafe for StopToken {}

impl fmt::Debug for StopToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopToken")
            .field("stopped", &self.is_stopped())
            .finish()
    }
}

/// A signal that you give yourself: [`stop`](StopSource::stop) stops all its [tokens](StopSource::token).
///
/// It is for tasks that must stop before their pool does, and for a caller that waits for the end of a pool and may
/// give up ([`release_until`](crate::PoolHandle::release_until)). It is cheap to clone, and all clones give the same
/// signal. The signal can be given once and cannot be taken back. Dropping the source does not give it.
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
    /// Makes a signal that has not been given.
    #[must_use]
    pub fn new() -> StopSource {
        StopSource { stop: Stop::new() }
    }

    /// Returns a token that is stopped when the signal is given.
    #[must_use]
    pub fn token(&self) -> StopToken {
        StopToken::new(Arc::clone(&self.stop))
    }

    /// Gives the signal and wakes those who wait for it. Does not wait.
    ///
    /// All that came before the call happens before [`StopToken::is_stopped`] returns true.
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

/// No panic leaves what it shares half-changed.
impl UnwindSafe for StopSource {}
impl RefUnwindSafe for StopSource {}

impl fmt::Debug for StopSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopSource")
            .field("stopped", &self.stop.is_stopped())
            .finish()
    }
}
