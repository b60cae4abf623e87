//! The workers' side of a [map](super::map): tasks of the pool that take the next item, process it and leave the
//! result.
//!
//! The rules M1 to M5 are those of [`feed`](super::feed).

use super::batch::Batch;
use super::window::{Done, Taken, Window, Work};
use crate::engine::admission::Origin;
use crate::engine::core::Core;
use crate::engine::spin::retry_steal;
use crate::engine::submit::Submit;
use crate::engine::task::permits::{Permit, Permits};
use crate::engine::task::{Outcome, Task};
use crate::engine::{current, run, spin};
use crate::fork;
use crate::panic::{Payload, drop_quietly};
use crate::sync::deque::Injector;
use crate::sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, Thread, Weak, elapsed,
    fence, lock, now,
};
use std::mem;
use std::time::Duration;

/// The maximum number of items in one run of a runner, though a batch is never parted. Runs become longer while a run takes less than `SHORT_RUN`, or
/// each of its items less than `SHORT_ITEM`, and otherwise shorter while a run takes more than `LONG_RUN`.
const MAX_RUN: usize = 64;
const SHORT_RUN: Duration = Duration::from_micros(20);
const SHORT_ITEM: Duration = Duration::from_micros(2);
const LONG_RUN: Duration = Duration::from_micros(100);

/// Items count as short while runs have at least this many of them. It is less than the maximum, since a runner that
/// was interrupted halves the runs, though its items are as short as before.
const RUN_OF_SHORT_ITEMS: usize = MAX_RUN / 4;

/// The permits of the runners, which are the tasks of the map.
pub(super) struct Runners<T, R, F> {
    permits: Mutex<Permits>,
    /// How many were on their way or at work when the lock was last released.
    present: AtomicUsize,
    shared: Weak<Shared<T, R, F>>,
}

/// What the caller and the runners share.
pub(super) struct Shared<T, R, F> {
    f: F,
    pub(super) runners: Arc<Runners<T, R, F>>,
    pub(super) window: Window<T, R>,
    /// M1: the maximum number of runners, if the capacity is higher.
    max_runners: usize,
    /// The results, if they are not wanted in order.
    pub(super) unordered: Option<Injector<Done<T, R>>>,
    /// How many items a run has.
    run_length: AtomicUsize,
    /// No item is started any more.
    stopped: AtomicBool,
    pub(super) discarded: AtomicBool,
    panic: Mutex<Panic>,
    /// M4: the item for which the caller wants to be woken, or `AWAKE` while it does not sleep. Only the caller writes
    /// it.
    pub(super) wake_at: AtomicU64,
    pub(super) caller: Mutex<Option<Thread>>,
    /// G1 of [`fork`]: the generation of the map. A map that has begun does not survive a fork: runners took items that
    /// do not exist in the child.
    made: u64,
}

pub(super) const AWAKE: u64 = u64::MAX;

/// The first panic of an item, which goes to the caller.
enum Panic {
    None,
    First(Payload),
    /// The caller has it, or is gone.
    Over,
}

impl<T, R, F> Runners<T, R, F> {
    pub(super) fn change(&self, change: impl FnOnce(&mut Permits)) {
        let mut permits = lock(&self.permits);
        change(&mut permits);
        self.count(&permits);
    }

    fn count(&self, permits: &Permits) {
        let present = permits.len() + permits.working();
        self.present.store(present, Ordering::SeqCst);
    }
}

impl<T, R, F> Drop for Shared<T, R, F> {
    /// As in the drop of the [window](Window), the drop of a result that nobody took must not unwind into a worker.
    fn drop(&mut self) {
        while let Some(result) = self
            .unordered
            .as_ref()
            .and_then(|results| retry_steal(|| results.steal()))
        {
            drop_quietly(result);
        }
    }
}

