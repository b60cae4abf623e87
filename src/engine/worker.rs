//! The loop of a worker: take a task, run it, look for the next, rest, leave.
//!
//! A worker is **free** or **busy**. Busy, it holds at least one place; free, none.
//!
//! - L1: `busy` is raised before the last look at the roll, and lowered when no task is left at the
//!   desk or none was had: once `running` reads 0 after a pause, nothing starts.
//! - L2: A busy worker with tasks of its own keeps its place for them, so those who wait outside
//!   are neither overtaken by later tasks nor told of room that is not there.
//! - L3: A worker runs the tasks at its desk first, and one of the shared queue in each 61st turn, so
//!   that nobody starves. Nobody who waited in line is overtaken: what a task submits while somebody
//!   waits, or has waited and is in the queue, does not go to the desk but behind them.
//! - L4: A worker that took a task looks whether another desk lends one, for one more worker.
//! - L5: No user code runs under a lock, and none can end the worker: each call is caught.
//! - L6: Once the pool discards its backlog no task is taken any more, and whoever discards it waits
//!   until none is on its way to a desk or back; what shows up later the workers drop.

use super::crew::{Expiry, Rest};
use super::current;
use super::desk::{Deques, Desk};
use super::idle::Ring;
use super::job::Spot;
use super::queue::insist;
use super::standby::{Duty, Tick};
use super::submit::House;
use super::task::{Accepted, Outcome, Payload, Task};
use super::{Core, Hooks};
use crate::panic::{PanicHandler, TaskPanic, WorkerId, drop_quietly};
use crate::sync::deque::Worker as Deque;
use crate::sync::{
    Arc, AtomicBool, Ordering, deadline_after, fence, order_seqcst, spin_loop, yields,
};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// L3: every so often it is the other way round. A prime, so as not to fall in step with a user's
/// own rhythm.
const ODD_TURN: u32 = 61;

/// Looks of the one spinning worker before it rests, and the most pauses between two of them: they
/// double, so that it finds more than one task if they come fast, and disturbs nobody.
const LOOKS: u32 = 40;
const MOST_PAUSES: u32 = 16;

/// With an unbounded backlog, where no submitter waits for the worker, it looks so often more, and gives its
/// processor away before each: it may be the very one that the submitter wants, as threads that wake one
/// another end up on the same one. These are all its looks where there is but one.
const YIELDING_LOOKS: u32 = 8;

/// With a bound a submitter waits in line for the worker, which lets it in and wakes it. If nothing has come by this
/// look, that one may wait for the worker's processor now: it gives way, once.
const OBLIGING_LOOK: u32 = 12;

/// Tasks that come one by one, each just as the last one is done, are fetched from under the
/// submitter's hands, to the loss of both: after so many in a row a worker of a pool with an
/// unbounded backlog pauses for a moment, and then finds a batch.
const STREAK: u32 = 4;
const GATHER: u32 = 200;

/// The least time for which a last worker whose time is up waits for a task that is on its way.
const RENEWAL: Duration = Duration::from_millis(1);

/// After a worker kept more tasks than that at its desk it takes a new deque, once it is free. It looks for
/// how many there are after each so many, which is all that the length can grow meanwhile.
const MANY_KEPT: usize = 1024;
const KEPT_BETWEEN_LOOKS: u32 = 256;

/// So many shells at a desk are not worth a sweep.
const FEW_SHELLS: usize = 64;

