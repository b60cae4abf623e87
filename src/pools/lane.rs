//! A share of a pool: its bounds, its line, its counts and its end. Its tasks wait in [strands](Strand).
//!
//! A lane is a house of its own beside the pool, with its own places; but it has no workers, and closes and
//! opens with the pool.
//!
//! - N1: A place of the lane is held by each accepted task from its acceptance to its end.
//! - N2: A lane that is closed is not paused: its tasks are to end.
//! - N3: Helpers are tasks of the pool that wait for tasks of the lane, and run them if there is a slot. They
//!   are woken when a slot or a place is given back, and when a task comes in; each says that it waits
//!   before it looks once more.

use super::strand::Strand;
use crate::engine::admission::{Admission, Left};
use crate::engine::task::{Outcome, Task};
use crate::engine::tenants::Tenant;
use crate::engine::{Core, current, difference};
use crate::stats::{Counter, Counts, Stats};
use crate::sync::{
    Arc, AtomicBool, AtomicUsize, Instant, Mutex, Ordering, Thread, Weak, current as this_thread,
    is_past, lock, park_until, sooner,
};
use std::collections::BTreeMap;

/// A share of a pool.
pub(crate) struct Lane {
    pub(super) core: Arc<Core>,
    pub(super) admission: Admission<Arc<Strand>>,
    pub(super) counts: Counts,
    started: Counter,
    completed: Counter,
    panicked: Counter,
    running: AtomicUsize,
    pub(super) calling: AtomicUsize,
    /// By their addresses.
    strands: Mutex<BTreeMap<usize, Weak<Strand>>>,
    /// N3
    helpers: Mutex<Vec<Thread>>,
    /// No limit is higher.
    most: usize,
    /// Threads were refused: a strand may have tasks, and no token for them.
    pub(super) lacks_token: AtomicBool,
    reins: Mutex<Reins>,
}

/// How the share is to be.
struct Reins {
    /// The most tasks at once; `None`: as many as the pool runs.
    limit: Option<usize>,
    /// The last limit above 0: what a release lifts a pause to.
    resume: usize,
    /// `None`: unbounded.
    backlog: Option<usize>,
    closed: bool,
    /// The pool is closed, and with it the lane.
    pool_closed: bool,
}

impl Lane {
    /// `limit`: the most tasks at once, if that is not the pool's to say; it is never raised above `most`.
    pub(crate) fn new(core: &Arc<Core>, limit: Option<usize>, most: usize) -> Arc<Lane> {
        let lane = Arc::new(Lane {
            core: Arc::clone(core),
            admission: Admission::new(None, core.plan.max_waiting),
            counts: Counts::default(),
            started: Counter::default(),
            completed: Counter::default(),
            panicked: Counter::default(),
            running: AtomicUsize::new(0),
            calling: AtomicUsize::new(0),
            strands: Mutex::new(BTreeMap::new()),
            helpers: Mutex::new(Vec::new()),
            most,
            lacks_token: AtomicBool::new(false),
            reins: Mutex::new(Reins {
                limit,
                resume: limit.unwrap_or(1).max(1),
                backlog: None,
                closed: false,
                pool_closed: false,
            }),
        });
        core.tenants.add(Arc::clone(&lane) as _);
        lane
    }

    /// A strand is one of the lane's as long as it lives, or until it is [forgotten](Lane::forget).
    pub(super) fn enrol(&self, strand: &Arc<Strand>) {
        lock(&self.strands).insert(strand.address(), Arc::downgrade(strand));
    }

    pub(super) fn forget(&self, strand: &Strand) {
        lock(&self.strands).remove(&strand.address());
    }

