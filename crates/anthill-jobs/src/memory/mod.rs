//! The broker in memory: fast, and gone with its process. Everything is under one lock ([`store`]), and no listener is
//! called under it.

mod admin;
mod consumers;
mod entry;
mod index;
mod look;
mod manage;
mod operations;
mod retention;
mod states;
mod store;
mod time;

use crate::broker::{
    Admin, Broker, Capabilities, Capability, Change, ClaimRequest, Claims, ConsumerRegistry,
    Durability, Enqueued, Extended, JobState, Lease, LimitStore, Listener, Listeners,
    ScheduleStore, Settle, Settled, Subscription,
};
use crate::clock::Clock;
use crate::error::QueueError;
use crate::job::NewJob;
use crate::sync::lock;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use store::Store;
use time::{Now, nanos};

/// An enqueue that takes longer extends the leases of running jobs.
const LONG: Duration = Duration::from_millis(50);

static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// A broker in the memory of this process. It has all capabilities, except that no job survives the process, no other process
/// sees it, and there are no transactions.
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
    listeners: Listeners,
    /// To a manual clock.
    _clock_moves: Subscription,
    /// No other broker of the process has it.
    number: u64,
}

impl MemoryBroker {
    /// Makes an empty broker.
    pub fn new(clock: Clock) -> MemoryBroker {
        let listeners = Listeners::new();
        let ours = listeners.clone();
        // A move of a manual clock notifies at once.
        let clock_moves = clock.on_change(move || ours.notify(Change::Here));
        MemoryBroker {
            clock,
            store: Mutex::default(),
            listeners,
            _clock_moves: clock_moves,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    /// Changes the store, and notifies if there may be something to claim then.
    fn change<T>(&self, change: impl FnOnce(&mut Store, Now) -> (T, bool)) -> T {
        let (result, claimable) = self.with(change);
        if claimable {
            self.listeners.notify(Change::Here);
        }
        result
    }

    /// Does what time has brought, and looks, or makes a change that nobody needs to hear of.
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
        Capabilities::full("memory", Durability::None)
            .without(&[Capability::Shared, Capability::Transactions])
    }

    fn identity(&self) -> String {
        format!("memory:{}", self.number)
    }

    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Result<Enqueued, QueueError>>, QueueError> {
        self.change(|store, now| {
            store.sweep(now);
            let enqueued = store.enqueue_all(jobs, now);
            let took = store.now(&self.clock).steady.saturating_sub(now.steady);
            if took >= LONG {
                store.extend_all(now.steady, took);
            }
            let claimable = (enqueued.iter().flatten()).any(|one| one.is_added());
            let answers = enqueued.map(|all| all.into_iter().map(Ok).collect());
            (answers, claimable)
        })
    }

    fn claim(&self, request: &ClaimRequest) -> Result<Claims, QueueError> {
        Ok(self.with(|store, now| store.claim(request, now)))
    }

    fn extend(&self, leases: &[Lease], time: Duration) -> Result<Vec<Extended>, QueueError> {
        Ok(self.with(|store, now| {
            let mut extend = |held: &Lease| {
                let Some(slot) = store.slot_of_lease(held) else {
                    return Extended::Lost;
                };
                let ends = nanos(now.steady.saturating_add(time));
                let rank = (ends, store.get(slot).order);
                store.move_to(slot, JobState::Running, rank);
                if store.get(slot).is_cancelled {
                    Extended::Cancelled(held.clone())
                } else {
                    Extended::Held(held.clone())
                }
            };
            leases.iter().map(&mut extend).collect()
        }))
    }

    fn settle(&self, ends: &[(Lease, Settle)]) -> Result<Vec<Settled>, QueueError> {
        Ok(self.change(|store, now| {
            let mut claimable = store.limits.running.is_some();
            let mut settle = |(lease, end): &(Lease, Settle)| {
                let Some(slot) = store.slot_of_lease(lease) else {
                    return Settled::Lost;
                };
                let goes_on = matches!(end, Settle::Release { .. } | Settle::Retry { .. });
                claimable |= goes_on || store.get(slot).extra().key.is_some();
                store.settle(slot, end, now);
                Settled::Stored
            };
            let settled = ends.iter().map(&mut settle).collect();
            (settled, claimable)
        }))
    }

    fn subscribe(&self, listener: Listener) -> Result<Subscription, QueueError> {
        Ok(self.listeners.add(listener))
    }

    fn progress(&self, lease: &Lease, progress: &[u8]) -> Result<bool, QueueError> {
        let mut store = self.lock();
        let Some(slot) = store.slot_of_lease(lease) else {
            return Ok(false);
        };
        store.get_mut(slot).extra_mut().progress = Some(progress.into());
        Ok(true)
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(self)
    }

    fn limit_store(&self) -> Option<&dyn LimitStore> {
        Some(self)
    }

    fn schedule_store(&self) -> Option<&dyn ScheduleStore> {
        Some(self)
    }

    fn consumer_registry(&self) -> Option<&dyn ConsumerRegistry> {
        Some(self)
    }
}
