//! A share of a pool: its bounds, its line, its counts and its end. Its tasks wait in [sub-queues](SubQueue).
//!
//! A share is a target of its own beside the pool, with its own places; but it has no workers, and closes and
//! opens with the pool.
//!
//! - N1: A place of the share is held by each accepted task from its acceptance to its end.
//! - N2: A share that is closed is not paused: its tasks are to end.
//! - N3: Helpers are tasks of the pool that wait for tasks of the share, and run them if there is a slot. They
//!   are woken when a slot or a place is given back, and when a task comes in; each says that it waits
//!   before it looks once more.
//! - N4: Whoever ends the pool waits until its shares are at rest, too: who took a place here before the share was
//!   closed may still have to send its permit, for which the pool holds nothing yet. It looks at the pool first,
//!   with the threads' lock, without which no worker is started. A share that comes to rest when it is closed
//!   has it look again.
//! - N5: Of a share that discards its backlog, or whose pool does, tasks are taken under the lifecycle lock, and so are the
//!   late ones: one that is opened again meanwhile keeps its tasks.

use super::sub_queue::{Keeper, SubQueue};
use crate::engine::admission::{Admission, Left};
use crate::engine::core::Core;
use crate::engine::current;
use crate::engine::gauges::difference;
use crate::engine::shares::ShareEvents;
use crate::engine::task::{Outcome, Task};
use crate::stats::{Counter, Counts, Stats};
use crate::sync::{
    Arc, AtomicUsize, Instant, Mutex, MutexGuard, Ordering, Processors, Thread, Weak,
    current as this_thread, is_past, lock, park_until, sooner, try_lock,
};
use once_cell::sync::OnceCell;
use std::collections::BTreeMap;
use std::mem;

/// A share of a pool.
pub(crate) struct ShareCore {
    pub(super) core: Arc<Core>,
    pub(super) admission: Admission<Arc<SubQueue>>,
    pub(super) counts: Counts,
    started: Counter,
    completed: Counter,
    panicked: Counter,
    running: AtomicUsize,
    pub(super) calling: AtomicUsize,
    /// By their addresses.
    sub_queues: Mutex<BTreeMap<usize, Weak<SubQueue>>>,
    /// N3
    helpers: Mutex<Vec<Thread>>,
    /// No limit is higher.
    most: usize,
    /// N4: sub-queues that could not hand in a permit, since no thread was to be had; each holds the pool.
    lacking: Mutex<Vec<Arc<SubQueue>>>,
    lifecycle: Mutex<Lifecycle>,
    /// Who keeps the sub-queues, if anybody does.
    keeper: OnceCell<Weak<dyn Keeper>>,
}

/// How the share is to be.
struct Lifecycle {
    /// The most tasks at once; `None`: as many as the pool runs.
    limit: Option<usize>,
    /// The last limit above 0: what a release lifts a pause to.
    resume: usize,
    /// `None`: unbounded.
    backlog: Option<usize>,
    closed: bool,
    /// The pool is closed, and with it the share.
    pool_closed: bool,
}

impl ShareCore {
    /// `limit`: the most tasks at once, if that is not the pool's to say; it is never raised above `most`.
    pub(crate) fn new(core: &Arc<Core>, limit: Option<usize>, most: usize) -> Arc<ShareCore> {
        let share = Arc::new(ShareCore {
            core: Arc::clone(core),
            admission: Admission::new(None, core.config.max_waiting, core.config.processors),
            counts: Counts::default(),
            started: Counter::default(),
            completed: Counter::default(),
            panicked: Counter::default(),
            running: AtomicUsize::new(0),
            calling: AtomicUsize::new(0),
            sub_queues: Mutex::new(BTreeMap::new()),
            helpers: Mutex::new(Vec::new()),
            most,
            lacking: Mutex::new(Vec::new()),
            lifecycle: Mutex::new(Lifecycle {
                limit,
                resume: limit.unwrap_or(1).max(1),
                backlog: None,
                closed: false,
                pool_closed: false,
            }),
            keeper: OnceCell::new(),
        });
        // What belongs to the process that this one was forked from takes nobody in.
        if !core.is_foreign() {
            core.shares.add(Arc::clone(&share) as _);
        }
        share
    }

    /// A sub-queue is one of the share's as long as it lives, or until it is [forgotten](ShareCore::forget).
    pub(super) fn enrol(&self, sub_queue: &Arc<SubQueue>) {
        lock(&self.sub_queues).insert(sub_queue.address(), Arc::downgrade(sub_queue));
    }

