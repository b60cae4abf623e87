//! Brokers that break a rule of the core, each in one way.

use anthill_jobs::broker::{Change, Listener, Listeners, Subscription};
use anthill_jobs::conformance::{Fixture, Means};
use anthill_jobs::{
    Broker, Capabilities, Capability, ClaimRequest, Claims, Clock, Durability, Enqueued, Extended,
    JobId, Lease, MemoryBroker, NewJob, QueueError, Settle, Settled,
};
use std::sync::Arc;
use std::time::Duration;

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// B1, B2.
    AddsAnIdTwice,
    AnswersOneEnqueueFewer,
    LosesTheLastOfABatch,
    /// B3.
    ClaimsOtherKinds,
    ClaimsMoreThanAskedFor,
    ClaimsWhereNoneIsAskedFor,
    CountsNoAttempts,
    NeverDies,
    LosesWhatIsReleased,
    LosesWhatIsRetried,
    KeepsWhatIsDone,
    /// B4, B12.
    SwapsTheAnswersToSettlements,
    ForgetsToExtend,
    ExtendsNoOther,
    /// B5.
    EndsNoLease,
    EndsEachLeaseEarly,
    /// B11.
    TellsNobody,
    TellsLate,
    TellsWhoHasLeft,
    KeepsWhoHasLeft,
    AsksToBeAskedAtOnce,
    /// What is stored.
    CutsLargeData,
    TrimsKinds,
    /// Maxima, capabilities, the name of the queue.
    TakesLessThanItSays,
    OtherCapabilitiesForEachHandle,
    EachHandleIsAQueue,
    SupportsProgressInSecret,
}

impl Break {
    pub(crate) const ALL: &[Break] = &[
        Break::AddsAnIdTwice,
        Break::AnswersOneEnqueueFewer,
        Break::LosesTheLastOfABatch,
        Break::ClaimsOtherKinds,
        Break::ClaimsMoreThanAskedFor,
        Break::ClaimsWhereNoneIsAskedFor,
        Break::CountsNoAttempts,
        Break::NeverDies,
        Break::LosesWhatIsReleased,
        Break::LosesWhatIsRetried,
        Break::KeepsWhatIsDone,
        Break::SwapsTheAnswersToSettlements,
        Break::ForgetsToExtend,
        Break::ExtendsNoOther,
        Break::EndsNoLease,
        Break::EndsEachLeaseEarly,
        Break::TellsNobody,
        Break::TellsLate,
        Break::TellsWhoHasLeft,
        Break::KeepsWhoHasLeft,
        Break::AsksToBeAskedAtOnce,
        Break::CutsLargeData,
        Break::TrimsKinds,
        Break::TakesLessThanItSays,
        Break::OtherCapabilitiesForEachHandle,
        Break::EachHandleIsAQueue,
        Break::SupportsProgressInSecret,
    ];
}

/// Claims the core, and what makes its checks exact: no more is asked of it.
const CLAIMED: [Capability; 3] = [
    Capability::Fenced,
    Capability::Delay,
    Capability::UncountedRelease,
];

struct Broken {
    broker: Arc<MemoryBroker>,
    breaks: Break,
    listeners: Listeners,
    /// Which handle it is.
    number: usize,
}

impl Broken {
    fn is(&self, breaks: Break) -> bool {
        self.breaks == breaks
    }

    fn heard(&self) {
        match self.breaks {
            Break::TellsNobody => {}
            Break::TellsLate => {
                let listeners = self.listeners.clone();
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(20));
                    listeners.notify(Change::Here);
                });
            }
            _ => self.listeners.notify(Change::Here),
        }
    }
}

