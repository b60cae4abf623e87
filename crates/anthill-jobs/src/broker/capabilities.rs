//! What a broker can do, and what it cannot. What is not listed is refused with [`QueueError::Unsupported`], so a new
//! capability is one that no broker has until it says so.

use crate::error::QueueError;
use std::fmt;
use std::time::Duration;

/// Declares the capabilities: for each the text for messages, what a user asks for that needs it.
macro_rules! capabilities {
    ($($(#[$doc:meta])+ $name:ident = $what:literal,)+) => {
        /// Something that a broker can do, or cannot.
        ///
        /// A queue refuses what needs a capability that its broker lacks with
        /// [`Unsupported`](crate::QueueError::Unsupported): when the option is used, or when the queue is opened if the
        /// program [requires](crate::Queue::require) it. The [conformance suite](crate::broker#conformance) checks each that
        /// a broker claims.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Capability {
            $($(#[$doc])+ $name,)+
        }

        impl Capability {
            /// All capabilities.
            pub const ALL: &[Capability] = &[$(Capability::$name,)+];

            /// Returns what the capability is, as in "the memory broker does not support `what`".
            pub fn what(self) -> &'static str {
                match self {
                    $(Capability::$name => $what,)+
                }
            }
        }
    };
}

capabilities! {
    /// Other processes see the same queue.
    Shared = "use by several processes",
    /// A lease that is over cannot settle, extend or report progress (B4).
    Fenced = "fenced settlements",
    /// A crash costs an attempt only to a job that was claimed alone (B5, B9).
    Isolated = "attempts that a crash of another job does not cost",
    /// [`Settle::Release`](crate::Settle::Release) takes the attempt back.
    UncountedRelease = "a release that does not count as an attempt",
    /// An enqueue of several jobs stores all of them, or none.
    AtomicBatches = "an enqueue of all jobs or none",
    /// Within a priority, jobs are claimed in the order of B6.
    Order = "jobs in order",
    /// [`NewJob::priority`](crate::NewJob::priority).
    Priority = "priorities",
    /// [`NewJob::delay`](crate::NewJob::delay), and a delay of a retry or a release.
    Delay = "delays",
    /// [`NewJob::expires`](crate::NewJob::expires).
    Expiry = "an expiry",
    /// [`NewJob::unique`](crate::NewJob::unique) and [`NewJob::once_per`](crate::NewJob::once_per).
    Unique = "unique jobs",
    /// [`NewJob::debounce`](crate::NewJob::debounce).
    Debounce = "debounced jobs",
    /// [`NewJob::key`](crate::NewJob::key) and [`Limits::per_key`](crate::Limits::per_key) (B7).
    PerKey = "a limit per key",
    /// [`Limits::running`](crate::Limits::running).
    RunningLimit = "a limit of running jobs",
    /// [`Limits::rate`](crate::Limits::rate).
    Rate = "a rate limit",
    /// [`Limits::max_ready`](crate::Limits::max_ready).
    MaxReady = "a bounded queue",
    /// [`NewJob::headers`](crate::NewJob::headers).
    Headers = "headers",
    /// [`NewJob::keep_result`](crate::NewJob::keep_result).
    Results = "results that are kept",
    /// [`Context::progress`](crate::Context::progress).
    Progress = "progress",
    /// Jobs can be addressed by id: shown, cancelled, postponed, retried, deleted.
    ById = "jobs by their id",
    /// [`Queue::cancel_running`](crate::Queue::cancel_running).
    CancelRunning = "a request to cancel a job that runs",
    /// Jobs can be listed by state, kind and error.
    List = "lists of jobs",
    /// [`JobInfo::errors`](crate::JobInfo::errors).
    ErrorHistory = "the errors of earlier attempts",
    /// [`QueueStats`](crate::QueueStats) is exact; otherwise its numbers are approximate.
    ExactCounts = "exact counts",
    /// [`Queue::purge`](crate::Queue::purge).
    Purge = "a purge",
    /// [`Queue::pause`](crate::Queue::pause).
    Pause = "a pause",
    /// [`Queue::set_retention`](crate::Queue::set_retention).
    Retention = "retention by age",
    /// [`Queue::schedule`](crate::Queue::schedule).
    Schedules = "schedules",
    /// [`Queue::consumers`](crate::Queue::consumers).
    Consumers = "a list of consumers",
    /// Jobs can be enqueued and settled in a transaction of the caller's, by methods of the broker's own type.
    Transactions = "caller-supplied transactions",
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what())
    }
}

