//! The broker's parts for operators: jobs by id and by state, limits and schedules.

use super::MemoryBroker;
use super::index::Slot;
use crate::broker::{
    Admin, Broker, Fired, JobInfo, JobState, LimitStore, Limits, ListRequest, QueueStats,
    Retention, ScheduleStore, Scheduled, Schedules,
};
use crate::error::QueueError;
use crate::id::JobId;
use crate::job::NewJob;
use std::time::Duration;

impl Admin for MemoryBroker {
    fn get(&self, id: JobId) -> Result<Option<JobInfo>, QueueError> {
        Ok(self.look(|store, now| {
            let slot = store.find(id);
            slot.map(|slot| store.info(slot, usize::MAX, now))
        }))
    }

    fn list(&self, request: &ListRequest) -> Result<Vec<JobInfo>, QueueError> {
        Ok(self.look(|store, now| {
            let after = request.after.and_then(|id| store.find(id));
            let after = after.map(|slot| store.get(slot));
            let after = after.filter(|entry| entry.state == request.state);
            let slots = store
                .index
                .all(request.state, after.map(|entry| entry.rank));
            let wants = |&slot: &Slot| {
                let entry = store.get(slot);
                request.wants(store.index.name(entry.kind), entry.extra().error())
            };
            slots
                .filter(wants)
                .take(request.limit)
                .map(|slot| store.info(slot, request.data, now))
                .collect()
        }))
    }

    fn stats(&self) -> Result<QueueStats, QueueError> {
        Ok(self.look(|store, now| store.stats(now)))
    }

    fn ready_kinds(&self) -> Result<Vec<String>, QueueError> {
        Ok(self.look(|store, _| store.index.ready_kinds().map(str::to_owned).collect()))
    }

    fn cancel(&self, id: JobId) -> Result<bool, QueueError> {
        Ok(self.change(|store, now| {
            store.sweep(now);
            let Some(slot) = store.find(id) else {
                return (false, false);
            };
            let waits = JobState::WAITING.contains(&store.get(slot).state);
            let has_key = store.get(slot).extra().key.is_some();
            if waits {
                store.remove_by_request(slot);
            }
            (waits, waits && has_key)
        }))
    }

    fn cancel_running(&self, id: JobId) -> Result<bool, QueueError> {
        Ok(self.look(|store, _| store.cancel_running(id)))
    }

    fn set_due(&self, ids: &[JobId], delay: Duration) -> Result<Vec<bool>, QueueError> {
        Ok(self.change(|store, now| {
            store.sweep(now);
            let set = ids.iter().map(|&id| store.set_due(id, delay, now));
            let set: Vec<bool> = set.collect();
            // Also if a job is delayed: a consumer may sleep past the new time.
            let any = set.contains(&true);
            (set, any)
        }))
    }

    fn remove_unchanged(&self, jobs: &[JobInfo]) -> Result<Vec<bool>, QueueError> {
        Ok(self.change(|store, now| {
            store.sweep(now);
            let removed = jobs.iter().map(|job| store.remove_unchanged(job)).collect();
            // A removed job may have made room for another one with its key.
            (removed, jobs.iter().any(|job| job.key.is_some()))
        }))
    }

    fn retry_dead(&self, id: JobId) -> Result<bool, QueueError> {
        Ok(self.change(|store, now| {
            store.sweep(now);
            let retried = store.retry_dead(id, now);
            (retried, retried)
        }))
    }

    fn delete(&self, id: JobId) -> Result<bool, QueueError> {
        let mut store = self.lock();
        let Some(slot) = store.find(id) else {
            return Ok(false);
        };
        let over = JobState::TERMINAL.contains(&store.get(slot).state);
        if over {
            store.remove_by_request(slot);
        }
        Ok(over)
    }

    fn purge(&self, states: &[JobState]) -> Result<u64, QueueError> {
        if states.contains(&JobState::Running) {
            return Err(self.capabilities().unsupported("a purge of running jobs"));
        }
        Ok(self.change(|store, now| {
            store.sweep(now);
            let slots = |&state: &JobState| store.index.all(state, None);
            let mut slots: Vec<Slot> = states.iter().flat_map(slots).collect();
            // A state may be named twice.
            slots.sort_unstable();
            slots.dedup();
            for &slot in &slots {
                store.remove_by_request(slot);
            }
            let claimable = store.index.len(JobState::Ready) > 0;
            (slots.len() as u64, claimable)
        }))
    }

    fn set_paused(&self, paused: bool) -> Result<(), QueueError> {
        self.change(|store, _| (store.counts.paused = paused, !paused));
        Ok(())
    }

    fn set_retention(&self, retention: Retention) -> Result<(), QueueError> {
        self.lock().retention = retention;
        Ok(())
    }

    fn retention(&self) -> Result<Retention, QueueError> {
        Ok(self.lock().retention)
    }
}

impl LimitStore for MemoryBroker {
    fn set_limits(&self, limits: Limits) -> Result<(), QueueError> {
        self.change(|store, _| {
            if store.limits.rate != limits.rate {
                store.rate_kept = Duration::ZERO;
                store.rate_is_behind = false;
            }
            let before = std::mem::replace(&mut store.limits, limits);
            if before.per_key != limits.per_key {
                let keys: Vec<String> = store.keys.keys().cloned().collect();
                for key in &keys {
                    store.balance_key(key);
                }
            }
            ((), true)
        });
        Ok(())
    }

    fn limits(&self) -> Result<Limits, QueueError> {
        Ok(self.lock().limits)
    }
}

impl ScheduleStore for MemoryBroker {
    fn schedules(&self) -> Result<Schedules, QueueError> {
        let all = self.lock().schedules.values().cloned().collect();
        Ok(Schedules::new(self.clock.seconds(), all))
    }

    fn clock(&self) -> Option<i64> {
        Some(self.clock.seconds())
    }

    fn put_schedule(&self, schedule: &Scheduled) -> Result<(), QueueError> {
        self.change(|store, _| {
            let mut schedule = schedule.clone();
            if let Some(before) = store.schedules.get(&schedule.name) {
                if before.cron == schedule.cron {
                    schedule.next = before.next.min(schedule.next);
                }
            }
            store.schedules.insert(schedule.name.clone(), schedule);
            ((), true)
        });
        Ok(())
    }

    fn drop_schedule(&self, name: &str) -> Result<bool, QueueError> {
        Ok(self.lock().schedules.remove(name).is_some())
    }

    fn fire(
        &self,
        schedule: &Scheduled,
        next: i64,
        job: Option<&NewJob>,
    ) -> Result<Fired, QueueError> {
        Ok(self.change(|store, now| {
            if store.counts.paused {
                return (Fired::Paused, false);
            }
            let stored = store.schedules.get_mut(&schedule.name);
            let Some(stored) = stored.filter(|stored| stored.next == schedule.next) else {
                return (Fired::Changed, false);
            };
            stored.next = next;
            if let Some(job) = job {
                store.sweep(now);
                store.enqueue(job, now);
            }
            (Fired::Done, job.is_some())
        }))
    }
}
