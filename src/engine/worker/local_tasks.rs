//! The tasks in a worker's own local queue: those of its batch, and those that its tasks submitted.

use super::{FEW_TOMBSTONES, Worker};
use crate::engine::local::LocalQueue;
use crate::engine::task::{Accepted, Task};
use crate::sync::deque::Worker as Deque;
use crate::sync::{Ordering, order_seqcst};

/// L3: every so many tasks one of the shared queue comes first. A prime, so as not to fall in step with a rhythm of
/// the user's.
const SHARED_TURN: u32 = 61;

/// If the local queue ever held more tasks than that, the worker takes a new deque once it is free. It looks for the
/// length after each so many pushes, which is all that the length can grow in between.
const MANY_LOCAL: usize = 1024;

const PUSHES_BETWEEN_LOOKS: u32 = 256;

impl Worker {
    /// Runs the next task of the local queue, on a busy worker.
    pub(super) fn run_next_here(&self) -> bool {
        let local = self.local.borrow();
        let Some(local) = local.as_ref() else {
            return false;
        };
        loop {
            let counts = self.core.threads.counts();
            if counts.is_discarding() {
                self.core
                    .discard_late(|| Some(local.pop_batched()?.task), 1);
                self.core.discard_late(|| local.pop_own(), 0);
            } else if !counts.permits() || self.core.queue.has_handed_back() {
                // C2, Q2
                self.hand_back(local);
            } else {
                break;
            }
            if local.are_empty() {
                return false;
            }
            // The pool was opened again meanwhile, or it discards what was to be handed back.
        }
        self.turns.set(self.turns.get().wrapping_add(1));
        if self.turns.get() % SHARED_TURN == 0 {
            return self.run_batched(local) || self.run_shared() || self.run_own(local);
        }
        self.run_own(local) || self.run_batched(local)
    }

    /// L3: runs one task of the shared queue, with its place, on a worker that has more in its local queue.
    pub(super) fn run_shared(&self) -> bool {
        if !self.core.queue.has_shared() {
            return false;
        }
        let Some(mut task) = self.core.queue.take() else {
            return false;
        };
        self.held.set(self.held.get() + 1);
        self.execute(&mut task);
        true
    }

    /// Runs the oldest task of the batch, where it was popped to: to move it, just written, is expensive.
    pub(super) fn run_batched(&self, local: &LocalQueue) -> bool {
        loop {
            let mut popped = local.pop_batched();
            let Some(Accepted { task, .. }) = &mut popped else {
                return false;
            };
            if task.claim() {
                let held = self.held.replace(self.held.get() + 1);
                if !local.has_batched() {
                    self.give_back(held);
                }
                self.execute(task);
                return true;
            }
        }
    }

    /// Runs the oldest of the tasks that tasks of this worker submitted.
    pub(super) fn run_own(&self, local: &LocalQueue) -> bool {
        loop {
            let mut popped = local.pop_own();
            let Some(task) = &mut popped else {
                return false;
            };
            if task.claim() {
                self.execute(task);
                return true;
            }
        }
    }

    pub(super) fn give_back(&self, places: u64) {
        if places > 0 {
            self.held.set(self.held.get() - places);
            self.leave(places);
        }
    }

    /// Hands back what is left in the local queue. While tasks move, other threads cannot see them, and may have gone
    /// idle; so the wake rule is applied afterwards. L6: as in [`try_take`](Self::try_take).
    pub(super) fn hand_back(&self, local: &LocalQueue) {
        let moving = &self.shared.moving;
        moving.store(true, Ordering::SeqCst);
        order_seqcst();
        if self.core.threads.counts().is_discarding() {
            moving.store(false, Ordering::Release);
            return;
        }
        let batch = std::iter::from_fn(|| local.pop_batched());
        self.core.queue.hand_back(batch);
        let admission = &self.core.admission;
        while let Some(mut task) = local.pop_own() {
            admission.enter_beyond();
            if task.note_place() {
                let number = admission.accepted();
                self.core.queue.push(Accepted::new(number, task));
            } else {
                self.core.leave(1);
            }
        }
        // ORDERING: Release: a thread that sees it lowered sees what was moved.
        moving.store(false, Ordering::Release);
        self.core.wake_more();
    }

