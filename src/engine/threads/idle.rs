//! The stack of idle workers: which of them is woken, retired or expires first.
//!
//! The worker that went idle last is on top and is woken first; the one at the bottom has idled longest, expires
//! first and is the first to be retired. So workers whose caches are cold stay asleep.

use std::collections::VecDeque;

/// The idle workers, each by what it shows the others.
pub(crate) struct IdleStack<T>(VecDeque<T>);

impl<T> Default for IdleStack<T> {
    fn default() -> IdleStack<T> {
        IdleStack(VecDeque::new())
    }
}

impl<T> IdleStack<T> {
    pub(crate) fn push(&mut self, worker: T) {
        self.0.push_back(worker);
    }

    pub(crate) fn pop_newest(&mut self) -> Option<T> {
        let newest = self.0.pop_back();
        self.shrink();
        newest
    }

    /// Takes the worker that has idled longest.
    pub(crate) fn steal_oldest(&mut self) -> Option<T> {
        let oldest = self.0.pop_front();
        self.shrink();
        oldest
    }

    /// Removes a given worker, which expires or saw work; false if another thread claimed it.
    pub(crate) fn remove(&mut self, is_it: impl Fn(&T) -> bool) -> bool {
        // An expiring worker is near the bottom, one that takes its last look near the top.
        let at = if self.0.back().is_some_and(&is_it) {
            Some(self.0.len() - 1)
        } else {
            self.0.iter().position(is_it)
        };
        let found = at.is_some_and(|at| self.0.remove(at).is_some());
        self.shrink();
        found
    }

    fn shrink(&mut self) {
        if let Some(capacity) = shrunk(self.0.len(), self.0.capacity()) {
            self.0.shrink_to(capacity);
        }
    }
}

/// The capacity that is small enough to keep.
const FEW: usize = 64;

/// What a list of this capacity shrinks to, if it should: to half, where less than a quarter is in use. So each move
/// of the list was paid for by as many removals.
pub(crate) fn shrunk(len: usize, capacity: usize) -> Option<usize> {
    (capacity > FEW && len < capacity / 4).then_some(capacity / 2)
}

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;

    #[test]
    fn newest_is_woken_first_and_oldest_leaves_first() {
        let mut idle = IdleStack::default();
        (0..5).for_each(|worker| idle.push(worker));
        assert_eq!((idle.pop_newest(), idle.steal_oldest()), (Some(4), Some(0)));
        assert!(idle.remove(|worker| *worker == 2));
        assert!(!idle.remove(|worker| *worker == 2), "claimed before");
        assert!(idle.remove(|worker| *worker == 3), "the one on top");
        assert_eq!((idle.pop_newest(), idle.pop_newest()), (Some(1), None));
    }

    #[test]
    fn many_that_were_idle_leave_no_room_behind() {
        let takes: [fn(&mut IdleStack<u32>) -> bool; 3] = [
            |idle| idle.pop_newest().is_some(),
            |idle| idle.steal_oldest().is_some(),
            |idle| idle.remove(|_| true),
        ];
        for take in takes {
            let mut idle = IdleStack::default();
            (0..4_000).for_each(|worker| idle.push(worker));
            while take(&mut idle) {
                assert!(idle.0.capacity() <= FEW.max(4 * (idle.0.len() + 1)));
            }
        }
    }
}
