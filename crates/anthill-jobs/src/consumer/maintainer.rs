//! The thread that does the consumer's periodic work, and sleeps otherwise: it fires schedules, repeats settlements, stops overdue jobs, and starts runners. It claims and runs nothing itself. Leases have
//! a thread of their own ([`heartbeat`](super::heartbeat)).

use super::guard::guard;
use super::place::Place;
use super::report;
use super::shared::Shared;
use super::state::{BUFFER_TIME, OUTBOX_TIME};
use crate::broker::{Admin, ConsumerInfo, Fired, Missed, ScheduleStore, Scheduled};
use crate::error::QueueError;
use crate::job::NewJob;
use crate::schedule;
use crate::sync::wait_until;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Schedules are read again after this time, at the latest.
const SCHEDULES: Duration = Duration::from_secs(30);

/// Schedules are read again at most so often because of what other processes did.
const ELSEWHERE: Duration = Duration::from_secs(1);

/// How often a consumer says that it lives.
const ANNOUNCE: Duration = Duration::from_secs(30);

/// How many missed times of a schedule are made up for at once.
const MISSED: usize = 1_000;

/// How long jobs of a kind without a handler wait before that is reported.
const UNKNOWN: Duration = Duration::from_secs(60);

/// In seconds: a scheduled time that fires so late does not count as missed.
const PUNCTUAL: i64 = 60;

pub(super) struct Maintainer {
    shared: Arc<Shared>,
    /// When to tell brokers that this consumer lives.
    announce_at: Option<Instant>,
    schedules_at: Instant,
    schedules_read: Option<Instant>,
    /// The first time of all schedules, in seconds since 1970.
    next_scheduled: Option<i64>,
    /// A schedule is due and the queue paused; and whether something has happened since.
    waits_for_resume: bool,
    may_be_resumed: bool,
    /// When to look for kinds without a handler.
    unknown_at: Instant,
    /// Kinds without a handler here: since when jobs of them wait; `None` if that was reported.
    unknown: HashMap<String, Option<Instant>>,
}

impl Maintainer {
    pub(super) fn new(shared: Arc<Shared>) -> Maintainer {
        let now = Instant::now();
        let has_registry =
            (shared.sources.brokers()).any(|broker| broker.consumer_registry().is_some());
        Maintainer {
            shared,
            announce_at: has_registry.then_some(now),
            schedules_at: now,
            schedules_read: None,
            next_scheduled: None,
            waits_for_resume: false,
            may_be_resumed: false,
            unknown_at: now,
            unknown: HashMap::new(),
        }
    }

    /// Runs until the consumer is stopped, and no job is in flight.
    pub(super) fn run(mut self) {
        let _over = OverOnDrop(Arc::clone(&self.shared));
        self.work_until_stopped();
        self.withdraw();
    }

    fn work_until_stopped(&mut self) {
        loop {
            let now = Instant::now();
            self.work(now);
            let mut state = self.shared.lock();
            if state.is_stopped() {
                return;
            }
            let now = Instant::now();
            let goes_on = !state.stopping;
            let times = [
                state.next_event(now),
                Some(self.schedules_at).filter(|_| goes_on),
                self.announce_at.filter(|_| goes_on),
            ];
            let hands_back = state.stopping && !state.buffer.is_empty();
            let has_news = std::mem::take(&mut state.has_news);
            self.may_be_resumed |= has_news && self.waits_for_resume;
            let has_news = has_news && (self.next_scheduled.is_some() || self.waits_for_resume);
            let changed = self.shared.schedules_changed.load(Ordering::SeqCst)
                || self.shared.changed_elsewhere.load(Ordering::SeqCst);
            let schedules = goes_on && (has_news || changed);
            if hands_back || schedules {
                continue;
            }
            let next = times.into_iter().flatten().min();
            state.maintainer_wakes_at = next;
            if next.is_none_or(|at| at > now) {
                state = wait_until(&self.shared.maintainer, state, next);
            }
            // Awake: whatever happens is seen before it sleeps again.
            state.maintainer_wakes_at = Some(now);
        }
    }

