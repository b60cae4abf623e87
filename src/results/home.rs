//! Where a claimable was submitted, and what its handle asks for there.
//!
//! A claimable is queued at a pool or at a sub-queue of a share. A handle keeps this `Home`, to run the task in place
//! or to cancel it.

use super::spawned::{Held, Owner, Spawned, SpawnedRef};
use crate::engine::core::Core;
use crate::engine::submit::{Refusal, Target};
use crate::engine::task::claimable::ClaimableRef;
use crate::engine::task::intrusive_arc::IntrusiveArc;
use crate::error::SubmitError;
use crate::pools::share_core::SubQueue;
use crate::sync::{Arc, Instant};

/// The pool or the sub-queue to which a claimable was submitted.
pub(crate) enum Home {
    Pool(Arc<Core>),
    SubQueue(Arc<SubQueue>),
}

impl From<&Arc<Core>> for Home {
    fn from(core: &Arc<Core>) -> Home {
        Home::Pool(Arc::clone(core))
    }
}

impl From<&Arc<SubQueue>> for Home {
    fn from(sub_queue: &Arc<SubQueue>) -> Home {
        Home::SubQueue(Arc::clone(sub_queue))
    }
}

impl Home {
    pub(super) fn core(&self) -> &Arc<Core> {
        match self {
            Home::Pool(core) => core,
            Home::SubQueue(sub_queue) => sub_queue.core(),
        }
    }

    /// Runs a task that has not started, in a task of the same pool. When it returns, the task may also have started
    /// elsewhere, or the time may be up.
    pub(super) fn help<T>(&self, held: &dyn Held<T>, deadline: Option<Instant>) {
        match self {
            Home::Pool(core) => {
                if let Some(claim) = held.take_claim() {
                    core.run_claimed(claim);
                }
            }
            Home::SubQueue(sub_queue) => sub_queue.help_with(held.claimable(), deadline),
        }
    }

    pub(super) fn cancel<T>(&self, held: &dyn Held<T>) -> bool {
        match self {
            Home::Pool(core) => core.cancel(held.claimable()),
            Home::SubQueue(sub_queue) => sub_queue.cancel(held.claimable()),
        }
    }
}

/// A spawned task that was submitted, and where.
type SpawnedAt<F, T, O, Where> = (SpawnedRef<F, T, O>, Where);

/// Submits a spawned task; its closure comes back if it is refused.
pub(super) fn submit_spawned<F, R, T, O, Where>(
    make: impl FnOnce() -> Spawned<F, T, O>,
    submit: impl FnOnce(ClaimableRef) -> Result<Where, Refusal>,
) -> Result<SpawnedAt<F, T, O, Where>, SubmitError<F>>
where
    F: FnOnce() -> R + Send + 'static,
    T: Send + 'static,
    O: Owner<R, Value = T> + 'static,
{
    let (spawned, queued) = IntrusiveArc::pair(make);
    match submit(Spawned::as_claimable(queued)) {
        Ok(place) => Ok((spawned, place)),
        Err(refusal) => {
            refusal.task.disown();
            match spawned.take_back() {
                Some(closure) => Err(SubmitError::new(refusal.kind, refusal.source, closure)),
                None => unreachable!("a refused claimable is nobody else's"),
            }
        }
    }
}
