//! An iterator whose items are worked on ahead, by the workers of a pool.
//!
//! The caller pulls items from its iterator into a [`Window`] that the runners share: tasks of the pool, at
//! most as many as its capacity, which take the next item, work on it and leave the result. A runner that
//! has been at it for a while goes to the end of the queue, so that a long map starves nobody.
//!
//! - M1: No more than a window of items has been pulled and not yielded.
//! - M2: Items are taken in order, each once: by a runner; or by the caller, where it is in a task of the
//!   pool and waits for this very item, or where the pool refuses runners.
//! - M3: While items wait, there is a runner on its way for each, or as many runners as the capacity (one
//!   at a paused pool); or none at all, because the pool refused one, and the caller knows.
//! - M4: A caller that sleeps says at which item it wants to be woken. It is woken at each pause of a
//!   runner, too; and where it asked to be woken late, because items are short, it wakes by itself: nobody
//!   may rely on the next item being short as well.
//! - M5: No user code runs under a lock, and a shell holds nothing of a user's.

use super::window::Window;
use crate::engine::admission::Origin;
use crate::engine::submit::Door;
use crate::engine::task::{Job, Outcome, Payload, Spot, Task, Unrun};
use crate::engine::tokens::Tokens;
use crate::engine::{Core, current, queue};
use crate::panic::drop_quietly;
use crate::pool::PoolHandle;
use crate::sync::deque::Injector;
use crate::sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, Thread, Weak,
    current as this_thread, deadline_after, elapsed, fence, lock, now, park_until, sooner, spins,
    yield_now,
};
use std::fmt;
use std::iter::FusedIterator;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// Items that are pulled ahead for each worker, unless the user says otherwise.
const AHEAD: usize = 64;

/// Beyond so many workers the window does not grow by itself; and the largest there is.
const MOST_WORKERS: usize = 1024;
const MOST_AHEAD: usize = AHEAD * MOST_WORKERS;

/// How long to pull items while a result is there; and how long to sleep while results may be there.
const LONG_PULL: Duration = Duration::from_micros(50);
const LONG_SLEEP: Duration = Duration::from_micros(200);

/// The most items of one run of a runner; and how long a run may take to become longer, or shorter.
const MOST_RUN: usize = 64;
const SHORT_RUN: Duration = Duration::from_micros(20);
const LONG_RUN: Duration = Duration::from_micros(100);

/// Where items are short: looks of a runner for more of them, and of the caller for results, before they
/// rest. At each they give way to others.
const LINGERS: u32 = 30;

/// The runners' tasks.
struct Runner<T, R, F> {
    tokens: Mutex<Tokens>,
    /// How many are on their way or at work, as it was when the lock was released last.
    present: AtomicUsize,
    shared: Weak<Shared<T, R, F>>,
}

/// What the caller and the runners share.
struct Shared<T, R, F> {
    f: F,
    runner: Arc<Runner<T, R, F>>,
    window: Window<T, R>,
    /// Where results go that are not wanted in order.
    unordered: Option<Injector<R>>,
    /// Items of one run.
    run: AtomicUsize,
    /// Nothing more is to be started.
    stopped: AtomicBool,
    discarded: AtomicBool,
    panic: Mutex<Panic>,
    /// M4: the number of an item; `AWAKE` while the caller is not asleep. Only the caller writes it.
    wake_at: AtomicU64,
    caller: Mutex<Option<Thread>>,
}

const AWAKE: u64 = u64::MAX;

/// The first panic of an item, which is the caller's.
enum Panic {
    None,
    First(Payload),
    /// There was one, or the caller is gone.
    Over,
}

impl<T, R, F> Runner<T, R, F> {
    fn change(&self, change: impl FnOnce(&mut Tokens)) {
        let mut tokens = lock(&self.tokens);
        change(&mut tokens);
        self.count(&tokens);
    }

    fn count(&self, tokens: &Tokens) {
        let present = tokens.len() + tokens.working();
        self.present.store(present, Ordering::SeqCst);
    }
}