pub(crate) struct Worker {
    core: Arc<Core>,
    id: WorkerId,
    desk: Arc<Desk>,
    deques: RefCell<Option<Deques>>,
    handler: RefCell<Option<PanicHandler>>,
    /// Places held: of the task that runs, and of those of its batch that are done.
    held: Cell<u64>,
    lending: Cell<bool>,
    turns: Cell<u32>,
    /// How often in a row it took a task alone from a queue that held nothing else.
    streak: Cell<u32>,
    /// There was a line when it gave places back: it may have let a submitter in, which is about to come.
    served: Cell<bool>,
    /// So many tasks at the desk are worth a look for shells.
    sweep_at: Cell<usize>,
    /// Jobs that this worker claimed elsewhere than at the end of a queue: about as many shells are at its
    /// desk.
    shells: Cell<usize>,
    /// How many tasks were kept at the desk so far, and whether they were very many at once of late.
    kept: Cell<u32>,
    outgrown: Cell<bool>,
}

/// The body of a worker's thread.
pub(crate) fn main(core: Arc<Core>, id: WorkerId, desk: Arc<Desk>) {
    let deques = core.queue.take_desk(&desk);
    current::begin_worker(Worker {
        deques: RefCell::new(Some(deques)),
        handler: RefCell::new(None),
        core,
        id,
        desk,
        held: Cell::new(0),
        lending: Cell::new(false),
        turns: Cell::new(0),
        streak: Cell::new(0),
        served: Cell::new(false),
        sweep_at: Cell::new(2 * FEW_SHELLS),
        shells: Cell::new(0),
        kept: Cell::new(0),
        outgrown: Cell::new(false),
    });
}

