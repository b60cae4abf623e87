//! Writes that wait for a transaction: the commit queue, and the stages of a write.

use super::super::tx::Tx;
use super::error::{Failure, WriteError};
use crate::broker::Listeners;
use crate::sync::{lock, wait_until};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

/// A queue of the file.
#[derive(Clone)]
pub(in crate::sqlite) struct QueueRef {
    pub(in crate::sqlite) number: i64,
    /// Notified when there is something to claim in it.
    pub(in crate::sqlite) listeners: Listeners,
}

/// Which writes go before others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::sqlite) enum Urgency {
    /// Waits only behind other heartbeats.
    Heartbeat,
    /// Waits behind all that came before.
    Other,
}

/// The writes that wait, the urgent ones first.
#[derive(Default)]
pub(super) struct CommitQueue {
    /// A thread leads: it runs a transaction, or is about to. While none does no write waits.
    pub(super) has_leader: bool,
    pub(super) waiting: VecDeque<Arc<dyn Request>>,
}

impl CommitQueue {
    pub(super) fn join(&mut self, request: Arc<dyn Request>) {
        let place = match request.urgency() {
            Urgency::Heartbeat => self.urgent(),
            Urgency::Other => self.waiting.len(),
        };
        self.waiting.insert(place, request);
    }

    pub(super) fn leave(&mut self, request: &Arc<dyn Request>) {
        let place = self
            .waiting
            .iter()
            .position(|waits| Arc::ptr_eq(waits, request));
        let left = place.and_then(|place| self.waiting.remove(place));
        debug_assert!(left.is_some(), "the leader's own write is in the queue");
    }

    /// How many at the front are urgent.
    pub(super) fn urgent(&self) -> usize {
        let urgent = |request: &&Arc<dyn Request>| request.urgency() == Urgency::Heartbeat;
        self.waiting.iter().take_while(urgent).count()
    }
}

/// A write of any result type.
pub(super) trait Request: Send + Sync {
    /// Until when it waits for another process.
    fn deadline(&self) -> Instant;
    fn queue(&self) -> &QueueRef;
    fn urgency(&self) -> Urgency;
    fn run(&self, tx: &mut Tx<'_>) -> Result<(), Failure>;
    /// Ends the write; only the first call counts.
    fn end(&self, end: Result<(), WriteError>);
    /// Makes its thread the leader.
    fn lead(&self);
}

type Operation<T> = Box<dyn FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send>;

pub(super) struct WriteRequest<T> {
    queue: QueueRef,
    urgency: Urgency,
    deadline: Instant,
    operation: Mutex<Operation<T>>,
    stage: Mutex<Stage<T>>,
    stage_changed: Condvar,
}

enum Stage<T> {
    Waits,
    Leads,
    /// And is not committed yet.
    Ran(T),
    Over(Result<T, WriteError>),
    /// Its thread has the result.
    Taken,
}

impl<T> WriteRequest<T> {
    pub(super) fn new(
        queue: QueueRef,
        urgency: Urgency,
        operation: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
        deadline: Instant,
    ) -> WriteRequest<T> {
        WriteRequest {
            queue,
            urgency,
            deadline,
            operation: Mutex::new(Box::new(operation)),
            stage: Mutex::new(Stage::Waits),
            stage_changed: Condvar::new(),
        }
    }

    /// Waits until the write is over, or its thread leads.
    pub(super) fn wait(&self) {
        let mut stage = lock(&self.stage);
        while matches!(*stage, Stage::Waits | Stage::Ran(_)) {
            stage = wait_until(&self.stage_changed, stage, None);
        }
    }

    pub(super) fn take_end(&self) -> Option<Result<T, WriteError>> {
        let mut stage = lock(&self.stage);
        match std::mem::replace(&mut *stage, Stage::Taken) {
            Stage::Over(end) => Some(end),
            other => {
                *stage = other;
                None
            }
        }
    }
}

impl<T: Send> Request for WriteRequest<T> {
    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn queue(&self) -> &QueueRef {
        &self.queue
    }

    fn urgency(&self) -> Urgency {
        self.urgency
    }

    fn run(&self, tx: &mut Tx<'_>) -> Result<(), Failure> {
        let mut operation = lock(&self.operation);
        let ran = catch_unwind(AssertUnwindSafe(|| operation(tx)));
        let result = ran.map_err(Failure::Panic)?.map_err(Failure::Sqlite)?;
        *lock(&self.stage) = Stage::Ran(result);
        Ok(())
    }

    fn end(&self, end: Result<(), WriteError>) {
        let mut stage = lock(&self.stage);
        let before = std::mem::replace(&mut *stage, Stage::Waits);
        *stage = match (before, end) {
            (Stage::Over(end), _) => Stage::Over(end),
            (Stage::Taken, _) => Stage::Taken,
            (Stage::Ran(result), Ok(())) => Stage::Over(Ok(result)),
            (_, Err(error)) => Stage::Over(Err(error)),
            (Stage::Waits | Stage::Leads, Ok(())) => unreachable!("a committed write has run"),
        };
        // Otherwise the thread that wakes would wait for this lock.
        drop(stage);
        self.stage_changed.notify_one();
    }

    fn lead(&self) {
        *lock(&self.stage) = Stage::Leads;
        self.stage_changed.notify_one();
    }
}
