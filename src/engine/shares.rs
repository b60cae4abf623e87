//! The shares of a pool, which close, open and are retuned with it.

use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, Weak, lock, try_lock};

/// A share, as its pool sees it.
pub(crate) trait ShareEvents: Send + Sync {
    /// The pool closes; with `discard` the share drops its backlog. Returns how many tasks.
    fn close(self: Arc<Self>, discard: bool) -> usize;
    /// The pool was closed or opened: the share must do what the pool did.
    fn follow(self: Arc<Self>);
    /// The capacity of the pool has changed.
    fn retune(self: Arc<Self>);
    /// G2 of [`fork`](crate::fork): the share holds nothing, and none of its locks is held.
    fn is_untouched(&self) -> bool;
    /// The share has no task that is not over, and none is being handed in.
    fn is_at_rest(&self) -> bool;
    /// Threads were refused: the share must hand in again the permits that it could not.
    fn try_again(self: Arc<Self>);
}

#[derive(Default)]
pub(crate) struct Shares {
    inner: Mutex<Inner>,
    /// How many times a permit was refused a thread, and was not handed in since.
    lacking: AtomicUsize,
}

#[derive(Default)]
struct Inner {
    shares: Vec<Weak<dyn ShareEvents>>,
}

impl Shares {
    /// Adds a share, which does what the pool did before.
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

    /// G2 of [`fork`](crate::fork).
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

    /// A share could not hand in a permit, as the system refused a thread.
    pub(crate) fn count_lacking(&self) {
        self.lacking.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes back one count: the permit was handed in, is not wanted any more, or was counted twice.
    pub(crate) fn uncount_lacking(&self) {
        self.lacking.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether a share could not hand in a permit.
    pub(crate) fn any_lacking(&self) -> bool {
        self.lacking.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn try_again(&self) {
        let shares = self.all();
        shares.into_iter().for_each(ShareEvents::try_again);
    }
}
