//! The threads of a pool: how they are started, woken, retired and joined, and how many may be up.
//!
//! A worker is **live** from the start of its thread until it decides to leave, and **active** while it is live and
//! not on the idle stack. Nothing here touches a task.
//!
//! The word `counts`: `| capacity: 19 | live: 19 | active: 19 | STARTING | DEFERRED | STANDBY | UNSURE | CLOSED |
//! DISCARDING | WAKING |` (low bits on the right). It is written under the lock, except that an arriving worker
//! clears `WAKING` without it, and `DEFERRED` changes as [`wake::standby`](super::wake::standby) says; any thread
//! reads it.
//!
//! - C1: `live − active` workers are on the idle stack, but for those whose task lends its place: these are neither
//!   (LE1 in [`lend`]).
//! - C2: A worker is made active only while `active < capacity`, or if its task takes its place back (LE3). A worker that
//!   finds `active > capacity` takes no more tasks: it leaves, or goes on the idle stack if it stood in (LE6). So at most
//!   `capacity` tasks run.
//! - C3: At most one worker is on its way up (`WAKING`): it was woken or started and has not arrived. On arrival it
//!   clears the flag and looks whether another one is needed.
//! - C4: A thread is started under the lock, and what was counted for it is taken back under the lock where the
//!   system refuses it: nobody counts on a worker that never was. Meanwhile `STARTING` is set. If it is the first
//!   worker, `UNSURE` is set, too, and a thread that needs a live worker waits for the lock.
//! - C5: The last live worker but for those whose task lends its place does not leave while a place is held, unless the
//!   pool is paused: a thread that takes a place and then sees a live worker may rely on it.
//! - C6: Every thread is joined, and none waits for what a user's thread-locals of another one do as they are
//!   dropped. See below.
//!
//! The end of a thread:
//!
//! ```text
//!        go_idle, expire, retire_idle                        depart
//!  live ───────────────────────────► leaving ─────────────────────────► departed ───────────► joined
//!                                    calls its stop hook,               has nothing left      by the next thread
//!                                    gives up its local queue,          to do but to end      to depart, or by one
//!                                    drops its thread-locals                                  that waits for the release
//! ```
//!
//! A thread is *present* from its start until it departs; `present − live` threads are *leaving*: they run no task
//! any more and do not count as workers, but a stop hook or thread-locals of theirs are not over. A thread departs in
//! the drop of the first of its thread-locals made (in [`current`](super::current)), which is dropped last. It does
//! so in two steps under one lock: if a thread has departed before it, it joins that one and looks again; else it
//! takes that one's place. So at most one departed thread is in nobody's hands, however many come and go. While a
//! thread joins another it is still present: a thread that waits for the release waits for that join as well. How
//! many threads are leaving is bounded only by how long their thread-locals take to drop.

pub(crate) mod counts;
pub(crate) mod idle;
mod leave;
mod lend;
mod standby;

use crate::engine::bell::Ring;
use crate::engine::local::WorkerShared;
use crate::engine::threads::idle::IdleStack;
use crate::engine::threads::lend::Lending;
use crate::sync::{
    Arc, AtomicBool, AtomicU64, Condvar, JoinHandle, Mutex, Ordering, current, lock, try_lock,
};
pub(crate) use counts::ThreadCounts;
use counts::{
    ACTIVE, CAPACITY, CLOSED, DISCARDING, FIELD, LIVE, STANDBY, STARTING, UNSURE, WAKING,
};
use crossbeam_utils::CachePadded;
pub(crate) use lend::Return;
use std::collections::BTreeMap;
use std::io;

/// What is left for a worker that is about to leave, by the queue and the places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remaining {
    /// A task can be had.
    Work,
    /// No task can be had, but a place is held: a task may come.
    Held,
    Nothing,
}

/// What a worker without work does next.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Look for work again; it is active.
    Again,
    /// Sleep; it is on the idle stack.
    Sleep,
    /// The same, on standby.
    StandBy,
    /// End the thread; it is no longer live.
    Leave,
}

