//! What a broker's own crate brings to the suite: a way to its brokers, and to the clock that they follow.

use crate::broker::{Broker, Enqueued, Lease, NewJob, Settle, Settled};
use crate::error::QueueError;
use std::sync::Arc;
use std::time::Duration;

/// An empty queue of a broker, with the clock that it follows. Each check gets one of its own (several, if it compares), so
/// checks can run side by side.
///
/// Two methods are needed. The others are for what a fixture can do beside: a check that needs it is left out, and told,
/// where the fixture cannot.
///
/// ```
/// use anthill_jobs::conformance::{self, Fixture, Means};
/// use anthill_jobs::{Broker, Clock, MemoryBroker};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// struct Memory {
///     clock: Clock,
///     broker: Arc<MemoryBroker>,
/// }
///
/// impl Memory {
///     fn new() -> Memory {
///         let clock = Clock::manual();
///         let broker = Arc::new(MemoryBroker::new(clock.clone()));
///         Memory { clock, broker }
///     }
/// }
///
/// impl Fixture for Memory {
///     fn open(&self) -> Arc<dyn Broker> {
///         self.broker.clone() // nothing else leads to its jobs
///     }
///     fn advance(&self, time: Duration) {
///         self.clock.advance(time);
///     }
///     fn means(&self) -> &[Means] {
///         &[Means::StillClock]
///     }
/// }
///
/// let report = conformance::run(Memory::new);
/// assert!(report.passed() > 100);
/// ```
pub trait Fixture: Send + Sync + 'static {
    /// Opens a handle to the queue: each call another one, to the same jobs. Where a handle shares something with others of
    /// this process, such as a connection, this one does so, too.
    fn open(&self) -> Arc<dyn Broker>;

    /// Lets the broker's clocks advance by `time`: moves them, or waits so long.
    fn advance(&self, time: Duration);

    /// Returns what the fixture can do beside; nothing by default, as suits a real clock.
    fn means(&self) -> &[Means] {
        &[]
    }

    /// Returns what is missing for the checks to be run here, such as a server that is not installed: they are left out then,
    /// and nothing else is asked of the fixture. Nothing by default.
    fn missing(&self) -> Option<String> {
        None
    }

    /// Returns by how much one check may advance the clock; checks that need more are left out. A fixture that waits for
    /// real sets it to what it has the patience for.
    fn patience(&self) -> Duration {
        Duration::MAX
    }

    /// Returns how many checks run at once; as many as there are processors by default.
    fn threads(&self) -> usize {
        std::thread::available_parallelism().map_or(1, Into::into)
    }

    /// Opens a handle that shares nothing with the others in this process, as one in another process. Only asked of
    /// brokers with [`Capability::Shared`](crate::Capability::Shared).
    fn open_apart(&self) -> Arc<dyn Broker> {
        self.open()
    }

    /// Returns how long a change by another process may take to be heard, beyond the time for which the
    /// [`Listener`](crate::broker::Listener) asks.
    fn notification_delay(&self) -> Duration {
        super::wait::DEADLINE
    }

    /// Is called while no handle is open, where a check closes the broker and opens it again: a fixture can restart its
    /// server here, or kill it. Only asked of brokers whose jobs survive that ([`Durability`](crate::Durability)).
    fn restart(&self) {}

    /// Returns the time since 1970 by the broker's wall clock ([`Means::WallClock`]).
    fn wall(&self) -> Duration {
        lacks(Means::WallClock)
    }

    /// Sets the broker's wall clock, but not the steady clock that its leases follow ([`Means::WallClock`]).
    fn set_wall(&self, wall: Duration) {
        let _ = wall;
        lacks(Means::WallClock)
    }

    /// Restarts the host whose steady clock the broker's leases follow ([`Means::HostRestart`]). Handles are open.
    fn restart_host(&self) {
        lacks(Means::HostRestart)
    }

    /// Begins a transaction of the engine, for brokers with [`Capability::Transactions`](crate::Capability::Transactions).
    fn transaction(&self) -> Box<dyn Transaction + '_> {
        panic!("the broker claims transactions, but its fixture has no `transaction`")
    }
}

fn lacks(means: Means) -> ! {
    panic!("the fixture names {means:?}, but does not implement it")
}

/// What a fixture can do beside its two methods, if it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Means {
    /// The broker's clocks stand still but for [`Fixture::advance`]. They count in microseconds, or finer.
    StillClock,
    /// The wall clock can be set: [`Fixture::wall`] and [`Fixture::set_wall`]. For a broker whose leases follow a steady clock.
    WallClock,
    /// The host can be restarted: [`Fixture::restart_host`]. For a broker whose leases end with that.
    HostRestart,
    /// The broker can be closed and opened again. Each has this whose [`Durability`](crate::Durability) is not `None`; a
    /// fixture does not name it.
    Restart,
    /// A transaction of the engine can settle jobs: [`Transaction::settle`].
    SettleIn,
}

impl Means {
    /// Returns what the means is, as in "left out: the fixture has no `what`".
    pub fn what(self) -> &'static str {
        match self {
            Means::StillClock => "clock that stands still",
            Means::WallClock => "wall clock that can be set",
            Means::HostRestart => "restart of the host",
            Means::Restart => "restart of the broker",
            Means::SettleIn => "transactions that settle jobs",
        }
    }
}

/// A transaction of a broker's engine, of which the broker's own methods enqueue and settle a part.
pub trait Transaction {
    /// Enqueues jobs in the transaction.
    ///
    /// # Errors
    ///
    /// As [`Broker::enqueue`].
    fn enqueue(&mut self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError>;

    /// Settles jobs in the transaction ([`Means::SettleIn`]).
    ///
    /// # Errors
    ///
    /// As [`Broker::settle`].
    fn settle(&mut self, ends: &[(Lease, Settle)]) -> Result<Vec<Settled>, QueueError> {
        let _ = ends;
        lacks(Means::SettleIn)
    }

    /// Commits the transaction.
    fn commit(self: Box<Self>);

    /// Rolls the transaction back.
    fn roll_back(self: Box<Self>);
}
