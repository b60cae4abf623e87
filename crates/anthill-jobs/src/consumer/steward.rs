//! The thread of a consumer that sees to what time brings, and sleeps else: jobs that are due, what other processes did,
//! schedules, ends that could not be told. It claims and runs nothing itself. The leases have a thread of their own
//! ([`heart`](super::heart)).

use super::report;
use super::shared::{Shared, guarded};
use super::state::{BUFFER_TIME, OUTBOX_TIME};
use crate::broker::{Broker, Fired, Missed, Scheduled};
use crate::error::QueueError;
use crate::job::NewJob;
use crate::schedule;
use crate::sync::wait_until;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Schedules are looked at again then, at the latest.
const SCHEDULES: Duration = Duration::from_secs(30);

/// Of the missed times of a schedule so many are made up for at once.
const MISSED: usize = 1_000;

/// Jobs of a kind without a handler may wait so long before that is told.
const UNKNOWN: Duration = Duration::from_secs(60);

/// In seconds: a time that is seen to so much later is not missed.
const PUNCTUAL: i64 = 60;

pub(super) struct Steward {
    shared: Arc<Shared>,
    poll_at: Option<Instant>,
    schedules_at: Instant,
    /// Of all schedules the first time, in seconds since 1970.
    next_scheduled: Option<i64>,
    /// Of each queue.
    seen: Vec<u64>,
    /// A schedule is due, and the queue paused; something happened since it was so.
    waits_for_resume: bool,
    may_be_resumed: bool,
    /// Kinds without a handler here: since when jobs of them wait; `None` if that was told.
    unknown: HashMap<String, Option<Instant>>,
}

impl Steward {
    pub(super) fn new(shared: Arc<Shared>) -> Steward {
        let now = Instant::now();
        let is_shared = (shared.sources.brokers()).any(|broker| broker.abilities().shared);
        let seen = shared.sources.brokers().map(|_| 0).collect();
        Steward {
            shared,
            poll_at: is_shared.then_some(now),
            schedules_at: now,
            next_scheduled: None,
            seen,
            waits_for_resume: false,
            may_be_resumed: false,
            unknown: HashMap::new(),
        }
    }

    /// Until the consumer is stopped, and nothing is in hand.
    pub(super) fn run(mut self) {
        let _over = Over(Arc::clone(&self.shared));
        loop {
            let now = Instant::now();
            self.see_to(now);
            let mut state = self.shared.lock();
            if state.is_stopped() {
                return;
            }
            let now = Instant::now();
            let goes_on = !state.stopping;
            let times = [
                state.next_event(now),
                self.poll_at.filter(|_| goes_on),
                Some(self.schedules_at).filter(|_| goes_on),
            ];
            let hands_back = state.stopping && !state.buffer.is_empty();
            let is_news = std::mem::take(&mut state.is_news);
            self.may_be_resumed |= is_news && self.waits_for_resume;
            let is_news = is_news && (self.next_scheduled.is_some() || self.waits_for_resume);
            let changed = self.shared.schedules_changed.load(Ordering::SeqCst);
            let schedules = goes_on && (is_news || changed);
            if hands_back || schedules {
                continue;
            }
            let next = times.into_iter().flatten().min();
            state.planned = next;
            if next.is_none_or(|at| at > now) {
                state = wait_until(&self.shared.steward, state, next);
            }
            // Awake: whatever comes is looked at before it sleeps again.
            state.planned = Some(now);
        }
    }

