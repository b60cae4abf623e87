//! A queue of which only so many tasks run at once, on the workers of a pool.
//!
//! A [`Share`] is a house of its own, with its own places, line, counts and end; its tasks wait in
//! [`Strand`]s. What a strand keeps in the pool are tokens: each says that a task of the strand may run.
//! The worker that gets to one takes the oldest task then. So only what may run holds a place of the pool,
//! and there is no other admission and no other worker than the pool's.
//!
//! - S1: `live` tasks wait in the queue of a strand; the rest of it are shells. Each live one holds a place
//!   of the share.
//! - S2: A slot is in use for each token that was claimed, and for each task that a waiting task of the pool
//!   runs here; no more than `slots` are. (A task that waits for another one of its strand lends its slot.)
//! - S3: On their way are as many tokens as there are free slots or live tasks, whichever is less. Whoever
//!   changes a slot or a task [settles](Strand::settle) that afterwards.
//! - S4: Locks are taken in this order: the line of the share, that of the pool, a strand. Nothing is handed
//!   in, and no user code runs, under a strand's lock.
//! - S5: Whoever frees a slot wakes the helpers: tasks of the pool that wait for a task of the share, and run
//!   it if there is a slot.

use crate::engine::admission::{Admission, Left, Origin};
use crate::engine::submit::{Door, House};
use crate::engine::task::{Accepted, Claimed, Job, Outcome, Spot, Task, Unrun};
use crate::engine::tenants::Tenant;
use crate::engine::tokens::Tokens;
use crate::engine::{Core, current, difference};
use crate::error::SubmitErrorKind;
use crate::results::state::State;
use crate::stats::{Counter, Counts, Stats};
use crate::sync::{
    Arc, AtomicUsize, Instant, Mutex, Ordering, Thread, Weak, current as this_thread, is_past,
    lock, park_until, sooner,
};
use std::collections::{BTreeMap, VecDeque};

/// So many shells in a queue are not worth a sweep.
const FEW_SHELLS: usize = 64;

/// A share of a pool.
pub(crate) struct Share {
    pub(super) core: Arc<Core>,
    admission: Admission<Arc<Strand>>,
    counts: Counts,
    started: Counter,
    completed: Counter,
    panicked: Counter,
    running: AtomicUsize,
    calling: AtomicUsize,
    /// By their addresses.
    strands: Mutex<BTreeMap<usize, Weak<Strand>>>,
    /// S5
    helpers: Mutex<Vec<Thread>>,
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
    /// The pool is closed, and with it the share.
    pool_closed: bool,
}

/// Is told when a strand has so many tasks less, with what the strand was labelled; see
/// [`keyed`](super::keyed).
pub(crate) trait Keeper: Send + Sync {
    fn unpin(&self, label: u64, strand: &Strand, tasks: usize);
}

pub(crate) struct Strand {
    me: Weak<Strand>,
    share: Arc<Share>,
    /// Tasks are run in order also by those who wait for one.
    ordered: bool,
    keeper: Option<(Weak<dyn Keeper>, u64)>,
    inner: Mutex<Inner>,
}

struct Inner {
    queue: VecDeque<Accepted>,
    live: usize,
    slots: usize,
    tokens: Tokens,
}

/// What settling a strand takes.
enum Step {
    Send,
    TakeBack(Spot),
}

impl Inner {
    /// S2
    fn has_slot(&self) -> bool {
        self.tokens.working() < self.slots
    }

    /// S3
    fn step(&mut self) -> Option<Step> {
        let free = self.slots.saturating_sub(self.tokens.working());
        let wanted = free.min(self.live);
        if self.tokens.len() < wanted {
            self.tokens.add();
            return Some(Step::Send);
        }
        self.tokens.retire(wanted).map(Step::TakeBack)
    }

    /// S1: takes the oldest task, claimed.
    fn take(&mut self) -> Option<Task> {
        loop {
            let mut accepted = self.queue.pop_front()?;
            if accepted.task.claim() {
                self.live -= 1;
                return Some(accepted.task);
            }
        }
    }

    /// S1: a live task was claimed elsewhere, under this lock: else tokens would come for it in vain.
    fn bury(&mut self) {
        self.live = self.live.saturating_sub(1);
        if self.queue.len() > 2 * self.live + FEW_SHELLS {
            self.queue.retain(|accepted| !accepted.task.is_shell());
        }
    }
}

impl Share {
    pub(crate) fn new(core: &Arc<Core>, limit: Option<usize>) -> Arc<Share> {
        let share = Arc::new(Share {
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
            reins: Mutex::new(Reins {
                limit,
                resume: limit.unwrap_or(1).max(1),
                backlog: None,
                closed: false,
                pool_closed: false,
            }),
        });
        core.tenants.add(Arc::clone(&share) as _);
        share
    }

