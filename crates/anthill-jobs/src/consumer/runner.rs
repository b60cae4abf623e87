//! A runner: a task of the pool that runs batches one after the other, as long as there are any.

use super::attempt;
use super::batch::{Batch, FinishedBatch};
use super::place::Place;
use super::shared::Shared;
use super::state::Buffered;
use super::state::MIN_PAUSE;
use anthill::{Lendable, SubmitErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) struct Runner(Arc<Shared>);

impl Shared {
    /// U2: there may be something to claim.
    pub(super) fn notify_claimable(self: &Arc<Self>) {
        {
            let mut state = self.lock();
            state.may_claim = true;
            state.has_news = true;
            self.wake_maintainer_in_time(&mut state, Instant::now());
        }
        self.start_runner();
    }

    /// Starts one more runner if it would have work.
    pub(super) fn start_runner(self: &Arc<Self>) {
        let now = Instant::now();
        {
            let mut state = self.lock();
            if !state.wants_runner(now) {
                return;
            }
            state.runners += 1;
            self.wake_maintainer_in_time(&mut state, Instant::now());
        }
        self.submit_runner(Runner(Arc::clone(self)));
    }

    fn submit_runner(&self, runner: Runner) {
        let Err(refused) = self.share.try_submit(move || runner.work()) else {
            return;
        };
        let pause = match refused.kind() {
            // The pool may be reopened.
            SubmitErrorKind::Closed => Duration::from_secs(1),
            _ => MIN_PAUSE,
        };
        self.lock().not_before = Instant::now().checked_add(pause);
        // The runner in the error counts itself out when it is dropped, and wakes the maintainer.
        drop(refused);
    }
}

impl Runner {
    /// How long a runner keeps its worker while other tasks wait for one.
    const TIME_SLICE: Duration = Duration::from_millis(5);

    fn work(self) {
        let shared = Arc::clone(&self.0);
        let started = Started::new(&shared);
        let start = Instant::now();
        let mut finished = None;
        while let Some(batch) = shared.next(finished.take()) {
            if batch.has_more && batch.permit.is_none() {
                shared.start_runner();
            }
            let done = run(batch, &shared);
            let is_over = done.at.saturating_duration_since(start) >= Runner::TIME_SLICE;
            finished = Some(done);
            if is_over && shared.is_pool_contended() {
                if let Some(finished) = finished {
                    shared.record_finished(&mut shared.lock(), finished);
                }
                drop(started);
                // To the end of the pool's queue.
                return shared.submit_runner(self);
            }
        }
    }
}

fn run(batch: Batch, shared: &Arc<Shared>) -> FinishedBatch {
    let Batch {
        jobs,
        permit,
        has_more,
    } = batch;
    let on_begin = || {
        if permit.is_some() {
            drop(permit);
            if has_more {
                shared.start_runner();
            }
        }
    };
    let start = Instant::now();
    let lends = shared.lend_if_overdue(&jobs);
    let mut contexts = Vec::with_capacity(jobs.len());
    let mut claimed = Vec::with_capacity(jobs.len());
    let mut numbers = Vec::with_capacity(jobs.len());
    for buffered in jobs {
        contexts.push(shared.context(&buffered));
        numbers.push(buffered.number);
        claimed.push(buffered.job);
    }
    let (ends, took) = attempt::run(&shared.handlers, &claimed, &contexts, start, on_begin);
    if let Some((lendable, place)) = lends {
        // It waits until one of the tasks that run beyond it has ended.
        drop(lendable);
        place.uncount(&mut shared.lock());
    }
    let at = start.checked_add(took).unwrap_or(start);
    FinishedBatch {
        numbers,
        claimed,
        ends,
        took,
        at,
    }
}

impl Shared {
    /// U7: lets the maintainer lend the place of this runner, if the jobs that it is about to run have a run time.
    fn lend_if_overdue(&self, jobs: &[Buffered]) -> Option<(Lendable, Arc<Place>)> {
        let first = self.handlers.find(&jobs.first()?.job.kind)?;
        first.run_time?;
        let lendable = anthill::lendable()?;
        let place = Arc::new(Place::new(lendable.lender()));
        let mut state = self.lock();
        for job in jobs {
            if let Some(in_flight) = state.in_flight.get_mut(&job.number) {
                in_flight.place = Some(Arc::clone(&place));
            }
        }
        Some((lendable, place))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.runners -= 1;
        self.0.pollers.notify_all();
        self.0.notify_waiters(&state);
        // U3: what arrived while this runner was ending is the maintainer's to see.
        self.0.wake_maintainer_in_time(&mut state, Instant::now());
    }
}

/// Counts a runner that has a worker; flushes the outbox when it ends.
struct Started<'a>(&'a Shared);

impl<'a> Started<'a> {
    fn new(shared: &'a Shared) -> Started<'a> {
        shared.lock().started += 1;
        Started(shared)
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        self.0.flush();
        let mut state = self.0.lock();
        state.started -= 1;
        self.0.notify_waiters(&state);
    }
}
