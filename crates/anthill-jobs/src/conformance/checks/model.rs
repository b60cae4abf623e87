//! A broker so simple that one can see that it is right: a list of jobs, looked through from its
//! beginning to its end. What it does not say the rules do not either.

use super::prelude::*;
use std::cmp::Reverse;
use std::collections::HashMap;

/// Of any kind, or of these.
pub(crate) type Kinds<'k> = Option<&'k [String]>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Ready or parked: which of them a claim finds out.
    Waiting,
    Delayed,
    Running,
    Dead,
    Done,
}

impl Place {
    /// As a broker tells it.
    pub(crate) fn of(state: JobState) -> Place {
        match state {
            JobState::Ready | JobState::Parked => Place::Waiting,
            JobState::Delayed => Place::Delayed,
            JobState::Running => Place::Running,
            JobState::Dead => Place::Dead,
            JobState::Done => Place::Done,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) job: NewJob,
    pub(crate) place: Place,
    /// When it was, or is to be, ready, and who was first of those that are so at the same time.
    pub(crate) turn: (Duration, u64),
    pub(crate) attempt: u32,
    /// It lost a lease, and its newest claim was of several jobs (B5, B9).
    pub(crate) is_suspect: bool,
    pub(crate) is_together: bool,
    pub(crate) expires: Option<Duration>,
    /// The newest claim, and when its lease is over.
    pub(crate) lease: Option<(Lease, Duration)>,
    pub(crate) error: Option<String>,
    /// What a broker writes of a lease that is over is its own.
    pub(crate) is_error_told: bool,
    pub(crate) progress: Option<Vec<u8>>,
    /// The result, and until when it is kept.
    pub(crate) result: Option<(Vec<u8>, Duration)>,
    /// In which step of time or of the test it died.
    pub(crate) died: u64,
}

impl Entry {
    /// Its place in the line of those that wait.
    pub(crate) fn rank(&self) -> (Reverse<i16>, (Duration, u64)) {
        (Reverse(self.job.priority), self.turn)
    }
}

/// Who has a unique key: until its job is over, or a time, or both.
struct Owner {
    id: JobId,
    is_held: bool,
    until: Option<Duration>,
}

/// What a rate that jobs wait for lets those make up who come late.
const LATE: Duration = Duration::from_millis(20);

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) now: Duration,
    pub(crate) jobs: Vec<Entry>,
    uniques: HashMap<String, Owner>,
    pub(crate) limits: Limits,
    /// How much the rate allows now, as the time that it takes: it grows up to a burst.
    credit: Duration,
    /// Jobs waited for the rate when it was last looked at.
    is_behind: bool,
    /// The gauges in it are not kept.
    counts: QueueStats,
    turns: u64,
    steps: u64,
}

impl Model {
    pub(crate) fn new(limits: Limits) -> Model {
        let mut model = Model {
            // Anything may have been before.
            now: Duration::from_secs(1_000_000),
            limits,
            ..Model::default()
        };
        model.credit = model.burst();
        model
    }

    fn turn(&mut self, at: Duration) -> (Duration, u64) {
        self.turns += 1;
        (at, self.turns)
    }

    pub(crate) fn find(&self, id: JobId) -> Option<&Entry> {
        self.jobs.iter().find(|entry| entry.job.id == id)
    }

    fn find_in(&self, id: JobId, places: &[Place]) -> Option<usize> {
        let is_it = |entry: &Entry| entry.job.id == id && places.contains(&entry.place);
        self.jobs.iter().position(is_it)
    }

    fn holder(&self, lease: &Lease) -> Option<usize> {
        let holds = |entry: &Entry| {
            let is_it = |held: &(Lease, Duration)| held.0 == *lease;
            entry.place == Place::Running && entry.lease.as_ref().is_some_and(is_it)
        };
        self.jobs.iter().position(holds)
    }

    fn free(&mut self, id: JobId) {
        for owner in self.uniques.values_mut().filter(|owner| owner.id == id) {
            owner.is_held = false;
        }
        (self.uniques).retain(|_, owner| owner.is_held || owner.until.is_some());
    }

    fn remove(&mut self, index: usize) {
        let entry = self.jobs.remove(index);
        self.free(entry.job.id);
    }

