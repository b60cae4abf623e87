//! The caller's side of a map: an iterator whose items are processed ahead by the workers of a pool.
//!
//! The caller pulls items from its iterator into a [window](super::window) that the [runners](super::runner) share.
//! Those are tasks of the pool, at most as many as its capacity, which take the next item, process it and leave the
//! result. A runner that has worked for a while goes to the end of the pool's queue, so that a long map starves nobody.
//!
//! - M1: At most a window of items is pulled and not yielded. Unless the user sets the window, it is 64 for each runner
//!   that there was at once, and at least 64; but no more than 64 for each worker of the capacity, and no more than
//!   4,096. Items that wait bring runners, runners widen the window, and a wider window admits items: this goes on
//!   until there are as many runners as the capacity. A capacity above 1,024 is not a number of workers that anybody
//!   means: there the window may grow to that of a pool with a worker for each processor, and there are at most 256
//!   runners, or as many as there are processors.
//! - M2: Items are taken in order, each once: by a runner; or by the caller, if it is in a task of the pool and waits
//!   for this very item, or if the pool refuses runners.
//! - M3: While items wait, there is a runner on its way for each, or as many runners as the capacity (one if the pool
//!   is paused); or there is none at all because the pool refused one, and the caller knows.
//! - M4: A caller that sleeps says for which item it wants to be woken. Each pause of a runner wakes it, too. If it
//!   asked to be woken late, because items are short, it also wakes by itself after a time: the next item may not be
//!   short.
//! - M5: No user code runs under a lock, and a tombstone holds nothing of a user's.
//! - M6: With [batches](super::batch) the window counts items, and its places and numbers are those of batches. A batch
//!   is begun only if all of it fits into the window, so M1 holds for items; a batch that is larger than the window is
//!   as large as the window. It goes to the runners when it has all its items or there are no more. The caller keeps
//!   one that is not full (the iterator panicked, or a result came first) and fills it when it next pulls.

use super::batch::Batch;
use super::runner::{AWAKE, Shared};
use super::window::{Done, Work};
use crate::engine::core::Core;
use crate::engine::task::Outcome;
use crate::engine::task::permits::Permits;
use crate::engine::{current, spin};
use crate::panic::drop_quietly;
use crate::pool::PoolHandle;
use crate::sync::{
    Arc, Ordering, current as this_thread, deadline_after, elapsed, fence, lock, now, park_until,
    processors, sooner,
};
use std::fmt;
use std::mem;
use std::panic::resume_unwind;
use std::time::Duration;

/// M1: how many items are pulled ahead for each runner, and in all, unless the user sets the window.
const AHEAD: usize = 64;
const MAX_AHEAD: usize = 4096;

/// M1: a capacity above this is not a number of workers that anybody means; with one there are at most this many
/// runners.
const MAX_WORKERS: usize = 1024;
const MAX_RUNNERS: usize = 256;

/// M1: the same in batches, if those are large.
const AHEAD_BATCHES: usize = 4;
const MAX_AHEAD_BATCHES: usize = 64;

/// The largest batch that a user can set.
const MAX_BATCH: usize = 4096;

/// The largest window that a user can set.
const MAX_WINDOW: usize = 1 << 16;

/// How long the caller goes on pulling items once a result is there.
const LONG_PULL: Duration = Duration::from_micros(50);

/// After `QUICK_PULLS` that took less than `SHORT_PULL` each, the clock is read at every fourth pull only: reading it
/// takes about as long as such a pull.
const QUICK_PULLS: u32 = 8;
const SHORT_PULL: Duration = Duration::from_micros(1);
const UNWATCHED_PULLS: u32 = 4;

/// With batches the caller looks less often: no result waits for more than so many pulls that take less than
/// `SHORT_PULL`.
const MAX_UNWATCHED_PULLS: u32 = 64;

/// M4: how long the caller sleeps at most when it asked to be woken late.
const LONG_SLEEP: Duration = Duration::from_micros(200);

/// What the caller keeps of a map.
pub(super) struct Feed<I: Iterator, R, F> {
    core: Arc<Core>,
    /// Made when the first item is asked for.
    shared: Option<Arc<Shared<I::Item, R, F>>>,
    f: Option<F>,
    ordered: bool,
    /// `None` once it is exhausted.
    items: Option<I>,
    /// M1: the window, and the width to which it may grow; both in items.
    limit: usize,
    max_limit: usize,
    /// M1: whether the user set the window; if not, the number of workers for which it is made.
    has_window: bool,
    workers: usize,
    /// M6: how many items the user wants in a batch.
    batch: usize,
    /// M1: how many runners there may be.
    max_runners: usize,
    pulled: u64,
    yielded: u64,
    /// The number of the next item or batch that is put into the window, and of the next one that is collected.
    put: u64,
    collected: u64,
    /// M6: the batch that is not full.
    gathered: Option<Box<Batch<I::Item, R>>>,
    /// The batch whose results are being yielded.
    in_hand: Option<Box<Batch<I::Item, R>>>,
    /// BA2: nothing more is yielded in order.
    cut: bool,
}

