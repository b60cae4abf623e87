//! An iterator whose items are worked on ahead, by the workers of a pool.
//!
//! The caller pulls items from its iterator into a window that the runners share: tasks of the pool, at
//! most as many as its capacity, which take the next item, work on it and leave the result. A runner that
//! has been at it for a while goes to the end of the queue, so that a long map starves nobody.
//!
//! - M1: No more than a window of items has been pulled and not yielded.
//! - M2: Items are taken in order, each once: by a runner; or by the caller, where it is in a task of the
//!   pool and waits for this very item, or where the pool refuses runners.
//! - M3: While items wait, there is a runner on its way for each, or as many runners as the capacity (one
//!   at a paused pool); or none at all, because the pool refused one, and the caller knows.
//! - M4: The caller is woken when it can go on; where items are short, not for each of them.
//! - M5: No user code runs under the lock, and a shell holds nothing of a user's.

use crate::engine::admission::Origin;
use crate::engine::submit::Door;
use crate::engine::task::{Job, Outcome, Payload, Spot, Task, Unrun};
use crate::engine::tokens::Tokens;
use crate::engine::{Core, current};
use crate::panic::drop_quietly;
use crate::pool::PoolHandle;
use crate::sync::{
    Arc, Mutex, MutexGuard, Thread, Weak, current as this_thread, elapsed, lock, now, park_until,
};
use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// Items that are pulled ahead for each worker, unless the user says otherwise.
const AHEAD: usize = 64;

/// Beyond so many workers the window does not grow by itself.
const MOST_WORKERS: usize = 1024;

/// Items that are put in the window at once, when there is enough to do.
const BATCH: usize = 16;

/// How long to pull items while a result is there.
const LONG_PULL: Duration = Duration::from_micros(50);

/// The most items of one run of a runner; and how long a run may take to become longer, or shorter.
const MOST_RUN: usize = 64;
const SHORT_RUN: Duration = Duration::from_micros(20);
const LONG_RUN: Duration = Duration::from_micros(100);

/// The runners' tasks.
struct Runner<T, R, F> {
    tokens: Mutex<Tokens>,
    shared: Weak<Shared<T, R, F>>,
}

/// What the caller and the runners share. The lock of the tokens is taken within that of the window.
struct Shared<T, R, F> {
    f: F,
    runner: Arc<Runner<T, R, F>>,
    window: Mutex<Window<T, R>>,
}

struct Window<T, R> {
    ordered: bool,
    /// M2
    waiting: VecDeque<T>,
    /// How many were taken: the number of the next.
    taken: u64,
    /// Ordered: a place for each item that is not yielded. Else: the results there are.
    results: VecDeque<Option<R>>,
    /// Ordered: the number of the first of them.
    first: u64,
    /// How many in front are there.
    ready: usize,
    /// So many are worth a wake.
    enough: usize,
    /// Items of one run.
    run: usize,
    panic: Option<Payload>,
    discarded: bool,
    /// Nothing more is to be started.
    stopped: bool,
    /// The caller, while it is parked.
    caller: Option<Thread>,
}

impl<T, R> Window<T, R> {
    fn put(&mut self, item: T) {
        self.waiting.push_back(item);
        if self.ordered {
            self.results.push_back(None);
        }
    }

    /// M2: the next item, with its number.
    fn take(&mut self) -> Option<(u64, T)> {
        let item = self.waiting.pop_front()?;
        let number = self.taken;
        self.taken += 1;
        Some((number, item))
    }

    /// Whether the item for which the caller waits was not taken yet.
    fn next_waits(&self) -> bool {
        !self.waiting.is_empty() && (!self.ordered || self.taken == self.first)
    }

    fn leave(&mut self, number: u64, result: R) {
        if !self.ordered {
            self.results.push_back(Some(result));
            self.ready += 1;
            return;
        }
        let place = usize::try_from(number - self.first).ok();
        if let Some(place) = place.and_then(|place| self.results.get_mut(place)) {
            *place = Some(result);
        }
        while matches!(self.results.get(self.ready), Some(Some(_))) {
            self.ready += 1;
        }
    }

    /// M3
    fn needs_runner(&self, tokens: &Tokens, capacity: usize) -> bool {
        !self.stopped
            && tokens.len() < self.waiting.len()
            && tokens.len() + tokens.working() < capacity.max(1)
    }

    /// M4: the caller, if it is parked and can go on. A `lull`: whoever asks is about to do something
    /// else.
    fn call(&mut self, tokens: &Tokens, lull: bool) -> Option<Thread> {
        let worth = self.ready >= self.enough
            || self.ready > 0 && (lull || self.waiting.is_empty())
            || tokens.working() == 0 && (self.waiting.is_empty() || tokens.len() == 0);
        if worth { self.caller.take() } else { None }
    }
}