    // ---- time ----

    pub(crate) fn advance(&mut self, time: Duration) {
        self.now += time;
        self.steps += 1;
        self.credit = (self.credit + time).min(self.burst() + LATE);
        let now = self.now;
        for index in 0..self.jobs.len() {
            let entry = &mut self.jobs[index];
            if entry.place == Place::Running
                && entry.lease.as_ref().is_some_and(|held| held.1 <= now)
            {
                self.counts.lost_leases += 1;
                entry.is_error_told = false;
                entry.is_suspect = true;
                entry.attempt -= u32::from(entry.is_together);
                if entry.attempt < entry.job.attempts {
                    entry.place = Place::Waiting;
                } else {
                    self.bury(index, None);
                }
            } else if entry.place == Place::Delayed && entry.turn.0 <= now {
                entry.place = Place::Waiting;
            }
        }
        for index in (0..self.jobs.len()).rev() {
            let entry = &self.jobs[index];
            let waits = matches!(entry.place, Place::Waiting | Place::Delayed);
            if waits && entry.expires.is_some_and(|at| at <= now) {
                self.remove(index);
                self.counts.expired += 1;
            } else if entry.result.as_ref().is_some_and(|kept| kept.1 <= now) {
                self.remove(index);
            }
        }
        for owner in self.uniques.values_mut() {
            owner.until = owner.until.filter(|&until| until > now);
        }
        (self.uniques).retain(|_, owner| owner.is_held || owner.until.is_some());
    }

    fn bury(&mut self, index: usize, error: Option<String>) {
        self.counts.died += 1;
        let entry = &mut self.jobs[index];
        entry.place = Place::Dead;
        entry.is_suspect = false;
        entry.is_error_told = error.is_some();
        entry.error = error;
        entry.died = self.steps;
        let id = entry.job.id;
        self.free(id);
    }

    // ---- what the broker is asked for ----

    pub(crate) fn enqueue(&mut self, jobs: &[NewJob]) -> Vec<Enqueued> {
        jobs.iter().map(|job| self.enqueue_one(job)).collect()
    }

    fn enqueue_one(&mut self, job: &NewJob) -> Enqueued {
        if self.find(job.id).is_some() {
            return self.duplicate(job.id);
        }
        let once = job.once_per.as_ref();
        let puts_itself_off = job.debounce && job.unique.as_ref() == once.map(|once| &once.key);
        let owner = once.and_then(|once| self.uniques.get(&once.key));
        if let Some(owner) = owner.filter(|_| !puts_itself_off) {
            return self.duplicate(owner.id);
        }
        let owner = job.unique.as_ref().and_then(|key| self.uniques.get(key));
        if let Some(&Owner { id, is_held, .. }) = owner {
            let waiting = self.find_in(id, &[Place::Waiting, Place::Delayed]);
            match waiting {
                Some(index) if job.debounce && is_held => {
                    self.put_off(index, job);
                    return self.duplicate(id);
                }
                None if job.debounce && is_held => {}
                _ => return self.duplicate(id),
            }
        }
        if let Some(once) = once {
            let owner = Owner {
                id: job.id,
                is_held: job.unique.as_ref() == Some(&once.key),
                until: Some(self.now + once.period),
            };
            self.uniques.insert(once.key.clone(), owner);
        }
        let key = job.unique.as_ref();
        if let Some(key) = key.filter(|&key| Some(key) != once.map(|once| &once.key)) {
            let owner = Owner {
                id: job.id,
                is_held: true,
                until: None,
            };
            self.uniques.insert(key.clone(), owner);
        }
        self.counts.enqueued += 1;
        let turn = self.turn(self.now + job.delay);
        self.jobs.push(Entry {
            job: job.clone(),
            place: if job.delay.is_zero() {
                Place::Waiting
            } else {
                Place::Delayed
            },
            turn,
            attempt: 0,
            is_suspect: false,
            is_together: false,
            expires: job.expires.map(|after| self.now + after),
            lease: None,
            error: None,
            is_error_told: true,
            progress: None,
            result: None,
            died: 0,
        });
        Enqueued::Added(job.id)
    }

    fn duplicate(&mut self, of: JobId) -> Enqueued {
        self.counts.duplicates += 1;
        Enqueued::Duplicate(of)
    }

