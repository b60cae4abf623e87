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
//! - N4: Whoever ends the pool waits until its lanes are at rest, too: who took a place here before the lane was
//!   closed may still have to send its token, for which the pool holds nothing yet. It looks at the pool first,
//!   with the crew's lock, without which no worker is started. A lane that comes to rest when it is closed
//!   has it look again.
//! - N5: Of a lane that discards its backlog, or whose pool does, tasks are taken under the reins, and so are the
//!   late ones: one that is opened again meanwhile keeps its tasks.

use super::strand::{Keeper, Strand};
use crate::engine::admission::{Admission, Left};
use crate::engine::submit::House;
use crate::engine::task::{Outcome, Task};
use crate::engine::tenants::Tenant;
use crate::engine::{Core, current, difference};
use crate::stats::{Counter, Counts, Stats};
use crate::sync::{
    Arc, AtomicUsize, Instant, Mutex, MutexGuard, Ordering, Processors, Thread, Weak,
    current as this_thread, is_past, lock, park_until, sooner, try_lock,
};
use once_cell::sync::OnceCell;
use std::collections::BTreeMap;
use std::mem;

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
    /// N4: strands that could not hand in a token, since no thread was to be had; each holds the pool.
    lacking: Mutex<Vec<Arc<Strand>>>,
    reins: Mutex<Reins>,
    /// Who keeps the strands, if anybody does.
    keeper: OnceCell<Weak<dyn Keeper>>,
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
            admission: Admission::new(None, core.plan.max_waiting, core.plan.processors),
            counts: Counts::default(),
            started: Counter::default(),
            completed: Counter::default(),
            panicked: Counter::default(),
            running: AtomicUsize::new(0),
            calling: AtomicUsize::new(0),
            strands: Mutex::new(BTreeMap::new()),
            helpers: Mutex::new(Vec::new()),
            most,
            lacking: Mutex::new(Vec::new()),
            reins: Mutex::new(Reins {
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
            core.tenants.add(Arc::clone(&lane) as _);
        }
        lane
    }

    /// A strand is one of the lane's as long as it lives, or until it is [forgotten](Lane::forget).
    pub(super) fn enrol(&self, strand: &Arc<Strand>) {
        lock(&self.strands).insert(strand.address(), Arc::downgrade(strand));
    }

    pub(super) fn set_keeper(&self, keeper: Weak<dyn Keeper>) {
        let _ = self.keeper.set(keeper);
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
        self.has_ended(left.ended);
        self.wake_helpers();
    }

    /// N4
    fn has_ended(&self, ended: bool) {
        if ended {
            self.core.crew.nudge();
        }
    }

    pub(super) fn serve(self: &Arc<Self>) {
        if !self.admission.places().has_line() {
            return;
        }
        // As S6: who is let in may look at the pool before there is a token.
        self.core.admission.hold();
        let mut served: Vec<Arc<Strand>> = Vec::new();
        let staff = || self.core.staff();
        let push = |accepted, strand: Arc<Strand>| {
            strand.push(accepted);
            if !served.last().is_some_and(|last| Arc::ptr_eq(last, &strand)) {
                served.push(strand);
            }
        };
        let ended = self.admission.serve(staff, push, None);
        served.iter().for_each(Strand::settle);
        self.core.after(self.core.admission.unhold());
        self.has_ended(ended);
    }

    // ── bounds ──────────────────────────────────────────────────────────────────────────────

    pub(crate) fn capacity(&self) -> usize {
        if self.is_foreign() {
            return self.core.capacity().min(self.most);
        }
        let limit = lock(&self.reins).limit;
        let of_pool = self.core.capacity();
        limit.map_or(of_pool, |limit| limit.min(of_pool))
    }

    pub(crate) fn set_backlog(self: &Arc<Self>, backlog: usize) {
        if self.is_foreign() {
            return;
        }
        let mut reins = lock(&self.reins);
        reins.backlog = Some(backlog);
        self.apply(&reins);
        drop(reins);
        self.settle();
    }

    pub(crate) fn tune(self: &Arc<Self>, limit: usize) -> usize {
        if self.is_foreign() {
            return self.capacity();
        }
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
            if self.strands().iter().any(Strand::help_with_next) {
                if self.is_foreign() {
                    // What it ran forked.
                    return true;
                }
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
        if self.is_foreign() {
            return None;
        }
        self.core.rescue()
    }

    /// S6: a strand could not hand in a token, as no thread was to be had. It comes with a hold of the pool.
    pub(super) fn lacks_token(self: &Arc<Self>, strand: &Arc<Strand>) {
        self.core.tenants.lacks_token();
        self.lack(strand);
        // Those who wait already try again from now on.
        self.admission.nudge();
        self.core.admission.nudge();
        self.core.crew.nudge();
        self.core.send_rescuer();
    }

    /// Keeps a strand that lacks a token, which was counted, with its hold; once.
    fn lack(self: &Arc<Self>, strand: &Arc<Strand>) {
        {
            let mut lacking = lock(&self.lacking);
            if !lacking.iter().any(|other| Arc::ptr_eq(other, strand)) {
                lacking.push(Arc::clone(strand));
                return;
            }
        }
        self.lacks_no_more();
    }

    fn lacks_no_more(&self) {
        self.core.tenants.has_token();
        self.core.after(self.core.admission.unhold());
    }

    // ── the end ─────────────────────────────────────────────────────────────────────────────

    /// Closes the share; with `discard` also to tasks, and its backlog is dropped: how many.
    pub(crate) fn close(self: &Arc<Self>, discard: bool, by_pool: bool) -> usize {
        if self.is_foreign() {
            self.admission.close_foreign();
            return 0;
        }
        let mut reins = lock(&self.reins);
        if by_pool {
            reins.pool_closed = true;
        } else {
            reins.closed = true;
        }
        self.close_with(reins, discard)
    }

    fn close_with(self: &Arc<Self>, mut reins: MutexGuard<'_, Reins>, discard: bool) -> usize {
        if reins.limit == Some(0) {
            reins.limit = Some(reins.resume);
        }
        self.apply(&reins);
        self.admission.hold();
        let left = self.admission.close(discard);
        let backlog = if discard {
            self.take_backlog()
        } else {
            Vec::new()
        };
        drop(reins);
        let discarded = self.drop_backlog(backlog);
        self.after(left);
        self.settle();
        self.after(self.admission.unhold());
        self.wake_helpers();
        discarded
    }

    /// N5: takes all tasks that no worker has taken, each with how many places it holds; under the reins.
    fn take_backlog(&self) -> Vec<(Task, Arc<Strand>, usize)> {
        let in_line = self.admission.take_accepted().into_iter();
        let mut backlog: Vec<_> = (in_line)
            // Whoever claimed it before has unpinned it, or will.
            .filter_map(|(mut task, strand)| task.claim().then_some((task, strand, 0)))
            .collect();
        for strand in self.strands() {
            let queued = std::iter::from_fn(|| strand.take_next());
            backlog.extend(queued.map(|task| (task, Arc::clone(&strand), 1)));
        }
        backlog
    }

    fn drop_backlog(self: &Arc<Self>, backlog: Vec<(Task, Arc<Strand>, usize)>) -> usize {
        let discarded = backlog.len();
        for (task, strand, places) in backlog {
            self.drop_unrun(task);
            if places > 0 {
                strand.over(places);
            } else {
                strand.unpin(1);
            }
        }
        discarded
    }

    /// N5: drops what showed up after the backlog was taken, or after that of the pool was.
    pub(super) fn discard_late(self: &Arc<Self>) {
        let backlog = {
            let _reins = lock(&self.reins);
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
        let mut reins = lock(&self.reins);
        reins.closed = false;
        if !reins.pool_closed {
            self.admission.reopen();
        }
        self.apply(&reins);
        drop(reins);
        self.settle();
    }

    /// G1 of [`fork`](crate::engine::fork).
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

impl Tenant for Lane {
    fn close(self: Arc<Self>, discard: bool) -> usize {
        Lane::close(&self, discard, true)
    }

    fn follow(self: Arc<Self>) {
        let mut reins = lock(&self.reins);
        // Whatever came in between: the pool is looked at under this lock, and after each of its changes.
        let pool = self.core.admission.places();
        reins.pool_closed = pool.is_closed();
        if reins.pool_closed {
            self.close_with(reins, pool.is_discarding());
            return;
        }
        if !reins.closed {
            self.admission.reopen();
        }
        self.apply(&reins);
        drop(reins);
        self.settle();
    }

    fn is_untouched(&self) -> bool {
        let Some(strands) = try_lock(&self.strands) else {
            return false;
        };
        let live: Vec<_> = strands.values().filter_map(Weak::upgrade).collect();
        drop(strands);
        let keeper = self.keeper.get().and_then(Weak::upgrade);
        try_lock(&self.helpers).is_some_and(|helpers| helpers.is_empty())
            && try_lock(&self.reins).is_some()
            && self.running.load(Ordering::SeqCst) == 0
            && self.calling.load(Ordering::SeqCst) == 0
            && try_lock(&self.lacking).is_some_and(|lacking| lacking.is_empty())
            && self.admission.is_untouched()
            && live.iter().all(|strand| strand.is_untouched())
            && keeper.is_none_or(|keeper| keeper.is_unlocked())
    }

    fn retune(self: Arc<Self>) {
        let reins = lock(&self.reins);
        if reins.limit.is_none() && reins.backlog.is_some() {
            self.apply(&reins);
            drop(reins);
            self.serve();
        }
    }

    fn is_at_rest(&self) -> bool {
        Lane::is_at_rest(self)
    }

    fn try_again(self: Arc<Self>) {
        let lacking = std::mem::take(&mut *lock(&self.lacking));
        for strand in lacking {
            if !strand.sends_all() {
                self.core.tenants.lacks_token();
                self.lack(&strand);
            }
            self.lacks_no_more();
        }
    }
}

impl Drop for Lane {
    /// G3 of [`fork`](crate::engine::fork).
    fn drop(&mut self) {
        if self.is_foreign() {
            let admission = Admission::new(None, 0, Processors::SINGLE);
            mem::forget(mem::replace(&mut self.admission, admission));
        }
    }
}
