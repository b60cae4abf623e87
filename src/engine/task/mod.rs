//! What the queue carries: a [closure](Closure), which only its task can run, or a [shared task](SharedTask), whose
//! work other holders can claim, too.
//!
//! A [`Task`] is claimed, and then run or discarded; or it is dropped. A call out of that order does nothing (a
//! closure) or panics (a shared task). A task is large, and to move one that was just written is expensive: it is
//! claimed and run where it is. Nothing here knows of pools.

pub(crate) mod claimable;
pub(crate) mod closure;
pub(crate) mod intrusive_arc;
pub(crate) mod outcome;
pub(crate) mod permits;
pub(crate) mod shared;

pub(crate) use self::closure::{Body, Closure, ClosureOwner, ValueVTable};
pub(crate) use self::outcome::Outcome;
use crate::engine::task::claimable::{Claim, ClaimableRef, Ended};
use crate::engine::task::permits::Permit;
use crate::engine::task::shared::SharedTask;
use crate::sync::Arc;
use std::cmp;

/// A task, as the queue carries it.
pub(crate) enum Task {
    Closure(Closure),
    Shared(SharedTask),
}

impl Task {
    pub(crate) fn new<F: Body>(closure: F) -> Task {
        Task::Closure(Closure::new(closure))
    }

    pub(crate) fn of_value<V: Send + 'static>(vtable: ValueVTable<V>, value: V) -> Task {
        Task::Closure(Closure::of_value(vtable, value))
    }

    /// A closure that belongs to `owner`, which is told of its end.
    ///
    /// # Safety
    ///
    /// What `F` borrows must live until the owner is told that the closure is over.
    pub(crate) unsafe fn owned<F: FnOnce() + Send, O: ClosureOwner>(
        closure: F,
        owner: Arc<O>,
    ) -> Task {
        // SAFETY: the caller's.
        Task::Closure(unsafe { Closure::owned(closure, owner) })
    }

    pub(crate) fn of_claimable(claimable: ClaimableRef) -> Task {
        Task::Shared(SharedTask::of_claimable(claimable))
    }

    pub(crate) fn of_permit(permit: Arc<dyn Permit>) -> Task {
        Task::Shared(SharedTask::of_permit(permit))
    }

    /// T2: takes the right to run the task, or to discard it; false for a tombstone.
    #[inline]
    pub(crate) fn claim(&mut self) -> bool {
        match self {
            Task::Closure(_) => true,
            Task::Shared(shared) => shared.claim(),
        }
    }

    /// Notes that the task holds a place from now on; false for a tombstone, which holds none.
    pub(crate) fn note_place(&mut self) -> bool {
        match self {
            Task::Closure(_) => true,
            Task::Shared(shared) => shared.note_place(),
        }
    }

    /// The same for a task that was never handed in.
    ///
    /// # Safety
    ///
    /// No holder has claimed its claimable, and none can do so before this returns.
    pub(crate) unsafe fn note_first_place(&mut self) -> bool {
        match self {
            Task::Closure(_) => true,
            // SAFETY: the caller's.
            Task::Shared(shared) => unsafe { shared.note_first_place() },
        }
    }

    pub(crate) fn is_tombstone(&mut self) -> bool {
        match self {
            Task::Closure(_) => false,
            Task::Shared(shared) => shared.is_tombstone(),
        }
    }

    /// Drops a task that must not run, and leaves its claimable as it is.
    pub(crate) fn disown(self) {
        match self {
            Task::Closure(closure) => drop(closure),
            Task::Shared(shared) => shared.disown(),
        }
    }

    /// Runs the task, which the caller has claimed. `over` is told how it ended, before those that wait for a
    /// claimable are.
    pub(crate) fn run(&mut self, over: impl FnOnce(Outcome)) {
        match self {
            Task::Closure(closure) => closure.run(over),
            Task::Shared(shared) => {
                shared.run(over);
                shared.settle();
            }
        }
    }

    /// Drops the task unrun, which the caller has claimed; catches a panic in that. Calls `over` before those that
    /// wait for a claimable are told.
    pub(crate) fn discard(mut self, over: impl FnOnce()) {
        match &mut self {
            Task::Closure(closure) => closure.discard(over),
            Task::Shared(shared) => {
                shared.abandon();
                over();
                shared.settle();
            }
        }
    }

    /// Gives the closure back.
    ///
    /// # Safety
    ///
    /// The task must have been made by `Task::new::<F>` or `Task::of_value::<F>` for this very `F`.
    pub(crate) unsafe fn into_inner<F>(self) -> F {
        match self {
            // SAFETY: the caller vouches for `F`.
            Task::Closure(closure) => unsafe { closure.into_inner::<F>() },
            Task::Shared(_) => unreachable!("those two make closures"),
        }
    }
}

/// Work of a share that was claimed: a task, or a claimable apart from its task, which is a tombstone now.
pub(crate) enum Claimed<'a> {
    Task(Task),
    Claimable(Claim<'a>),
}

/// Work of a share that is over. Those that wait for it are told when this is settled.
#[must_use]
pub(crate) enum Unsettled<'a> {
    SharedTask(SharedTask),
    Claimable(Ended<'a>),
}

impl Unsettled<'_> {
    pub(crate) fn settle(self) {
        match self {
            Unsettled::SharedTask(mut shared) => shared.settle(),
            Unsettled::Claimable(ended) => ended.settle(),
        }
    }
}

impl<'a> Claimed<'a> {
    /// Runs it; `over` is told how it ended.
    pub(crate) fn run(self, over: impl FnOnce(Outcome)) -> Option<Unsettled<'a>> {
        match self {
            Claimed::Task(Task::Closure(mut closure)) => {
                closure.run(over);
                None
            }
            Claimed::Task(Task::Shared(mut shared)) => {
                shared.run(over);
                Some(Unsettled::SharedTask(shared))
            }
            Claimed::Claimable(claim) => {
                let (outcome, ended) = claim.run();
                over(outcome);
                Some(Unsettled::Claimable(ended))
            }
        }
    }
}

/// A task with a place, as it waits in the queue, ordered by its number.
pub(crate) struct Accepted {
    /// `| number: 63 | waited |`
    order: u64,
    pub(crate) task: Task,
}

impl Accepted {
    pub(crate) fn new(number: u64, task: Task) -> Accepted {
        let order = number << 1;
        Accepted { order, task }
    }

    /// Its submitter waited in line for the place.
    pub(crate) fn after_waiting(number: u64, task: Task) -> Accepted {
        let order = number << 1 | 1;
        Accepted { order, task }
    }

    pub(crate) fn number(&self) -> u64 {
        self.order >> 1
    }

    pub(crate) fn has_waited(&self) -> bool {
        self.order & 1 != 0
    }
}

impl Ord for Accepted {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

impl PartialOrd for Accepted {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Accepted {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Accepted {}
