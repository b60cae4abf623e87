//! How a job's end reaches the broker: several settlements together, in the order in which the jobs ended; again and
//! again where the broker fails; and as a dead letter where it will never take them.

use super::batch::FinishedBatch;
use super::context::Signal;
use super::guard::{for_each, guard};
use super::shared::Shared;
use super::state::{ClaimNumber, MAX_BATCH, OUTBOX_TIME, State};
use crate::broker::{Capabilities, Capability, Lease, Settle, Settled};
use crate::error::QueueError;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A pause longer than any process lives, that an `Instant` can still express.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);

impl Shared {
    /// Records how a batch ended; whether the outbox has to be flushed now.
    pub(super) fn record_finished(&self, state: &mut State, finished: FinishedBatch) -> bool {
        let now = finished.at;
        #[expect(clippy::cast_precision_loss, reason = "they are few")]
        let jobs = finished.ends.len().max(1) as f64;
        state.note_run_time(finished.took.as_secs_f64() / jobs);
        let is_fragile = finished.claimed.iter().any(|claimed| claimed.is_fragile);
        for (number, end) in finished.numbers.into_iter().zip(finished.ends) {
            let in_flight = state.in_flight.get_mut(&number);
            let signal = in_flight.map(|in_flight| {
                in_flight.has_ended = true;
                Arc::clone(&in_flight.signal)
            });
            if let Some(signal) = signal {
                self.count_end(state, &end, &signal, now);
            }
            state.outbox.push((number, end));
        }
        let since = *state.outbox_since.get_or_insert(now);
        self.wake_maintainer_in_time(state, now);
        is_fragile
            || state.buffer.is_empty()
            || !state.is_quick()
            || state.outbox.len() >= MAX_BATCH
            || now.saturating_duration_since(since) >= OUTBOX_TIME
    }

    fn count_end(&self, state: &mut State, end: &Settle, signal: &Signal, now: Instant) {
        let is_dead = matches!(end, Settle::Dead { .. });
        let is_done = match end {
            Settle::Done { .. } => true,
            Settle::Dead { .. } => signal.has_succeeded(),
            Settle::Retry { .. } => signal.has_succeeded() && signal.is_settled_by_handler(),
            Settle::Release { .. } => false,
        };
        if is_done {
            state.stats.done += 1;
            // A job whose result was refused.
            state.stats.died += u64::from(is_dead);
            state.errors_in_row = 0;
            return;
        }
        match end {
            Settle::Done { .. } => {}
            // It will be removed; that was counted when the request came.
            Settle::Retry { .. } if signal.is_cancelled() => return,
            Settle::Retry { .. } => state.stats.retried += 1,
            Settle::Dead { .. } => state.stats.died += 1,
            Settle::Release { .. } => {
                state.stats.released += 1;
                return;
            }
        }
        state.errors_in_row += 1;
        if let Some((limit, pause)) = self.options.pause_after {
            if state.errors_in_row >= limit {
                state.errors_in_row = 0;
                state.paused_until = now.checked_add(pause.min(FOR_EVER));
                state.stats.pauses += 1;
            }
        }
    }

    /// Settles the jobs in the outbox.
    pub(super) fn flush(&self) {
        let ends = {
            let mut state = self.lock();
            state.outbox_since = None;
            std::mem::take(&mut state.outbox)
        };
        self.settle(ends);
    }

    pub(super) fn settle(&self, ends: Vec<(ClaimNumber, Settle)>) {
        for ends in self.batches(ends) {
            self.settle_batch(ends);
        }
    }

