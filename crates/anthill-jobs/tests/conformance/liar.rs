//! The broker in memory, with capabilities taken away.

use anthill_jobs::broker::{Admin, LimitStore, ScheduleStore};
use anthill_jobs::broker::{ConsumerRegistry, Listener, Subscription};
use anthill_jobs::{
    Broker, Capabilities, Capability, ClaimRequest, Claims, Clock, Enqueued, Extended, JobId,
    Lease, Limits, MemoryBroker, NewJob, QueueError, Retention, Settle, Settled,
};
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;

pub(crate) struct Liar {
    pub(crate) broker: MemoryBroker,
    lacks: Vec<Capability>,
    claims: Vec<Capability>,
    /// The newest lease of each job, for one who does not look at tokens.
    newest: Mutex<HashMap<JobId, Lease>>,
    /// A clock that goes on with each call.
    pub(crate) goes_on: Option<Clock>,
    /// What was set and is not kept to.
    pub(crate) limits: Mutex<Limits>,
    pub(crate) retention: Mutex<Retention>,
}

impl Liar {
    pub(crate) fn new(clock: Clock, lacks: &[Capability], claims: &[Capability]) -> Liar {
        Liar {
            broker: MemoryBroker::new(clock),
            lacks: lacks.to_vec(),
            claims: claims.to_vec(),
            newest: Mutex::default(),
            goes_on: None,
            limits: Mutex::default(),
            retention: Mutex::default(),
        }
    }

    pub(crate) fn lacks(&self, capability: Capability) -> bool {
        self.lacks.contains(&capability)
    }

    /// What is lacked and claimed is pretended to be done; what is lacked and not claimed is refused.
    pub(crate) fn pretends<T>(
        &self,
        capability: Capability,
        answer: T,
    ) -> Option<Result<T, QueueError>> {
        let claimed = self.capabilities().require(capability);
        self.lacks(capability).then(|| claimed.map(|()| answer))
    }

    fn time_goes_on(&self) {
        if let Some(clock) = &self.goes_on {
            clock.advance(Duration::from_millis(1));
        }
    }

    /// What an engine without some of it stores of a job.
    fn stored(&self, job: &NewJob) -> NewJob {
        let mut job = job.clone();
        for lacked in &self.lacks {
            match lacked {
                Capability::Priority => job.priority = 0,
                Capability::Delay => job.delay = Duration::ZERO,
                Capability::Expiry => job.expires = None,
                Capability::Unique => {
                    (job.unique, job.once_per, job.debounce) = (None, None, false);
                }
                Capability::Debounce => job.debounce = false,
                Capability::PerKey => job.key = None,
                Capability::Results => job.keep_result = None,
                Capability::Headers => job.headers.clear(),
                _ => {}
            }
        }
        job
    }

    fn lease(&self, lease: &Lease) -> Lease {
        let newest = self.newest.lock().unwrap();
        let newest = newest
            .get(&lease.id())
            .filter(|_| self.lacks(Capability::Fenced));
        newest.unwrap_or(lease).clone()
    }

    fn end(&self, end: &Settle) -> Settle {
        let wait = |delay: &Duration| {
            let waits = !self.lacks(Capability::Delay);
            if waits { *delay } else { Duration::ZERO }
        };
        match end {
            Settle::Release { delay } if self.lacks(Capability::UncountedRelease) => {
                let (delay, error) = (wait(delay), "released".to_owned());
                Settle::Retry { delay, error }
            }
            Settle::Release { delay } => Settle::Release { delay: wait(delay) },
            Settle::Retry { delay, error } => {
                let (delay, error) = (wait(delay), error.clone());
                Settle::Retry { delay, error }
            }
            other => other.clone(),
        }
    }

    /// One after the other, as if each had been claimed alone.
    fn claim_each(&self, request: &ClaimRequest) -> Result<Claims, QueueError> {
        let mut all = Claims::default();
        while all.jobs.len() < request.limit {
            let mut one = request.clone();
            (one.limit, one.fragile) = (1, true);
            let claims = self.broker.claim(&one)?;
            all.again_in = claims.again_in;
            if claims.jobs.is_empty() {
                return Ok(all);
            }
            all.jobs.extend(claims.jobs);
        }
        for job in &mut all.jobs {
            job.is_fragile = false;
        }
        Ok(all)
    }
}

