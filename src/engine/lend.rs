//! A task that blocks lends its place: a stand-in worker runs other tasks meanwhile.
//!
//! ```text
//!          lend                        take_back                     let_return, in turn
//!  runs ─────────► lent (it blocks) ────────────► returning (waits) ───────────────────► runs
//!  place, active   hold, not active               place, active                          place, active
//! ```
//!
//! A task lends the place of the worker on whose stack it is, whatever else is on that stack: it is the thread that
//! blocks. It lends it itself, in [`blocking`](crate::blocking()), or has a [`Lender`](crate::Lender) that lends it
//! while it runs on.
//!
//! - LE1: A worker whose task lends or returns is live, not on the idle stack, and counted in `lent`. While the task
//!   lends it is not active, and not busy. So `live − active − lent + returning` workers are on the idle stack. `lent`
//!   and `active` change together, under the lock of the threads.
//! - LE2: The place becomes a hold, and a place again, under that lock. The hold keeps the pool from being at rest, and
//!   so from ending. The room that it leaves is for others; a place that is taken back may exceed the limit, and nobody
//!   is let in until places are below it again. The lender serves the line and applies the wake rule afterwards, as a
//!   worker that goes idle looks for work after it said so.
//! - LE3: A task that returns makes its worker active at once, which may exceed the capacity: from then on no worker is
//!   made active, and the next to end its task rests (C2). It waits, and runs no code of its user, until LE4 lets it go
//!   on, oldest first. Whoever lowers `active` or changes the capacity looks for those that wait, under the same
//!   lock: one waits only while as many tasks run as may.
//! - LE4: A task that returns goes on while `active − returning < ceiling`: the capacity, or, in a paused pool, the last
//!   one above 0, since a pause lets tasks that have started finish. `active − returning` workers run tasks or are about
//!   to. So no more tasks run that are not lent than the capacity; after `tune` to less, no more than ran before it.
//! - LE5: At most `max_lent` tasks lend at once: beyond that, and where the system refuses the thread for a task that is
//!   queued, a task that blocks keeps its place. A thread is started only while `live − lent < capacity`. So there are at
//!   most capacity + `max_lent` threads that are not leaving.
//! - LE6: A worker that stood in and may take no more tasks goes on the idle stack, and expires as others do, so that the
//!   next one that lends starts no thread. `spare` bounds how many stay, by the most that lent at once since the last
//!   `tune`. Where workers are kept for ever those beyond the capacity expire all the same, after [`STAND_IN_TIMEOUT`].
//! - LE7: The local queue of a task that lends its place itself is empty, and stays so: it is handed back before, and what
//!   the task submits meanwhile goes beyond the bound to the shared queue. That of a task with a `Lender` lends its tasks
//!   (Q3).
//! - LE8: A task whose place is lent runs no other task: what it waits for is left to those that have a place. (If it
//!   claimed a task and then waited for its place, a task that has the place and joins that one would wait for it for
//!   ever.)

use crate::engine::core::Core;
use crate::engine::local::WorkerShared;
use crate::engine::worker::Worker;
use crate::engine::{current, threads};
use crate::sync::{Arc, AtomicBool, Ordering};
use std::time::Duration;

/// LE6: how long a worker beyond the capacity stays idle where workers never expire.
pub(crate) const STAND_IN_TIMEOUT: Duration = Duration::from_secs(10);

/// Lends the place of the task that runs on this thread, if it can, until this is dropped, which may block (LE3).
#[must_use]
pub(crate) struct Lent(bool);

impl Lent {
    pub(crate) fn begin() -> Lent {
        Lent(current::on_worker() && current::with_any_worker(Worker::lend) == Some(true))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.0 {
            current::with_any_worker(Worker::take_back);
        }
    }
}

/// A task whose place another thread may lend, on the thread of its worker.
pub(crate) struct Lendable(Arc<PlaceOf>);

/// The place of a task, as another thread sees it.
pub(crate) struct PlaceOf {
    core: Arc<Core>,
    worker: Arc<WorkerShared>,
    /// The task has not ended; written under the lock of the threads.
    open: AtomicBool,
}

impl Lendable {
    /// `None` where no task runs on this thread that has a place.
    pub(crate) fn new() -> Option<Lendable> {
        let place = current::with_any_worker(Worker::lendable)??;
        Some(Lendable(Arc::new(place)))
    }

    pub(crate) fn place(&self) -> Arc<PlaceOf> {
        Arc::clone(&self.0)
    }
}

impl PlaceOf {
    /// Lends the place, unless it is lent or the task has ended.
    pub(crate) fn lend(&self) -> bool {
        let core = &self.core;
        !core.is_foreign() && core.lend(&self.worker, || self.open.load(Ordering::SeqCst))
    }

    /// Lets nobody lend the place any more; whether it is lent.
    fn close(&self) -> bool {
        let close = || self.open.store(false, Ordering::SeqCst);
        self.core.threads.is_lent_at_end(&self.worker, close)
    }
}

impl Drop for Lendable {
    fn drop(&mut self) {
        let PlaceOf { core, worker, .. } = &*self.0;
        if !core.is_foreign() && self.0.close() {
            core.take_place_back(worker, threads::Return::Waits);
        }
    }
}

impl Core {
    /// LE1, LE2: lends the place of the task of `worker`, if it `may`; and makes up for it with a stand-in, if there is a
    /// task for one.
    fn lend(self: &Arc<Self>, worker: &WorkerShared, may: impl FnOnce() -> bool) -> bool {
        let give = || self.admission.turn_place_into_hold();
        if !(self.threads).lend(worker, self.config.max_lent, may, give) {
            return false;
        }
        self.follow_up(self.admission.after_lending());
        // Y4: this thread is about to wait, or is outside.
        self.admission.wake_let_in();
        self.wake_more_now();
        self.notify_awaiting();
        true
    }

    /// LE3
    fn take_place_back(&self, worker: &Arc<WorkerShared>, returns: threads::Return) -> bool {
        let take = || self.admission.turn_hold_into_place();
        self.threads.take_back(worker, returns, take)
    }
}

impl Worker {
    /// Lends the place of the running task, for this task itself; whether it did.
    pub(crate) fn lend(&self) -> bool {
        let core = self.core();
        if core.is_foreign() || core.threads.lent() >= core.config.max_lent as u64 {
            return false;
        }
        if self.is_lent() || !self.clear_local() || !core.lend(self.shared(), || true) {
            return false;
        }
        // LE5
        if core.threads.start_refused()
            && core.take_place_back(self.shared(), threads::Return::AtOnce)
        {
            return false;
        }
        // LE7
        self.set_held(0);
        true
    }

    /// LE3: takes the place back that [`lend`](Self::lend) lent.
    pub(crate) fn take_back(&self) {
        let core = self.core();
        // A task that forked meanwhile is alone in the child.
        if !core.is_foreign() {
            core.take_place_back(self.shared(), threads::Return::Waits);
        }
        self.set_held(1);
    }

    pub(crate) fn is_lent(&self) -> bool {
        self.shared().lent.load(Ordering::SeqCst)
    }

    fn lendable(&self) -> Option<PlaceOf> {
        let core = self.core();
        let may = !core.is_foreign() && core.config.max_lent > 0 && !self.is_lent();
        (may && self.clear_local()).then(|| PlaceOf {
            core: Arc::clone(core),
            worker: Arc::clone(self.shared()),
            open: AtomicBool::new(true),
        })
    }
}
