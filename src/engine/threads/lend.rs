//! What the thread counts say of tasks that lend their places: see [`lend`](crate::engine::lend), which has the rules.

use super::{Inner, ThreadCounts, Threads};
use crate::engine::bell::Ring;
use crate::engine::local::WorkerShared;
use crate::engine::threads::counts::ACTIVE;
use crate::sync::{Arc, Ordering, current, lock};
use std::collections::VecDeque;

/// What the lock of the threads guards for tasks that lend.
#[derive(Default)]
pub(super) struct Lending {
    /// LE3: the workers whose task wants its place back, oldest first. They are active, and still count as lent.
    returning: VecDeque<Arc<WorkerShared>>,
    /// LE4: so many tasks may run while others wait for their places: the capacity, or the last one above 0.
    ceiling: u64,
    /// LE6: so many idle workers beyond the capacity do not leave before they expire.
    spare: u64,
}

impl Lending {
    pub(super) fn new(capacity: u64) -> Lending {
        Lending {
            ceiling: capacity.max(1),
            ..Lending::default()
        }
    }

    pub(super) fn set_capacity(&mut self, capacity: u64, lent: u64) {
        if capacity > 0 {
            self.ceiling = capacity;
        }
        self.spare = lent;
    }

    /// LE6
    pub(super) fn spare(&self, counts: ThreadCounts) -> u64 {
        if counts.is_closed() { 0 } else { self.spare }
    }
}

/// How a task takes its place back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Return {
    /// It waits until it may go on.
    Waits,
    /// It leaves the place lent where it would have to wait.
    AtOnce,
}

/// Workers whose task has its place back, and whose bells must ring, without the lock (I2).
#[must_use]
pub(super) struct Returned(Vec<Arc<WorkerShared>>);

impl Returned {
    pub(super) fn ring(self) {
        for worker in self.0 {
            worker.bell.ring(Ring::Work);
        }
    }
}

impl Threads {
    /// LE1: how many tasks lend their places.
    pub(crate) fn lent(&self) -> u64 {
        self.lent.load(Ordering::SeqCst)
    }

    /// LE6: whether there are more workers than the capacity.
    pub(crate) fn has_stand_ins(&self) -> bool {
        let counts = self.counts();
        counts.live() > counts.capacity()
    }

    /// LE1: lends the place of the task that runs on `worker`, unless it is lent, `most` are, or it `may` not. `give`
    /// makes a hold of the place. The caller then applies the wake rule.
    pub(crate) fn lend(
        &self,
        worker: &WorkerShared,
        most: usize,
        may: impl FnOnce() -> bool,
        give: impl FnOnce(),
    ) -> bool {
        let mut inner = lock(&self.inner);
        let lent = self.lent();
        let is_lent = worker.lent.load(Ordering::SeqCst);
        if is_lent || usize::try_from(lent).is_ok_and(|lent| lent >= most) || !may() {
            return false;
        }
        worker.lent.store(true, Ordering::SeqCst);
        worker.busy.store(false, Ordering::SeqCst);
        self.lent.store(lent + 1, Ordering::SeqCst);
        inner.lending.spare = inner.lending.spare.max(lent + 1);
        give();
        self.sub(ACTIVE);
        let returned = self.let_return(&mut inner);
        // I2
        drop(inner);
        returned.ring();
        true
    }

    /// LE3: takes a lent place back, once its task may go on; false if it has not done so. `take` makes a place of the hold.
    pub(crate) fn take_back(
        &self,
        worker: &Arc<WorkerShared>,
        returns: Return,
        take: impl FnOnce(),
    ) -> bool {
        let mut inner = lock(&self.inner);
        let at_once = self.may_return(&inner);
        if !at_once && returns == Return::AtOnce {
            return false;
        }
        // Before `active` rises: a thread that pushes a task must not take this worker for one that comes for it.
        take();
        self.add(ACTIVE);
        if at_once {
            self.returns(worker);
            return true;
        }
        worker.bell.silence(current);
        inner.lending.returning.push_back(Arc::clone(worker));
        drop(inner);
        let _rung = worker.bell.sleep(None);
        true
    }

    /// Whether the place of a task is lent; once it is not, `end` is called, under the lock under which it is lent.
    pub(crate) fn is_lent_at_end(&self, worker: &WorkerShared, end: impl FnOnce()) -> bool {
        let _inner = lock(&self.inner);
        end();
        worker.lent.load(Ordering::SeqCst)
    }

    /// LE4: whether a task that lent its place may go on.
    fn may_return(&self, inner: &Inner) -> bool {
        let waiting = inner.lending.returning.len() as u64;
        self.counts().active() - waiting < inner.lending.ceiling
    }

    /// LE3, LE4: lets those go on whose time has come. To be called under the lock after `active` fell or the capacity
    /// changed.
    pub(super) fn let_return(&self, inner: &mut Inner) -> Returned {
        let mut returned = Vec::new();
        while !inner.lending.returning.is_empty() && self.may_return(inner) {
            if let Some(worker) = inner.lending.returning.pop_front() {
                self.returns(&worker);
                returned.push(worker);
            }
        }
        Returned(returned)
    }

    /// The task of `worker` runs again.
    fn returns(&self, worker: &WorkerShared) {
        worker.lent.store(false, Ordering::SeqCst);
        worker.busy.store(true, Ordering::SeqCst);
        self.lent.fetch_sub(1, Ordering::SeqCst);
    }
}
