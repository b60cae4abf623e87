//! Spawning a task from a future: room is awaited, and no thread waits for it.

use super::handle::JoinHandle;
use super::raw_handle::RawHandle;
use super::spawned::{Nobody, Spawned, SpawnedRef};
use crate::engine::core::Core;
use crate::engine::submit::offer::{Offer, Withdrawn};
use crate::engine::task::Task;
use crate::engine::task::intrusive_arc::IntrusiveArc;
use crate::error::SubmitError;
use crate::pool::PoolHandle;
use crate::sync::Arc;
use std::fmt;
use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll};

impl PoolHandle {
    /// Submits a task and returns a handle to its result; without room the returned future waits for it, and blocks no
    /// thread. Needs the feature `futures`.
    ///
    /// It is [`submit_async`](PoolHandle::submit_async) for [`spawn`](PoolHandle::spawn). Dropping the future after the
    /// task was let in detaches the task.
    ///
    /// # Errors
    ///
    /// The future fails as `spawn` does: the closure comes back.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let pool = anthill::Pool::with_capacity(1);
    /// let first = pool.spawn_async(|| 6).await?;
    /// let second = pool.spawn_async(|| 7).await?; // waits while the first one runs
    /// assert_eq!(first.await? * second.await?, 42);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// # }).unwrap();
    /// ```
    pub fn spawn_async<F, T>(&self, f: F) -> SpawnAsync<F, T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let core = Arc::clone(self.core());
        let (spawned, queued) = IntrusiveArc::pair(|| Spawned::new(f, Nobody, true));
        let task = Task::of_claimable(Spawned::as_claimable(queued));
        SpawnAsync {
            offer: Offer::new(Arc::clone(&core), task),
            spawned: Some((spawned, core)),
        }
    }
}

/// The future of a task that is [spawned](PoolHandle::spawn_async).
#[must_use = "a future does nothing unless it is polled"]
pub struct SpawnAsync<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    offer: Offer,
    /// What the handle gets, and where the task is; `None` once the future was ready.
    spawned: Option<(SpawnedRef<F, T, Nobody>, Arc<Core>)>,
}

impl<F, T> Future for SpawnAsync<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    type Output = Result<JoinHandle<T>, SubmitError<F>>;

    /// Submits the task, or looks whether there was room.
    ///
    /// # Panics
    ///
    /// As the poll of [`SubmitAsync`](crate::SubmitAsync).
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Poll::Ready(submitted) = this.offer.poll(context.waker()) else {
            return Poll::Pending;
        };
        let Some((spawned, core)) = this.spawned.take() else {
            unreachable!("its offer panics when it is polled again after it was ready");
        };
        Poll::Ready(match submitted {
            Ok(()) => Ok(handle(spawned, &core)),
            Err(refusal) => {
                refusal.task.disown();
                match spawned.take_back() {
                    Some(closure) => Err(SubmitError::new(refusal.kind, refusal.source, closure)),
                    None => unreachable!("a refused claimable is nobody else's"),
                }
            }
        })
    }
}

fn handle<F, T>(spawned: SpawnedRef<F, T, Nobody>, core: &Arc<Core>) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    JoinHandle(RawHandle::new(spawned, core.into()))
}

impl<F, T> Drop for SpawnAsync<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    /// Calls the task off, or detaches it if it was let in.
    fn drop(&mut self) {
        let Some((spawned, core)) = self.spawned.take() else {
            return;
        };
        match self.offer.withdraw() {
            Withdrawn::Accepted => drop(handle(spawned, &core)),
            Withdrawn::Back(task) => {
                task.disown();
                drop(spawned.take_back());
            }
            Withdrawn::Nothing => {}
        }
    }
}

/// No panic leaves what it shares with the pool half-changed.
impl<F, T> UnwindSafe for SpawnAsync<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
}

impl<F, T> RefUnwindSafe for SpawnAsync<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
}

impl<F, T> fmt::Debug for SpawnAsync<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnAsync")
            .field("waiting", &self.offer.is_waiting())
            .finish_non_exhaustive()
    }
}