impl<T, R, F> Shared<T, R, F> {
    fn lock(&self) -> MutexGuard<'_, Window<T, R>> {
        lock(&self.window)
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        lock(&self.runner.tokens)
    }

    /// Has nothing more started, and takes the runners back that have not.
    fn stop(&self, core: &Arc<Core>) {
        let waiting = {
            let mut window = self.lock();
            window.stopped = true;
            mem::take(&mut window.waiting)
        };
        while let Some(spot) = { self.tokens().retire(0) } {
            core.take_back(spot);
        }
        waiting.into_iter().for_each(drop_quietly);
        self.call_if(true);
    }

    fn call_if(&self, lull: bool) {
        let mut window = self.lock();
        let caller = window.call(&self.tokens(), lull);
        drop(window);
        if let Some(caller) = caller {
            caller.unpark();
        }
    }
}

impl<T, R, F> Shared<T, R, F>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Fn(T) -> R + Send + Sync + 'static,
{
    /// Works on one item after the other, for so many or until none is left. The caller counts as
    /// working.
    fn work(&self, core: &Arc<Core>, most: usize) -> Outcome {
        let mut done = 0;
        let mut result = None;
        loop {
            let mut window = self.lock();
            let mut unwanted = None;
            if let Some((number, value)) = result.take() {
                if window.stopped {
                    unwanted = Some(value);
                } else {
                    window.leave(number, value);
                }
            }
            let next = if done == most { None } else { window.take() };
            let caller = if done > 0 {
                window.call(&self.tokens(), false)
            } else {
                None
            };
            drop(window);
            drop_quietly(unwanted);
            if let Some(caller) = caller {
                caller.unpark();
            }
            let Some((number, item)) = next else {
                return Outcome::Completed;
            };
            done += 1;
            match catch_unwind(AssertUnwindSafe(|| (self.f)(item))) {
                Ok(value) => result = Some((number, value)),
                Err(payload) => return self.fail(core, payload),
            }
        }
    }

    fn fail(&self, core: &Arc<Core>, payload: Payload) -> Outcome {
        let mut window = self.lock();
        if window.panic.is_some() {
            return Outcome::Panicked(payload);
        }
        window.panic = Some(payload);
        drop(window);
        self.stop(core);
        Outcome::PanicTaken
    }

    /// M3: sends the runners that are needed; false if the pool refuses one.
    fn send_runners(&self, core: &Arc<Core>) -> bool {
        loop {
            let needed = {
                let window = self.lock();
                let mut tokens = self.tokens();
                let needed = window.needs_runner(&tokens, core.capacity());
                if needed {
                    tokens.add();
                }
                needed
            };
            if !needed {
                return true;
            }
            if !self.send(core) {
                return false;
            }
        }
    }

    /// Hands in a runner that was added.
    fn send(&self, core: &Arc<Core>) -> bool {
        let task = Task::of_job(Arc::clone(&self.runner) as _);
        let accepted = match core.submit_ahead(task, Origin::Outside) {
            Ok(()) => true,
            Err(refusal) => {
                refusal.task.disown();
                false
            }
        };
        self.tokens().added(accepted);
        accepted
    }

    /// A runner's turn.
    fn turn(&self, core: &Arc<Core>) -> Outcome {
        let (begun, run) = (now(), self.lock().run);
        let outcome = self.work(core, run);
        let took = elapsed(begun);
        let goes_on = {
            let mut window = self.lock();
            if took < SHORT_RUN {
                window.run = (run * 2).min(MOST_RUN);
            } else if took > LONG_RUN {
                window.run = (run / 2).max(1);
            }
            let mut tokens = self.tokens();
            tokens.end();
            let goes_on = window.needs_runner(&tokens, core.capacity());
            if goes_on {
                tokens.add();
            }
            goes_on
        };
        if goes_on {
            self.send(core);
        }
        self.call_if(true);
        outcome
    }
}

impl<T, R, F> Job for Runner<T, R, F>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Fn(T) -> R + Send + Sync + 'static,
{
    fn claim(&self, placed: bool) -> Option<Spot> {
        lock(&self.tokens).claim(placed)
    }

    fn is_claimed(&self, placed: bool) -> bool {
        !lock(&self.tokens).has(placed)
    }

    fn hold_place(&self) -> bool {
        lock(&self.tokens).hold_place()
    }

    fn run(&self) -> Outcome {
        let (Some(shared), Some(core)) = (self.shared.upgrade(), current::core()) else {
            lock(&self.tokens).end();
            return Outcome::Completed;
        };
        let outcome = shared.turn(&core);
        drop_quietly(shared);
        outcome
    }

    fn settle(&self) {}

    fn abandon(&self, _why: Unrun) {
        lock(&self.tokens).end();
        if let Some(shared) = self.shared.upgrade() {
            let waiting = {
                let mut window = shared.lock();
                window.discarded = true;
                window.stopped = true;
                mem::take(&mut window.waiting)
            };
            shared.call_if(true);
            waiting.into_iter().for_each(drop_quietly);
            drop_quietly(shared);
        }
    }
}

