//! The engine: one task's way through the target, and the rooms it passes.
//!
//! ```text
//!  submit ─► admission ──────► queue ─────────► wake or start ─► worker ────► admission
//!            a place, or       shared queue,    one worker,      takes, runs,  gives the place
//!            the line          or a local queue's      if all are busy  catches       back, serves the
//!                              own deque        (threads, idle)                   line; at rest?
//!                                                                              (quiescence)
//! ```
//!
//! | room | what it owns |
//! |---|---|
//! | [`task`] | a [`closure`], type-erased, or a [`shared`] to a [`claimable`] or a [permit](permits) |
//! | [`admission`], [`waiter`], [`spin`] | places, room, the line of those who wait, and the looks before it |
//! | [`queue`], [`local`] | where accepted tasks wait, and what workers lend |
//! | [`idle`], [`threads`] | the stack of idle workers; the threads and their number |
//! | [`standby`], [`trust`] | wakes that are put off where there is a single processor; whether that pays |
//! | [`worker`], [`current`] | the loop; which pool this thread works for |
//! | [`quiescence`] | waiting for the pool to be at rest |
//! | [`fork`] | in which process all this may be used |
//! | [`rescue`] | trying again where a thread was refused |
//! | [`thread_name`] | what workers are called, here and by the system |
//!
//! This file joins them. **The wake rule**: whoever makes `places` exceed the number of active
//! workers (by a new task, a raised capacity) wakes or starts one worker, unless one is on its way
//! up; an arriving worker, and one that took a task, looks whether it must do the same. A worker
//! that goes idle says so first and looks for work once more afterwards. docs/design.md has the
//! argument.

pub(crate) mod admission;
pub(crate) mod claim;
pub(crate) mod claimable;
pub(crate) mod closure;
pub(crate) mod current;
pub(crate) mod fork;
pub(crate) mod idle;
pub(crate) mod intrusive_arc;
pub(crate) mod linked;
pub(crate) mod local;
pub(crate) mod permits;
pub(crate) mod queue;
pub(crate) mod quiescence;
pub(crate) mod rescue;
pub(crate) mod shared;
pub(crate) mod shares;
pub(crate) mod spin;
pub(crate) mod standby;
pub(crate) mod submit;
pub(crate) mod task;
pub(crate) mod thread_name;
pub(crate) mod threads;
pub(crate) mod trust;
pub(crate) mod waiter;
pub(crate) mod worker;

#[cfg(all(test, anthill_loom))]
mod models;

use crate::error::ReleaseTimeout;
use crate::panic::{PanicHandlers, WorkerId, drop_quietly};
use crate::results::stop::{Stop, StopToken};
use crate::stats::{Counts, Stats};
use crate::sync::{
    Arc, AtomicBool, AtomicUsize, Instant, JoinHandle, Mutex, MutexGuard, Ordering, Processors,
    Weak, deadline_after, fence, lock, order_seqcst, spawn, spin_loop, try_lock, yield_now,
};
use admission::{Admission, Left};
use crossbeam_utils::CachePadded;
use fork::Mark;
use linked::Linked;
use local::{WorkerCounts, WorkerShared};
use once_cell::sync::OnceCell;
use queue::{Queue, insist};
use rescue::Rescue;
use shares::Shares;
use standby::SingleProcessor;
use std::any::Any;
use std::io;
use std::time::Duration;
use submit::Target;
use task::{Accepted, Task};
use threads::{Outlook, StartThread, ThreadCounts, ThreadTotals, Threads};

/// What [`submit`](crate::PoolHandle::submit) does when the pool has no room.
///
/// It governs `submit`, not the `try_` and `_timeout` forms. On a worker of the pool `submit`
/// never waits: there `Block` and `CallerRuns` queue beyond the bound.
///
/// ```
/// use anthill::{Overflow, Pool};
/// let pool = Pool::builder().capacity(1).backlog(8).overflow(Overflow::DropOldest).build()?;
/// for frame in 0..100 {
///     pool.submit(move || drop(frame))?; // never waits: an old frame makes room
/// }
/// pool.wait_idle();
/// let stats = pool.stats();
/// assert_eq!(stats.completed + stats.discarded, 100);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// The submitter waits for room.
    #[default]
    Block,
    /// The task is refused with [`Full`](crate::SubmitErrorKind::Full).
    Reject,
    /// The submitter runs the task itself, outside the bound. While the pool is paused it waits.
    CallerRuns,
    /// The oldest task that no worker has taken yet is dropped and makes room. Where there is none
    /// (all that fills the pool runs already) the submitter waits.
    DropOldest,
}

