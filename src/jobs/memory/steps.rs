//! What the broker is asked to do, within the lock.

use super::entry::Entry;
use super::store::{Now, Owner, Place, Store, nanos};
use crate::jobs::broker::{
    Claimed, Claims, Enqueued, JobInfo, JobState, Lease, QueueStats, Settle,
};
use crate::jobs::job::{JobId, NewJob};
use crate::jobs::rate;
use std::time::Duration;

impl Store {
    /// After `tidy`: what was due before goes before, and what has expired has no key.
    pub(super) fn enqueue(&mut self, job: &NewJob, now: Now) -> Enqueued {
        if self.ids.contains_key(&job.id) {
            self.counts.duplicates += 1;
            return Enqueued::Duplicate(job.id);
        }
        if let Some(unique) = &job.unique {
            if let Some(owner) = self.uniques.get(&unique.key) {
                self.counts.duplicates += 1;
                return Enqueued::Duplicate(owner.id);
            }
            let until = unique.period.map(|period| now.wall.saturating_add(period));
            if let Some(until) = until {
                self.periods.insert((until, unique.key.clone()));
            }
            let owner = Owner { id: job.id, until };
            self.uniques.insert(unique.key.clone(), owner);
        }
        self.counts.enqueued += 1;
        let order = self.next_order();
        let entry = Entry::new(job, order, now);
        let place = self.free.pop().unwrap_or(self.slab.len());
        if place == self.slab.len() {
            self.slab.push(None);
        }
        self.slab[place] = Some(Box::new(entry));
        self.ids.insert(job.id, place);
        if job.delay.is_zero() {
            self.make_ready(place, now.wall, false);
        } else {
            let rank = (nanos(self.peek(place).due), order);
            self.join(place, JobState::Delayed, rank);
        }
        self.expire_again(place);
        Enqueued::Added(job.id)
    }

    pub(super) fn claim(&mut self, most: usize, lease: Duration, now: Now) -> Claims {
        self.tidy(now);
        let mut claims = Claims::default();
        let mut wait = None;
        if !self.counts.paused {
            let running = self.line(JobState::Running).len();
            let room = (self.limits.running)
                .map_or(most, |limit| (limit as usize).saturating_sub(running));
            wait = self.claim_some(most.min(room), lease, now, &mut claims.jobs);
        }
        let until = |state, now| {
            let first = self.first(state)?;
            let left = u64::try_from((first.0.0 - nanos(now)).max(0)).unwrap_or(u64::MAX);
            Some(Duration::from_nanos(left))
        };
        let times = [
            wait,
            until(JobState::Delayed, now.wall),
            until(JobState::Running, now.steady),
        ];
        claims.again_in = times.into_iter().flatten().min();
        claims
    }

    /// How long to wait where the rate allows no more.
    pub(super) fn claim_some(
        &mut self,
        most: usize,
        lease: Duration,
        now: Now,
        jobs: &mut Vec<Claimed>,
    ) -> Option<Duration> {
        let mut most = most;
        let mut admitted = None;
        if let Some(rate) = self.limits.rate {
            match rate::admit(rate, self.rate_kept, now.steady, most) {
                Ok(some) => {
                    most = some.jobs;
                    admitted = Some((rate, some));
                }
                Err(wait) => return (!self.line(JobState::Ready).is_empty()).then_some(wait),
            }
        }
        while jobs.len() < most {
            let Some((rank, place)) = self.first(JobState::Ready) else {
                break;
            };
            self.leave(place);
            if self.is_key_full(self.peek(place).more().key.as_ref()) {
                self.join(place, JobState::Parked, rank);
                continue;
            }
            jobs.push(self.start(place, lease, now));
        }
        let (rate, admitted) = admitted?;
        self.rate_kept = admitted.after(jobs.len());
        if self.line(JobState::Ready).is_empty() {
            return None;
        }
        rate::admit(rate, self.rate_kept, now.steady, 1).err()
    }

    pub(super) fn start(&mut self, place: Place, lease: Duration, now: Now) -> Claimed {
        self.expire_never(place);
        let entry = self.entry(place);
        entry.attempt += 1;
        entry.claims += 1;
        let claimed = Claimed {
            lease: Lease {
                id: entry.id,
                place: i64::try_from(place).unwrap_or(i64::MAX),
                claim: entry.claims,
            },
            kind: entry.kind.clone(),
            payload: entry.payload.clone(),
            attempt: entry.attempt,
            attempts: entry.attempts,
            waited: now.wall.saturating_sub(entry.ready_since),
        };
        let rank = (nanos(now.steady.saturating_add(lease)), entry.order);
        if let Some(key) = &entry.more().key {
            let key = key.clone();
            *self.running_of.entry(key).or_default() += 1;
        }
        self.join(place, JobState::Running, rank);
        claimed
    }