    /// By queue, in batches that its broker takes, without those that are not in flight any more.
    fn batches(&self, ends: Vec<(ClaimNumber, Settle)>) -> Vec<Ends> {
        if ends.is_empty() {
            return Vec::new();
        }
        let state = self.lock();
        let mut batches: Vec<Ends> = Vec::new();
        for (number, settle) in ends {
            let Some(in_flight) = state.in_flight.get(&number) else {
                continue;
            };
            let source = in_flight.source;
            let lease = in_flight.signal.lease();
            let settle = fit(settle, self.sources.broker(source).capabilities());
            let has_room = |batch: &&mut Ends| batch.source == source && !batch.is_full();
            if let Some(batch) = batches.iter_mut().find(has_room) {
                batch.push(number, lease, settle);
            } else {
                let maxima = self.sources.broker(source).capabilities().maxima;
                let mut batch = Ends::new(source, maxima.batch.max(1));
                batch.push(number, lease, settle);
                batches.push(batch);
            }
        }
        batches
    }

    fn settle_batch(&self, ends: Ends) {
        if self.lock().settles_one_by_one {
            return self.settle_one_by_one(ends, false);
        }
        match self.ask_to_settle(&ends) {
            Ok(settled) => self.note_settled(&mut self.lock(), ends, &settled),
            // They stay ours, as long as heartbeats extend their leases, and are settled again.
            Err(error) => {
                let mut state = self.lock();
                // One of them may be a settlement that the broker will never take.
                state.settles_one_by_one = true;
                note_uncertain(&mut state, &ends.numbers, &error);
                self.put_back(&mut state, ends.numbered().collect());
                drop(state);
                self.report(&error);
            }
        }
    }

    fn ask_to_settle(&self, ends: &Ends) -> Result<Vec<Settled>, QueueError> {
        let broker = self.sources.broker(ends.source);
        guard(|| for_each(ends.settlements.len(), broker.settle(&ends.settlements)))
    }

    /// Settles each by itself; those that fail are repeated later, and hold up no other. One that the broker will never take,
    /// as its error says or because it fails again and again while others do not, becomes a dead letter, with the reason.
    fn settle_one_by_one(&self, ends: Ends, again: bool) {
        let settled_before = self.lock().settled;
        let mut failed = Vec::new();
        for end in ends.each() {
            match self.ask_to_settle(&end) {
                Ok(settled) => self.note_settled(&mut self.lock(), end, &settled),
                Err(error) => failed.push((end, error)),
            }
        }
        let mut refused = Vec::new();
        for (end, error) in failed {
            self.report(&error);
            note_uncertain(&mut self.lock(), &end.numbers, &error);
            for (number, settle) in end.numbered() {
                let is_busy = matches!(error, QueueError::Busy);
                let is_outage = matches!(error, QueueError::Unavailable(_));
                let is_lasting = is_refusal(&error)
                    || (!is_busy && self.lock().note_refusal(number, settled_before, is_outage));
                match settle {
                    Settle::Dead { .. } if is_lasting => self.forget(number),
                    _ if is_lasting => {
                        let error = format!("its end could not be stored: {error}");
                        refused.push((number, Settle::Dead { error }));
                    }
                    settle => refused.push((number, settle)),
                }
            }
        }
        let now = Instant::now();
        let mut state = self.lock();
        state.settles_one_by_one = false;
        if !again && !refused.is_empty() && state.settled == settled_before {
            // Nothing shows that the broker works at all.
            state.fail(now);
        }
        state.refuse(refused, now);
        self.stored.notify_all();
        self.wake_maintainer_in_time(&mut state, now);
    }

    /// Repeats the settlements that the broker refused.
    pub(super) fn retry_refused(&self) {
        let refused = self.lock().take_refused();
        for ends in self.batches(refused) {
            self.settle_one_by_one(ends, true);
        }
    }

