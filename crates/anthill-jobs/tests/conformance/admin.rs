//! The parts of a liar: what it lacks and claims it pretends to do.

use crate::liar::Liar;
use anthill_jobs::broker::{
    Admin, Broker, ConsumerInfo, ConsumerRegistry, LimitStore, Retention, ScheduleStore, Schedules,
};
use anthill_jobs::{
    Capability, Fired, JobId, JobInfo, JobState, Limits, ListRequest, NewJob, QueueError,
    QueueStats, Scheduled,
};
use std::time::Duration;

impl Liar {
    fn shown(&self, mut job: JobInfo) -> JobInfo {
        if self.lacks(Capability::ErrorHistory) {
            job.errors.clear();
        }
        job
    }
}

/// Does it, or pretends to.
macro_rules! or_pretend {
    ($liar:ident, $capability:ident, $answer:expr, $done:expr) => {
        $liar
            .pretends(Capability::$capability, $answer)
            .unwrap_or_else(|| $done)
    };
}

impl Admin for Liar {
    fn get(&self, id: JobId) -> Result<Option<JobInfo>, QueueError> {
        let shown = || Ok(self.broker.get(id)?.map(|job| self.shown(job)));
        or_pretend!(self, ById, None, shown())
    }

    fn list(&self, request: &ListRequest) -> Result<Vec<JobInfo>, QueueError> {
        let shown = || {
            let jobs = self.broker.list(request)?.into_iter();
            Ok(jobs.map(|job| self.shown(job)).collect())
        };
        or_pretend!(self, List, Vec::new(), shown())
    }

    fn stats(&self) -> Result<QueueStats, QueueError> {
        let mut stats = self.broker.stats()?;
        if self.lacks(Capability::ExactCounts) {
            stats.enqueued += 1;
        }
        Ok(stats)
    }

    fn ready_kinds(&self) -> Result<Vec<String>, QueueError> {
        or_pretend!(self, List, Vec::new(), self.broker.ready_kinds())
    }

    fn cancel(&self, id: JobId) -> Result<bool, QueueError> {
        or_pretend!(self, ById, true, self.broker.cancel(id))
    }

    fn cancel_running(&self, id: JobId) -> Result<bool, QueueError> {
        or_pretend!(self, CancelRunning, true, self.broker.cancel_running(id))
    }

    fn set_due(&self, ids: &[JobId], delay: Duration) -> Result<Vec<bool>, QueueError> {
        or_pretend!(
            self,
            ById,
            vec![true; ids.len()],
            self.broker.set_due(ids, delay)
        )
    }

    fn remove_unchanged(&self, jobs: &[JobInfo]) -> Result<Vec<bool>, QueueError> {
        or_pretend!(
            self,
            ById,
            vec![true; jobs.len()],
            self.broker.remove_unchanged(jobs)
        )
    }

    fn retry_dead(&self, id: JobId) -> Result<bool, QueueError> {
        or_pretend!(self, ById, true, self.broker.retry_dead(id))
    }

    fn delete(&self, id: JobId) -> Result<bool, QueueError> {
        or_pretend!(self, ById, true, self.broker.delete(id))
    }

    fn purge(&self, states: &[JobState]) -> Result<u64, QueueError> {
        or_pretend!(self, Purge, 0, self.broker.purge(states))
    }

    fn set_paused(&self, paused: bool) -> Result<(), QueueError> {
        or_pretend!(self, Pause, (), self.broker.set_paused(paused))
    }

    fn set_retention(&self, retention: Retention) -> Result<(), QueueError> {
        *self.retention.lock().unwrap() = retention;
        or_pretend!(self, Retention, (), self.broker.set_retention(retention))
    }

    fn retention(&self) -> Result<Retention, QueueError> {
        let set = *self.retention.lock().unwrap();
        or_pretend!(self, Retention, set, self.broker.retention())
    }
}

impl LimitStore for Liar {
    fn set_limits(&self, limits: Limits) -> Result<(), QueueError> {
        *self.limits.lock().unwrap() = limits;
        let keeps = |capability| !self.lacks(capability);
        self.broker.set_limits(Limits {
            running: limits.running.filter(|_| keeps(Capability::RunningLimit)),
            per_key: limits.per_key.filter(|_| keeps(Capability::PerKey)),
            rate: limits.rate.filter(|_| keeps(Capability::Rate)),
            max_ready: limits.max_ready.filter(|_| keeps(Capability::MaxReady)),
        })
    }

    fn limits(&self) -> Result<Limits, QueueError> {
        Ok(*self.limits.lock().unwrap())
    }
}

impl ScheduleStore for Liar {
    fn schedules(&self) -> Result<Schedules, QueueError> {
        self.broker.schedules()
    }

    fn clock(&self) -> Option<i64> {
        self.broker.clock()
    }

    fn put_schedule(&self, schedule: &Scheduled) -> Result<(), QueueError> {
        or_pretend!(self, Schedules, (), self.broker.put_schedule(schedule))
    }

    fn drop_schedule(&self, name: &str) -> Result<bool, QueueError> {
        or_pretend!(self, Schedules, true, self.broker.drop_schedule(name))
    }

    fn fire(
        &self,
        schedule: &Scheduled,
        next: i64,
        job: Option<&NewJob>,
    ) -> Result<Fired, QueueError> {
        or_pretend!(
            self,
            Schedules,
            Fired::Done,
            self.broker.fire(schedule, next, job)
        )
    }
}

impl ConsumerRegistry for Liar {
    fn announce(&self, consumer: &ConsumerInfo, time: Duration) -> Result<(), QueueError> {
        let announce = || match self.broker.consumer_registry() {
            Some(registry) => registry.announce(consumer, time),
            None => self.capabilities().require(Capability::Consumers),
        };
        or_pretend!(self, Consumers, (), announce())
    }

    fn withdraw(&self, id: &str) -> Result<(), QueueError> {
        let withdraw = || match self.broker.consumer_registry() {
            Some(registry) => registry.withdraw(id),
            None => self.capabilities().require(Capability::Consumers),
        };
        or_pretend!(self, Consumers, (), withdraw())
    }

    fn consumers(&self) -> Result<Vec<ConsumerInfo>, QueueError> {
        let consumers = || match self.broker.consumer_registry() {
            Some(registry) => registry.consumers(),
            None => Ok(Vec::new()),
        };
        or_pretend!(self, Consumers, Vec::new(), consumers())
    }
}