/// What an expiring worker does next.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    Again,
    /// Another thread claimed it: its bell will ring.
    Claimed,
    /// It is one of the minimum: sleep without a deadline.
    Stay,
    /// It is the last one and a task may come: sleep for another idle timeout.
    Renew,
    Leave,
}

/// What became of the threads so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) started: u64,
    pub(crate) expired: u64,
    pub(crate) peak: u64,
    pub(crate) wakes: u64,
}

/// What became of the threads so far, and how many are leaving now.
pub(crate) struct ThreadTotals {
    pub(crate) totals: Totals,
    pub(crate) leaving: usize,
}

#[derive(Default)]
struct Inner {
    idle: IdleStack<Arc<WorkerShared>>,
    /// The idle worker that is on standby.
    standby: Option<Arc<WorkerShared>>,
    /// C6: the threads that are present, by the ids of their workers.
    present: BTreeMap<u64, JoinHandle<()>>,
    /// C6: the thread that departed last, unless another one joins it.
    departed: Option<JoinHandle<()>>,
    /// So many more threads may be started without another look whether there are tasks for them.
    backed: u64,
    /// How many of the threads that wait for the release join a departed one.
    joining: usize,
    lending: Lending,
    counts: Totals,
}

impl Inner {
    fn is_on_standby(&self, worker: &Arc<WorkerShared>) -> bool {
        (self.standby.as_ref()).is_some_and(|on_standby| Arc::ptr_eq(on_standby, worker))
    }
}

/// Starts the thread of a worker, or returns the system's refusal.
pub(crate) trait SpawnWorker {
    fn spawn_worker(&self, id: u64, worker: Arc<WorkerShared>) -> io::Result<JoinHandle<()>>;
}

pub(crate) struct Threads {
    counts: CachePadded<AtomicU64>,
    inner: Mutex<Inner>,
    gone: Condvar,
    /// How many active workers call their start hooks.
    in_hooks: AtomicU64,
    /// LE1: how many tasks lend their places; written under the lock.
    lent: AtomicU64,
    /// The system refused the last thread that was started beside others.
    start_refused: AtomicBool,
    min_workers: usize,
}

impl Threads {
    pub(crate) fn new(capacity: usize, min_workers: usize) -> Threads {
        Threads {
            counts: CachePadded::new(AtomicU64::new(clamp(capacity) * CAPACITY)),
            inner: Mutex::new(Inner {
                lending: Lending::new(clamp(capacity)),
                ..Inner::default()
            }),
            gone: Condvar::new(),
            in_hooks: AtomicU64::new(0),
            lent: AtomicU64::new(0),
            start_refused: AtomicBool::new(false),
            min_workers,
        }
    }

    pub(crate) fn counts(&self) -> ThreadCounts {
        ThreadCounts(self.counts.load(Ordering::SeqCst))
    }

    /// The thread counts, without a worker whose thread the system may still refuse (C4).
    pub(crate) fn confirmed_counts(&self) -> ThreadCounts {
        let counts = self.counts();
        if !counts.is_starting() {
            return counts;
        }
        let _inner = lock(&self.inner);
        self.counts()
    }

    /// How many active workers look for work or have a task: all but those that call their start hooks.
    pub(crate) fn ready(&self, counts: ThreadCounts) -> u64 {
        (counts.active()).saturating_sub(self.in_hooks.load(Ordering::SeqCst))
    }

    /// Calls `hooks`, the start hooks of a worker.
    pub(crate) fn in_hooks(&self, hooks: impl FnOnce()) {
        self.in_hooks.fetch_add(1, Ordering::SeqCst);
        hooks();
        self.in_hooks.fetch_sub(1, Ordering::SeqCst);
    }

    fn add(&self, amount: u64) {
        self.counts.fetch_add(amount, Ordering::SeqCst);
    }

    fn sub(&self, amount: u64) {
        self.counts.fetch_sub(amount, Ordering::SeqCst);
    }

    /// C3: the worker that was on its way up has arrived.
    pub(crate) fn arrive(&self) {
        self.counts.fetch_and(!WAKING, Ordering::SeqCst);
    }

