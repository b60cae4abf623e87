//! The broker's parts for operators: jobs by id and by state, limits and schedules.

use super::SqliteBroker;
use super::list::Listing;
use super::tx::QueueRow;
use super::{enqueue, kinds, manage, read};
use crate::broker::{
    Admin, Broker, Fired, JobInfo, JobState, LimitStore, Limits, ListRequest, QueueStats,
    Retention, ScheduleStore, Scheduled, Schedules,
};
use crate::error::QueueError;
use crate::id::JobId;
use crate::job::NewJob;
use std::time::Duration;

impl Admin for SqliteBroker {
    fn get(&self, id: JobId) -> Result<Option<JobInfo>, QueueError> {
        self.read_swept(|connection, now| read::get(connection, self.queue, id, now))
    }

    fn list(&self, request: &ListRequest) -> Result<Vec<JobInfo>, QueueError> {
        let mut listing = Listing::new(self.queue, request);
        let mut has_more = self.read_swept(|connection, now| listing.go_on(connection, now))?;
        while has_more {
            has_more = self.read(|connection, now| listing.go_on(connection, now))?;
        }
        Ok(listing.found)
    }

    fn stats(&self) -> Result<QueueStats, QueueError> {
        self.read_swept(|connection, now| read::stats(connection, self.queue, now))
    }

    fn ready_kinds(&self) -> Result<Vec<String>, QueueError> {
        self.read_swept(|connection, _| kinds::ready_kinds(connection, self.queue))
    }

    fn cancel(&self, id: JobId) -> Result<bool, QueueError> {
        self.write(move |tx| manage::remove_job(tx, id, &JobState::WAITING))
    }

    fn cancel_running(&self, id: JobId) -> Result<bool, QueueError> {
        self.write(move |tx| manage::cancel_running(tx, id))
    }

    fn set_due(&self, ids: &[JobId], delay: Duration) -> Result<Vec<bool>, QueueError> {
        let ids = ids.to_vec();
        self.write(move |tx| manage::set_due(tx, &ids, delay))
    }

    fn remove_unchanged(&self, jobs: &[JobInfo]) -> Result<Vec<bool>, QueueError> {
        let jobs = jobs.to_vec();
        self.write(move |tx| manage::remove_unchanged(tx, &jobs))
    }

    fn retry_dead(&self, id: JobId) -> Result<bool, QueueError> {
        self.write(move |tx| manage::retry_dead(tx, id))
    }

    fn delete(&self, id: JobId) -> Result<bool, QueueError> {
        self.write(move |tx| manage::remove_job(tx, id, &JobState::TERMINAL))
    }

    fn purge(&self, states: &[JobState]) -> Result<u64, QueueError> {
        if states.contains(&JobState::Running) {
            return Err(self.capabilities().unsupported("a purge of running jobs"));
        }
        // Jobs that arrive meanwhile do not count, or this might never end.
        let last = self.write(|tx| Ok(enqueue::last_place(tx)))?;
        let mut purged = 0;
        loop {
            let before = purged;
            for &state in states {
                loop {
                    let (some, more) = self.write(move |tx| manage::purge_some(tx, state, last))?;
                    purged += some;
                    if !more {
                        break;
                    }
                }
            }
            // A job may have gone to a state that had been purged already.
            if purged == before {
                return Ok(purged);
            }
        }
    }

    fn set_paused(&self, paused: bool) -> Result<(), QueueError> {
        self.write(move |tx| {
            manage::set_paused(tx, paused);
            Ok(())
        })
    }

    fn set_retention(&self, retention: Retention) -> Result<(), QueueError> {
        self.write(move |tx| {
            tx.queue.retention = retention;
            Ok(())
        })
    }

    fn retention(&self) -> Result<Retention, QueueError> {
        let row = self.read(|connection, _| QueueRow::load(connection, self.queue))?;
        Ok(row.retention)
    }
}

impl LimitStore for SqliteBroker {
    fn set_limits(&self, limits: Limits) -> Result<(), QueueError> {
        self.write(move |tx| {
            manage::set_limits(tx, limits);
            Ok(())
        })
    }

    fn limits(&self) -> Result<Limits, QueueError> {
        let row = self.read(|connection, _| QueueRow::load(connection, self.queue))?;
        Ok(row.limits)
    }
}

impl ScheduleStore for SqliteBroker {
    fn schedules(&self) -> Result<Schedules, QueueError> {
        let all = self.read(|connection, _| read::schedules(connection, self.queue))?;
        Ok(Schedules::new(self.clock.seconds(), all))
    }

    fn clock(&self) -> Option<i64> {
        Some(self.clock.seconds())
    }

    fn put_schedule(&self, schedule: &Scheduled) -> Result<(), QueueError> {
        let schedule = schedule.clone();
        self.write(move |tx| manage::put_schedule(tx, &schedule))
    }

    fn drop_schedule(&self, name: &str) -> Result<bool, QueueError> {
        let name = name.to_owned();
        self.write(move |tx| manage::drop_schedule(tx, &name))
    }

    fn fire(
        &self,
        schedule: &Scheduled,
        next: i64,
        job: Option<&NewJob>,
    ) -> Result<Fired, QueueError> {
        let (schedule, job) = (schedule.clone(), job.cloned());
        self.write(move |tx| manage::fire(tx, &schedule, next, job.as_ref()))
    }
}
