//! What a share does when its pool changes.
//!
//! The pool tells its shares after each change. A share looks at the pool under its own lifecycle lock, so that the
//! last look sees the last change.

use super::ShareCore;
use crate::engine::shares::ShareEvents;
use crate::sync::{Arc, Ordering, Weak, lock, try_lock};

impl ShareEvents for ShareCore {
    fn close(self: Arc<Self>, discard: bool) -> usize {
        ShareCore::close(&self, discard, true)
    }

    fn follow(self: Arc<Self>) {
        let mut lifecycle = lock(&self.lifecycle);
        // Under this lock, and after each change of the pool: so it does not matter what came in between.
        let pool = self.core.admission.places();
        lifecycle.pool_closed = pool.is_closed();
        if lifecycle.pool_closed {
            self.close_with(lifecycle, pool.is_discarding());
            return;
        }
        if !lifecycle.closed {
            self.admission.reopen();
        }
        self.apply(&lifecycle);
        drop(lifecycle);
        self.rebalance();
    }

    fn is_untouched(&self) -> bool {
        let Some(sub_queues) = try_lock(&self.sub_queues) else {
            return false;
        };
        let live: Vec<_> = sub_queues.values().filter_map(Weak::upgrade).collect();
        drop(sub_queues);
        let pin_table = self.pin_table.get().and_then(Weak::upgrade);
        try_lock(&self.helpers).is_some_and(|helpers| helpers.is_empty())
            && try_lock(&self.lifecycle).is_some()
            && self.running.load(Ordering::SeqCst) == 0
            && self.callers.load(Ordering::SeqCst) == 0
            && try_lock(&self.lacking).is_some_and(|lacking| lacking.is_empty())
            && self.admission.is_untouched()
            && live.iter().all(|sub_queue| sub_queue.is_untouched())
            && pin_table.is_none_or(|pin_table| pin_table.is_unlocked())
    }

    fn retune(self: Arc<Self>) {
        let lifecycle = lock(&self.lifecycle);
        if lifecycle.limit.is_none() && lifecycle.backlog.is_some() {
            self.apply(&lifecycle);
            drop(lifecycle);
            self.serve();
        }
    }

    fn is_at_rest(&self) -> bool {
        ShareCore::is_at_rest(self)
    }

    fn try_again(self: Arc<Self>) {
        let lacking = std::mem::take(&mut *lock(&self.lacking));
        for sub_queue in lacking {
            if !sub_queue.sends_all() {
                self.core.shares.count_lacking();
                self.lack(&sub_queue);
            }
            self.lacks_no_more();
        }
    }
}
