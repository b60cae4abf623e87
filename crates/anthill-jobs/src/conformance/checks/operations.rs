//! What a random run does in a step, to the broker and to the model.

use super::model::Place;
use super::prelude::*;
use super::random::{Run, chance, listed, millis, random_limits};

impl Run<'_> {
    fn random_job(&mut self, delay: Duration) -> NewJob {
        let mut job = NewJob::new(["a", "b"][self.rng.usize(0..2)], Vec::new());
        if chance(self.rng, 0.05) {
            job.id = self.some_id();
        }
        job.payload = job.id.as_bytes().to_vec();
        job.priority = [0, 0, 0, 1, -1][self.rng.usize(0..5)];
        job.attempts = self.rng.u32(1..4);
        if chance(self.rng, 0.3) {
            job.delay = delay;
        }
        let period = self.some_time(20_000);
        let mut unique = || format!("unique {}", self.rng.u32(0..4));
        let (one, other) = (unique(), unique());
        job.unique = chance(self.rng, 0.2).then_some(one);
        job.once_per = chance(self.rng, 0.1).then_some(OncePer { key: other, period });
        job.debounce = job.unique.is_some() && chance(self.rng, 0.3);
        if job.debounce && !job.delay.is_zero() {
            // Who is first of two that are due at once, one of which was put off, no rule says.
            job.delay += Duration::from_micros(self.rng.u64(1..200));
        }
        job.key = chance(self.rng, 0.5).then(|| format!("key {}", self.rng.u32(0..3)));
        let expires = self.some_time(30_000);
        job.expires = chance(self.rng, 0.2).then_some(expires);
        let keep = self.some_time(30_000);
        job.keep_result = chance(self.rng, 0.4).then_some(keep);
        job
    }

    pub(super) fn enqueue(&mut self) {
        // Those of one batch may be due at once.
        let delay = self.some_time(20_000);
        let jobs: Vec<NewJob> = (0..self.rng.usize(1..6))
            .map(|_| self.random_job(delay))
            .collect();
        for job in &jobs {
            let name = format!("job {}", self.names.len());
            self.names.entry(job.id).or_insert(name);
            self.tell(&format!("enqueue {}: {job:?}", self.name(job.id)));
        }
        let expected = self.model.enqueue(&jobs);
        assert_eq!(self.on().enqueue(&jobs), expected);
    }

    pub(super) fn claim(&mut self) {
        let limit = self.rng.usize(1..6);
        let lease = millis(self.rng.u64(1..15_000));
        let mut request = ClaimRequest::new(limit, lease);
        let kinds: &[&str] =
            [&["a", "b"][..], &["a"], &["b"], &["b", "c", "b"]][self.rng.usize(0..4)];
        if chance(self.rng, 0.6) {
            let kinds: Vec<String> = kinds.iter().map(|&kind| kind.to_owned()).collect();
            request.kinds = Some(kinds.into());
        }
        request.fragile = chance(self.rng, 0.8);
        let claims = self.on().claims_by(&request);
        let kinds = request.kinds.as_deref();
        let names: Vec<&str> = claims
            .jobs
            .iter()
            .map(|job| self.name(job.lease.id()))
            .collect();
        let names = names.join(", ");
        self.tell(&format!(
            "claim {limit} of {kinds:?} for {lease:?}, fragile or not: {}; {names}; again in {:?}",
            request.fragile, claims.again_in
        ));
        let claimed: Vec<JobId> = claims.jobs.iter().map(|job| job.lease.id()).collect();
        let mut was_fragile = false;
        for job in &claims.jobs {
            was_fragile = self.model.is_fragile(job.lease.id());
            assert_eq!(job.is_fragile, was_fragile);
            assert!(
                !was_fragile || (claimed.len() == 1 && request.fragile),
                "by itself"
            );
            let name = self.name(job.lease.id()).to_owned();
            let next = self.model.next(kinds).map(|id| self.name(id).to_owned());
            assert_eq!(Some(&name), next.as_ref(), "who is next");
            let claimed = self.model.claim_one(kinds, job.lease.clone(), lease);
            assert_eq!(
                claimed,
                Some(job.attempt),
                "the rate, or the attempt of {name}"
            );
            let entry = self.model.find(job.lease.id()).expect("it is there");
            assert_eq!(job.payload, entry.job.payload);
            assert!(!self.leases.contains(&job.lease), "a lease is given twice");
            self.leases.push(job.lease.clone());
        }
        // As it was for this claim: that jobs wait from now on is for the next one.
        let rate_in = self.model.rate_in();
        self.model.end_claim(&claimed, kinds);
        let next = self.model.next(kinds);
        if claims.fragile_next {
            let next = next.expect("there is a next one");
            assert!(self.model.is_fragile(next), "{} is next", self.name(next));
        }
        let got_less = claims.jobs.len() < limit && !was_fragile && !claims.fragile_next;
        if let Some(next) = next.filter(|_| got_less) {
            assert!(!rate_in.is_zero(), "{} may start", self.name(next));
        }
        // Who sleeps as long as he is told misses nothing.
        let rate = next.filter(|_| got_less).map(|_| rate_in);
        if let Some(first) = self.model.next_event().into_iter().chain(rate).min() {
            let again = claims.again_in.expect("something will happen");
            assert!(again <= first, "again in {again:?}, and not in {first:?}");
        }
        if claims.jobs.is_empty() {
            assert_ne!(
                claims.again_in,
                Some(Duration::ZERO),
                "this would be a busy loop"
            );
        }
    }

    /// Of those that were given lately: perhaps of a job that is another one's by now.
    fn some_leases(&mut self) -> Vec<Lease> {
        let recent = self.leases.len().saturating_sub(12);
        let recent = &self.leases[recent..];
        (0..self.rng.u32(1..4))
            .filter_map(|_| self.rng.choice(recent).cloned())
            .collect()
    }

    pub(super) fn settle(&mut self) {
        let mut ends = Vec::new();
        for lease in self.some_leases() {
            let error = format!("error of step {}", self.step);
            let delay = if self.rng.bool() {
                Duration::ZERO
            } else {
                self.some_time(10_000)
            };
            let end = match self.rng.u32(0..10) {
                0..3 => Settle::Done {
                    result: self.step.to_string().into_bytes(),
                },
                3..7 => Settle::Retry { delay, error },
                7..8 => Settle::Dead { error },
                _ => Settle::Release { delay },
            };
            self.tell(&format!(
                "settle {} {lease:?}: {end:?}",
                self.name(lease.id())
            ));
            ends.push((lease, end));
        }
        let settled = self.on().settle_all(&ends);
        let expected: Vec<bool> = ends
            .iter()
            .map(|(lease, end)| self.model.settle(lease, end))
            .collect();
        assert_eq!(settled, expected);
    }

    pub(super) fn advance(&mut self) {
        let time = millis(self.rng.u64(0..8_000));
        self.tell(&format!("advance {time:?}"));
        self.on().pass(time);
        self.model.advance(time);
    }

    pub(super) fn extend(&mut self) {
        let mut leases = self.some_leases();
        // One that is extended may have another token from then on.
        leases.sort_by(|one, other| one.token().cmp(other.token()));
        leases.dedup();
        let time = millis(self.rng.u64(1..15_000));
        self.tell(&format!("extend by {time:?} {leases:?}"));
        let extended = ok(self.on().broker.extend(&leases, time));
        assert_eq!(extended.len(), leases.len());
        for (lease, extended) in leases.iter().zip(&extended) {
            let newest = extended.held().cloned();
            assert_eq!(
                newest.is_some(),
                self.model.extend(lease, newest.as_ref(), time)
            );
            if let Some(newest) = newest {
                self.leases.retain(|known| known != lease);
                self.leases.push(newest);
            }
        }
    }

    pub(super) fn progress(&mut self) {
        for lease in self.some_leases() {
            self.tell(&format!("progress of {} {lease:?}", self.name(lease.id())));
            let progress = self.step.to_string().into_bytes();
            let there = ok(self.on().broker.progress(&lease, &progress));
            assert_eq!(there, self.model.progress(&lease, &progress));
        }
    }

    pub(super) fn cancel(&mut self) {
        let id = self.some_id();
        self.tell(&format!("cancel {}", self.name(id)));
        let there = ok(self.on().admin().cancel(id));
        assert_eq!(
            there,
            self.model.take_away(id, &[Place::Waiting, Place::Delayed])
        );
    }

    pub(super) fn delete(&mut self) {
        let id = self.some_id();
        self.tell(&format!("delete {}", self.name(id)));
        let there = ok(self.on().admin().delete(id));
        assert_eq!(there, self.model.take_away(id, &[Place::Dead, Place::Done]));
    }

    pub(super) fn retry_dead(&mut self) {
        let dead = self
            .model
            .jobs
            .iter()
            .filter(|entry| entry.place == Place::Dead);
        let dead: Vec<JobId> = dead.map(|entry| entry.job.id).collect();
        let id = self.rng.choice(dead).unwrap_or_else(|| self.some_id());
        self.tell(&format!("retry_dead {}", self.name(id)));
        let there = ok(self.on().admin().retry_dead(id));
        assert_eq!(there, self.model.retry_dead(id));
    }

    pub(super) fn pause(&mut self) {
        let paused = chance(self.rng, 0.3);
        self.tell(&format!("set_paused {paused}"));
        ok(self.on().admin().set_paused(paused));
        self.model.set_paused(paused);
    }

    pub(super) fn limit(&mut self) {
        let limits = random_limits(self.rng, self.model.limits.rate);
        self.tell(&format!("{limits:?}"));
        self.on().limit(limits);
        self.model.limits = limits;
        assert_eq!(ok(self.on().limits().limits()), limits);
    }

    pub(super) fn purge(&mut self) {
        let states = [
            JobState::Ready,
            JobState::Parked,
            JobState::Delayed,
            JobState::Dead,
            JobState::Done,
        ];
        let state = states[self.rng.usize(0..states.len())];
        // Which ones are parked is the broker's to say.
        let on = self.on();
        let ids: Vec<JobId> = listed(&on, state).iter().map(|job| job.id).collect();
        self.tell(&format!("purge {state:?}"));
        assert_eq!(ok(on.admin().purge(&[state])), ids.len() as u64);
        for id in ids {
            assert!(self.model.take_away(id, &[Place::of(state)]));
        }
    }

    pub(super) fn reopen(&mut self) {
        let is_durable = self.other.survives_restarts();
        let on = self.on.take().expect("it is open");
        if is_durable {
            self.tell("reopen");
            self.on = Some(on.reopen());
        } else {
            self.on = Some(on);
        }
    }
}
