//! Wakes that are put off, where all threads share a single processor.
//!
//! There a wake gains nothing for as long as the thread that makes it goes on, and costs two context switches
//! if the system lets the woken thread go first. So while submitters wait for room, those who owe a wake
//! *defer* it until they wait themselves: a submitter that of a worker, and a worker that of a submitter which
//! it let in. A pool of capacity n then switches about twice for n tasks, not for each.
//!
//! Who deferred a wake may not wait here: a submitter may wait for something else, and a task may run long. So
//! wakes are deferred only while a worker is on *standby*: idle, on the idle stack, but asleep for no longer
//! than a [`TICK`](crate::sync::TICK) at a time.
//!
//! - Y1: A wake is deferred by setting `DEFERRED` in the roll where `STANDBY` is set. Both are of one word: the
//!   worker on standby sees it, or was seen to be gone.
//! - Y2: At each tick the worker on standby takes `DEFERRED`, wakes the submitters that were let in and looks for work.
//!   If there is some, of which no more than a [`FEW`] tasks were started since the last tick, it gets up, and
//!   from then on wakes are made as anywhere. Else it stays, as long as anything is deferred.
//! - Y3: Whoever takes it off the idle stack clears both flags. It then makes up for what was deferred itself, or
//!   is woken for work, and does so as it arrives.
//! - Y4: Whoever is about to wait for the pool (for room, a result, rest, its end), or is refused, wakes a worker if
//!   none is active. A worker that goes to rest wakes those whom it let in.
//! - Y5: If nobody did so by a tick, those who submit wait for something else: the pool trusts them less. With no
//!   trust left no worker stands by, for a number of occasions.

use super::crew::Roll;
use super::desk::Desk;
use super::{Core, current};
use crate::sync::{Arc, CounterU64, Ordering, fence};

/// So few tasks in a tick run long or block, and are worth another worker.
const FEW: u64 = 4;

/// What a worker on standby remembers from tick to tick.
pub(super) struct Duty {
    /// Tasks that had been started.
    started: u64,
}

impl Duty {
    pub(super) fn begin(core: &Core) -> Duty {
        Duty {
            started: core.started(),
        }
    }
}

/// What a worker on standby does next.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tick {
    /// It sleeps for another tick.
    Stay,
    /// It is active.
    Up,
    /// It is idle as any other.
    StandDown,
}

impl Core {
    /// Whether a worker that goes to rest may stand by: submitters wait for room, and a single processor runs
    /// them and the workers.
    pub(super) fn may_stand_by(&self) -> bool {
        self.plan.processors.is_single()
            && self.plan.backlog.is_some()
            && self.admission.lets_in()
            && self.trust.is_given()
    }

    /// Y1: `roll` was read behind a fence, after what the wake is for.
    pub(super) fn defers(&self, roll: Roll) -> bool {
        roll.has_standby() && self.crew.defer()
    }

    /// Y4: a worker wakes whom it lets in when it goes to rest.
    pub(super) fn may_defer_let_in(self: &Arc<Self>) -> bool {
        self.crew.roll().has_standby() && current::with_worker(self, |_| ()).is_some()
    }

    /// Y4: for whoever is about to wait.
    pub(crate) fn wake_deferred(self: &Arc<Self>) {
        let roll = self.crew.roll();
        if roll.has_standby() && roll.active() == 0 {
            self.wake_more_now();
        }
    }

    /// Y3: for a worker that gets up, which may have been on standby.
    pub(super) fn make_up(self: &Arc<Self>) {
        self.admission.wake_let_in();
        self.wake_more();
    }

    /// Y2: the worker on standby has slept for a tick.
    pub(super) fn tick(self: &Arc<Self>, desk: &Arc<Desk>, duty: &mut Duty) -> Tick {
        let deferred = self.crew.take_deferred();
        self.admission.wake_let_in();
        fence(Ordering::SeqCst);
        if self.queue.has_work() {
            let before = std::mem::replace(&mut duty.started, self.started());
            let made_up = self.crew.roll().active() > 0;
            self.trust.learn(made_up);
            if made_up && duty.started - before > FEW {
                // If it was claimed meanwhile, the bell will ring.
                let _ = self.crew.defer();
                return Tick::Stay;
            }
            if self.crew.unsettle(desk) {
                self.make_up();
                return Tick::Up;
            }
        } else if deferred {
            return Tick::Stay;
        }
        if self.crew.stand_down(desk) {
            self.admission.forget_line();
            Tick::StandDown
        } else {
            Tick::Stay
        }
    }
}

/// Y5: from 0, full trust, to `NONE`; above that it counts down the occasions to pass by.
pub(crate) struct Trust(CounterU64);

const NONE: u64 = 64;
const LOSS: u64 = 16;
const PASSED_BY: u64 = 64;

impl Trust {
    pub(super) fn new() -> Trust {
        Trust(CounterU64::new(0))
    }

    /// Asked at each occasion.
    fn is_given(&self) -> bool {
        // ORDERING: Relaxed, here and below: a guess.
        let doubt = self.0.load(Ordering::Relaxed);
        if doubt < NONE {
            return true;
        }
        self.0.store(doubt - 1, Ordering::Relaxed);
        false
    }

    /// Whether what was deferred had been made up for.
    fn learn(&self, made_up: bool) {
        let doubt = self.0.load(Ordering::Relaxed);
        self.0.store(after(doubt, made_up), Ordering::Relaxed);
    }
}

fn after(doubt: u64, made_up: bool) -> u64 {
    if made_up {
        return doubt.saturating_sub(1);
    }
    match doubt + LOSS {
        less if less < NONE => less,
        _ => NONE + PASSED_BY,
    }
}

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;

    #[test]
    fn trust_is_lost_after_a_few_times_and_regained_after_a_while() {
        let trust = Trust::new();
        for _ in 0..4 {
            assert!(trust.is_given());
            trust.learn(false);
        }
        let occasions = (1..1_000).find(|_| trust.is_given());
        assert_eq!(occasions, Some(PASSED_BY + 2));
        trust.learn(false);
        assert!(!trust.is_given(), "once more is enough then");
    }

    #[test]
    fn a_rare_loss_costs_no_trust() {
        let trust = Trust::new();
        for tick in 0..1_000 {
            trust.learn(tick % 20 > 0);
            assert!(trust.is_given());
        }
    }
}
