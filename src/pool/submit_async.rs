//! Submitting a task from a future: room is awaited, and no thread waits for it.

use super::PoolHandle;
use crate::engine::submit::offer::Offer;
use crate::engine::task::Task;
use crate::error::SubmitError;
use crate::sync::Arc;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll};

impl PoolHandle {
    /// Submits a task; without room the returned future waits for it, and blocks no thread. Needs the feature
    /// `futures`.
    ///
    /// It works on any executor. The first poll submits the task as [`submit`](PoolHandle::submit) does, with the same
    /// [`Overflow`](crate::Overflow) (`CallerRuns` runs the task in the poll). If it must wait, it waits in the same line
    /// as threads do, first come, first served, and counts as one that [waits](PoolHandle::waiting). A first poll in a
    /// task of the same pool never waits.
    ///
    /// Dropping the future calls the task off: it leaves the line, and the closure is dropped. If it was let in
    /// meanwhile it stays accepted, and runs.
    ///
    /// # Errors
    ///
    /// The future fails as `submit` does: the closure comes back. If the system refuses to start a thread for the pool
    /// while the future waits, the attempt is repeated as for a [handle](crate::JoinHandle) that is awaited.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let pool = anthill::Pool::with_capacity(1);
    /// for n in 0..9 {
    ///     pool.submit_async(move || println!("{n}")).await?; // waits while one runs
    /// }
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// # }).unwrap();
    /// ```
    pub fn submit_async<F>(&self, f: F) -> SubmitAsync<F>
    where
        F: FnOnce() + Send + 'static,
    {
        SubmitAsync {
            offer: Offer::new(Arc::clone(&self.core), Task::new(f)),
            closure: PhantomData,
        }
    }
}

/// The future of a task that is [submitted](PoolHandle::submit_async).
#[must_use = "a future does nothing unless it is polled"]
pub struct SubmitAsync<F> {
    offer: Offer,
    /// The task was made from it.
    closure: PhantomData<fn(F) -> F>,
}

impl<F> Future for SubmitAsync<F> {
    type Output = Result<(), SubmitError<F>>;

    /// Submits the task, or looks whether there was room.
    ///
    /// # Panics
    ///
    /// Panics when it is polled again after it was ready; and in the child of a fork, if it waited in the parent and
    /// the task is out of reach there.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let submitted = self.get_mut().offer.poll(context.waker());
        // SAFETY: the task that comes back is its own, made in `submit_async` from this `F`.
        submitted.map(|submitted| submitted.map_err(|refusal| unsafe { refusal.into_error() }))
    }
}

/// No panic leaves what it shares with the pool half-changed.
impl<F> UnwindSafe for SubmitAsync<F> {}
impl<F> RefUnwindSafe for SubmitAsync<F> {}

impl<F> fmt::Debug for SubmitAsync<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmitAsync")
            .field("waiting", &self.offer.is_waiting())
            .finish_non_exhaustive()
    }
}