    fn note_settled(&self, state: &mut State, ends: Ends, settled: &[Settled]) {
        state.settled += ends.settlements.len() as u64;
        state.answers += 1;
        let each = ends.numbers.into_iter().zip(ends.settlements);
        for ((number, (lease, end)), settled) in each.zip(settled) {
            let Some(in_flight) = state.in_flight.get(&number) else {
                continue;
            };
            let is_stored = settled.is_stored();
            if !is_stored && !in_flight.given_up && in_flight.signal.lease() != lease {
                // A heartbeat renewed the lease meanwhile.
                state.outbox.push((number, end));
                state.outbox_since.get_or_insert_with(Instant::now);
                continue;
            }
            let by_handler = in_flight.signal.is_settled_by_handler();
            let may_be_settled = in_flight.may_be_settled;
            state.in_flight.remove(&number);
            match (is_stored, by_handler) {
                (true, true) if matches!(end, Settle::Retry { .. }) => {
                    // It was counted as done, but the handler's transaction was not committed.
                    state.stats.done = state.stats.done.saturating_sub(1);
                    state.stats.retried += 1;
                }
                (true, _) | (false, true) => {}
                (false, false) if may_be_settled => state.stats.unconfirmed += 1,
                (false, false) => state.stats.lost += 1,
            }
        }
        self.stored.notify_all();
        self.wake_maintainer_in_time(state, Instant::now());
        self.notify_waiters(state);
    }

    /// Back to the outbox, for later.
    fn put_back(&self, state: &mut State, ends: Vec<(ClaimNumber, Settle)>) {
        state.outbox.extend(ends);
        state.outbox_since = Some(Instant::now());
        state.fail(Instant::now());
        self.stored.notify_all();
        self.wake_maintainer_in_time(state, Instant::now());
    }

    /// Gives jobs up whose leases are lost, or that have run for too long: their handlers are told to stop, and none of
    /// them begins. All at once, so that none begins because another one is given up.
    pub(super) fn give_up(&self, numbers: &[ClaimNumber]) {
        let mut state = self.lock();
        for &number in numbers {
            let Some(in_flight) = state.in_flight.get_mut(&number) else {
                continue;
            };
            in_flight.given_up = true;
            in_flight.signal.stop.stop();
            let waiting = state.buffer.len();
            state.buffer.retain(|waiting| waiting.number != number);
            // If it has begun or ended, its settlement will be refused and counted.
            if state.buffer.len() < waiting {
                self.forget_in(&mut state, number);
            }
        }
        self.stored.notify_all();
    }

    /// Requests to cancel these jobs are pending: their handlers are told to stop, and those that have not begun are handed
    /// back, for the broker to remove.
    pub(super) fn cancel(&self, numbers: &[ClaimNumber]) {
        if numbers.is_empty() {
            return;
        }
        let mut state = self.lock();
        for &number in numbers {
            let Some(in_flight) = state.in_flight.get(&number) else {
                continue;
            };
            let is_first = in_flight.signal.cancel();
            state.stats.cancelled += u64::from(is_first);
            let waiting = state.buffer.len();
            state.buffer.retain(|waiting| waiting.number != number);
            if state.buffer.len() < waiting {
                let delay = Duration::ZERO;
                state.stats.released += 1;
                state.outbox.push((number, Settle::Release { delay }));
                state.outbox_since.get_or_insert_with(Instant::now);
            }
        }
        self.wake_maintainer_in_time(&mut state, Instant::now());
    }

    /// Settles a job nowhere: the broker gives it to another consumer when its lease is over.
    fn forget(&self, number: ClaimNumber) {
        self.forget_in(&mut self.lock(), number);
        self.stored.notify_all();
    }

    pub(super) fn forget_in(&self, state: &mut State, number: ClaimNumber) {
        if let Some(in_flight) = state.in_flight.remove(&number) {
            in_flight.signal.stop.stop();
            state.stats.lost += 1;
            self.notify_waiters(state);
        }
    }

