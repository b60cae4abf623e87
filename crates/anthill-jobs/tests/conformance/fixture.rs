//! A fixture for a liar.

use crate::liar::Liar;
use anthill_jobs::broker::{Enqueued, NewJob};
use anthill_jobs::conformance::{Fixture, Means, Transaction};
use anthill_jobs::{Broker, Capabilities, Capability, Clock, Lease, QueueError, Settle, Settled};
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Bench {
    clock: Clock,
    broker: Arc<Liar>,
    goes_on: bool,
}

impl Bench {
    /// One that claims what it has not.
    pub(crate) fn that_claims(lie: Capability) -> Bench {
        Bench::new(&[lie], &[lie])
    }

    /// One that says what it lacks.
    pub(crate) fn without(lacks: &[Capability]) -> Bench {
        Bench::new(lacks, &[])
    }

    /// An honest one, whose clock goes on with each call.
    pub(crate) fn with_a_clock_that_goes_on() -> Bench {
        let clock = Clock::manual();
        let mut broker = Liar::new(clock.clone(), &[], &[]);
        broker.goes_on = Some(clock.clone());
        Bench {
            clock,
            broker: Arc::new(broker),
            goes_on: true,
        }
    }

    fn new(lacks: &[Capability], claims: &[Capability]) -> Bench {
        let clock = Clock::manual();
        let broker = Liar::new(clock.clone(), lacks, claims);
        Bench {
            clock,
            broker: Arc::new(broker),
            goes_on: false,
        }
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        self.broker.capabilities()
    }
}

impl Fixture for Bench {
    fn open(&self) -> Arc<dyn Broker> {
        self.broker.clone()
    }

    fn advance(&self, time: Duration) {
        self.clock.advance(time);
    }

    fn means(&self) -> &[Means] {
        if self.goes_on {
            return &[Means::SettleIn];
        }
        &[Means::StillClock, Means::WallClock, Means::SettleIn]
    }

    fn wall(&self) -> Duration {
        self.clock.wall()
    }

    fn set_wall(&self, wall: Duration) {
        self.clock.set_wall(wall);
    }

    /// Another process has a memory of its own.
    fn open_apart(&self) -> Arc<dyn Broker> {
        Arc::new(Liar::new(self.clock.clone(), &[], &[Capability::Shared]))
    }

    fn notification_delay(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn transaction(&self) -> Box<dyn Transaction + '_> {
        Box::new(AtOnce(&self.broker))
    }
}

/// A transaction that is none: all that is in it is done at once.
struct AtOnce<'b>(&'b Liar);

impl Transaction for AtOnce<'_> {
    fn enqueue(&mut self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError> {
        self.0.enqueue(jobs)?.into_iter().collect()
    }

    fn settle(&mut self, ends: &[(Lease, Settle)]) -> Result<Vec<Settled>, QueueError> {
        self.0.settle(ends)
    }

    fn commit(self: Box<Self>) {}

    fn roll_back(self: Box<Self>) {}
}
