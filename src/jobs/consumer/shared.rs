//! What a consumer's runners and its steward share: what is in hand, and when to look for more.
//!
//! - U1: `hands` has each lease that was claimed and is not settled; only what is in it is kept alive by
//!   heartbeats. A claimed job is in `buffer`, at a runner, or its end is in `outbox`.
//! - U2: `may_claim` is set before each look is called for, and cleared before each look: what comes during a
//!   look leads to another one.
//! - U3: `runners` counts the tasks in the pool, `started` those that have a worker. Each looks before it ends, and
//!   tells the steward when it has; so where there is something to claim a runner is on its way, or the steward
//!   knows when to start one.
//! - U4: No call to the broker, the pool or a user is made under the lock.

use super::Told;
use super::handlers::{Handler, Handlers};
use super::runner::{Runner, Taken, Work};
use super::sizing::Sizing;
use super::state::{Hand, LEAST_PAUSE, MOST_BATCHED, OUTBOX_TIME, State, Waiting};
use crate::engine::current;
use crate::error::SubmitErrorKind;
use crate::jobs::broker::{Broker, Claims, Lease, Settle};
use crate::jobs::error::QueueError;
use crate::panic::drop_quietly;
use crate::pool::PoolHandle;
use crate::pools::limit::Limited;
use crate::results::stop::Stop;
use crate::sync::Instant;
use crate::sync::{Arc, AtomicBool, Condvar, Mutex, MutexGuard, Ordering, lock};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Longer than any process lives, and a clock can tell.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);