    pub(super) fn strands(&self) -> Vec<Arc<Strand>> {
        let strands = lock(&self.strands);
        strands.values().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn address(&self) -> *const () {
        std::ptr::from_ref(self).cast()
    }

    /// Whether a task of this share runs on this thread.
    pub(crate) fn is_within(&self) -> bool {
        current::is_within(self.address())
    }

    pub(super) fn after(self: &Arc<Self>, left: Left) {
        if left.serve {
            self.serve();
        }
        self.wake_helpers();
    }

    pub(super) fn serve(self: &Arc<Self>) {
        let mut served: Vec<Arc<Strand>> = Vec::new();
        let staff = || self.core.staff();
        self.admission.serve(staff, |accepted, strand| {
            strand.push(accepted);
            if !served.last().is_some_and(|last| Arc::ptr_eq(last, &strand)) {
                served.push(strand);
            }
        });
        served.iter().for_each(Strand::settle);
    }

    // ── bounds ──────────────────────────────────────────────────────────────────────────────

    pub(crate) fn capacity(&self) -> usize {
        let limit = lock(&self.reins).limit;
        let of_pool = self.core.capacity();
        limit.map_or(of_pool, |limit| limit.min(of_pool))
    }

    pub(crate) fn set_backlog(self: &Arc<Self>, backlog: usize) {
        let mut reins = lock(&self.reins);
        reins.backlog = Some(backlog);
        self.apply(&reins);
        drop(reins);
        self.settle();
    }

    pub(crate) fn tune(self: &Arc<Self>, limit: usize) -> usize {
        let mut reins = lock(&self.reins);
        let limit = limit.min(self.most);
        let before = reins.limit.replace(limit);
        if limit > 0 {
            reins.resume = limit;
        }
        self.apply(&reins);
        drop(reins);
        self.settle();
        before.unwrap_or(limit)
    }

    /// Brings room and slots to what the reins say. What is closed is not paused: its tasks are to end.
    fn apply(self: &Arc<Self>, reins: &Reins) {
        let limit = match reins.limit {
            Some(0) if reins.closed || reins.pool_closed => Some(reins.resume),
            limit => limit,
        };
        if let Some(slots) = limit {
            for strand in self.strands() {
                strand.set_slots(slots);
            }
        }
        let limit = limit.unwrap_or_else(|| self.core.capacity());
        let room = reins.backlog.map(|backlog| limit.saturating_add(backlog));
        self.admission.set_limit(room);
    }

    fn settle(self: &Arc<Self>) {
        self.serve();
        self.strands().iter().for_each(Strand::settle);
        self.wake_helpers();
    }

    // ── waiting ─────────────────────────────────────────────────────────────────────────────

    /// N3: this thread waits, and is to be woken.
    pub(super) fn will_help(&self) {
        lock(&self.helpers).push(this_thread());
    }

    pub(super) fn wake_helpers(&self) {
        let helpers = std::mem::take(&mut *lock(&self.helpers));
        helpers.iter().for_each(Thread::unpark);
    }

    fn is_at_rest(&self) -> bool {
        self.admission.places().at_rest()
    }

    /// Waits until the share is at rest; false if `deadline` passed first. In a task of the pool it runs
    /// what may run.
    pub(crate) fn wait_idle(self: &Arc<Self>, deadline: Option<Instant>) -> bool {
        if !current::is_inside(&self.core) {
            return self.admission.wait_for_rest(deadline, || self.rescue());
        }
        loop {
            if self.is_at_rest() {
                return true;
            }
            if self.strands().iter().any(Strand::help_with_next) {
                continue;
            }
            self.will_help();
            if self.is_at_rest() || self.strands().iter().any(|strand| strand.may_help()) {
                continue;
            }
            if is_past(deadline) {
                return false;
            }
            park_until(sooner(self.rescue(), deadline));
        }
    }

    /// Where threads were refused: whoever waits tries again.
    pub(crate) fn rescue(self: &Arc<Self>) -> Option<Instant> {
        self.core.rescue()
    }

    // ── the end ─────────────────────────────────────────────────────────────────────────────

    /// Closes the share; with `discard` also to tasks, and its backlog is dropped: how many.
    pub(crate) fn close(self: &Arc<Self>, discard: bool, by_pool: bool) -> usize {
        let mut reins = lock(&self.reins);
        if by_pool {
            reins.pool_closed = true;
        } else {
            reins.closed = true;
        }
        if reins.limit == Some(0) {
            reins.limit = Some(reins.resume);
        }
        self.apply(&reins);
        drop(reins);
        self.admission.hold();
        let left = self.admission.close(discard);
        let discarded = if discard { self.discard_backlog() } else { 0 };
        self.after(left);
        self.settle();
        self.after(self.admission.unhold());
        self.wake_helpers();
        discarded
    }

    pub(super) fn discard_backlog(self: &Arc<Self>) -> usize {
        let mut discarded = 0;
        for (mut task, strand) in self.admission.take_accepted() {
            // Whoever claimed it before has unpinned it, or will.
            if task.claim() {
                self.drop_unrun(task);
                strand.unpin(1);
                discarded += 1;
            }
        }
        for strand in self.strands() {
            while let Some(task) = strand.take_next() {
                self.drop_unrun(task);
                strand.over(1);
                discarded += 1;
            }
        }
        discarded
    }

    pub(super) fn drop_unrun(self: &Arc<Self>, task: Task) {
        self.call(|| task.discard(|| self.counts.discarded.add(1)));
    }

    pub(super) fn call<T>(&self, f: impl FnOnce() -> T) -> T {
        current::within(self.address(), || current::call_here(&self.core, f))
    }

    pub(crate) fn reopen(self: &Arc<Self>) {
        let mut reins = lock(&self.reins);
        reins.closed = false;
        if !reins.pool_closed {
            self.admission.reopen();
        }
        self.apply(&reins);
        drop(reins);
        self.settle();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.admission.places().is_closed()
    }

    // ── a task ──────────────────────────────────────────────────────────────────────────────

    pub(super) fn begin(&self) {
        self.started.add(1);
        self.running.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts the end of a task, and tells of its panic: for the pool, nobody is to be told any more.
    pub(super) fn end(self: &Arc<Self>, outcome: Outcome) -> Outcome {
        let ended = match outcome {
            Outcome::Completed => {
                self.completed.add(1);
                Outcome::Completed
            }
            Outcome::Cancelled => {
                self.counts.cancelled.add(1);
                self.started.take_back();
                Outcome::Cancelled
            }
            Outcome::Panicked(payload) => {
                self.core.tell_panic_here(payload);
                self.panicked.add(1);
                Outcome::PanicTaken
            }
            Outcome::PanicTaken => {
                self.panicked.add(1);
                Outcome::PanicTaken
            }
        };
        self.running.fetch_sub(1, Ordering::SeqCst);
        ended
    }

    // ── gauges ──────────────────────────────────────────────────────────────────────────────

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst) + self.calling.load(Ordering::SeqCst)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.admission.waiting()
    }