    pub(crate) fn strand(
        self: &Arc<Self>,
        slots: usize,
        ordered: bool,
        keeper: Option<(Weak<dyn Keeper>, u64)>,
    ) -> Arc<Strand> {
        let strand = Arc::new_cyclic(|me| Strand {
            me: Weak::clone(me),
            share: Arc::clone(self),
            ordered,
            keeper,
            inner: Mutex::new(Inner {
                queue: VecDeque::new(),
                live: 0,
                slots,
                tokens: Tokens::default(),
            }),
        });
        lock(&self.strands).insert(strand.address(), Arc::downgrade(&strand));
        strand
    }

    pub(super) fn forget(&self, strand: &Strand) {
        lock(&self.strands).remove(&strand.address());
    }

    fn strands(&self) -> Vec<Arc<Strand>> {
        let strands = lock(&self.strands);
        strands.values().filter_map(Weak::upgrade).collect()
    }

    fn address(&self) -> *const () {
        std::ptr::from_ref(self).cast()
    }

    /// Whether a task of this share runs on this thread.
    pub(crate) fn is_within(&self) -> bool {
        current::is_within(self.address())
    }

    fn after(self: &Arc<Self>, left: Left) {
        if left.serve {
            self.serve();
        }
    }

    fn serve(self: &Arc<Self>) {
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
        limit.map_or(self.core.capacity(), |limit| {
            limit.min(self.core.capacity())
        })
    }

    pub(crate) fn set_backlog(self: &Arc<Self>, backlog: usize) {
        let mut reins = lock(&self.reins);
        reins.backlog = Some(backlog);
        self.apply(&reins);
    }

    pub(crate) fn tune(self: &Arc<Self>, limit: usize) -> usize {
        let mut reins = lock(&self.reins);
        let before = reins.limit.replace(limit);
        if limit > 0 {
            reins.resume = limit;
        }
        for strand in self.strands() {
            lock(&strand.inner).slots = limit;
        }
        self.apply(&reins);
        drop(reins);
        self.settle();
        before.unwrap_or(limit)
    }

    fn apply(self: &Arc<Self>, reins: &Reins) {
        let limit = reins.limit.unwrap_or_else(|| self.core.capacity());
        let room = reins.backlog.map(|backlog| limit.saturating_add(backlog));
        self.admission.set_limit(room);
    }

    fn settle(self: &Arc<Self>) {
        self.serve();
        self.strands().iter().for_each(Strand::settle);
        self.wake_helpers();
    }

    // ── waiting ─────────────────────────────────────────────────────────────────────────────

