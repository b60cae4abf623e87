//! Thousands of random operations on a broker and on a [model](crate::model) of it, which must
//! agree after each.
//!
//! The seed is told when they do not; `ANTHILL_SEED` repeats it.

use super::model::{Entry, Model, Place};
use super::prelude::*;
use fastrand::Rng;
use std::collections::HashMap;

const ROUNDS: usize = 8;
const STEPS: u64 = 300;

pub(crate) fn a_broker_does_what_a_simple_one_does(lab: &Lab) {
    let mut rng = seeded("a_broker_does_what_a_simple_one_does");
    for round in 0..ROUNDS {
        let on = lab.bench();
        let limits = random_limits(&mut rng, None);
        let rate = chance(&mut rng, 0.3).then_some(Rate {
            jobs: 10,
            per: Duration::from_secs(1),
            burst: 3,
        });
        let limits = Limits { rate, ..limits };
        on.limit(limits);
        let mut run = Run {
            other: on.another(),
            model: Model::new(limits),
            on: Some(on),
            rng: &mut rng,
            names: HashMap::new(),
            leases: Vec::new(),
            told: vec![format!("round {round}: {limits:?}")],
            step: 0,
        };
        for _ in 0..STEPS {
            run.step();
            run.compare();
        }
    }
}

/// A generator whose seed is printed, and taken from `ANTHILL_SEED` when that is set.
fn seeded(check: &str) -> Rng {
    let seed = match std::env::var("ANTHILL_SEED") {
        Ok(chosen) => chosen.parse().expect("ANTHILL_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    eprintln!("{check}: ANTHILL_SEED={seed}");
    Rng::with_seed(seed)
}

pub(super) fn chance(rng: &mut Rng, share: f64) -> bool {
    rng.f64() < share
}

pub(super) fn random_limits(rng: &mut Rng, rate: Option<Rate>) -> Limits {
    Limits {
        running: chance(rng, 0.3).then(|| rng.u32(0..6)),
        per_key: chance(rng, 0.6).then(|| rng.u32(0..3)),
        rate,
        ..Limits::default()
    }
}

pub(super) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) struct Run<'r> {
    pub(super) on: Option<Bench>,
    pub(super) other: Bench,
    pub(super) model: Model,
    pub(super) rng: &'r mut Rng,
    /// What to call the jobs in what is told.
    pub(super) names: HashMap<JobId, String>,
    /// The last ones that were given.
    pub(super) leases: Vec<Lease>,
    /// What was done, to be told when something is wrong.
    pub(super) told: Vec<String>,
    pub(super) step: u64,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let told = &self.told[self.told.len().saturating_sub(60)..];
            eprintln!("at the end of\n{}", told.join("\n"));
        }
    }
}

impl Run<'_> {
    /// One handle or the other.
    pub(super) fn on(&mut self) -> Bench {
        let on = self.on.as_ref().expect("it is open");
        if self.rng.bool() {
            on.clone()
        } else {
            self.other.clone()
        }
    }

    pub(super) fn tell(&mut self, what: &str) {
        self.told.push(format!("{}: {what}", self.step));
    }

    pub(super) fn name(&self, id: JobId) -> &str {
        self.names.get(&id).map_or("unknown", String::as_str)
    }

    /// Nothing that time does falls together with what the test does, nor with another such thing.
    pub(super) fn some_time(&mut self, limit: u64) -> Duration {
        let broken = Duration::from_micros(500 + self.step);
        millis(self.rng.u64(0..limit)) + broken
    }

    pub(super) fn some_id(&mut self) -> JobId {
        let ids: Vec<JobId> = self.model.jobs.iter().map(|entry| entry.job.id).collect();
        match self.rng.choice(ids) {
            Some(id) if chance(self.rng, 0.95) => id,
            _ => JobId::new(),
        }
    }

    fn step(&mut self) {
        self.step += 1;
        match self.rng.u32(0..100) {
            0..22 => self.enqueue(),
            22..42 => self.claim(),
            42..60 => self.settle(),
            60..75 => self.advance(),
            75..79 => self.extend(),
            79..82 => self.progress(),
            82..85 => self.cancel(),
            85..90 => self.retry_dead(),
            90..92 => self.delete(),
            92..94 => self.pause(),
            94..97 => self.limit(),
            97..98 => self.purge(),
            _ => self.reopen(),
        }
    }

    // ---- what both show ----

    fn compare(&mut self) {
        let on = self.on();
        let mut stats = on.stats();
        assert_eq!(stats.oldest.is_some(), stats.ready > 0);
        stats.oldest = None;
        stats.ready += std::mem::take(&mut stats.parked);
        assert_eq!(stats, self.model.stats());

        let mut shown = 0;
        for state in JobState::ALL {
            let jobs = listed(&on, state);
            shown += jobs.len();
            let entries: Vec<&Entry> = jobs.iter().map(|job| self.entry(job)).collect();
            // Sorted, where the rules say by what.
            let is_sorted = match state {
                JobState::Ready | JobState::Parked => {
                    entries.is_sorted_by_key(|entry| entry.rank())
                }
                JobState::Delayed => entries.is_sorted_by_key(|entry| entry.turn.0),
                JobState::Dead => entries.is_sorted_by_key(|entry| entry.died),
                _ => true,
            };
            assert!(is_sorted, "the order of the {state:?}: {entries:#?}");
        }
        assert_eq!(shown, self.model.jobs.len());
        let id = self.some_id();
        let shown = on.get(id);
        assert_eq!(shown.is_some(), self.model.find(id).is_some());
        if let Some(job) = shown {
            self.entry(&job);
        }
    }

    /// What the model has of a job, which must be what is shown.
    fn entry(&self, job: &JobInfo) -> &Entry {
        let entry = self.model.find(job.id);
        let entry = entry.unwrap_or_else(|| panic!("{} is there still", self.name(job.id)));
        let name = self.name(job.id);
        assert_eq!(Place::of(job.state), entry.place, "where {name} is");
        assert_eq!(
            (job.attempt, job.attempts),
            (entry.attempt, entry.job.attempts),
            "{name}"
        );
        assert_eq!(
            (&job.kind, &job.payload),
            (&entry.job.kind.to_string(), &entry.job.payload),
            "{name}"
        );
        assert_eq!(
            (job.priority, &job.key),
            (entry.job.priority, &entry.job.key),
            "{name}"
        );
        assert_eq!(
            job.result.as_ref(),
            entry.result.as_ref().map(|kept| &kept.0),
            "{name}"
        );
        if entry.is_error_told {
            assert_eq!(job.error, entry.error, "{name}");
        }
        if let (Place::Running, Some(progress)) = (entry.place, &entry.progress) {
            assert_eq!(job.progress.as_ref(), Some(progress), "{name}");
        }
        if job.state == JobState::Delayed {
            assert_eq!(job.due_in, Some(entry.turn.0 - self.model.now), "{name}");
        }
        assert!(job.state != JobState::Parked || job.key.is_some(), "{name}");
        entry
    }
}

pub(super) fn listed(on: &Bench, state: JobState) -> Vec<JobInfo> {
    let jobs = ok(on.admin().list(&ListRequest::new(state).limit(usize::MAX)));
    assert!(jobs.iter().all(|job| job.state == state));
    jobs
}
