//! How a runner gets its next batch: from the buffer, or by a claim.

use super::batch::{Batch, FinishedBatch, FragilePermit};
use super::handlers::Handler;
use super::shared::Shared;
use super::sources::Found;
use super::state::{Buffered, InFlight, State};
use crate::broker::{ClaimRequest, Settle};
use crate::error::QueueError;
use crate::sync::wait_until;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a claim led to.
pub(super) enum ClaimOutcome {
    /// There is nothing to do now.
    Nothing,
    /// There is something in the buffer, or another claim may find something.
    LookAgain,
    Fragile(Buffered),
}

impl Shared {
    /// Records how the last batch ended, and returns the next one; `None` ends the runner.
    pub(super) fn next(self: &Arc<Self>, finished: Option<FinishedBatch>) -> Option<Batch> {
        let mut now = finished
            .as_ref()
            .map_or_else(Instant::now, |finished| finished.at);
        let mut finished = finished;
        loop {
            let limit = {
                let mut state = self.lock();
                let is_flush_due = finished
                    .take()
                    .is_some_and(|finished| self.record_finished(&mut state, finished));
                if is_flush_due {
                    drop(state);
                    self.flush();
                    now = Instant::now();
                    continue;
                }
                let is_surplus = state.runners > state.most_runners() && state.buffer.is_empty();
                if state.stopping || self.pool.is_closed() || is_surplus {
                    return None;
                }
                if state.is_held_up(now) {
                    drop(state);
                    self.release_buffer();
                    return None;
                }
                if let Some(batch) = self.take_from_buffer(&mut state, now) {
                    return Some(batch);
                }
                state.claim_limit(self.handlers.max_batch())
            };
            self.flush();
            let permit = {
                let mut state = self.lock();
                if !state.is_claimable(Instant::now()) {
                    return None;
                }
                state.may_claim = false;
                FragilePermit::take_if_next(self, &mut state)
            };
            let mut request = self.claim_request(limit);
            request.fragile = permit.is_some();
            // The broker counts the lease from when it gets the request, or later.
            let asked = Instant::now();
            let claimed = self.sources.claim(&request);
            now = Instant::now();
            match (self.record_claims(claimed, asked, now), permit) {
                (ClaimOutcome::Nothing, _) => return None,
                (ClaimOutcome::Fragile(job), Some(permit)) => {
                    return self.begin_fragile(job, permit);
                }
                // A broker that gives a fragile job unasked: it begins like any other.
                (ClaimOutcome::Fragile(job), None) => {
                    return Some(self.begin_batch(&mut self.lock(), vec![job], now));
                }
                (ClaimOutcome::LookAgain, _) => {}
            }
        }
    }

    pub(super) fn claim_request(&self, limit: usize) -> ClaimRequest {
        ClaimRequest::new(limit, self.options.lease)
            .of_kinds(Arc::clone(&self.kinds))
            .by(Arc::clone(&self.id))
    }

    /// U5: waits until the settlements of other fragile jobs are stored. If they cannot be, or the consumer stops, the job
    /// is released.
    fn begin_fragile(&self, job: Buffered, permit: FragilePermit) -> Option<Batch> {
        loop {
            let mut state = self.lock();
            let now = Instant::now();
            let number = job.number;
            let is_lost = |in_flight: &InFlight| in_flight.given_up;
            if state.in_flight.get(&number).is_none_or(is_lost) {
                self.forget_in(&mut state, number);
                return None;
            }
            let owes_ends = state.owes_fragile_ends();
            if owes_ends && !state.refused.is_empty() {
                // Claim on meanwhile: only other settlements show whether the broker refuses these alone, or all.
                state.not_before = state.not_before.max(state.refused_until);
            }
            let is_over = state.stopping || self.pool.is_closed();
            if is_over || (owes_ends && state.is_held_up(now)) {
                let delay = Duration::ZERO;
                let end = (number, Settle::Release { delay });
                state.stats.released += 1;
                state.outbox.push(end);
                state.outbox_since.get_or_insert(now);
                self.wake_maintainer_in_time(&mut state, now);
                return None;
            }
            if owes_ends {
                if state.outbox.is_empty() {
                    // Another thread settles them right now.
                    drop(wait_until(&self.stored, state, None));
                } else {
                    drop(state);
                    self.flush();
                }
                continue;
            }
            let mut batch = self.begin_batch(&mut state, vec![job], now);
            batch.permit = Some(permit);
            return Some(batch);
        }
    }