impl Broker for Broken {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new("broken", Durability::None).with(&CLAIMED);
        if self.is(Break::OtherCapabilitiesForEachHandle) && self.number > 1 {
            capabilities = capabilities.with(&[Capability::Priority]);
        }
        if self.is(Break::TakesLessThanItSays) {
            capabilities.maxima.batch = 100;
        }
        capabilities
    }

    fn identity(&self) -> String {
        let handle = self.number * usize::from(self.is(Break::EachHandleIsAQueue));
        format!("{} {handle}", self.broker.identity())
    }

    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Result<Enqueued, QueueError>>, QueueError> {
        if self.is(Break::TakesLessThanItSays) && jobs.len() > 60 {
            return Err(QueueError::Invalid("too many".to_owned()));
        }
        let mut new = jobs.to_vec();
        for job in &mut new {
            match self.breaks {
                Break::AddsAnIdTwice => job.id = JobId::new(),
                Break::CutsLargeData => job.payload.truncate(65_536),
                Break::TrimsKinds => job.kind = job.kind.trim().to_owned().into(),
                _ => {}
            }
        }
        let lost = usize::from(self.is(Break::LosesTheLastOfABatch) && jobs.len() > 5);
        let (stored, lost) = new.split_at(new.len() - lost);
        let mut answers = self.broker.enqueue(stored)?;
        answers.extend(lost.iter().map(|job| Ok(Enqueued::Added(job.id))));
        if self.is(Break::AddsAnIdTwice) {
            answers = jobs.iter().map(|job| Ok(Enqueued::Added(job.id))).collect();
        }
        if self.is(Break::AnswersOneEnqueueFewer) {
            answers.pop();
        }
        self.heard();
        Ok(answers)
    }

    fn claim(&self, request: &ClaimRequest) -> Result<Claims, QueueError> {
        let mut request = request.clone();
        match self.breaks {
            Break::ClaimsOtherKinds => request.kinds = None,
            Break::ClaimsMoreThanAskedFor if request.limit > 0 => {
                request.limit = request.limit.saturating_add(1);
            }
            Break::ClaimsWhereNoneIsAskedFor => request.limit = request.limit.max(1),
            Break::EndsNoLease => request.lease = Duration::from_secs(1_000_000),
            Break::EndsEachLeaseEarly => request.lease /= 2,
            _ => {}
        }
        let mut claims = self.broker.claim(&request)?;
        for job in &mut claims.jobs {
            if self.is(Break::CountsNoAttempts) {
                job.attempt = 1;
            }
        }
        if self.is(Break::AsksToBeAskedAtOnce) {
            claims.again_in = Some(Duration::ZERO);
        }
        Ok(claims)
    }

    fn extend(&self, leases: &[Lease], time: Duration) -> Result<Vec<Extended>, QueueError> {
        match self.breaks {
            Break::ForgetsToExtend => {
                let held = leases.iter().cloned().map(Extended::Held);
                Ok(held.collect())
            }
            Break::ExtendsNoOther => {
                let mut extended = self.broker.extend(&leases[..leases.len().min(1)], time)?;
                extended.resize(leases.len(), Extended::Lost);
                Ok(extended)
            }
            _ => self.broker.extend(leases, time),
        }
    }

    fn settle(&self, ends: &[(Lease, Settle)]) -> Result<Vec<Settled>, QueueError> {
        let done = || Settle::Done { result: Vec::new() };
        let broken = |(lease, end): &(Lease, Settle)| {
            let end = match (self.breaks, end) {
                (Break::NeverDies, Settle::Retry { delay, .. }) => {
                    Settle::Release { delay: *delay }
                }
                (Break::LosesWhatIsReleased, Settle::Release { .. })
                | (Break::LosesWhatIsRetried, Settle::Retry { .. }) => done(),
                (Break::KeepsWhatIsDone, Settle::Done { .. }) => Settle::Release {
                    delay: Duration::ZERO,
                },
                (_, end) => end.clone(),
            };
            (lease.clone(), end)
        };
        let ends: Vec<_> = ends.iter().map(broken).collect();
        let mut settled = self.broker.settle(&ends)?;
        if self.is(Break::SwapsTheAnswersToSettlements) {
            settled.reverse();
        }
        self.heard();
        Ok(settled)
    }

    fn subscribe(&self, listener: Listener) -> Result<Subscription, QueueError> {
        let poll = listener.poll();
        let listener = Arc::new(listener);
        if self.is(Break::KeepsWhoHasLeft) {
            // For as long as the process lives.
            std::mem::forget(Arc::clone(&listener));
        }
        let hear = move |change| listener.notify(change);
        let subscription = self.listeners.add(Listener::new(poll, hear));
        if self.is(Break::TellsWhoHasLeft) {
            std::mem::forget(subscription);
            return Ok(Subscription::new(|| {}));
        }
        Ok(subscription)
    }

    fn progress(&self, lease: &Lease, progress: &[u8]) -> Result<bool, QueueError> {
        if self.is(Break::SupportsProgressInSecret) {
            return self.broker.progress(lease, progress);
        }
        let what = Capability::Progress.what();
        Err(self.capabilities().unsupported(what))
    }
}

/// Handles of one broker in memory.
pub(crate) struct Handles {
    clock: Clock,
    broker: Arc<MemoryBroker>,
    breaks: Break,
    listeners: Listeners,
    opened: std::sync::atomic::AtomicUsize,
}

impl Handles {
    pub(crate) fn new(breaks: Break) -> Handles {
        let clock = Clock::manual();
        Handles {
            broker: Arc::new(MemoryBroker::new(clock.clone())),
            clock,
            breaks,
            listeners: Listeners::new(),
            opened: std::sync::atomic::AtomicUsize::new(0),
        }
    }
}

impl Fixture for Handles {
    fn open(&self) -> Arc<dyn Broker> {
        let opened = &self.opened;
        let number = opened.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Arc::new(Broken {
            broker: Arc::clone(&self.broker),
            breaks: self.breaks,
            listeners: self.listeners.clone(),
            number,
        })
    }

    fn advance(&self, time: Duration) {
        self.clock.advance(time);
    }

    fn means(&self) -> &[Means] {
        &[Means::StillClock]
    }

    fn notification_delay(&self) -> Duration {
        Duration::from_millis(100)
    }
}
