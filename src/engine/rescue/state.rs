//! The rescuer of a pool that was refused a thread, and the awaited handles that count on it; see [`rescue`](super).

use crate::sync::{AtomicU32, AtomicUsize, Mutex, Ordering, lock, try_lock};
use std::collections::BTreeMap;
use std::task::Waker;

#[derive(Default)]
pub(crate) struct Rescue {
    /// X1: there is a rescuer.
    pub(crate) present: Mutex<bool>,
    /// X4: how many polls tried.
    pub(crate) tries: AtomicU32,
    /// X5: the handles that await a worker which is due.
    pub(crate) awaiting: Mutex<Awaiting>,
    /// How many those are, as it was when the lock was released last.
    pub(crate) awaiting_len: AtomicUsize,
}

#[derive(Default)]
pub(crate) struct Awaiting {
    pub(crate) last: u64,
    /// By their numbers.
    pub(crate) wakers: BTreeMap<u64, Waker>,
}

impl Rescue {
    /// G2 of [`fork`](crate::fork): there is no rescuer, no handle awaits one, and no lock is held.
    pub(crate) fn is_untouched(&self) -> bool {
        try_lock(&self.present).is_some_and(|present| !*present)
            && try_lock(&self.awaiting).is_some_and(|awaiting| awaiting.wakers.is_empty())
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Awaiting) -> T) -> T {
        let mut awaiting = lock(&self.awaiting);
        let changed = change(&mut awaiting);
        self.awaiting_len
            .store(awaiting.wakers.len(), Ordering::SeqCst);
        changed
    }
}
