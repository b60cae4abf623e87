//! An iterator whose items are worked on ahead, by the workers of a pool.
//!
//! The caller pulls items from its iterator into a [window](super::window) that the
//! [runners](super::runner) share: tasks of the pool, at most as many as its capacity, which take the next
//! item, work on it and leave the result. A runner that has been at it for a while goes to the end of the
//! queue, so that a long map starves nobody.
//!
//! - M1: No more than a window of items has been pulled and not yielded. If the user does not say how many that are, it is
//!   64 for each runner that there was at once, at least 64; and no more than 64 for each worker of the capacity, nor
//!   than 4,096. Items that wait bring runners, these widen the window, and that lets in items: it goes on until
//!   there are as many runners as the capacity. A capacity above 1,024 is no number of workers that anybody means:
//!   there the window is that of a pool with a worker for each processor, and so it ends with that; there are at
//!   most 256 runners, or as many as there are processors.
//! - M2: Items are taken in order, each once: by a runner; or by the caller, where it is in a task of the
//!   pool and waits for this very item, or where the pool refuses runners.
//! - M3: While items wait, there is a runner on its way for each, or as many runners as the capacity (one
//!   at a paused pool); or none at all, because the pool refused one, and the caller knows.
//! - M4: A caller that sleeps says at which item it wants to be woken. It is woken at each pause of a
//!   runner, too; and where it asked to be woken late, because items are short, it wakes by itself: nobody
//!   may rely on the next item being short as well.
//! - M5: No user code runs under a lock, and a tombstone holds nothing of a user's.

use super::runner::{AWAKE, Shared};
use crate::engine::core::Core;
use crate::engine::task::Outcome;
use crate::engine::task::permits::Permits;
use crate::engine::{current, queue, spin};
use crate::panic::drop_quietly;
use crate::pool::PoolHandle;
use crate::sync::{
    Arc, Ordering, current as this_thread, deadline_after, elapsed, fence, lock, now, park_until,
    processors, sooner,
};
use std::fmt;
use std::iter::FusedIterator;
use std::mem;
use std::panic::resume_unwind;
use std::time::Duration;

/// M1: items that are pulled ahead for each runner, and in all, unless the user says otherwise.
const AHEAD: usize = 64;
const MOST_AHEAD: usize = 4096;

/// M1: a capacity above it is none, and so many runners there are then.
const MOST_WORKERS: usize = 1024;
const MOST_RUNNERS: usize = 256;

/// The largest window that a user may ask for.
const LARGEST: usize = 1 << 16;

/// How long to pull items while a result is there.
const LONG_PULL: Duration = Duration::from_micros(50);

/// After so many pulls of so little time each, the clock, which takes as long to look at, is looked at in each fourth.
const QUICK_PULLS: u32 = 8;
const SHORT_PULL: Duration = Duration::from_micros(1);
const UNWATCHED_PULLS: u32 = 4;

/// How long to sleep while results may be there.
const LONG_SLEEP: Duration = Duration::from_micros(200);

/// What the caller has of a map.
struct Feed<I: Iterator, R, F> {
    core: Arc<Core>,
    /// Made when the first item is asked for.
    shared: Option<Arc<Shared<I::Item, R, F>>>,
    f: Option<F>,
    ordered: bool,
    /// `None` once it is exhausted.
    items: Option<I>,
    /// M1: the window, and how wide it may become.
    limit: usize,
    most: usize,
    /// M1
    most_runners: usize,
    pulled: u64,
    yielded: u64,
}

