//! Shares of a pool with one queue: at most `n` tasks at once, or one after the other.

use super::share::Share;
use super::share_core::SubQueue;
use crate::engine::submit::{Patience, Submit, SubmitAll};
use crate::error::{SubmitAllError, SubmitError};
use crate::pool::PoolHandle;
use crate::results::handle::{JoinHandle, spawn};
use crate::sync::{Arc, deadline_after};
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

/// A share of a pool of whose tasks only a limited number run at once. They start in the order in which they were
/// accepted.
///
/// [`PoolHandle::limit`] makes it.
///
/// ```
/// let pool = anthill::Pool::default();
/// let disk = pool.limit(2); // the disk likes no more
/// for file in ["a", "b", "c"] {
///     disk.submit(move || println!("reading {file}"))?;
/// }
/// disk.wait_idle();
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Clone)]
pub struct Limited {
    share: Share,
    sub_queue: Arc<SubQueue>,
}

impl PoolHandle {
    /// Makes a share of the pool, of which at most `n` tasks run at once. With 0 it is paused.
    ///
    /// It has no threads of its own. Its backlog is unbounded unless it is [given a bound](Limited::backlog).
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(8);
    /// let mails = pool.limit(3).backlog(100);
    /// mails.submit(|| println!("a mail"))?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[must_use]
    pub fn limit(&self, n: usize) -> Limited {
        Limited::new(self, n, false)
    }

    /// Makes a share of the pool whose tasks run one at a time, in the order in which they were accepted.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(8);
    /// let log = pool.serial();
    /// for line in 0..3 {
    ///     log.submit(move || println!("line {line}"))?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[must_use]
    pub fn serial(&self) -> Serial {
        Serial(Limited::new(self, 1, true))
    }
}

impl Limited {
    fn new(pool: &PoolHandle, slots: usize, ordered: bool) -> Limited {
        let max_limit = if ordered { 1 } else { usize::MAX };
        let share = Share::new(pool, Some(slots), max_limit);
        let sub_queue = SubQueue::new(share.share(), slots, ordered, None);
        Limited { share, sub_queue }
    }

    /// Bounds the accepted tasks of the share that wait for their turn.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(8);
    /// let paused = pool.limit(0).backlog(1);
    /// paused.try_submit(|| {})?;
    /// assert!(paused.try_submit(|| {}).is_err());
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[must_use]
    pub fn backlog(self, n: usize) -> Limited {
        self.share.share().set_backlog(n);
        self
    }

    /// Changes how many tasks of the share may run at once, and returns the old number. Does not wait.
    ///
    /// A [`Serial`] can be paused, with 0, and resumed, but runs one task at a time.
    ///
    /// ```
    /// let share = anthill::Pool::with_capacity(8).limit(2);
    /// assert_eq!((share.tune(4), share.capacity()), (2, 4));
    /// ```
    pub fn tune(&self, n: usize) -> usize {
        self.share.share().tune(n)
    }

    /// Submits a task to the share; blocks while there is no room, as [`PoolHandle::submit`] does.
    ///
    /// It can block only if the backlog is bounded, and never on a worker of the pool.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::submit`] does: the closure comes back.
    pub fn submit<F>(&self, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.sub_queue.submit_closure(f, Patience::Policy)
    }

    /// Submits many tasks to the share, in order, as [`PoolHandle::submit_all`] does.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::submit_all`] does: the closures that were not accepted come back.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(8);
    /// let log = pool.serial();
    /// assert_eq!(log.submit_all((0..100).map(|line| move || println!("line {line}")))?, 100);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn submit_all<I, F>(&self, tasks: I) -> Result<usize, SubmitAllError<F>>
    where
        I: IntoIterator<Item = F>,
        F: FnOnce() + Send + 'static,
    {
        self.sub_queue.submit_closures(tasks.into_iter())
    }

    /// Submits a task to the share if there is room right now.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::try_submit`] does: the closure comes back.
    pub fn try_submit<F>(&self, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.sub_queue.submit_closure(f, Patience::None)
    }

    /// Submits a task to the share; blocks at most for `timeout` while there is no room.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::submit_timeout`] does: the closure comes back.
    pub fn submit_timeout<F>(&self, f: F, timeout: Duration) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        let patience = Patience::Until(deadline_after(timeout));
        self.sub_queue.submit_closure(f, patience)
    }

    /// Submits a task like [`submit`](Limited::submit) and returns a handle to its result.
    ///
    /// In a task of the pool a [join](JoinHandle::join) runs the task itself, as soon as the limit allows; in a
    /// [`Serial`] it runs the tasks before it first.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::submit`] does: the closure comes back.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(8);
    /// assert_eq!(pool.serial().spawn(|| 7)?.join()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn spawn<F, T>(&self, f: F) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn(&self.sub_queue, f, Patience::Policy)
    }

    /// Submits a task and returns a handle to its result, if there is room right now.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::try_submit`] does: the closure comes back.
    pub fn try_spawn<F, T>(&self, f: F) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn(&self.sub_queue, f, Patience::None)
    }

    /// Submits a task and returns a handle to its result; blocks at most for `timeout` while there is no room.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::submit_timeout`] does: the closure comes back.
    pub fn spawn_timeout<F, T>(
        &self,
        f: F,
        timeout: Duration,
    ) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn(&self.sub_queue, f, Patience::Until(deadline_after(timeout)))
    }
}

impl Deref for Limited {
    type Target = Share;

    fn deref(&self) -> &Share {
        &self.share
    }
}

impl fmt::Debug for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.share.describe(f, "Limited")
    }
}

/// A share of a pool whose tasks run one at a time, in the order in which they were accepted.
///
/// [`PoolHandle::serial`] makes it. It dereferences to [`Limited`].
///
/// A panic costs only the task that panicked; the next one runs. An accepted task never runs out of its turn: with
/// [`Overflow::CallerRuns`](crate::Overflow::CallerRuns) a submitter blocks.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// let pool = anthill::Pool::with_capacity(8);
/// let (serial, seen) = (pool.serial(), Arc::new(Mutex::new(Vec::new())));
/// for n in 0..100 {
///     let seen = Arc::clone(&seen);
///     serial.submit(move || seen.lock().unwrap().push(n))?;
/// }
/// serial.wait_idle();
/// assert!(seen.lock().unwrap().iter().copied().eq(0..100));
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Clone)]
pub struct Serial(Limited);

impl Serial {
    /// Bounds the accepted tasks that wait for their turn.
    #[must_use]
    pub fn backlog(self, n: usize) -> Serial {
        Serial(self.0.backlog(n))
    }
}

impl Deref for Serial {
    type Target = Limited;

    fn deref(&self) -> &Limited {
        &self.0
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.share.describe(f, "Serial")
    }
}
