//! The bounds of a share, how it closes and opens, and what becomes of its backlog.
//!
//! - N2: A share that is closed is not paused: its tasks shall end.
//! - N5: When a share discards its backlog, or its pool does, tasks are taken under the lifecycle lock, and so are
//!   those that come late: a share that is opened again meanwhile keeps its tasks.

use super::{Lifecycle, ShareCore, SubQueue};
use crate::engine::current;
use crate::engine::task::Task;
use crate::sync::{Arc, MutexGuard, lock};

impl ShareCore {
    pub(crate) fn capacity(&self) -> usize {
        if self.is_foreign() {
            return self.core.capacity().min(self.max_limit);
        }
        let limit = lock(&self.lifecycle).limit;
        let of_pool = self.core.capacity();
        limit.map_or(of_pool, |limit| limit.min(of_pool))
    }

    pub(crate) fn set_backlog(self: &Arc<Self>, backlog: usize) {
        if self.is_foreign() {
            return;
        }
        let mut lifecycle = lock(&self.lifecycle);
        lifecycle.backlog = Some(backlog);
        self.apply(&lifecycle);
        drop(lifecycle);
        self.rebalance();
    }

    pub(crate) fn tune(self: &Arc<Self>, limit: usize) -> usize {
        if self.is_foreign() {
            return self.capacity();
        }
        let mut lifecycle = lock(&self.lifecycle);
        let limit = limit.min(self.max_limit);
        let before = lifecycle.limit.replace(limit);
        if limit > 0 {
            lifecycle.resume = limit;
        }
        self.apply(&lifecycle);
        drop(lifecycle);
        self.rebalance();
        before.unwrap_or(limit)
    }

    /// N2: sets room and slots to what the bounds say.
    pub(super) fn apply(self: &Arc<Self>, lifecycle: &Lifecycle) {
        let limit = match lifecycle.limit {
            Some(0) if lifecycle.closed || lifecycle.pool_closed => Some(lifecycle.resume),
            limit => limit,
        };
        if let Some(slots) = limit {
            for sub_queue in self.sub_queues() {
                sub_queue.set_slots(slots);
            }
        }
        let limit = limit.unwrap_or_else(|| self.core.capacity());
        let room = lifecycle
            .backlog
            .map(|backlog| limit.saturating_add(backlog));
        self.admission.set_limit(room);
    }

    /// Closes the share. With `discard` it also refuses what tasks submit, and drops the backlog. Returns how many
    /// tasks it dropped.
    pub(crate) fn close(self: &Arc<Self>, discard: bool, by_pool: bool) -> usize {
        if self.is_foreign() {
            self.admission.close_foreign();
            return 0;
        }
        let mut lifecycle = lock(&self.lifecycle);
        if by_pool {
            lifecycle.pool_closed = true;
        } else {
            lifecycle.closed = true;
        }
        self.close_with(lifecycle, discard)
    }

    pub(super) fn close_with(
        self: &Arc<Self>,
        mut lifecycle: MutexGuard<'_, Lifecycle>,
        discard: bool,
    ) -> usize {
        if lifecycle.limit == Some(0) {
            lifecycle.limit = Some(lifecycle.resume);
        }
        self.apply(&lifecycle);
        self.admission.hold();
        let left = self.admission.close(discard);
        let backlog = if discard {
            self.take_backlog()
        } else {
            Vec::new()
        };
        drop(lifecycle);
        let discarded = self.drop_backlog(backlog);
        self.follow_up(left);
        self.rebalance();
        self.follow_up(self.admission.unhold());
        self.wake_helpers();
        discarded
    }

    pub(crate) fn reopen(self: &Arc<Self>) {
        if self.is_foreign() {
            return;
        }
        let mut lifecycle = lock(&self.lifecycle);
        lifecycle.closed = false;
        if !lifecycle.pool_closed {
            self.admission.reopen();
        }
        self.apply(&lifecycle);
        drop(lifecycle);
        self.rebalance();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.admission.places().is_closed()
    }

    /// N5: takes all tasks that no worker has taken, each with the number of places that it holds. The caller holds the
    /// lifecycle lock.
    pub(super) fn take_backlog(&self) -> Vec<(Task, Arc<SubQueue>, usize)> {
        let in_line = self.admission.take_accepted().into_iter();
        let mut backlog: Vec<_> = (in_line)
            // Whoever claimed a task before unpins it.
            .filter_map(|(mut task, sub_queue)| task.claim().then_some((task, sub_queue, 0)))
            .collect();
        for sub_queue in self.sub_queues() {
            let queued = std::iter::from_fn(|| sub_queue.take_next());
            backlog.extend(queued.map(|task| (task, Arc::clone(&sub_queue), 1)));
        }
        backlog
    }

    pub(super) fn drop_backlog(
        self: &Arc<Self>,
        backlog: Vec<(Task, Arc<SubQueue>, usize)>,
    ) -> usize {
        let discarded = backlog.len();
        for (task, sub_queue, places) in backlog {
            self.drop_unrun(task);
            if places > 0 {
                sub_queue.over(places);
            } else {
                sub_queue.unpin(1);
            }
        }
        discarded
    }

    /// N5: drops the tasks that came after the backlog of the share, or that of the pool, was taken.
    pub(super) fn discard_late(self: &Arc<Self>) {
        let backlog = {
            let _lifecycle = lock(&self.lifecycle);
            let discards = self.admission.places().is_discarding()
                || self.core.admission.places().is_discarding();
            if !discards {
                return;
            }
            self.take_backlog()
        };
        self.drop_backlog(backlog);
    }

    /// Drops a task that was taken, and counts it.
    pub(super) fn drop_unrun(self: &Arc<Self>, task: Task) {
        self.call(|| task.discard(|| self.counts.discarded.add(1)));
    }

    /// Calls user code as in a task of the share.
    pub(super) fn call<T>(&self, f: impl FnOnce() -> T) -> T {
        current::within(self.address(), || current::call_here(&self.core, f))
    }
}

impl SubQueue {
    /// The caller [rebalances](SubQueue::rebalance) afterwards.
    pub(super) fn set_slots(&self, slots: usize) {
        lock(&self.state).slots = slots;
    }

    pub(super) fn take_next(&self) -> Option<Task> {
        lock(&self.state).take()
    }
}