    fn wake_helpers(&self) {
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
            lock(&self.helpers).push(this_thread());
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
        let again = self.core.rescue();
        if again.is_some() {
            self.strands().iter().for_each(Strand::settle);
        }
        again
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
            // A closed share is not paused: its tasks are to end.
            reins.limit = Some(reins.resume);
            for strand in self.strands() {
                lock(&strand.inner).slots = reins.resume;
            }
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

    fn discard_backlog(self: &Arc<Self>) -> usize {
        let mut discarded = 0;
        for (mut task, strand) in self.admission.take_accepted() {
            if task.claim() {
                self.drop_unrun(task);
                discarded += 1;
            }
            strand.unpin(1);
        }
        for strand in self.strands() {
            while let Some(task) = { lock(&strand.inner).take() } {
                self.drop_unrun(task);
                strand.over(1);
                discarded += 1;
            }
        }
        discarded
    }

    fn drop_unrun(self: &Arc<Self>, task: Task) {
        self.call(|| task.discard(|| self.counts.discarded.add(1)));
    }

    fn call<T>(&self, f: impl FnOnce() -> T) -> T {
        current::within(self.address(), || current::call_here(&self.core, f))
    }

    pub(crate) fn reopen(self: &Arc<Self>, by_pool: bool) {
        let mut reins = lock(&self.reins);
        if by_pool {
            reins.pool_closed = false;
        } else {
            reins.closed = false;
        }
        if !reins.closed && !reins.pool_closed {
            self.admission.reopen();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.admission.places().is_closed()
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

impl House for Strand {
    type Dest = Arc<Strand>;

    fn dest(self: &Arc<Self>) -> Arc<Strand> {
        Arc::clone(self)
    }

    fn core(self: &Arc<Self>) -> &Arc<Core> {
        &self.share.core
    }

    fn admission(&self) -> &Admission<Arc<Strand>> {
        &self.share.admission
    }

    fn counts(&self) -> &Counts {
        &self.share.counts
    }

    fn calling(&self) -> &AtomicUsize {
        &self.share.calling
    }

    fn is_paused(&self) -> bool {
        self.share.capacity() == 0
    }

    /// Not past those before it.
    fn may_call(&self) -> bool {
        !self.ordered
    }

    fn queue_accepted(self: &Arc<Self>, mut task: Task) {
        task.hold_place();
        let number = self.share.admission.count_accepted();
        self.push(Accepted::new(number, task));
        self.settle();
        self.share.wake_helpers();
    }

    fn keep(self: &Arc<Self>, task: Task) -> Option<Task> {
        Some(task)
    }

    fn keeps_all(&self) -> bool {
        false
    }

    fn serve(self: &Arc<Self>) {
        self.share.serve();
    }

    fn after(self: &Arc<Self>, left: Left) {
        self.share.after(left);
    }

    /// The strand's own first; where it has none, the oldest of all.
    fn take_oldest(self: &Arc<Self>) -> Option<(Task, Arc<Strand>)> {
        if let Some(task) = lock(&self.inner).take() {
            return Some((task, Arc::clone(self)));
        }
        let strands = self.share.strands();
        let oldest = strands.into_iter().filter_map(|strand| {
            let number = lock(&strand.inner).queue.front()?.number();
            Some((number, strand))
        });
        let (_, strand) = oldest.min_by_key(|(number, _)| *number)?;
        let task = lock(&strand.inner).take()?;
        Some((task, strand))
    }

    fn has_queued(&self) -> bool {
        self.share.queued() > 0
    }

    fn discard(self: &Arc<Self>, task: Task, from: Arc<Strand>) {
        self.share.drop_unrun(task);
        from.unpin(1);
        from.settle();
    }

    fn call<T>(self: &Arc<Self>, f: impl FnOnce() -> T) -> T {
        self.share.call(f)
    }
}

impl Strand {
    fn address(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    pub(super) fn is(&self, other: &Strand) -> bool {
        std::ptr::eq(self, other)
    }

    fn arc(&self) -> Arc<Strand> {
        // Whoever calls this has one.
        self.me.upgrade().unwrap_or_else(|| unreachable!())
    }

    pub(crate) fn share(&self) -> &Arc<Share> {
        &self.share
    }

    fn push(&self, accepted: Accepted) {
        let mut inner = lock(&self.inner);
        inner.queue.push_back(accepted);
        inner.live += 1;
    }

    /// S3
    fn settle(self: &Arc<Self>) {
        loop {
            let step = lock(&self.inner).step();
            let core = &self.share.core;
            match step {
                None => return,
                Some(Step::TakeBack(spot)) => core.take_back(spot),
                Some(Step::Send) => {
                    let token = Task::of_job(Arc::clone(self) as _);
                    let sent = core.submit_ahead(token, Origin::Inside);
                    let accepted = sent.is_ok();
                    lock(&self.inner).tokens.added(accepted);
                    if let Err(refusal) = sent {
                        refusal.task.disown();
                        if refusal.kind == SubmitErrorKind::Closed {
                            // The pool discards what is left.
                            self.share.discard_backlog();
                        }
                        // Else no thread is to be had, and whoever waits tries again.
                        return;
                    }
                }
            }
        }
    }

    /// So many tasks are over: their places are free.
    fn over(self: &Arc<Self>, tasks: usize) {
        self.unpin(tasks);
        self.share.after(self.share.admission.leave(tasks as u64));
    }

    fn unpin(&self, tasks: usize) {
        if let Some((keeper, label)) = &self.keeper {
            if let Some(keeper) = keeper.upgrade() {
                keeper.unpin(*label, self, tasks);
            }
        }
    }

    /// S2, S5: a slot is free again.
    fn free_slot(self: &Arc<Self>) {
        lock(&self.inner).tokens.end();
        self.settle();
        self.share.wake_helpers();
    }

    /// Runs what was claimed, in a slot that `free_slot` frees.
    fn run(self: &Arc<Self>, work: Claimed<'_>, free_slot: impl FnOnce()) -> Outcome {
        let share = &self.share;
        share.started.add(1);
        share.running.fetch_add(1, Ordering::SeqCst);
        let mut ended = Outcome::Completed;
        let strand: *const () = std::ptr::from_ref(&**self).cast();
        current::within(share.address(), || {
            current::within(strand, || {
                work.run(|outcome| {
                    ended = match outcome {
                        Outcome::Completed => {
                            share.completed.add(1);
                            Outcome::Completed
                        }
                        Outcome::Cancelled => {
                            share.counts.cancelled.add(1);
                            share.started.take_back();
                            Outcome::Cancelled
                        }
                        other => {
                            if let Outcome::Panicked(payload) = other {
                                share.core.tell_panic_here(payload);
                            }
                            share.panicked.add(1);
                            Outcome::PanicTaken
                        }
                    };
                    share.running.fetch_sub(1, Ordering::SeqCst);
                    free_slot();
                    self.over(1);
                    share.wake_helpers();
                });
            });
        });
        ended
    }

    // ── for those who wait in a task of the pool ────────────────────────────────────────────

    fn lends(&self) -> bool {
        current::is_within(std::ptr::from_ref(self).cast())
    }

    fn may_help(&self) -> bool {
        let inner = lock(&self.inner);
        inner.live > 0 && (inner.has_slot() || self.lends())
    }

    /// Runs what `take` takes, if there is a slot; whether it did.
    fn help<'a>(self: &Arc<Self>, take: impl FnOnce(&mut Inner) -> Option<Claimed<'a>>) -> bool {
        let lends = self.lends();
        let (work, token) = {
            let mut inner = lock(&self.inner);
            if !lends && !inner.has_slot() {
                return false;
            }
            let Some(work) = take(&mut inner) else {
                return false;
            };
            if !lends {
                inner.tokens.begin();
            }
            (work, inner.tokens.retire(0))
        };
        self.share.core.run_instead(token, || {
            self.run(work, || {
                if !lends {
                    self.free_slot();
                }
            })
        });
        self.settle();
        true
    }

    fn help_with_next(self: &Arc<Self>) -> bool {
        self.help(|inner| inner.take().map(Claimed::Task))
    }

    /// Runs a job of the strand that has not started, with those before it if the strand is ordered, as
    /// soon as there is a slot. Returns when somebody has claimed it, or at the deadline.
    pub(crate) fn help_with(
        self: &Arc<Self>,
        state: &State,
        job: &dyn Job,
        deadline: Option<Instant>,
    ) {
        while !state.is_claimed() {
            let helped = if self.ordered {
                self.help_with_next()
            } else {
                self.help(|inner| {
                    let spot = state.claim()?;
                    if spot == Spot::Placed {
                        inner.bury();
                    }
                    Some(Claimed::Job(job))
                })
            };
            if helped {
                continue;
            }
            lock(&self.share.helpers).push(this_thread());
            if state.is_claimed() || self.may_help() {
                continue;
            }
            if is_past(deadline) {
                return;
            }
            park_until(sooner(self.share.rescue(), deadline));
        }
    }

    /// Cancels the job that `claim` claims.
    pub(crate) fn cancel(
        self: &Arc<Self>,
        job: &dyn Job,
        claim: impl FnOnce() -> Option<Spot>,
    ) -> bool {
        let share = &self.share;
        share.admission.hold();
        let spot = {
            let mut inner = lock(&self.inner);
            let spot = claim();
            if spot == Some(Spot::Placed) {
                inner.bury();
            }
            spot
        };
        if let Some(spot) = spot {
            share.call(|| job.abandon(Unrun::Cancelled));
            share.counts.cancelled.add(1);
            match spot {
                Spot::Placed => {
                    self.over(1);
                    self.settle();
                }
                Spot::Loose => {
                    share.after(share.admission.drop_shells());
                    self.unpin(1);
                }
            }
            job.settle();
        }
        share.after(share.admission.unhold());
        share.wake_helpers();
        spot.is_some()
    }
}

/// A token.
impl Job for Strand {
    fn claim(&self, placed: bool) -> Option<Spot> {
        lock(&self.inner).tokens.claim(placed)
    }

    fn is_claimed(&self, placed: bool) -> bool {
        !lock(&self.inner).tokens.has(placed)
    }

    fn hold_place(&self) -> bool {
        lock(&self.inner).tokens.hold_place()
    }

    fn run(&self) -> Outcome {
        let (task, strand) = (lock(&self.inner).take(), self.arc());
        if let Some(task) = task {
            return strand.run(Claimed::Task(task), || strand.free_slot());
        }
        strand.free_slot();
        Outcome::Completed
    }

    fn settle(&self) {}

    /// The pool discards a task of the share: the strand's oldest.
    fn abandon(&self, _why: Unrun) {
        let (task, strand) = (lock(&self.inner).take(), self.arc());
        if let Some(task) = task {
            self.share.drop_unrun(task);
            strand.over(1);
        }
        strand.free_slot();
    }
}

impl Tenant for Share {
    fn close(self: Arc<Self>, discard: bool) -> usize {
        Share::close(&self, discard, true)
    }

    fn reopen(self: Arc<Self>) {
        Share::reopen(&self, true);
    }

    fn retune(self: Arc<Self>) {
        let reins = lock(&self.reins);
        if reins.limit.is_none() && reins.backlog.is_some() {
            self.apply(&reins);
            drop(reins);
            self.serve();
        }
    }
}
