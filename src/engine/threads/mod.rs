//! The threads: start, wake, retire, join, and how many of them may be up.
//!
//! A worker is **live** from the start of its thread until it decides to leave, and **active**
//! while it is live and not on the idle stack. The threads never touches a task.
//!
//! The thread counts: `| capacity: 19 | live: 19 | active: 19 | STARTING | DEFERRED | STANDBY | UNSURE | CLOSED |
//! DISCARDING | WAKING |` (low bits on the right). It is written under the lock, except that an arriving worker clears
//! `WAKING` on its own, and `DEFERRED` is changed as [`standby`](super::standby) says; anybody reads it.
//!
//! - C1: `live − active` workers are on the idle stack.
//! - C2: A worker is made active only while `active < capacity`, and one that finds
//!   `active > capacity` leaves before it takes its next task. So at most `capacity` tasks run.
//! - C3: At most one worker is on its way up (`WAKING`): it was woken or started and has not
//!   arrived. On arrival it clears the flag and looks whether another one is needed.
//! - C4: A thread is started under the lock, and rolled back under it where the system refuses:
//!   nobody counts on a worker that never was. The thread counts says meanwhile that one is `STARTING`. While it is
//!   the first one it is also `UNSURE`, and whoever needs a live worker waits for the lock.
//! - C5: The last live worker does not leave while a place is held, unless the pool is paused:
//!   whoever takes a place and then sees a live worker may rely on it.
//! - C6: Every thread is joined, and none waits for what a user's thread-locals of another one do as
//!   they are dropped. See below.
//!
//! The end of a thread:
//!
//! ```text
//!       settle, expire, retire_idle                      depart
//!  live ───────────────────────────► leaving ─────────────────────────────► departed ──────────► joined
//!                                    calls its stop hook, gives up its local queue, has nothing left     by the next to
//!                                    drops its thread-locals                 to do but to end     depart, or by
//!                                                                                                 who waits
//! ```
//!
//! A thread is *present* from its start until it departs; `present − live` are *leaving*: they run no
//! task any more and do not count as workers, but a stop hook or thread-locals of theirs are not over.
//! A thread departs in the drop of the first of its thread-locals made (`current`), which is the last
//! one dropped, in two steps under one lock: it joins the thread that has departed before it, if there
//! is one, and looks again; else it takes that one's place. So at most one departed thread is in
//! nobody's hands, however many come and go; and while a thread joins another it is still present, so
//! who waits for the release waits for that join as well. What bounds the threads that are leaving is
//! how long their thread-locals take to drop.

pub(crate) mod counts;
pub(crate) mod idle;
mod leave;
mod standby;

use crate::engine::bell::Ring;
use crate::engine::local::WorkerShared;
use crate::engine::threads::idle::IdleStack;
use crate::sync::{
    Arc, AtomicBool, AtomicU64, Condvar, JoinHandle, Mutex, Ordering, current, lock, try_lock,
};
pub(crate) use counts::ThreadCounts;
use counts::{
    ACTIVE, CAPACITY, CLOSED, DISCARDING, FIELD, LIVE, STANDBY, STARTING, UNSURE, WAKING,
};
use crossbeam_utils::CachePadded;
use std::collections::BTreeMap;
use std::io;

/// What the queue and the places tell a worker that is about to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// A task can be had.
    Work,
    /// No task can be had, but somebody holds a place: one may come.
    Held,
    Clear,
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
    /// Somebody claimed it: the bell will ring.
    Claimed,
    /// It is one of the minimum: sleep without a deadline.
    Stay,
    /// A task may come: sleep for another idle timeout.
    Renew,
    Leave,
}

/// How the threads fared so far.
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
    /// Which of the idle workers is on standby.
    standby: Option<Arc<WorkerShared>>,
    /// C6: the threads that are present, by the numbers of their workers.
    present: BTreeMap<u64, JoinHandle<()>>,
    /// C6: the thread that departed last, unless somebody has it in hand.
    departed: Option<JoinHandle<()>>,
    /// So many starts are backed by tasks without another look.
    backed: u64,
    /// How many of those who wait for the release join a thread.
    joining: usize,
    counts: Totals,
}

impl Inner {
    fn is_on_standby(&self, worker: &Arc<WorkerShared>) -> bool {
        (self.standby.as_ref()).is_some_and(|on_standby| Arc::ptr_eq(on_standby, worker))
    }
}

/// Starts threads for the threads, or tells the system's refusal.
pub(crate) trait StartThread {
    fn start(&self, id: u64, worker: Arc<WorkerShared>) -> io::Result<JoinHandle<()>>;
}

pub(crate) struct Threads {
    counts: CachePadded<AtomicU64>,
    inner: Mutex<Inner>,
    gone: Condvar,
    /// Active workers that are in their start hook.
    in_hooks: AtomicU64,
    /// The last start of a thread beside others was refused.
    lacks_thread: AtomicBool,
    min_workers: usize,
}

impl Threads {
    pub(crate) fn new(capacity: usize, min_workers: usize) -> Threads {
        Threads {
            counts: CachePadded::new(AtomicU64::new(clamp(capacity) * CAPACITY)),
            inner: Mutex::new(Inner::default()),
            gone: Condvar::new(),
            in_hooks: AtomicU64::new(0),
            lacks_thread: AtomicBool::new(false),
            min_workers,
        }
    }

