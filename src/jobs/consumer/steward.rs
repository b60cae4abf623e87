//! The one thread of a consumer: it sees to what time brings, and sleeps else. Heartbeats, jobs that are due, what
//! other processes did, schedules, ends that could not be told; it claims and runs nothing itself.

use super::shared::{Shared, guarded};
use super::state::{BUFFER_TIME, OUTBOX_TIME};
use crate::jobs::broker::{Lease, Scheduled};
use crate::jobs::error::QueueError;
use crate::jobs::job::NewJob;
use crate::jobs::schedule;
use crate::sync::Instant;
use crate::sync::{Arc, Ordering, wait_until};
use std::time::Duration;

/// Schedules are looked at again then, at the latest.
const SCHEDULES: Duration = Duration::from_secs(30);

pub(super) struct Steward {
    shared: Arc<Shared>,
    beat_at: Option<Instant>,
    poll_at: Option<Instant>,
    schedules_at: Instant,
    /// Of all schedules the first time, in seconds since 1970.
    next_scheduled: Option<i64>,
    seen: u64,
}

impl Steward {
    pub(super) fn new(shared: Arc<Shared>) -> Steward {
        let now = Instant::now();
        let is_shared = shared.broker.abilities().shared;
        Steward {
            shared,
            beat_at: None,
            poll_at: is_shared.then_some(now),
            schedules_at: now,
            next_scheduled: None,
            seen: 0,
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
            let has_hands = !state.hands.is_empty();
            let goes_on = !state.stopping;
            let times = [
                state.next_event(now),
                self.beat_at.filter(|_| has_hands),
                self.poll_at.filter(|_| goes_on),
                Some(self.schedules_at).filter(|_| goes_on),
            ];
            let hands_back = state.stopping && !state.buffer.is_empty();
            let is_news = std::mem::take(&mut state.is_news) && self.next_scheduled.is_some();
            let changed = self.shared.schedules_changed.load(Ordering::SeqCst);
            let schedules = goes_on && (is_news || changed);
            if hands_back || schedules || (has_hands && self.beat_at.is_none()) {
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
        let (stopping, has_hands, outbox_due, buffer_due) = {
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
            (
                state.stopping,
                !state.hands.is_empty(),
                outbox_due,
                buffer_due,
            )
        };
        if outbox_due {
            if stopping {
                self.shared.drop_what_is_lost(now);
            }
            self.shared.flush();
        }
        if stopping || buffer_due || self.shared.is_pool_closed() {
            self.shared.hand_back();
        }
        if !has_hands {
            self.beat_at = None;
        } else if self.beat_at.is_none_or(|at| at <= now) {
            if self.beat_at.is_some() {
                self.beat();
            }
            self.beat_at = now.checked_add(self.shared.told.lease / 3);
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
        let now_there = || guarded(|| self.shared.broker.now()).ok();
        let is_due = || Some(now_there()? >= self.next_scheduled?);
        if !(changed || self.schedules_at <= now || is_due() == Some(true)) {
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
    }

    /// Keeps the leases of what is in hand.
    fn beat(&self) {
        let leases: Vec<Lease> = {
            let state = self.shared.lock();
            let kept = state.hands.iter().filter(|(_, hand)| !hand.given_up);
            kept.map(|(&lease, _)| lease).collect()
        };
        let broker = &self.shared.broker;
        match guarded(|| broker.extend(&leases, self.shared.told.lease)) {
            Ok(extended) => {
                self.keep(&leases, &extended);
                let lost = leases
                    .into_iter()
                    .zip(extended)
                    .filter(|&(_, extended)| !extended);
                lost.for_each(|(lease, _)| self.give_up(lease));
            }
            Err(error) => self.shared.tell(&error),
        }
    }

    fn keep(&self, leases: &[Lease], extended: &[bool]) {
        let until = Instant::now().checked_add(self.shared.told.lease);
        let mut state = self.shared.lock();
        for (lease, _) in leases.iter().zip(extended).filter(|(_, kept)| **kept) {
            if let Some(hand) = state.hands.get_mut(lease) {
                hand.kept_until = until;
            }
        }
    }

    /// It is not ours any more, or not to be: whoever runs it is told, and nobody begins it.
    fn give_up(&self, lease: Lease) {
        let mut state = self.shared.lock();
        let Some(hand) = state.hands.get_mut(&lease) else {
            return;
        };
        hand.given_up = true;
        hand.stop.stop();
        let waiting = state.buffer.len();
        state.buffer.retain(|waiting| waiting.job.lease != lease);
        if state.buffer.len() < waiting {
            state.hands.remove(&lease);
            state.stats.lost += 1;
            self.shared.tell_waiters(&state);
        }
    }

    fn end_what_runs_too_long(&self, now: Instant) {
        let too_long: Vec<Lease> = {
            let state = self.shared.lock();
            let hands = state.hands.iter().filter(|(_, hand)| !hand.given_up);
            let late = hands.filter(|(_, hand)| hand.until.is_some_and(|until| until <= now));
            late.map(|(&lease, _)| lease).collect()
        };
        for lease in too_long {
            self.give_up(lease);
        }
    }

    /// What other processes did.
    fn poll(&mut self) {
        match guarded(|| self.shared.broker.has_changed(&mut self.seen)) {
            Ok(false) => {}
            Ok(true) => {
                self.schedules_at = Instant::now();
                self.shared.look();
            }
            Err(error) => self.shared.tell(&error),
        }
    }

    /// How long until the next one.
    fn fire_schedules(&mut self) -> Result<Option<Duration>, QueueError> {
        let broker = &self.shared.broker;
        let mut first = None;
        for scheduled in broker.schedules()? {
            let next = self.fire(&scheduled).unwrap_or_else(|error| {
                self.shared.tell(&error);
                scheduled.next
            });
            first = Some(first.unwrap_or(next).min(next));
        }
        self.next_scheduled = first;
        let Some(first) = first else {
            return Ok(None);
        };
        let wait = u64::try_from(first.saturating_sub(broker.now()?)).unwrap_or(0);
        // One that failed is tried again, but not at once.
        Ok(Some(Duration::from_secs(wait.max(1))))
    }

    /// Enqueues the schedule's job if it is due; the next time.
    fn fire(&self, scheduled: &Scheduled) -> Result<i64, QueueError> {
        let broker = &self.shared.broker;
        let now = broker.now()?;
        if scheduled.next > now {
            return Ok(scheduled.next);
        }
        // It may have been its last time.
        let next = schedule::next(&scheduled.cron, now).unwrap_or(i64::MAX);
        let job = NewJob::new(scheduled.kind.clone(), scheduled.payload.clone());
        // Another consumer may have done it.
        broker.fire(scheduled, next, &job)?;
        Ok(next)
    }
}

/// The steward has ended, however it did: nobody is to wait for it.
struct Over(Arc<Shared>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.waiters.notify_all();
    }
}
