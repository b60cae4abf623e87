//! The shares of a pool, which close and open with it.

use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, Weak, lock, try_lock};

/// A share, as its pool sees it.
pub(crate) trait ShareEvents: Send + Sync {
    /// The pool closes; with `discard` the share drops its backlog: how many tasks.
    fn close(self: Arc<Self>, discard: bool) -> usize;
    /// The pool was closed or opened: the share is to be as it is now.
    fn follow(self: Arc<Self>);
    /// The capacity of the pool has changed.
    fn retune(self: Arc<Self>);
    /// G2 of [`fork`](super::fork): nothing is in it, and nobody holds a lock of it.
    fn is_untouched(&self) -> bool;
    /// It has no task that is not over, and nobody hands one in.
    fn is_at_rest(&self) -> bool;
    /// Threads were refused: the share is to hand in again what it could not.
    fn try_again(self: Arc<Self>);
}

#[derive(Default)]
pub(crate) struct Shares {
    inner: Mutex<Inner>,
    /// How often threads were refused and nobody has tried again with success.
    lacking: AtomicUsize,
}

#[derive(Default)]
struct Inner {
    shares: Vec<Weak<dyn ShareEvents>>,
}

impl Shares {
    pub(crate) fn add(&self, share: Arc<dyn ShareEvents>) {
        {
            let mut inner = lock(&self.inner);
            if inner.shares.len() == inner.shares.capacity() {
                inner.shares.retain(|share| share.strong_count() > 0);
            }
            inner.shares.push(Arc::downgrade(&share));
        }
        share.follow();
    }

    pub(crate) fn all(&self) -> Vec<Arc<dyn ShareEvents>> {
        let inner = lock(&self.inner);
        inner.shares.iter().filter_map(Weak::upgrade).collect()
    }

    /// G2 of [`fork`](super::fork).
    pub(crate) fn are_untouched(&self) -> bool {
        let Some(inner) = try_lock(&self.inner) else {
            return false;
        };
        let shares: Vec<_> = inner.shares.iter().filter_map(Weak::upgrade).collect();
        drop(inner);
        shares.iter().all(|share| share.is_untouched())
    }

    pub(crate) fn close(&self, discard: bool) -> usize {
        let shares = self.all();
        shares.into_iter().map(|share| share.close(discard)).sum()
    }

    pub(crate) fn follow(&self) {
        let shares = self.all();
        shares.into_iter().for_each(ShareEvents::follow);
    }

    pub(crate) fn retune(&self) {
        let shares = self.all();
        shares.into_iter().for_each(ShareEvents::retune);
    }

    /// A share could not hand in what stands for its tasks, as no thread was to be had.
    pub(crate) fn lacks_permit(&self) {
        self.lacking.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn has_permit(&self) {
        self.lacking.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether any share lacks that.
    pub(crate) fn lack(&self) -> bool {
        self.lacking.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn try_again(&self) {
        let shares = self.all();
        shares.into_iter().for_each(ShareEvents::try_again);
    }
}
