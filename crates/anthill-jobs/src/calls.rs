//! Those who want to hear of something. They are called without a lock, so a call may do what it likes.

use crate::sync::lock;
use std::sync::{Arc, Mutex};

type Call = Arc<dyn Fn() -> bool + Send + Sync>;

#[derive(Default)]
pub(crate) struct Calls(Mutex<Arc<Vec<Call>>>);

impl Calls {
    /// `call` is called each time, until it returns false.
    pub(crate) fn add(&self, call: impl Fn() -> bool + Send + Sync + 'static) {
        let mut calls = lock(&self.0);
        Arc::make_mut(&mut calls).push(Arc::new(call));
    }

    /// Calls all. Who calls at the same time does so, too: what he has to tell came later.
    pub(crate) fn call(&self) {
        let calls = Arc::clone(&lock(&self.0));
        let tired: Vec<&Call> = calls.iter().filter(|call| !call()).collect();
        if !tired.is_empty() {
            let mut now = lock(&self.0);
            let is_tired = |call: &Call| tired.iter().any(|tired| Arc::ptr_eq(tired, call));
            Arc::make_mut(&mut now).retain(|call| !is_tired(call));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn who_asked_hears_of_all_until_he_wants_no_more() {
        let heard = Arc::new(AtomicU32::new(0));
        let calls = Calls::default();
        let ears = Arc::clone(&heard);
        calls.add(move || ears.fetch_add(1, Ordering::Relaxed) < 1);
        (0..5).for_each(|_| calls.call());
        assert_eq!(heard.load(Ordering::Relaxed), 2);
        assert_eq!(Arc::strong_count(&heard), 1);
    }
}
