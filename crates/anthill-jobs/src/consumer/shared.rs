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
//! - U5: A fragile job (B9) is looked for by a runner that has the *turn*, which one has at a time, until it begins the
//!   job: until the hooks before its handler have run. It begins it when the ends of all other fragile ones are stored. So
//!   whenever one begins, and may end the process, each other fragile job that was claimed here has begun, or its end is
//!   stored: none loses its attempt, or its life, for nothing.

use super::Told;
use super::context::{Context, Signal};
use super::handlers::{Handler, Handlers};
use super::report::Reports;
use super::runner::{Runner, Taken, Work};
use super::sizing::Sizing;
use super::sources::{Found, Sources};
use super::state::{Hand, LEAST_PAUSE, MOST_BATCHED, OUTBOX_TIME, State, Waiting};
use crate::broker::{ClaimRequest, Settle};
use crate::error::QueueError;
use crate::panics::drop_quietly;
use crate::sync::{lock, wait_until};
use anthill::Limited;
use anthill::PoolHandle;
use anthill::SubmitErrorKind;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Longer than any process lives, and a clock can tell.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);

pub(super) struct Shared {
    pub(super) sources: Sources,
    pub(super) handlers: Handlers,
    pub(super) told: Told,
    pool: PoolHandle,
    share: Limited,
    state: Mutex<State>,
    /// Called by what may change when the steward is to wake.
    pub(super) steward: Condvar,
    /// Called when there is something in hand, and when all is over.
    pub(super) heart: Condvar,
    /// Those who wait for the end, or for nothing to do.
    pub(super) waiters: Condvar,
    /// Who has the turn, and waits for the ends of others to be stored.
    pub(super) stored: Condvar,
    kinds: Arc<[String]>,
    reports: Reports,
    pub(super) schedules_changed: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        sources: Sources,
        handlers: Handlers,
        told: Told,
        pool: &PoolHandle,
        sizing: Sizing,
    ) -> Shared {
        let state = State::new(sizing, handlers.have_limits());
        Shared {
            kinds: handlers.stored_kinds(),
            sources,
            handlers,
            told,
            pool: pool.clone(),
            share: pool.limit(usize::MAX),
            state: Mutex::new(state),
            steward: Condvar::new(),
            heart: Condvar::new(),
            waiters: Condvar::new(),
            stored: Condvar::new(),
            reports: Reports::default(),
            schedules_changed: AtomicBool::new(false),
        }
    }

    pub(super) fn context(&self, waiting: &Waiting) -> Context {
        let broker = Arc::clone(self.sources.broker(waiting.source));
        let (job, signal) = (&waiting.job, Arc::clone(&waiting.signal));
        Context::new(broker, &self.handlers, self.told.data_limit, job, signal)
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
            let turn = {
                let mut state = self.lock();
                if !state.is_claimable(Instant::now()) {
                    return None;
                }
                state.may_claim = false;
                FragileTurn::take_if_next(self, &mut state)
            };
            let mut request = ClaimRequest::new(most, self.told.lease);
            request.kinds = Some(Arc::clone(&self.kinds));
            request.fragile = turn.is_some();
            // The broker counts the lease from when it is asked, or later.
            let asked = Instant::now();
            let claimed = self.sources.claim(&request);
            now = Instant::now();
            match (self.note(claimed, most, asked, now), turn) {
                (Noted::Nothing, _) => return None,
                (Noted::Fragile(waiting), Some(turn)) => return self.begin_fragile(waiting, turn),
                // A broker that gives a fragile one unasked: it is begun as it is.
                (Noted::Fragile(waiting), None) => {
                    return Some(self.taken(&mut self.lock(), vec![waiting], now));
                }
                (Noted::Some, _) => {}
            }
        }
    }

    /// U5: waits for the ends of other fragile jobs to be stored; if they cannot be, or all is to stop, the job goes back.
    fn begin_fragile(&self, waiting: Waiting, turn: FragileTurn) -> Option<Taken> {
        loop {
            let mut state = self.lock();
            let now = Instant::now();
            let lease = waiting.job.lease;
            if state.hands.get(&lease).is_none_or(|hand| hand.given_up) {
                self.forget_in(&mut state, lease);
                return None;
            }
            let owes_ends = state.owes_fragile_ends();
            if owes_ends && !state.refused.is_empty() {
                // Others are to end meanwhile, or nobody knows whether the broker takes those.
                state.not_before = state.not_before.max(state.refused_until);
            }
            let is_over = state.stopping || self.pool.is_closed();
            if is_over || (owes_ends && state.is_held_up(now)) {
                let delay = Duration::ZERO;
                let end = (lease, Settle::Release { delay });
                state.stats.released += 1;
                state.outbox.push(end);
                state.outbox_since.get_or_insert(now);
                self.plan(&mut state, now);
                return None;
            }
            if owes_ends {
                if state.outbox.is_empty() {
                    // Another thread tells them just now.
                    drop(wait_until(&self.stored, state, None));
                } else {
                    drop(state);
                    self.flush();
                }
                continue;
            }
            let mut taken = self.taken(&mut state, vec![waiting], now);
            taken.turn = Some(turn);
            return Some(taken);
        }
    }

    /// From the buffer: a job, or several that are handled together.
    fn take(&self, state: &mut State, now: Instant) -> Option<Taken> {
        let first = state.buffer.pop_front()?;
        let number = self.handlers.number(&first.job.kind);
        let kind = self.handlers.find(&first.job.kind);
        let mut waiting = vec![first];
        if let Some(Handler::All { most, .. }) = kind.map(|kind| &kind.handler) {
            let mut others = VecDeque::new();
            while let Some(next) = state.buffer.pop_front() {
                let is_alike = self.handlers.number(&next.job.kind) == number;
                if is_alike && waiting.len() < *most {
                    waiting.push(next);
                } else {
                    others.push_back(next);
                }
            }
            state.buffer = others;
        }
        Some(self.taken(state, waiting, now))
    }

    /// What a runner begins now; all of one kind.
    fn taken(&self, state: &mut State, waiting: Vec<Waiting>, now: Instant) -> Taken {
        let kind = waiting.first();
        let kind = kind.and_then(|first| self.handlers.find(&first.job.kind));
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
        Taken {
            waiting,
            turn: None,
            leaves_more: has_slots && (state.may_claim || !state.buffer.is_empty()),
        }
    }

    /// Takes in what was claimed.
    fn note(
        self: &Arc<Self>,
        claimed: Result<Found, QueueError>,
        most: usize,
        asked: Instant,
        now: Instant,
    ) -> Noted {
        let mut state = self.lock();
        let found = match claimed {
            Ok(found) => found,
            Err(error) => {
                state.fail(now);
                self.plan(&mut state, now);
                drop(state);
                self.tell(&error);
                return Noted::Nothing;
            }
        };
        if !found.errors.is_empty() {
            drop(state);
            found.errors.iter().for_each(|error| self.tell(error));
            state = self.lock();
        }
        if std::mem::take(&mut state.failures) > 0 {
            self.reports.works();
        }
        state.answers += 1;
        let Found {
            claims,
            source,
            is_part,
            ..
        } = found;
        // As long as fragile ones come they are asked for.
        let is_fragile = claims.jobs.first().is_some_and(|job| job.is_fragile);
        state.fragile_next = claims.fragile_next || is_fragile;
        if claims.fragile_next && claims.jobs.is_empty() {
            state.may_claim = true;
            return Noted::Some;
        }
        state.again_at = claims.again_in.and_then(|time| now.checked_add(time));
        let Some(waited) = claims.jobs.iter().map(|job| job.waited).max() else {
            state.sizing.saw_nothing(now);
            let again = state.may_claim;
            self.plan(&mut state, now);
            if state.is_news {
                // Time may have been moved.
                self.steward.notify_one();
            }
            return if again { Noted::Some } else { Noted::Nothing };
        };
        state.may_claim |= claims.jobs.len() == most || state.fragile_next || is_part;
        let runners = state.runners;
        state.sizing.saw_work(now, waited, runners);
        state.stats.claimed += claims.jobs.len() as u64;
        let first = !state.hands.values().any(|hand| hand.source == source);
        let mut fragile = None;
        for job in claims.jobs {
            let signal = Signal::new();
            let hand = Hand {
                source,
                signal: Arc::clone(&signal),
                is_fragile: job.is_fragile,
                is_exclusive: job.is_exclusive,
                has_ended: false,
                is_overdue: false,
                kept_until: asked.checked_add(self.told.lease),
                until: None,
                given_up: false,
                refused: None,
            };
            state.hands.insert(job.lease, hand);
            let waiting = Waiting {
                source,
                job,
                signal,
            };
            if waiting.job.is_fragile {
                fragile = Some(waiting);
            } else {
                state.buffer.push_back(waiting);
            }
        }
        state.moved_at = now;
        self.plan(&mut state, now);
        if first {
            // Heartbeats are due from now on.
            self.heart.notify_all();
        }
        fragile.map_or(Noted::Some, Noted::Fragile)
    }

    /// Whether the broker is to be told now.
    pub(super) fn take_in(&self, state: &mut State, ended: Work) -> bool {
        let now = ended.at;
        #[expect(clippy::cast_precision_loss, reason = "they are few")]
        let jobs = ended.ends.len().max(1) as f64;
        state.note_run_time(ended.took.as_secs_f64() / jobs);
        let is_fragile = ended.claimed.iter().any(|claimed| claimed.is_fragile);
        for (claimed, end) in ended.claimed.iter().zip(ended.ends) {
            let hand = state.hands.get_mut(&claimed.lease);
            let has_succeeded = hand.is_some_and(|hand| {
                hand.has_ended = true;
                hand.signal.has_succeeded()
            });
            self.count(state, &end, has_succeeded, now);
            state.outbox.push((claimed.lease, end));
        }
        let since = *state.outbox_since.get_or_insert(now);
        self.plan(state, now);
        is_fragile
            || state.buffer.is_empty()
            || !state.is_quick()
            || state.outbox.len() >= MOST_BATCHED
            || now.saturating_duration_since(since) >= OUTBOX_TIME
    }

    fn count(&self, state: &mut State, end: &Settle, has_succeeded: bool, now: Instant) {
        let is_dead = matches!(end, Settle::Dead { .. });
        if matches!(end, Settle::Done { .. }) || (is_dead && has_succeeded) {
            state.stats.done += 1;
            // Its result was refused.
            state.stats.died += u64::from(is_dead);
            state.errors_in_row = 0;
            return;
        }
        match end {
            Settle::Done { .. } => {}
            Settle::Retry { .. } => state.stats.retried += 1,
            Settle::Dead { .. } => state.stats.died += 1,
            Settle::Release { .. } => {
                state.stats.released += 1;
                return;
            }
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

    /// Whether this thread runs a task of the pool.
    pub(super) fn is_inside(&self) -> bool {
        self.pool.is_inside()
    }

    pub(super) fn is_pool_closed(&self) -> bool {
        self.pool.is_closed()
    }

    /// Others wait for a worker of the pool.
    pub(super) fn is_pool_wanted(&self) -> bool {
        self.pool.waiting() > 0 || self.pool.queued() > 0
    }

    pub(super) fn tell(&self, error: &QueueError) {
        let Some(on_error) = &self.told.on_error else {
            return self.reports.failure(error);
        };
        {
            // A user's code: it must end neither a runner nor the steward.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| on_error(error))) {
                drop_quietly(payload);
            }
        }
    }
}

/// What a claim led to.
enum Noted {
    /// There is nothing to do, or not now.
    Nothing,
    /// There is something, or it is worth to look again.
    Some,
    Fragile(Waiting),
}

/// The right to look for a fragile job, and to begin it (U5); one has it at a time.
pub(super) struct FragileTurn(Arc<Shared>);

impl FragileTurn {
    fn take_if_next(shared: &Arc<Shared>, state: &mut State) -> Option<FragileTurn> {
        state.fragile_next.then(|| {
            state.has_turn = true;
            FragileTurn(Arc::clone(shared))
        })
    }
}

impl Drop for FragileTurn {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.has_turn = false;
        // Whoever looked meanwhile found it taken.
        self.0.plan(&mut state, Instant::now());
    }
}

/// A broker may be a user's, too: if it panics it has failed.
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T, QueueError>) -> Result<T, QueueError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        drop_quietly(payload);
        Err(QueueError::Broker("it panicked".into()))
    })
}
