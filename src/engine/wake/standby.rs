//! Wakes that are deferred, where all threads share a single processor.
//!
//! There a wake gains nothing before the thread that makes it stops running, and costs two context switches if the
//! system lets the woken thread run first. So a thread that owes a wake *defers* it. A submitter defers the wake of a
//! second worker; while submitters wait for room also that of the first one, until it waits itself. A worker defers
//! the wake of a submitter that it let in, until it finds no more work. A pool of capacity n then switches about
//! twice for n tasks, not for each.
//!
//! A thread that deferred a wake may not wait for this pool next: a submitter may wait for something else, and a task
//! may run long. So wakes are deferred only while a worker is on *standby*: idle, on the idle stack, but asleep for
//! no longer than a [`TICK`] at a time, or two while all goes well.
//!
//! - Y1: A wake is deferred by setting `DEFERRED` in the thread counts while `STANDBY` is set. Both are in one word:
//!   the worker on standby sees `DEFERRED`, or the thread that defers sees that no worker is on standby.
//! - Y2: At each tick the worker on standby takes `DEFERRED`, wakes the submitters that were let in and looks for
//!   work. If there is work, and no more than [`FEW`] tasks were started since the last tick, the worker gets up, and
//!   from then on wakes are made as elsewhere. Else it stays on standby, as long as anything is deferred.
//! - Y3: The thread that takes the worker on standby off the idle stack clears both flags. If that is the worker
//!   itself, it makes the deferred wakes; else it is woken for work, and makes them as it arrives.
//! - Y4: A thread that is about to wait for the pool (for room, a result, rest, its end), or is refused, wakes a
//!   worker if none is active. A worker that goes to rest wakes the submitters that it let in.
//! - Y6: Where the system has other processors, too, the rules hold while the pool is [crowded](super::crowd) and has room
//!   for enough tasks that it pays: deferring the wake of a submitter from [`FEW_PLACES`] on, the rest from [`MANY_PLACES`] on.
//! - Y5: The wake of the first worker is deferred only while submitters wait for room. If no thread has made that
//!   wake by a tick, the submitters wait for something else: the pool trusts them less, and in the end defers no such
//!   wake for a number of occasions, which doubles.

use crate::engine::core::Core;
use crate::engine::local::WorkerShared;
use crate::engine::threads::ThreadCounts;
use crate::engine::{current, spin};
use crate::processors;
use crate::sync::{Arc, Ordering, TICK, fence};
use std::time::Duration;

/// If so few tasks start in a tick, the running ones run long or block: another worker is worth its while.
const FEW: u64 = 4;

/// Y6: from so many places on a worker defers the wake of the submitters that it let in, and wakes them when it finds no
/// task. With fewer a wake pays for two or three tasks, and the tick for none.
const FEW_PLACES: u64 = if cfg!(anthill_loom) { 2 } else { 4 };

/// Y6: from so many places on threads take turns, and do not spin. With fewer it is better to stay awake: the system moves
/// threads apart that spin on one processor, and leaves those there that sleep by turns.
const MANY_PLACES: u64 = if cfg!(anthill_loom) { 3 } else { 32 };

/// The longest tick, in multiples of [`TICK`].
const LONGEST: u32 = 2;

/// What a worker on standby remembers from tick to tick.
pub(crate) struct Standby {
    /// How many tasks had been started at the last tick.
    started: u64,
    tick: Duration,
}

impl Standby {
    pub(crate) fn begin(core: &Core) -> Standby {
        Standby {
            started: core.started(),
            tick: TICK,
        }
    }

    /// How long to sleep.
    pub(crate) fn tick(&self) -> Duration {
        self.tick
    }
}

/// What a worker on standby does next.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tick {
    /// Sleep for another tick.
    Stay,
    /// Look for work: the worker is active.
    Up,
    /// Sleep as any other idle worker.
    StandDown,
}

impl Core {
    /// Whether a worker that goes to rest may be on standby: a single processor runs all threads, and there may be
    /// wakes to defer, beside another active worker or while submitters wait for room.
    pub(crate) fn may_stand_by(&self) -> bool {
        (self.config.processors.is_single() || self.is_crowded(FEW_PLACES))
            && self.config.backlog.is_some()
            && (self.threads.counts().active() > 1 || self.admission.has_recent_line())
    }

