//! What each timer of a pool knows of the pool and of the timers of the process.

use super::service::Service;
use crate::engine::core::Core;
use crate::engine::submit::Refusal;
use crate::engine::task::{Body, Task};
use crate::error::{SubmitError, SubmitErrorKind};
use crate::fork;
use crate::sync::{Arc, Weak};
use std::io;
use std::time::Duration;

/// When a timer is due again whose pool had no thread and could not start one.
pub(super) const RETRY: Duration = Duration::from_millis(10);

pub(super) struct Link {
    pub(super) service: &'static Service,
    /// A timer does not keep its pool.
    pub(super) pool: Weak<Core>,
}

impl Link {
    pub(super) fn new(service: &'static Service, pool: &Arc<Core>) -> Link {
        Link {
            service,
            pool: Arc::downgrade(pool),
        }
    }

    /// G1 of [`fork`]: the timer is one of a process from which this one was forked.
    pub(super) fn is_foreign(&self) -> bool {
        !self.service.is_here()
    }

    /// Forgets a timer that is over.
    pub(super) fn forget<T>(&self, timer: *const T) {
        if let Some(pool) = self.pool.upgrade() {
            drop(pool.timers.remove(timer));
        }
    }

    /// Calls `fire` with the pool, which is not at rest meanwhile; not at all if it is closed (TM2).
    pub(super) fn with_open_pool(&self, fire: impl FnOnce(&Arc<Core>)) {
        let Some(pool) = self.pool.upgrade() else {
            return;
        };
        if pool.admission.hold_open() {
            fire(&pool);
            pool.follow_up(pool.admission.unhold());
        }
    }
}

/// What came of a task that a timer handed in.
pub(super) enum Handed<B> {
    /// It was accepted.
    Over,
    /// It was refused for good.
    Refused(B),
    /// There was no thread to run it.
    Later(B),
}

/// Hands in what a timer submits.
pub(super) fn hand_in<B: Body>(pool: &Arc<Core>, body: B) -> Handed<B> {
    match pool.submit_due(Task::new(body)) {
        Ok(()) => Handed::Over,
        Err(Refusal { kind, task, .. }) => {
            // SAFETY: it was made above from this `B`, and the door gives the same task back.
            let body = unsafe { task.into_inner::<B>() };
            if kind == SubmitErrorKind::NoThread {
                Handed::Later(body)
            } else {
                Handed::Refused(body)
            }
        }
    }
}

/// Refuses a timer: the pool is closed, or in another process.
pub(super) fn refuse<F>(pool: &Arc<Core>, kind: SubmitErrorKind, f: F) -> SubmitError<F> {
    refuse_for(pool, kind, None, f)
}

/// Refuses a timer for which the system refuses the thread.
pub(super) fn refuse_thread<F>(pool: &Arc<Core>, refusal: io::Error, f: F) -> SubmitError<F> {
    refuse_for(pool, SubmitErrorKind::NoThread, Some(refusal), f)
}

/// G1 of [`fork`].
pub(super) fn refuse_foreign<F>(pool: &Arc<Core>, f: F) -> SubmitError<F> {
    refuse_thread(pool, fork::refusal(), f)
}

fn refuse_for<F>(
    pool: &Arc<Core>,
    kind: SubmitErrorKind,
    refusal: Option<io::Error>,
    f: F,
) -> SubmitError<F> {
    pool.counts.rejected.add(1);
    SubmitError::new(kind, refusal, f)
}