impl<I, R, F> Feed<I, R, F>
where
    I: Iterator,
    I::Item: Send + 'static,
    R: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
{
    fn new(pool: &PoolHandle, items: I, f: F, ordered: bool) -> Self {
        let core = Arc::clone(pool.core());
        let (workers, most_runners) = match core.capacity() {
            capacity @ 0..=MOST_WORKERS => (capacity.max(1), usize::MAX),
            _ => (processors(), MOST_RUNNERS.max(processors())),
        };
        Feed {
            limit: AHEAD,
            most: (AHEAD * workers).min(MOST_AHEAD),
            most_runners,
            core,
            shared: None,
            f: Some(f),
            ordered,
            items: Some(items),
            pulled: 0,
            yielded: 0,
        }
    }

    fn set_window(&mut self, items: usize) {
        if self.shared.is_none() {
            self.limit = items.clamp(1, LARGEST);
            (self.most, self.most_runners) = (self.limit, usize::MAX);
        }
    }

    fn begin(&mut self) {
        let Some(f) = self.f.take() else {
            return;
        };
        self.shared = Some(Shared::new(f, self.most, self.most_runners, self.ordered));
    }

    /// M1, M3: pulls items into the window, and sends the runners; not for long if a result is there. The
    /// iterator may wait for what becomes of an item before it gives the next one: so each is handed on
    /// before that is asked for.
    fn fill(&mut self, shared: &Shared<I::Item, R, F>) {
        let begun = now();
        let (mut pulls, mut next_look) = (0, 1);
        while self.ahead() < self.limit && !shared.is_stopped() {
            let Some(item) = self.items.as_mut().and_then(Iterator::next) else {
                self.items = None;
                return;
            };
            if shared.is_inherited() {
                // The iterator forked.
                drop_quietly(item);
                return;
            }
            // SAFETY: it is this feed's window, to which it alone puts and collects, by `&mut self`, and `pulled`
            // counts on from 0.
            unsafe { shared.window.put(self.pulled, item) };
            self.pulled += 1;
            shared.send_runners(&self.core);
            if self.limit < self.most {
                // M1
                let wider = AHEAD.saturating_mul(shared.runners());
                self.limit = self.limit.max(wider).min(self.most);
            }
            pulls += 1;
            if pulls >= next_look && self.is_ready(shared) {
                let took = elapsed(begun);
                if took > LONG_PULL {
                    return;
                }
                let quick = pulls >= QUICK_PULLS && took < SHORT_PULL * pulls;
                next_look = pulls + if quick { UNWATCHED_PULLS } else { 1 };
            }
        }
    }

    fn is_ready(&self, shared: &Shared<I::Item, R, F>) -> bool {
        match &shared.unordered {
            None => shared.window.is_done(self.yielded),
            Some(results) => !results.is_empty(),
        }
    }

    fn collect(&mut self) -> Option<R> {
        let shared = self.shared.as_ref()?;
        let result = match &shared.unordered {
            // SAFETY: as in `fill`.
            None => unsafe { shared.window.collect(self.yielded) },
            Some(results) => queue::insist(|| results.steal()),
        };
        self.yielded += u64::from(result.is_some());
        result
    }

    fn next(&mut self) -> Option<R> {
        if self
            .shared
            .as_ref()
            .is_some_and(|shared| shared.is_inherited())
        {
            return self.end_in_child();
        }
        // A window that is nearly full is filled when half of it is free: not item by item.
        if self.ahead() > self.limit / 2 {
            if let Some(result) = self.collect() {
                return Some(result);
            }
        }
        self.begin();
        let shared = Arc::clone(self.shared.as_ref()?);
        let mut late = true;
        loop {
            if shared.is_inherited() {
                return self.end_in_child();
            }
            self.fill(&shared);
            if let Some(result) = self.collect() {
                return Some(result);
            }
            if self.is_ready(&shared) {
                continue;
            }
            if shared.is_stopped() {
                if !shared.works() {
                    return self.end(&shared);
                }
                self.sleep(&shared, &mut late);
                continue;
            }
            if self.pulled == self.yielded {
                shared.end(&self.core);
                return None;
            }
            let helps = current::is_inside(&self.core) || shared.is_deserted();
            if helps && self.work_here(&shared) {
                continue;
            }
            self.sleep(&shared, &mut late);
        }
    }

    /// The map had begun in the process that this one was forked from.
    #[cold]
    fn end_in_child(&mut self) -> Option<R> {
        let over = self.items.is_none() && self.pulled == self.yielded;
        self.items = None;
        self.yielded = self.pulled;
        assert!(
            over,
            "the process was forked while this map ran: its items are worked on in its parent"
        );
        None
    }

    /// Nothing of the map runs any more, and nothing will.
    fn end(&mut self, shared: &Shared<I::Item, R, F>) -> Option<R> {
        self.items = None;
        self.yielded = self.pulled;
        if let Some(payload) = shared.take_panic() {
            resume_unwind(payload);
        }
        let discarded = shared.discarded.swap(false, Ordering::SeqCst);
        assert!(!discarded, "the pool discarded tasks of this map");
        None
    }

    /// M4
    fn sleep(&self, shared: &Shared<I::Item, R, F>, late: &mut bool) {
        // Where results come as they are ready, any of them will do.
        let (first, mut at) = if self.ordered {
            (self.yielded, self.yielded)
        } else {
            (shared.window.next().saturating_sub(1), 0)
        };
        let mut alarm = None;
        if *late && shared.has_short_items() {
            let last = (first + self.limit as u64 * 3 / 4).min(self.pulled - 1);
            if last > first {
                if !spin::linger_until(|| self.is_done(shared, last)) {
                    (at, alarm) = (last, deadline_after(LONG_SLEEP));
                } else if self.is_ready(shared) {
                    return;
                }
                // Else the first item runs long, and those after it are done.
            }
        }
        *lock(&shared.caller) = Some(this_thread());
        shared.wake_at.store(at, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let again = self.core.rescue();
        let goes_on = !shared.is_stopped() || shared.works();
        let awaits = goes_on && !self.is_ready(shared) && !shared.is_deserted();
        // Whoever woke it meanwhile took it from there. (Loom forgets an unpark of one who waits for a lock.)
        if awaits && lock(&shared.caller).is_some() {
            park_until(sooner(again, alarm));
            *late = false;
        }
        shared.wake_at.store(AWAKE, Ordering::SeqCst);
        drop(lock(&shared.caller).take());
    }

    fn is_done(&self, shared: &Shared<I::Item, R, F>, number: u64) -> bool {
        if self.ordered {
            shared.window.is_done(number)
        } else {
            self.is_ready(shared)
        }
    }

    /// M2: the caller works on an item itself: the one that it waits for, if that waits; whether it did.
    fn work_here(&self, shared: &Shared<I::Item, R, F>) -> bool {
        let only = self.ordered.then_some(self.yielded);
        let Some((taken, item)) = shared.take(only) else {
            return false;
        };
        shared.runner.change(Permits::begin);
        let work = || shared.work_on(taken, item);
        let worked = if current::is_inside(&self.core) {
            current::call_here(&self.core, work)
        } else {
            work()
        };
        if let Err(payload) = worked {
            if let Outcome::Panicked(payload) = shared.fail(payload) {
                self.core.tell_panic(payload);
            }
        }
        if !shared.is_inherited() {
            shared.runner.change(Permits::end);
        }
        true
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let ahead = self.ahead();
        let (least, most) = (self.items.as_ref()).map_or((0, Some(0)), Iterator::size_hint);
        let most = most.and_then(|most| most.checked_add(ahead));
        (least.saturating_add(ahead), most)
    }
}

impl<I: Iterator, R, F> Feed<I, R, F> {
    fn ahead(&self) -> usize {
        usize::try_from(self.pulled - self.yielded).unwrap_or(usize::MAX)
    }
}

impl<I: Iterator, R, F> Drop for Feed<I, R, F> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take_if(|shared| shared.is_inherited()) {
            // G3 of `engine::fork`.
            mem::forget(shared);
        }
        if let Some(shared) = &self.shared {
            shared.end(&self.core);
            if let Some(payload) = shared.take_panic() {
                self.core.tell_panic(payload);
            }
        }
    }
}

