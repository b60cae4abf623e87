//! A broker that is watched, and may be kept from what it is asked to do.

use anthill_jobs::broker::{
    Admin, ConsumerRegistry, LimitStore, Listener, Retention, ScheduleStore, Schedules,
    Subscription,
};
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
    fn subscribing(&self, _: &Listener) {}
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
    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Result<Enqueued, QueueError>>, QueueError> {
        self.around(Call::Enqueue, || self.broker.enqueue(jobs))
    }
    fn claim(&self, request: &ClaimRequest) -> Result<Claims, QueueError> {
        let claims = self.around(Call::Claim, || self.broker.claim(request))?;
        self.watch.claimed(&claims, &self.broker);
        Ok(claims)
    }
    fn extend(&self, leases: &[Lease], time: Duration) -> Result<Vec<Extended>, QueueError> {
        self.around(Call::Extend, || self.broker.extend(leases, time))
    }
    fn settle(&self, ends: &[(Lease, Settle)]) -> Result<Vec<Settled>, QueueError> {
        self.around(Call::Settle, || {
            self.watch.settling(ends)?;
            let settled = self.broker.settle(ends);
            self.watch.settled(ends);
            settled
        })
    }
    fn subscribe(&self, listener: Listener) -> Result<Subscription, QueueError> {
        self.watch.subscribing(&listener);
        self.broker.subscribe(listener)
    }
    fn progress(&self, lease: &Lease, progress: &[u8]) -> Result<bool, QueueError> {
        self.broker.progress(lease, progress)
    }

    // Each part is there if the broker has it.

    fn admin(&self) -> Option<&dyn Admin> {
        self.broker.admin().map(|_| self as &dyn Admin)
    }
    fn limit_store(&self) -> Option<&dyn LimitStore> {
        self.broker.limit_store()
    }
    fn schedule_store(&self) -> Option<&dyn ScheduleStore> {
        let has = self.broker.schedule_store();
        has.map(|_| self as &dyn ScheduleStore)
    }
    fn consumer_registry(&self) -> Option<&dyn ConsumerRegistry> {
        self.broker.consumer_registry()
    }
}

impl<B: Broker, W: Watch> Watched<B, W> {
    fn its_admin(&self) -> &dyn Admin {
        self.broker.admin().expect("it has one")
    }

    fn its_schedules(&self) -> &dyn ScheduleStore {
        self.broker.schedule_store().expect("it has one")
    }
}

impl<B: Broker, W: Watch> Admin for Watched<B, W> {
    fn get(&self, id: JobId) -> Result<Option<JobInfo>, QueueError> {
        self.its_admin().get(id)
    }
    fn list(&self, request: &ListRequest) -> Result<Vec<JobInfo>, QueueError> {
        self.its_admin().list(request)
    }
    fn stats(&self) -> Result<QueueStats, QueueError> {
        self.its_admin().stats()
    }
    fn ready_kinds(&self) -> Result<Vec<String>, QueueError> {
        self.its_admin().ready_kinds()
    }
    fn cancel(&self, id: JobId) -> Result<bool, QueueError> {
        self.its_admin().cancel(id)
    }
    fn cancel_running(&self, id: JobId) -> Result<bool, QueueError> {
        self.its_admin().cancel_running(id)
    }
    fn set_due(&self, ids: &[JobId], delay: Duration) -> Result<Vec<bool>, QueueError> {
        self.around(Call::SetDue, || self.its_admin().set_due(ids, delay))
    }
    fn remove_unchanged(&self, jobs: &[JobInfo]) -> Result<Vec<bool>, QueueError> {
        self.around(Call::RemoveUnchanged, || {
            self.its_admin().remove_unchanged(jobs)
        })
    }
    fn retry_dead(&self, id: JobId) -> Result<bool, QueueError> {
        self.its_admin().retry_dead(id)
    }
    fn delete(&self, id: JobId) -> Result<bool, QueueError> {
        self.its_admin().delete(id)
    }
    fn purge(&self, states: &[JobState]) -> Result<u64, QueueError> {
        self.its_admin().purge(states)
    }
    fn set_paused(&self, paused: bool) -> Result<(), QueueError> {
        self.its_admin().set_paused(paused)
    }
    fn set_retention(&self, retention: Retention) -> Result<(), QueueError> {
        self.its_admin().set_retention(retention)
    }
    fn retention(&self) -> Result<Retention, QueueError> {
        self.its_admin().retention()
    }
}

impl<B: Broker, W: Watch> ScheduleStore for Watched<B, W> {
    fn schedules(&self) -> Result<Schedules, QueueError> {
        self.around(Call::Schedules, || self.its_schedules().schedules())
    }
    fn clock(&self) -> Option<i64> {
        self.its_schedules().clock()
    }
    fn put_schedule(&self, schedule: &Scheduled) -> Result<(), QueueError> {
        self.its_schedules().put_schedule(schedule)
    }
    fn drop_schedule(&self, name: &str) -> Result<bool, QueueError> {
        self.its_schedules().drop_schedule(name)
    }
    fn fire(
        &self,
        schedule: &Scheduled,
        next: i64,
        job: Option<&NewJob>,
    ) -> Result<Fired, QueueError> {
        self.its_schedules().fire(schedule, next, job)
    }
}
