//! [`PoolHandle`]: what tasks and other threads hold of a pool; the three ways to submit a task without a result.

use crate::engine::core::Core;
use crate::engine::current;
use crate::engine::submit::{Patience, Submit};
use crate::error::SubmitError;
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
