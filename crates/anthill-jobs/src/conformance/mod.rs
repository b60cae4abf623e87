//! The conformance suite: what the rules B1–B12 of [`Broker`](crate::Broker) and its [capabilities](crate::Capability)
//! promise, as checks that run over any broker.
//!
//! A broker's own crate brings a [`Fixture`]: how a handle to a new, empty queue is opened, and how the clock is advanced that
//! the broker follows. [`run`] asks the broker for what it claims and nothing else, and returns what was run and what was left
//! out, with the reason. [`conformance_tests!`](crate::conformance_tests) makes a test of each check, so that `cargo test` lists
//! and filters them. Both belong into the tests of that crate, with the feature `conformance` of this one among its
//! `[dev-dependencies]`.
//!
//! # Clocks
//!
//! Best is a clock that the suite moves: [`Means::StillClock`]. Then no check waits, and times are exact. Over a real clock
//! [`Fixture::advance`] waits; checks that advance it by more than the fixture's [patience](Fixture::patience), or need it to
//! stand still, are left out.

#![expect(
    clippy::unchecked_time_subtraction,
    reason = "a time that is less than nothing is a failure of the check, and told as one"
)]

mod bench;
mod check;
mod checks;
mod fixture;
mod page;
mod report;
mod table;
mod through;
mod wait;
mod words;

#[doc(hidden)]
pub use check::test;
pub use check::{Check, checks, examine, run};
pub use fixture::{Fixture, Means, Transaction};
pub use page::{capability_table, check_capability_page, update_capability_table};
pub use report::{Outcome, Report};

/// Makes a module with a test of each check of the [conformance suite](crate::conformance), for the broker of that name:
/// `NAME::CONCERN::CHECK`. The second argument makes a [`Fixture`](crate::conformance::Fixture). A check that is left out says
/// why on standard error, and passes.
///
/// ```
/// # mod tests {
/// use anthill_jobs::conformance::Fixture;
/// use anthill_jobs::{Broker, Clock, MemoryBroker};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// struct Memory(Clock, Arc<MemoryBroker>);
///
/// impl Memory {
///     fn new() -> Memory {
///         let clock = Clock::manual();
///         Memory(clock.clone(), Arc::new(MemoryBroker::new(clock)))
///     }
/// }
///
/// impl Fixture for Memory {
///     fn open(&self) -> Arc<dyn Broker> {
///         self.1.clone()
///     }
///     fn advance(&self, time: Duration) {
///         self.0.advance(time);
///     }
/// }
///
/// anthill_jobs::conformance_tests!(memory, Memory::new);
/// # }
/// ```
#[macro_export]
macro_rules! conformance_tests {
    ($broker:ident, $new:expr) => {
        $crate::__conformance_table! { tests $broker $new }
    };
}