    fn see_to(&mut self, now: Instant) {
        let (stopping, outbox_due, refused_due, buffer_due) = {
            let mut state = self.shared.lock();
            let has_slots = state.runners < state.sizing.wanted();
            if has_slots && state.sizing.shrinks_at().is_some_and(|at| at <= now) {
                state.sizing.saw_nothing(now);
            }
            let still = now.saturating_duration_since(state.moved_at);
            if still >= state.sizing.patience() && state.is_stuck(now) {
                state.sizing.saw_others_wait(now);
                state.moved_at = now;
            }
            let not_before = state.not_before;
            let since = state.outbox_since;
            let since = since.filter(|_| not_before.is_none_or(|at| at <= now));
            let outbox_due =
                since.is_some_and(|at| now.saturating_duration_since(at) >= OUTBOX_TIME);
            let buffer_due = !state.buffer.is_empty() && still >= BUFFER_TIME;
            let refused_due = state.refused_until.is_some_and(|at| at <= now);
            (state.stopping, outbox_due, refused_due, buffer_due)
        };
        if stopping && (outbox_due || refused_due) {
            self.shared.drop_what_is_lost(now);
        }
        if outbox_due {
            self.shared.flush();
        }
        if refused_due {
            self.shared.tell_refused();
        }
        if stopping || buffer_due || self.shared.is_pool_closed() {
            self.shared.hand_back();
        }
        self.end_what_runs_too_long(now);
        if stopping {
            return;
        }
        if self.poll_at.is_some_and(|at| at <= now) {
            self.poll();
            self.poll_at = now.checked_add(self.shared.told.poll);
        }
        self.see_to_schedules(now);
        self.shared.staff();
    }

    /// They are read again now and then, when somebody changed one, and when the first one is due.
    fn see_to_schedules(&mut self, now: Instant) {
        let changed = self.shared.schedules_changed.swap(false, Ordering::SeqCst);
        let may_be_resumed = std::mem::take(&mut self.may_be_resumed);
        if !(changed || may_be_resumed || self.schedules_at <= now || self.is_schedule_due()) {
            return;
        }
        let wait = match guarded(|| self.fire_schedules()) {
            Ok(wait) => wait.unwrap_or(SCHEDULES).min(SCHEDULES),
            Err(error) => {
                self.shared.tell(&error);
                Duration::from_secs(1)
            }
        };
        self.schedules_at = now + wait;
        self.look_for_unknown_kinds(now);
    }

    /// By the clock of one of the brokers, which may be on different hosts.
    fn is_schedule_due(&self) -> bool {
        let brokers = self.shared.sources.brokers();
        let now = brokers.filter_map(|broker| guarded(|| broker.now()).ok());
        self.next_scheduled
            .is_some_and(|next| now.max().is_some_and(|now| next <= now))
    }

    /// One beside which no other may run is kept until its handler returns; others go to another consumer.
    fn end_what_runs_too_long(&self, now: Instant) {
        let mut too_long = Vec::new();
        {
            let mut state = self.shared.lock();
            let mut overran = 0;
            for (&lease, hand) in &mut state.hands {
                let is_late = hand.until.is_some_and(|until| until <= now);
                if !is_late || hand.given_up || hand.is_overdue || hand.has_ended {
                    continue;
                }
                hand.is_overdue = true;
                hand.signal.stop.stop();
                overran += 1;
                too_long.push((lease, hand.is_exclusive));
            }
            state.stats.overran += overran;
        }
        for (lease, is_exclusive) in too_long {
            let what = if is_exclusive {
                "it keeps its key, and is not given to another consumer, until it ends"
            } else {
                self.shared.give_up(&[lease]);
                "it is given to another consumer"
            };
            report::warn(&format!(
                "job {} has run for longer than it may, and goes on until its handler heeds its stop token: {what}; \
                 it keeps its worker",
                lease.id
            ));
        }
    }

    /// What other processes did.
    fn poll(&mut self) {
        for (broker, seen) in self.shared.sources.brokers().zip(&mut self.seen) {
            match guarded(|| broker.has_changed(seen)) {
                Ok(false) => {}
                Ok(true) => {
                    self.schedules_at = Instant::now();
                    self.shared.look();
                }
                Err(error) => self.shared.tell(&error),
            }
        }
    }

