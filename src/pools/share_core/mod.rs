//! A share of a pool: tasks with bounds, a line, counts and an end of their own, on the workers of the pool.
//!
//! Tasks of a share wait in its *sub-queues*: `Limited` and `Serial` have one, `Keyed` has one for each key that is in
//! use. At most `slots` tasks of a sub-queue run at once. What a sub-queue keeps in the pool are *permits*: each says
//! that a task of the sub-queue may run, and the worker that gets to one takes the oldest task. So only what may run
//! holds a place of the pool, and a share needs no admission to the pool and no workers of its own.
//!
//! A share is a target of submits of its own beside the pool, with its own places; but it closes and opens with the
//! pool.
//!
//! | file | what it is about | rules |
//! |---|---|---|
//! | here | the state of a share and of a sub-queue | N1, S4 |
//! | [`state`] | what a sub-queue keeps under its lock: tasks, slots, permits | S1, S2, S3 |
//! | [`target`] | how a task comes in | |
//! | [`permits`] | permits are sent, taken back and run | S5, S6, S7 |
//! | [`help`] | tasks of the pool that wait run tasks of the share; cancelling | |
//! | [`waiting`] | those who wait: the line, helpers, rest, sub-queues that lack a permit | N3, N4 |
//! | [`lifecycle`] | bounds, closing and opening, the backlog | N2, N5 |
//! | [`pool_events`] | what a share does when its pool changes | |
//! | [`counts`] | what a share counts and reports | |
//!
//! - N1: Each accepted task holds a place of the share from its acceptance to its end.
//! - S4: Locks are taken in this order: the line of the share, the line of the pool, a sub-queue. Under the lock of a
//!   sub-queue nothing is submitted and no user code runs.

mod counts;
mod help;
mod lifecycle;
mod permits;
mod pool_events;
mod state;
mod target;
mod waiting;

use crate::engine::admission::Admission;
use crate::engine::core::Core;
use crate::engine::current;
use crate::stats::{Counter, Counts};
use crate::sync::{Arc, AtomicUsize, Mutex, Processors, Thread, Weak, lock, try_lock};
use once_cell::sync::OnceCell;
use state::SubQueueState;
use std::collections::BTreeMap;
use std::mem;

/// A share of a pool.
pub(crate) struct ShareCore {
    core: Arc<Core>,
    admission: Admission<Arc<SubQueue>>,
    counts: Counts,
    started: Counter,
    completed: Counter,
    panicked: Counter,
    running: AtomicUsize,
    callers: AtomicUsize,
    /// The sub-queues that live, by their addresses.
    sub_queues: Mutex<BTreeMap<usize, Weak<SubQueue>>>,
    /// N3: the threads that wait to help.
    helpers: Mutex<Vec<Thread>>,
    /// The highest limit that can be set.
    max_limit: usize,
    /// S6: the sub-queues that could not send a permit, since the system refused a thread; each holds the pool.
    lacking: Mutex<Vec<Arc<SubQueue>>>,
    lifecycle: Mutex<Lifecycle>,
    /// The table that pins the sub-queues, if there is one.
    pin_table: OnceCell<Weak<dyn PinTable>>,
}

/// What changes the bounds of the share, or opens or closes it.
struct Lifecycle {
    /// The maximum number of tasks at once; `None`: as many as the pool runs.
    limit: Option<usize>,
    /// The last limit above 0, which a release sets if the share is paused.
    resume: usize,
    /// `None`: unbounded.
    backlog: Option<usize>,
    closed: bool,
    /// The pool is closed, and so the share is.
    pool_closed: bool,
}

pub(crate) struct SubQueue {
    me: Weak<SubQueue>,
    share: Arc<ShareCore>,
    /// Those who wait for a task also run the tasks before it first.
    ordered: bool,
    pin_table: Option<(Weak<dyn PinTable>, u64)>,
    state: Mutex<SubQueueState>,
}

/// A table that pins sub-queues while they have tasks, and then forgets them; see [`keyed`](super::keyed).
pub(crate) trait PinTable: Send + Sync {
    /// `tasks` tasks of a sub-queue are over; `label` is what the table labelled it with.
    fn unpin(&self, label: u64, sub_queue: &SubQueue, tasks: usize);
    /// G2 of [`fork`](crate::fork): nobody holds its lock.
    fn is_unlocked(&self) -> bool;
}

