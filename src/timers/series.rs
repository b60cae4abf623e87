//! A timer that submits a task again and again: the state behind `submit_every`.
//!
//! ```text
//!            due                the task starts            it ends: the next tick in the future
//!  Waiting ───────► Queued ────────────────────► Running ───────────────────────────────────────► Waiting
//!     ▲  no room, or │ discarded
//!     └──────────────┘
//!                     each ──── cancel, or the pool is closed ────► Over
//! ```
//!
//! - SE1: The closure is in the state while no task runs it: so there is one run at a time. A task that finds another
//!   state than `Queued` runs nothing.
//! - SE2: The next tick is set when a run has ended, or was given up: the first multiple of the period since the start
//!   that is in the future. So ticks that passed meanwhile are skipped.
//! - SE3: Whoever makes it `Over` drops the closure, outside of the lock; if it is running then, the run does when it
//!   ends.
//! - SE4: A pin (TS5 of [`service`](super::service)) keeps the timers' thread from the start to `Over`: a next tick is
//!   never refused.

use super::link::{Handed, Link, RETRY, hand_in, refuse, refuse_thread};
use super::service::{Key, NEVER, Service};
use crate::engine::core::Core;
use crate::engine::task::Body;
use crate::engine::timers::PoolTimer;
use crate::error::{SubmitError, SubmitErrorKind};
use crate::panic::drop_quietly;
use crate::sync::{Arc, Mutex, lock};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::{Wake, Waker};
use std::time::Duration;

pub(super) struct Series<F> {
    link: Link,
    /// When it was started, since tick 0.
    start: Duration,
    period: Duration,
    /// SE4: whether it has a pin. One that never comes needs no thread.
    is_pinned: bool,
    state: Mutex<State<F>>,
}

enum State<F> {
    /// Without a key it will never be due, or is about to be set.
    Waiting(F, Option<Key>),
    Queued(F),
    Running,
    Over,
}

/// The task of one tick.
struct Tick<F: FnMut() + Send + 'static>(Option<Arc<Series<F>>>);

impl<F: FnMut() + Send + 'static> Series<F> {
    pub(super) fn start(
        service: &'static Service,
        pool: &Arc<Core>,
        period: Duration,
        f: F,
    ) -> Result<Arc<Series<F>>, SubmitError<F>> {
        let start = service.time();
        let is_pinned = next_tick(start, period, start) < NEVER;
        if is_pinned {
            if let Err(refusal) = service.pin() {
                return Err(refuse_thread(pool, refusal, f));
            }
        }
        let series = Arc::new(Series {
            link: Link::new(service, pool),
            start,
            period,
            is_pinned,
            state: Mutex::new(State::Waiting(f, None)),
        });
        if pool.timers.add(Arc::clone(&series) as _) {
            series.set_next();
        } else if let State::Waiting(f, _) = series.make_over() {
            return Err(refuse(pool, SubmitErrorKind::Closed, f));
        }
        Ok(series)
    }

    /// SE2
    fn set_next(self: &Arc<Self>) {
        self.set(next_tick(self.start, self.period, self.link.service.time()));
    }

    /// Has it fired at the tick `deadline`, if it waits.
    fn set(self: &Arc<Self>, deadline: u64) {
        if deadline >= NEVER {
            return;
        }
        let mut state = lock(&self.state);
        if let State::Waiting(_, key) = &mut *state {
            let waker = Waker::from(Arc::clone(self));
            // SE4
            *key = self.link.service.set(deadline, waker).ok();
        }
    }

    /// SE3: ends the timer; returns the state before.
    fn make_over(&self) -> State<F> {
        let before = mem::replace(&mut *lock(&self.state), State::Over);
        if self.is_pinned && !matches!(before, State::Over) {
            self.link.service.unpin();
        }
        before
    }

    fn fire(self: &Arc<Self>, pool: &Arc<Core>) {
        {
            let mut state = lock(&self.state);
            *state = match mem::replace(&mut *state, State::Over) {
                State::Waiting(f, _) => State::Queued(f),
                other => {
                    *state = other;
                    return;
                }
            };
        }
        match hand_in(pool, Tick(Some(Arc::clone(self)))) {
            Handed::Over => {}
            Handed::Refused(tick) => drop(tick),
            // TM4
            Handed::Later(mut tick) => {
                tick.0 = None;
                if self.give_up_run() {
                    self.set(self.link.service.tick_after(RETRY));
                }
            }
        }
    }

    /// `Queued` becomes `Waiting` again.
    fn give_up_run(&self) -> bool {
        let mut state = lock(&self.state);
        let (next, given_up) = match mem::replace(&mut *state, State::Over) {
            State::Queued(f) => (State::Waiting(f, None), true),
            other => (other, false),
        };
        *state = next;
        given_up
    }

    fn run(self: &Arc<Self>) {
        let mut f = {
            let mut state = lock(&self.state);
            match mem::replace(&mut *state, State::Running) {
                State::Queued(f) => f,
                other => {
                    *state = other;
                    return;
                }
            }
        };
        let outcome = catch_unwind(AssertUnwindSafe(&mut f));
        let left = self.end_run(f);
        match outcome {
            Ok(()) => drop(left),
            Err(payload) => {
                drop_quietly(left);
                resume_unwind(payload);
            }
        }
    }

    /// Puts the closure back, and sets the next tick; SE3: returns the closure if the timer is over.
    fn end_run(self: &Arc<Self>, f: F) -> Option<F> {
        if self.link.is_foreign() {
            // G1 of `fork`: this is the child of a fork that the closure made.
            mem::forget(f);
            return None;
        }
        {
            let mut state = lock(&self.state);
            if !matches!(*state, State::Running) {
                return Some(f);
            }
            *state = State::Waiting(f, None);
        }
        self.set_next();
        None
    }
}