/// What the caller has of a map.
struct Feed<I: Iterator, R, F> {
    core: Arc<Core>,
    shared: Arc<Shared<I::Item, R, F>>,
    /// `None` once it is exhausted.
    items: Option<I>,
    /// M1
    limit: usize,
    pulled: u64,
    yielded: u64,
    /// Results that are the caller's already.
    ready: VecDeque<Option<R>>,
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
        let limit = AHEAD * core.capacity().clamp(1, MOST_WORKERS);
        let shared = Arc::new_cyclic(|shared| Shared {
            f,
            runner: Arc::new(Runner {
                tokens: Mutex::new(Tokens::default()),
                shared: Weak::clone(shared),
            }),
            window: Mutex::new(Window {
                ordered,
                waiting: VecDeque::new(),
                taken: 0,
                results: VecDeque::new(),
                first: 0,
                ready: 0,
                enough: enough(limit),
                run: 1,
                panic: None,
                discarded: false,
                stopped: false,
                caller: None,
            }),
        });
        Feed {
            core,
            shared,
            items: Some(items),
            limit,
            pulled: 0,
            yielded: 0,
            ready: VecDeque::new(),
        }
    }

    fn set_window(&mut self, items: usize) {
        self.limit = items.max(1);
        self.shared.lock().enough = enough(self.limit);
    }

    fn ahead(&self) -> usize {
        usize::try_from(self.pulled - self.yielded).unwrap_or(usize::MAX)
    }

    /// M1: pulls items into the window; not for long if a result is there. Sends the runners.
    fn fill(&mut self) {
        let begun = now();
        loop {
            let few = self.pulled < 2 * self.core.capacity().min(MOST_WORKERS) as u64;
            let most = if few { 1 } else { BATCH };
            let space = self.limit.saturating_sub(self.ahead()).min(most);
            let mut batch = Vec::new();
            while batch.len() < space {
                let Some(item) = self.items.as_mut().and_then(Iterator::next) else {
                    self.items = None;
                    break;
                };
                self.pulled += 1;
                batch.push(item);
            }
            if batch.is_empty() {
                return;
            }
            let is_ready = {
                let mut window = self.shared.lock();
                for item in batch {
                    window.put(item);
                }
                window.ready > 0
            };
            self.shared.send_runners(&self.core);
            if is_ready && elapsed(begun) > LONG_PULL {
                return;
            }
        }
    }

    fn next(&mut self) -> Option<R> {
        loop {
            if let Some(result) = self.ready.pop_front() {
                self.yielded += 1;
                return result;
            }
            self.fill();
            let mut window = self.shared.lock();
            let ready = mem::take(&mut window.ready);
            if ready > 0 {
                let rest = window.results.split_off(ready);
                self.ready = mem::replace(&mut window.results, rest);
                window.first += ready as u64;
                continue;
            }
            let mut tokens = self.shared.tokens();
            let idle = tokens.working() == 0 && tokens.len() == 0;
            if window.stopped && tokens.working() == 0 {
                drop(tokens);
                let panic = window.panic.take();
                let discarded = mem::take(&mut window.discarded);
                drop(window);
                self.items = None;
                if let Some(payload) = panic {
                    resume_unwind(payload);
                }
                assert!(!discarded, "the pool discarded tasks of this map");
                return None;
            }
            if tokens.working() == 0 && window.waiting.is_empty() {
                drop(tokens);
                drop(window);
                self.shared.stop(&self.core);
                return None;
            }
            if window.next_waits() && (idle || current::is_inside(&self.core)) {
                tokens.begin();
                drop(tokens);
                drop(window);
                self.work_here();
                continue;
            }
            drop(tokens);
            window.caller = Some(this_thread());
            drop(window);
            park_until(self.core.rescue());
        }
    }

    /// M2: the caller works on the next item itself.
    fn work_here(&mut self) {
        let core = &self.core;
        let outcome = if current::is_inside(core) {
            current::call_here(core, || self.shared.work(core, 1))
        } else {
            self.shared.work(core, 1)
        };
        self.shared.tokens().end();
        if let Outcome::Panicked(payload) = outcome {
            core.tell_panic(payload);
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let ahead = self.ahead();
        let (least, most) = self
            .items
            .as_ref()
            .map_or((0, Some(0)), Iterator::size_hint);
        let most = most.and_then(|most| most.checked_add(ahead));
        (least.saturating_add(ahead), most)
    }
}

impl<I: Iterator, R, F> Drop for Feed<I, R, F> {
    fn drop(&mut self) {
        self.shared.stop(&self.core);
        let results = mem::take(&mut self.shared.lock().results);
        drop(results);
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

/// How many results are worth a wake of the caller.
fn enough(window: usize) -> usize {
    (window / 4).max(1)
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
            /// The most items that may be pulled and not yielded, at least 1. By default 64 for each worker
            /// of the pool's capacity when the map was made.
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
