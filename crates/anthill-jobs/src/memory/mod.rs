//! The broker in memory: quick, and gone with its process. Everything is under one lock ([`store`]), and nobody is called
//! under it.

mod entry;
mod lines;
mod states;
mod steps;
mod store;

use super::broker::{
    Abilities, Broker, ClaimRequest, Claims, Enqueued, Fired, JobInfo, JobState, Lease, Limits,
    ListRequest, QueueStats, Scheduled, Settle,
};
use super::calls::Calls;
use super::clock::Clock;
use super::error::QueueError;
use super::job::{JobId, NewJob};
use crate::sync::lock;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use store::{Now, Place, Store, nanos};

/// A step that takes so long takes nobody's lease.
const LONG: Duration = Duration::from_millis(50);

/// Jobs in the memory of this process. All that [`Broker`] asks for, but nothing survives.
///
/// ```
/// use anthill_jobs::{Clock, MemoryBroker, Queue};
///
/// let clock = Clock::manual(); // a test's own
/// let queue = Queue::of(MemoryBroker::new(clock.clone()));
/// # assert_eq!(queue.stats()?.ready, 0);
/// # Ok::<(), anthill_jobs::QueueError>(())
/// ```
pub struct MemoryBroker {
    clock: Clock,
    store: Mutex<Store>,
    calls: Arc<Calls>,
}

