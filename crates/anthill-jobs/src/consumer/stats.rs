//! What a consumer counts.

/// Counts of what a consumer has done since its start, and what it does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerStats {
    /// Jobs claimed.
    pub claimed: u64,
    /// Jobs done: the handler, or the fallback handler, returned `Ok`.
    pub done: u64,
    /// Attempts that failed and will be repeated.
    pub retried: u64,
    /// Jobs that will not be tried again, including those whose handler returned `Ok` with a result that was refused.
    pub died: u64,
    /// Jobs handed back, because they had not started or their handlers said so.
    pub released: u64,
    /// Jobs that ran for longer than their [run time](crate::ConsumerBuilder::run_time_of).
    pub overran: u64,
    /// Jobs over their run time that still run. Each occupies a worker, unless it was [replaced](ConsumerStats::replaced).
    pub overdue: usize,
    /// Times that a worker whose job was over its run time was replaced; see
    /// [`replace_overdue`](crate::ConsumerBuilder::replace_overdue).
    pub replaced: u64,
    /// Jobs whose lease this consumer had lost by the time they ended.
    pub lost: u64,
    /// Jobs whose end was reported, without an answer, and whose lease was over when it was reported again: it had been stored,
    /// unless the lease was lost in between.
    pub unconfirmed: u64,
    /// Jobs whose [cancellation](crate::Queue::cancel_running) was requested while this consumer ran them.
    pub cancelled: u64,
    /// Pauses after errors in a row.
    pub pauses: u64,
    /// Whether the consumer pauses now.
    pub is_paused: bool,
    /// Jobs claimed and not settled yet.
    pub in_hand: usize,
    /// How many jobs the consumer would run at once now; see [`workers`](crate::ConsumerBuilder::workers).
    pub wanted: usize,
}