    /// Wakes the newest idle worker, or starts one, if one is `needed`. A start must also be backed by more unfinished
    /// tasks than there are active workers; `spare` returns by how many more. That looks at all local queues, and the
    /// time of a burst would grow with the square of its workers; so one look is good for as many starts as an eighth of
    /// the workers, until one of them finds nothing to do.
    pub(crate) fn activate(
        &self,
        spawner: &impl SpawnWorker,
        needed: impl Fn(ThreadCounts) -> bool,
        spare: impl Fn(ThreadCounts) -> u64,
    ) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        let counts = self.counts();
        if counts.active() < counts.capacity() && !counts.may_activate() {
            // One is on its way up, and looks when it arrives.
            return Ok(());
        }
        if !counts.may_activate() || !needed(counts) {
            inner.backed = 0;
            self.start_refused.store(false, Ordering::SeqCst);
            return Ok(());
        }
        if let Some(worker) = inner.idle.pop_newest() {
            self.end_standby(&mut inner, &worker);
            self.add(ACTIVE);
            self.counts.fetch_or(WAKING, Ordering::SeqCst);
            inner.counts.wakes += 1;
            inner.backed = 0;
            // I2
            drop(inner);
            worker.bell.ring(Ring::Work);
            return Ok(());
        }
        if counts.live() - self.lent() >= counts.capacity() || counts.live() == FIELD {
            self.start_refused.store(false, Ordering::SeqCst);
            return Ok(());
        }
        if inner.backed == 0 {
            inner.backed = spare(counts).min(1 + counts.live() / 8);
        }
        let started = if inner.backed > 0 {
            inner.backed -= 1;
            self.start(&mut inner, spawner)
        } else {
            Ok(())
        };
        self.start_refused.store(started.is_err(), Ordering::SeqCst);
        started
    }

    /// Whether the system refused a worker that was needed: a thread that can should try again.
    pub(crate) fn start_refused(&self) -> bool {
        self.start_refused.load(Ordering::SeqCst)
    }

    /// C4: starts a worker if none lives. `Ok` if one lives now, or the pool is paused.
    pub(crate) fn ensure_worker(&self, spawner: &impl SpawnWorker) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        let counts = self.counts();
        if counts.live() > 0 || counts.capacity() == 0 {
            return Ok(());
        }
        self.start(&mut inner, spawner)
    }

    /// Starts the workers that are missing to the minimum.
    pub(crate) fn fill(&self, spawner: &impl SpawnWorker) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        while self.counts().live() < self.minimum(self.counts()) {
            self.start(&mut inner, spawner)?;
        }
        Ok(())
    }

    fn minimum(&self, counts: ThreadCounts) -> u64 {
        clamp(self.min_workers).min(counts.capacity())
    }

    /// C4: starts a thread, under the lock.
    fn start(&self, inner: &mut Inner, spawner: &impl SpawnWorker) -> io::Result<()> {
        let unsure = if self.counts().live() == 0 { UNSURE } else { 0 };
        self.counts
            .fetch_or(WAKING | STARTING | unsure, Ordering::SeqCst);
        self.add(LIVE + ACTIVE);
        let id = inner.counts.started;
        let outcome = match spawner.spawn_worker(id, Arc::new(WorkerShared::new())) {
            Ok(thread) => {
                inner.present.insert(id, thread);
                inner.counts.started += 1;
                inner.counts.peak = inner.counts.peak.max(self.counts().live());
                Ok(())
            }
            Err(refusal) => {
                self.sub(LIVE + ACTIVE);
                self.counts.fetch_and(!WAKING, Ordering::SeqCst);
                Err(refusal)
            }
        };
        self.counts
            .fetch_and(!(UNSURE | STARTING), Ordering::SeqCst);
        outcome
    }

    /// Puts a worker to rest that found nothing to do, or may take no more tasks: on standby if it may and no other
    /// worker is, or it leaves.
    pub(crate) fn go_idle(
        &self,
        worker: &Arc<WorkerShared>,
        may_stand_by: bool,
        remaining: impl Fn() -> Remaining,
    ) -> Rest {
        let mut inner = lock(&self.inner);
        inner.backed = 0;
        let rest = self.deactivate(&mut inner, worker, may_stand_by, remaining);
        let returned = self.let_return(&mut inner);
        // I2
        drop(inner);
        returned.ring();
        rest
    }

    fn deactivate(
        &self,
        inner: &mut Inner,
        worker: &Arc<WorkerShared>,
        may_stand_by: bool,
        remaining: impl Fn() -> Remaining,
    ) -> Rest {
        let counts = self.counts();
        if !counts.permits() && counts.live() > counts.capacity() + inner.lending.spare(counts) {
            self.sub(LIVE + ACTIVE);
            return Rest::Leave;
        }
        if counts.permits() && counts.is_closed() {
            self.sub(LIVE + ACTIVE);
            match (remaining(), self.counts().live() - self.lent()) {
                (Remaining::Work, _) => {
                    self.add(LIVE + ACTIVE);
                    return Rest::Again;
                }
                // C5: it sleeps until the thread that holds the place queues a task or gives the place back.
                (Remaining::Held, 0) => self.add(LIVE + ACTIVE),
                _ => return Rest::Leave,
            }
        }
        worker.bell.silence(current);
        inner.idle.push(Arc::clone(worker));
        self.sub(ACTIVE);
        if may_stand_by && inner.standby.is_none() && !counts.is_closed() {
            inner.standby = Some(Arc::clone(worker));
            self.counts.fetch_or(STANDBY, Ordering::SeqCst);
            return Rest::StandBy;
        }
        Rest::Sleep
    }

    /// Makes a worker active again whose last look found work, if it is still on the stack and may run.
    pub(crate) fn undo_idle(&self, worker: &Arc<WorkerShared>) -> bool {
        let mut inner = lock(&self.inner);
        let counts = self.counts();
        let is_it = |idle: &Arc<WorkerShared>| Arc::ptr_eq(idle, worker);
        let up = counts.active() < counts.capacity() && inner.idle.remove(is_it);
        if up {
            self.end_standby(&mut inner, worker);
            self.add(ACTIVE);
        }
        up
    }

    pub(crate) fn set_capacity(&self, capacity: usize) {
        let mut inner = lock(&self.inner);
        let now = self.counts().capacity();
        // The difference, modulo the word: no other thread writes this field.
        self.add(clamp(capacity).wrapping_sub(now).wrapping_mul(CAPACITY));
        inner.lending.set_capacity(clamp(capacity), self.lent());
        let returned = self.let_return(&mut inner);
        // I2
        drop(inner);
        returned.ring();
    }

    /// Sets `CLOSED`; with `discard` also `DISCARDING`.
    pub(crate) fn close(&self, discard: bool) {
        let _inner = lock(&self.inner);
        let flags = if discard { CLOSED | DISCARDING } else { CLOSED };
        self.counts.fetch_or(flags, Ordering::SeqCst);
    }

    pub(crate) fn reopen(&self) {
        let _inner = lock(&self.inner);
        (self.counts).fetch_and(!(CLOSED | DISCARDING), Ordering::SeqCst);
        self.gone.notify_all();
    }

    /// G2 of [`fork`](crate::fork): no thread is present, none is left to be joined, and the lock is not held.
    pub(crate) fn is_untouched(&self) -> bool {
        let Some(inner) = try_lock(&self.inner) else {
            return false;
        };
        inner.present.is_empty()
            && inner.departed.is_none()
            && inner.joining == 0
            && self.counts().live() == 0
    }

    pub(crate) fn totals(&self) -> ThreadTotals {
        let inner = lock(&self.inner);
        let live = usize::try_from(self.counts().live()).unwrap_or(usize::MAX);
        ThreadTotals {
            totals: inner.counts,
            leaving: inner.present.len().saturating_sub(live),
        }
    }
}

fn clamp(capacity: usize) -> u64 {
    u64::try_from(capacity).map_or(FIELD, |capacity| capacity.min(FIELD))
}