impl<I, R, F> Feed<I, R, F>
where
    I: Iterator,
    I::Item: Send + 'static,
    R: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
{
    pub(super) fn new(pool: &PoolHandle, items: I, f: F, ordered: bool) -> Self {
        let core = Arc::clone(pool.core());
        let (workers, max_runners) = match core.capacity() {
            capacity @ 0..=MAX_WORKERS => (capacity.max(1), usize::MAX),
            _ => (processors(), MAX_RUNNERS.max(processors())),
        };
        Feed {
            limit: AHEAD,
            max_limit: (AHEAD * workers).min(MAX_AHEAD),
            has_window: false,
            workers,
            batch: 1,
            max_runners,
            core,
            shared: None,
            f: Some(f),
            ordered,
            items: Some(items),
            pulled: 0,
            yielded: 0,
            put: 0,
            collected: 0,
            gathered: None,
            in_hand: None,
            cut: false,
        }
    }

    pub(super) fn set_window(&mut self, items: usize) {
        if self.shared.is_none() {
            self.has_window = true;
            self.limit = items.clamp(1, MAX_WINDOW);
            (self.max_limit, self.max_runners) = (self.limit, usize::MAX);
        }
    }

    pub(super) fn set_batch(&mut self, items: usize) {
        if self.shared.is_some() {
            return;
        }
        self.batch = items.clamp(1, MAX_BATCH);
        if !self.has_window {
            // M1
            self.limit = self.ahead_each();
            let max = MAX_AHEAD.max(MAX_AHEAD_BATCHES * self.batch);
            self.max_limit = self.limit.saturating_mul(self.workers).min(max);
        }
    }

    /// M1: how many items are pulled ahead for each runner, unless the user sets the window.
    fn ahead_each(&self) -> usize {
        AHEAD.max(AHEAD_BATCHES * self.batch)
    }

    /// M6: how many items a batch has; 1 if there are no batches.
    fn batch_size(&self) -> usize {
        self.batch.min(self.limit)
    }

    fn begin(&mut self) {
        let Some(f) = self.f.take() else {
            return;
        };
        self.shared = Some(Shared::new(
            f,
            self.max_limit / self.batch_size(),
            self.max_runners,
            self.ordered,
        ));
    }

    /// M1, M3: pulls items into the window and sends the runners, but not for long if a result is there. The iterator
    /// may wait for the result of one item before it returns the next: so each item, or each batch, is put into the
    /// window before the next item is pulled.
    fn fill(&mut self, shared: &Shared<I::Item, R, F>) {
        let size = self.batch_size();
        let unwatched = u32::try_from(size).unwrap_or(u32::MAX);
        let unwatched = unwatched.clamp(UNWATCHED_PULLS, MAX_UNWATCHED_PULLS);
        let begun = now();
        let (mut pulls, mut next_look) = (0, 1);
        while (self.gathered.is_some() || self.ahead() + size <= self.limit) && !shared.is_stopped()
        {
            let Some(item) = self.items.as_mut().and_then(Iterator::next) else {
                self.items = None;
                if let Some(batch) = self.gathered.take() {
                    self.put(shared, Work::Batch(batch));
                }
                return;
            };
            if shared.is_inherited() {
                // The iterator forked.
                drop_quietly(item);
                return;
            }
            self.pulled += 1;
            if size == 1 {
                self.put(shared, Work::Item(item));
            } else {
                self.gather(shared, item, size);
            }
            pulls += 1;
            if pulls >= next_look && self.is_ready(shared) {
                let took = elapsed(begun);
                if took > LONG_PULL {
                    return;
                }
                let quick = pulls >= QUICK_PULLS && took < SHORT_PULL * pulls;
                next_look = pulls + if quick { unwatched } else { 1 };
            }
        }
    }

    /// M6: adds an item to the batch, and puts that into the window if it is full.
    fn gather(&mut self, shared: &Shared<I::Item, R, F>, item: I::Item, size: usize) {
        let batch = self
            .gathered
            .get_or_insert_with(|| Box::new(Batch::for_items(size)));
        batch.gather(item);
        if batch.len() == size {
            if let Some(batch) = self.gathered.take() {
                self.put(shared, Work::Batch(batch));
            }
        }
    }

    fn put(&mut self, shared: &Shared<I::Item, R, F>, work: Work<I::Item, R>) {
        // SAFETY: only this feed puts into its window and collects from it, with `&mut self`, and `put` counts up from
        // 0.
        unsafe { shared.window.put(self.put, work) };
        self.put += 1;
        shared.send_runners(&self.core);
        if self.limit < self.max_limit {
            // M1
            let wider = self.ahead_each().saturating_mul(shared.runner_count());
            self.limit = self.limit.max(wider).min(self.max_limit);
        }
    }

    fn is_ready(&self, shared: &Shared<I::Item, R, F>) -> bool {
        match &shared.unordered {
            None => !self.cut && shared.window.is_done(self.collected),
            Some(results) => !results.is_empty(),
        }
    }

    fn collect(&mut self) -> Option<R> {
        if self.cut {
            return None;
        }
        let shared = self.shared.as_ref()?;
        let done = match &shared.unordered {
            // SAFETY: as in `put`.
            None => unsafe { shared.window.collect(self.collected) },
            Some(results) => spin::retry_steal(|| results.steal()),
        };
        let done = done?;
        self.collected += 1;
        match done {
            Done::Result(result) => {
                self.yielded += 1;
                Some(result)
            }
            Done::Batch(batch) => {
                self.cut = self.ordered && batch.is_cut();
                self.in_hand = Some(batch);
                self.next_in_hand()
            }
        }
    }

    /// Yields the next result of the batch that was collected.
    fn next_in_hand(&mut self) -> Option<R> {
        let result = self.in_hand.as_mut()?.next();
        if result.is_some() {
            self.yielded += 1;
        } else {
            self.in_hand = None;
        }
        result
    }

    pub(super) fn next(&mut self) -> Option<R> {
        if self
            .shared
            .as_ref()
            .is_some_and(|shared| shared.is_inherited())
        {
            return self.end_in_child();
        }
        if let Some(result) = self.next_in_hand() {
            return Some(result);
        }
        // A window that is nearly full is filled again when half of it is free, not item by item.
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
            let helps = current::may_help(&self.core) || shared.is_deserted();
            if helps && self.work_here(&shared) {
                continue;
            }
            self.sleep(&shared, &mut late);
        }
    }

    /// The map began in the process from which this one was forked.
    #[cold]
    fn end_in_child(&mut self) -> Option<R> {
        let over = self.items.is_none() && self.pulled == self.yielded;
        self.give_up();
        assert!(
            over,
            "the process was forked while this map ran: its items are worked on in its parent"
        );
        None
    }

    /// Nothing is pulled or yielded any more.
    fn give_up(&mut self) {
        self.items = None;
        (self.gathered, self.in_hand) = (None, None);
        self.yielded = self.pulled;
    }

    /// Nothing of the map runs any more, or will run.
    fn end(&mut self, shared: &Shared<I::Item, R, F>) -> Option<R> {
        self.give_up();
        if let Some(payload) = shared.take_panic() {
            resume_unwind(payload);
        }
        let discarded = shared.discarded.swap(false, Ordering::SeqCst);
        assert!(!discarded, "the pool discarded tasks of this map");
        None
    }

    /// M4: sleeps until results may be there.
    fn sleep(&self, shared: &Shared<I::Item, R, F>, late: &mut bool) {
        // Of results that come in any order, any one will do.
        let (first, mut at) = if self.ordered {
            (self.collected, self.collected)
        } else {
            (shared.window.next().saturating_sub(1), 0)
        };
        let mut alarm = None;
        if *late && shared.has_short_items() {
            let limit = (self.limit / self.batch_size()) as u64;
            let last = (first + limit * 3 / 4).min(self.put.saturating_sub(1));
            if last > first {
                if !spin::linger_until(|| self.is_done(shared, last)) {
                    (at, alarm) = (last, deadline_after(LONG_SLEEP));
                } else if self.is_ready(shared) {
                    return;
                }
                // Otherwise the first item runs long, and those after it are done.
            }
        }
        *lock(&shared.caller) = Some(this_thread());
        shared.wake_at.store(at, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let again = self.core.prepare_to_block();
        let goes_on = !shared.is_stopped() || shared.works();
        let awaits = goes_on && !self.is_ready(shared) && !shared.is_deserted();
        // Whoever woke the caller meanwhile took it out. (Loom forgets an unpark of a thread that waits for a lock.)
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

    /// M2: the caller itself processes the item that it waits for, if that has not been taken. False if it has.
    fn work_here(&self, shared: &Shared<I::Item, R, F>) -> bool {
        let only = self.ordered.then_some(self.collected);
        let Some((taken, work)) = shared.take(only) else {
            return false;
        };
        shared.runners.change(Permits::begin);
        let work = || shared.work_on(taken, work);
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
            shared.runners.change(Permits::end);
        }
        true
    }

    pub(super) fn size_hint(&self) -> (usize, Option<usize>) {
        let ahead = self.ahead();
        let (lower, upper) = (self.items.as_ref()).map_or((0, Some(0)), Iterator::size_hint);
        let upper = upper.and_then(|upper| upper.checked_add(ahead));
        (lower.saturating_add(ahead), upper)
    }
}

impl<I: Iterator, R, F> Feed<I, R, F> {
    fn ahead(&self) -> usize {
        usize::try_from(self.pulled - self.yielded).unwrap_or(usize::MAX)
    }

    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        f.debug_struct(name)
            .field("window", &self.limit)
            .field("batch", &self.batch)
            .field("pulled", &self.pulled)
            .field("yielded", &self.yielded)
            .finish_non_exhaustive()
    }
}

impl<I: Iterator, R, F> Drop for Feed<I, R, F> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take_if(|shared| shared.is_inherited()) {
            // G3 of `fork`.
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