    /// It gets the data of the newer one, and waits anew.
    fn put_off(&mut self, index: usize, job: &NewJob) {
        let turn = self.turn(self.now + job.delay);
        let entry = &mut self.jobs[index];
        entry.job.kind.clone_from(&job.kind);
        entry.job.payload.clone_from(&job.payload);
        entry.turn = turn;
        entry.place = if job.delay.is_zero() {
            Place::Waiting
        } else {
            Place::Delayed
        };
    }

    fn running(&self, key: Option<&str>) -> u32 {
        let runs = |entry: &&Entry| {
            entry.place == Place::Running && (key.is_none() || entry.job.key.as_deref() == key)
        };
        u32::try_from(self.jobs.iter().filter(runs).count()).expect("not so many")
    }

    /// The next one of these kinds that may start, but for the rate.
    pub(crate) fn next(&self, kinds: Kinds<'_>) -> Option<JobId> {
        let is_full = |limit| self.running(None) >= limit;
        if self.counts.paused || self.limits.running.is_some_and(is_full) {
            return None;
        }
        self.first(kinds)
    }

    /// The first one of these kinds that is ready (B7): of each key there are as many as have room, the first ones.
    fn first(&self, kinds: Kinds<'_>) -> Option<JobId> {
        let ready = |entry: &&Entry| match (&entry.job.key, self.limits.per_key) {
            (Some(key), Some(limit)) => {
                let before = self.jobs.iter().filter(|other| {
                    let waits = other.place == Place::Waiting && other.rank() < entry.rank();
                    waits && other.job.key.as_ref() == Some(key)
                });
                let before = u32::try_from(before.count()).expect("not so many");
                self.running(Some(key)) + before < limit
            }
            _ => true,
        };
        let is_wanted = |entry: &&Entry| {
            kinds.is_none_or(|kinds| kinds.iter().any(|kind| *kind == entry.job.kind))
        };
        let waiting = self
            .jobs
            .iter()
            .filter(|entry| entry.place == Place::Waiting);
        let wanted = waiting.filter(is_wanted).filter(ready);
        Some(wanted.min_by_key(|entry| entry.rank())?.job.id)
    }

    /// Whether it is claimed by itself (B9).
    pub(crate) fn is_fragile(&self, id: JobId) -> bool {
        let entry = self.find(id).expect("it is there");
        entry.is_suspect || entry.attempt + 1 >= entry.job.attempts
    }

    /// They were claimed; whether others wait.
    pub(crate) fn end_claim(&mut self, claimed: &[JobId], kinds: Kinds<'_>) {
        for entry in &mut self.jobs {
            if claimed.contains(&entry.job.id) {
                entry.is_together = claimed.len() > 1;
            }
        }
        if !self.counts.paused {
            // What it might have made up for it did not.
            self.credit = self.credit();
            self.is_behind = self.first(kinds).is_some();
        }
    }

    /// In how long the rate allows one more.
    pub(crate) fn rate_in(&self) -> Duration {
        self.gap().saturating_sub(self.credit())
    }

    fn credit(&self) -> Duration {
        let late = if self.is_behind { LATE } else { Duration::ZERO };
        self.credit.min(self.burst() + late)
    }

    fn gap(&self) -> Duration {
        self.limits
            .rate
            .map_or(Duration::ZERO, |rate| rate.per / rate.jobs)
    }

    fn burst(&self) -> Duration {
        self.limits
            .rate
            .map_or(Duration::ZERO, |rate| self.gap() * rate.burst)
    }

    /// Starts the next one, if there is one and the rate allows it; its attempt.
    pub(crate) fn claim_one(
        &mut self,
        kinds: Kinds<'_>,
        lease: Lease,
        time: Duration,
    ) -> Option<u32> {
        let id = self.next(kinds).filter(|_| self.rate_in().is_zero())?;
        self.credit = self.credit() - self.gap();
        let ends = self.now + time;
        let entry = self.jobs.iter_mut().find(|entry| entry.job.id == id)?;
        entry.attempt += 1;
        entry.place = Place::Running;
        entry.progress = None;
        entry.lease = Some((lease, ends));
        Some(entry.attempt)
    }

