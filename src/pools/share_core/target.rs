//! How a task comes into a share: a sub-queue is the target of a submit.
//!
//! An accepted task is numbered, pushed, and then the permits are rebalanced. If the share discards its backlog, a task
//! that was accepted before comes too late, and is discarded here (N5).

use super::SubQueue;
use crate::engine::admission::{Admission, FollowUp};
use crate::engine::core::Core;
use crate::engine::submit::Target;
use crate::engine::task::{Accepted, Task};
use crate::stats::Counts;
use crate::sync::{Arc, AtomicUsize, lock};

impl Target for SubQueue {
    type Dest = Arc<SubQueue>;

    fn dest(self: &Arc<Self>) -> Arc<SubQueue> {
        Arc::clone(self)
    }

    fn core(self: &Arc<Self>) -> &Arc<Core> {
        &self.share.core
    }

    fn admission(&self) -> &Admission<Arc<SubQueue>> {
        &self.share.admission
    }

    fn counts(&self) -> &Counts {
        &self.share.counts
    }

    fn callers(&self) -> &AtomicUsize {
        &self.share.callers
    }

    fn is_paused(&self) -> bool {
        self.share.capacity() == 0
    }

    /// In an ordered sub-queue a submitter must not run its task before those that wait.
    fn allows_caller_runs(&self) -> bool {
        !self.ordered
    }

    fn queue_accepted(self: &Arc<Self>, task: Task) {
        self.queue_all_accepted(std::iter::once(task));
    }

    fn queue_all_accepted(self: &Arc<Self>, tasks: impl ExactSizeIterator<Item = Task>) {
        let first = (self.share.admission).count_accepted_many(tasks.len() as u64);
        for (number, mut task) in (first..).zip(tasks) {
            task.note_place();
            self.push(Accepted::new(number, task));
        }
        if self.share.admission.places().is_discarding() {
            // The tasks got their places before the share was closed.
            self.share.discard_late();
        }
        self.rebalance();
        self.share.wake_helpers();
    }

    fn push_local<M: FnOnce() -> Task>(self: &Arc<Self>, make: M) -> Result<(), M> {
        Err(make)
    }

    fn prefers_local(&self) -> bool {
        false
    }

    fn serve(self: &Arc<Self>) {
        self.share.serve();
    }

    fn follow_up(self: &Arc<Self>, next: FollowUp) {
        self.share.follow_up(next);
    }

    /// Takes the oldest task of this sub-queue, or else the oldest of the share.
    fn take_oldest(self: &Arc<Self>) -> Option<(Task, Arc<SubQueue>)> {
        if let Some(task) = lock(&self.state).take() {
            return Some((task, Arc::clone(self)));
        }
        let sub_queues = self.share.sub_queues();
        let oldest = sub_queues.into_iter().filter_map(|sub_queue| {
            let number = lock(&sub_queue.state).queue.front()?.number();
            Some((number, sub_queue))
        });
        let (_, sub_queue) = oldest.min_by_key(|(number, _)| *number)?;
        let task = lock(&sub_queue.state).take()?;
        Some((task, sub_queue))
    }

    fn has_queued(&self) -> bool {
        let sub_queues = self.share.sub_queues();
        sub_queues
            .iter()
            .any(|sub_queue| lock(&sub_queue.state).live > 0)
    }

    fn discard(self: &Arc<Self>, task: Task, from: Arc<SubQueue>) {
        self.share.drop_unrun(task);
        from.unpin(1);
        from.rebalance();
    }

    fn call<T>(self: &Arc<Self>, f: impl FnOnce() -> T) -> T {
        self.share.call(f)
    }
}

impl SubQueue {
    pub(super) fn push(&self, accepted: Accepted) {
        let mut state = lock(&self.state);
        state.queue.push_back(accepted);
        state.live += 1;
    }
}
