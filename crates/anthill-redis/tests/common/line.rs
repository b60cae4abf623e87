//! A queue behind a wire, whose requests a test names by bytes that are in them.

use super::wire::{Act, Wire};
use super::{LEASE, claim, enqueue, finish, fresh, job, open};
use anthill_jobs::broker::Admin;
use anthill_jobs::{Broker, QueueError, Settle};
use anthill_redis::RedisBroker;
use anthill_test_support::redis::Access;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// So that what stands fails soon.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(500);

/// What becomes of each request that has these bytes in it, in turn; others pass.
#[derive(Clone, Default)]
pub(crate) struct Plan(pub(crate) Arc<Mutex<(Vec<u8>, Vec<Act>)>>);

impl Plan {
    pub(crate) fn acts(&self, needle: impl AsRef<[u8]>, acts: Vec<Act>) {
        *self.0.lock().unwrap() = (needle.as_ref().to_vec(), acts);
    }

    pub(crate) fn decide(&self, request: &[Vec<u8>]) -> Act {
        let mut plan = self.0.lock().unwrap();
        let needle = plan.0.clone();
        let is_it = |part: &Vec<u8>| part.windows(needle.len()).any(|window| window == needle);
        if plan.1.is_empty() || !request.iter().any(is_it) {
            return Act::Pass;
        }
        plan.1.remove(0)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.lock().unwrap().1.is_empty()
    }
}

/// A queue behind a wire.
pub(crate) struct Line {
    pub(crate) queue: String,
    pub(crate) plan: Plan,
    pub(crate) wire: Wire,
    pub(crate) address: String,
    /// Not behind it.
    pub(crate) near: RedisBroker,
}

impl Line {
    pub(crate) fn new(access: &Access) -> Line {
        let (queue, plan) = (fresh(), Plan::default());
        let decides = plan.clone();
        let wire = Wire::start(access.address(), move |request| decides.decide(request));
        let near = open(&access.url(), &queue);
        // The server knows the scripts by now: what is cut is the call itself, not its refusal.
        for number in 0..4 {
            enqueue(&near, &[job(format!("warm {number}")), job("warm")]);
            let mut rich = job("warm");
            rich.key = Some("key".to_owned());
            enqueue(&near, &[rich]);
            let claimed = claim(&near, 5);
            let leases: Vec<_> = claimed.iter().map(|job| job.lease.clone()).collect();
            near.extend(&leases, LEASE).expect("they are held");
            finish(&near, &claimed);
        }
        let error = String::new();
        enqueue(&near, &[job("warm")]);
        let lease = claim(&near, 1)[0].lease.clone();
        near.settle(&[(lease, Settle::Dead { error })])
            .expect("it is held");
        near.purge(&[anthill_jobs::JobState::Dead])
            .expect("it can be purged");
        Line {
            address: access.url_through(wire.address()),
            queue,
            plan,
            wire,
            near,
        }
    }

    pub(crate) fn open(&self) -> RedisBroker {
        open(&self.address, &self.queue)
    }
}

#[track_caller]
pub(crate) fn is_unavailable<T: std::fmt::Debug>(answer: Result<T, QueueError>) {
    let error = answer.expect_err("it fails");
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    assert!(error.is_uncertain() && error.is_transient());
}
