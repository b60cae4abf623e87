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

use crate::engine::bell::Ring;
use crate::engine::config::Hooks;
use crate::engine::core::Core;
use crate::engine::local::{LocalQueue, WorkerShared};
use crate::engine::queue::insist;
use crate::engine::spin::{self, Between, GATHER, STREAK, Search};
use crate::engine::submit::Target;
use crate::engine::task::claimable::Spot;
use crate::engine::task::{Accepted, Outcome, Task};
use crate::engine::threads::{Expiry, Rest};
use crate::engine::wake::standby::{Duty, Tick};
use crate::panic::{PanicHandler, Payload, TaskPanic, WorkerId, drop_quietly};
use crate::sync::deque::Worker as Deque;
use crate::sync::{Arc, AtomicBool, Ordering, deadline_after, fence, order_seqcst};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// L3: every so often it is the other way round. A prime, so as not to fall in step with a user's
/// own rhythm.
const ODD_TURN: u32 = 61;

/// The least time for which a last worker whose time is up waits for a task that is on its way.
const RENEWAL: Duration = Duration::from_millis(1);

/// After a worker kept more tasks than that in its local queue it takes a new deque, once it is free. It looks for
/// how many there are after each so many, which is all that the length can grow meanwhile.
const MANY_KEPT: usize = 1024;
const KEPT_BETWEEN_LOOKS: u32 = 256;

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

    fn greet(&self, hooks: &Hooks) {
        let handler = self.guard_hook(|| hooks.panics.for_worker(self.id));
        *self.handler.borrow_mut() = handler.flatten();
        if let Some(hook) = &hooks.on_start {
            self.guard_hook(|| hook(self.id));
        }
    }

    fn guard_hook<T>(&self, hook: impl FnOnce() -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(hook)) {
            Ok(value) => Some(value),
            Err(payload) => {
                self.core.counts.hook_panics.add(1);
                drop_quietly(payload);
                None
            }
        }
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

    /// Runs the next task in the local queue, for a worker that is busy.
    fn run_next_here(&self) -> bool {
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
    fn run_shared(&self) -> bool {
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
    fn run_batched(&self, local: &LocalQueue) -> bool {
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

    fn run_own(&self, local: &LocalQueue) -> bool {
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

    fn give_back(&self, places: u64) {
        if places > 0 {
            self.held.set(self.held.get() - places);
            self.leave(places);
        }
    }

    /// What is left in the local queue goes back to the queue. On its way it escaped those who looked for
    /// work meanwhile, so there is a look for them afterwards. L6: as in [`reach`](Self::reach).
    fn hand_back(&self, local: &LocalQueue) {
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

    /// The task is over, and so is all it captured.
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

    fn search(&self) -> Option<Task> {
        let core = &self.core;
        let processors = core.config.processors;
        let mut spinning = None;
        let mut search = Search::new(processors, core.gives_way());
        if self.streak.get() >= STREAK {
            self.streak.set(0);
            spin::pause(processors.spins(GATHER));
        }
        loop {
            if core.queue.has_work() {
                if let Some(task) = self.reach() {
                    drop(spinning);
                    self.count_streak(search.looks());
                    self.pass_on();
                    return Some(task);
                }
            }
            let counts = core.threads.counts();
            let may_spin = processors.fit(counts.active());
            if search.is_over() || !counts.permits() || !may_spin || counts.is_closed() {
                return None;
            }
            if spinning.is_none() {
                spinning = Some(Spinning::begin(&core.spinning)?);
            }
            match search.next(|| self.served.take()) {
                Between::Yield => core.give_way(),
                Between::Pause(turns) => spin::pause(turns),
            }
        }
    }

    /// L1, L6: takes a task if that is still permitted once it shows.
    fn reach(&self) -> Option<Task> {
        let shared = &self.shared;
        shared.reaching.store(true, Ordering::SeqCst);
        order_seqcst();
        let queue = &self.core.queue;
        // L6: nothing is moved any more once the pool discards.
        if !self.core.threads.counts().is_discarding()
            && queue.skips_tombstones()
            && !queue.has_work()
        {
            // Nothing but tombstones: it is not busy for those.
            shared.reaching.store(false, Ordering::Release);
            return None;
        }
        shared.busy.store(true, Ordering::SeqCst);
        order_seqcst();
        let counts = self.core.threads.counts();
        let task = if counts.permits() && !counts.is_discarding() {
            self.take()
        } else {
            None
        };
        if task.is_none() {
            shared.busy.store(false, Ordering::SeqCst);
        }
        // ORDERING: Release: who sees it sees what was moved.
        shared.reaching.store(false, Ordering::Release);
        if counts.is_discarding() {
            self.core.discard_late(|| self.core.queue.take(), 1);
        }
        task
    }

    /// A task alone, with the next one on its way already: a stream, not a round trip.
    fn count_streak(&self, looks: u32) {
        let batches = self.core.config.backlog.is_none();
        let alone = batches && looks == 0 && !self.lending.get();
        let streams = alone && self.core.admission.places().held() > 1;
        self.streak
            .set(if streams { self.streak.get() + 1 } else { 0 });
    }

    /// L4: a local queue's own tasks hold no place that would count for them: whoever lent them relied on
    /// the free workers there were, of which this one is no longer one. And if a thread was
    /// refused, this is the time to try again.
    fn pass_on(&self) {
        if self.core.queue.has_lenders() || self.core.threads.lacks_thread() {
            self.core.wake_more();
        }
    }

    /// Takes a task from the shared queue, else steals. On success the worker holds a place.
    fn take(&self) -> Option<Task> {
        let core = &self.core;
        let local = self.local.borrow();
        let local = local.as_ref()?;
        let shared = if core.config.backlog.is_none() {
            let workers = core.threads.counts().capacity();
            let task = core.queue.take_batch(&local.batch, workers);
            self.lend_if(!local.batch.is_empty());
            task
        } else {
            core.queue.take()
        };
        if let Some(task) = shared {
            self.held.set(1);
            return Some(task);
        }
        if !core.queue.has_lenders() {
            return None;
        }
        // A victim may come to rest while its task is in our hands: hold the pool.
        core.admission.hold();
        let stolen = self.steal(local);
        match stolen {
            Some((_, Stolen::Own)) => core.admission.settle_hold(),
            Some((_, Stolen::Batched)) | None => core.after(core.admission.unhold()),
        }
        let (task, _) = stolen?;
        self.held.set(1);
        self.lend_if(!local.are_empty());
        self.shared.counts.steals.add(1);
        Some(task)
    }

    /// Steals half of what some local queue lends.
    fn steal(&self, local: &LocalQueue) -> Option<(Task, Stolen)> {
        let LocalQueue { own, batch } = local;
        self.core
            .queue
            .visit(Some(&self.shared), |shared, stealers| {
                if !shared.has_work(stealers) {
                    return None;
                }
                let batched = || {
                    let first = || insist(|| stealers.batch.steal_batch_and_pop(batch));
                    Some(batch.pop().or_else(first)?.task)
                };
                let owned = || {
                    let first = || insist(|| stealers.own.steal_batch_and_pop(own));
                    own.pop().or_else(first)
                };
                (claim_next(batched).map(|task| (task, Stolen::Batched)))
                    .or_else(|| claim_next(owned).map(|task| (task, Stolen::Own)))
            })
    }

    fn lend_if(&self, lending: bool) {
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
    fn renew_own(&self) {
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
    fn sweep_finished(&self) {
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
    fn sweep_own(&self, own: &Deque<Task>) {
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

    fn execute(&self, task: &mut Task) {
        self.shared.counts.started.add(1);
        task.run(|outcome| {
            self.record(outcome);
            self.finish();
        });
    }

    /// Runs a task within the one that runs, on its place.
    pub(crate) fn run_within(&self, spot: Option<Spot>, run: impl FnOnce() -> Outcome) {
        if spot == Some(Spot::Loose) {
            self.tombstones.set(self.tombstones.get() + 1);
        }
        self.shared.counts.started.add(1);
        self.record(run());
    }

    pub(crate) fn is_seated(&self) -> bool {
        self.local.borrow().is_some()
    }

    pub(crate) fn holds_place(&self) -> bool {
        self.held.get() > 0
    }

    /// Counts the end of a task, and tells of its panic.
    fn record(&self, outcome: Outcome) {
        let counts = &self.shared.counts;
        match outcome {
            Outcome::Completed => return counts.completed.add(1),
            Outcome::Panicked(payload) => self.tell(payload),
            Outcome::PanicTaken => {}
            Outcome::Cancelled => {
                self.core.counts.cancelled.add(1);
                return counts.started.take_back();
            }
        }
        // Over only now: until then it may need another worker.
        counts.panicked.add(1);
    }

    /// Tells the worker's panic handler, or the pool's.
    pub(crate) fn tell(&self, payload: Payload) {
        let panic = TaskPanic::new(Some(self.id), payload);
        // A handler that is running already (its own task panicked within it) is passed over.
        let mut handler = self.handler.try_borrow_mut().ok();
        let own = handler.as_mut().and_then(|own| own.as_mut());
        self.core.config.hooks.panics.tell(own, panic);
    }

    /// Goes to rest: on the idle stack, a last look, asleep; or leaves.
    fn rest(&self) -> Rest {
        let core = &self.core;
        let outlook = || core.outlook();
        core.admission.wake_let_in();
        let may_stand_by = core.may_stand_by();
        let rest = core.threads.settle(&self.shared, may_stand_by, outlook);
        if !matches!(rest, Rest::Sleep | Rest::StandBy) {
            return rest;
        }
        // The last look: whoever pushed a task before this counted on us.
        fence(Ordering::SeqCst);
        if core.queue.has_work() && core.threads.unsettle(&self.shared) {
            if rest == Rest::StandBy {
                core.make_up();
            }
            return Rest::Again;
        }
        let idle_timeout = core.config.idle_timeout;
        let mut deadline = idle_timeout.and_then(deadline_after);
        let mut duty = (rest == Rest::StandBy).then(|| Duty::begin(core));
        loop {
            let until = match &duty {
                Some(duty) => deadline_after(duty.tick()),
                None => deadline,
            };
            let Some(ring) = self.shared.bell.sleep(until) else {
                if let Some(on_duty) = &mut duty {
                    match core.tick(&self.shared, on_duty) {
                        Tick::Stay => {}
                        Tick::Up => return Rest::Again,
                        Tick::StandDown => {
                            duty = None;
                            deadline = idle_timeout.and_then(deadline_after);
                        }
                    }
                    continue;
                }
                deadline = match core.threads.expire(&self.shared, outlook) {
                    Expiry::Again => return Rest::Again,
                    Expiry::Leave => return Rest::Leave,
                    Expiry::Renew => {
                        let again = idle_timeout.unwrap_or(RENEWAL).max(RENEWAL);
                        deadline_after(again)
                    }
                    Expiry::Claimed | Expiry::Stay => None,
                };
                continue;
            };
            if ring == Ring::Retire {
                core.admission.wake_let_in();
                return Rest::Leave;
            }
            core.threads.arrive();
            core.make_up();
            return Rest::Again;
        }
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

/// The next task that is no tombstone, claimed.
fn claim_next(mut take: impl FnMut() -> Option<Task>) -> Option<Task> {
    loop {
        let mut task = take()?;
        if task.claim() {
            return Some(task);
        }
    }
}

/// From which deque of a local queue: it tells whether the task came with its place.
enum Stolen {
    Own,
    Batched,
}

/// The right to spin, which one free worker has at a time.
struct Spinning<'a>(&'a AtomicBool);

impl<'a> Spinning<'a> {
    fn begin(flag: &'a AtomicBool) -> Option<Spinning<'a>> {
        // ORDERING: Relaxed: it guards nothing but the right to waste time.
        let taken = flag.load(Ordering::Relaxed) || flag.swap(true, Ordering::Relaxed);
        (!taken).then_some(Spinning(flag))
    }
}

impl Drop for Spinning<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
