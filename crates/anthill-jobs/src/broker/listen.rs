//! How a broker tells its consumers that there may be something to claim.

use crate::sync::lock;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where a change came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Change {
    /// This process made it: the listener is called by the thread that did, before its call to the broker returns.
    Here,
    /// Another process made it, or time did: the listener is called by a thread of the broker's.
    Elsewhere,
    /// Nobody is known to have made one: a broker that is notified of changes looks now and then all the same. A thread of the
    /// broker's calls the listener, which claims, and need not look for anything else.
    Perhaps,
}

/// Somebody who wants to know when a job may have become claimable. It is called under no lock, and does not block.
pub struct Listener {
    poll: Duration,
    call: Box<dyn Fn(Change) + Send + Sync>,
}

impl Listener {
    /// Makes a listener that accepts to hear of a change by another process `poll` later, where the broker has to look for
    /// changes; with `Duration::MAX` it does not have to hear of those at all.
    pub fn new(poll: Duration, call: impl Fn(Change) + Send + Sync + 'static) -> Listener {
        let call = Box::new(call);
        Listener { poll, call }
    }

    /// Returns how often to look for changes by other processes, where the broker has to look.
    pub fn poll(&self) -> Duration {
        self.poll
    }

    /// Calls the listener.
    pub fn notify(&self, change: Change) {
        (self.call)(change);
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("poll", &self.poll)
            .finish_non_exhaustive()
    }
}

/// The listeners of a broker: a list that a broker keeps, to implement
/// [`Broker::subscribe`](crate::Broker::subscribe).
///
/// ```
/// use anthill_jobs::broker::{Change, Listener, Listeners};
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let heard = Arc::new(AtomicU32::new(0));
/// let listeners = Listeners::new();
/// let ear = Arc::clone(&heard);
/// let subscription = listeners.add(Listener::new(Duration::MAX, move |_| {
///     ear.fetch_add(1, Ordering::Relaxed);
/// }));
/// listeners.notify(Change::Here);
/// drop(subscription);
/// listeners.notify(Change::Here);
/// assert_eq!(heard.load(Ordering::Relaxed), 1);
/// ```
#[derive(Clone, Default)]
pub struct Listeners(Arc<Mutex<Arc<Vec<Arc<Listener>>>>>);

impl Listeners {
    /// Makes an empty list.
    pub fn new() -> Listeners {
        Listeners::default()
    }

    /// Adds a listener, until the subscription is dropped.
    pub fn add(&self, listener: Listener) -> Subscription {
        let listener = Arc::new(listener);
        Arc::make_mut(&mut lock(&self.0)).push(Arc::clone(&listener));
        let list = Arc::downgrade(&self.0);
        Subscription::new(move || {
            // Dropped after the lock: it belongs to a user.
            let _removed = list.upgrade().map(|list| {
                let mut listeners = lock(&list);
                let is_it = |other: &Arc<Listener>| Arc::ptr_eq(other, &listener);
                let at = listeners.iter().position(is_it);
                at.map(|at| Arc::make_mut(&mut listeners).remove(at))
            });
        })
    }

    /// Calls all listeners. One that unsubscribes meanwhile may be called once more.
    pub fn notify(&self, change: Change) {
        let listeners = Arc::clone(&lock(&self.0));
        listeners
            .iter()
            .for_each(|listener| listener.notify(change));
    }

    /// Returns how often to look for changes by other processes, for the listener that wants it most often; `None` if none
    /// does.
    pub fn poll(&self) -> Option<Duration> {
        let polls = Arc::clone(&lock(&self.0));
        let polls = polls.iter().map(|listener| listener.poll());
        polls.min().filter(|&poll| poll < Duration::MAX)
    }

    /// Returns whether there is no listener.
    pub fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listeners").field(&lock(&self.0)).finish()
    }
}

/// A subscription to a broker, which ends when this is dropped.
#[must_use = "a subscription ends when it is dropped"]
pub struct Subscription(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Subscription {
    /// Makes a subscription that calls `end` when it is dropped.
    pub fn new(end: impl FnOnce() + Send + Sync + 'static) -> Subscription {
        Subscription(Some(Box::new(end)))
    }

    /// Calls `end`, too, after what is called already.
    pub fn and_then(mut self, end: impl FnOnce() + Send + Sync + 'static) -> Subscription {
        let first = self.0.take();
        Subscription::new(move || {
            if let Some(first) = first {
                first();
            }
            end();
        })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_listener_is_called_until_its_subscription_ends() {
        let heard = Arc::new(AtomicU32::new(0));
        let listeners = Listeners::new();
        let listen = |poll| {
            let ear = Arc::clone(&heard);
            listeners.add(Listener::new(poll, move |_| {
                ear.fetch_add(1, Ordering::Relaxed);
            }))
        };
        let (first, second) = (listen(Duration::MAX), listen(Duration::from_secs(1)));
        listeners.notify(Change::Here);
        assert_eq!(listeners.poll(), Some(Duration::from_secs(1)));
        drop(second);
        listeners.notify(Change::Elsewhere);
        assert_eq!((heard.load(Ordering::Relaxed), listeners.poll()), (3, None));
        drop(first);
        listeners.notify(Change::Here);
        assert_eq!(heard.load(Ordering::Relaxed), 3);
        assert!(listeners.is_empty());
        assert_eq!(Arc::strong_count(&heard), 1);
    }

    #[test]
    fn a_listener_may_unsubscribe_another_one_and_itself() {
        let listeners = Listeners::new();
        let held: Arc<Mutex<Vec<Subscription>>> = Arc::default();
        for _ in 0..3 {
            let own = Arc::clone(&held);
            let subscription = listeners.add(Listener::new(Duration::MAX, move |_| {
                let all = std::mem::take(&mut *lock(&own));
                drop(all);
            }));
            lock(&held).push(subscription);
        }
        listeners.notify(Change::Here);
        assert!(listeners.is_empty());
    }
}
