//! The shares of a pool, which close and open with it.

use crate::sync::{Arc, Mutex, Weak, lock};

/// A share, as its pool sees it.
pub(crate) trait Tenant: Send + Sync {
    /// The pool closes; with `discard` the share drops its backlog: how many tasks.
    fn close(self: Arc<Self>, discard: bool) -> usize;
    fn reopen(self: Arc<Self>);
    /// The capacity of the pool has changed.
    fn retune(self: Arc<Self>);
}

#[derive(Default)]
pub(crate) struct Tenants {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    tenants: Vec<Weak<dyn Tenant>>,
    closed: bool,
}

impl Tenants {
    pub(crate) fn add(&self, tenant: Arc<dyn Tenant>) {
        let closed = {
            let mut inner = lock(&self.inner);
            if inner.tenants.len() == inner.tenants.capacity() {
                inner.tenants.retain(|tenant| tenant.strong_count() > 0);
            }
            inner.tenants.push(Arc::downgrade(&tenant));
            inner.closed
        };
        if closed {
            tenant.close(false);
        }
    }

    fn all(&self, change: impl FnOnce(&mut Inner)) -> Vec<Arc<dyn Tenant>> {
        let mut inner = lock(&self.inner);
        change(&mut inner);
        inner.tenants.iter().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn close(&self, discard: bool) -> usize {
        let tenants = self.all(|inner| inner.closed = true);
        tenants
            .into_iter()
            .map(|tenant| tenant.close(discard))
            .sum()
    }

    pub(crate) fn reopen(&self) {
        let tenants = self.all(|inner| inner.closed = false);
        tenants.into_iter().for_each(Tenant::reopen);
    }

    pub(crate) fn retune(&self) {
        let tenants = self.all(|_| ());
        tenants.into_iter().for_each(Tenant::retune);
    }
}