impl<I: Iterator, R, F> Feed<I, R, F> {
    fn describe(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        f.debug_struct(name)
            .field("window", &self.limit)
            .field("pulled", &self.pulled)
            .field("yielded", &self.yielded)
            .finish_non_exhaustive()
    }
}

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
            /// The most items that may be pulled and not yielded, at least 1.
            ///
            /// By default it follows the work: 64 for each task of the map that runs or is on its way, at least
            /// 64; no more than 64 for each worker of the pool's capacity when the map was made, nor than
            /// 4,096. Where the capacity is above 1,024, as that of an [unbounded](crate::Pool::unbounded) pool, it is no
            /// more than 64 for each processor, and the map has at most 256 tasks (or one for each processor): as
            /// many items run at once as a window asked for here has room for.
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
            /// With the panic of an item, once nothing of the map runs any more; or if the pool discarded
            /// tasks of it.
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
    /// An iterator over results in the order of their items; see [`PoolHandle::map`].
    Map
}

face! {
    /// An iterator over results as they come; see [`PoolHandle::map_unordered`].
    MapUnordered
}

impl PoolHandle {
    /// Applies `f` to the items of an iterator on the pool's workers: an iterator over the results, in the
    /// order of the items.
    ///
    /// It is lazy. Items are pulled on the caller's thread as results are asked for, no more ahead than a
    /// [window](Map::window), so that memory is bounded also where the items have no end. Dropped half-way
    /// it starts nothing more, and does not wait for what runs.
    ///
    /// In a task of the pool the caller works on an item that it waits for and that nobody has begun; so it
    /// comes to its end at capacity 1, too. Where the pool refuses (it is closed, or has no thread) the
    /// caller does the work. If an item panics, the map ends with that panic once nothing of it runs any
    /// more; panics of others go to the pool's panic handler.
    ///
    /// The items are worked on by tasks that take one after the other, at most as many as the capacity;
    /// the pool's statistics count those tasks.
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

    /// Like [`map`](PoolHandle::map), but results come as they are ready, in whatever order.
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
