//! A batch of a [map](super::map): items that are one unit of its window, and then their results.
//!
//! - BA1: One thread at a time has a batch: the caller while it gathers items, a runner while it processes them, the
//!   caller again while it yields the results. In between it is in the window, or in the queue of results.
//! - BA2: The results are in the order of the items. A batch without all of them (an item panicked, or the map was
//!   stopped meanwhile) is *cut*: in an ordered map nothing after it is yielded.
//! - BA3: Whoever drops a batch, no drop of an item or a result unwinds.

use crate::panic::drop_quietly;
use std::collections::VecDeque;

pub(super) struct Batch<T, R> {
    items: VecDeque<T>,
    results: VecDeque<R>,
    /// How many items were gathered.
    len: usize,
}

impl<T, R> Batch<T, R> {
    /// Makes an empty batch for so many items, which need not come.
    pub(super) fn for_items(items: usize) -> Batch<T, R> {
        Batch {
            items: VecDeque::with_capacity(items),
            results: VecDeque::new(),
            len: 0,
        }
    }

    pub(super) fn gather(&mut self, item: T) {
        self.items.push_back(item);
        self.len += 1;
    }

    /// How many items were gathered.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Processes one item after the other until none is left, `is_stopped`, or one panics.
    pub(super) fn process(&mut self, f: impl Fn(T) -> R, is_stopped: impl Fn() -> bool) {
        self.results.reserve_exact(self.items.len());
        while !is_stopped() {
            let Some(item) = self.items.pop_front() else {
                break;
            };
            self.results.push_back(f(item));
        }
    }

    /// BA2: whether results are missing; once the items were processed, and before a result was taken.
    pub(super) fn is_cut(&self) -> bool {
        self.results.len() < self.len
    }

    pub(super) fn has_results(&self) -> bool {
        !self.results.is_empty()
    }

    /// Takes the next result.
    pub(super) fn next(&mut self) -> Option<R> {
        self.results.pop_front()
    }
}

impl<T, R> Drop for Batch<T, R> {
    /// BA3: one by one, since a second panic within the drop of a collection would end the process.
    fn drop(&mut self) {
        while let Some(item) = self.items.pop_front() {
            drop_quietly(item);
        }
        while let Some(result) = self.results.pop_front() {
            drop_quietly(result);
        }
    }
}

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Counts its drops, and panics in each.
    struct Bomb<'a>(&'a Cell<u32>);

    impl Drop for Bomb<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            panic!("in a drop, on purpose");
        }
    }

    fn gathered<T, R>(items: impl IntoIterator<Item = T>) -> Batch<T, R> {
        let mut batch = Batch::for_items(4);
        items.into_iter().for_each(|item| batch.gather(item));
        batch
    }

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let mut batch = gathered(0..10);
        batch.process(|n: u32| n * n, || false);
        assert_eq!((batch.len(), batch.is_cut()), (10, false));
        let results = std::iter::from_fn(|| batch.next());
        assert!(results.eq((0..10).map(|n| n * n)));
    }

    #[test]
    fn a_batch_is_cut_by_a_panic_or_a_stop() {
        for at in 0..4 {
            let mut batch = gathered(0..4);
            let process = || batch.process(|n: u32| assert!(n != at), || false);
            assert!(catch_unwind(AssertUnwindSafe(process)).is_err());
            assert!(batch.is_cut());
            assert_eq!(batch.has_results(), at > 0);
            assert_eq!(std::iter::from_fn(|| batch.next()).count(), at as usize);

            let (mut batch, done) = (gathered(0..4), Cell::new(0));
            batch.process(|_: u32| done.set(done.get() + 1), || done.get() == at);
            assert!(batch.is_cut());
            assert_eq!(std::iter::from_fn(|| batch.next()).count(), at as usize);
        }
    }

    #[test]
    fn each_item_and_each_result_is_dropped_however_many_panic() {
        let drops = Cell::new(0);
        let mut batch = gathered((0..6).map(|_| Bomb(&drops)));
        let done = Cell::new(0);
        batch.process(
            |item| {
                done.set(done.get() + 1);
                item
            },
            || done.get() == 3,
        );
        drop(batch);
        assert_eq!(drops.get(), 6);
    }
}
