//! A broker that is watched, and may be kept from what it is asked to do.

use anthill_jobs::*;
use std::time::Duration;

/// What a broker is asked for, as far as somebody wants to know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Enqueue,
    Claim,
    Extend,
    Settle,
    SetDue,
    RemoveUnchanged,
    Schedules,
    HasChanged,
}

/// Who watches it.
pub(crate) trait Watch: Send + Sync + 'static {
    /// An error is what the broker answers, and it is not asked.
    fn before(&self, call: Call) -> Result<(), QueueError>;
    fn after(&self, _: Call) {}
    fn claimed(&self, _: &Claims, _: &dyn Broker) {}
    /// An error is what the broker answers to these ends, and it is not asked.
    fn settling(&self, _: &[(Lease, Settle)]) -> Result<(), QueueError> {
        Ok(())
    }
    fn settled(&self, _: &[(Lease, Settle)]) {}
    fn capabilities(&self, capabilities: Capabilities) -> Capabilities {
        capabilities
    }
}

pub(crate) struct Watched<B, W> {
    pub(crate) broker: B,
    pub(crate) watch: W,
}

impl<B: Broker, W: Watch> Watched<B, W> {
    fn around<T>(
        &self,
        call: Call,
        ask: impl FnOnce() -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        self.watch.before(call)?;
        let answer = ask();
        self.watch.after(call);
        answer
    }
}

impl<B: Broker, W: Watch> Broker for Watched<B, W> {
    fn capabilities(&self) -> Capabilities {
        self.watch.capabilities(self.broker.capabilities())
    }
    fn identity(&self) -> String {
        self.broker.identity()
    }
    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError> {
        self.around(Call::Enqueue, || self.broker.enqueue(jobs))
    }
    fn claim(&self, request: &ClaimRequest) -> Result<Claims, QueueError> {
        let claims = self.around(Call::Claim, || self.broker.claim(request))?;
        self.watch.claimed(&claims, &self.broker);
        Ok(claims)
    }
    fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<bool>, QueueError> {
        self.around(Call::Extend, || self.broker.extend(leases, lease))
    }
    fn settle(&self, ends: &[(Lease, Settle)]) -> Result<Vec<bool>, QueueError> {
        self.around(Call::Settle, || {
            self.watch.settling(ends)?;
            let settled = self.broker.settle(ends);
            self.watch.settled(ends);
            settled
        })
    }
    fn progress(&self, lease: Lease, progress: &[u8]) -> Result<bool, QueueError> {
        self.broker.progress(lease, progress)
    }
    fn cancel(&self, id: JobId) -> Result<bool, QueueError> {
        self.broker.cancel(id)
    }
    fn set_due(&self, ids: &[JobId], delay: Duration) -> Result<Vec<bool>, QueueError> {
        self.around(Call::SetDue, || self.broker.set_due(ids, delay))
    }
    fn remove_unchanged(&self, jobs: &[JobInfo]) -> Result<Vec<bool>, QueueError> {
        self.around(Call::RemoveUnchanged, || self.broker.remove_unchanged(jobs))
    }
    fn get(&self, id: JobId) -> Result<Option<JobInfo>, QueueError> {
        self.broker.get(id)
    }
    fn list(&self, request: &ListRequest) -> Result<Vec<JobInfo>, QueueError> {
        self.broker.list(request)
    }
    fn ready_kinds(&self) -> Result<Vec<String>, QueueError> {
        self.broker.ready_kinds()
    }
    fn retry_dead(&self, id: JobId) -> Result<bool, QueueError> {
        self.broker.retry_dead(id)
    }
    fn delete(&self, id: JobId) -> Result<bool, QueueError> {
        self.broker.delete(id)
    }
    fn purge(&self, states: &[JobState]) -> Result<u64, QueueError> {
        self.broker.purge(states)
    }
    fn set_paused(&self, paused: bool) -> Result<(), QueueError> {
        self.broker.set_paused(paused)
    }
    fn set_limits(&self, limits: Limits) -> Result<(), QueueError> {
        self.broker.set_limits(limits)
    }
    fn limits(&self) -> Result<Limits, QueueError> {
        self.broker.limits()
    }
    fn stats(&self) -> Result<QueueStats, QueueError> {
        self.broker.stats()
    }
    fn put_schedule(&self, schedule: &Scheduled) -> Result<(), QueueError> {
        self.broker.put_schedule(schedule)
    }
    fn drop_schedule(&self, name: &str) -> Result<bool, QueueError> {
        self.broker.drop_schedule(name)
    }
    fn schedules(&self) -> Result<Vec<Scheduled>, QueueError> {
        self.around(Call::Schedules, || self.broker.schedules())
    }
    fn fire(
        &self,
        schedule: &Scheduled,
        next: i64,
        job: Option<&NewJob>,
    ) -> Result<Fired, QueueError> {
        self.broker.fire(schedule, next, job)
    }
    fn now(&self) -> Result<i64, QueueError> {
        self.broker.now()
    }
    fn subscribe(&self, call: Box<dyn Fn() -> bool + Send + Sync>) {
        self.broker.subscribe(call);
    }
    fn has_changed(&self, seen: &mut u64) -> Result<bool, QueueError> {
        self.around(Call::HasChanged, || self.broker.has_changed(seen))
    }
}