impl Broker for Liar {
    fn capabilities(&self) -> Capabilities {
        let has = self.broker.capabilities();
        let mut capabilities = has.without(&self.lacks).with(&self.claims);
        capabilities.name = "liar";
        capabilities
    }

    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Result<Enqueued, QueueError>>, QueueError> {
        self.time_goes_on();
        let jobs: Vec<NewJob> = jobs.iter().map(|job| self.stored(job)).collect();
        let ids: HashSet<JobId> = jobs.iter().map(|job| job.id).collect();
        let is_plain = |job: &NewJob| job.unique.is_none() && job.once_per.is_none();
        let may_turn = ids.len() == jobs.len() && jobs.iter().all(is_plain);
        if self.lacks(Capability::Order) && may_turn {
            // The last comes first.
            let turned: Vec<NewJob> = jobs.into_iter().rev().collect();
            let answers = self.broker.enqueue(&turned)?;
            return Ok(answers.into_iter().rev().collect());
        }
        if self.lacks(Capability::AtomicBatches) {
            let answer = |job| match self.broker.enqueue(std::slice::from_ref(job)) {
                Ok(mut one) => one.remove(0),
                Err(error) => Err(error),
            };
            return Ok(jobs.iter().map(answer).collect());
        }
        self.broker.enqueue(&jobs)
    }

    fn claim(&self, request: &ClaimRequest) -> Result<Claims, QueueError> {
        self.time_goes_on();
        let claims = if self.lacks(Capability::Isolated) && request.limit > 0 {
            self.claim_each(request)?
        } else {
            self.broker.claim(request)?
        };
        let mut newest = self.newest.lock().unwrap();
        let leases = claims.jobs.iter().map(|job| &job.lease);
        newest.extend(leases.map(|lease| (lease.id(), lease.clone())));
        Ok(claims)
    }

    fn extend(&self, leases: &[Lease], time: Duration) -> Result<Vec<Extended>, QueueError> {
        self.time_goes_on();
        let leases: Vec<Lease> = leases.iter().map(|lease| self.lease(lease)).collect();
        let extended = self.broker.extend(&leases, time)?.into_iter();
        let told = extended.map(|extended| match extended {
            Extended::Cancelled(lease) if self.lacks(Capability::CancelRunning) => {
                Extended::Held(lease)
            }
            other => other,
        });
        Ok(told.collect())
    }

    fn settle(&self, ends: &[(Lease, Settle)]) -> Result<Vec<Settled>, QueueError> {
        self.time_goes_on();
        let ends = ends.iter();
        let ends = ends.map(|(lease, end)| (self.lease(lease), self.end(end)));
        self.broker.settle(&ends.collect::<Vec<_>>())
    }

    fn subscribe(&self, listener: Listener) -> Result<Subscription, QueueError> {
        self.broker.subscribe(listener)
    }

    fn progress(&self, lease: &Lease, progress: &[u8]) -> Result<bool, QueueError> {
        self.pretends(Capability::Progress, true)
            .unwrap_or_else(|| self.broker.progress(&self.lease(lease), progress))
    }

    // Each part is there if something of it is claimed.

    fn admin(&self) -> Option<&dyn Admin> {
        let claims = |&one: &Capability| self.capabilities().has(one);
        ADMIN.iter().any(claims).then_some(self as &dyn Admin)
    }

    fn limit_store(&self) -> Option<&dyn LimitStore> {
        let claims = |&one: &Capability| self.capabilities().has(one);
        LIMITS.iter().any(claims).then_some(self as &dyn LimitStore)
    }

    fn schedule_store(&self) -> Option<&dyn ScheduleStore> {
        let claims = self.capabilities().has(Capability::Schedules);
        claims.then_some(self as &dyn ScheduleStore)
    }

    fn consumer_registry(&self) -> Option<&dyn ConsumerRegistry> {
        let claims = self.capabilities().has(Capability::Consumers);
        claims.then_some(self as &dyn ConsumerRegistry)
    }
}

const ADMIN: &[Capability] = &[
    Capability::ById,
    Capability::CancelRunning,
    Capability::List,
    Capability::ExactCounts,
    Capability::Purge,
    Capability::Pause,
    Capability::Retention,
];

const LIMITS: &[Capability] = &[
    Capability::PerKey,
    Capability::RunningLimit,
    Capability::Rate,
    Capability::MaxReady,
];