/// What an acknowledged job survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// Nothing: it is gone with the process of the broker.
    None,
    /// Any death, once it is some seconds old. What was acknowledged just before a death of the broker's process may be lost.
    Eventual,
    /// The death of any process, but not that of the host or of its power.
    Process,
    /// The loss of power: it is on a disk when it is acknowledged.
    Fsync,
    /// The loss of a disk: it is on several hosts when it is acknowledged.
    Replicated,
}

/// The largest values that an engine takes. A queue refuses larger ones, and splits larger batches. Values up to these are
/// taken: a broker that cannot add [`Duration::MAX`] to its clock sets a longest lease and delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Maxima {
    /// How many jobs, leases or settlements one call takes.
    pub batch: usize,
    /// The size of a job's data, in bytes.
    pub payload: usize,
    /// The longest lease.
    pub lease: Duration,
    /// The longest delay.
    pub delay: Duration,
    /// For how long a claim can wait for a job ([`ClaimRequest::wait`](crate::ClaimRequest::wait)); zero if claims return at
    /// once.
    pub wait: Duration,
}

/// The engine sets no limits, and claims return at once.
impl Default for Maxima {
    fn default() -> Maxima {
        Maxima {
            batch: usize::MAX,
            payload: usize::MAX,
            lease: Duration::MAX,
            delay: Duration::MAX,
            wait: Duration::ZERO,
        }
    }
}

/// What a broker can do: its capabilities, the durability of its jobs, and the maxima of its engine.
///
/// ```
/// use anthill_jobs::{Capabilities, Capability, Durability};
///
/// let mut capabilities = Capabilities::new("postcard", Durability::Process)
///     .with(&[Capability::Shared, Capability::Delay]);
/// capabilities.maxima.payload = 500;
/// assert!(capabilities.has(Capability::Delay) && !capabilities.has(Capability::Priority));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The broker's name in messages.
    pub name: &'static str,
    /// What an acknowledged job survives.
    pub durability: Durability,
    /// The maxima of the engine.
    pub maxima: Maxima,
    /// One bit for each.
    set: u64,
}

impl Capabilities {
    /// Returns no capabilities, for the broker of that name.
    pub fn new(name: &'static str, durability: Durability) -> Capabilities {
        Capabilities {
            name,
            durability,
            maxima: Maxima::default(),
            set: 0,
        }
    }

    /// Returns all capabilities that this version knows, for the broker of that name.
    pub fn full(name: &'static str, durability: Durability) -> Capabilities {
        Capabilities::new(name, durability).with(Capability::ALL)
    }

    /// Adds capabilities.
    #[must_use]
    pub fn with(self, capabilities: &[Capability]) -> Capabilities {
        let set = capabilities
            .iter()
            .fold(self.set, |set, &one| set | bit(one));
        Capabilities { set, ..self }
    }

    /// Removes capabilities.
    #[must_use]
    pub fn without(self, capabilities: &[Capability]) -> Capabilities {
        let set = capabilities
            .iter()
            .fold(self.set, |set, &one| set & !bit(one));
        Capabilities { set, ..self }
    }

    /// Returns whether the broker has a capability.
    pub fn has(&self, capability: Capability) -> bool {
        self.set & bit(capability) != 0
    }

    /// Refuses what needs a capability that the broker lacks.
    ///
    /// # Errors
    ///
    /// [`QueueError::Unsupported`].
    pub fn require(&self, capability: Capability) -> Result<(), QueueError> {
        if self.has(capability) {
            return Ok(());
        }
        Err(self.unsupported(capability.what()))
    }

    /// Makes the error for what the broker does not support.
    pub fn unsupported(&self, what: impl Into<std::borrow::Cow<'static, str>>) -> QueueError {
        QueueError::Unsupported {
            what: what.into(),
            broker: self.name,
        }
    }
}

fn bit(capability: Capability) -> u64 {
    1 << capability as u32
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = Capability::ALL.iter().filter(|&&one| self.has(one));
        f.debug_struct("Capabilities")
            .field("name", &self.name)
            .field("durability", &self.durability)
            .field("maxima", &self.maxima)
            .field("has", &has.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
