//! The broker's parts for operators: jobs by id and by state, retention, limits.

use crate::broker::PostgresBroker;
use crate::errors::queue_error;
use crate::read;
use crate::session::Param;
use crate::store::{column, first};
use crate::values::{LONGEST_KIND, duration, fits, job_id, micros, nanos, storable, uuid};
use anthill_jobs::broker::{Admin, LimitStore};
use anthill_jobs::{
    Broker, JobId, JobInfo, JobState, Limits, ListRequest, QueueError, QueueStats, Rate, Retention,
};
use std::time::Duration;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

pub(crate) fn number(state: JobState) -> i32 {
    match state {
        JobState::Ready => 0,
        JobState::Delayed => 1,
        JobState::Parked => 2,
        JobState::Running => 3,
        JobState::Dead => 4,
        JobState::Done => 5,
        // One of a later version: no job is in it.
        _ => -1,
    }
}

/// How many jobs a list fetches at once.
const MOST: usize = 1_000_000;

impl PostgresBroker {
    /// Sees to what time has brought, so that a reader sees the queue as the next claim will. Who may not, reads all the same.
    fn sweep(&self) -> Result<(), QueueError> {
        if self.is_read_only {
            return Ok(());
        }
        match self.store.call(|calls| &calls.sweep, vec![self.number()]) {
            Ok(rows) => {
                if rows
                    .first()
                    .map_or(Ok(false), |row| column(row, "o_woke"))?
                {
                    self.wake();
                }
                Ok(())
            }
            Err(QueueError::Denied(_) | QueueError::ReadOnly(_) | QueueError::Busy) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes jobs that are in one of these states, and unchanged if that is told. Returns for each whether it was removed.
    fn remove(
        &self,
        ids: &[JobId],
        states: &[JobState],
        unchanged: Option<&[JobInfo]>,
    ) -> Result<Vec<bool>, QueueError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_key(|&at| ids[at]);
        order.dedup_by_key(|at| ids[*at]);
        let sorted: Vec<Uuid> = order.iter().map(|&at| uuid(ids[at])).collect();
        let states: Vec<i32> = states.iter().copied().map(number).collect();
        let kinds = unchanged.map(|jobs| {
            let kinds = order.iter().map(|&at| storable(&jobs[at].kind));
            kinds.collect::<Vec<String>>()
        });
        let payloads = unchanged.map(|jobs| {
            let payloads = order.iter().map(|&at| jobs[at].payload.clone());
            payloads.collect::<Vec<Vec<u8>>>()
        });
        let params: Vec<Param> = vec![
            self.number(),
            (Box::new(sorted), Type::UUID_ARRAY),
            (Box::new(states), Type::INT4_ARRAY),
            (Box::new(kinds), Type::TEXT_ARRAY),
            (Box::new(payloads), Type::BYTEA_ARRAY),
        ];
        let rows = self.change(|calls| &calls.remove, params)?;
        let removed: Vec<Uuid> = first(&rows)?;
        let woke = rows.first().map_or(Ok(false), |row| column(row, "woke"))?;
        if woke {
            self.wake();
        }
        Ok(answers(ids, &removed))
    }

    fn settings(&self) -> Result<Row, QueueError> {
        let rows = self
            .store
            .call(|calls| &calls.settings, vec![self.number()])?;
        let gone = || QueueError::Corrupt("the queue does not exist any more".to_owned());
        rows.into_iter().next().ok_or_else(gone)
    }
}

/// For each job whether it is among those; of a job that is named twice, the first one.
fn answers(ids: &[JobId], those: &[Uuid]) -> Vec<bool> {
    let mut those: Vec<JobId> = those.iter().copied().map(job_id).collect();
    those.sort_unstable();
    let mut seen = std::collections::HashSet::new();
    let answer = |id: &JobId| those.binary_search(id).is_ok() && seen.insert(*id);
    ids.iter().map(answer).collect()
}

impl Admin for PostgresBroker {
    fn get(&self, id: JobId) -> Result<Option<JobInfo>, QueueError> {
        self.sweep()?;
        let params: Vec<Param> = vec![
            self.number(),
            (Box::new(vec![uuid(id)]), Type::UUID_ARRAY),
            (Box::new(i32::MAX), Type::INT4),
        ];
        let rows = self.store.call(|calls| &calls.details, params)?;
        Ok(read::infos(&rows)?.pop())
    }