    /// Y6: whether threads share a processor, by turns, and do not spin.
    #[inline]
    pub(crate) fn takes_turns(&self) -> bool {
        self.config.processors.is_single() || self.is_crowded(MANY_PLACES)
    }

    /// Y6: whether the pool is crowded and has room for so many tasks.
    fn is_crowded(&self, places: u64) -> bool {
        self.crowd.is_crowded() && self.admission.limit() >= places
    }

    /// Y6: a submitter found no room.
    pub(crate) fn see_submitter(&self) {
        self.crowd.see_submitter(processors::current());
    }

    /// Y6: a worker found no task.
    pub(crate) fn see_worker(&self) {
        if self.config.backlog.is_some() {
            self.crowd.see_worker(processors::current());
        }
    }

    /// Whether a worker that finds nothing yields a few times before it rests: a submitter may want its very
    /// processor, and only of submitters that wait for room does the worker know.
    pub(crate) fn yields_before_rest(&self) -> bool {
        if !self.takes_turns() {
            return self.config.backlog.is_none();
        }
        (self.config.backlog.is_none() || !self.admission.has_recent_line())
            && self.single.yielding.is_given()
    }

    /// Yields, once.
    pub(crate) fn yield_processor(&self) {
        if !self.takes_turns() {
            return spin::yield_once();
        }
        self.single.yielding.learn(spin::yield_cheaply());
    }

    /// Y1: defers a wake if it may; whether it did. `counts` was read behind a fence, after what the wake is for.
    pub(crate) fn try_defer(&self, counts: ThreadCounts) -> bool {
        counts.has_standby()
            && self.takes_turns()
            && (counts.active() > 0 || self.may_defer_first())
            && self.threads.defer()
    }

    /// Y5: whether the wake of the first worker may be deferred.
    fn may_defer_first(&self) -> bool {
        self.admission.has_recent_line() && self.single.first_wake.is_given()
    }

    /// Y4: whether this thread is a worker, which wakes the submitters that it lets in when it goes to rest.
    pub(crate) fn may_defer_let_in(self: &Arc<Self>) -> bool {
        self.threads.counts().has_standby()
            && (self.config.processors.is_single() || self.is_crowded(FEW_PLACES))
            && current::with_worker(self, |_| ()).is_some()
    }

    /// Y4: for a thread that is about to wait.
    pub(crate) fn wake_if_none_active(self: &Arc<Self>) {
        let counts = self.threads.counts();
        if counts.has_standby() && counts.active() == 0 {
            self.wake_more_now();
        }
    }

    /// Y3: for a worker that gets up, and may have been on standby.
    pub(crate) fn make_deferred_wakes(self: &Arc<Self>) {
        self.admission.wake_let_in();
        self.wake_more();
    }

    /// Y2: the worker on standby has slept for a tick.
    pub(crate) fn tick(
        self: &Arc<Self>,
        worker: &Arc<WorkerShared>,
        standby: &mut Standby,
    ) -> Tick {
        let deferred = self.threads.take_deferred();
        self.admission.wake_let_in();
        fence(Ordering::SeqCst);
        if self.queue.has_work() {
            let before = std::mem::replace(&mut standby.started, self.started());
            let made_up = self.threads.counts().active() > 0;
            self.single.first_wake.learn(made_up);
            if made_up && standby.started - before > FEW {
                // If another thread claimed the worker meanwhile, its bell will ring.
                let _ = self.threads.defer();
                standby.tick = (standby.tick * 2).min(TICK * LONGEST);
                return Tick::Stay;
            }
            if self.threads.undo_idle(worker) {
                self.make_deferred_wakes();
                return Tick::Up;
            }
        } else if deferred {
            standby.tick = (standby.tick * 2).min(TICK * LONGEST);
            return Tick::Stay;
        }
        if self.threads.stand_down(worker) {
            self.admission.forget_line();
            Tick::StandDown
        } else {
            Tick::Stay
        }
    }
}