pub(crate) type WorkerHook = Arc<dyn Fn(WorkerId) + Send + Sync>;

#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) on_start: Option<WorkerHook>,
    pub(crate) on_stop: Option<WorkerHook>,
    pub(crate) panics: PanicHandlers,
}

impl Hooks {
    /// Whether a new worker has user code to call first.
    pub(crate) fn greet(&self) -> bool {
        self.on_start.is_some() || self.panics.per_worker.is_some()
    }
}

/// How a pool is to be: what never changes after `build`.
#[derive(Clone)]
pub(crate) struct Config {
    /// `None`: unbounded.
    pub(crate) backlog: Option<usize>,
    pub(crate) overflow: Overflow,
    pub(crate) max_waiting: usize,
    pub(crate) min_workers: usize,
    /// `None`: workers never expire.
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) name: String,
    pub(crate) stack_size: Option<usize>,
    pub(crate) hooks: Hooks,
    /// What tasks point to.
    pub(crate) keeps: Option<Arc<dyn Any + Send + Sync>>,
    /// Of the thread that built the pool.
    pub(crate) processors: Processors,
}

impl Config {
    fn limit(&self, capacity: usize) -> Option<usize> {
        self.backlog.map(|backlog| capacity.saturating_add(backlog))
    }
}

/// How long to let the system be after it refused a thread, while somebody waits for one.
pub(crate) const RETRY: Duration = Duration::from_millis(10);

/// AdaptiveSpin whether the workers that are up catch up, before one more is woken.
const GRACE: u32 = 20;

/// How often two counters that move are looked at, for their difference.
const DIFFERENCES: usize = 8;

/// Whoever changes the capacity, or opens or closes the pool, holds the lifecycle lock.
struct Lifecycle {
    /// The last capacity above 0: what a release lifts a pause to.
    resume: usize,
    closed: bool,
    /// Nobody owns the pool any more: it stays closed.
    abandoned: bool,
}

pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) admission: Admission,
    pub(crate) queue: Queue,
    pub(crate) threads: Threads,
    pub(crate) rescue: Rescue,
    pub(crate) counts: Counts,
    /// A free worker spins.
    pub(crate) spinning: CachePadded<AtomicBool>,
    single: SingleProcessor,
    /// Submitters that run their tasks themselves.
    pub(crate) calling: AtomicUsize,
    capacity: AtomicUsize,
    lifecycle: Mutex<Lifecycle>,
    pub(crate) shares: Shares,
    /// The pools that are one with this one.
    linked: OnceCell<Linked>,
    /// Whose line is served first when both are: the lead's, or this one's own.
    turn: AtomicBool,
    /// Tells tasks that the pool was closed; another one after it was opened again.
    stop: Mutex<Arc<Stop>>,
    /// How many `PoolHandle`s there are.
    pub(crate) handles: AtomicUsize,
    mark: Mark,
}

impl StartThread for Arc<Core> {
    fn start(&self, id: u64, worker: Arc<WorkerShared>) -> io::Result<JoinHandle<()>> {
        let core = Arc::clone(self);
        fork::watch()?;
        let name = thread_name::of_worker(&self.config.name, id);
        let shown = thread_name::shown_instead(&name);
        spawn(name, self.config.stack_size, move || {
            if let Some(shown) = shown {
                thread_name::show(&shown);
            }
            worker::main(core, WorkerId(id), worker);
        })
    }
}

impl Target for Core {
    type Dest = ();

    fn dest(self: &Arc<Self>) {}

    fn core(self: &Arc<Self>) -> &Arc<Core> {
        self
    }

    fn admission(&self) -> &Admission {
        &self.admission
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }

    fn calling(&self) -> &AtomicUsize {
        &self.calling
    }

    fn is_paused(&self) -> bool {
        self.capacity() == 0
    }

    fn may_call(&self) -> bool {
        true
    }