    pub(super) fn set_keeper(&self, keeper: Weak<dyn Keeper>) {
        let _ = self.keeper.set(keeper);
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

    /// Whether a task of this share runs on this thread.
    pub(crate) fn is_within(&self) -> bool {
        current::is_within(self.address())
    }

    pub(super) fn after(self: &Arc<Self>, left: Left) {
        if left.serve {
            self.serve();
        }
        self.has_ended(left.ended);
        self.wake_helpers();
    }

    /// N4
    fn has_ended(&self, ended: bool) {
        if ended {
            self.core.threads.nudge();
        }
    }

    pub(super) fn serve(self: &Arc<Self>) {
        if !self.admission.places().has_line() {
            return;
        }
        // As S6: who is let in may look at the pool before there is a permit.
        self.core.admission.hold();
        let mut served: Vec<Arc<SubQueue>> = Vec::new();
        let ensure_worker = || self.core.ensure_worker();
        let push = |accepted, sub_queue: Arc<SubQueue>| {
            sub_queue.push(accepted);
            if !served
                .last()
                .is_some_and(|last| Arc::ptr_eq(last, &sub_queue))
            {
                served.push(sub_queue);
            }
        };
        let ended = self.admission.serve(ensure_worker, push, None);
        served.iter().for_each(SubQueue::settle);
        self.core.after(self.core.admission.unhold());
        self.has_ended(ended);
    }

    // ── bounds ──────────────────────────────────────────────────────────────────────────────

    pub(crate) fn capacity(&self) -> usize {
        if self.is_foreign() {
            return self.core.capacity().min(self.most);
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
        self.settle();
    }

    pub(crate) fn tune(self: &Arc<Self>, limit: usize) -> usize {
        if self.is_foreign() {
            return self.capacity();
        }
        let mut lifecycle = lock(&self.lifecycle);
        let limit = limit.min(self.most);
        let before = lifecycle.limit.replace(limit);
        if limit > 0 {
            lifecycle.resume = limit;
        }
        self.apply(&lifecycle);
        drop(lifecycle);
        self.settle();
        before.unwrap_or(limit)
    }

    /// Brings room and slots to what the lifecycle lock say. What is closed is not paused: its tasks are to end.
    fn apply(self: &Arc<Self>, lifecycle: &Lifecycle) {
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

    fn settle(self: &Arc<Self>) {
        self.serve();
        self.sub_queues().iter().for_each(SubQueue::settle);
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
        if self.is_foreign() {
            return true;
        }
        if !current::is_inside(&self.core) {
            return self.admission.wait_for_rest(deadline, || self.rescue());
        }
        loop {
            if self.is_at_rest() {
                return true;
            }
            if self.sub_queues().iter().any(SubQueue::help_with_next) {
                if self.is_foreign() {
                    // What it ran forked.
                    return true;
                }
                continue;
            }
            self.will_help();
            if self.is_at_rest()
                || self
                    .sub_queues()
                    .iter()
                    .any(|sub_queue| sub_queue.may_help())
            {
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
        if self.is_foreign() {
            return None;
        }
        self.core.rescue()
    }

    /// S6: a sub-queue could not hand in a permit, as no thread was to be had. It comes with a hold of the pool.
    pub(super) fn lacks_permit(self: &Arc<Self>, sub_queue: &Arc<SubQueue>) {
        self.core.shares.lacks_permit();
        self.lack(sub_queue);
        // Those who wait already try again from now on.
        self.admission.nudge();
        self.core.admission.nudge();
        self.core.threads.nudge();
        self.core.send_rescuer();
    }

    /// Keeps a sub-queue that lacks a permit, which was counted, with its hold; once.
    fn lack(self: &Arc<Self>, sub_queue: &Arc<SubQueue>) {
        {
            let mut lacking = lock(&self.lacking);
            if !lacking.iter().any(|other| Arc::ptr_eq(other, sub_queue)) {
                lacking.push(Arc::clone(sub_queue));
                return;
            }
        }
        self.lacks_no_more();
    }

    fn lacks_no_more(&self) {
        self.core.shares.has_permit();
        self.core.after(self.core.admission.unhold());
    }

    // ── the end ─────────────────────────────────────────────────────────────────────────────

    /// Closes the share; with `discard` also to tasks, and its backlog is dropped: how many.
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

    fn close_with(
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
        self.after(left);
        self.settle();
        self.after(self.admission.unhold());
        self.wake_helpers();
        discarded
    }

    /// N5: takes all tasks that no worker has taken, each with how many places it holds; under the lifecycle lock.
    fn take_backlog(&self) -> Vec<(Task, Arc<SubQueue>, usize)> {
        let in_line = self.admission.take_accepted().into_iter();
        let mut backlog: Vec<_> = (in_line)
            // Whoever claimed it before has unpinned it, or will.
            .filter_map(|(mut task, sub_queue)| task.claim().then_some((task, sub_queue, 0)))
            .collect();
        for sub_queue in self.sub_queues() {
            let queued = std::iter::from_fn(|| sub_queue.take_next());
            backlog.extend(queued.map(|task| (task, Arc::clone(&sub_queue), 1)));
        }
        backlog
    }

    fn drop_backlog(self: &Arc<Self>, backlog: Vec<(Task, Arc<SubQueue>, usize)>) -> usize {
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

    /// N5: drops what showed up after the backlog was taken, or after that of the pool was.
    pub(super) fn discard_late(self: &Arc<Self>) {
        let backlog = {
            let _reins = lock(&self.lifecycle);
            let discards = self.admission.places().is_discarding()
                || self.core.admission.places().is_discarding();
            if !discards {
                return;
            }
            self.take_backlog()
        };
        self.drop_backlog(backlog);
    }

    pub(super) fn drop_unrun(self: &Arc<Self>, task: Task) {
        self.call(|| task.discard(|| self.counts.discarded.add(1)));
    }

    pub(super) fn call<T>(&self, f: impl FnOnce() -> T) -> T {
        current::within(self.address(), || current::call_here(&self.core, f))
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
        self.settle();
    }

    /// G1 of [`fork`](crate::fork).
    pub(super) fn is_foreign(&self) -> bool {
        self.core.is_foreign()
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
        if self.is_foreign() {
            return 0;
        }
        self.running.load(Ordering::SeqCst) + self.calling.load(Ordering::SeqCst)
    }

    pub(crate) fn waiting(&self) -> usize {
        if self.is_foreign() {
            return 0;
        }
        self.admission.waiting()
    }

    pub(crate) fn queued(&self) -> usize {
        if self.is_foreign() {
            return 0;
        }
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
        if self.is_foreign() {
            return Stats {
                rejected: counts.rejected.get(),
                ..Stats::default()
            };
        }
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

impl ShareEvents for ShareCore {
    fn close(self: Arc<Self>, discard: bool) -> usize {
        ShareCore::close(&self, discard, true)
    }

    fn follow(self: Arc<Self>) {
        let mut lifecycle = lock(&self.lifecycle);
        // Whatever came in between: the pool is looked at under this lock, and after each of its changes.
        let pool = self.core.admission.places();
        lifecycle.pool_closed = pool.is_closed();
        if lifecycle.pool_closed {
            self.close_with(lifecycle, pool.is_discarding());
            return;
        }
        if !lifecycle.closed {
            self.admission.reopen();
        }
        self.apply(&lifecycle);
        drop(lifecycle);
        self.settle();
    }

    fn is_untouched(&self) -> bool {
        let Some(sub_queues) = try_lock(&self.sub_queues) else {
            return false;
        };
        let live: Vec<_> = sub_queues.values().filter_map(Weak::upgrade).collect();
        drop(sub_queues);
        let keeper = self.keeper.get().and_then(Weak::upgrade);
        try_lock(&self.helpers).is_some_and(|helpers| helpers.is_empty())
            && try_lock(&self.lifecycle).is_some()
            && self.running.load(Ordering::SeqCst) == 0
            && self.calling.load(Ordering::SeqCst) == 0
            && try_lock(&self.lacking).is_some_and(|lacking| lacking.is_empty())
            && self.admission.is_untouched()
            && live.iter().all(|sub_queue| sub_queue.is_untouched())
            && keeper.is_none_or(|keeper| keeper.is_unlocked())
    }

    fn retune(self: Arc<Self>) {
        let lifecycle = lock(&self.lifecycle);
        if lifecycle.limit.is_none() && lifecycle.backlog.is_some() {
            self.apply(&lifecycle);
            drop(lifecycle);
            self.serve();
        }
    }

    fn is_at_rest(&self) -> bool {
        ShareCore::is_at_rest(self)
    }

    fn try_again(self: Arc<Self>) {
        let lacking = std::mem::take(&mut *lock(&self.lacking));
        for sub_queue in lacking {
            if !sub_queue.sends_all() {
                self.core.shares.lacks_permit();
                self.lack(&sub_queue);
            }
            self.lacks_no_more();
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
