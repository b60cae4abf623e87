//! What tasks are handed in to: a pool, or a share of one.

use crate::engine::admission::{Admission, FollowUp};
use crate::engine::core::Core;
use crate::engine::task::Task;
use crate::stats::Counts;
use crate::sync::{Arc, AtomicUsize};

/// A pool or a share of one, as the [front door](super::Submit) sees it.
pub(crate) trait Target: Send + Sync + 'static {
    /// Where in the target a task belongs, if the target has more than one queue.
    type Dest: Send;

    fn dest(self: &Arc<Self>) -> Self::Dest;
    /// The pool whose workers run the tasks.
    fn core(self: &Arc<Self>) -> &Arc<Core>;
    fn admission(&self) -> &Admission<Self::Dest>;
    fn counts(&self) -> &Counts;
    /// How many submitters run their tasks themselves.
    fn callers(&self) -> &AtomicUsize;
    /// Whether no task may start.
    fn is_paused(&self) -> bool;
    /// Whether a submitter may run its task itself, out of turn.
    fn allows_caller_runs(&self) -> bool;

    /// Queues a task that has its place. The caller has made sure of a worker.
    fn queue_accepted(self: &Arc<Self>, task: Task);
    /// Queues tasks that have their places, in order and with numbers that follow one another.
    fn queue_all_accepted(self: &Arc<Self>, tasks: impl ExactSizeIterator<Item = Task>);
    /// Makes the task that a task of the pool submits, and pushes it to the local queue of the worker, where it needs
    /// no place; gives `make` back if it cannot go there.
    fn push_local<M: FnOnce() -> Task>(self: &Arc<Self>, make: M) -> Result<(), M>;
    /// Whether the running task has tasks in the local queue, which later ones must not overtake though there may be
    /// room.
    fn has_local_tasks(self: &Arc<Self>) -> bool {
        false
    }
    /// Whether what tasks of the pool submit goes to the local queue first: the target has no bound.
    fn prefers_local(&self) -> bool;
    /// F3: whether what tasks submit must join this line, because submitters wait in that of the lead.
    fn must_join_line(&self) -> bool {
        false
    }
    /// Called when a submitter has joined the line.
    fn has_joined(self: &Arc<Self>) {}
    /// Lets in the tasks that wait in line, oldest first, while there is room.
    fn serve(self: &Arc<Self>);
    /// Does what must follow when places were given back.
    fn follow_up(self: &Arc<Self>, next: FollowUp);
    /// Takes the oldest task that no worker has taken, claimed.
    fn take_oldest(self: &Arc<Self>) -> Option<(Task, Self::Dest)>;
    /// Whether there is a task that no worker has taken.
    fn has_queued(&self) -> bool;
    /// Drops a claimed task that will not run.
    fn discard(self: &Arc<Self>, task: Task, from: Self::Dest);
    /// Runs `f` on this thread as a task of the target.
    fn call<T>(self: &Arc<Self>, f: impl FnOnce() -> T) -> T;
}