impl ShareCore {
    /// `limit` is the maximum number of tasks at once, or `None` for that of the pool; it can be changed up to
    /// `max_limit`.
    pub(crate) fn new(core: &Arc<Core>, limit: Option<usize>, max_limit: usize) -> Arc<ShareCore> {
        let share = Arc::new(ShareCore {
            core: Arc::clone(core),
            admission: Admission::new(None, core.config.max_waiting, core.config.processors),
            counts: Counts::default(),
            started: Counter::default(),
            completed: Counter::default(),
            panicked: Counter::default(),
            running: AtomicUsize::new(0),
            callers: AtomicUsize::new(0),
            sub_queues: Mutex::new(BTreeMap::new()),
            helpers: Mutex::new(Vec::new()),
            max_limit,
            lacking: Mutex::new(Vec::new()),
            lifecycle: Mutex::new(Lifecycle {
                limit,
                resume: limit.unwrap_or(1).max(1),
                backlog: None,
                closed: false,
                pool_closed: false,
            }),
            pin_table: OnceCell::new(),
        });
        // A pool of the process from which this one was forked gets no more shares.
        if !core.is_foreign() {
            core.shares.add(Arc::clone(&share) as _);
        }
        share
    }

    /// Adds a sub-queue to the share, for as long as it lives or until it is [forgotten](ShareCore::forget).
    pub(super) fn enrol(&self, sub_queue: &Arc<SubQueue>) {
        lock(&self.sub_queues).insert(sub_queue.address(), Arc::downgrade(sub_queue));
    }

    pub(super) fn set_pin_table(&self, pin_table: Weak<dyn PinTable>) {
        let _ = self.pin_table.set(pin_table);
    }

    pub(super) fn forget(&self, sub_queue: &SubQueue) {
        lock(&self.sub_queues).remove(&sub_queue.address());
    }

    pub(super) fn sub_queues(&self) -> Vec<Arc<SubQueue>> {
        let sub_queues = lock(&self.sub_queues);
        sub_queues.values().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn address(&self) -> *const () {
        std::ptr::from_ref(self).cast()
    }

    /// Returns whether a task of this share runs on this thread.
    pub(crate) fn is_within(&self) -> bool {
        current::is_within(self.address())
    }

    /// G1 of [`fork`](crate::fork).
    pub(super) fn is_foreign(&self) -> bool {
        self.core.is_foreign()
    }
}

impl SubQueue {
    /// Makes a sub-queue of a share. If it is `ordered`, those who wait for a task also run the tasks before it first.
    pub(super) fn new(
        share: &Arc<ShareCore>,
        slots: usize,
        ordered: bool,
        pin_table: Option<(Weak<dyn PinTable>, u64)>,
    ) -> Arc<SubQueue> {
        let sub_queue = SubQueue::make(share, slots, ordered, pin_table);
        share.enrol(&sub_queue);
        sub_queue
    }

    /// Makes a sub-queue that does not belong to the share, for a submit that will be refused.
    pub(super) fn of_nobody(share: &Arc<ShareCore>) -> Arc<SubQueue> {
        SubQueue::make(share, 1, true, None)
    }

    fn make(
        share: &Arc<ShareCore>,
        slots: usize,
        ordered: bool,
        pin_table: Option<(Weak<dyn PinTable>, u64)>,
    ) -> Arc<SubQueue> {
        Arc::new_cyclic(|me| SubQueue {
            me: Weak::clone(me),
            share: Arc::clone(share),
            ordered,
            pin_table,
            state: Mutex::new(SubQueueState::new(slots)),
        })
    }

    /// G2 of [`fork`](crate::fork): no task waits, no permit is on its way, and nobody holds the lock.
    pub(super) fn is_untouched(&self) -> bool {
        try_lock(&self.state).is_some_and(|state| {
            state.live == 0 && state.permits.len() == 0 && state.permits.working() == 0
        })
    }

    pub(super) fn address(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    pub(super) fn is(&self, other: &SubQueue) -> bool {
        std::ptr::eq(self, other)
    }

    pub(super) fn arc(&self) -> Arc<SubQueue> {
        // The caller holds one.
        self.me.upgrade().unwrap_or_else(|| unreachable!())
    }

    pub(crate) fn share(&self) -> &Arc<ShareCore> {
        &self.share
    }

    pub(super) fn unpin(&self, tasks: usize) {
        if let Some((pin_table, label)) = &self.pin_table {
            if let Some(pin_table) = pin_table.upgrade() {
                pin_table.unpin(*label, self, tasks);
            }
        }
    }
}

impl Drop for ShareCore {
    /// G3 of [`fork`](crate::fork).
    fn drop(&mut self) {
        if self.is_foreign() {
            let admission = Admission::new(None, 0, Processors::SINGLE);
            mem::forget(mem::replace(&mut self.admission, admission));
        }
    }
}

impl Drop for SubQueue {
    /// G3 of [`fork`](crate::fork).
    fn drop(&mut self) {
        if self.share.is_foreign() {
            let state = self.state.get_mut();
            mem::forget(state.map(|state| mem::take(&mut state.queue)));
        }
    }
}