    #[inline]
    fn queue_accepted(self: &Arc<Self>, mut task: Task) {
        let number = self.admission.count_accepted();
        // SAFETY: a task comes here once, within the submit that made it, and none that was in line does: that
        // holds its place as it is let in. Whoever else is to hold its claimable gets it when that submit returns.
        if !unsafe { task.hold_first_place() } {
            return self.leave(1);
        }
        self.queue.push(Accepted::new(number, task));
        self.wake_for_queued();
    }

    /// At the worker's local queue, where it runs on the worker's own place; unless others wait or have waited.
    #[inline]
    fn keep<M: FnOnce() -> Task>(self: &Arc<Self>, make: M) -> Result<(), M> {
        // L3: in this order: who leaves the line is in the queue first.
        if self.has_any_line() || self.queue.has_waited() {
            return Err(make);
        }
        let mut make = Some(make);
        current::with_worker(self, |worker| worker.keep(&mut make));
        if let Some(make) = make {
            return Err(make);
        }
        // Its own worker is busy: another one may take it.
        self.wake_for_lent();
        Ok(())
    }

    fn keeps_order(self: &Arc<Self>) -> bool {
        current::with_worker(self, worker::Worker::has_own) == Some(true)
    }

    fn keeps_all(&self) -> bool {
        self.config.backlog.is_none()
    }

    fn serve(self: &Arc<Self>) {
        let ensure_worker = || self.ensure_worker();
        let push = |accepted, ()| self.queue.push(accepted);
        let defer: Option<&dyn Fn() -> bool> = if self.may_defer_let_in() {
            Some(&|| self.threads.defer())
        } else {
            None
        };
        let ended = self.admission.serve(ensure_worker, push, defer);
        self.wake_for_queued();
        if ended {
            self.threads.retire_idle(|| self.outlook());
        }
        self.help_lead(usize::MAX);
    }

    fn takes_turns(&self) -> bool {
        !self.admission.places().has_line() && self.has_any_line()
    }

    fn has_joined(self: &Arc<Self>) {
        self.ask_members();
    }

    fn after(self: &Arc<Self>, left: Left) {
        if left.serve {
            self.serve_in_turn();
        } else {
            self.help_lead(usize::MAX);
        }
        if left.ended {
            self.threads.retire_idle(|| self.outlook());
        }
    }

    fn take_oldest(self: &Arc<Self>) -> Option<(Task, ())> {
        Some((self.queue.take()?, ()))
    }

    fn has_queued(&self) -> bool {
        self.queue.has_shared()
    }

    /// To what its captures do when they are dropped the pool looks as it does to a task: it is not
    /// at rest before they are gone.
    fn discard(self: &Arc<Self>, task: Task, (): ()) {
        self.call(|| task.discard(|| self.counts.discarded.add(1)));
    }

    fn call<T>(self: &Arc<Self>, f: impl FnOnce() -> T) -> T {
        current::call_for(self, f)
    }
}

impl Core {
    pub(crate) fn new(capacity: usize, config: Config) -> Arc<Core> {
        // G5: where it fails, the first thread is refused.
        let _ = fork::watch();
        Arc::new(Core {
            admission: Admission::new(
                config.limit(capacity),
                config.max_waiting,
                config.processors,
            ),
            queue: Queue::new(),
            threads: Threads::new(capacity, config.min_workers),
            rescue: Rescue::default(),
            counts: Counts::default(),
            spinning: CachePadded::new(AtomicBool::new(false)),
            single: SingleProcessor::default(),
            calling: AtomicUsize::new(0),
            capacity: AtomicUsize::new(capacity),
            lifecycle: Mutex::new(Lifecycle {
                resume: capacity.max(1),
                closed: false,
                abandoned: false,
            }),
            shares: Shares::default(),
            linked: OnceCell::new(),
            turn: AtomicBool::new(true),
            stop: Mutex::new(Stop::new()),
            handles: AtomicUsize::new(0),
            mark: Mark::new(),
            config,
        })
    }

    // ── after a fork ────────────────────────────────────────────────────────────────────────

