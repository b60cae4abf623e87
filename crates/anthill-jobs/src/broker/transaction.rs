//! Transactions of an engine's own client.

use super::{Broker, Enqueued, Lease, NewJob, Settle, Settled};
use crate::error::QueueError;

/// A transaction of an engine's own client, in which a broker of type `B` enqueues and settles
/// ([`Capability::Transactions`](crate::Capability::Transactions)): both happen when it commits, and neither if it does not.
///
/// A broker's crate implements it for references to the types of its client, so that a program calls
/// [`Queue::enqueue_in`](crate::Queue::enqueue_in) and [`Queue::settle_in`](crate::Queue::settle_in) with them:
///
/// ```text
/// impl Transaction<PostcardBroker> for &mut postcards::Transaction<'_> { … }
/// ```
///
/// # Errors
///
/// As [`Broker`]; [`Address`](QueueError::Address), if the transaction is not of the broker's own database.
#[allow(clippy::missing_errors_doc, reason = "they all fail alike")]
pub trait Transaction<B: Broker> {
    /// Enqueues jobs, all or none, as [`Broker::enqueue`] does.
    fn enqueue(self, broker: &B, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError>;

    /// Settles claimed jobs, as [`Broker::settle`] does.
    fn settle(self, broker: &B, ends: &[(Lease, Settle)]) -> Result<Vec<Settled>, QueueError>;
}
