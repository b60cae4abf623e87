//! Tasks with a result: `spawn`, and the handle to wait with.

use super::home::{Home, submit_spawned};
use super::join_error::JoinError;
use super::raw_handle::RawHandle;
use super::spawned::{Nobody, Spawned};
use crate::engine::core::Core;
use crate::engine::submit::{Patience, Refusal, Submit, Target};
use crate::engine::task::Task;
use crate::engine::task::claimable::ClaimableRef;
use crate::error::SubmitError;
use crate::pool::PoolHandle;
use crate::sync::{Arc, deadline_after};
use std::fmt;
use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

impl PoolHandle {
    /// Submits a task and returns a handle to its result; blocks while there is no room, like
    /// [`submit`](PoolHandle::submit).
    ///
    /// The task and its result are one allocation.
    ///
    /// # Errors
    ///
    /// Fails as [`submit`](PoolHandle::submit) does: the closure comes back.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(2);
    /// let half = pool.spawn(|| (1..=50).sum::<u32>())?;
    /// let rest: u32 = (51..=100).sum();
    /// assert_eq!(half.join()? + rest, 5050);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn spawn<F, T>(&self, f: F) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn(self.core(), f, Patience::Policy)
    }

    /// Submits a task and returns a handle to its result, if there is room right now.
    ///
    /// # Errors
    ///
    /// Fails as [`try_submit`](PoolHandle::try_submit) does: the closure comes back.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(1);
    /// assert_eq!(pool.try_spawn(|| 7)?.join()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn try_spawn<F, T>(&self, f: F) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn(self.core(), f, Patience::None)
    }

    /// Submits a task and returns a handle to its result; blocks at most for `timeout` while there is no room.
    ///
    /// # Errors
    ///
    /// Fails as [`submit_timeout`](PoolHandle::submit_timeout) does: the closure comes back.
    ///
    /// ```
    /// # use {anthill::Pool, std::time::Duration};
    /// let pool = Pool::with_capacity(1);
    /// assert_eq!(pool.spawn_timeout(|| 7, Duration::from_secs(1))?.join()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn spawn_timeout<F, T>(
        &self,
        f: F,
        timeout: Duration,
    ) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn(self.core(), f, Patience::Until(deadline_after(timeout)))
    }
}

/// Submits a task to a pool, or to a sub-queue of a share.
pub(crate) fn spawn<H, F, T>(
    target: &Arc<H>,
    closure: F,
    patience: Patience,
) -> Result<JoinHandle<T>, SubmitError<F>>
where
    H: Target,
    for<'a> Home: From<&'a Arc<H>>,
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let submit = |claimable| target.submit(|| Task::of_claimable(claimable), patience);
    let (spawned, ()) = submit_spawned(|| Spawned::new(closure, Nobody, true), submit)?;
    let home = Home::from(target);
    Ok(JoinHandle(RawHandle::new(spawned, home)))
}

/// Submits a task to one of several pools; `submit` returns which.
pub(crate) fn spawn_with<F, T>(
    closure: F,
    submit: impl FnOnce(ClaimableRef) -> Result<Arc<Core>, Refusal>,
) -> Result<JoinHandle<T>, SubmitError<F>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (spawned, core) = submit_spawned(|| Spawned::new(closure, Nobody, true), submit)?;
    Ok(JoinHandle(RawHandle::new(spawned, Home::Pool(core))))
}

