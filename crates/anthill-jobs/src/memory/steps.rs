//! What the broker is asked to do, within the lock.

use super::entry::Entry;
use super::store::{Now, Owner, Place, Store, nanos};
use crate::bound::is_too_many;
use crate::broker::{
    ClaimRequest, Claimed, Claims, Enqueued, JobInfo, JobState, Lease, QueueStats, Settle,
};
use crate::error::QueueError;
use crate::job::{JobId, NewJob};
use crate::rate;
use std::time::Duration;

/// What the unique keys of a job say to it.
enum Entrance {
    Free,
    /// Another job has one.
    Taken(JobId),
    /// A job waits that gets its data, and its delay.
    PutsOff(Place),
}

impl Store {
    /// B1; after `tidy`: what was due before goes before, and what has expired has no key.
    pub(super) fn enqueue_all(
        &mut self,
        jobs: &[NewJob],
        now: Now,
    ) -> Result<Vec<Enqueued>, QueueError> {
        if let Some(most) = self.limits.max_ready {
            let there = self.lines.len(JobState::Ready) + self.lines.len(JobState::Parked);
            let room = most.saturating_sub(there as u64);
            let is_kept_out = |job: &NewJob| Ok(self.is_kept_out(job));
            if is_too_many(jobs, room, is_kept_out)? {
                return Err(QueueError::Full { most });
            }
        }
        Ok(jobs.iter().map(|job| self.enqueue(job, now)).collect())
    }

    /// Whether a job that is there has its id or one of its keys, so that it would not be added.
    fn is_kept_out(&self, job: &NewJob) -> bool {
        self.ids.contains_key(&job.id) || !matches!(self.entrance(job), Entrance::Free)
    }

    fn entrance(&self, job: &NewJob) -> Entrance {
        let once_key = job.once_per.as_ref().map(|once| &once.key);
        // A debounced job puts itself off, whatever its period says.
        let is_own = job.debounce && once_key == job.unique.as_ref();
        let once_owner = once_key.and_then(|key| self.uniques.get(key));
        if let Some(owner) = once_owner.filter(|_| !is_own) {
            return Entrance::Taken(owner.id);
        }
        let Some(owner) = job.unique.as_ref().and_then(|key| self.uniques.get(key)) else {
            return Entrance::Free;
        };
        if job.debounce && owner.is_held {
            let waits = |&place: &Place| JobState::WAITING.contains(&self.peek(place).state);
            let waiting = self.find(owner.id).filter(waits);
            // Where it runs this one comes after it.
            return waiting.map_or(Entrance::Free, Entrance::PutsOff);
        }
        Entrance::Taken(owner.id)
    }

