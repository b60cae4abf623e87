//! The broker in memory: fast, and gone with its process. Everything is under one lock ([`store`]), and no listener is
//! called under it.

mod entry;
mod index;
mod operations;
mod states;
mod store;
mod time;

use crate::broker::{
    Broker, Capabilities, ClaimRequest, Claims, Enqueued, Fired, JobInfo, JobState, Lease, Limits,
    ListRequest, QueueStats, Scheduled, Settle,
};
use crate::clock::Clock;
use crate::error::QueueError;
use crate::id::JobId;
use crate::job::NewJob;
use crate::listeners::Listeners;
use crate::sync::lock;
use index::Slot;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use store::Store;
use time::{Now, nanos};

/// An enqueue that takes longer extends the leases of running jobs.
const LONG: Duration = Duration::from_millis(50);

/// A broker in the memory of this process. It has all capabilities, except that no job survives the process and no other
/// process sees it.
///
/// ```
/// use anthill_jobs::{Clock, MemoryBroker, Queue};
///
/// let clock = Clock::manual(); // of a test
/// let queue = Queue::of(MemoryBroker::new(clock.clone()));
/// # assert_eq!(queue.stats()?.ready, 0);
/// # Ok::<(), anthill_jobs::QueueError>(())
/// ```
pub struct MemoryBroker {
    clock: Clock,
    store: Mutex<Store>,
    listeners: Arc<Listeners>,
}

impl MemoryBroker {
    /// Makes an empty broker.
    pub fn new(clock: Clock) -> MemoryBroker {
        let listeners = Arc::new(Listeners::default());
        let ours = Arc::downgrade(&listeners);
        // A move of a manual clock notifies at once.
        clock.on_change(move || ours.upgrade().map(|listeners| listeners.notify()).is_some());
        MemoryBroker {
            clock,
            store: Mutex::default(),
            listeners,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    /// Changes the store, and notifies if there may be something to claim then.
    fn change<T>(&self, change: impl FnOnce(&mut Store, Now) -> (T, bool)) -> T {
        let (result, claimable) = self.with(change);
        if claimable {
            self.listeners.notify();
        }
        result
    }

    /// Does what time has brought, and looks.
    fn look<T>(&self, look: impl FnOnce(&mut Store, Now) -> T) -> T {
        self.with(|store, now| {
            store.sweep(now);
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
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durable: false,
            shared: false,
            ..Capabilities::full("memory")
        }
    }

    fn identity(&self) -> String {
        // Nothing else has this address as long as the broker lives.
        format!("memory:{:p}", Arc::as_ptr(&self.listeners))
    }

    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError> {
        self.change(|store, now| {
            store.sweep(now);
            let enqueued = store.enqueue_all(jobs, now);
            let took = store.now(&self.clock).steady.saturating_sub(now.steady);
            if took >= LONG {
                store.extend_all(now.steady, took);
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
                let Some(slot) = store.slot_of_lease(held) else {
                    return false;
                };
                let ends = nanos(now.steady.saturating_add(lease));
                let rank = (ends, store.get(slot).order);
                store.move_to(slot, JobState::Running, rank);
                true
            };
            leases.iter().map(&mut extend).collect()
        }))
    }

    fn settle(&self, ends: &[(Lease, Settle)]) -> Result<Vec<bool>, QueueError> {
        Ok(self.change(|store, now| {
            let mut claimable = store.limits.running.is_some();
            let mut settle = |(lease, end): &(Lease, Settle)| {
                let Some(slot) = store.slot_of_lease(*lease) else {
                    return false;
                };
                let goes_on = matches!(end, Settle::Release { .. } | Settle::Retry { .. });
                claimable |= goes_on || store.get(slot).extra().key.is_some();
                store.settle(slot, end, now);
                true
            };
            let settled = ends.iter().map(&mut settle).collect();
            (settled, claimable)
        }))
    }

    fn progress(&self, lease: Lease, progress: &[u8]) -> Result<bool, QueueError> {
        let mut store = self.lock();
        let Some(slot) = store.slot_of_lease(lease) else {
            return Ok(false);
        };
        store.get_mut(slot).extra_mut().progress = Some(progress.to_vec());
        Ok(true)
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
            slots
                .take(request.limit)
                .map(|slot| store.info(slot, request.data, now))
                .collect()
        }))
    }

    fn ready_kinds(&self) -> Result<Vec<String>, QueueError> {
        Ok(self.look(|store, _| store.index.ready_kinds().map(str::to_owned).collect()))
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
            return Err(QueueError::Unsupported {
                what: "a purge of running jobs",
                broker: self.capabilities().name,
            });
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
                store.sweep(now);
                store.enqueue(job, now);
            }
            (Fired::Done, job.is_some())
        }))
    }

    fn now(&self) -> Result<i64, QueueError> {
        Ok(self.clock.seconds())
    }

    fn subscribe(&self, call: Box<dyn Fn() -> bool + Send + Sync>) {
        self.listeners.add(call);
    }

    fn has_changed(&self, _seen: &mut u64) -> Result<bool, QueueError> {
        Ok(false)
    }
}