impl<T, R, F> Shared<T, R, F> {
    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        lock(&self.runner.tokens)
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Has nothing more started: what waits is dropped.
    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        while let Some((number, item)) = self.take(None) {
            drop_quietly((number, item));
        }
        self.pause();
    }

    /// Stops, and takes the runners back that have not begun.
    fn end(&self, core: &Arc<Core>) {
        self.stop();
        while let Some(spot) = { self.tokens().retire(0) } {
            core.take_back(spot);
        }
    }

    fn take(&self, only: Option<u64>) -> Option<(u64, T)> {
        self.window.take(only, self.unordered.is_none())
    }

    fn leave(&self, number: u64, result: R) {
        match &self.unordered {
            None => self.window.leave(number, result),
            Some(results) => {
                results.push(result);
                // The push before the look whether the caller sleeps.
                fence(Ordering::SeqCst);
            }
        }
        if number >= self.wake_at.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// M4: a runner is about to do something else.
    fn pause(&self) {
        if self.wake_at.load(Ordering::SeqCst) != AWAKE {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        let caller = lock(&self.caller).take();
        if let Some(caller) = caller {
            caller.unpark();
        }
    }

    /// M3
    fn needs_runner(&self, tokens: &Tokens, capacity: usize) -> bool {
        tokens.len() + tokens.working() < capacity.max(1)
            && tokens.len() < self.window.waiting()
            && !self.is_stopped()
    }

    /// The first panic, for the caller; those to come are for the panic handler.
    fn take_panic(&self) -> Option<Payload> {
        match mem::replace(&mut *lock(&self.panic), Panic::Over) {
            Panic::First(payload) => Some(payload),
            Panic::None | Panic::Over => None,
        }
    }

    /// Nobody works, and nobody is on the way.
    fn is_deserted(&self) -> bool {
        let tokens = self.tokens();
        tokens.working() == 0 && tokens.len() == 0
    }

    fn works(&self) -> bool {
        self.tokens().working() > 0
    }
}

impl<T, R, F> Shared<T, R, F>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Fn(T) -> R + Send + Sync + 'static,
{
    /// Works on an item.
    fn work_on(&self, number: u64, item: T) -> Result<(), Payload> {
        let result = catch_unwind(AssertUnwindSafe(|| (self.f)(item)))?;
        if self.is_stopped() {
            drop_quietly(result);
        } else {
            self.leave(number, result);
        }
        Ok(())
    }

    /// Works on one item after the other, until none is left or so many are done.
    fn work(&self, most: usize) -> Outcome {
        for _ in 0..most {
            if self.is_stopped() {
                break;
            }
            let Some((number, item)) = self.take(None) else {
                if most == MOST_RUN && self.linger() {
                    continue;
                }
                break;
            };
            if let Err(payload) = self.work_on(number, item) {
                return self.fail(payload);
            }
        }
        Outcome::Completed
    }

    /// Items are short and the caller does not keep up: it may be about to put more. Whether it has.
    fn linger(&self) -> bool {
        self.pause();
        (0..spins(LINGERS)).any(|_| {
            yield_now();
            self.window.waiting() > 0
        })
    }

    /// The first panic is the caller's.
    fn fail(&self, payload: Payload) -> Outcome {
        {
            let mut panic = lock(&self.panic);
            if !matches!(*panic, Panic::None) {
                return Outcome::Panicked(payload);
            }
            *panic = Panic::First(payload);
        }
        self.stop();
        Outcome::PanicTaken
    }

    /// M3: sends the runners that are needed.
    fn send_runners(&self, core: &Arc<Core>) {
        loop {
            // The item came before this look; a runner that ends says so before it looks for items.
            let capacity = core.capacity();
            if self.runner.present.load(Ordering::SeqCst) >= capacity.max(1) {
                return;
            }
            {
                let mut tokens = self.tokens();
                if !self.needs_runner(&tokens, capacity) {
                    return;
                }
                tokens.add();
                self.runner.count(&tokens);
            }
            if !self.send(core) {
                return;
            }
        }
    }

    /// Hands in a runner that was added; false if the pool refuses it.
    fn send(&self, core: &Arc<Core>) -> bool {
        let task = Task::of_job(Arc::clone(&self.runner) as _);
        let accepted = match core.submit_ahead(task, Origin::Outside) {
            Ok(()) => true,
            Err(refusal) => {
                refusal.task.disown();
                false
            }
        };
        self.runner.change(|tokens| tokens.added(accepted));
        accepted
    }

    /// A runner's turn.
    fn turn(&self, core: &Arc<Core>) -> Outcome {
        // ORDERING: Relaxed, here and below: a guess.
        let (begun, run) = (now(), self.run.load(Ordering::Relaxed));
        let outcome = self.work(run);
        let took = elapsed(begun);
        if took < SHORT_RUN {
            self.run.store((run * 2).min(MOST_RUN), Ordering::Relaxed);
        } else if took > LONG_RUN {
            self.run.store((run / 2).max(1), Ordering::Relaxed);
        }
        let goes_on = {
            let mut tokens = self.tokens();
            tokens.end();
            self.runner.count(&tokens);
            let goes_on = self.needs_runner(&tokens, core.capacity());
            if goes_on {
                tokens.add();
                self.runner.count(&tokens);
            }
            goes_on
        };
        if goes_on {
            self.send(core);
        }
        self.pause();
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
            self.change(Tokens::end);
            return Outcome::Completed;
        };
        let outcome = shared.turn(&core);
        drop_quietly(shared);
        outcome
    }

    fn settle(&self) {}

    fn abandon(&self, _why: Unrun) {
        self.change(Tokens::end);
        if let Some(shared) = self.shared.upgrade() {
            shared.discarded.store(true, Ordering::SeqCst);
            shared.stop();
            drop_quietly(shared);
        }
    }
}

