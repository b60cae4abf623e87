//! A broker of any kind as one type, for a [`Queue`](crate::Queue) of it.

use crate::broker::{
    Admin, Broker, Capabilities, ClaimRequest, Claims, ConsumerRegistry, Enqueued, Extended, Lease,
    LimitStore, Listener, NewJob, ScheduleStore, Settle, Settled, Subscription,
};
use crate::error::QueueError;
use crate::queue::Queue;
use std::sync::Arc;
use std::time::Duration;

/// Makes a queue of a broker whose type is not known.
pub(super) fn queue_of(broker: &Arc<dyn Broker>) -> Queue {
    Queue::of(Through(Arc::clone(broker)))
}

struct Through(Arc<dyn Broker>);

impl Broker for Through {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Result<Enqueued, QueueError>>, QueueError> {
        self.0.enqueue(jobs)
    }

    fn claim(&self, request: &ClaimRequest) -> Result<Claims, QueueError> {
        self.0.claim(request)
    }

    fn extend(&self, leases: &[Lease], time: Duration) -> Result<Vec<Extended>, QueueError> {
        self.0.extend(leases, time)
    }

    fn settle(&self, ends: &[(Lease, Settle)]) -> Result<Vec<Settled>, QueueError> {
        self.0.settle(ends)
    }

    fn subscribe(&self, listener: Listener) -> Result<Subscription, QueueError> {
        self.0.subscribe(listener)
    }

    fn identity(&self) -> String {
        self.0.identity()
    }

    fn progress(&self, lease: &Lease, progress: &[u8]) -> Result<bool, QueueError> {
        self.0.progress(lease, progress)
    }

    fn admin(&self) -> Option<&dyn Admin> {
        self.0.admin()
    }

    fn limit_store(&self) -> Option<&dyn LimitStore> {
        self.0.limit_store()
    }

    fn schedule_store(&self) -> Option<&dyn ScheduleStore> {
        self.0.schedule_store()
    }

    fn consumer_registry(&self) -> Option<&dyn ConsumerRegistry> {
        self.0.consumer_registry()
    }
}
