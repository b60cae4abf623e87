//! An iterator whose items are processed ahead by the workers of a pool, as its users see it.
//!
//! [`feed`](super::feed) has the rules (M1 to M5) and the caller's side, [`runner`](super::runner) the workers' side,
//! [`window`](super::window) the ring between them, [`batch`](super::batch) what several items are as one unit.

use super::feed::Feed;
use crate::pool::PoolHandle;
use std::fmt;
use std::iter::FusedIterator;

macro_rules! face {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[must_use = "a map is lazy: it does nothing until it is iterated"]
        pub struct $name<I: Iterator, R, F>(Feed<I, R, F>);

        impl<I, R, F> $name<I, R, F>
        where
            I: Iterator,
            I::Item: Send + 'static,
            R: Send + 'static,
            F: Fn(I::Item) -> R + Send + Sync + 'static,
        {
            /// Sets how many items may be pulled and not yielded, at least 1.
            ///
            /// By default the window follows the work: 64 items for each task of the map that runs or is on its way,
            /// and at least 64; but no more than 64 for each worker of the pool's capacity when the map was made, and
            /// no more than 4,096. If the capacity is above 1,024, as that of an [unbounded](crate::Pool::unbounded)
            /// pool, the window is no more than 64 for each processor, and the map has at most 256 tasks (or one for
            /// each processor, if those are more). With a window that is set here the limit of 256 tasks does not apply;
            /// the capacity does.
            ///
            /// ```
            /// let pool = anthill::Pool::with_capacity(2);
            /// let doubled = pool.map(0..10, |n| 2 * n).window(4);
            /// assert_eq!(doubled.sum::<i32>(), 90);
            /// ```
            pub fn window(mut self, items: usize) -> Self {
                self.0.set_window(items);
                self
            }

            /// Makes `items` items one unit for a task: useful where an item takes less than a few microseconds, since
            /// the tasks and the caller then meet once for each batch.
            ///
            /// The results are as without batches: one for each item, in the same order. The window counts items, too:
            /// nothing is pulled further ahead than it allows. So a batch has no more items than the window; a window that
            /// is set should have room for a few batches for each worker. By default the window grows with the batches:
            /// to 64 items or 4 batches, whichever is more, for each task of the map, but no more than 4,096 items or 64
            /// batches in all. 0 counts as 1, and more than 4,096 as 4,096.
            ///
            /// A batch is handed to the tasks once it is full or the iterator has ended. So here the iterator must not
            /// wait for the result of an item that it has returned: that item may be in a batch that is not full.
            ///
            /// If an item panics, the other items of its batch are not started, and the results of those before it in
            /// the batch come out as they would without batches; then the map ends with the panic.
            ///
            /// ```
            /// let pool = anthill::Pool::with_capacity(2);
            /// let doubled = pool.map(0..1_000, |n| 2 * n).batch(64);
            /// assert_eq!(doubled.sum::<i32>(), 999_000);
            /// let odd = pool.map_unordered(0..10, |n| n % 2).batch(3); // 3, 3, 3 and 1
            /// assert_eq!(odd.sum::<i32>(), 5);
            /// ```
            pub fn batch(mut self, items: usize) -> Self {
                self.0.set_batch(items);
                self
            }
        }

        impl<I, R, F> Iterator for $name<I, R, F>
        where
            I: Iterator,
            I::Item: Send + 'static,
            R: Send + 'static,
            F: Fn(I::Item) -> R + Send + Sync + 'static,
        {
            type Item = R;

            /// # Panics
            ///
            /// Resumes the first panic of an item, after all tasks of the map have ended. Also panics if the pool discarded
            /// tasks of the map.
            fn next(&mut self) -> Option<R> {
                self.0.next()
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                self.0.size_hint()
            }
        }

        impl<I, R, F> FusedIterator for $name<I, R, F>
        where
            I: Iterator,
            I::Item: Send + 'static,
            R: Send + 'static,
            F: Fn(I::Item) -> R + Send + Sync + 'static,
        {
        }

        impl<I: Iterator, R, F> fmt::Debug for $name<I, R, F> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.describe(f, stringify!($name))
            }
        }
    };
}

face! {
    /// An iterator over the results of items, in the order of the items; see [`PoolHandle::map`].
    Map
}

face! {
    /// An iterator over the results of items, in the order in which they come; see [`PoolHandle::map_unordered`].
    MapUnordered
}

impl PoolHandle {
    /// Applies `f` to the items of an iterator on the pool's workers, and returns an iterator over the results, in the
    /// order of the items.
    ///
    /// It is lazy: items are pulled, on the caller's thread, as results are asked for, and no further ahead than a
    /// [window](Map::window); so memory is bounded even if the items have no end. If it is dropped half-way it starts
    /// nothing more, and does not wait for what runs.
    ///
    /// In a task of the pool the caller itself processes the item that it waits for, if nobody has begun that; so the
    /// map completes at capacity 1, too. If the pool refuses tasks (it is closed, or has no thread) the caller does the
    /// work. If an item panics, the map ends with that panic, once nothing of it runs any more; further panics go to
    /// the pool's panic handler.
    ///
    /// The items are processed by tasks that take one after the other, at most as many tasks as the capacity; the
    /// pool's statistics count those tasks.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(4);
    /// let squares: Vec<u64> = pool.map(1..=5, |n: u64| n * n).collect();
    /// assert_eq!(squares, [1, 4, 9, 16, 25]);
    /// let first = pool.map(0.., |n: u64| n + 1).take(3); // no end, bounded memory
    /// assert_eq!(first.sum::<u64>(), 6);
    /// ```
    pub fn map<I, R, F>(&self, items: I, f: F) -> Map<I::IntoIter, R, F>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        R: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
    {
        Map(Feed::new(self, items.into_iter(), f, true))
    }

    /// Like [`map`](PoolHandle::map), but returns results as soon as they are ready, in any order.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(4);
    /// let mut squares: Vec<u64> = pool.map_unordered(1..=5, |n: u64| n * n).collect();
    /// squares.sort();
    /// assert_eq!(squares, [1, 4, 9, 16, 25]);
    /// ```
    pub fn map_unordered<I, R, F>(&self, items: I, f: F) -> MapUnordered<I::IntoIter, R, F>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        R: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
    {
        MapUnordered(Feed::new(self, items.into_iter(), f, false))
    }
}
