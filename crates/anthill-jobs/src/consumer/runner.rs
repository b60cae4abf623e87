//! A runner: a task of the pool that runs jobs one after the other, as long as there are any.

use super::attempt;
use super::shared::{FragileTurn, Shared};
use super::state::Waiting;
use crate::broker::{Claimed, Settle};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a runner gets.
pub(super) struct Taken {
    pub(super) waiting: Vec<Waiting>,
    /// It is fragile, and nobody looks for another one until it has begun (U5).
    pub(super) turn: Option<FragileTurn>,
    /// One more runner would have work, too.
    pub(super) leaves_more: bool,
}

/// What a runner ran, and how it ended.
pub(super) struct Work {
    pub(super) claimed: Vec<Claimed>,
    pub(super) ends: Vec<Settle>,
    pub(super) took: Duration,
    pub(super) at: Instant,
}

impl Taken {
    fn run(self, shared: &Arc<Shared>) -> Work {
        let turn = self.turn;
        let leaves_more = self.leaves_more;
        let begins = || {
            if turn.is_some() {
                drop(turn);
                if leaves_more {
                    shared.staff();
                }
            }
        };
        let start = Instant::now();
        let mut contexts = Vec::with_capacity(self.waiting.len());
        let mut claimed = Vec::with_capacity(self.waiting.len());
        for waiting in self.waiting {
            contexts.push(shared.context(&waiting));
            claimed.push(waiting.job);
        }
        let (ends, took) = attempt::run(&shared.handlers, &claimed, &contexts, start, begins);
        let at = start.checked_add(took).unwrap_or(start);
        Work {
            claimed,
            ends,
            took,
            at,
        }
    }
}

/// A task in the pool that runs jobs one after the other, as long as there are any.
pub(super) struct Runner(pub(super) Arc<Shared>);

impl Runner {
    /// So long at most while others wait for the worker.
    const TURN: Duration = Duration::from_millis(5);

    pub(super) fn work(self) {
        let shared = Arc::clone(&self.0);
        let turn = Turn::begin(&shared);
        let start = Instant::now();
        let mut ended = None;
        while let Some(taken) = shared.next(ended.take()) {
            if taken.leaves_more && taken.turn.is_none() {
                shared.staff();
            }
            let work = taken.run(&shared);
            let is_over = work.at.saturating_duration_since(start) >= Runner::TURN;
            ended = Some(work);
            if is_over && shared.is_pool_wanted() {
                if let Some(ended) = ended {
                    shared.take_in(&mut shared.lock(), ended);
                }
                drop(turn);
                // To the end of the line.
                return shared.submit_runner(self);
            }
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.runners -= 1;
        self.0.tell_waiters(&state);
        // U3: what came while it was ending is the steward's, and what will.
        self.0.plan(&mut state, Instant::now());
    }
}

/// A runner has a worker.
struct Turn<'a>(&'a Shared);

impl<'a> Turn<'a> {
    fn begin(shared: &'a Shared) -> Turn<'a> {
        shared.lock().started += 1;
        Turn(shared)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.flush();
        let mut state = self.0.lock();
        state.started -= 1;
        self.0.tell_waiters(&state);
    }
}