    /// A job from the buffer, or several that are handled together.
    fn take_from_buffer(&self, state: &mut State, now: Instant) -> Option<Batch> {
        let first = state.buffer.pop_front()?;
        let number = self.handlers.number(&first.job.kind);
        let kind = self.handlers.find(&first.job.kind);
        let mut jobs = vec![first];
        if let Some(Handler::All { limit, .. }) = kind.map(|kind| &kind.handler) {
            let mut others = VecDeque::new();
            while let Some(next) = state.buffer.pop_front() {
                let is_same_kind = self.handlers.number(&next.job.kind) == number;
                if is_same_kind && jobs.len() < *limit {
                    jobs.push(next);
                } else {
                    others.push_back(next);
                }
            }
            state.buffer = others;
        }
        Some(self.begin_batch(state, jobs, now))
    }

    /// Hands jobs of one kind to a runner, which begins them now.
    fn begin_batch(&self, state: &mut State, jobs: Vec<Buffered>, now: Instant) -> Batch {
        let kind = jobs.first();
        let kind = kind.and_then(|first| self.handlers.find(&first.job.kind));
        if let Some(run_time) = kind.and_then(|kind| kind.run_time) {
            let until = now.checked_add(run_time);
            for Buffered { number, .. } in &jobs {
                if let Some(in_flight) = state.in_flight.get_mut(number) {
                    in_flight.run_until = until;
                }
            }
        }
        state.last_progress = now;
        self.wake_maintainer_in_time(state, now);
        let has_slots = state.has_slots();
        Batch {
            jobs,
            permit: None,
            has_more: has_slots && (state.may_claim || !state.buffer.is_empty()),
        }
    }

    /// Records what a claim found.
    pub(super) fn record_claims(
        self: &Arc<Self>,
        claimed: Result<Found, QueueError>,
        asked: Instant,
        now: Instant,
    ) -> ClaimOutcome {
        let mut state = self.lock();
        let found = match claimed {
            Ok(found) => found,
            Err(error) => {
                state.fail(now);
                self.wake_maintainer_in_time(&mut state, now);
                drop(state);
                self.report(&error);
                return ClaimOutcome::Nothing;
            }
        };
        if !found.errors.is_empty() {
            drop(state);
            found.errors.iter().for_each(|error| self.report(error));
            state = self.lock();
        }
        if std::mem::take(&mut state.failures) > 0 {
            self.reports.works();
        }
        state.answers += 1;
        let Found {
            claims,
            limit,
            source,
            is_part,
            ..
        } = found;
        // As long as fragile jobs come they are asked for.
        let is_fragile = claims.jobs.first().is_some_and(|job| job.is_fragile);
        state.fragile_next = claims.fragile_next || is_fragile;
        if claims.fragile_next && claims.jobs.is_empty() {
            state.may_claim = true;
            return ClaimOutcome::LookAgain;
        }
        state.again_at = claims.again_in.and_then(|time| now.checked_add(time));
        let Some(waited) = claims.jobs.iter().map(|job| job.waited).max() else {
            state.sizing.saw_nothing(now);
            let again = state.may_claim;
            self.wake_maintainer_in_time(&mut state, now);
            if state.has_news {
                // A manual clock may have been moved.
                self.maintainer.notify_one();
            }
            return if again {
                ClaimOutcome::LookAgain
            } else {
                ClaimOutcome::Nothing
            };
        };
        state.may_claim |= claims.jobs.len() == limit || state.fragile_next || is_part;
        let runners = state.runners - state.replaced;
        state.sizing.saw_work(now, waited, runners);
        state.stats.claimed += claims.jobs.len() as u64;
        let is_first = !(state.in_flight.values()).any(|in_flight| in_flight.source == source);
        let mut fragile = None;
        for job in claims.jobs {
            let held_until = asked.checked_add(self.options.lease);
            let in_flight = InFlight::new(source, &job, held_until);
            let buffered = state.add(job, in_flight);
            if buffered.job.is_fragile {
                fragile = Some(buffered);
            } else {
                state.buffer.push_back(buffered);
            }
        }
        state.last_progress = now;
        self.wake_maintainer_in_time(&mut state, now);
        if is_first {
            // Heartbeats are due from now on.
            self.heartbeat.notify_all();
        }
        fragile.map_or(ClaimOutcome::LookAgain, ClaimOutcome::Fragile)
    }
}
