//! What tasks are handed in to: a pool, or a share of one.

use crate::engine::admission::{Admission, Left};
use crate::engine::core::Core;
use crate::engine::task::Task;
use crate::stats::Counts;
use crate::sync::{Arc, AtomicUsize};

/// What tasks are handed in to: a pool, or a share of one.
pub(crate) trait Target: Send + Sync + 'static {
    /// Where in the target a task belongs, if that is not always the same.
    type Dest: Send;

    fn dest(self: &Arc<Self>) -> Self::Dest;
    /// The pool whose workers run the tasks.
    fn core(self: &Arc<Self>) -> &Arc<Core>;
    fn admission(&self) -> &Admission<Self::Dest>;
    fn counts(&self) -> &Counts;
    /// Submitters that run their tasks themselves.
    fn calling(&self) -> &AtomicUsize;
    fn is_paused(&self) -> bool;
    /// A submitter may run its task itself, out of turn.
    fn may_call(&self) -> bool;

    /// Queues a task that has its place, at a pool that has a worker.
    fn queue_accepted(self: &Arc<Self>, task: Task);
    /// Makes what a task submits beyond the bound where it needs no place; else gives its maker back.
    fn keep<M: FnOnce() -> Task>(self: &Arc<Self>, make: M) -> Result<(), M>;
    /// The task that submits has submitted others, which wait where they need no place: what it submits now is not to
    /// overtake them, though there may be room.
    fn keeps_order(self: &Arc<Self>) -> bool {
        false
    }
    /// What tasks submit always goes beyond the bound: there is none.
    fn keeps_all(&self) -> bool;
    /// Others wait elsewhere for room here: what tasks submit gets in line, too.
    fn takes_turns(&self) -> bool {
        false
    }
    /// A submitter has joined the line.
    fn has_joined(self: &Arc<Self>) {}
    /// Lets in those who wait, oldest first.
    fn serve(self: &Arc<Self>);
    /// After places were given back.
    fn after(self: &Arc<Self>, left: Left);
    /// The oldest task that no worker has taken, claimed.
    fn take_oldest(self: &Arc<Self>) -> Option<(Task, Self::Dest)>;
    fn has_queued(&self) -> bool;
    /// Drops a claimed task that will not run.
    fn discard(self: &Arc<Self>, task: Task, from: Self::Dest);
    /// Runs `f` on this thread as a task of the target runs.
    fn call<T>(self: &Arc<Self>, f: impl FnOnce() -> T) -> T;
}
