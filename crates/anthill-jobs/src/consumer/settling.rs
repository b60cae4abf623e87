//! How a job's end reaches the broker: several settlements together, in the order in which the jobs ended; again and
//! again where the broker fails; and as a dead letter where it will never take them.

use super::batch::FinishedBatch;
use super::guard::guard;
use super::shared::Shared;
use super::state::{MAX_BATCH, OUTBOX_TIME, State};
use crate::broker::{Lease, Settle};
use crate::error::QueueError;
use std::collections::BTreeMap;
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
        for (claimed, end) in finished.claimed.iter().zip(finished.ends) {
            let in_flight = state.in_flight.get_mut(&claimed.lease);
            let has_succeeded = in_flight.is_some_and(|in_flight| {
                in_flight.has_ended = true;
                in_flight.signal.has_succeeded()
            });
            self.count_end(state, &end, has_succeeded, now);
            state.outbox.push((claimed.lease, end));
        }
        let since = *state.outbox_since.get_or_insert(now);
        self.wake_maintainer_in_time(state, now);
        is_fragile
            || state.buffer.is_empty()
            || !state.is_quick()
            || state.outbox.len() >= MAX_BATCH
            || now.saturating_duration_since(since) >= OUTBOX_TIME
    }

    fn count_end(&self, state: &mut State, end: &Settle, has_succeeded: bool, now: Instant) {
        let is_dead = matches!(end, Settle::Dead { .. });
        if matches!(end, Settle::Done { .. }) || (is_dead && has_succeeded) {
            state.stats.done += 1;
            // A job whose result was refused.
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

    pub(super) fn settle(&self, ends: Vec<(Lease, Settle)>) {
        if ends.is_empty() {
            return;
        }
        for (source, ends) in self.by_source(ends) {
            self.settle_in(source, ends);
        }
    }

    /// By queue, without those that are not in flight any more.
    fn by_source(&self, ends: Vec<(Lease, Settle)>) -> BTreeMap<usize, Vec<(Lease, Settle)>> {
        let state = self.lock();
        let mut by_source: BTreeMap<usize, Vec<_>> = BTreeMap::new();
        for end in ends {
            if let Some(in_flight) = state.in_flight.get(&end.0) {
                by_source.entry(in_flight.source).or_default().push(end);
            }
        }
        by_source
    }

    fn settle_in(&self, source: usize, ends: Vec<(Lease, Settle)>) {
        if self.lock().settles_one_by_one {
            return self.settle_one_by_one(source, ends, false);
        }
        let settled = guard(|| self.sources.broker(source).settle(&ends));
        let mut state = self.lock();
        match settled {
            Ok(settled) => self.note_settled(&mut state, &ends, &settled),
            // They stay ours, as long as heartbeats extend their leases, and are settled again.
            Err(error) => {
                // One of them may be a settlement that the broker will never take.
                state.settles_one_by_one = true;
                self.put_back(&mut state, ends);
                drop(state);
                self.report(&error);
            }
        }
    }

    /// Settles each by itself; those that fail are repeated later, and hold up no other. One that fails again and again
    /// while others do not is one that the broker will never take: the job becomes a dead letter, with the reason.
    fn settle_one_by_one(&self, source: usize, ends: Vec<(Lease, Settle)>, again: bool) {
        let broker = self.sources.broker(source);
        let settled_before = self.lock().settled;
        let mut failed = Vec::new();
        for end in ends {
            match guard(|| broker.settle(std::slice::from_ref(&end))) {
                Ok(settled) => self.note_settled(&mut self.lock(), &[end], &settled),
                Err(error) => failed.push((end, error)),
            }
        }
        let mut refused = Vec::new();
        for ((lease, end), error) in failed {
            self.report(&error);
            let is_busy = matches!(error, QueueError::Busy);
            let is_lasting = !is_busy && self.lock().note_refusal(lease, settled_before);
            match end {
                Settle::Dead { .. } if is_lasting => self.forget(lease),
                _ if is_lasting => {
                    let error = format!("its end could not be stored: {error}");
                    refused.push((lease, Settle::Dead { error }));
                }
                end => refused.push((lease, end)),
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
        for (source, ends) in self.by_source(refused) {
            self.settle_one_by_one(source, ends, true);
        }
    }

    fn note_settled(&self, state: &mut State, ends: &[(Lease, Settle)], settled: &[bool]) {
        state.settled += ends.len() as u64;
        state.answers += 1;
        for ((lease, _), &was_held) in ends.iter().zip(settled) {
            state.in_flight.remove(lease);
            state.stats.lost += u64::from(!was_held);
        }
        self.stored.notify_all();
        self.notify_waiters(state);
    }

    /// Back to the outbox, for later.
    fn put_back(&self, state: &mut State, ends: Vec<(Lease, Settle)>) {
        state.outbox.extend(ends);
        state.outbox_since = Some(Instant::now());
        state.fail(Instant::now());
        self.stored.notify_all();
        self.wake_maintainer_in_time(state, Instant::now());
    }

    /// Gives jobs up whose leases are lost, or that have run for too long: their handlers are told to stop, and none of
    /// them begins. All at once, so that none begins because another one is given up.
    pub(super) fn give_up(&self, leases: &[Lease]) {
        let mut state = self.lock();
        for lease in leases {
            let Some(in_flight) = state.in_flight.get_mut(lease) else {
                continue;
            };
            in_flight.given_up = true;
            in_flight.signal.stop.stop();
            let waiting = state.buffer.len();
            state.buffer.retain(|waiting| waiting.job.lease != *lease);
            // If it has begun or ended, its settlement will be refused and counted.
            if state.buffer.len() < waiting {
                self.forget_in(&mut state, *lease);
            }
        }
        self.stored.notify_all();
    }

    /// Settles a job nowhere: the broker gives it to another consumer when its lease is over.
    fn forget(&self, lease: Lease) {
        self.forget_in(&mut self.lock(), lease);
        self.stored.notify_all();
    }

    pub(super) fn forget_in(&self, state: &mut State, lease: Lease) {
        if let Some(in_flight) = state.in_flight.remove(&lease) {
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
            ends.retain(|(lease, _)| {
                let held_until = in_flight.get(lease).map(|job| job.held_until);
                let is_lost =
                    held_until.is_none_or(|until| until.is_some_and(|until| until <= now));
                if is_lost {
                    in_flight.remove(lease);
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
        let ends: Vec<(Lease, Settle)> = {
            let mut state = self.lock();
            let buffer = std::mem::take(&mut state.buffer);
            state.stats.released += buffer.len() as u64;
            buffer
                .into_iter()
                .map(|waiting| {
                    let delay = Duration::ZERO;
                    (waiting.job.lease, Settle::Release { delay })
                })
                .collect()
        };
        self.settle(ends);
    }
}