impl Worker {
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn live(&self) {
        self.core.crew.arrive();
        self.core.wake_more();
        let hooks = &self.core.plan.hooks;
        if hooks.greet() {
            self.core.crew.in_hooks(|| self.greet(hooks));
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
        self.give_up_desk();
    }

    fn give_up_desk(&self) {
        // From here on nothing is counted or kept at it, whatever thread-locals do as they are dropped.
        let deques = self.deques.take();
        self.core.queue.give_up_desk(&self.desk);
        // D1. Else they would be dropped here, outside all locks, but never count as over.
        debug_assert!(deques.is_none_or(|deques| deques.are_empty()));
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

    /// Runs the next task at the desk, for a worker that is busy.
    fn run_next_here(&self) -> bool {
        let deques = self.deques.borrow();
        let Some(deques) = deques.as_ref() else {
            return false;
        };
        loop {
            let roll = self.core.crew.roll();
            if roll.is_discarding() {
                self.core.discard_late(|| Some(deques.batch.pop()?.task), 1);
                self.core.discard_late(|| deques.own.pop(), 0);
            } else if !roll.permits() || self.core.queue.has_handed_back() {
                // C2, Q2
                self.hand_back(deques);
            } else {
                break;
            }
            if deques.are_empty() {
                return false;
            }
            // The pool was opened again meanwhile, or discards what was to be handed back.
        }
        self.turns.set(self.turns.get().wrapping_add(1));
        if self.turns.get() % ODD_TURN == 0 {
            return self.run_batched(deques) || self.run_shared() || self.run_own(deques);
        }
        self.run_own(deques) || self.run_batched(deques)
    }

    /// L3: one task of the shared queue, with its place, for a worker that has more at its desk.
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
    fn run_batched(&self, deques: &Deques) -> bool {
        loop {
            let mut popped = deques.batch.pop();
            let Some(Accepted { task, .. }) = &mut popped else {
                return false;
            };
            if task.claim() {
                let held = self.held.replace(self.held.get() + 1);
                if deques.batch.is_empty() {
                    self.give_back(held);
                }
                self.execute(task);
                return true;
            }
        }
    }

    fn run_own(&self, deques: &Deques) -> bool {
        loop {
            let mut popped = deques.own.pop();
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

    /// What is left at the desk goes back to the queue. On its way it escaped those who looked for
    /// work meanwhile, so there is a look for them afterwards. L6: as in [`reach`](Self::reach).
    fn hand_back(&self, deques: &Deques) {
        let reaching = &self.desk.reaching;
        reaching.store(true, Ordering::SeqCst);
        order_seqcst();
        if self.core.crew.roll().is_discarding() {
            reaching.store(false, Ordering::Release);
            return;
        }
        let batch = std::iter::from_fn(|| deques.batch.pop());
        self.core.queue.hand_back(batch);
        let admission = &self.core.admission;
        while let Some(mut task) = deques.own.pop() {
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
        if self.shells.get() > 0 {
            self.sweep_finished();
        }
        let (more, batch) = match &*self.deques.borrow() {
            None => (false, false),
            Some(deques) => {
                let batch = !deques.batch.is_empty();
                (batch || !deques.own.is_empty(), batch)
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
            self.core.queue.end_lending(&self.desk);
        }
        // ORDERING: Release: who reads that nothing runs sees what ran.
        self.desk.busy.store(false, Ordering::Release);
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
        let mut spinning = None;
        let mut looks = 0;
        let processors = core.plan.processors;
        let spinning_looks = processors.spins(LOOKS);
        let gives_way = core.gives_way();
        let most_looks = spinning_looks + yields(if gives_way { YIELDING_LOOKS } else { 0 });
        if self.streak.get() >= STREAK {
            self.streak.set(0);
            (0..processors.spins(GATHER)).for_each(|_| spin_loop());
        }
        loop {
            if core.queue.has_work() {
                if let Some(task) = self.reach() {
                    drop(spinning);
                    self.count_streak(looks);
                    self.pass_on();
                    return Some(task);
                }
            }
            let roll = core.crew.roll();
            let may_spin = processors.fit(roll.active());
            if looks == most_looks || !roll.permits() || !may_spin || roll.is_closed() {
                return None;
            }
            looks += 1;
            if spinning.is_none() {
                spinning = Some(Spinning::begin(&core.spinning)?);
            }
            if looks > spinning_looks || looks == OBLIGING_LOOK && self.served.take() {
                core.give_way();
            } else {
                let pauses = (1 << looks.min(16)).min(MOST_PAUSES);
                (0..pauses).for_each(|_| spin_loop());
            }
        }
    }

    /// L1, L6: takes a task if that is still permitted once it shows.
    fn reach(&self) -> Option<Task> {
        let desk = &self.desk;
        desk.reaching.store(true, Ordering::SeqCst);
        order_seqcst();
        let queue = &self.core.queue;
        // L6: nothing is moved any more once the pool discards.
        if !self.core.crew.roll().is_discarding() && queue.skips_shells() && !queue.has_work() {
            // Nothing but shells: it is not busy for those.
            desk.reaching.store(false, Ordering::Release);
            return None;
        }
        desk.busy.store(true, Ordering::SeqCst);
        order_seqcst();
        let roll = self.core.crew.roll();
        let task = if roll.permits() && !roll.is_discarding() {
            self.take()
        } else {
            None
        };
        if task.is_none() {
            desk.busy.store(false, Ordering::SeqCst);
        }
        // ORDERING: Release: who sees it sees what was moved.
        desk.reaching.store(false, Ordering::Release);
        if roll.is_discarding() {
            self.core.discard_late(|| self.core.queue.take(), 1);
        }
        task
    }

    /// A task alone, with the next one on its way already: a stream, not a round trip.
    fn count_streak(&self, looks: u32) {
        let batches = self.core.plan.backlog.is_none();
        let alone = batches && looks == 0 && !self.lending.get();
        let streams = alone && self.core.admission.places().held() > 1;
        self.streak
            .set(if streams { self.streak.get() + 1 } else { 0 });
    }

    /// L4: a desk's own tasks hold no place that would count for them: whoever lent them relied on
    /// the free workers there were, of which this one is no longer one. And if a thread was
    /// refused, this is the time to try again.
    fn pass_on(&self) {
        if self.core.queue.has_lenders() || self.core.crew.lacks_thread() {
            self.core.wake_more();
        }
    }

    /// Takes a task from the shared queue, else steals. On success the worker holds a place.
    fn take(&self) -> Option<Task> {
        let core = &self.core;
        let deques = self.deques.borrow();
        let deques = deques.as_ref()?;
        let shared = if core.plan.backlog.is_none() {
            let workers = core.crew.roll().capacity();
            let task = core.queue.take_batch(&deques.batch, workers);
            self.lend_if(!deques.batch.is_empty());
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
        let stolen = self.steal(deques);
        match stolen {
            Some((_, Stolen::Own)) => core.admission.settle_hold(),
            Some((_, Stolen::Batched)) | None => core.after(core.admission.unhold()),
        }
        let (task, _) = stolen?;
        self.held.set(1);
        self.lend_if(!deques.are_empty());
        self.desk.tallies.steals.add(1);
        Some(task)
    }

    /// Steals half of what some desk lends.
    fn steal(&self, deques: &Deques) -> Option<(Task, Stolen)> {
        let Deques { own, batch } = deques;
        self.core.queue.visit(Some(&self.desk), |desk, stealers| {
            if !desk.has_work(stealers) {
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
            self.core.queue.lend(&self.desk);
        }
    }

    /// Whether tasks wait here that tasks submitted beyond the bound.
    pub(crate) fn has_own(&self) -> bool {
        let deques = self.deques.borrow();
        (deques.as_ref()).is_some_and(|deques| !deques.own.is_empty())
    }

    /// Makes a task here that the running task submitted beyond the bound; leaves its maker if no task runs on
    /// this worker (but a hook, say).
    #[inline]
    pub(crate) fn keep<M: FnOnce() -> Task>(&self, make: &mut Option<M>) {
        let deques = self.deques.borrow();
        let Some(deques) = deques.as_ref().filter(|_| self.held.get() > 0) else {
            return;
        };
        let Some(make) = make.take() else {
            return;
        };
        self.desk.tallies.submitted.add(1);
        self.lend_if(true);
        let task = make();
        if matches!(task, Task::Shared(_)) && deques.own.len() >= self.sweep_at.get() {
            self.sweep_own(&deques.own);
        }
        deques.own.push(task);
        let kept = self.kept.get().wrapping_add(1);
        self.kept.set(kept);
        if kept % KEPT_BETWEEN_LOOKS == 0 && deques.own.len() > MANY_KEPT {
            self.outgrown.set(true);
        }
    }

    /// Takes a new deque after the old one held very many tasks, which gives room back only for what its own
    /// worker takes out, not for what others steal. Nothing is left in the old one: the worker is free.
    #[cold]
    fn renew_own(&self) {
        self.outgrown.set(false);
        let new = Deque::new_fifo();
        let _stealer = self.core.queue.renew_own(&self.desk, new.stealer());
        if let Some(deques) = &mut *self.deques.borrow_mut() {
            debug_assert!(deques.own.is_empty());
            deques.own = new;
        }
    }

    /// What the task left at the desk of jobs that it waited for must not keep the place.
    #[cold]
    fn sweep_finished(&self) {
        let swept = match &*self.deques.borrow() {
            Some(deques) if deques.own.len() <= 2 * self.shells.get() => {
                self.sweep_own(&deques.own);
                !deques.own.is_empty()
            }
            _ => false,
        };
        if swept {
            self.core.wake_for_lent();
        }
    }

    /// Drops the shells among the tasks at the desk. L6: as in [`reach`](Self::reach); the look for those
    /// who looked for work meanwhile is the caller's.
    #[cold]
    fn sweep_own(&self, own: &Deque<Task>) {
        let reaching = &self.desk.reaching;
        reaching.store(true, Ordering::SeqCst);
        order_seqcst();
        if !self.core.crew.roll().is_discarding() {
            // Nobody steals meanwhile: what is taken from the middle may wait for all those that were moved to the
            // end, and would run them one within the other.
            self.core.queue.without_thieves(|| {
                for _ in 0..own.len() {
                    let Some(mut task) = own.pop() else {
                        break;
                    };
                    if !task.is_shell() {
                        own.push(task);
                    }
                }
            });
        }
        // ORDERING: Release: who sees it sees what was moved.
        reaching.store(false, Ordering::Release);
        self.shells.set(0);
        self.sweep_at.set(2 * own.len().max(FEW_SHELLS));
    }

    fn execute(&self, task: &mut Task) {
        self.desk.tallies.started.add(1);
        task.run(|outcome| {
            self.record(outcome);
            self.finish();
        });
    }

    /// Runs a task within the one that runs, on its place.
    pub(crate) fn run_within(&self, spot: Option<Spot>, run: impl FnOnce() -> Outcome) {
        if spot == Some(Spot::Loose) {
            self.shells.set(self.shells.get() + 1);
        }
        self.desk.tallies.started.add(1);
        self.record(run());
    }

    pub(crate) fn is_seated(&self) -> bool {
        self.deques.borrow().is_some()
    }

    pub(crate) fn holds_place(&self) -> bool {
        self.held.get() > 0
    }

    /// Counts the end of a task, and tells of its panic.
    fn record(&self, outcome: Outcome) {
        let tallies = &self.desk.tallies;
        match outcome {
            Outcome::Completed => return tallies.completed.add(1),
            Outcome::Panicked(payload) => self.tell(payload),
            Outcome::PanicTaken => {}
            Outcome::Cancelled => {
                self.core.counts.cancelled.add(1);
                return tallies.started.take_back();
            }
        }
        // Over only now: until then it may need another worker.
        tallies.panicked.add(1);
    }

    /// Tells the worker's panic handler, or the pool's.
    pub(crate) fn tell(&self, payload: Payload) {
        let panic = TaskPanic::new(Some(self.id), payload);
        // A handler that is running already (its own task panicked within it) is passed over.
        let mut handler = self.handler.try_borrow_mut().ok();
        let own = handler.as_mut().and_then(|own| own.as_mut());
        self.core.plan.hooks.panics.tell(own, panic);
    }

    /// Goes to rest: on the idle stack, a last look, asleep; or leaves.
    fn rest(&self) -> Rest {
        let core = &self.core;
        let outlook = || core.outlook();
        core.admission.wake_let_in();
        let may_stand_by = core.may_stand_by();
        let rest = core.crew.settle(&self.desk, may_stand_by, outlook);
        if !matches!(rest, Rest::Sleep | Rest::StandBy) {
            return rest;
        }
        // The last look: whoever pushed a task before this counted on us.
        fence(Ordering::SeqCst);
        if core.queue.has_work() && core.crew.unsettle(&self.desk) {
            if rest == Rest::StandBy {
                core.make_up();
            }
            return Rest::Again;
        }
        let idle_timeout = core.plan.idle_timeout;
        let mut deadline = idle_timeout.and_then(deadline_after);
        let mut duty = (rest == Rest::StandBy).then(|| Duty::begin(core));
        loop {
            let until = match &duty {
                Some(duty) => deadline_after(duty.tick()),
                None => deadline,
            };
            let Some(ring) = self.desk.bell.sleep(until) else {
                if let Some(on_duty) = &mut duty {
                    match core.tick(&self.desk, on_duty) {
                        Tick::Stay => {}
                        Tick::Up => return Rest::Again,
                        Tick::StandDown => {
                            duty = None;
                            deadline = idle_timeout.and_then(deadline_after);
                        }
                    }
                    continue;
                }
                deadline = match core.crew.expire(&self.desk, outlook) {
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
            core.crew.arrive();
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
        self.core.crew.depart(self.id.0);
    }
}

/// The next task that is no shell, claimed.
fn claim_next(mut take: impl FnMut() -> Option<Task>) -> Option<Task> {
    loop {
        let mut task = take()?;
        if task.claim() {
            return Some(task);
        }
    }
}

/// From which deque of a desk: it tells whether the task came with its place.
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