    pub(super) fn settle(&mut self, place: Place, end: &Settle, now: Now) {
        self.leave(place);
        match end {
            Settle::Done { result } => {
                self.counts.done += 1;
                let Some(kept) = self.peek(place).more().keep_result else {
                    self.remove(place);
                    return;
                };
                self.free_key(place);
                let entry = self.entry(place);
                entry.more_mut().result = Some(result.clone());
                let rank = (nanos(now.wall.saturating_add(kept)), entry.order);
                self.join(place, JobState::Done, rank);
            }
            Settle::Release => {
                self.entry(place).attempt -= 1;
                self.make_ready(place, now.wall, false);
                self.expire_again(place);
            }
            Settle::Retry { delay, error } => {
                let entry = self.entry(place);
                if entry.attempt >= entry.attempts {
                    return self.bury(place, error.clone());
                }
                self.counts.retried += 1;
                let entry = self.entry(place);
                entry.more_mut().error = Some(error.clone());
                if delay.is_zero() {
                    self.make_ready(place, now.wall, true);
                } else {
                    entry.due = now.wall.saturating_add(*delay);
                    let rank = (nanos(entry.due), entry.order);
                    self.join(place, JobState::Delayed, rank);
                }
                self.expire_again(place);
            }
            Settle::Dead { error } => self.bury(place, error.clone()),
        }
    }

    pub(super) fn retry_dead(&mut self, id: JobId, now: Now) -> bool {
        let Some(place) = self.find(id) else {
            return false;
        };
        let entry = self.peek(place);
        if entry.state != JobState::Dead {
            return false;
        }
        if let Some(unique) = entry
            .more()
            .unique
            .clone()
            .filter(|unique| unique.period.is_none())
        {
            if self.uniques.contains_key(&unique.key) {
                return false;
            }
            self.uniques.insert(unique.key, Owner { id, until: None });
        }
        self.leave(place);
        let entry = self.entry(place);
        entry.attempt = 0;
        // Whoever asks for it wants it now.
        if let Some(more) = &mut entry.more {
            more.expires = None;
        }
        self.make_ready(place, now.wall, true);
        true
    }

    /// Takes a job away by request.
    pub(super) fn take_away(&mut self, place: Place) {
        self.withdraw(place);
        self.remove(place);
        self.counts.removed += 1;
    }

    pub(super) fn info(&self, place: Place, now: Now) -> JobInfo {
        let entry = self.peek(place);
        JobInfo {
            id: entry.id,
            kind: entry.kind.clone().into_owned(),
            payload: entry.payload.clone(),
            state: entry.state,
            priority: entry.priority,
            attempt: entry.attempt,
            attempts: entry.attempts,
            key: entry.more().key.clone(),
            error: entry.more().error.clone(),
            progress: entry.more().progress.clone(),
            result: entry.more().result.clone(),
            age: now.wall.saturating_sub(entry.enqueued),
            due_in: (entry.state == JobState::Delayed).then(|| entry.due.saturating_sub(now.wall)),
        }
    }

    /// The first of each priority is the oldest of it.
    pub(super) fn oldest(&self, now: Now) -> Option<Duration> {
        let ready = self.line(JobState::Ready);
        let mut oldest = None;
        let mut next = ready.first_key_value();
        while let Some((&(priority, _), &place)) = next {
            let waited = now.wall.saturating_sub(self.peek(place).ready_since);
            oldest = oldest.max(Some(waited));
            next = ready.range((priority + 1, 0)..).next();
        }
        oldest
    }

    pub(super) fn stats(&self, now: Now) -> QueueStats {
        let len = |state| self.line(state).len() as u64;
        QueueStats {
            ready: len(JobState::Ready),
            delayed: len(JobState::Delayed),
            parked: len(JobState::Parked),
            running: len(JobState::Running),
            dead: len(JobState::Dead),
            results: len(JobState::Done),
            oldest: self.oldest(now),
            ..self.counts
        }
    }
}
