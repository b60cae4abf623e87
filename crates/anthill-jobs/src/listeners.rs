//! Listeners that are called when something happens. They are called under no lock, so a listener may do anything, also
//! add another one.

use crate::sync::lock;
use std::sync::{Arc, Mutex};

type Listener = Arc<dyn Fn() -> bool + Send + Sync>;

#[derive(Default)]
pub(crate) struct Listeners(Mutex<Arc<Vec<Listener>>>);

impl Listeners {
    /// Adds a listener, which is called each time until it returns false.
    pub(crate) fn add(&self, listener: impl Fn() -> bool + Send + Sync + 'static) {
        let mut listeners = lock(&self.0);
        Arc::make_mut(&mut listeners).push(Arc::new(listener));
    }

    /// Calls all listeners. A thread that calls this at the same time calls them again, as its news is newer.
    pub(crate) fn notify(&self) {
        let listeners = Arc::clone(&lock(&self.0));
        let done: Vec<&Listener> = listeners.iter().filter(|listener| !listener()).collect();
        if !done.is_empty() {
            let mut now = lock(&self.0);
            let is_done = |listener: &Listener| done.iter().any(|done| Arc::ptr_eq(done, listener));
            Arc::make_mut(&mut now).retain(|listener| !is_done(listener));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_listener_is_called_until_it_returns_false() {
        let heard = Arc::new(AtomicU32::new(0));
        let listeners = Listeners::default();
        let ears = Arc::clone(&heard);
        listeners.add(move || ears.fetch_add(1, Ordering::Relaxed) < 1);
        (0..5).for_each(|_| listeners.notify());
        assert_eq!(heard.load(Ordering::Relaxed), 2);
        assert_eq!(Arc::strong_count(&heard), 1);
    }
}