    fn list(&self, request: &ListRequest) -> Result<Vec<JobInfo>, QueueError> {
        self.sweep()?;
        let is_possible =
            |text: &Option<String>, longest| text.as_deref().is_none_or(|text| fits(text, longest));
        let is_possible =
            is_possible(&request.kind, LONGEST_KIND) && is_possible(&request.error, usize::MAX);
        if request.limit == 0 || !is_possible {
            return Ok(Vec::new());
        }
        let limit =
            |number: usize, most: usize| i32::try_from(number.min(most)).unwrap_or(i32::MAX);
        let params: Vec<Param> = vec![
            self.number(),
            (Box::new(number(request.state)), Type::INT4),
            (Box::new(request.kind.clone()), Type::TEXT),
            (Box::new(request.error.clone()), Type::TEXT),
            (Box::new(request.after.map(uuid)), Type::UUID),
            (Box::new(limit(request.limit, MOST)), Type::INT4),
            (Box::new(limit(request.data, usize::MAX)), Type::INT4),
        ];
        let rows = self.store.call(|calls| &calls.list, params)?;
        read::infos(&rows)
    }

    fn stats(&self) -> Result<QueueStats, QueueError> {
        self.sweep()?;
        let rows = self.store.call(|calls| &calls.stats, vec![self.number()])?;
        read::stats(&rows)
    }

    fn ready_kinds(&self) -> Result<Vec<String>, QueueError> {
        self.sweep()?;
        let rows = self
            .store
            .call(|calls| &calls.ready_kinds, vec![self.number()])?;
        let kinds = rows.iter().map(|row| row.try_get(0).map_err(queue_error));
        kinds.collect()
    }

    fn cancel(&self, id: JobId) -> Result<bool, QueueError> {
        self.sweep()?;
        let removed = self.remove(&[id], &JobState::WAITING, None)?;
        Ok(removed == [true])
    }

    fn cancel_running(&self, id: JobId) -> Result<bool, QueueError> {
        let params: Vec<Param> = vec![self.number(), (Box::new(uuid(id)), Type::UUID)];
        first(&self.change(|calls| &calls.cancel_running, params)?)
    }

    fn set_due(&self, ids: &[JobId], delay: Duration) -> Result<Vec<bool>, QueueError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.sweep()?;
        let mut sorted: Vec<Uuid> = ids.iter().copied().map(uuid).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let params: Vec<Param> = vec![
            self.number(),
            (Box::new(sorted), Type::UUID_ARRAY),
            (Box::new(micros(delay)), Type::INT8),
        ];
        let rows = self.change(|calls| &calls.set_due, params)?;
        let set: Vec<Uuid> = first(&rows)?;
        // Also if they are delayed: a consumer may sleep past the new time.
        if !set.is_empty() {
            self.wake();
        }
        let set: std::collections::HashSet<JobId> = set.into_iter().map(job_id).collect();
        Ok(ids.iter().map(|id| set.contains(id)).collect())
    }

    fn remove_unchanged(&self, jobs: &[JobInfo]) -> Result<Vec<bool>, QueueError> {
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        let states = [
            JobState::Ready,
            JobState::Delayed,
            JobState::Parked,
            JobState::Dead,
        ];
        self.remove(&ids, &states, Some(jobs))
    }

    fn retry_dead(&self, id: JobId) -> Result<bool, QueueError> {
        self.sweep()?;
        let params: Vec<Param> = vec![self.number(), (Box::new(uuid(id)), Type::UUID)];
        let retried = first(&self.change(|calls| &calls.retry_dead, params)?)?;
        if retried {
            self.wake();
        }
        Ok(retried)
    }

    fn delete(&self, id: JobId) -> Result<bool, QueueError> {
        let removed = self.remove(&[id], &JobState::TERMINAL, None)?;
        Ok(removed == [true])
    }