    pub(super) fn enqueue(&mut self, job: &NewJob, now: Now) -> Enqueued {
        if self.ids.contains_key(&job.id) {
            return self.duplicate(job.id);
        }
        match self.entrance(job) {
            Entrance::Free => {}
            Entrance::Taken(owner) => return self.duplicate(owner),
            Entrance::PutsOff(place) => {
                let id = self.peek(place).id;
                self.put_off(place, job, now);
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
                Owner {
                    id: job.id,
                    is_held,
                    until,
                },
            );
        }
        if let Some(key) = job.unique.as_ref().filter(|&key| Some(key) != once_key) {
            self.uniques.insert(
                key.clone(),
                Owner {
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
        let kind = self.lines.number(job.kind.clone());
        let entry = Entry::new(job, kind, order, now);
        let place = self.free.pop().unwrap_or(self.slab.len());
        if place == self.slab.len() {
            self.slab.push(None);
        }
        let (state, rank) = if job.delay.is_zero() {
            (JobState::Ready, entry.turn())
        } else {
            (JobState::Delayed, (nanos(entry.due), order))
        };
        self.slab[place] = Some(Box::new(entry));
        self.ids.insert(job.id, place);
        self.join(place, state, rank);
        if let Some(key) = &job.key {
            self.balance_key(key);
        }
        self.expire_again(place);
    }

    /// A job that waits gets the data of a newer one, and waits anew.
    fn put_off(&mut self, place: Place, job: &NewJob, now: Now) {
        let number = self.lines.number(job.kind.clone());
        let order = self.next_order();
        self.leave_for(place, |entry| {
            entry.kind = number;
            entry.payload.clone_from(&job.payload);
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
        self.tidy(now);
        let mut claims = Claims::default();
        let mut wait = None;
        if !self.counts.paused && request.most > 0 {
            let running = self.lines.len(JobState::Running);
            let room = (self.limits.running).map_or(request.most, |limit| {
                (limit as usize).saturating_sub(running)
            });
            wait = self.claim_some(request, request.most.min(room), now, &mut claims);
        }
        let until = |state, now| {
            let (rank, _) = self.lines.first(state)?;
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

    /// How long to wait where the rate allows no more.
    fn claim_some(
        &mut self,
        request: &ClaimRequest,
        most: usize,
        now: Now,
        claims: &mut Claims,
    ) -> Option<Duration> {
        let kinds = request.kinds.as_ref().map(|kinds| {
            let known = kinds.iter().filter_map(|kind| self.lines.known(kind));
            known.collect::<Vec<u32>>()
        });
        let mut most = most;
        let mut admitted = None;
        if let Some(rate) = self.limits.rate {
            match rate::admit(rate, self.rate_kept, self.rate_is_behind, now.steady, most) {
                Ok(some) => {
                    most = some.jobs;
                    admitted = Some((rate, some));
                }
                Err(wait) => {
                    self.rate_is_behind = self.lines.first_ready(kinds.as_deref()).is_some();
                    return self.rate_is_behind.then_some(wait);
                }
            }
        }
        while claims.jobs.len() < most {
            let Some(place) = self.lines.first_ready(kinds.as_deref()) else {
                break;
            };
            let is_fragile = self.peek(place).is_fragile();
            if is_fragile && !(request.fragile && claims.jobs.is_empty()) {
                claims.fragile_next = true;
                break;
            }
            let claimed = self.start(place, request.lease, now);
            claims.jobs.push(claimed);
            if is_fragile {
                break;
            }
        }
        if let [_, _, ..] = &claims.jobs[..] {
            let leases = claims.jobs.iter().map(|job| job.lease);
            let places: Vec<Place> = leases.filter_map(|lease| self.holder(lease)).collect();
            for place in places {
                self.entry(place).is_together = true;
            }
        }
        let (rate, admitted) = admitted?;
        self.rate_kept = admitted.after(claims.jobs.len());
        self.rate_is_behind = self.lines.first_ready(kinds.as_deref()).is_some();
        if !self.rate_is_behind {
            return None;
        }
        rate::admit(rate, self.rate_kept, true, now.steady, 1).err()
    }

    fn start(&mut self, place: Place, lease: Duration, now: Now) -> Claimed {
        self.expire_never(place);
        let bounds_keys = self.limits.per_key.is_some();
        let entry = self.slab[place].as_mut().expect("it is ready");
        let is_fragile = entry.is_fragile();
        entry.is_together = false;
        entry.attempt += 1;
        entry.claims += 1;
        let more = entry.more();
        let claimed = Claimed {
            lease: Lease {
                id: entry.id,
                place: i64::try_from(place).unwrap_or(i64::MAX),
                claim: entry.claims,
            },
            kind: self.lines.name(entry.kind).clone(),
            payload: entry.payload.clone(),
            attempt: entry.attempt,
            attempts: entry.attempts,
            waited: now.time.saturating_sub(entry.ready_since),
            is_fragile,
            is_exclusive: more.unique.is_some() || (more.key.is_some() && bounds_keys),
            keeps_result: more.keep_result.is_some(),
        };
        let rank = (nanos(now.steady.saturating_add(lease)), entry.order);
        self.shift(place, JobState::Running, rank);
        claimed
    }

    /// Leases that had not ended before hold for so much longer: nobody could extend them meanwhile.
    pub(super) fn stand_still(&mut self, from: Duration, time: Duration) {
        let running: Vec<Place> = self.lines.all(JobState::Running, None).collect();
        for place in running {
            let (ends, order) = self.peek(place).rank;
            if ends > nanos(from) {
                let ends = ends.saturating_add(nanos(time));
                self.shift(place, JobState::Running, (ends, order));
            }
        }
    }

    pub(super) fn settle(&mut self, place: Place, end: &Settle, now: Now) {
        let is_release = matches!(end, Settle::Release { .. });
        let entry = self.entry(place);
        // Whoever told how it ended has survived it.
        entry.is_suspect &= is_release;
        match end {
            Settle::Done { result } => {
                self.counts.done += 1;
                let Some(kept) = self.peek(place).more().keep_result else {
                    self.remove(place);
                    return;
                };
                self.free_keys(place);
                let entry = self.entry(place);
                entry.more_mut().result = Some(result.clone());
                let rank = (nanos(now.time.saturating_add(kept)), entry.order);
                self.shift(place, JobState::Done, rank);
            }
            Settle::Release { delay } => {
                entry.attempt -= 1;
                if delay.is_zero() {
                    self.make_ready(place, now.time, false);
                } else {
                    self.make_delayed(place, *delay, now);
                }
                self.expire_again(place);
            }
            Settle::Retry { delay, error } => {
                if entry.attempt >= entry.attempts {
                    return self.bury(place, error.clone());
                }
                self.counts.retried += 1;
                let entry = self.entry(place);
                entry.more_mut().error = Some(error.clone());
                if delay.is_zero() {
                    self.make_ready(place, now.time, true);
                } else {
                    self.make_delayed(place, *delay, now);
                }
                self.expire_again(place);
            }
            Settle::Dead { error } => self.bury(place, error.clone()),
        }
    }

    fn make_delayed(&mut self, place: Place, delay: Duration, now: Now) {
        let entry = self.entry(place);
        entry.due = now.time.saturating_add(delay);
        let rank = (nanos(entry.due), entry.order);
        self.shift(place, JobState::Delayed, rank);
    }

    // ── an operator's ───────────────────────────────────────────────────────────────────────

    pub(super) fn retry_dead(&mut self, id: JobId, now: Now) -> bool {
        let Some(place) = self.find(id) else {
            return false;
        };
        let entry = self.peek(place);
        if entry.state != JobState::Dead {
            return false;
        }
        if let Some(key) = entry.more().unique.clone() {
            match self.uniques.get_mut(&key) {
                // Its own period.
                Some(owner) if owner.id == id => owner.is_held = true,
                Some(_) => return false,
                None => {
                    let owner = Owner {
                        id,
                        is_held: true,
                        until: None,
                    };
                    self.uniques.insert(key, owner);
                }
            }
        }
        let entry = self.entry(place);
        entry.attempt = 0;
        // Whoever asks for it wants it now.
        if let Some(more) = &mut entry.more {
            more.expires = None;
        }
        self.make_ready(place, now.time, true);
        true
    }

    /// Whether it waited.
    pub(super) fn set_due(&mut self, id: JobId, delay: Duration, now: Now) -> bool {
        let Some(place) = self.find(id) else {
            return false;
        };
        let entry = self.entry(place);
        let is_delayed = entry.state == JobState::Delayed;
        if !JobState::WAITING.contains(&entry.state) {
            return false;
        }
        if !delay.is_zero() {
            entry.keeps_place |= !is_delayed;
            self.make_delayed(place, delay, now);
        } else if is_delayed {
            let anew = !entry.keeps_place;
            self.make_ready(place, now.time, anew);
        }
        true
    }

    /// Takes a job away that waits or is dead, and is the same as that one; whether it was there.
    pub(super) fn remove_unchanged(&mut self, job: &JobInfo) -> bool {
        let Some(place) = self.find(job.id) else {
            return false;
        };
        let entry = self.peek(place);
        let is_it = entry.payload == job.payload && *self.lines.name(entry.kind) == job.kind;
        let may = is_it && !matches!(entry.state, JobState::Running | JobState::Done);
        if may {
            self.take_away(place);
        }
        may
    }

    /// Takes a job away by request.
    pub(super) fn take_away(&mut self, place: Place) {
        self.remove(place);
        self.counts.removed += 1;
    }

    /// With so many bytes of its payload, and what else is no larger.
    pub(super) fn info(&self, place: Place, data: usize, now: Now) -> JobInfo {
        let entry = self.peek(place);
        let more = entry.more();
        let small = |data_of: &Option<Vec<u8>>| data_of.clone().filter(|all| all.len() <= data);
        JobInfo {
            id: entry.id,
            kind: self.lines.name(entry.kind).clone().into_owned(),
            payload: entry.payload[..entry.payload.len().min(data)].to_vec(),
            payload_size: entry.payload.len() as u64,
            state: entry.state,
            priority: entry.priority,
            attempt: entry.attempt,
            attempts: entry.attempts,
            key: more.key.clone(),
            unique: more.unique.clone(),
            error: more.error.clone(),
            progress: small(&more.progress),
            result: small(&more.result),
            age: now.time.saturating_sub(entry.enqueued),
            due_in: (entry.state == JobState::Delayed).then(|| entry.due.saturating_sub(now.time)),
            expires_in: more.expires_at.map(|at| at.saturating_sub(now.time)),
            keep_result: more.keep_result,
        }
    }

    /// The first of each priority is the oldest of it.
    pub(super) fn oldest(&self, now: Now) -> Option<Duration> {
        let mut oldest = None;
        let mut after = None;
        while let Some(place) = self.lines.all(JobState::Ready, after).next() {
            let entry = self.peek(place);
            oldest = oldest.max(Some(now.time.saturating_sub(entry.ready_since)));
            after = Some((entry.rank.0, u64::MAX));
        }
        oldest
    }

    pub(super) fn stats(&self, now: Now) -> QueueStats {
        let len = |state| self.lines.len(state) as u64;
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
