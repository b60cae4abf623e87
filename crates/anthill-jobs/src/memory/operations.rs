//! The operations of the broker, under its lock.

use super::entry::Entry;
use super::index::Slot;
use super::store::{KeyOwner, Store, lease};
use super::time::{Now, nanos};
use crate::broker::{ClaimRequest, Claimed, Claims, Enqueued, JobState, Settle};
use crate::error::QueueError;
use crate::id::JobId;
use crate::job::NewJob;
use crate::max_ready::exceeds_room;
use crate::rate;
use std::time::Duration;

/// Whether the unique keys of a new job are free.
enum Uniqueness {
    Free,
    /// Another job has one: the new job is a duplicate of it.
    Duplicate(JobId),
    /// A waiting job has it, and gets the data and the delay of the new one.
    Debounces(Slot),
}

impl Store {
    /// B1. Runs after `sweep`, so that what was due before goes before, and what has expired has no key.
    pub(super) fn enqueue_all(
        &mut self,
        jobs: &[NewJob],
        now: Now,
    ) -> Result<Vec<Enqueued>, QueueError> {
        if let Some(limit) = self.limits.max_ready {
            let there = self.index.len(JobState::Ready) + self.index.len(JobState::Parked);
            let room = limit.saturating_sub(there as u64);
            let is_duplicate = |job: &NewJob| Ok(self.is_duplicate(job));
            if exceeds_room(jobs, room, is_duplicate)? {
                return Err(QueueError::Full { limit });
            }
        }
        Ok(jobs.iter().map(|job| self.enqueue(job, now)).collect())
    }

    /// Whether a stored job has its id or one of its keys, so that it would not be added.
    fn is_duplicate(&self, job: &NewJob) -> bool {
        self.ids.contains_key(&job.id) || !matches!(self.check_unique(job), Uniqueness::Free)
    }

    fn check_unique(&self, job: &NewJob) -> Uniqueness {
        let once_key = job.once_per.as_ref().map(|once| &once.key);
        // A debounced job debounces itself, whatever its period is.
        let is_own = job.debounce && once_key == job.unique.as_ref();
        let once_owner = once_key.and_then(|key| self.uniques.get(key));
        if let Some(owner) = once_owner.filter(|_| !is_own) {
            return Uniqueness::Duplicate(owner.id);
        }
        let Some(owner) = job.unique.as_ref().and_then(|key| self.uniques.get(key)) else {
            return Uniqueness::Free;
        };
        if job.debounce && owner.is_held {
            let waits = |&slot: &Slot| JobState::WAITING.contains(&self.get(slot).state);
            let waiting = self.find(owner.id).filter(waits);
            // If it runs, the new job comes after it.
            return waiting.map_or(Uniqueness::Free, Uniqueness::Debounces);
        }
        Uniqueness::Duplicate(owner.id)
    }

    pub(super) fn enqueue(&mut self, job: &NewJob, now: Now) -> Enqueued {
        if self.ids.contains_key(&job.id) {
            return self.duplicate(job.id);
        }
        match self.check_unique(job) {
            Uniqueness::Free => {}
            Uniqueness::Duplicate(owner) => return self.duplicate(owner),
            Uniqueness::Debounces(slot) => {
                let id = self.get(slot).id;
                self.debounce_onto(slot, job, now);
                return self.duplicate(id);
            }
        }
        let once_key = job.once_per.as_ref().map(|once| &once.key);
        let until = job.once_per.as_ref().map(|once| {
            let until = now.time.saturating_add(once.period);
            self.periods.insert((until, once.key.clone()));
            until
        });
        if let Some(once) = &job.once_per {
            let is_held = job.unique.as_ref() == Some(&once.key);
            self.uniques.insert(
                once.key.clone(),
                KeyOwner {
                    id: job.id,
                    is_held,
                    until,
                },
            );
        }
        if let Some(key) = job.unique.as_ref().filter(|&key| Some(key) != once_key) {
            self.uniques.insert(
                key.clone(),
                KeyOwner {
                    id: job.id,
                    is_held: true,
                    until: None,
                },
            );
        }
        self.add(job, now);
        Enqueued::Added(job.id)
    }

