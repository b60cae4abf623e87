//! What a runner gets and gives back: a batch of claimed jobs of one kind, and how it ended.

use super::shared::Shared;
use super::state::{Buffered, ClaimNumber, State};
use crate::broker::{Claimed, Settle};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Claimed jobs of one kind, that a runner begins now.
pub(super) struct Batch {
    pub(super) jobs: Vec<Buffered>,
    /// The job is fragile, and no other runner claims another one before it has begun (U5).
    pub(super) permit: Option<FragilePermit>,
    /// One more runner would have work.
    pub(super) has_more: bool,
}

/// A batch that a runner has run.
pub(super) struct FinishedBatch {
    pub(super) numbers: Vec<ClaimNumber>,
    pub(super) claimed: Vec<Claimed>,
    pub(super) ends: Vec<Settle>,
    pub(super) took: Duration,
    pub(super) at: Instant,
}

/// The right to claim a fragile job and begin it (U5). One runner has it at a time.
pub(super) struct FragilePermit(Arc<Shared>);

impl FragilePermit {
    /// The permit, if the next job may be fragile.
    pub(super) fn take_if_next(shared: &Arc<Shared>, state: &mut State) -> Option<FragilePermit> {
        state.fragile_next.then(|| {
            state.permit_taken = true;
            FragilePermit(Arc::clone(shared))
        })
    }
}

impl Drop for FragilePermit {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.permit_taken = false;
        // A runner that looked meanwhile found it taken.
        self.0.wake_maintainer_in_time(&mut state, Instant::now());
    }
}