    /// How long until the next one.
    fn fire_schedules(&mut self) -> Result<Option<Duration>, QueueError> {
        self.waits_for_resume = false;
        self.next_scheduled = None;
        let shared = Arc::clone(&self.shared);
        let mut wait: Option<Duration> = None;
        let mut failed = None;
        for broker in shared.sources.brokers() {
            match guarded(|| self.fire_schedules_of(broker)) {
                Ok(of_this) => wait = wait.into_iter().chain(of_this).min(),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(wait), Err)
    }

    fn fire_schedules_of(
        &mut self,
        broker: &Arc<dyn Broker>,
    ) -> Result<Option<Duration>, QueueError> {
        let mut first = None;
        for scheduled in broker.schedules()? {
            let next = self.fire(broker, &scheduled).unwrap_or_else(|error| {
                self.shared.tell(&error);
                scheduled.next
            });
            first = Some(first.unwrap_or(next).min(next));
        }
        self.next_scheduled = self.next_scheduled.into_iter().chain(first).min();
        let Some(first) = first else {
            return Ok(None);
        };
        let wait = u64::try_from(first.saturating_sub(broker.now()?)).unwrap_or(0);
        // One that failed is tried again, but not at once.
        Ok(Some(Duration::from_secs(wait.max(1))))
    }

    /// Enqueues the schedule's job if it is due; the next time.
    fn fire(&mut self, broker: &Arc<dyn Broker>, scheduled: &Scheduled) -> Result<i64, QueueError> {
        let mut scheduled = scheduled.clone();
        // Of many that were missed so many at once.
        for _ in 0..MISSED {
            let now = broker.now()?;
            // It may have been its last time.
            let from_now = schedule::next(&scheduled.cron, now).unwrap_or(i64::MAX);
            let is_due = scheduled.next <= now;
            if scheduled.next == from_now || (!is_due && scheduled.next < from_now) {
                return Ok(scheduled.next);
            }
            let next = match scheduled.missed {
                Missed::All if is_due => {
                    schedule::next(&scheduled.cron, scheduled.next).unwrap_or(i64::MAX)
                }
                // Where it is later than the next time from now, the clock was ahead, and was set back.
                _ => from_now,
            };
            let was_missed = now.saturating_sub(scheduled.next) > PUNCTUAL;
            let skips = scheduled.missed == Missed::Skip && was_missed;
            let job = NewJob::new(scheduled.kind.clone(), scheduled.payload.clone());
            let job = Some(&job).filter(|_| is_due && !skips);
            match broker.fire(&scheduled, next, job)? {
                // What ends the pause is heard of.
                Fired::Paused => {
                    self.waits_for_resume = true;
                    return Ok(i64::MAX);
                }
                // Another consumer has done it.
                Fired::Changed => return Ok(next),
                Fired::Done => scheduled.next = next,
            }
        }
        Ok(scheduled.next)
    }

    /// Jobs of kinds that nobody here knows wait for a consumer that does: where none comes for long somebody should know.
    fn look_for_unknown_kinds(&mut self, now: Instant) {
        let mut unknown = HashMap::new();
        for broker in self.shared.sources.brokers() {
            for kind in guarded(|| broker.ready_kinds()).unwrap_or_default() {
                if self.shared.handlers.find(&kind).is_some() {
                    continue;
                }
                let since = *self.unknown.get(&kind).unwrap_or(&Some(now));
                let is_long = |since| now.saturating_duration_since(since) >= UNKNOWN;
                let told = since.is_none_or(is_long);
                if told && since.is_some() {
                    report::warn(&format!(
                        "jobs of the kind {kind:?} have waited for {} seconds, and a consumer here has no handler for \
                         it (or knows only versions before it)",
                        UNKNOWN.as_secs()
                    ));
                }
                unknown.insert(kind, since.filter(|_| !told));
            }
        }
        self.unknown = unknown;
    }
}

/// The steward has ended, however it did: nobody is to wait for it.
struct Over(Arc<Shared>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.waiters.notify_all();
        self.0.heart.notify_all();
    }
}
