//! The loop of a worker: take a task, run it, look for the next, rest, leave.
//!
//! A worker is **free** or **busy**. Busy, it holds at least one place; free, none.
//!
//! - L1: `busy` is raised before the last look at the thread counts, and lowered when no task is left at the
//!   local queue or none was had: once `running` reads 0 after a pause, nothing starts.
//! - L2: A busy worker with tasks of its own keeps its place for them, so those who wait outside
//!   are neither overtaken by later tasks nor told of room that is not there.
//! - L3: A worker runs the tasks in its local queue first, and one of the shared queue in each 61st turn, so
//!   that nobody starves. Nobody who waited in line is overtaken: what a task submits while somebody
//!   waits, or has waited and is in the queue, does not go to the local queue but behind them.
//! - L4: A worker that took a task looks whether another local queue lends one, for one more worker.
//! - L5: No user code runs under a lock, and none can end the worker: each call is caught.
//! - L6: Once the pool discards its backlog no task is taken any more, and whoever discards it waits
//!   until none is on its way to a local queue or back; what shows up later the workers drop.

mod execute;
mod local_tasks;
mod rest;
mod search;

use crate::engine::core::Core;
use crate::engine::local::{LocalQueue, WorkerShared};
use crate::engine::threads::Rest;
use crate::panic::{PanicHandler, WorkerId};
use crate::sync::{Arc, Ordering};
use std::cell::{Cell, RefCell};

/// So many tombstones in a local queue are not worth a sweep.
const FEW_TOMBSTONES: usize = 64;

pub(crate) struct Worker {
    core: Arc<Core>,
    id: WorkerId,
    shared: Arc<WorkerShared>,
    local: RefCell<Option<LocalQueue>>,
    handler: RefCell<Option<PanicHandler>>,
    /// Places held: of the task that runs, and of those of its batch that are done.
    held: Cell<u64>,
    lending: Cell<bool>,
    turns: Cell<u32>,
    /// How often in a row it took a task alone from a queue that held nothing else.
    streak: Cell<u32>,
    /// There was a line when it gave places back: it may have let a submitter in, which is about to come.
    served: Cell<bool>,
    /// So many tasks in the local queue are worth a look for tombstones.
    sweep_at: Cell<usize>,
    /// Jobs that this worker claimed elsewhere than at the end of a queue: about as many tombstones are at its
    /// local queue.
    tombstones: Cell<usize>,
    /// How many tasks were kept in the local queue so far, and whether they were very many at once of late.
    kept: Cell<u32>,
    outgrown: Cell<bool>,
}

impl Worker {
    /// A worker whose thread is this one.
    pub(crate) fn new(core: Arc<Core>, id: WorkerId, shared: Arc<WorkerShared>) -> Worker {
        let local = core.queue.register(&shared);
        Worker {
            local: RefCell::new(Some(local)),
            handler: RefCell::new(None),
            core,
            id,
            shared,
            held: Cell::new(0),
            lending: Cell::new(false),
            turns: Cell::new(0),
            streak: Cell::new(0),
            served: Cell::new(false),
            sweep_at: Cell::new(2 * FEW_TOMBSTONES),
            tombstones: Cell::new(0),
            kept: Cell::new(0),
            outgrown: Cell::new(false),
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn live(&self) {
        self.core.threads.arrive();
        self.core.wake_more();
        let hooks = &self.core.config.hooks;
        if hooks.greet() {
            self.core.threads.in_hooks(|| self.greet(hooks));
        }
        loop {
            loop {
                if self.core.is_foreign() {
                    // A task forked, and returned in the child: nothing else is this thread's to do there.
                    return;
                }
                if !self.run_next() {
                    break;
                }
            }
            if self.rest() == Rest::Leave {
                break;
            }
        }
        if let Some(hook) = &hooks.on_stop {
            self.guard_hook(|| hook(self.id));
        }
        let handler = self.handler.take();
        self.guard_hook(|| drop(handler));
        if self.core.is_foreign() {
            return;
        }
        self.unregister();
    }

    fn unregister(&self) {
        // From here on nothing is counted or kept at it, whatever thread-locals do as they are dropped.
        let local = self.local.take();
        self.core.queue.unregister(&self.shared);
        // D1. Else they would be dropped here, outside all locks, but never count as over.
        debug_assert!(local.is_none_or(|local| local.are_empty()));
    }

    /// Runs the next task; false if there was none to be had, and the worker is free.
    fn run_next(&self) -> bool {
        if self.held.get() > 0 {
            if self.run_next_here() {
                return true;
            }
            self.go_free();
        }
        if self.outgrown.get() {
            self.renew_own();
        }
        let Some(mut task) = self.search() else {
            self.served.set(false);
            return false;
        };
        self.execute(&mut task);
        true
    }

    /// The task is over, and so is all it captured. (Not inlined, so that the closure that calls it is.)
    #[inline(never)]
    fn finish(&self) {
        if self.core.is_foreign() {
            return;
        }
        if self.tombstones.get() > 0 {
            self.sweep_finished();
        }
        let (more, batch) = match &*self.local.borrow() {
            None => (false, false),
            Some(local) => {
                let batch = !local.batch.is_empty();
                (batch || !local.own.is_empty(), batch)
            }
        };
        if !more {
            self.go_free();
        } else if !batch {
            self.give_back(self.held.get() - 1);
        }
    }

    /// Gives all places back. The gauges change first: whoever sees the pool at rest sees them so.
    fn go_free(&self) {
        if self.lending.replace(false) {
            self.core.queue.end_lending(&self.shared);
        }
        // ORDERING: Release: who reads that nothing runs sees what ran.
        self.shared.busy.store(false, Ordering::Release);
        self.leave(self.held.take());
    }

    /// Gives places back, with all that follows.
    fn leave(&self, places: u64) {
        let left = self.core.admission.leave(places);
        if left.serve {
            self.served.set(true);
        }
        self.core.after(left);
    }
}

impl Drop for Worker {
    /// C6. The standard library drops the thread-locals of a thread last made first, and this was the first
    /// one: no code of a user's runs on this thread afterwards. (What drops later is the system's, as what a
    /// library in C keeps under a `pthread_key`, and what an allocator or the like has kept from before.)
    /// It takes locks and joins, and neither asks for [`std::thread::current`], which may be gone.
    fn drop(&mut self) {
        if self.core.is_foreign() {
            return;
        }
        self.core.threads.depart(self.id.0);
    }
}