    fn purge(&self, states: &[JobState]) -> Result<u64, QueueError> {
        if states.contains(&JobState::Running) {
            return Err(self.capabilities().unsupported("a purge of running jobs"));
        }
        self.refuse_to_write()?;
        self.sweep()?;
        let last: i64 = first(&self.store.call(|calls| &calls.last_place, Vec::new())?)?;
        let (mut purged, mut woke) = (0, false);
        loop {
            let before = purged;
            for &state in states {
                loop {
                    let params: Vec<Param> = vec![
                        self.number(),
                        (Box::new(number(state)), Type::INT4),
                        (Box::new(last), Type::INT8),
                    ];
                    let rows = self.change(|calls| &calls.purge, params)?;
                    let removed: i32 = first(&rows)?;
                    let told = |name| rows.first().map_or(Ok(false), |row| column(row, name));
                    purged += u64::from(removed.unsigned_abs());
                    woke |= told("woke")?;
                    if !told("more")? {
                        break;
                    }
                }
            }
            // A job may have gone to a state that had been purged already.
            if purged == before {
                break;
            }
        }
        if woke {
            self.wake();
        }
        Ok(purged)
    }

    fn set_paused(&self, paused: bool) -> Result<(), QueueError> {
        let params: Vec<Param> = vec![self.number(), (Box::new(paused), Type::BOOL)];
        self.change(|calls| &calls.set_paused, params)?;
        if !paused {
            self.wake();
        }
        Ok(())
    }

    fn set_retention(&self, retention: Retention) -> Result<(), QueueError> {
        let params: Vec<Param> = vec![
            self.number(),
            (Box::new(retention.done.map(micros)), Type::INT8),
            (Box::new(retention.dead.map(micros)), Type::INT8),
        ];
        self.change(|calls| &calls.set_retention, params).map(drop)
    }

    fn retention(&self) -> Result<Retention, QueueError> {
        let row = self.settings()?;
        let time = |name| -> Result<Option<Duration>, QueueError> {
            Ok(column::<Option<i64>>(&row, name)?.map(duration))
        };
        let mut retention = Retention::default();
        retention.done = time("keep_done")?;
        retention.dead = time("keep_dead")?;
        Ok(retention)
    }
}

impl LimitStore for PostgresBroker {
    fn set_limits(&self, limits: Limits) -> Result<(), QueueError> {
        let rate = limits.rate;
        let params: Vec<Param> = vec![
            self.number(),
            (Box::new(limits.running.map(i64::from)), Type::INT8),
            (Box::new(limits.per_key.map(i64::from)), Type::INT8),
            (Box::new(rate.map(|rate| i64::from(rate.jobs))), Type::INT8),
            (Box::new(rate.map(|rate| nanos(rate.per))), Type::INT8),
            (Box::new(rate.map(|rate| i64::from(rate.burst))), Type::INT8),
            (
                Box::new(
                    limits
                        .max_ready
                        .map(|most| i64::try_from(most).unwrap_or(i64::MAX)),
                ),
                Type::INT8,
            ),
        ];
        self.change(|calls| &calls.set_limits, params)?;
        self.wake();
        Ok(())
    }

    fn limits(&self) -> Result<Limits, QueueError> {
        let row = self.settings()?;
        let number = |name| column::<Option<i64>>(&row, name);
        let small = |name| -> Result<Option<u32>, QueueError> {
            Ok(number(name)?.map(|number| u32::try_from(number).unwrap_or(u32::MAX)))
        };
        let rate = match (
            small("rate_jobs")?,
            number("rate_per")?,
            small("rate_burst")?,
        ) {
            (Some(jobs), Some(per), Some(burst)) => Some(Rate {
                jobs,
                per: Duration::from_nanos(per.unsigned_abs()),
                burst,
            }),
            _ => None,
        };
        Ok(Limits {
            running: small("most_running")?,
            per_key: small("most_per_key")?,
            rate,
            max_ready: number("most_ready")?.map(i64::unsigned_abs),
        })
    }
}
