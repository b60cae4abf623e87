//! What others see of the jobs and of the queue. Under the broker's lock.

use super::index::Slot;
use super::store::Store;
use super::time::Now;
use crate::broker::{JobInfo, JobState, QueueStats};
use std::time::Duration;

impl Store {
    /// The details of a job, with so many bytes of its payload, and other data only if it is no larger.
    pub(super) fn info(&self, slot: Slot, data: usize, now: Now) -> JobInfo {
        let entry = self.get(slot);
        let extra = entry.extra();
        let consumer = entry.runner.and_then(|runner| self.runners.id(runner));
        let small = |all: &Option<Box<[u8]>>| {
            let all = all.as_deref().filter(|all| all.len() <= data);
            all.map(<[u8]>::to_vec)
        };
        JobInfo {
            payload: entry.payload[..entry.payload.len().min(data)].to_vec(),
            payload_size: entry.payload.len() as u64,
            priority: entry.priority,
            attempt: entry.attempt,
            attempts: entry.attempts,
            key: extra.key.clone(),
            unique: extra.unique.clone(),
            error: extra.error().map(str::to_owned),
            errors: extra.errors(now),
            headers: extra.headers(),
            cancel_requested: entry.is_cancelled,
            consumer: consumer.map(str::to_owned),
            progress: small(&extra.progress),
            result: small(&extra.result),
            age: now.time.saturating_sub(entry.enqueued),
            due_in: (entry.state == JobState::Delayed).then(|| entry.due.saturating_sub(now.time)),
            expires_in: extra.expires_at.map(|at| at.saturating_sub(now.time)),
            keep_result: extra.keep_result,
            ..JobInfo::new(entry.id, &**self.index.name(entry.kind), entry.state)
        }
    }

    /// How long the oldest ready job has waited: the first of each priority is the oldest of it.
    pub(super) fn oldest(&self, now: Now) -> Option<Duration> {
        let mut oldest = None;
        let mut after = None;
        while let Some(slot) = self.index.all(JobState::Ready, after).next() {
            let entry = self.get(slot);
            oldest = oldest.max(Some(now.time.saturating_sub(entry.ready_since)));
            after = Some((entry.rank.0, u64::MAX));
        }
        oldest
    }

    pub(super) fn stats(&self, now: Now) -> QueueStats {
        let len = |state| self.index.len(state) as u64;
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
