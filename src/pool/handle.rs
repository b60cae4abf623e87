//! [`PoolHandle`]: what tasks and other threads hold of a pool; the three ways to submit a task without a result.

use crate::engine::core::Core;
use crate::engine::current;
use crate::engine::submit::{Patience, Submit, SubmitAll};
use crate::error::{SubmitAllError, SubmitError};
use crate::stop::StopToken;
use crate::sync::{Arc, Ordering, deadline_after};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

/// A cloneable, non-owning handle to a pool.
///
/// Tasks capture it and threads share it; it does not keep the pool open, unless the pool was
/// [detached](crate::Pool::detach). All operations of a pool are methods of it.
///
/// ```
/// use anthill::{Pool, PoolHandle};
///
/// fn walk(pool: PoolHandle, depth: u32) {
///     if depth > 0 {
///         for _ in 0..2 {
///             let next = pool.clone();
///             // On a worker of the pool `submit` never waits.
///             pool.submit(move || walk(next, depth - 1)).unwrap();
///         }
///     }
/// }
///
/// let pool = Pool::with_capacity(2);
/// let handle = pool.handle();
/// pool.submit(move || walk(handle, 5))?;
/// pool.wait_idle();
/// assert_eq!(pool.stats().completed, 63);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct PoolHandle {
    pub(super) core: Arc<Core>,
}

/// No panic leaves what a pool keeps under its locks half-changed.
impl UnwindSafe for PoolHandle {}
impl RefUnwindSafe for PoolHandle {}

impl PoolHandle {
    pub(super) fn new(core: Arc<Core>) -> PoolHandle {
        // ORDERING: Relaxed: whoever makes a handle has one, or has just made the pool.
        core.handles.fetch_add(1, Ordering::Relaxed);
        PoolHandle { core }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Returns a handle to the pool whose task (or hook) runs on this thread.
    ///
    /// ```
    /// use anthill::{Pool, PoolHandle};
    /// assert!(PoolHandle::current().is_none());
    /// let pool = Pool::with_capacity(1);
    /// pool.submit(|| {
    ///     let pool = PoolHandle::current().unwrap();
    ///     pool.submit(|| println!("next")).unwrap();
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[must_use]
    pub fn current() -> Option<PoolHandle> {
        current::core().map(PoolHandle::new)
    }

    /// Returns whether this thread runs a task (or a hook) of the pool, even beneath a task of another pool.
    ///
    /// If it does, a call that waits for all tasks of the pool cannot end.
    ///
    /// ```
    /// use anthill::Pool;
    /// let pool = Pool::with_capacity(1);
    /// assert!(!pool.is_inside());
    /// let handle = pool.handle();
    /// assert!(pool.spawn(move || handle.is_inside())?.join()?);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[must_use]
    pub fn is_inside(&self) -> bool {
        current::is_inside(&self.core)
    }

    /// Submits a task; blocks while there is no room.
    ///
    /// There is room while fewer than capacity + backlog tasks run or are queued. Submitters that wait are admitted
    /// first come, first served. [`Builder::overflow`](crate::Builder::overflow) changes what happens when there is no
    /// room. On a worker of the same pool `submit` never blocks: a task without room is queued beyond the bound.
    /// Between pools it blocks as anywhere else, so a cycle of bounded pools whose tasks submit to one another can fill
    /// up and deadlock.
    ///
    /// Everything before `submit` happens before the task. If the task panics, the panic is caught and counted, and the
    /// pool's panic handler is called; with `panic = "abort"` the process ends.
    ///
    /// # Errors
    ///
    /// The closure comes back if the pool is [`Closed`](crate::SubmitErrorKind::Closed), has
    /// [no thread](crate::SubmitErrorKind::NoThread) and cannot start one, or, depending on how the pool was built, is
    /// [`Full`](crate::SubmitErrorKind::Full) or has [too many waiting](crate::SubmitErrorKind::TooManyWaiting).
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(2);
    /// pool.submit(|| println!("on a worker"))?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn submit<F>(&self, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.core.submit_closure(f, Patience::Policy)
    }