/// SE2: the tick of the first multiple of `period` since `start` that lies after `now`.
fn next_tick(start: Duration, period: Duration, now: Duration) -> u64 {
    let period = period.as_nanos().max(1);
    let passed = now.saturating_sub(start).as_nanos() / period;
    Service::tick_of(start.as_nanos() + (passed + 1) * period)
}

impl<F: FnMut() + Send + 'static> Body for Tick<F> {
    fn call(mut self) {
        if let Some(series) = self.0.take() {
            series.run();
        }
    }
}

impl<F: FnMut() + Send + 'static> Drop for Tick<F> {
    /// It was refused or discarded: that run is given up, and the series goes on.
    fn drop(&mut self) {
        if let Some(series) = self.0.take() {
            if !series.link.is_foreign() && series.give_up_run() {
                series.set_next();
            }
        }
    }
}

impl<F: FnMut() + Send + 'static> Wake for Series<F> {
    fn wake(self: Arc<Self>) {
        self.link.with_open_pool(|pool| self.fire(pool));
    }
}

impl<F: FnMut() + Send + 'static> PoolTimer for Series<F> {
    fn cancel(&self) -> bool {
        if self.link.is_foreign() {
            return false;
        }
        let (closure, key) = match self.make_over() {
            State::Over => return false,
            State::Running => (None, None),
            State::Queued(f) => (Some(f), None),
            State::Waiting(f, key) => (Some(f), key),
        };
        let waker = key.and_then(|key| self.link.service.remove(key));
        self.link.forget(&raw const *self);
        drop(waker);
        drop_quietly(closure);
        true
    }
}

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;

    /// SE2
    #[test]
    fn ticks_that_passed_are_skipped() {
        let millis = Duration::from_millis;
        let next = |now| next_tick(millis(3), millis(10), millis(now));
        assert_eq!([3, 12, 13, 14, 57].map(next), [13, 13, 23, 23, 63]);
        // A tick is never early (TS4).
        assert_eq!(
            next_tick(Duration::from_nanos(1), millis(10), Duration::ZERO),
            11
        );
        assert_eq!(next_tick(millis(3), Duration::MAX, millis(4)), NEVER);
        assert_eq!(next_tick(millis(3), Duration::ZERO, millis(4)), 5);
    }
}