    /// LE7: hands back what is in the local queue of the running task, so that its place is the only one this worker
    /// holds; false if no task runs here, or the pool discards its backlog.
    pub(crate) fn clear_local(&self) -> bool {
        if self.held.get() == 0 {
            return false;
        }
        if let Some(local) = &*self.local.borrow() {
            if !local.are_empty() {
                self.hand_back(local);
            }
            if !local.are_empty() {
                return false;
            }
        }
        self.give_back(self.held.get() - 1);
        if self.lending.replace(false) {
            self.core.queue.end_lending(&self.shared);
        }
        true
    }

    /// Q3: begins to lend, unless the local queue lends already.
    pub(super) fn lend_if(&self, lending: bool) {
        if lending && !self.lending.replace(true) {
            self.core.queue.lend(&self.shared);
        }
    }

    /// Whether tasks wait here that tasks submitted beyond the bound.
    pub(crate) fn has_own_tasks(&self) -> bool {
        let local = self.local.borrow();
        (local.as_ref()).is_some_and(LocalQueue::has_own)
    }

    /// Makes a task that the running task submitted beyond the bound, and pushes it here; leaves `make` if no task
    /// runs on this worker (but a hook, for example).
    #[inline]
    pub(crate) fn push_local<M: FnOnce() -> Task>(&self, make: &mut Option<M>) {
        let local = self.local.borrow();
        let Some(local) = local.as_ref().filter(|_| self.held.get() > 0) else {
            return;
        };
        let Some(make) = make.take() else {
            return;
        };
        self.shared.counts.submitted.add(1);
        let own = self.own_deque(local);
        self.lend_if(true);
        let task = make();
        if matches!(task, Task::Shared(_)) && own.len() >= self.sweep_at.get() {
            self.sweep_own(own);
        }
        own.push(task);
        let pushed = self.pushed.get().wrapping_add(1);
        self.pushed.set(pushed);
        if pushed % PUSHES_BETWEEN_LOOKS == 0 && own.len() > MANY_LOCAL {
            self.outgrown.set(true);
        }
    }

    /// D3: the deque for tasks that tasks of this worker submit or that it steals, made if this is the first one.
    #[inline]
    pub(super) fn own_deque<'a>(&self, local: &'a LocalQueue) -> &'a Deque<Task> {
        local.own.get().unwrap_or_else(|| self.make_own(local))
    }

    #[cold]
    fn make_own<'a>(&self, local: &'a LocalQueue) -> &'a Deque<Task> {
        local.own.get_or_init(|| {
            let own = Deque::new_fifo();
            let before = (self.core.queue).show_own(&self.shared, Some(own.stealer()));
            debug_assert!(before.is_none());
            own
        })
    }

    /// D3: gives up the deque after it held very many tasks: a deque shrinks only as its own worker pops, not as others
    /// steal. Nothing is left in it: the worker is free.
    #[cold]
    pub(super) fn give_up_own(&self) {
        self.outgrown.set(false);
        let _stealer = self.core.queue.show_own(&self.shared, None);
        if let Some(local) = &mut *self.local.borrow_mut() {
            debug_assert!(!local.has_own());
            drop(local.own.take());
        }
    }

    /// Sweeps after a task that waited for others and ran them: what it left of them in the local queue must not keep
    /// its place.
    #[cold]
    pub(super) fn sweep_finished(&self) {
        let local = self.local.borrow();
        let own = local.as_ref().and_then(|local| local.own.get());
        let swept = match own {
            Some(own) if own.len() <= 2 * self.tombstones.get() => {
                self.sweep_own(own);
                !own.is_empty()
            }
            _ => false,
        };
        drop(local);
        if swept {
            self.core.wake_for_lent();
        }
    }

    /// Drops the tombstones in the local queue. L6: as in [`try_take`](Self::try_take). The caller then looks for the
    /// threads that looked for work meanwhile.
    #[cold]
    pub(super) fn sweep_own(&self, own: &Deque<Task>) {
        let moving = &self.shared.moving;
        moving.store(true, Ordering::SeqCst);
        order_seqcst();
        if !self.core.threads.counts().is_discarding() {
            // No thread steals meanwhile: a task taken from the middle may wait for all those that were moved to the
            // end, and would run them one within the other.
            self.core.queue.without_thieves(|| {
                for _ in 0..own.len() {
                    let Some(mut task) = own.pop() else {
                        break;
                    };
                    if !task.is_tombstone() {
                        own.push(task);
                    }
                }
            });
        }
        // ORDERING: Release: a thread that sees it lowered sees what was moved.
        moving.store(false, Ordering::Release);
        self.tombstones.set(0);
        self.sweep_at.set(2 * own.len().max(FEW_TOMBSTONES));
    }
}