    /// The lease goes on, as the newest one; whether it was held.
    pub(crate) fn extend(&mut self, lease: &Lease, newest: Option<&Lease>, time: Duration) -> bool {
        let Some(index) = self.holder(lease) else {
            return false;
        };
        let newest = newest.unwrap_or(lease).clone();
        self.jobs[index].lease = Some((newest, self.now + time));
        true
    }

    pub(crate) fn progress(&mut self, lease: &Lease, progress: &[u8]) -> bool {
        let Some(index) = self.holder(lease) else {
            return false;
        };
        self.jobs[index].progress = Some(progress.to_vec());
        true
    }

    pub(crate) fn settle(&mut self, lease: &Lease, end: &Settle) -> bool {
        let Some(index) = self.holder(lease) else {
            return false;
        };
        self.steps += 1;
        let now = self.now;
        self.jobs[index].is_suspect &= matches!(end, Settle::Release { .. });
        match end {
            Settle::Done { result } => {
                self.counts.done += 1;
                let Some(time) = self.jobs[index].job.keep_result else {
                    self.remove(index);
                    return true;
                };
                self.free(lease.id());
                self.jobs[index].place = Place::Done;
                self.jobs[index].result = Some((result.clone(), now + time));
            }
            Settle::Release { delay } => {
                self.jobs[index].attempt -= 1;
                self.jobs[index].place = Place::Waiting;
                if !delay.is_zero() {
                    self.jobs[index].place = Place::Delayed;
                    self.jobs[index].turn = self.turn(now + *delay);
                }
            }
            Settle::Retry { error, .. }
                if self.jobs[index].attempt >= self.jobs[index].job.attempts =>
            {
                self.bury(index, Some(error.clone()));
            }
            Settle::Retry { delay, error } => {
                self.counts.retried += 1;
                let turn = self.turn(now + *delay);
                let entry = &mut self.jobs[index];
                entry.turn = turn;
                entry.place = if delay.is_zero() {
                    Place::Waiting
                } else {
                    Place::Delayed
                };
                entry.error = Some(error.clone());
                entry.is_error_told = true;
            }
            Settle::Dead { error } => self.bury(index, Some(error.clone())),
        }
        self.sweep();
        true
    }

    /// One that comes back too late has expired.
    fn sweep(&mut self) {
        self.advance(Duration::ZERO);
    }

    pub(crate) fn take_away(&mut self, id: JobId, places: &[Place]) -> bool {
        let Some(index) = self.find_in(id, places) else {
            return false;
        };
        self.remove(index);
        self.counts.removed += 1;
        true
    }

    pub(crate) fn retry_dead(&mut self, id: JobId) -> bool {
        let Some(index) = self.find_in(id, &[Place::Dead]) else {
            return false;
        };
        if let Some(key) = self.jobs[index].job.unique.clone() {
            let owner = self.uniques.entry(key).or_insert(Owner {
                id,
                is_held: true,
                until: None,
            });
            if owner.id != id {
                return false;
            }
            owner.is_held = true;
        }
        let turn = self.turn(self.now);
        let entry = &mut self.jobs[index];
        entry.turn = turn;
        entry.attempt = 0;
        entry.expires = None;
        entry.place = Place::Waiting;
        true
    }

    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.counts.paused = paused;
    }

    // ---- what it shows ----

    /// When something happens by itself.
    pub(crate) fn next_event(&self) -> Option<Duration> {
        let event = |entry: &Entry| match entry.place {
            Place::Delayed => Some(entry.turn.0),
            Place::Running => entry.lease.as_ref().map(|held| held.1),
            _ => None,
        };
        let next = self.jobs.iter().filter_map(event).min()?;
        Some(next - self.now)
    }

    /// With all that waits among those that are ready.
    pub(crate) fn stats(&self) -> QueueStats {
        let count = |place| {
            self.jobs
                .iter()
                .filter(|entry| entry.place == place)
                .count() as u64
        };
        let mut stats = self.counts;
        stats.ready = count(Place::Waiting);
        stats.delayed = count(Place::Delayed);
        stats.running = count(Place::Running);
        stats.dead = count(Place::Dead);
        stats.results = count(Place::Done);
        stats
    }
}