impl MemoryBroker {
    /// An empty one.
    pub fn new(clock: Clock) -> MemoryBroker {
        let calls = Arc::new(Calls::default());
        let ours = Arc::downgrade(&calls);
        // What is moved by hand is heard of at once.
        clock.on_change(move || ours.upgrade().map(|calls| calls.call()).is_some());
        MemoryBroker {
            clock,
            store: Mutex::default(),
            calls,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    /// Changes the store, and calls where there may be something to claim then.
    fn change<T>(&self, change: impl FnOnce(&mut Store, Now) -> (T, bool)) -> T {
        let (result, claimable) = self.with(change);
        if claimable {
            self.calls.call();
        }
        result
    }

    /// Sees to what time brings, and looks.
    fn look<T>(&self, look: impl FnOnce(&mut Store, Now) -> T) -> T {
        self.with(|store, now| {
            store.tidy(now);
            look(store, now)
        })
    }

    fn with<T>(&self, with: impl FnOnce(&mut Store, Now) -> T) -> T {
        let mut store = self.lock();
        let now = store.now(&self.clock);
        with(&mut store, now)
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker").finish_non_exhaustive()
    }
}

impl Broker for MemoryBroker {
    fn abilities(&self) -> Abilities {
        Abilities {
            durable: false,
            shared: false,
            ..Abilities::full("memory")
        }
    }

    fn identity(&self) -> String {
        // Nothing else is there as long as it is.
        format!("memory:{:p}", Arc::as_ptr(&self.calls))
    }

    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError> {
        self.change(|store, now| {
            store.tidy(now);
            let enqueued = store.enqueue_all(jobs, now);
            let took = store.now(&self.clock).steady.saturating_sub(now.steady);
            if took >= LONG {
                store.stand_still(now.steady, took);
            }
            let claimable = (enqueued.iter().flatten()).any(|one| one.is_added());
            (enqueued, claimable)
        })
    }

    fn claim(&self, request: &ClaimRequest) -> Result<Claims, QueueError> {
        Ok(self.with(|store, now| store.claim(request, now)))
    }

    fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<bool>, QueueError> {
        Ok(self.with(|store, now| {
            let mut extend = |&held: &Lease| {
                let Some(place) = store.holder(held) else {
                    return false;
                };
                let ends = nanos(now.steady.saturating_add(lease));
                let rank = (ends, store.peek(place).order);
                store.shift(place, JobState::Running, rank);
                true
            };
            leases.iter().map(&mut extend).collect()
        }))
    }

    fn settle(&self, ends: &[(Lease, Settle)]) -> Result<Vec<bool>, QueueError> {
        Ok(self.change(|store, now| {
            let mut claimable = store.limits.running.is_some();
            let mut settle = |(lease, end): &(Lease, Settle)| {
                let Some(place) = store.holder(*lease) else {
                    return false;
                };
                let goes_on = matches!(end, Settle::Release { .. } | Settle::Retry { .. });
                claimable |= goes_on || store.peek(place).more().key.is_some();
                store.settle(place, end, now);
                true
            };
            let settled = ends.iter().map(&mut settle).collect();
            (settled, claimable)
        }))
    }

    fn progress(&self, lease: Lease, progress: &[u8]) -> Result<bool, QueueError> {
        let mut store = self.lock();
        let Some(place) = store.holder(lease) else {
            return Ok(false);
        };
        store.entry(place).more_mut().progress = Some(progress.to_vec());
        Ok(true)
    }

    fn cancel(&self, id: JobId) -> Result<bool, QueueError> {
        Ok(self.change(|store, now| {
            store.tidy(now);
            let Some(place) = store.find(id) else {
                return (false, false);
            };
            let waits = JobState::WAITING.contains(&store.peek(place).state);
            let has_key = store.peek(place).more().key.is_some();
            if waits {
                store.take_away(place);
            }
            (waits, waits && has_key)
        }))
    }

    fn set_due(&self, ids: &[JobId], delay: Duration) -> Result<Vec<bool>, QueueError> {
        Ok(self.change(|store, now| {
            store.tidy(now);
            let set = ids.iter().map(|&id| store.set_due(id, delay, now));
            let set: Vec<bool> = set.collect();
            // Also where it is delayed: who sleeps may sleep too long.
            let any = set.contains(&true);
            (set, any)
        }))
    }

    fn remove_unchanged(&self, jobs: &[JobInfo]) -> Result<Vec<bool>, QueueError> {
        Ok(self.change(|store, now| {
            store.tidy(now);
            let removed = jobs.iter().map(|job| store.remove_unchanged(job)).collect();
            // One that is gone may have made room for another one with its key.
            (removed, jobs.iter().any(|job| job.key.is_some()))
        }))
    }

    fn get(&self, id: JobId) -> Result<Option<JobInfo>, QueueError> {
        Ok(self.look(|store, now| {
            let place = store.find(id);
            place.map(|place| store.info(place, usize::MAX, now))
        }))
    }

    fn list(&self, request: &ListRequest) -> Result<Vec<JobInfo>, QueueError> {
        Ok(self.look(|store, now| {
            let after = request.after.and_then(|id| store.find(id));
            let after = after.map(|place| store.peek(place));
            let after = after.filter(|entry| entry.state == request.state);
            let places = store
                .lines
                .all(request.state, after.map(|entry| entry.rank));
            places
                .take(request.most)
                .map(|place| store.info(place, request.data, now))
                .collect()
        }))
    }

    fn ready_kinds(&self) -> Result<Vec<String>, QueueError> {
        Ok(self.look(|store, _| store.lines.ready_kinds().map(str::to_owned).collect()))
    }

    fn retry_dead(&self, id: JobId) -> Result<bool, QueueError> {
        Ok(self.change(|store, now| {
            store.tidy(now);
            let retried = store.retry_dead(id, now);
            (retried, retried)
        }))
    }

    fn delete(&self, id: JobId) -> Result<bool, QueueError> {
        let mut store = self.lock();
        let Some(place) = store.find(id) else {
            return Ok(false);
        };
        let over = JobState::OVER.contains(&store.peek(place).state);
        if over {
            store.take_away(place);
        }
        Ok(over)
    }

    fn purge(&self, states: &[JobState]) -> Result<u64, QueueError> {
        if states.contains(&JobState::Running) {
            return Err(QueueError::Unsupported {
                what: "purge of jobs that run",
                broker: self.abilities().name,
            });
        }
        Ok(self.change(|store, now| {
            store.tidy(now);
            let places = |&state: &JobState| store.lines.all(state, None);
            let mut places: Vec<Place> = states.iter().flat_map(places).collect();
            // Who names a state twice means it once.
            places.sort_unstable();
            places.dedup();
            for &place in &places {
                store.take_away(place);
            }
            let claimable = store.lines.len(JobState::Ready) > 0;
            (places.len() as u64, claimable)
        }))
    }

    fn set_paused(&self, paused: bool) -> Result<(), QueueError> {
        self.change(|store, _| (store.counts.paused = paused, !paused));
        Ok(())
    }

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

    fn stats(&self) -> Result<QueueStats, QueueError> {
        Ok(self.look(|store, now| store.stats(now)))
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

    fn schedules(&self) -> Result<Vec<Scheduled>, QueueError> {
        Ok(self.lock().schedules.values().cloned().collect())
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
                store.tidy(now);
                store.enqueue(job, now);
            }
            (Fired::Done, job.is_some())
        }))
    }

    fn now(&self) -> Result<i64, QueueError> {
        Ok(self.clock.seconds())
    }

    fn subscribe(&self, call: Box<dyn Fn() -> bool + Send + Sync>) {
        self.calls.add(call);
    }

    fn has_changed(&self, _seen: &mut u64) -> Result<bool, QueueError> {
        Ok(false)
    }
}
