//! The shares of a pool, which close and open with it.

use crate::sync::{Arc, Mutex, Weak, lock};

/// A share, as its pool sees it.
pub(crate) trait Tenant: Send + Sync {
    /// The pool closes; with `discard` the share drops its backlog: how many tasks.
    fn close(self: Arc<Self>, discard: bool) -> usize;
    /// The pool was closed or opened: the share is to be as it is now.
    fn follow(self: Arc<Self>);
    /// The capacity of the pool has changed.
    fn retune(self: Arc<Self>);
    /// Threads were refused: the share is to hand in again what it could not.
    fn try_again(self: Arc<Self>);
}

#[derive(Default)]
pub(crate) struct Tenants {
    inner: Mutex<Inner>,
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

    fn all(&self) -> Vec<Arc<dyn Tenant>> {
        let inner = lock(&self.inner);
        inner.tenants.iter().filter_map(Weak::upgrade).collect()
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

    pub(crate) fn try_again(&self) {
        let tenants = self.all();
        tenants.into_iter().for_each(Tenant::try_again);
    }
}
