//! The shares of a pool, which close and open with it.

use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, Weak, lock, try_lock};

/// A share, as its pool sees it.
pub(crate) trait Tenant: Send + Sync {
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
pub(crate) struct Tenants {
    inner: Mutex<Inner>,
    /// How often threads were refused and nobody has tried again with success.
    lacking: AtomicUsize,
}

#[derive(Default)]
struct Inner {
    tenants: Vec<Weak<dyn Tenant>>,
}

impl Tenants {
    pub(crate) fn add(&self, tenant: Arc<dyn Tenant>) {
        {
            let mut inner = lock(&self.inner);
            if inner.tenants.len() == inner.tenants.capacity() {
                inner.tenants.retain(|tenant| tenant.strong_count() > 0);
            }
            inner.tenants.push(Arc::downgrade(&tenant));
        }
        tenant.follow();
    }

    pub(crate) fn all(&self) -> Vec<Arc<dyn Tenant>> {
        let inner = lock(&self.inner);
        inner.tenants.iter().filter_map(Weak::upgrade).collect()
    }

    /// G2 of [`fork`](super::fork).
    pub(crate) fn are_untouched(&self) -> bool {
        let Some(inner) = try_lock(&self.inner) else {
            return false;
        };
        let tenants: Vec<_> = inner.tenants.iter().filter_map(Weak::upgrade).collect();
        drop(inner);
        tenants.iter().all(|tenant| tenant.is_untouched())
    }

    pub(crate) fn close(&self, discard: bool) -> usize {
        let tenants = self.all();
        tenants
            .into_iter()
            .map(|tenant| tenant.close(discard))
            .sum()
    }

    pub(crate) fn follow(&self) {
        let tenants = self.all();
        tenants.into_iter().for_each(Tenant::follow);
    }

    pub(crate) fn retune(&self) {
        let tenants = self.all();
        tenants.into_iter().for_each(Tenant::retune);
    }

    /// A share could not hand in what stands for its tasks, as no thread was to be had.
    pub(crate) fn lacks_token(&self) {
        self.lacking.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn has_token(&self) {
        self.lacking.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether any share lacks that.
    pub(crate) fn lack(&self) -> bool {
        self.lacking.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn try_again(&self) {
        let tenants = self.all();
        tenants.into_iter().for_each(Tenant::try_again);
    }
}
