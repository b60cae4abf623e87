//! Wakes that are put off, where all threads share a single processor.
//!
//! There a wake gains nothing for as long as the thread that makes it goes on, and costs two context switches
//! if the system lets the woken thread go first. So those who owe a wake *defer* it: a submitter that of a second
//! worker; while submitters wait for room, also that of the first one, until the submitter waits itself; and a worker
//! that of a submitter which it let in, until it finds no more work. A pool of capacity n then switches about twice for
//! n tasks, not for each.
//!
//! Who deferred a wake may not wait here: a submitter may wait for something else, and a task may run long. So
//! wakes are deferred only while a worker is on *standby*: idle, on the idle stack, but asleep for no longer
//! than a [`TICK`] at a time, or two while all goes well.
//!
//! - Y1: A wake is deferred by setting `DEFERRED` in the thread counts where `STANDBY` is set. Both are of one word: the
//!   worker on standby sees it, or was seen to be gone.
//! - Y2: At each tick the worker on standby takes `DEFERRED`, wakes the submitters that were let in and looks for work.
//!   If there is some, of which no more than a [`FEW`] tasks were started since the last tick, it gets up, and
//!   from then on wakes are made as anywhere. Else it stays, as long as anything is deferred.
//! - Y3: Whoever takes it off the idle stack clears both flags. It then makes up for what was deferred itself, or
//!   is woken for work, and does so as it arrives.
//! - Y4: Whoever is about to wait for the pool (for room, a result, rest, its end), or is refused, wakes a worker if
//!   none is active. A worker that goes to rest wakes those whom it let in.
//! - Y5: The wake of the first worker is deferred only where submitters wait for room. If nobody has made up for it by
//!   a tick, those who submit wait for something else: the pool trusts them less, and in the end defers no such wake
//!   for a number of occasions, which doubles.

use crate::engine::core::Core;
use crate::engine::local::WorkerShared;
use crate::engine::threads::ThreadCounts;
use crate::engine::{current, spin};
use crate::sync::{Arc, Ordering, TICK, fence, yield_now};
use std::time::Duration;

/// So few tasks in a tick run long or block, and are worth another worker.
const FEW: u64 = 4;

/// The longest tick, in first ones.
const LONGEST: u32 = 2;

/// What a worker on standby remembers from tick to tick.
pub(crate) struct Duty {
    /// Tasks that had been started.
    started: u64,
    tick: Duration,
}

impl Duty {
    pub(crate) fn begin(core: &Core) -> Duty {
        Duty {
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
    /// It sleeps for another tick.
    Stay,
    /// It is active.
    Up,
    /// It is idle as any other.
    StandDown,
}

impl Core {
    /// Whether a worker that goes to rest may stand by: a single processor runs all threads, and there may be
    /// wakes to defer beside another active worker, or while submitters wait for room.
    pub(crate) fn may_stand_by(&self) -> bool {
        self.config.processors.is_single()
            && self.config.backlog.is_some()
            && (self.threads.counts().active() > 1 || self.admission.lets_in())
    }

    /// Whether a worker that finds nothing gives its processor away a few times before it rests: it may be the very one
    /// that a submitter wants which it does not know of. (Who waits for room is told.)
    pub(crate) fn gives_way(&self) -> bool {
        if !self.config.processors.is_single() {
            return self.config.backlog.is_none();
        }
        (self.config.backlog.is_none() || !self.admission.lets_in())
            && self.single.gives_way.is_given()
    }

    /// Gives the processor away, once.
    pub(crate) fn give_way(&self) {
        if !self.config.processors.is_single() {
            return yield_now();
        }
        self.single.gives_way.learn(spin::yield_cheaply());
    }

    /// Y1: `counts` was read behind a fence, after what the wake is for.
    pub(crate) fn defers(&self, counts: ThreadCounts) -> bool {
        counts.has_standby() && (counts.active() > 0 || self.defers_first()) && self.threads.defer()
    }

    /// Y5
    fn defers_first(&self) -> bool {
        self.admission.lets_in() && self.single.makes_up.is_given()
    }

    /// Y4: a worker wakes whom it lets in when it goes to rest.
    pub(crate) fn may_defer_let_in(self: &Arc<Self>) -> bool {
        self.threads.counts().has_standby() && current::with_worker(self, |_| ()).is_some()
    }

    /// Y4: for whoever is about to wait.
    pub(crate) fn wake_deferred(self: &Arc<Self>) {
        let counts = self.threads.counts();
        if counts.has_standby() && counts.active() == 0 {
            self.wake_more_now();
        }
    }

    /// Y3: for a worker that gets up, which may have been on standby.
    pub(crate) fn make_up(self: &Arc<Self>) {
        self.admission.wake_let_in();
        self.wake_more();
    }

    /// Y2: the worker on standby has slept for a tick.
    pub(crate) fn tick(self: &Arc<Self>, worker: &Arc<WorkerShared>, duty: &mut Duty) -> Tick {
        let deferred = self.threads.take_deferred();
        self.admission.wake_let_in();
        fence(Ordering::SeqCst);
        if self.queue.has_work() {
            let before = std::mem::replace(&mut duty.started, self.started());
            let made_up = self.threads.counts().active() > 0;
            self.single.makes_up.learn(made_up);
            if made_up && duty.started - before > FEW {
                // If it was claimed meanwhile, the bell will ring.
                let _ = self.threads.defer();
                duty.tick = (duty.tick * 2).min(TICK * LONGEST);
                return Tick::Stay;
            }
            if self.threads.unsettle(worker) {
                self.make_up();
                return Tick::Up;
            }
        } else if deferred {
            duty.tick = (duty.tick * 2).min(TICK * LONGEST);
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