    /// While stopping: drops settlements that failed, of jobs whose leases are over by now.
    pub(super) fn drop_lost_ends(&self, now: Instant) {
        let mut state = self.lock();
        let State {
            outbox,
            refused,
            in_flight,
            ..
        } = &mut *state;
        let before = outbox.len() + refused.len();
        for ends in [&mut *outbox, &mut *refused] {
            ends.retain(|(number, _)| {
                let held_until = in_flight.get(number).map(|job| job.held_until);
                let is_lost =
                    held_until.is_none_or(|until| until.is_some_and(|until| until <= now));
                if is_lost {
                    in_flight.remove(number);
                }
                !is_lost
            });
        }
        let lost = before - outbox.len() - refused.len();
        state.stats.lost += lost as u64;
        self.notify_waiters(&state);
    }

    /// Hands back the claimed jobs that have not started.
    pub(super) fn release_buffer(&self) {
        let ends: Vec<(ClaimNumber, Settle)> = {
            let mut state = self.lock();
            let buffer = std::mem::take(&mut state.buffer);
            state.stats.released += buffer.len() as u64;
            buffer
                .into_iter()
                .map(|waiting| {
                    let delay = Duration::ZERO;
                    (waiting.number, Settle::Release { delay })
                })
                .collect()
        };
        self.settle(ends);
    }
}

/// Settlements for one queue.
struct Ends {
    source: usize,
    most: usize,
    numbers: Vec<ClaimNumber>,
    /// One for each number.
    settlements: Vec<(Lease, Settle)>,
}