    /// G1: the pool belongs to the process that this one was forked from.
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        fork::has_forked() && self.is_foreign_here()
    }

    #[cold]
    fn is_foreign_here(&self) -> bool {
        // Pools that are one stay or go as one.
        match self.linked.get() {
            None => self.mark.is_foreign(|| self.is_untouched()),
            Some(Linked::Member(lead)) => lead.is_foreign_here(),
            Some(Linked::Lead(members)) => self.mark.is_foreign(|| {
                let members: Vec<_> = members.iter().filter_map(Weak::upgrade).collect();
                self.is_untouched() && members.iter().all(|member| member.is_untouched())
            }),
        }
    }

    /// G2
    fn is_untouched(&self) -> bool {
        try_lock(&self.lifecycle).is_some()
            && try_lock(&self.stop).is_some_and(|stop| stop.is_unlocked())
            && self.calling.load(Ordering::SeqCst) == 0
            && self.threads.is_untouched()
            && self.admission.is_untouched()
            && self.queue.is_untouched()
            && self.shares.are_untouched()
            && self.rescue.is_untouched()
    }

    // ── waking ──────────────────────────────────────────────────────────────────────────────

    /// The wake rule, for whoever queued a task.
    pub(crate) fn wake_for_queued(self: &Arc<Self>) {
        // The push before the look at the thread counts; pairs with the fence of a worker's last look. The
        // places are read after the push, too: a task pushed meanwhile may have taken the worker
        // that was woken for this one.
        fence(Ordering::SeqCst);
        let counts = self.threads.counts();
        if counts.may_activate()
            && self.admission.places().held() > self.threads.ready(counts)
            && !self.catches_up(counts)
            && !self.defers(counts)
        {
            self.activate();
        }
    }

    /// The wake rule, for whoever lent a task: it holds no place that would count for it.
    pub(crate) fn wake_for_lent(self: &Arc<Self>) {
        fence(Ordering::SeqCst);
        let counts = self.threads.counts();
        if counts.may_activate() && self.admission.places().held() >= self.threads.ready(counts) {
            self.activate();
        }
    }

    /// Whether the workers that are up get to what there is in less time than it takes to wake one
    /// more. It is not worth a look where more than one task too many is queued already.
    fn catches_up(&self, counts: ThreadCounts) -> bool {
        let up = self.threads.ready(counts);
        let held = || self.admission.places().held();
        up > 0
            && (self.config.backlog.is_some() || held() == up + 1)
            && (0..self.config.processors.spins(GRACE)).any(|_| {
                spin_loop();
                let held = held();
                held <= up && held <= self.threads.ready(self.threads.counts())
            })
    }

    /// The wake rule, for a worker that cannot tell: is there a task that no active worker will take?
    pub(crate) fn wake_more(self: &Arc<Self>) {
        fence(Ordering::SeqCst);
        let counts = self.threads.counts();
        if self.needs_more(counts) && !self.defers(counts) {
            self.activate();
        }
        self.tell_awaiting();
    }

    /// The same, at once, for whoever may hold a lock.
    pub(crate) fn wake_more_now(self: &Arc<Self>) {
        fence(Ordering::SeqCst);
        if self.needs_more(self.threads.counts()) {
            self.activate();
        }
    }

    fn needs_more(&self, counts: ThreadCounts) -> bool {
        counts.may_activate() && self.demand() > self.threads.ready(counts) && self.queue.has_work()
    }

    /// Who expects something soon may look for it for a moment before it goes to sleep: where more workers are
    /// active than there are processors it would take one from somebody else.
    pub(crate) fn may_spin(&self) -> bool {
        self.config.processors.fit(self.threads.counts().active())
    }

    /// How many workers could be busy: one for each place, and one for what the local queues lend.
    pub(crate) fn demand(&self) -> u64 {
        self.admission.places().held() + u64::from(self.queue.has_lenders())
    }

    #[cold]
    pub(crate) fn activate(self: &Arc<Self>) {
        let activated = self.threads.activate(
            self,
            |counts| self.demand() > self.threads.ready(counts),
            |counts| self.unfinished().saturating_sub(self.threads.ready(counts)),
        );
        // A refusal leaves the task to the workers there are; one lives (C5). But it may be what they wait for.
        if activated.is_err() {
            self.send_rescuer();
        }
    }

    /// C4, C5: sees to it that a worker lives; the caller holds a place.
    pub(crate) fn ensure_worker(self: &Arc<Self>) -> io::Result<()> {
        if self.threads.counts().has_worker() {
            return Ok(());
        }
        self.threads.ensure_worker(self)
    }

    /// For a thread that is about to wait for the pool. Makes up for the wake it may have deferred (Y4), and tries
    /// again to start what the system refused; the answer is when to retry.
    pub(crate) fn rescue(self: &Arc<Self>) -> Option<Instant> {
        if self.is_foreign() {
            return None;
        }
        self.wake_deferred();
        (self.try_again() || self.is_due()).then(|| deadline_after(RETRY))?
    }

    pub(crate) fn outlook(&self) -> Outlook {
        if self.queue.has_work() {
            Outlook::Work
        } else if self.admission.places().held() > 0 {
            Outlook::Held
        } else {
            Outlook::Clear
        }
    }

    // ── leaving ─────────────────────────────────────────────────────────────────────────────

    /// Gives places back, with all that follows.
    pub(crate) fn leave(self: &Arc<Self>, places: u64) {
        if self.is_foreign() {
            return;
        }
        self.after(self.admission.leave(places));
    }

    // ── capacity ────────────────────────────────────────────────────────────────────────────

    pub(crate) fn capacity(&self) -> usize {
        self.capacity.load(Ordering::SeqCst)
    }

    pub(crate) fn tune(self: &Arc<Self>, capacity: usize) -> usize {
        if self.is_foreign() {
            return self.capacity.swap(capacity, Ordering::SeqCst);
        }
        let mut lifecycle = lock(&self.lifecycle);
        let old = self.capacity.swap(capacity, Ordering::SeqCst);
        if capacity > 0 {
            lifecycle.resume = capacity;
        }
        self.apply_capacity(&lifecycle);
        drop(lifecycle);
        self.shares.retune();
        old
    }

    fn apply_capacity(self: &Arc<Self>, lifecycle: &Lifecycle) {
        // A closed pool is not paused: its tasks are to end.
        let capacity = match self.capacity() {
            0 if lifecycle.closed => lifecycle.resume,
            capacity => capacity,
        };
        self.threads.set_capacity(capacity);
        self.admission.set_limit(self.config.limit(capacity));
        self.threads.retire_idle(|| self.outlook());
        self.resume(lifecycle);
    }

    /// Brings the workers to what the capacity, the places and the line ask for.
    fn resume(self: &Arc<Self>, lifecycle: &Lifecycle) {
        let places = self.admission.places();
        let wanted = places.held() > 0 || places.has_line();
        let ensured = if wanted { self.ensure_worker() } else { Ok(()) };
        let filled = if lifecycle.closed {
            Ok(())
        } else {
            self.threads.fill(self)
        };
        self.serve();
        self.wake_more_now();
        if ensured.and(filled).is_err() {
            // Whoever waits tries again.
            self.admission.nudge();
            self.threads.nudge();
            self.send_rescuer();
        }
    }

    // ── the end ─────────────────────────────────────────────────────────────────────────────

    /// Closes the pool; with `discard` also to the tasks, whose backlog is dropped: how many.
    pub(crate) fn close(self: &Arc<Self>, discard: bool) -> usize {
        if self.is_foreign() {
            self.admission.close_foreign();
            return 0;
        }
        let of_shares = self.shares.close(discard);
        let lifecycle = lock(&self.lifecycle);
        let of_pool = self.close_with(lifecycle, discard);
        // An opening may have come between; and a pause was lifted.
        self.shares.follow();
        of_shares + of_pool
    }

    /// Nobody owns the pool any more: closes it for good.
    pub(crate) fn abandon(self: &Arc<Self>) {
        if self.is_foreign() {
            return self.admission.close_foreign();
        }
        self.shares.close(false);
        let mut lifecycle = lock(&self.lifecycle);
        lifecycle.abandoned = true;
        self.close_with(lifecycle, false);
        self.shares.follow();
    }

    fn close_with(
        self: &Arc<Self>,
        mut lifecycle: MutexGuard<'_, Lifecycle>,
        discard: bool,
    ) -> usize {
        lifecycle.closed = true;
        self.threads.close(false);
        let left = self.admission.close(discard);
        if self.capacity() == 0 {
            self.capacity.store(lifecycle.resume, Ordering::SeqCst);
        }
        // A local queue's own tasks hold no place: the pool is not at rest before they are dropped.
        self.admission.hold();
        let mut backlog = Vec::new();
        if discard {
            self.threads.close(true);
            order_seqcst();
            // L6
            while self
                .queue
                .any(|worker| worker.reaching.load(Ordering::SeqCst))
            {
                yield_now();
            }
            backlog = self.take_backlog();
        }
        // Only now: a task that ends on it frees its worker, which must find nothing to run.
        self.stop_signal().stop();
        self.apply_capacity(&lifecycle);
        drop(lifecycle);
        self.after(left);
        let discarded = backlog.len();
        for (task, places) in backlog {
            self.discard(task, ());
            if places > 0 {
                self.leave(places);
            }
        }
        self.after(self.admission.unhold());
        discarded
    }

    /// L6: drops what showed up after the backlog was taken, with so many places each.
    pub(crate) fn discard_late(self: &Arc<Self>, take: impl Fn() -> Option<Task>, places: u64) {
        loop {
            let task = {
                let _reins = lock(&self.lifecycle);
                // A pool opened again keeps its tasks.
                self.threads.counts().is_discarding().then(&take).flatten()
            };
            let Some(mut task) = task else {
                return;
            };
            if !task.claim() {
                continue;
            }
            self.discard(task, ());
            if places > 0 {
                self.leave(places);
            }
        }
    }

    /// Takes all tasks that no worker has taken, each with how many places it holds; under the
    /// lifecycle lock, so that none of a pool opened again is among them.
    fn take_backlog(&self) -> Vec<(Task, u64)> {
        // The way that tasks go, so that none is missed.
        let mut backlog = Vec::new();
        let in_line = self.admission.take_accepted();
        backlog.extend(in_line.into_iter().map(|(task, ())| (task, 0)));
        backlog.extend(std::iter::from_fn(|| self.queue.take()).map(|task| (task, 1)));
        self.queue.visit(None, |_, stealers| -> Option<()> {
            let batched = std::iter::from_fn(|| insist(|| stealers.batch.steal()));
            backlog.extend(batched.map(|accepted| (accepted.task, 1)));
            let own = std::iter::from_fn(|| insist(|| stealers.own.steal()));
            backlog.extend(own.map(|task| (task, 0)));
            None
        });
        backlog.retain_mut(|(task, _)| task.claim());
        backlog
    }

    pub(crate) fn stop_signal(&self) -> Arc<Stop> {
        if self.is_foreign() {
            return Stop::new();
        }
        Arc::clone(&lock(&self.stop))
    }

    /// Closes the pool and joins its threads, until the deadline passes or `interrupt` is stopped.
    pub(crate) fn end(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        interrupt: Option<&StopToken>,
    ) -> Result<(), ReleaseTimeout> {
        self.close(false);
        if self.is_foreign() {
            // No thread of it is in this process.
            return Ok(());
        }
        // What a share accepted may not have come to the pool yet (its N4). Those that come later are closed.
        let shares = self.shares.all();
        let at_rest =
            || self.admission.places().at_rest() && shares.iter().all(|share| share.is_at_rest());
        let gives_up = || interrupt.is_some_and(StopToken::is_stopped);
        let _entered = interrupt.map(|stop| stop.signal().interrupts(self));
        let ended = !current::is_inside(self)
            && (self.threads).join(deadline, at_rest, gives_up, || self.rescue());
        if ended {
            return Ok(());
        }
        let stats = self.stats();
        Err(ReleaseTimeout {
            running: stats.running,
            queued: stats.queued,
            workers: self.workers(),
            leaving: stats.leaving,
        })
    }

    pub(crate) fn reopen(self: &Arc<Self>) {
        if self.is_foreign() {
            return;
        }
        let mut lifecycle = lock(&self.lifecycle);
        if !lifecycle.closed || lifecycle.abandoned {
            return;
        }
        lifecycle.closed = false;
        *lock(&self.stop) = Stop::new();
        self.threads.reopen();
        self.admission.reopen();
        self.apply_capacity(&lifecycle);
        drop(lifecycle);
        self.shares.follow();
    }

    pub(crate) fn wait_idle(self: &Arc<Self>, deadline: Option<Instant>) -> bool {
        if self.is_foreign() {
            return true;
        }
        let rested = (self.admission).wait_for_rest(deadline, || self.rescue());
        // A worker that reached for a task which another one had already is about to lower its
        // flag (L1): the gauges are at rest, too, when this returns.
        while rested && self.admission.places().at_rest() && self.running() > 0 {
            yield_now();
        }
        rested
    }

    // ── gauges: all 0 for a foreign pool, of which nothing is in this process ───────────────

    pub(crate) fn workers(&self) -> usize {
        if self.is_foreign() {
            return 0;
        }
        usize::try_from(self.threads.counts().live()).unwrap_or(usize::MAX)
    }

    pub(crate) fn running(&self) -> usize {
        if self.is_foreign() {
            return 0;
        }
        let calling = self.calling.load(Ordering::SeqCst);
        count(self.queue.busy()).saturating_add(calling)
    }

    pub(crate) fn idle(&self) -> usize {
        if self.is_foreign() {
            return 0;
        }
        let busy = self.queue.busy();
        count(self.threads.counts().live().saturating_sub(busy))
    }

    /// By the places, where they are the bound: `running` is left a moment before room is made.
    pub(crate) fn free(&self) -> usize {
        if self.is_foreign() {
            return 0;
        }
        let in_use = match self.config.backlog {
            Some(_) => self.admission.places().held(),
            None => self.unfinished(),
        };
        self.capacity().saturating_sub(count(in_use))
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
        let gone = || self.started() + self.counts.discarded.get() + self.counts.cancelled.get();
        count(difference(|| self.submitted(), gone))
    }

    fn submitted(&self) -> u64 {
        self.admission.accepted() + self.queue.sum(|counts| counts.submitted.get())
    }

    fn started(&self) -> u64 {
        self.counts.called.get() + self.queue.sum(|counts| counts.started.get())
    }

    fn finished(&self) -> u64 {
        let counts = &self.counts;
        let called = counts.call_completed.get() + counts.call_panicked.get();
        let dropped = counts.discarded.get() + counts.cancelled.get();
        let ran = |counts: &WorkerCounts| counts.completed.get() + counts.panicked.get();
        called + dropped + self.queue.sum(ran)
    }

    /// Tasks accepted and not over: never too few.
    fn unfinished(&self) -> u64 {
        difference(|| self.submitted(), || self.finished())
    }

    pub(crate) fn stats(&self) -> Stats {
        let counts = &self.counts;
        if self.is_foreign() {
            return Stats {
                rejected: counts.rejected.get(),
                ..Stats::default()
            };
        }
        let sum = |counter: fn(&WorkerCounts) -> u64| self.queue.sum(counter);
        let ThreadTotals { totals, leaving } = self.threads.totals();
        Stats {
            completed: counts.call_completed.get() + sum(|counts| counts.completed.get()),
            panicked: counts.call_panicked.get() + sum(|counts| counts.panicked.get()),
            cancelled: counts.cancelled.get(),
            discarded: counts.discarded.get(),
            rejected: counts.rejected.get(),
            running: self.running(),
            queued: self.queued(),
            leaving,
            workers_started: totals.started,
            workers_expired: totals.expired,
            workers_peak: count(totals.peak),
            wakes: totals.wakes,
            steals: sum(|counts| counts.steals.get()),
            hook_panics: counts.hook_panics.get(),
            submitted: self.submitted(),
        }
    }
}

impl Drop for Core {
    /// What is left belongs to users, and its drop must not end this thread, whichever it is.
    fn drop(&mut self) {
        if self.is_foreign() {
            // G3
            std::mem::forget(std::mem::replace(&mut self.queue, Queue::new()));
            std::mem::forget(std::mem::replace(&mut self.threads, Threads::new(0, 0)));
            let admission = Admission::new(None, 0, Processors::SINGLE);
            std::mem::forget(std::mem::replace(&mut self.admission, admission));
            return;
        }
        while let Some(task) = self.queue.take() {
            drop_quietly(task);
        }
        drop_quietly(std::mem::take(&mut self.config.hooks));
        drop_quietly(self.config.keeps.take());
    }
}

/// How many came and have not gone: never too few, since what has gone is read first. Whoever is held up
/// between the two looks counts all that came through meanwhile; so it is looked at again.
pub(crate) fn difference(came: impl Fn() -> u64, gone: impl Fn() -> u64) -> u64 {
    let mut before = gone();
    let mut least = u64::MAX;
    for _ in 0..DIFFERENCES {
        least = least.min(came().saturating_sub(before));
        let after = gone();
        if after == before {
            break;
        }
        before = after;
    }
    least
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