pub(super) struct Shared {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) handlers: Handlers,
    pub(super) told: Told,
    pool: PoolHandle,
    share: Limited,
    state: Mutex<State>,
    /// Called by what may change when the steward is to wake.
    pub(super) steward: Condvar,
    /// Those who wait for the end, or for nothing to do.
    pub(super) waiters: Condvar,
    pub(super) schedules_changed: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        broker: Arc<dyn Broker>,
        handlers: Handlers,
        told: Told,
        pool: &PoolHandle,
        sizing: Sizing,
    ) -> Shared {
        let state = State::new(sizing, handlers.have_limits());
        Shared {
            broker,
            handlers,
            told,
            pool: pool.clone(),
            share: pool.limit(usize::MAX),
            state: Mutex::new(state),
            steward: Condvar::new(),
            waiters: Condvar::new(),
            schedules_changed: AtomicBool::new(false),
        }
    }

    /// Somebody set a schedule, or took one away.
    pub(super) fn look_at_schedules(&self) {
        self.schedules_changed.store(true, Ordering::SeqCst);
        // Under the lock: the steward looks before it sleeps, or is asleep.
        drop(self.lock());
        self.steward.notify_one();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    // ── runners ─────────────────────────────────────────────────────────────────────────────

    /// U2: there may be something to claim.
    pub(super) fn look(self: &Arc<Self>) {
        {
            let mut state = self.lock();
            state.may_claim = true;
            state.is_news = true;
            self.plan(&mut state, Instant::now());
        }
        self.staff();
    }

    /// Wakes the steward if it would sleep past what is to be done now.
    pub(super) fn plan(&self, state: &mut State, now: Instant) {
        // Soon enough, and it looks at everything then; so is it awake.
        if state.planned.is_some_and(|at| at <= now + OUTBOX_TIME) {
            return;
        }
        let Some(next) = state.next_event(now) else {
            return;
        };
        if state.planned.is_none_or(|planned| next < planned) {
            state.planned = Some(next);
            self.steward.notify_one();
        }
    }

    /// Starts one more runner, if it would have work.
    pub(super) fn staff(self: &Arc<Self>) {
        let now = Instant::now();
        {
            let mut state = self.lock();
            if !state.wants_runner(now) {
                return;
            }
            state.runners += 1;
            self.plan(&mut state, Instant::now());
        }
        self.submit_runner(Runner(Arc::clone(self)));
    }

    pub(super) fn submit_runner(&self, runner: Runner) {
        let Err(refused) = self.share.try_submit(move || runner.work()) else {
            return;
        };
        let pause = match refused.kind() {
            // It may be opened again.
            SubmitErrorKind::Closed => Duration::from_secs(1),
            _ => LEAST_PAUSE,
        };
        self.lock().not_before = Instant::now().checked_add(pause);
        // The runner that comes back counts itself out, and sees to the plan.
        drop(refused);
    }

    /// Takes in how the last one ended; what to run next, or `None` to end.
    pub(super) fn next(self: &Arc<Self>, ended: Option<Work>) -> Option<Taken> {
        let mut now = ended.as_ref().map_or_else(Instant::now, |ended| ended.at);
        let mut ended = ended;
        loop {
            let most = {
                let mut state = self.lock();
                let is_due = ended
                    .take()
                    .is_some_and(|ended| self.take_in(&mut state, ended));
                if is_due {
                    drop(state);
                    self.flush();
                    now = Instant::now();
                    continue;
                }
                let is_one_too_many =
                    state.runners > state.sizing.wanted() && state.buffer.is_empty();
                if state.stopping || self.pool.is_closed() || is_one_too_many {
                    return None;
                }
                if state.is_held_up(now) {
                    drop(state);
                    self.hand_back();
                    return None;
                }
                if let Some(taken) = self.take(&mut state, now) {
                    return Some(taken);
                }
                state.batch(self.handlers.most_at_once())
            };
            self.flush();
            {
                let mut state = self.lock();
                if !state.is_claimable(Instant::now()) {
                    return None;
                }
                state.may_claim = false;
            }
            let claimed = guarded(|| self.broker.claim(most, self.told.lease));
            now = Instant::now();
            if !self.note(claimed, most, now) {
                return None;
            }
        }
    }

    /// From the buffer: a job, or several that are handled together.
    fn take(&self, state: &mut State, now: Instant) -> Option<Taken> {
        let first = state.buffer.pop_front()?;
        let kind = self.handlers.find(&first.job.kind);
        let mut waiting = vec![first];
        if let Some(Handler::All { most, .. }) = kind.map(|kind| &kind.handler) {
            let mut others = VecDeque::new();
            while let Some(next) = state.buffer.pop_front() {
                if next.job.kind == waiting[0].job.kind && waiting.len() < *most {
                    waiting.push(next);
                } else {
                    others.push_back(next);
                }
            }
            state.buffer = others;
        }
        if let Some(run_time) = kind.and_then(|kind| kind.run_time) {
            let until = now.checked_add(run_time);
            for Waiting { job, .. } in &waiting {
                if let Some(hand) = state.hands.get_mut(&job.lease) {
                    hand.until = until;
                }
            }
        }
        state.moved_at = now;
        self.plan(state, now);
        let has_slots = state.runners < state.sizing.wanted();
        Some(Taken {
            waiting,
            leaves_more: has_slots && (state.may_claim || !state.buffer.is_empty()),
        })
    }

    /// Takes in what was claimed; whether it is worth to go on.
    fn note(
        self: &Arc<Self>,
        claimed: Result<Claims, QueueError>,
        most: usize,
        now: Instant,
    ) -> bool {
        let mut state = self.lock();
        let claims = match claimed {
            Ok(claims) => claims,
            Err(error) => {
                state.fail(now);
                self.plan(&mut state, now);
                drop(state);
                self.tell(&error);
                return false;
            }
        };
        state.failures = 0;
        state.again_at = claims.again_in.and_then(|time| now.checked_add(time));
        let Some(waited) = claims.jobs.iter().map(|job| job.waited).max() else {
            state.sizing.saw_nothing(now);
            let again = state.may_claim;
            self.plan(&mut state, now);
            if state.is_news {
                // Time may have been moved.
                self.steward.notify_one();
            }
            return again;
        };
        state.may_claim |= claims.jobs.len() == most;
        let runners = state.runners;
        state.sizing.saw_work(now, waited, runners);
        state.stats.claimed += claims.jobs.len() as u64;
        let first = state.hands.is_empty();
        for job in claims.jobs {
            let stop = Stop::new();
            let hand = Hand {
                stop: Arc::clone(&stop),
                kept_until: now.checked_add(self.told.lease),
                until: None,
                given_up: false,
            };
            state.hands.insert(job.lease, hand);
            state.buffer.push_back(Waiting { job, stop });
        }
        state.moved_at = now;
        self.plan(&mut state, now);
        if first {
            // Heartbeats are due from now on.
            self.steward.notify_one();
        }
        true
    }

    /// Whether the broker is to be told now.
    pub(super) fn take_in(&self, state: &mut State, ended: Work) -> bool {
        let now = ended.at;
        #[expect(clippy::cast_precision_loss, reason = "they are few")]
        let jobs = ended.ends.len().max(1) as f64;
        state.note_run_time(ended.took.as_secs_f64() / jobs);
        for (claimed, end) in ended.claimed.iter().zip(ended.ends) {
            self.count(state, &end, now);
            state.outbox.push((claimed.lease, end));
        }
        let since = *state.outbox_since.get_or_insert(now);
        self.plan(state, now);
        state.buffer.is_empty()
            || !state.is_quick()
            || state.outbox.len() >= MOST_BATCHED
            || now.saturating_duration_since(since) >= OUTBOX_TIME
    }

    fn count(&self, state: &mut State, end: &Settle, now: Instant) {
        match end {
            Settle::Done { .. } => {
                state.stats.done += 1;
                state.errors_in_row = 0;
                return;
            }
            Settle::Retry { .. } => state.stats.retried += 1,
            Settle::Dead { .. } => state.stats.died += 1,
            Settle::Release => return,
        }
        state.errors_in_row += 1;
        if let Some((most, pause)) = self.told.pause_after {
            if state.errors_in_row >= most {
                state.errors_in_row = 0;
                state.paused_until = now.checked_add(pause.min(FOR_EVER));
                state.stats.pauses += 1;
            }
        }
    }

    // ── ends ────────────────────────────────────────────────────────────────────────────────

    /// Tells the broker of the ends that wait for it.
    pub(super) fn flush(&self) {
        let ends = {
            let mut state = self.lock();
            state.outbox_since = None;
            std::mem::take(&mut state.outbox)
        };
        self.settle(ends);
    }

    pub(super) fn settle(&self, ends: Vec<(Lease, Settle)>) {
        if ends.is_empty() {
            return;
        }
        let settled = guarded(|| self.broker.settle(&ends));
        let mut state = self.lock();
        match settled {
            Ok(settled) => {
                for ((lease, _), was_ours) in ends.iter().zip(settled) {
                    state.hands.remove(lease);
                    state.stats.lost += u64::from(!was_ours);
                }
                self.tell_waiters(&state);
            }
            // They stay ours, as long as heartbeats keep them so, and are told again.
            Err(error) => {
                state.outbox.extend(ends);
                state.outbox_since = Some(Instant::now());
                state.fail(Instant::now());
                self.plan(&mut state, Instant::now());
                drop(state);
                self.tell(&error);
            }
        }
    }

    /// Something came to an end: who waits for that, or sees to it, looks again.
    pub(super) fn tell_waiters(&self, state: &State) {
        if state.waiting > 0 && state.hands.is_empty() {
            self.waiters.notify_all();
        }
        if state.stopping {
            self.steward.notify_one();
        }
    }

    /// While stopping: gives up ends that cannot be told, of jobs that are another's by now.
    pub(super) fn drop_what_is_lost(&self, now: Instant) {
        let mut state = self.lock();
        let State { outbox, hands, .. } = &mut *state;
        let before = outbox.len();
        outbox.retain(|(lease, _)| {
            let kept_until = hands.get(lease).map(|hand| hand.kept_until);
            let is_lost = kept_until.is_none_or(|until| until.is_some_and(|until| until <= now));
            if is_lost {
                hands.remove(lease);
            }
            !is_lost
        });
        let lost = before - outbox.len();
        state.stats.lost += lost as u64;
        self.tell_waiters(&state);
    }

    /// Hands back what was not started.
    pub(super) fn hand_back(&self) {
        let ends: Vec<(Lease, Settle)> = {
            let mut state = self.lock();
            let buffer = std::mem::take(&mut state.buffer);
            state.stats.released += buffer.len() as u64;
            buffer
                .into_iter()
                .map(|waiting| (waiting.job.lease, Settle::Release))
                .collect()
        };
        self.settle(ends);
    }

    /// Whether this thread runs a task of the pool.
    pub(super) fn is_inside(&self) -> bool {
        current::is_inside(self.pool.core())
    }

    pub(super) fn is_pool_closed(&self) -> bool {
        self.pool.is_closed()
    }

    /// Others wait for a worker of the pool.
    pub(super) fn is_pool_wanted(&self) -> bool {
        self.pool.waiting() > 0 || self.pool.queued() > 0
    }

    pub(super) fn tell(&self, error: &QueueError) {
        if let Some(on_error) = &self.told.on_error {
            // A user's code: it must end neither a runner nor the steward.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| on_error(error))) {
                drop_quietly(payload);
            }
        }
    }
}

/// A broker may be a user's, too: if it panics it has failed.
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T, QueueError>) -> Result<T, QueueError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        drop_quietly(payload);
        Err(QueueError::Broker("it panicked".into()))
    })
}