impl Ends {
    fn new(source: usize, most: usize) -> Ends {
        Ends {
            source,
            most,
            numbers: Vec::new(),
            settlements: Vec::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.settlements.len() >= self.most
    }

    fn push(&mut self, number: ClaimNumber, lease: Lease, settle: Settle) {
        self.numbers.push(number);
        self.settlements.push((lease, settle));
    }

    fn numbered(self) -> impl Iterator<Item = (ClaimNumber, Settle)> {
        let settles = self.settlements.into_iter().map(|(_, settle)| settle);
        self.numbers.into_iter().zip(settles)
    }

    /// Each by itself.
    fn each(self) -> impl Iterator<Item = Ends> {
        let source = self.source;
        let each = self.numbers.into_iter().zip(self.settlements);
        each.map(move |(number, (lease, settle))| {
            let mut one = Ends::new(source, 1);
            one.push(number, lease, settle);
            one
        })
    }
}

/// A delay that the broker can do: none, or the longest that there is.
fn fit(settle: Settle, capabilities: Capabilities) -> Settle {
    let longest = if capabilities.has(Capability::Delay) {
        capabilities.maxima.delay
    } else {
        Duration::ZERO
    };
    match settle {
        Settle::Retry { delay, error } => {
            let delay = delay.min(longest);
            Settle::Retry { delay, error }
        }
        Settle::Release { delay } => {
            let delay = delay.min(longest);
            Settle::Release { delay }
        }
        settle => settle,
    }
}

/// Whether the broker says that it will never take this.
fn is_refusal(error: &QueueError) -> bool {
    matches!(
        error,
        QueueError::Invalid(_) | QueueError::TooLarge { .. } | QueueError::Unsupported { .. }
    )
}

fn note_uncertain(state: &mut State, numbers: &[ClaimNumber], error: &QueueError) {
    for number in numbers.iter().filter(|_| error.is_uncertain()) {
        if let Some(in_flight) = state.in_flight.get_mut(number) {
            in_flight.may_be_settled = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::handlers::Handlers;
    use super::super::options::Options;
    use super::super::sizing::Sizing;
    use super::super::sources::{Source, Sources};
    use super::super::state::InFlight;
    use super::*;
    use crate::broker::{Claimed, Durability, Maxima};
    use crate::{Broker, ClaimRequest, Claims, Enqueued, Extended, JobId, NewJob};
    use anthill::Pool;

    /// Takes three settlements at a time, and is asked nothing here.
    struct Three;

    impl Broker for Three {
        fn capabilities(&self) -> Capabilities {
            let mut capabilities = Capabilities::new("three", Durability::None);
            capabilities.maxima = Maxima {
                batch: 3,
                ..Maxima::default()
            };
            capabilities
        }
        fn enqueue(&self, _: &[NewJob]) -> Result<Vec<Result<Enqueued, QueueError>>, QueueError> {
            Err(QueueError::Busy)
        }
        fn claim(&self, _: &ClaimRequest) -> Result<Claims, QueueError> {
            Err(QueueError::Busy)
        }
        fn extend(&self, _: &[Lease], _: Duration) -> Result<Vec<Extended>, QueueError> {
            Err(QueueError::Busy)
        }
        fn settle(&self, _: &[(Lease, Settle)]) -> Result<Vec<Settled>, QueueError> {
            Err(QueueError::Busy)
        }
        fn subscribe(
            &self,
            _: crate::broker::Listener,
        ) -> Result<crate::broker::Subscription, QueueError> {
            Err(QueueError::Busy)
        }
    }

    #[test]
    fn settlements_are_sent_in_batches_that_each_broker_takes() {
        let source = || Source {
            broker: Arc::new(Three),
            weight: 1,
        };
        let sources = Sources::new(vec![source(), source()]);
        let sizing = Sizing::new(&(1..=1), Duration::ZERO, Duration::ZERO);
        let pool = Pool::with_capacity(1);
        let (handlers, options) = (Handlers::default(), Options::default());
        let shared = Shared::new(sources, handlers, options, &pool, sizing);
        let mut ends = Vec::new();
        for number in 0..10 {
            let job = Claimed::new(Lease::new(JobId::new(), b"1"), "kind", Vec::new());
            let in_flight = InFlight::new(number % 2, &job, None);
            let delay = Duration::from_secs(1);
            ends.push((
                shared.lock().add(job, in_flight).number,
                Settle::Release { delay },
            ));
        }
        ends.push((1_000, Settle::Release { delay: FOR_EVER }));
        let batches = shared.batches(ends);
        let sizes = batches
            .iter()
            .map(|batch| (batch.source, batch.numbers.len()));
        assert_eq!(
            sizes.collect::<Vec<_>>(),
            [(0, 3), (1, 3), (0, 2), (1, 2)],
            "and none for a job that is not in flight"
        );
        let is_at_once = |(_, end): &(Lease, Settle)| {
            matches!(
                end,
                Settle::Release {
                    delay: Duration::ZERO
                }
            )
        };
        assert!(
            batches
                .iter()
                .all(|batch| batch.settlements.iter().all(is_at_once)),
            "a broker without delays is asked for none"
        );
    }

    #[test]
    fn an_outage_is_no_refusal_of_one_settlement() {
        let source = Source {
            broker: Arc::new(Three),
            weight: 1,
        };
        let sizing = Sizing::new(&(1..=1), Duration::ZERO, Duration::ZERO);
        let pool = Pool::with_capacity(1);
        let (handlers, options) = (Handlers::default(), Options::default());
        let shared = Shared::new(Sources::new(vec![source]), handlers, options, &pool, sizing);
        for is_outage in [true, false] {
            let mut state = shared.lock();
            let job = Claimed::new(Lease::new(JobId::new(), b"1"), "kind", Vec::new());
            let in_flight = InFlight::new(0, &job, None);
            let number = state.add(job, in_flight).number;
            // Another one was answered just as it began.
            let before = state.settled;
            state.settled += 1;
            let is_refused = (0..100).any(|_| state.note_refusal(number, before, is_outage));
            assert!(!is_refused, "{is_outage}");
            // Others are taken all the time.
            let refusals = (1..100).find(|_| {
                state.settled += 1;
                state.answers += 1;
                let before = state.settled;
                state.note_refusal(number, before, is_outage)
            });
            assert_eq!(
                refusals,
                Some(if is_outage { 21 } else { 2 }),
                "{is_outage}"
            );
        }
    }
}
