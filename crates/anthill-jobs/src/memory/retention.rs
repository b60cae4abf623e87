//! What is over, and for how long it is kept.
//!
//! - RM1. Jobs that are done are in two groups. First those that only the retention keeps, by when they ended; then those
//!   whose results are kept, by when that ends, which go to the first group then. So a change of the retention moves no job,
//!   and the oldest one of each group is always the first.
//! - RM2. Dead jobs are in the order in which they died.

use super::index::{Rank, Slot};
use super::store::Store;
use super::time::{Now, nanos};
use crate::broker::JobState;
use std::time::Duration;

/// How many jobs of each kind one call removes because of the retention, so that no call is long.
const MAX_DROPPED: u32 = 10_000;

/// Between the two groups (RM1).
const KEPT: Rank = (0, 0);

/// The rank of a job that ended then, and that only the retention keeps.
fn retained(ended: i64, order: u64) -> Rank {
    (i64::MIN + ended, order)
}

impl Store {
    /// Ends a job that is done.
    pub(super) fn finish(&mut self, slot: Slot, result: &[u8], now: Now) {
        self.counts.done += 1;
        let is_retained = self.retention.done.is_some_and(|time| !time.is_zero());
        let entry = self.get_mut(slot);
        let rank = match entry.extra().keep_result {
            Some(kept) => {
                entry.extra_mut().result = Some(result.into());
                (nanos(now.time.saturating_add(kept)), entry.order)
            }
            None if is_retained => retained(nanos(now.time), entry.order),
            None => return self.remove(slot),
        };
        self.free_keys(slot);
        self.move_to(slot, JobState::Done, rank);
    }

    /// Removes what was kept for long enough, and as much of it as one call does.
    pub(super) fn drop_old(&mut self, now: Now) {
        let is_old =
            |since: i64, time: Duration| since.saturating_add(nanos(time)) <= nanos(now.time);
        let done = self.retention.done.unwrap_or_default();
        while let Some((rank, slot)) = self.index.first_behind(JobState::Done, KEPT) {
            if rank.0 > nanos(now.time) {
                break;
            }
            let entry = self.get(slot);
            let kept = entry.extra().keep_result.unwrap_or_default();
            let ended = rank.0 - nanos(kept);
            if is_old(ended, done) {
                self.remove(slot);
            } else {
                let rank = retained(ended, entry.order);
                self.move_to(slot, JobState::Done, rank);
            }
        }
        for _ in 0..MAX_DROPPED {
            match self.index.first(JobState::Done) {
                Some((rank, slot)) if rank < KEPT && is_old(rank.0 - i64::MIN, done) => {
                    self.remove(slot);
                }
                _ => break,
            }
        }
        let Some(dead) = self.retention.dead else {
            return;
        };
        for _ in 0..MAX_DROPPED {
            match self.index.first(JobState::Dead) {
                Some((rank, slot)) if is_old(rank.0, dead) => self.remove(slot),
                _ => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::broker::Admin;
    use crate::{Broker, ClaimRequest, Clock, MemoryBroker, NewJob, Retention, Settle};
    use std::time::Duration;

    #[test]
    fn no_call_removes_too_much() {
        let broker = MemoryBroker::new(Clock::manual());
        let jobs: Vec<NewJob> = (0..super::MAX_DROPPED + 1_000)
            .map(|_| NewJob::new("kind", Vec::new()))
            .collect();
        broker.enqueue(&jobs).unwrap();
        let all = ClaimRequest::new(jobs.len(), Duration::from_secs(60));
        let claimed = broker.claim(&all).unwrap().jobs;
        let error = "no".to_owned();
        let dead = Settle::Dead { error };
        let ends: Vec<_> = claimed
            .into_iter()
            .map(|job| (job.lease, dead.clone()))
            .collect();
        broker.settle(&ends).unwrap();
        broker
            .set_retention(Retention::default().dead(Duration::ZERO))
            .unwrap();
        assert_eq!(broker.stats().unwrap().dead, 1_000);
        assert_eq!(broker.stats().unwrap().dead, 0);
    }
}
