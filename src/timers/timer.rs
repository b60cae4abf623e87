//! Timers of a pool, as users see them: `submit_after`, `submit_every`, [`Timer`].
//!
//! - TM1: A timer submits its closure or drops it, and `cancel` tells which: whoever takes the closure out of the
//!   timer's state decides (see [`once`](super::once) and [`series`](super::series)).
//! - TM2: A timer that is due takes a hold of its pool before it takes the closure. So either the pool is closed, and the
//!   one who closes it cancels the timer; or a caller that waits for the end of the pool waits until the closure is a
//!   task, or dropped.
//! - TM3: A closure is dropped without a lock: where a pool refuses it for lack of room, on the timers' thread.
//! - TM4: Where the pool has no thread and the system refuses one, the timer tries again after a while.

use super::link::refuse_foreign;
use super::once::Once;
use super::series::Series;
use super::service::service;
use crate::engine::timers::PoolTimer;
use crate::error::SubmitError;
use crate::pool::PoolHandle;
use crate::sync::Arc;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

/// A timer of a pool, by which it can be cancelled. Dropping it detaches the timer, which goes on.
///
/// It comes from [`submit_after`](PoolHandle::submit_after) and [`submit_every`](PoolHandle::submit_every).
///
/// ```
/// # use {anthill::Pool, std::time::Duration};
/// let pool = Pool::with_capacity(1);
/// let timer = pool.submit_after(Duration::from_secs(3600), || println!("time to go"))?;
/// assert!(timer.cancel());
/// assert!(!timer.cancel()); // it is over
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct Timer {
    timer: Arc<dyn PoolTimer>,
}

/// No panic leaves what a timer keeps under its locks half-changed.
impl UnwindSafe for Timer {}
impl RefUnwindSafe for Timer {}

impl Timer {
    /// Cancels the timer; returns whether this call ended it.
    ///
    /// After `true` it submits nothing more, and what it captured is dropped. For a timer of
    /// [`submit_every`](PoolHandle::submit_every) no run starts any more; a run that has started goes on, and drops what
    /// was captured when it ends. So the closure may cancel its own timer.
    ///
    /// It returns `false` if the timer was over: its one task was submitted, or the timer was cancelled, or its pool
    /// released.
    ///
    /// ```
    /// # use {anthill::Pool, std::time::Duration};
    /// let pool = Pool::with_capacity(1);
    /// let timer = pool.submit_every(Duration::from_secs(60), || println!("a minute has passed"))?;
    /// assert!(timer.cancel());
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn cancel(&self) -> bool {
        self.timer.cancel()
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").finish_non_exhaustive()
    }
}

impl PoolHandle {
    /// Submits a task once `after` has passed.
    ///
    /// Until then it takes no room, and [`wait_idle`](PoolHandle::wait_idle) does not wait for it. It is never early; it is
    /// submitted at most a millisecond late, if the system lets the timers' thread run. With [`Duration::MAX`] it is never
    /// submitted.
    ///
    /// It is submitted as by [`submit`](PoolHandle::submit), but blocks no thread: without room the task gets in line behind
    /// those that wait, as an accepted task, also where [`Overflow::CallerRuns`](crate::Overflow::CallerRuns) would have
    /// the caller run it. With [`Overflow::Reject`](crate::Overflow::Reject) it is dropped and counted as rejected; that
    /// drop, and that of a task that it replaces under [`Overflow::DropOldest`](crate::Overflow::DropOldest), is on the
    /// thread that all timers share.
    ///
    /// A [release](PoolHandle::release) of any form, and the drop of the pool, cancel its timers. A timer does not keep the
    /// pool open.
    ///
    /// # Errors
    ///
    /// The closure comes back if the pool is [`Closed`](crate::SubmitErrorKind::Closed), or if the timers have
    /// [no thread](crate::SubmitErrorKind::NoThread) and the system refuses one.
    ///
    /// ```
    /// # use {anthill::Pool, std::sync::mpsc, std::time::Duration};
    /// let pool = Pool::with_capacity(1);
    /// let (send, receive) = mpsc::channel();
    /// pool.submit_after(Duration::from_millis(5), move || send.send("later").unwrap())?;
    /// assert_eq!(receive.recv()?, "later");
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn submit_after<F>(&self, after: Duration, f: F) -> Result<Timer, SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        let pool = self.core();
        if pool.is_foreign() {
            return Err(refuse_foreign(pool, f));
        }
        let service = service();
        let timer = Once::start(service, pool, service.tick_after(after), f)?;
        Ok(Timer { timer })
    }

    /// Submits a task again and again, each `period` from now, until the timer is cancelled or the pool released.
    ///
    /// The first task comes after one period. Each is submitted as by [`submit_after`](PoolHandle::submit_after). The
    /// closure never runs twice at once: a time that comes while it waits or runs is skipped, and the next one is the
    /// next multiple of the period since the start. A period of less than a millisecond counts as one.
    ///
    /// A panic of a run is told to the pool's panic handler, and the series goes on with the closure as the panic left it.
    ///
    /// # Errors
    ///
    /// Fails as [`submit_after`](PoolHandle::submit_after) does.
    ///
    /// ```
    /// # use {anthill::Pool, std::sync::mpsc, std::time::Duration};
    /// let pool = Pool::with_capacity(1);
    /// let (send, receive) = mpsc::channel();
    /// let mut times = 0;
    /// let timer = pool.submit_every(Duration::from_millis(2), move || {
    ///     times += 1;
    ///     let _ = send.send(times);
    /// })?;
    /// assert_eq!(receive.iter().take(3).collect::<Vec<_>>(), [1, 2, 3]);
    /// timer.cancel();
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn submit_every<F>(&self, period: Duration, f: F) -> Result<Timer, SubmitError<F>>
    where
        F: FnMut() + Send + 'static,
    {
        let pool = self.core();
        if pool.is_foreign() {
            return Err(refuse_foreign(pool, f));
        }
        let timer = Series::start(service(), pool, period, f)?;
        Ok(Timer { timer })
    }
}