    pub(crate) fn queued(&self) -> usize {
        let counts = &self.counts;
        let gone = || {
            let run = self.started.get() + counts.called.get();
            run + counts.discarded.get() + counts.cancelled.get()
        };
        let queued = difference(|| self.admission.accepted(), gone);
        usize::try_from(queued).unwrap_or(usize::MAX)
    }

    pub(crate) fn stats(&self) -> Stats {
        let counts = &self.counts;
        Stats {
            completed: self.completed.get() + counts.call_completed.get(),
            panicked: self.panicked.get() + counts.call_panicked.get(),
            cancelled: counts.cancelled.get(),
            discarded: counts.discarded.get(),
            rejected: counts.rejected.get(),
            running: self.running(),
            queued: self.queued(),
            submitted: self.admission.accepted(),
            ..Stats::default()
        }
    }
}

impl Tenant for Lane {
    fn close(self: Arc<Self>, discard: bool) -> usize {
        Lane::close(&self, discard, true)
    }

    fn follow(self: Arc<Self>) {
        let mut reins = lock(&self.reins);
        // Whatever came in between: the pool is looked at under this lock, and after each of its changes.
        reins.pool_closed = self.core.admission.places().is_closed();
        self.admission.hold();
        let left = if reins.pool_closed {
            if reins.limit == Some(0) {
                reins.limit = Some(reins.resume);
            }
            Some(self.admission.close(false))
        } else {
            if !reins.closed {
                self.admission.reopen();
            }
            None
        };
        self.apply(&reins);
        drop(reins);
        if let Some(left) = left {
            self.after(left);
        }
        self.settle();
        self.after(self.admission.unhold());
    }

    fn retune(self: Arc<Self>) {
        let reins = lock(&self.reins);
        if reins.limit.is_none() && reins.backlog.is_some() {
            self.apply(&reins);
            drop(reins);
            self.serve();
        }
    }

    fn try_again(self: Arc<Self>) {
        if self.lacks_token.swap(false, Ordering::SeqCst) {
            self.strands().iter().for_each(Strand::settle);
        }
    }
}
