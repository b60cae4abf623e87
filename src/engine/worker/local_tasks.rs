//! The tasks in a worker's own local queue: those of its batch, and those that its tasks submitted.

use super::{FEW_TOMBSTONES, Worker};
use crate::engine::local::LocalQueue;
use crate::engine::task::{Accepted, Task};
use crate::sync::deque::Worker as Deque;
use crate::sync::{Ordering, order_seqcst};

/// L3: every so often it is the other way round. A prime, so as not to fall in step with a user's
/// own rhythm.
const ODD_TURN: u32 = 61;

/// After a worker kept more tasks than that in its local queue it takes a new deque, once it is free. It looks for
/// how many there are after each so many, which is all that the length can grow meanwhile.
const MANY_KEPT: usize = 1024;

const KEPT_BETWEEN_LOOKS: u32 = 256;

impl Worker {
    /// Runs the next task in the local queue, for a worker that is busy.
    pub(super) fn run_next_here(&self) -> bool {
        let local = self.local.borrow();
        let Some(local) = local.as_ref() else {
            return false;
        };
        loop {
            let counts = self.core.threads.counts();
            if counts.is_discarding() {
                self.core.discard_late(|| Some(local.batch.pop()?.task), 1);
                self.core.discard_late(|| local.own.pop(), 0);
            } else if !counts.permits() || self.core.queue.has_handed_back() {
                // C2, Q2
                self.hand_back(local);
            } else {
                break;
            }
            if local.are_empty() {
                return false;
            }
            // The pool was opened again meanwhile, or discards what was to be handed back.
        }
        self.turns.set(self.turns.get().wrapping_add(1));
        if self.turns.get() % ODD_TURN == 0 {
            return self.run_batched(local) || self.run_shared() || self.run_own(local);
        }
        self.run_own(local) || self.run_batched(local)
    }

    /// L3: one task of the shared queue, with its place, for a worker that has more in its local queue.
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

    /// A task is run where it was popped to: just written, its moves would be dear.
    pub(super) fn run_batched(&self, local: &LocalQueue) -> bool {
        loop {
            let mut popped = local.batch.pop();
            let Some(Accepted { task, .. }) = &mut popped else {
                return false;
            };
            if task.claim() {
                let held = self.held.replace(self.held.get() + 1);
                if local.batch.is_empty() {
                    self.give_back(held);
                }
                self.execute(task);
                return true;
            }
        }
    }

    pub(super) fn run_own(&self, local: &LocalQueue) -> bool {
        loop {
            let mut popped = local.own.pop();
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

    /// What is left in the local queue goes back to the queue. On its way it escaped those who looked for
    /// work meanwhile, so there is a look for them afterwards. L6: as in [`reach`](Self::reach).
    pub(super) fn hand_back(&self, local: &LocalQueue) {
        let reaching = &self.shared.reaching;
        reaching.store(true, Ordering::SeqCst);
        order_seqcst();
        if self.core.threads.counts().is_discarding() {
            reaching.store(false, Ordering::Release);
            return;
        }
        let batch = std::iter::from_fn(|| local.batch.pop());
        self.core.queue.hand_back(batch);
        let admission = &self.core.admission;
        while let Some(mut task) = local.own.pop() {
            admission.enter_beyond();
            if task.hold_place() {
                let number = admission.accepted();
                self.core.queue.push(Accepted::new(number, task));
            } else {
                self.core.leave(1);
            }
        }
        // ORDERING: Release: who sees it sees what was moved.
        reaching.store(false, Ordering::Release);
        self.core.wake_more();
    }

    pub(super) fn lend_if(&self, lending: bool) {
        if lending && !self.lending.replace(true) {
            self.core.queue.lend(&self.shared);
        }
    }

    /// Whether tasks wait here that tasks submitted beyond the bound.
    pub(crate) fn has_own(&self) -> bool {
        let local = self.local.borrow();
        (local.as_ref()).is_some_and(|local| !local.own.is_empty())
    }

    /// Makes a task here that the running task submitted beyond the bound; leaves its maker if no task runs on
    /// this worker (but a hook, say).
    #[inline]
    pub(crate) fn keep<M: FnOnce() -> Task>(&self, make: &mut Option<M>) {
        let local = self.local.borrow();
        let Some(local) = local.as_ref().filter(|_| self.held.get() > 0) else {
            return;
        };
        let Some(make) = make.take() else {
            return;
        };
        self.shared.counts.submitted.add(1);
        self.lend_if(true);
        let task = make();
        if matches!(task, Task::Shared(_)) && local.own.len() >= self.sweep_at.get() {
            self.sweep_own(&local.own);
        }
        local.own.push(task);
        let kept = self.kept.get().wrapping_add(1);
        self.kept.set(kept);
        if kept % KEPT_BETWEEN_LOOKS == 0 && local.own.len() > MANY_KEPT {
            self.outgrown.set(true);
        }
    }

    /// Takes a new deque after the old one held very many tasks, which gives room back only for what its own
    /// worker takes out, not for what others steal. Nothing is left in the old one: the worker is free.
    #[cold]
    pub(super) fn renew_own(&self) {
        self.outgrown.set(false);
        let new = Deque::new_fifo();
        let _stealer = self.core.queue.renew_own(&self.shared, new.stealer());
        if let Some(local) = &mut *self.local.borrow_mut() {
            debug_assert!(local.own.is_empty());
            local.own = new;
        }
    }

    /// What the task left in the local queue of claimables that it waited for must not keep the place.
    #[cold]
    pub(super) fn sweep_finished(&self) {
        let swept = match &*self.local.borrow() {
            Some(local) if local.own.len() <= 2 * self.tombstones.get() => {
                self.sweep_own(&local.own);
                !local.own.is_empty()
            }
            _ => false,
        };
        if swept {
            self.core.wake_for_lent();
        }
    }

    /// Drops the tombstones among the tasks in the local queue. L6: as in [`reach`](Self::reach); the look for those
    /// who looked for work meanwhile is the caller's.
    #[cold]
    pub(super) fn sweep_own(&self, own: &Deque<Task>) {
        let reaching = &self.shared.reaching;
        reaching.store(true, Ordering::SeqCst);
        order_seqcst();
        if !self.core.threads.counts().is_discarding() {
            // Nobody steals meanwhile: what is taken from the middle may wait for all those that were moved to the
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
        // ORDERING: Release: who sees it sees what was moved.
        reaching.store(false, Ordering::Release);
        self.tombstones.set(0);
        self.sweep_at.set(2 * own.len().max(FEW_TOMBSTONES));
    }
}