impl<T, R, F> Shared<T, R, F> {
    pub(super) fn new(
        f: F,
        places: usize,
        max_runners: usize,
        ordered: bool,
    ) -> Arc<Shared<T, R, F>> {
        Arc::new_cyclic(|shared| Shared {
            f,
            runners: Arc::new(Runners {
                permits: Mutex::new(Permits::default()),
                present: AtomicUsize::new(0),
                shared: Weak::clone(shared),
            }),
            window: Window::new(places, ordered),
            max_runners,
            unordered: (!ordered).then(Injector::new),
            run_length: AtomicUsize::new(1),
            stopped: AtomicBool::new(false),
            discarded: AtomicBool::new(false),
            panic: Mutex::new(Panic::None),
            wake_at: AtomicU64::new(AWAKE),
            caller: Mutex::new(None),
            made: fork::generation(),
        })
    }

    fn permits(&self) -> MutexGuard<'_, Permits> {
        lock(&self.runners.permits)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst) || self.is_inherited()
    }

    pub(super) fn is_inherited(&self) -> bool {
        fork::is_inherited(self.made)
    }

    /// Starts no further item, and drops the items that wait.
    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        while let Some((_, work)) = self.take(None) {
            drop_quietly(work);
        }
        self.pause();
    }

    /// Stops, and takes back the runners that have not begun.
    pub(super) fn end(&self, core: &Arc<Core>) {
        self.stop();
        while let Some(placement) = { self.permits().retire(0) } {
            core.take_back(placement);
        }
    }

    pub(super) fn take(&self, only: Option<u64>) -> Option<(Taken<'_, T, R>, Work<T, R>)> {
        self.window.take(only)
    }

    fn leave(&self, taken: Taken<'_, T, R>, done: Done<T, R>) {
        let number = taken.number();
        match &self.unordered {
            None => taken.leave(done),
            Some(results) => {
                results.push(done);
                // The push comes before the look whether the caller sleeps.
                fence(Ordering::SeqCst);
            }
        }
        if number >= self.wake_at.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    pub(super) fn has_short_items(&self) -> bool {
        // ORDERING: Relaxed: a guess.
        self.run_length.load(Ordering::Relaxed) >= RUN_OF_SHORT_ITEMS
    }

    /// M4: a runner stops looking for items.
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

    /// How many runners are at work or on their way.
    pub(super) fn runner_count(&self) -> usize {
        self.runners.present.load(Ordering::SeqCst)
    }

    /// M1, M3: how many runners there may be.
    fn room_for_runners(&self, core: &Arc<Core>) -> usize {
        core.capacity().clamp(1, self.max_runners)
    }

    /// M3: an item waits for which no runner is on its way.
    fn needs_runner(&self, permits: &Permits, max: usize) -> bool {
        permits.len() + permits.working() < max
            && permits.len() < self.window.waiting()
            && !self.is_stopped()
    }

    /// Takes the first panic, for the caller; later ones go to the panic handler.
    pub(super) fn take_panic(&self) -> Option<Payload> {
        match mem::replace(&mut *lock(&self.panic), Panic::Over) {
            Panic::First(payload) => Some(payload),
            Panic::None | Panic::Over => None,
        }
    }

    /// No runner works or is on its way.
    pub(super) fn is_deserted(&self) -> bool {
        let permits = self.permits();
        permits.working() == 0 && permits.len() == 0
    }

    pub(super) fn works(&self) -> bool {
        self.permits().working() > 0
    }
}

impl<T, R, F> Shared<T, R, F>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Fn(T) -> R + Send + Sync + 'static,
{
    /// Processes an item or a batch.
    pub(super) fn work_on(&self, taken: Taken<'_, T, R>, work: Work<T, R>) -> Result<(), Payload> {
        match work {
            Work::Item(item) => {
                let result = run::call(|| (self.f)(item))?;
                if self.is_stopped() {
                    drop_quietly(result);
                } else {
                    self.leave(taken, Done::Result(result));
                }
                Ok(())
            }
            Work::Batch(batch) => self.work_on_batch(taken, batch),
        }
    }

    /// Processes the items of a batch, each as if it were alone: none is started once the map is stopped, and the
    /// results that there are by then come out.
    fn work_on_batch(
        &self,
        taken: Taken<'_, T, R>,
        mut batch: Box<Batch<T, R>>,
    ) -> Result<(), Payload> {
        let outcome = run::call(|| batch.process(&self.f, || self.is_stopped()));
        if self.is_inherited() {
            // G3 of `fork`: an item forked. The others of its batch are the parent's.
            mem::forget(batch);
        } else if batch.has_results() {
            self.leave(taken, Done::Batch(batch));
        }
        outcome
    }