    fn duplicate(&mut self, of: JobId) -> Enqueued {
        self.counts.duplicates += 1;
        Enqueued::Duplicate(of)
    }

    fn add(&mut self, job: &NewJob, now: Now) {
        self.counts.enqueued += 1;
        let order = self.next_order();
        let kind = self.index.number(job.kind.clone());
        let entry = Entry::new(job, kind, order, now);
        let slot = self.free.pop().unwrap_or(self.slab.len());
        if slot == self.slab.len() {
            self.slab.push(None);
        }
        let (state, rank) = if job.delay.is_zero() {
            (JobState::Ready, entry.turn())
        } else {
            (JobState::Delayed, (nanos(entry.due), order))
        };
        self.slab[slot] = Some(Box::new(entry));
        self.ids.insert(job.id, slot);
        self.link(slot, state, rank);
        if let Some(key) = &job.key {
            self.balance_key(key);
        }
        self.expire_again(slot);
    }

    /// Gives a waiting job the data of a newer one; it waits anew.
    fn debounce_onto(&mut self, slot: Slot, job: &NewJob, now: Now) {
        let number = self.index.number(job.kind.clone());
        let order = self.next_order();
        self.change_state(slot, |entry| {
            entry.kind = number;
            entry.payload.clone_from(&job.payload);
            entry.set_headers(&job.headers);
            entry.due = now.time.saturating_add(job.delay);
            entry.order = order;
            entry.keeps_place = false;
            entry.ready_since = now.time;
            if job.delay.is_zero() {
                (JobState::Ready, entry.turn())
            } else {
                (JobState::Delayed, (nanos(entry.due), order))
            }
        });
    }

    // ── claims ──────────────────────────────────────────────────────────────────────────────

    pub(super) fn claim(&mut self, request: &ClaimRequest, now: Now) -> Claims {
        self.sweep(now);
        let mut claims = Claims::default();
        let mut wait = None;
        if !self.counts.paused && request.limit > 0 {
            let running = self.index.len(JobState::Running);
            let room = (self.limits.running).map_or(request.limit, |limit| {
                (limit as usize).saturating_sub(running)
            });
            wait = self.claim_some(request, request.limit.min(room), now, &mut claims);
        }
        let until = |state, now| {
            let (rank, _) = self.index.first(state)?;
            let left = u64::try_from((rank.0 - nanos(now)).max(0)).unwrap_or(u64::MAX);
            Some(Duration::from_nanos(left))
        };
        let times = [
            wait,
            until(JobState::Delayed, now.time),
            until(JobState::Running, now.steady),
        ];
        claims.again_in = times.into_iter().flatten().min();
        claims
    }

    /// Returns how long to wait if the rate limit allows no more.
    fn claim_some(
        &mut self,
        request: &ClaimRequest,
        limit: usize,
        now: Now,
        claims: &mut Claims,
    ) -> Option<Duration> {
        let kinds = request.kinds.as_ref().map(|kinds| {
            let known = kinds.iter().filter_map(|kind| self.index.known(kind));
            known.collect::<Vec<u32>>()
        });
        let mut limit = limit;
        let mut admitted = None;
        if let Some(rate) = self.limits.rate {
            match rate::admit(rate, self.rate_kept, self.rate_is_behind, now.steady, limit) {
                Ok(some) => {
                    limit = some.jobs;
                    admitted = Some((rate, some));
                }
                Err(wait) => {
                    self.rate_is_behind = self.index.first_ready(kinds.as_deref()).is_some();
                    return self.rate_is_behind.then_some(wait);
                }
            }
        }
        while claims.jobs.len() < limit {
            let Some(slot) = self.index.first_ready(kinds.as_deref()) else {
                break;
            };
            let is_fragile = self.get(slot).is_fragile();
            if is_fragile && !(request.fragile && claims.jobs.is_empty()) {
                claims.fragile_next = true;
                break;
            }
            let claimed = self.start(slot, request, now);
            claims.jobs.push(claimed);
            if is_fragile {
                break;
            }
        }
        if let [_, _, ..] = &claims.jobs[..] {
            let leases = claims.jobs.iter().map(|job| &job.lease);
            let slots: Vec<Slot> = leases
                .filter_map(|lease| self.slot_of_lease(lease))
                .collect();
            for slot in slots {
                self.get_mut(slot).is_together = true;
            }
        }
        let (rate, admitted) = admitted?;
        self.rate_kept = admitted.after(claims.jobs.len());
        self.rate_is_behind = self.index.first_ready(kinds.as_deref()).is_some();
        if !self.rate_is_behind {
            return None;
        }
        rate::admit(rate, self.rate_kept, true, now.steady, 1).err()
    }

