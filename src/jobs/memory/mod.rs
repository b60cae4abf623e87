//! The broker in memory: quick, and gone with its process. Everything is under one lock ([`store`]), and nobody is called
//! under it.

mod entry;
mod states;
mod steps;
mod store;

use super::broker::{
    Abilities, Broker, Claims, Enqueued, JobInfo, JobState, Lease, Limits, QueueStats, Scheduled,
    Settle,
};
use super::calls::Calls;
use super::clock::Clock;
use super::error::QueueError;
use super::job::{JobId, NewJob};
use crate::sync::{Arc, Mutex, MutexGuard, lock};
use std::fmt;
use std::time::Duration;
use store::{Now, Place, Store, line, nanos};

/// Jobs in the memory of this process. All that [`Broker`] asks for, but nothing survives.
///
/// ```
/// use anthill::jobs::{Clock, MemoryBroker, Queue};
///
/// let clock = Clock::manual(); // a test's own
/// let queue = Queue::of(MemoryBroker::new(clock.clone()));
/// # assert_eq!(queue.stats()?.ready, 0);
/// # Ok::<(), anthill::jobs::QueueError>(())
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

    fn now(&self) -> Now {
        Now {
            wall: self.clock.wall(),
            steady: self.clock.steady().since,
        }
    }

    /// Changes the store, and calls where there may be something to claim then.
    fn change<T>(&self, change: impl FnOnce(&mut Store, Now) -> (T, bool)) -> T {
        let now = self.now();
        let (result, claimable) = change(&mut self.lock(), now);
        if claimable {
            self.calls.call();
        }
        result
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

    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError> {
        Ok(self.change(|store, now| {
            store.tidy(now);
            let each = jobs.iter().map(|job| store.enqueue(job, now));
            let enqueued: Vec<Enqueued> = each.collect();
            let claimable = enqueued.iter().any(|one| one.is_added());
            (enqueued, claimable)
        }))
    }

    fn claim(&self, most: usize, lease: Duration) -> Result<Claims, QueueError> {
        let now = self.now();
        Ok(self.lock().claim(most, lease, now))
    }

    fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<bool>, QueueError> {
        let now = self.now();
        let mut store = self.lock();
        let mut extend = |&held: &Lease| {
            let Some(place) = store.holder(held) else {
                return false;
            };
            let entry = store.entry(place);
            let (before, order) = (entry.rank, entry.order);
            let rank = (nanos(now.steady.saturating_add(lease)), order);
            entry.rank = rank;
            let line = &mut store.lines[line(JobState::Running)];
            line.remove(&before);
            line.insert(rank, place);
            true
        };
        Ok(leases.iter().map(&mut extend).collect())
    }

    fn settle(&self, ends: &[(Lease, Settle)]) -> Result<Vec<bool>, QueueError> {
        Ok(self.change(|store, now| {
            let mut claimable = store.limits.running.is_some();
            let mut settle = |(lease, end): &(Lease, Settle)| {
                let Some(place) = store.holder(*lease) else {
                    return false;
                };
                let goes_on = matches!(end, Settle::Release | Settle::Retry { .. });
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

    fn get(&self, id: JobId) -> Result<Option<JobInfo>, QueueError> {
        let now = self.now();
        let mut store = self.lock();
        store.tidy(now);
        Ok(store.find(id).map(|place| store.info(place, now)))
    }

    fn list(
        &self,
        state: JobState,
        after: Option<JobId>,
        most: usize,
    ) -> Result<Vec<JobInfo>, QueueError> {
        let now = self.now();
        let mut store = self.lock();
        store.tidy(now);
        let after = after.and_then(|id| store.find(id));
        let after = after.map(|place| store.peek(place));
        let rank = after
            .filter(|entry| entry.state == state)
            .map(|entry| entry.rank);
        let from = rank.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let places = store.line(state).range((from, std::ops::Bound::Unbounded));
        Ok(places
            .take(most)
            .map(|(_, &place)| store.info(place, now))
            .collect())
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

    fn purge(&self, state: JobState) -> Result<u64, QueueError> {
        if state == JobState::Running {
            return Err(QueueError::Unsupported {
                what: "purge of jobs that run",
                broker: self.abilities().name,
            });
        }
        Ok(self.change(|store, now| {
            store.tidy(now);
            let places: Vec<Place> = store.line(state).values().copied().collect();
            for &place in &places {
                store.take_away(place);
            }
            let claimable = !store.line(JobState::Ready).is_empty();
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
            }
            store.limits = limits;
            // Those that are one too many are parked again by the next claim.
            let keys: Vec<String> = store.parked.keys().cloned().collect();
            for key in keys {
                store.unpark(&key, usize::MAX);
            }
            ((), true)
        });
        Ok(())
    }

    fn limits(&self) -> Result<Limits, QueueError> {
        Ok(self.lock().limits)
    }

    fn stats(&self) -> Result<QueueStats, QueueError> {
        let now = self.now();
        let mut store = self.lock();
        store.tidy(now);
        Ok(store.stats(now))
    }

    fn put_schedule(&self, schedule: &Scheduled) -> Result<(), QueueError> {
        self.change(|store, _| {
            let mut schedule = schedule.clone();
            if let Some(before) = store.schedules.get(&schedule.name) {
                if before.cron == schedule.cron {
                    schedule.next = before.next;
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

    fn fire(&self, schedule: &Scheduled, next: i64, job: &NewJob) -> Result<bool, QueueError> {
        Ok(self.change(|store, now| {
            let stored = store.schedules.get_mut(&schedule.name);
            let Some(stored) = stored.filter(|stored| stored.next == schedule.next) else {
                return (false, false);
            };
            stored.next = next;
            store.tidy(now);
            store.enqueue(job, now);
            (true, true)
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