/// A handle to a task that was [spawned](PoolHandle::spawn), and to its result.
///
/// It can be [joined](JoinHandle::join), also with a [time limit](JoinHandle::join_timeout), or awaited on any
/// executor. It can [cancel](JoinHandle::cancel) a task that has not started. Dropping the handle detaches the task,
/// which runs all the same.
///
/// Every handle resolves: the task returned, it panicked, or it was dropped before it started (cancelled, discarded by
/// [`release_now`](PoolHandle::release_now), or dropped to make room).
///
/// # Waiting in a task
///
/// In a task of the same pool a join never waits for a free worker: if the task that it waits for has not started, the
/// join runs it at once, on the place of the task that waits, and it runs no other task. So it works at capacity 1,
/// too. A task that waits for itself, or for one that is suspended beneath it on the same stack, gets an
/// [error](JoinError::is_deadlock). In a task of another pool, and outside of pools, a join only waits.
///
/// # Panics of the task
///
/// A panic goes to the handle if there still is one when the task ends, and otherwise to the pool's panic handler.
///
/// ```
/// let pool = anthill::Pool::with_capacity(2);
/// let handle = pool.spawn(|| "done")?;
/// assert_eq!(handle.join()?, "done");
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[must_use = "dropping the handle detaches the task; `submit` is for tasks without a result"]
pub struct JoinHandle<T>(pub(super) RawHandle<'static, T>);

impl<T> JoinHandle<T> {
    /// Waits for the result.
    ///
    /// All that the task did, and the drop of what it captured, happens before `join` returns.
    ///
    /// When a join runs the task itself, the joins of that task do the same in turn, all on one stack. If many tasks
    /// have not started and each joins the one before it, joining the last runs all of them within one another. The
    /// default stack of 2 MiB has room for some thousands of them, or some hundreds without optimization. There is no
    /// such limit if the wait for their [group](PoolHandle::group), their [scope](PoolHandle::scope) or a task of a
    /// [serial](PoolHandle::serial) share runs them: that takes the oldest first.
    ///
    /// # Errors
    ///
    /// Fails if the task panicked, if it was dropped before it started, or if the wait would never end.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(1);
    /// let inner = pool.handle();
    /// let outer = pool.spawn(move || inner.spawn(|| 1).unwrap().join().unwrap() + 1)?;
    /// assert_eq!(outer.join()?, 2);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn join(self) -> Result<T, JoinError> {
        self.0.join()
    }

    /// Waits for the result, but at most for `timeout`; `Duration::MAX` means without a limit.
    ///
    /// If it runs the task itself (see [above](JoinHandle#waiting-in-a-task)) it may take longer.
    ///
    /// # Errors
    ///
    /// The handle comes back if the time is up.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let pool = anthill::Pool::with_capacity(1);
    /// let (go, gate) = std::sync::mpsc::channel::<()>();
    /// let handle = pool.spawn(move || gate.recv().is_ok())?;
    /// let handle = handle.join_timeout(Duration::from_millis(5)).unwrap_err();
    /// go.send(())?;
    /// assert!(handle.join()?);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn join_timeout(self, timeout: Duration) -> Result<Result<T, JoinError>, JoinHandle<T>> {
        self.0.join_timeout(timeout).map_err(JoinHandle)
    }

    /// Returns whether the task is over: it returned, panicked, or was dropped before it started.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(1);
    /// let handle = pool.spawn(|| ())?;
    /// pool.wait_idle();
    /// assert!(handle.is_finished());
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Cancels the task if it has not started. Returns whether it was cancelled.
    ///
    /// If it was, the task never runs, what it captured has been dropped, and its room is free.
    ///
    /// ```
    /// let pool = anthill::Pool::builder().capacity(0).backlog(1).build()?; // paused
    /// let handle = pool.spawn(|| unreachable!())?;
    /// assert!(handle.cancel());
    /// assert_eq!(pool.queued(), 0);
    /// assert!(handle.join().unwrap_err().is_cancelled());
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn cancel(&self) -> bool {
        self.0.cancel()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    /// Polls for the result.
    ///
    /// On a worker of the same pool it runs a task that has not started, as [`join`](JoinHandle::join) does.
    ///
    /// If the system refused to start a thread for the pool, the attempt is repeated while the handle is awaited: the
    /// pool starts a small thread for that, which ends once no thread is lacking. If the system refuses that one too,
    /// each poll makes the attempt: it then blocks the executor's thread for up to 10 ms, and wakes itself.
    ///
    /// # Panics
    ///
    /// Panics when it is polled again after it was ready.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().0.poll(context)
    }
}

impl<T> UnwindSafe for JoinHandle<T> {}
impl<T> RefUnwindSafe for JoinHandle<T> {}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}