    /// Submits a task if there is room right now. Never blocks, except on a short lock or to start a thread.
    ///
    /// # Errors
    ///
    /// The closure comes back if the pool is [`Full`](crate::SubmitErrorKind::Full),
    /// [`Closed`](crate::SubmitErrorKind::Closed), or has [no thread](crate::SubmitErrorKind::NoThread) and cannot
    /// start one.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(1);
    /// let (go, gate) = std::sync::mpsc::channel::<()>();
    /// pool.try_submit(move || gate.recv().unwrap())?;
    /// assert!(pool.try_submit(|| {}).is_err()); // the one worker is busy
    /// go.send(())?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn try_submit<F>(&self, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.core.submit_closure(f, Patience::None)
    }

    /// Submits a task; blocks at most for `timeout` while there is no room. `Duration::MAX` means without a limit.
    ///
    /// The pool's [`Overflow`](crate::Overflow) has no effect on it.
    ///
    /// # Errors
    ///
    /// Fails as [`submit`](PoolHandle::submit) does, and with [`TimedOut`](crate::SubmitErrorKind::TimedOut).
    ///
    /// ```
    /// # use anthill::{Pool, SubmitErrorKind};
    /// # use std::time::Duration;
    /// let paused = Pool::with_capacity(0);
    /// let refused = paused.submit_timeout(|| {}, Duration::from_millis(5)).unwrap_err();
    /// assert_eq!(refused.kind(), SubmitErrorKind::TimedOut);
    /// ```
    pub fn submit_timeout<F>(&self, f: F, timeout: Duration) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.core
            .submit_closure(f, Patience::Until(deadline_after(timeout)))
    }

    /// Submits many tasks, in order; blocks while there is no room, like [`submit`](PoolHandle::submit). Returns how
    /// many there were.
    ///
    /// Tasks come in together as far as there is room, and then wait in line together: a chunk of up to 64 tasks takes
    /// its places in one step, wakes workers as one task does, and counts as one submitter that waits. Its submitter is
    /// woken once for all of them. The tasks start in order as those of one submitter do, and those that wait are
    /// overtaken by none that comes later. For many small tasks it spares its submitter most of what a loop of `submit`
    /// takes; the work of the workers stays.
    ///
    /// # What is pulled out of the iterator, and when
    ///
    /// Up to 64 tasks are pulled ahead, but no more than the iterator promises by its
    /// [`size_hint`](Iterator::size_hint). An iterator that promises nothing, such as that of a channel, is asked for one
    /// task at a time, which is submitted before the next one is asked for. An iterator may be endless: it takes constant
    /// memory. It may use the pool. If it panics, the tasks that came before are submitted, and then the panic goes on.
    ///
    /// # Overflow
    ///
    /// Each [`Overflow`](crate::Overflow) does what it does for `submit`: with `CallerRuns` the caller runs the first
    /// task that finds no room and then goes on, with `DropOldest` each task without room drops another one, with
    /// `Reject` the first task without room is refused, and all that follow it come back. On a worker of the same pool it
    /// never blocks.
    ///
    /// # Errors
    ///
    /// Fails as `submit` does. What was accepted stays accepted. All other closures come back, for which the iterator is
    /// run to its end: if it has none, and does not say so by its `size_hint`, that takes for ever.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(2);
    /// let accepted = pool.submit_all((0..100).map(|n| move || drop(n)))?;
    /// pool.wait_idle();
    /// assert_eq!((accepted, pool.stats().completed), (100, 100));
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn submit_all<I, F>(&self, tasks: I) -> Result<usize, SubmitAllError<F>>
    where
        I: IntoIterator<Item = F>,
        F: FnOnce() + Send + 'static,
    {
        self.core.submit_closures(tasks.into_iter())
    }

    /// Submits a task like [`submit`](PoolHandle::submit), until the signal of `stop` calls it off.
    ///
    /// A submitter that waits for room is woken by the signal and leaves nothing behind. If the signal was given before,
    /// the task is refused though there may be room. The signal has no effect on a task that was accepted.
    ///
    /// # Errors
    ///
    /// Fails as `submit` does, and with [`Cancelled`](crate::SubmitErrorKind::Cancelled): the closure comes back. If
    /// `stop` is the pool's own [token](PoolHandle::stop_token), the release of the pool may say `Cancelled` or
    /// [`Closed`](crate::SubmitErrorKind::Closed).
    ///
    /// ```
    /// # use anthill::{Pool, StopSource, SubmitErrorKind};
    /// let pool = Pool::with_capacity(0); // paused: no room
    /// let source = StopSource::new();
    /// let stop = source.token();
    /// std::thread::scope(|scope| {
    ///     let waits = scope.spawn(|| pool.submit_cancellable(|| (), &stop).map_err(|error| error.kind()));
    ///     while pool.waiting() == 0 {
    ///         std::thread::yield_now();
    ///     }
    ///     source.stop();
    ///     assert_eq!(waits.join().unwrap(), Err(SubmitErrorKind::Cancelled));
    /// });
    /// assert_eq!(pool.waiting(), 0);
    /// ```
    pub fn submit_cancellable<F>(&self, f: F, stop: &StopToken) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.core.submit_unless_stopped(f, stop)
    }

    pub(crate) fn describe(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        f.debug_struct(name)
            .field("capacity", &self.capacity())
            .field("workers", &self.workers())
            .field("running", &self.running())
            .field("queued", &self.queued())
            .field("waiting", &self.waiting())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl Clone for PoolHandle {
    fn clone(&self) -> PoolHandle {
        PoolHandle::new(Arc::clone(&self.core))
    }
}

impl Drop for PoolHandle {
    fn drop(&mut self) {
        // ORDERING: AcqRel, as for any reference count: what other handles did comes before the end.
        if self.core.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.core.abandon();
        }
    }
}

impl fmt::Debug for PoolHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f, "PoolHandle")
    }
}