/// What the caller has of a map.
struct Feed<I: Iterator, R, F> {
    core: Arc<Core>,
    /// Made when the first item is asked for.
    shared: Option<Arc<Shared<I::Item, R, F>>>,
    f: Option<F>,
    ordered: bool,
    /// `None` once it is exhausted.
    items: Option<I>,
    /// M1
    limit: usize,
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
        Feed {
            limit: AHEAD * core.capacity().clamp(1, MOST_WORKERS),
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
            self.limit = items.clamp(1, MOST_AHEAD);
        }
    }

    fn begin(&mut self) {
        let Some(f) = self.f.take() else {
            return;
        };
        self.shared = Some(Arc::new_cyclic(|shared| Shared {
            f,
            runner: Arc::new(Runner {
                tokens: Mutex::new(Tokens::default()),
                present: AtomicUsize::new(0),
                shared: Weak::clone(shared),
            }),
            window: Window::new(self.limit),
            unordered: (!self.ordered).then(Injector::new),
            run: AtomicUsize::new(1),
            stopped: AtomicBool::new(false),
            discarded: AtomicBool::new(false),
            panic: Mutex::new(Panic::None),
            wake_at: AtomicU64::new(AWAKE),
            caller: Mutex::new(None),
        }));
    }

    /// M1, M3: pulls items into the window, and sends the runners; not for long if a result is there. The
    /// iterator may wait for what becomes of an item before it gives the next one: so each is handed on
    /// before that is asked for.
    fn fill(&mut self, shared: &Shared<I::Item, R, F>) {
        let begun = now();
        while self.ahead() < self.limit {
            let Some(item) = self.items.as_mut().and_then(Iterator::next) else {
                self.items = None;
                return;
            };
            shared.window.put(self.pulled, item);
            self.pulled += 1;
            shared.send_runners(&self.core);
            if self.is_ready(shared) && elapsed(begun) > LONG_PULL {
                return;
            }
        }
    }

    fn is_ready(&self, shared: &Shared<I::Item, R, F>) -> bool {
        match &shared.unordered {
            None => shared.window.is_done(self.yielded),
            Some(results) => !results.is_empty(),
        }
    }

    fn collect(&mut self, shared: &Shared<I::Item, R, F>) -> Option<R> {
        let result = match &shared.unordered {
            None => shared.window.collect(self.yielded),
            Some(results) => queue::insist(|| results.steal()),
        };
        self.yielded += u64::from(result.is_some());
        result
    }

    fn next(&mut self) -> Option<R> {
        self.begin();
        let shared = Arc::clone(self.shared.as_ref()?);
        let mut late = true;
        loop {
            // A window that is nearly full is filled when half of it is free: not item by item.
            if self.ahead() <= self.limit / 2 {
                self.fill(&shared);
            }
            if let Some(result) = self.collect(&shared) {
                return Some(result);
            }
            self.fill(&shared);
            if self.is_ready(&shared) {
                continue;
            }
            if shared.is_stopped() && !shared.works() {
                return self.end(&shared);
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
        // ORDERING: Relaxed: a guess.
        let short = shared.run.load(Ordering::Relaxed) == MOST_RUN;
        let next = if self.ordered {
            self.yielded
        } else {
            shared.window.next().saturating_sub(1)
        };
        let at = if short && *late {
            next + self.limit as u64 * 3 / 4
        } else {
            next
        };
        if at > next && (0..spins(LINGERS)).any(|_| self.lingers_until(shared, at)) {
            return;
        }
        *lock(&shared.caller) = Some(this_thread());
        shared.wake_at.store(at, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let again = self.core.rescue();
        let goes_on = !shared.is_stopped() || shared.works();
        if goes_on && !self.is_ready(shared) && !shared.is_deserted() {
            let alarm = if at > next {
                deadline_after(LONG_SLEEP)
            } else {
                None
            };
            park_until(sooner(again, alarm));
            *late = false;
        }
        shared.wake_at.store(AWAKE, Ordering::SeqCst);
        drop(lock(&shared.caller).take());
    }

    /// Items are short: gives way to the runners for a moment. Whether this item is done.
    fn lingers_until(&self, shared: &Shared<I::Item, R, F>, number: u64) -> bool {
        yield_now();
        if self.ordered {
            number < self.pulled && shared.window.is_done(number)
        } else {
            self.is_ready(shared)
        }
    }

    /// M2: the caller works on an item itself: the one that it waits for, if that waits; whether it did.
    fn work_here(&self, shared: &Shared<I::Item, R, F>) -> bool {
        let only = self.ordered.then_some(self.yielded);
        let Some((number, item)) = shared.take(only) else {
            return false;
        };
        shared.runner.change(Tokens::begin);
        let work = || shared.work_on(number, item);
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
        shared.runner.change(Tokens::end);
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
