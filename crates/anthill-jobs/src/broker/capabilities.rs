//! What a broker can do, and what it cannot.

/// What a broker can do. A [`Queue`](crate::Queue) refuses what its broker cannot do with
/// [`Unsupported`](crate::QueueError::Unsupported).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a list of capabilities")]
#[non_exhaustive]
pub struct Capabilities {
    /// The broker's name in messages.
    pub name: &'static str,
    /// Jobs survive the process.
    pub durable: bool,
    /// Other processes see the same queue.
    pub shared: bool,
    /// A lease that is over cannot settle its job (B4).
    pub fenced: bool,
    /// Supports [`NewJob::priority`](crate::NewJob::priority).
    pub priority: bool,
    /// Supports [`NewJob::unique`](crate::NewJob::unique) and [`NewJob::once_per`](crate::NewJob::once_per).
    pub unique: bool,
    /// Supports [`Limits::per_key`](crate::Limits::per_key).
    pub per_key: bool,
    /// Jobs can be addressed by id: shown, cancelled, retried.
    pub by_id: bool,
}

impl Capabilities {
    /// Returns all capabilities, for the broker of that name.
    pub fn full(name: &'static str) -> Capabilities {
        Capabilities {
            name,
            durable: true,
            shared: true,
            fenced: true,
            priority: true,
            unique: true,
            per_key: true,
            by_id: true,
        }
    }
}