    fn work(&mut self, now: Instant) {
        let (stopping, outbox_due, refused_due, buffer_due) = {
            let mut state = self.shared.lock();
            let has_slots = state.has_slots();
            if has_slots && state.sizing.shrinks_at().is_some_and(|at| at <= now) {
                state.sizing.saw_nothing(now);
            }
            let still = now.saturating_duration_since(state.last_progress);
            if still >= state.sizing.grow_after() && state.is_stuck(now) {
                state.sizing.saw_others_wait(now);
                state.last_progress = now;
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
            self.shared.drop_lost_ends(now);
        }
        if outbox_due {
            self.shared.flush();
        }
        if refused_due {
            self.shared.retry_refused();
        }
        if stopping || buffer_due || self.shared.is_pool_closed() {
            self.shared.release_buffer();
        }
        self.stop_overdue_jobs(now);
        if stopping {
            return;
        }
        self.announce(now);
        self.check_schedules(now);
        self.shared.start_runner();
    }

    /// Tells brokers that keep a list of consumers that this one lives.
    fn announce(&mut self, now: Instant) {
        if self.announce_at.is_none_or(|at| at > now) {
            return;
        }
        self.announce_at = now.checked_add(ANNOUNCE);
        let mut kinds = self.shared.kinds.to_vec();
        kinds.sort_unstable();
        let (workers, running) = {
            let state = self.shared.lock();
            (state.sizing.wanted(), state.in_flight.len())
        };
        let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let mut info = ConsumerInfo::new(&*self.shared.id, kinds, number(workers));
        info.running = number(running);
        info.age = now.saturating_duration_since(self.shared.started);
        let brokers = self.shared.sources.brokers();
        for registry in brokers.filter_map(|broker| broker.consumer_registry()) {
            if let Err(error) = guard(|| registry.announce(&info, ANNOUNCE * 3)) {
                self.shared.report(&error);
            }
        }
    }

    /// If this fails the announcement ends by itself.
    fn withdraw(&self) {
        let brokers = self.shared.sources.brokers();
        for registry in brokers.filter_map(|broker| broker.consumer_registry()) {
            let _ = guard(|| registry.withdraw(&self.shared.id));
        }
    }

    /// Reads the schedules now and then, when one was changed, and when the first one is due; and fires them.
    fn check_schedules(&mut self, now: Instant) {
        if self.shared.changed_elsewhere.swap(false, Ordering::SeqCst) {
            let soon = self.schedules_read.map_or(now, |at| at + ELSEWHERE);
            self.schedules_at = self.schedules_at.min(soon);
        }
        let changed = self.shared.schedules_changed.swap(false, Ordering::SeqCst);
        let may_be_resumed = std::mem::take(&mut self.may_be_resumed);
        if !(changed || may_be_resumed || self.schedules_at <= now || self.is_schedule_due()) {
            return;
        }
        self.schedules_read = Some(now);
        let wait = match guard(|| self.fire_schedules()) {
            Ok(wait) => wait.unwrap_or(SCHEDULES).min(SCHEDULES),
            Err(error) => {
                self.shared.report(&error);
                Duration::from_secs(1)
            }
        };
        self.schedules_at = now + wait;
        // Not as often as others change something.
        if self.unknown_at <= now {
            self.unknown_at = now + SCHEDULES;
            self.warn_of_unknown_kinds(now);
        }
    }

    fn schedule_stores(&self) -> impl Iterator<Item = &dyn ScheduleStore> {
        let brokers = self.shared.sources.brokers();
        brokers.filter_map(|broker| broker.schedule_store())
    }

    /// Whether a schedule is due by a clock that can be read at once; they may be on different hosts.
    fn is_schedule_due(&self) -> bool {
        let now = self.schedule_stores().filter_map(ScheduleStore::clock);
        self.next_scheduled
            .is_some_and(|next| now.max().is_some_and(|now| next <= now))
    }

    /// Tells jobs over their run time to stop. An exclusive job keeps its lease until its handler returns; others are given
    /// up, for another consumer.
    fn stop_overdue_jobs(&self, now: Instant) {
        let mut too_long = Vec::new();
        {
            let mut state = self.shared.lock();
            let mut overran = 0;
            for (&number, in_flight) in &mut state.in_flight {
                let is_late = in_flight.run_until.is_some_and(|until| until <= now);
                if !is_late || in_flight.given_up || in_flight.is_overdue || in_flight.has_ended {
                    continue;
                }
                in_flight.is_overdue = true;
                in_flight.signal.stop.stop();
                overran += 1;
                too_long.push((
                    number,
                    in_flight.signal.lease().id(),
                    in_flight.is_exclusive,
                    in_flight.place.clone(),
                ));
            }
            state.stats.overran += overran;
        }
        for (number, id, is_exclusive, place) in too_long {
            let what = if is_exclusive {
                "it keeps its key and its lease until then"
            } else {
                self.shared.give_up(&[number]);
                "another consumer may claim it"
            };
            let replaced = if place.is_some_and(|place| self.replace(&place)) {
                "another worker stands in for its own"
            } else {
                "it occupies its worker"
            };
            report::warn(&format!(
                "job {id} has exceeded its run time, and runs until its handler heeds its stop token: {what}; {replaced}"
            ));
        }
    }

    /// U7: lends the place of a runner whose job is overdue; whether it did.
    fn replace(&self, place: &Place) -> bool {
        let most = self.shared.options.replaced;
        if !place.count(&mut self.shared.lock(), most) {
            return false;
        }
        let replaced = place.lend();
        let mut state = self.shared.lock();
        if replaced {
            state.stats.replaced += 1;
        } else {
            place.uncount(&mut state);
        }
        replaced
    }

    /// Fires the schedules that are due. Returns how long until the next one is.
    fn fire_schedules(&mut self) -> Result<Option<Duration>, QueueError> {
        self.waits_for_resume = false;
        self.next_scheduled = None;
        let shared = Arc::clone(&self.shared);
        let mut wait: Option<Duration> = None;
        let mut failed = None;
        let brokers = shared.sources.brokers();
        for store in brokers.filter_map(|broker| broker.schedule_store()) {
            match guard(|| self.fire_schedules_of(store)) {
                Ok(of_this) => wait = wait.into_iter().chain(of_this).min(),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(wait), Err)
    }

    fn fire_schedules_of(
        &mut self,
        store: &dyn ScheduleStore,
    ) -> Result<Option<Duration>, QueueError> {
        let mut first = None;
        let schedules = store.schedules()?;
        for scheduled in schedules.all {
            let next = self
                .fire(store, &scheduled, schedules.now)
                .unwrap_or_else(|error| {
                    self.shared.report(&error);
                    scheduled.next
                });
            first = Some(first.unwrap_or(next).min(next));
        }
        self.next_scheduled = self.next_scheduled.into_iter().chain(first).min();
        let Some(first) = first else {
            return Ok(None);
        };
        let wait = u64::try_from(first.saturating_sub(schedules.now)).unwrap_or(0);
        // A schedule that failed is tried again, but not at once.
        Ok(Some(Duration::from_secs(wait.max(1))))
    }

    /// Enqueues the schedule's job if it is due. Returns its next time.
    fn fire(
        &mut self,
        store: &dyn ScheduleStore,
        scheduled: &Scheduled,
        now: i64,
    ) -> Result<i64, QueueError> {
        let mut scheduled = scheduled.clone();
        // Of many missed times only so many at once.
        for _ in 0..MISSED {
            // It is later by now, where the clock tells.
            let now = store.clock().unwrap_or(now).max(now);
            // This may have been its last time.
            let from_now = schedule::next(&scheduled.cron, now).unwrap_or(i64::MAX);
            let is_due = scheduled.next <= now;
            if scheduled.next == from_now || (!is_due && scheduled.next < from_now) {
                return Ok(scheduled.next);
            }
            let next = match scheduled.missed {
                Missed::All if is_due => {
                    schedule::next(&scheduled.cron, scheduled.next).unwrap_or(i64::MAX)
                }
                // If the stored time is later than the next one from now, the clock was ahead, and was set back.
                _ => from_now,
            };
            let was_missed = now.saturating_sub(scheduled.next) > PUNCTUAL;
            let skips = scheduled.missed == Missed::Skip && was_missed;
            let job = NewJob::new(scheduled.kind.clone(), scheduled.payload.clone());
            let job = Some(&job).filter(|_| is_due && !skips);
            match store.fire(&scheduled, next, job)? {
                // The end of the pause is noticed.
                Fired::Paused => {
                    self.waits_for_resume = true;
                    return Ok(i64::MAX);
                }
                // Another consumer has fired it.
                Fired::Changed => return Ok(next),
                Fired::Done => scheduled.next = next,
            }
        }
        Ok(scheduled.next)
    }

    /// Reports kinds without a handler here whose jobs have waited for long.
    fn warn_of_unknown_kinds(&mut self, now: Instant) {
        let mut unknown = HashMap::new();
        for broker in self.shared.sources.brokers() {
            let kinds = guard(|| broker.admin().map_or(Ok(Vec::new()), Admin::ready_kinds));
            for kind in kinds.unwrap_or_default() {
                if self.shared.handlers.find(&kind).is_some() {
                    continue;
                }
                let since = *self.unknown.get(&kind).unwrap_or(&Some(now));
                let is_long = |since| now.saturating_duration_since(since) >= UNKNOWN;
                let is_reported = since.is_none_or(is_long);
                if is_reported && since.is_some() {
                    report::warn(&format!(
                        "jobs of kind {kind:?} have waited for {} seconds, and a consumer here has no handler for that \
                         kind, or only for older versions",
                        UNKNOWN.as_secs()
                    ));
                }
                unknown.insert(kind, since.filter(|_| !is_reported));
            }
        }
        self.unknown = unknown;
    }
}

/// Marks the consumer as over when the maintainer ends, also by a panic, so that nothing waits for it.
struct OverOnDrop(Arc<Shared>);

impl Drop for OverOnDrop {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.waiters.notify_all();
        self.0.heartbeat.notify_all();
        self.0.pollers.notify_all();
    }
}