    pub(crate) fn counts(&self) -> ThreadCounts {
        ThreadCounts(self.counts.load(Ordering::SeqCst))
    }

    /// The thread counts, without a worker whose thread may still be refused (C4).
    pub(crate) fn settled_counts(&self) -> ThreadCounts {
        let counts = self.counts();
        if !counts.is_starting() {
            return counts;
        }
        let _inner = lock(&self.inner);
        self.counts()
    }

    /// How many active workers there are that no hook keeps from looking for work.
    pub(crate) fn ready(&self, counts: ThreadCounts) -> u64 {
        (counts.active()).saturating_sub(self.in_hooks.load(Ordering::SeqCst))
    }

    /// Calls the start hooks of a worker.
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

    /// C3: the worker that was on its way up is here.
    pub(crate) fn arrive(&self) {
        self.counts.fetch_and(!WAKING, Ordering::SeqCst);
    }

    /// Wakes the newest idle worker, or starts one, if one is `needed`; a start must also be backed by
    /// more unfinished tasks than there are active workers, and `spare` says by how many more. That takes a
    /// look at all local queues; so a look is good for as many starts as an eighth of the workers, until one of them
    /// finds nothing to do. Else a burst would take time for each pair of its workers.
    pub(crate) fn activate(
        &self,
        starter: &impl StartThread,
        needed: impl Fn(ThreadCounts) -> bool,
        spare: impl Fn(ThreadCounts) -> u64,
    ) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        let counts = self.counts();
        if counts.active() < counts.capacity() && !counts.may_activate() {
            // One is on its way up, and looks on arrival.
            return Ok(());
        }
        if !counts.may_activate() || !needed(counts) {
            inner.backed = 0;
            self.lacks_thread.store(false, Ordering::SeqCst);
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
        if counts.live() >= counts.capacity() {
            self.lacks_thread.store(false, Ordering::SeqCst);
            return Ok(());
        }
        if inner.backed == 0 {
            inner.backed = spare(counts).min(1 + counts.live() / 8);
        }
        let started = if inner.backed > 0 {
            inner.backed -= 1;
            self.start(&mut inner, starter)
        } else {
            Ok(())
        };
        self.lacks_thread.store(started.is_err(), Ordering::SeqCst);
        started
    }

    /// A worker was needed and refused, so whoever can should try again.
    pub(crate) fn lacks_thread(&self) -> bool {
        self.lacks_thread.load(Ordering::SeqCst)
    }

    /// C4: starts a worker if none lives. `Ok` says that one does, or that the pool is paused.
    pub(crate) fn ensure_worker(&self, starter: &impl StartThread) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        let counts = self.counts();
        if counts.live() > 0 || counts.capacity() == 0 {
            return Ok(());
        }
        self.start(&mut inner, starter)
    }

    /// Starts what is missing to the minimum.
    pub(crate) fn fill(&self, starter: &impl StartThread) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        while self.counts().live() < self.minimum(self.counts()) {
            self.start(&mut inner, starter)?;
        }
        Ok(())
    }

    fn minimum(&self, counts: ThreadCounts) -> u64 {
        clamp(self.min_workers).min(counts.capacity())
    }

    fn start(&self, inner: &mut Inner, starter: &impl StartThread) -> io::Result<()> {
        let unsure = if self.counts().live() == 0 { UNSURE } else { 0 };
        self.counts
            .fetch_or(WAKING | STARTING | unsure, Ordering::SeqCst);
        self.add(LIVE + ACTIVE);
        let id = inner.counts.started;
        let outcome = match starter.start(id, Arc::new(WorkerShared::new())) {
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

    /// A worker found nothing to do, or may do no more: it rests, on standby if it may and nobody else is, or
    /// leaves.
    pub(crate) fn settle(
        &self,
        worker: &Arc<WorkerShared>,
        may_stand_by: bool,
        outlook: impl Fn() -> Outlook,
    ) -> Rest {
        let mut inner = lock(&self.inner);
        inner.backed = 0;
        let counts = self.counts();
        if !counts.permits() && counts.live() > counts.capacity() {
            self.sub(LIVE + ACTIVE);
            return Rest::Leave;
        }
        if counts.permits() && counts.is_closed() {
            self.sub(LIVE + ACTIVE);
            match (outlook(), self.counts().live()) {
                (Outlook::Work, _) => {
                    self.add(LIVE + ACTIVE);
                    return Rest::Again;
                }
                // C5: it sleeps until whoever holds the place brings a task or gives it back.
                (Outlook::Held, 0) => self.add(LIVE + ACTIVE),
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

    /// The last look found work: takes the worker off the stack, if nobody has and it may run.
    pub(crate) fn unsettle(&self, worker: &Arc<WorkerShared>) -> bool {
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
        let _inner = lock(&self.inner);
        let now = self.counts().capacity();
        // The difference, modulo the word: nobody else writes this field.
        self.add(clamp(capacity).wrapping_sub(now).wrapping_mul(CAPACITY));
    }

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

    /// G2 of [`fork`](super::fork): no thread is there, nor one left to be joined, and nobody holds the lock.
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