    fn start(&mut self, slot: Slot, request: &ClaimRequest, now: Now) -> Claimed {
        let consumer = request.consumer.as_ref();
        let runner = consumer.and_then(|id| self.runners.add(id));
        self.expire_never(slot);
        let bounds_keys = self.limits.per_key.is_some();
        let entry = self.slab[slot].as_mut().expect("a ready job is there");
        let is_fragile = entry.is_fragile();
        entry.runner = runner;
        entry.is_together = false;
        entry.attempt += 1;
        entry.claims += 1;
        let extra = entry.extra();
        let claimed = Claimed {
            lease: lease(entry.id, slot, entry.claims),
            headers: extra.headers(),
            kind: self.index.name(entry.kind).clone(),
            payload: entry.payload.clone(),
            attempt: entry.attempt,
            attempts: entry.attempts,
            waited: now.time.saturating_sub(entry.ready_since),
            is_fragile,
            is_exclusive: extra.unique.is_some() || (extra.key.is_some() && bounds_keys),
            keeps_result: extra.keep_result.is_some(),
        };
        let rank = (nanos(now.steady.saturating_add(request.lease)), entry.order);
        self.move_to(slot, JobState::Running, rank);
        claimed
    }

    /// Extends all leases that were not over at `from`, because no heartbeat could extend them meanwhile.
    pub(super) fn extend_all(&mut self, from: Duration, time: Duration) {
        let running: Vec<Slot> = self.index.all(JobState::Running, None).collect();
        for slot in running {
            let (ends, order) = self.get(slot).rank;
            if ends > nanos(from) {
                let ends = ends.saturating_add(nanos(time));
                self.move_to(slot, JobState::Running, (ends, order));
            }
        }
    }

    pub(super) fn settle(&mut self, slot: Slot, end: &Settle, now: Now) {
        let is_release = matches!(end, Settle::Release { .. });
        let goes_on = is_release || matches!(end, Settle::Retry { .. });
        if self.end_attempt(slot) && goes_on {
            self.remove_by_request(slot);
            return;
        }
        let entry = self.get_mut(slot);
        // A consumer that reports the end has survived the attempt.
        entry.is_suspect &= is_release;
        match end {
            Settle::Done { result } => {
                self.finish(slot, result, now);
            }
            Settle::Release { delay } => {
                entry.attempt -= 1;
                if delay.is_zero() {
                    self.make_ready(slot, now.time, false);
                } else {
                    self.make_delayed(slot, *delay, now);
                }
                self.expire_again(slot);
            }
            Settle::Retry { delay, error } => {
                entry.fail(error.clone(), now);
                if entry.attempt >= entry.attempts {
                    return self.mark_dead(slot, now);
                }
                self.counts.retried += 1;
                if delay.is_zero() {
                    self.make_ready(slot, now.time, true);
                } else {
                    self.make_delayed(slot, *delay, now);
                }
                self.expire_again(slot);
            }
            Settle::Dead { error } => {
                entry.fail(error.clone(), now);
                self.mark_dead(slot, now);
            }
        }
    }
}
