//! The place of a runner in the pool, which is lent where its job ignores its stop token.

use super::state::State;
use anthill::Lender;
use std::sync::atomic::{AtomicBool, Ordering};

/// U7: the place of a runner while it runs jobs with a run time.
pub(super) struct Place {
    lender: Lender,
    /// It is lent, or about to be; counted in `replaced`. Changed under the lock of the state.
    is_replaced: AtomicBool,
}

impl Place {
    pub(super) fn new(lender: Lender) -> Place {
        Place {
            lender,
            is_replaced: AtomicBool::new(false),
        }
    }

    /// Counts the runner as replaced, unless it is or as many are as may be; whether it did.
    pub(super) fn count(&self, state: &mut State, most: usize) -> bool {
        let counts = state.replaced < most && !self.is_replaced.swap(true, Ordering::Relaxed);
        state.replaced += usize::from(counts);
        counts
    }

    /// Counts it as replaced no more: its jobs have ended, or its place could not be lent.
    pub(super) fn uncount(&self, state: &mut State) {
        let counted = self.is_replaced.swap(false, Ordering::Relaxed);
        state.replaced -= usize::from(counted);
    }

    /// Lends the place; not under a lock (U4).
    pub(super) fn lend(&self) -> bool {
        self.lender.lend()
    }
}
