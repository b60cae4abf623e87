//! Short words of the checks: how jobs are made, how they end, and what operators see of them. None of them expects the broker to
//! fail.

use super::bench::Bench;
use super::fixture::Means;
use crate::broker::{
    Capability, Claimed, Extended, JobInfo, JobState, Lease, Limits, ListRequest, NewJob,
    QueueStats, Settle, Settled,
};
use crate::error::QueueError;
use crate::id::JobId;
use std::time::Duration;

impl Bench {
    // ── settlements, extensions ─────────────────────────────────────────────────────────────

    #[track_caller]
    pub(super) fn settle(&self, job: &Claimed, end: Settle) -> bool {
        self.settle_all(&[(job.lease.clone(), end)])[0]
    }

    /// Settles in as many calls as it takes; for each whether it was stored.
    #[track_caller]
    pub(super) fn settle_all(&self, ends: &[(Lease, Settle)]) -> Vec<bool> {
        let mut all = Vec::with_capacity(ends.len());
        for batch in ends.chunks(self.batch()) {
            let settled = ok(self.broker.settle(batch));
            assert_eq!(settled.len(), batch.len(), "an answer for each lease");
            all.extend(settled.into_iter().map(Settled::is_stored));
        }
        all
    }

    #[track_caller]
    pub(super) fn done(&self, job: &Claimed) {
        assert!(self.settle(job, done()));
    }

    #[track_caller]
    pub(super) fn all_done(&self, jobs: &[Claimed]) {
        self.all_end(jobs, &done());
    }

    #[track_caller]
    pub(super) fn all_dead(&self, jobs: &[Claimed]) {
        self.all_end(jobs, &dead("for good"));
    }

    #[track_caller]
    fn all_end(&self, jobs: &[Claimed], end: &Settle) {
        let lease = |job: &Claimed| (job.lease.clone(), end.clone());
        let ends: Vec<_> = jobs.iter().map(lease).collect();
        assert!(self.settle_all(&ends).into_iter().all(|stored| stored));
    }

    #[track_caller]
    pub(super) fn retry(&self, job: &Claimed, delay: Duration) {
        assert!(self.settle(job, retry(delay)));
    }

    #[track_caller]
    pub(super) fn bury(&self, job: &Claimed) {
        assert!(self.settle(job, dead("for good")));
    }

    #[track_caller]
    pub(super) fn release(&self, job: &Claimed) {
        assert!(self.settle(job, release(Duration::ZERO)));
    }

    /// Extends the lease of a job, which goes on with the one that it got. Returns whether it was held.
    #[track_caller]
    pub(super) fn extend(&self, job: &mut Claimed, time: Duration) -> bool {
        let extended = ok(self.broker.extend(std::slice::from_ref(&job.lease), time));
        assert_eq!(extended.len(), 1, "an answer for each lease");
        match extended[0].held() {
            None => false,
            Some(lease) => {
                assert_eq!(lease.id(), job.lease.id());
                job.lease = lease.clone();
                true
            }
        }
    }

    #[track_caller]
    pub(super) fn progress(&self, job: &Claimed, progress: &[u8]) -> bool {
        ok(self.broker.progress(&job.lease, progress))
    }

    // ── what operators see and do ───────────────────────────────────────────────────────────

    /// Without times, where the clock goes on: checks that look at them need one that stands still.
    #[track_caller]
    pub(super) fn get(&self, id: JobId) -> Option<JobInfo> {
        let mut job = ok(self.admin().get(id))?;
        assert_eq!(job.id, id);
        if !self.can(Means::StillClock) {
            job.age = Duration::ZERO;
            job.due_in = job.due_in.map(|_| Duration::ZERO);
            job.expires_in = job.expires_in.map(|_| Duration::ZERO);
            for error in &mut job.errors {
                error.ago = Duration::ZERO;
            }
        }
        Some(job)
    }

    /// A job that must be there.
    #[track_caller]
    pub(super) fn job(&self, id: JobId) -> JobInfo {
        self.get(id).expect("the job is there")
    }

    #[track_caller]
    pub(super) fn state(&self, id: JobId) -> Option<JobState> {
        self.get(id).map(|job| job.state)
    }

    /// Looks at a job, if the broker shows one by its id.
    #[track_caller]
    pub(super) fn shown(&self, id: JobId, look: impl FnOnce(Option<JobInfo>)) {
        if self.has(Capability::ById) {
            look(self.get(id));
        }
    }

    /// The job is in that state, or is not there, as far as the broker shows it.
    #[track_caller]
    pub(super) fn is_in(&self, id: JobId, state: impl Into<Option<JobState>>) {
        let state = state.into();
        self.shown(id, |job| assert_eq!(job.map(|job| job.state), state));
    }

    /// The names of the jobs in that state.
    #[track_caller]
    pub(super) fn list(&self, state: JobState) -> Vec<String> {
        let jobs = ok(self.admin().list(&ListRequest::new(state)));
        assert!(jobs.iter().all(|job| job.state == state), "{jobs:?}");
        jobs.into_iter().map(|job| text(job.payload)).collect()
    }

    /// Without times, where the clock goes on.
    #[track_caller]
    pub(super) fn stats(&self) -> QueueStats {
        let mut stats = ok(self.admin().stats());
        if !self.can(Means::StillClock) {
            stats.oldest = stats.oldest.map(|_| Duration::ZERO);
        }
        stats
    }

    /// Looks at what the broker has counted, if that is exact.
    #[track_caller]
    pub(super) fn counted(&self, look: impl FnOnce(QueueStats)) {
        if self.has(Capability::ExactCounts) {
            look(self.stats());
        }
    }

    #[track_caller]
    pub(super) fn limit(&self, limits: Limits) {
        ok(self.limits().set_limits(limits));
    }
}

/// What a broker that can be reached answers.
#[track_caller]
pub(super) fn ok<T>(answer: Result<T, QueueError>) -> T {
    answer.unwrap_or_else(|error| panic!("the broker failed: {error}, {error:?}"))
}

/// What a broker answers that may refuse a text with NUL, as one that it cannot store.
#[track_caller]
pub(super) fn may_refuse<T>(answer: Result<T, QueueError>, text: &str) -> Option<T> {
    match answer {
        Err(QueueError::Invalid(_)) if text.contains('\0') => None,
        answer => Some(ok(answer)),
    }
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A job whose data is its name.
pub(super) fn job(name: impl Into<String>) -> NewJob {
    NewJob::new("test", name.into().into_bytes())
}

/// Many of them, whose names are their numbers.
pub(super) fn jobs(number: usize) -> Vec<NewJob> {
    (0..number).map(|number| job(number.to_string())).collect()
}

pub(super) fn done() -> Settle {
    let result = b"null".to_vec();
    Settle::Done { result }
}

pub(super) fn retry(delay: Duration) -> Settle {
    let error = "not yet".to_owned();
    Settle::Retry { delay, error }
}

pub(super) fn dead(error: &str) -> Settle {
    let error = error.to_owned();
    Settle::Dead { error }
}

pub(super) fn release(delay: Duration) -> Settle {
    Settle::Release { delay }
}

/// For each whether the lease is held.
pub(super) fn held(extended: &[Extended]) -> Vec<bool> {
    let held = extended.iter().map(|extended| extended.held().is_some());
    held.collect()
}

pub(super) fn name(job: &Claimed) -> String {
    text(job.payload.clone())
}

pub(super) fn names(jobs: &[Claimed]) -> Vec<String> {
    jobs.iter().map(name).collect()
}

fn text(payload: Vec<u8>) -> String {
    String::from_utf8(payload).expect("a name")
}