    /// Processes one item or batch after the other until none is left or at least `max` items are done; `done` counts
    /// the items.
    fn work(&self, max: usize, done: &mut usize) -> Outcome {
        while *done < max && !self.is_stopped() {
            let Some((taken, work)) = self.take(None) else {
                if self.has_short_items() && self.linger() {
                    continue;
                }
                break;
            };
            *done += work.len();
            if let Err(payload) = self.work_on(taken, work) {
                return self.fail(payload);
            }
        }
        Outcome::Completed
    }

    /// Items are short and the caller does not keep up: it may be about to put more. Waits a moment for them, and
    /// returns whether there are any.
    fn linger(&self) -> bool {
        self.pause();
        spin::linger_until(|| self.window.waiting() > 0)
    }

    /// Keeps the first panic for the caller.
    pub(super) fn fail(&self, payload: Payload) -> Outcome {
        if self.is_inherited() {
            return Outcome::Panicked(payload);
        }
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
    pub(super) fn send_runners(&self, core: &Arc<Core>) {
        loop {
            // The item was put before this look, and a runner that ends is counted out before it looks for items: so
            // one of the two sees the other.
            let max = self.room_for_runners(core);
            if self.runner_count() >= max {
                return;
            }
            {
                let mut permits = self.permits();
                if !self.needs_runner(&permits, max) {
                    return;
                }
                permits.add();
                self.runners.count(&permits);
            }
            if !self.send(core) {
                return;
            }
        }
    }

    /// Submits a runner that was counted; false if the pool refuses it.
    fn send(&self, core: &Arc<Core>) -> bool {
        let task = Task::of_permit(Arc::clone(&self.runners) as _);
        let accepted = match core.submit_detached(task, Origin::Outside) {
            Ok(()) => true,
            Err(refusal) => {
                refusal.task.disown();
                false
            }
        };
        self.runners.change(|permits| permits.added(accepted));
        accepted
    }

    /// One run of a runner; then the next runner is sent, if one is needed.
    fn turn(&self, core: &Arc<Core>) -> Outcome {
        // ORDERING: Relaxed, here and below: a guess.
        let (begun, run) = (now(), self.run_length.load(Ordering::Relaxed));
        let mut done = 0;
        let outcome = self.work(run, &mut done);
        if self.is_inherited() {
            // An item forked, and ends here as well.
            return outcome;
        }
        let took = elapsed(begun);
        let done = u32::try_from(done).unwrap_or(u32::MAX);
        let next_run = if took < SHORT_RUN.max(SHORT_ITEM * done) {
            (run * 2).min(MAX_RUN)
        } else if took > LONG_RUN {
            (run / 2).max(1)
        } else {
            run
        };
        // Written only when it changes: the others read its cache line for each item.
        if next_run != run {
            self.run_length.store(next_run, Ordering::Relaxed);
        }
        let goes_on = {
            let mut permits = self.permits();
            permits.end();
            self.runners.count(&permits);
            let goes_on = self.needs_runner(&permits, self.room_for_runners(core));
            if goes_on {
                permits.add();
                self.runners.count(&permits);
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

impl<T, R, F> Permit for Runners<T, R, F>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Fn(T) -> R + Send + Sync + 'static,
{
    fn claim(&self, placed: bool) -> bool {
        lock(&self.permits).claim(placed)
    }

    fn has(&self, placed: bool) -> bool {
        lock(&self.permits).has(placed)
    }

    fn note_place(&self) -> bool {
        lock(&self.permits).note_place()
    }

    fn run(&self, over: &mut dyn FnMut(Outcome)) {
        let (Some(shared), Some(core)) = (self.shared.upgrade(), current::core()) else {
            self.change(Permits::end);
            return over(Outcome::Completed);
        };
        let outcome = shared.turn(&core);
        drop_quietly(shared);
        over(outcome);
    }

    fn abandon(&self) {
        self.change(Permits::end);
        if let Some(shared) = self.shared.upgrade() {
            shared.discarded.store(true, Ordering::SeqCst);
            shared.stop();
            drop_quietly(shared);
        }
    }
}
