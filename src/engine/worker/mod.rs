//! The loop of a worker: take a task, run it, look for the next, rest, leave.
//!
//! A worker is **free** or **busy**. A busy worker holds at least one place, a free one none.
//!
//! - L1: `busy` is raised before the last look at the thread counts, and lowered when no task is left in the local
//!   queue or none could be taken: once `running` reads 0 after a pause, nothing starts.
//! - L2: A busy worker with tasks in its local queue keeps its place for them. So submitters that wait are not
//!   overtaken by later tasks, and are not told of room that is not there.
//! - L3: A worker runs the tasks in its local queue first, and one of the shared queue in each 61st turn, so that
//!   none starves. No submitter that waited in line is overtaken: what a task submits while one waits, or while the
//!   task of one that waited is in the queue, does not go to the local queue but behind them.
//! - L4: A worker that took a task looks whether another local queue lends one, for one more worker.
//! - L5: No user code runs under a lock, and none can end the worker: each call of it is caught.
//! - L6: Once the pool discards its backlog no task is taken any more, and the thread that discards it waits until no
//!   task is on its way to a local queue or back; what shows up later the workers drop.

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

/// So few tombstones in a local queue are not worth a sweep.
const FEW_TOMBSTONES: usize = 64;

/// What a worker has for itself; only its own thread has it.
pub(crate) struct Worker {
    core: Arc<Core>,
    id: WorkerId,
    shared: Arc<WorkerShared>,
    local: RefCell<Option<LocalQueue>>,
    handler: RefCell<Option<PanicHandler>>,
    /// How many places it holds: of the task that runs, and of the tasks of its batch that are over.
    held: Cell<u64>,
    lending: Cell<bool>,
    turns: Cell<u32>,
    /// How many times in a row it took a task alone from a queue that held nothing else.
    streak: Cell<u32>,
    /// It found a line when it gave places back: it may have let a submitter in, which is about to come.
    served_line: Cell<bool>,
    /// How many tasks in the local queue make a look for tombstones worth while.
    sweep_at: Cell<usize>,
    /// How many claimables this worker claimed apart from their tasks: about as many tombstones are in its local queue.
    tombstones: Cell<usize>,
    /// How many tasks were pushed to the local queue so far, and whether it held very many at once.
    pushed: Cell<u32>,
    outgrown: Cell<bool>,
}

impl Worker {
    /// A worker whose thread is the current one.
    pub(crate) fn new(core: Arc<Core>, id: WorkerId, shared: Arc<WorkerShared>) -> Worker {
        let local = core.queue.register(&shared, core.config.backlog.is_none());
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
            served_line: Cell::new(false),
            sweep_at: Cell::new(2 * FEW_TOMBSTONES),
            tombstones: Cell::new(0),
            pushed: Cell::new(0),
            outgrown: Cell::new(false),
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn shared(&self) -> &Arc<WorkerShared> {
        &self.shared
    }

    pub(crate) fn set_held(&self, places: u64) {
        self.held.set(places);
    }

    pub(crate) fn has_local_queue(&self) -> bool {
        self.local.borrow().is_some()
    }

    pub(crate) fn holds_place(&self) -> bool {
        self.held.get() > 0
    }

    /// The life of a worker, from its arrival until it leaves.
    pub(crate) fn run(&self) {
        self.core.threads.arrive();
        self.core.wake_more();
        let hooks = &self.core.config.hooks;
        if hooks.has_start_hooks() {
            self.core.threads.in_hooks(|| self.call_start_hooks(hooks));
        }
        loop {
            loop {
                if self.core.is_foreign() {
                    // A task forked, and returned in the child: this thread has nothing else to do there.
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

    /// D1: gives up the local queue.
    fn unregister(&self) {
        // From here on nothing is counted or pushed here, whatever thread-locals do as they are dropped.
        let local = self.local.take();
        self.core.queue.unregister(&self.shared);
        // D1. Tasks left in it would be dropped here, outside all locks, but would never count as over.
        debug_assert!(local.is_none_or(|local| local.are_empty()));
    }

    /// Runs the next task; false if there was none, and the worker is free.
    fn run_next(&self) -> bool {
        if self.held.get() > 0 {
            if self.run_next_here() {
                return true;
            }
            self.go_free();
        }
        if self.outgrown.get() {
            self.give_up_own();
        }
        let Some(mut task) = self.search() else {
            self.served_line.set(false);
            return false;
        };
        self.execute(&mut task);
        true
    }

    /// After a task that is over, and all it captured is dropped. (Not inlined, so that the closure that calls it is.)
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
                let batch = local.has_batched();
                (batch || local.has_own(), batch)
            }
        };
        if !more {
            self.go_free();
        } else if !batch {
            self.give_back(self.held.get() - 1);
        }
    }

    /// Gives all places back. The gauges change first: a thread that sees the pool at rest sees them at rest.
    fn go_free(&self) {
        if self.lending.replace(false) {
            self.core.queue.end_lending(&self.shared);
        }
        // ORDERING: Release: a thread that reads that nothing runs sees what ran.
        self.shared.busy.store(false, Ordering::Release);
        self.leave(self.held.take());
    }

    /// Gives places back, and does what must follow.
    fn leave(&self, places: u64) {
        let left = self.core.admission.leave(places);
        if left.serve {
            self.served_line.set(true);
        }
        self.core.follow_up(left);
    }
}

impl Drop for Worker {
    /// C6. The standard library drops the thread-locals of a thread in reverse order, and this is the first one made:
    /// no code of a user's runs on this thread afterwards. (What drops later belongs to the system, as what a library
    /// in C keeps under a `pthread_key`, and what an allocator or the like has made before.) It takes locks and
    /// joins, and neither asks for [`std::thread::current`], which may be gone.
    fn drop(&mut self) {
        if self.core.is_foreign() {
            return;
        }
        self.core.threads.depart(self.id.0);
    }
}
