//! Group commit: writes that many threads want at the same time share one transaction, and one wait for the disk.
//!
//! There is no thread for it. A thread that comes while none writes *leads*: it takes all writes that wait, runs them,
//! commits, and hands each its result; then the thread of the first write that came meanwhile leads. So a thread that is
//! alone commits at once, by itself.
//!
//! A transaction may touch several queues: all queues of the file share one commit queue. Before anything is written, and
//! again after the commit, the files are checked to be those that others see ([`file`](super::file), FI2).
//!
//! Heartbeats wait behind no other write: they have a transaction of their own, before that of all others that wait. And
//! while a transaction holds the lock no process can send one; so a long transaction extends the leases of all running
//! jobs by the time that it took.
//!
//! If one operation fails or panics, everything is rolled back, and each operation runs once more, in a savepoint of its
//! own, so that it undoes only itself. Savepoints from the start would cost each transaction a copy of each page that it
//! changes.
//!
//! [`request`] has the writes that wait, [`transaction`] what runs them, [`error`] how they fail.

mod error;
mod request;
mod transaction;

pub(super) use request::{QueueRef, Urgency};
pub(super) use transaction::extend_leases;

use super::busy;
use super::errors::{copy_of, queue_error};
use super::file::Attachment;
use super::time::Steady;
use super::tx::Tx;
use crate::broker::{Change, Listeners};
use crate::sync::{lock, try_lock};
use crate::{Clock, QueueError};
use error::{Failure, WriteError, closed, panicked, undecided};
use request::{CommitQueue, Request, WriteRequest};
use rusqlite::Connection;
use std::cell::Cell;
use std::ffi::c_int;
use std::panic::resume_unwind;
#[cfg(test)]
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use transaction::{OpenTransaction, Queues};

/// How many writes share a transaction.
const MAX_REQUESTS: usize = 256;

/// A log of so many pages is checkpointed.
const LONG_LOG: c_int = 1_000;

thread_local! {
    /// How many pages the log had at the last commit of this thread.
    static LOG_PAGES: Cell<c_int> = const { Cell::new(0) };
}

/// The one connection that writes, and the writes that wait for it.
pub(super) struct GroupCommit {
    queue: Mutex<CommitQueue>,
    /// `None` when it is closed, because the store is detached, and where no writer is needed.
    writer: Mutex<Option<Connection>>,
    clock: Clock,
    attachment: Arc<Attachment>,
    pub(super) transactions: AtomicU64,
}

struct Committed {
    /// Of the queues in which there is something to claim.
    wake: Vec<Listeners>,
    /// Which of the writes failed.
    failures: Vec<(usize, Failure)>,
}

impl GroupCommit {
    pub(super) fn new(
        writer: Option<Connection>,
        clock: Clock,
        attachment: Arc<Attachment>,
    ) -> GroupCommit {
        // Otherwise SQLite would checkpoint before the lock is taken again: see `checkpoint`.
        if let Some(writer) = &writer {
            writer.wal_hook(Some(|_, pages| {
                LOG_PAGES.set(pages);
                Ok(())
            }));
        }
        GroupCommit {
            queue: Mutex::default(),
            writer: Mutex::new(writer),
            clock,
            attachment,
            transactions: AtomicU64::new(0),
        }
    }

    /// Runs an operation in a transaction; perhaps on another thread, and perhaps twice.
    pub(super) fn run<T: Send + 'static>(
        &self,
        queue: &QueueRef,
        urgency: Urgency,
        operation: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueError> {
        let deadline = Instant::now() + busy::TIMEOUT;
        let write = WriteRequest::new(queue.clone(), urgency, operation, deadline);
        let write = Arc::new(write);
        let request: Arc<dyn Request> = write.clone();
        let leads = {
            let mut queue = lock(&self.queue);
            queue.join(Arc::clone(&request));
            !std::mem::replace(&mut queue.has_leader, true)
        };
        if !leads {
            write.wait();
        }
        self.finish(&write, &request)
    }

    /// Runs an operation as `run` does, if no other thread writes; `None` if one does.
    pub(super) fn run_now<T: Send + 'static>(
        &self,
        queue: &QueueRef,
        operation: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Option<Result<T, QueueError>> {
        let (urgency, deadline) = (Urgency::Other, Instant::now());
        let write = WriteRequest::new(queue.clone(), urgency, operation, deadline);
        let write = Arc::new(write);
        let request: Arc<dyn Request> = write.clone();
        {
            let mut queue = lock(&self.queue);
            if queue.has_leader {
                return None;
            }
            queue.has_leader = true;
            queue.join(Arc::clone(&request));
        }
        Some(self.finish(&write, &request))
    }

    /// Lends the writer, between two transactions.
    pub(super) fn with_writer<T>(
        &self,
        deadline: Instant,
        lend: impl FnOnce(&mut Connection) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        let mut writer = lock(&self.writer);
        busy::set_deadline(deadline);
        let writer = writer.as_mut().ok_or_else(closed)?;
        self.attachment.hold(writer)?;
        lend(writer)
    }

    /// Closes the writer. If another thread uses it now, that one closes it.
    pub(super) fn close(&self) {
        if let Some(mut writer) = try_lock(&self.writer) {
            *writer = None;
        }
    }

    /// Leads until the write is over.
    fn finish<T>(
        &self,
        write: &WriteRequest<T>,
        request: &Arc<dyn Request>,
    ) -> Result<T, QueueError> {
        loop {
            match write.take_end() {
                Some(Ok(result)) => return Ok(result),
                Some(Err(WriteError::Queue(error))) => return Err(error),
                Some(Err(WriteError::Panic(panic))) => resume_unwind(panic),
                None => {
                    for listeners in self.lead(request) {
                        listeners.notify(Change::Here);
                    }
                }
            }
        }
    }

    /// Writes for all that wait. Returns whom to notify that there is something to claim.
    fn lead(&self, own: &Arc<dyn Request>) -> Vec<Listeners> {
        lock(&self.queue).leave(own);
        let mut leader = Leader {
            group: self,
            requests: Vec::new(),
        };
        let mut wake = Vec::new();
        // Heartbeats first, if there are any; the leader's own write is in the second transaction then.
        for may_wait in [true, false] {
            wake.extend(self.lead_once(&mut leader, own, may_wait));
            if leader.requests.iter().any(|ended| Arc::ptr_eq(ended, own)) {
                break;
            }
            leader.requests.clear();
        }
        wake
    }

    /// Runs one transaction, with the leader's own write, or, if that may wait, of heartbeats alone; ends its writes.
    fn lead_once(
        &self,
        leader: &mut Leader<'_>,
        own: &Arc<dyn Request>,
        may_wait: bool,
    ) -> Vec<Listeners> {
        let ended = {
            let mut writer = lock(&self.writer);
            busy::set_deadline(own.deadline());
            let join = |requests: &mut _| self.join(requests, own, may_wait);
            let ended = match &*writer {
                Some(writer) => self.write(writer, &mut leader.requests, join),
                None => Err(Failure::Queue(closed())),
            };
            // Detached files may be the cause of the failure.
            let ended = ended.or_else(|failure| {
                self.attachment.check().map_err(Failure::Queue)?;
                Err(failure)
            });
            if self.attachment.is_detached() {
                *writer = None;
            }
            ended
        };
        match ended {
            Ok(Committed { wake, failures }) => {
                for (request, failure) in failures {
                    leader.requests[request].end(Err(failure.into()));
                }
                leader
                    .requests
                    .iter()
                    .for_each(|request| request.end(Ok(())));
                self.checkpoint();
                wake
            }
            Err(failure) => {
                if leader.requests.is_empty() {
                    leader.requests.push(Arc::clone(own));
                }
                leader.fail(failure.into());
                Vec::new()
            }
        }
    }

    /// Writes a long log back to the database: after the commit, when all writes have ended.
    ///
    /// Within the commit, another process that cleans up because the lock was lost meanwhile might do it at the same time
    /// without knowing that commit yet: it would put an older page over a newer one. A process that comes later knows
    /// all that is written back here.
    fn checkpoint(&self) {
        if LOG_PAGES.replace(0) < LONG_LOG {
            return;
        }
        // If it fails the log goes on to grow, and the next commit tries again.
        let _ = self.with_writer(Instant::now(), |writer| {
            let checkpoint = "PRAGMA wal_checkpoint(PASSIVE)";
            (writer.query_row(checkpoint, [], |_| Ok(()))).map_err(queue_error)
        });
    }

    /// Chooses the writes of the transaction that has just begun.
    fn join(&self, requests: &mut Vec<Arc<dyn Request>>, own: &Arc<dyn Request>, may_wait: bool) {
        let mut queue = lock(&self.queue);
        let urgent = queue.urgent();
        let from_queue = if own.urgency() == Urgency::Heartbeat {
            requests.push(Arc::clone(own));
            urgent
        } else if may_wait && urgent > 0 {
            urgent
        } else {
            requests.push(Arc::clone(own));
            queue.waiting.len()
        };
        let from_queue = from_queue.min(MAX_REQUESTS - requests.len());
        requests.extend(queue.waiting.drain(..from_queue));
    }

    fn hold_files(&self, writer: &Connection) -> Result<(), Failure> {
        self.attachment.hold(writer).map_err(Failure::Queue)
    }

    /// Runs one transaction, or two where an operation failed.
    fn write(
        &self,
        writer: &Connection,
        requests: &mut Vec<Arc<dyn Request>>,
        join: impl FnOnce(&mut Vec<Arc<dyn Request>>),
    ) -> Result<Committed, Failure> {
        let open = OpenTransaction::begin(writer)?;
        let began = Steady::of(&self.clock);
        self.hold_files(writer)?;
        // Not before, so that what came while this waited for another process is in it.
        join(requests);
        let mut queues = Queues::new(writer, &self.clock);
        let ran = requests
            .iter()
            .try_for_each(|request| request.run(queues.get(request.queue())?));
        let (queues, open, failures) = match ran {
            Ok(()) => (queues, open, Vec::new()),
            Err(failure) if requests.len() == 1 => return Err(failure),
            Err(_) => {
                drop(open);
                let open = OpenTransaction::begin(writer)?;
                self.hold_files(writer)?;
                let mut queues = Queues::new(writer, &self.clock);
                let failures = queues.run_apart(requests)?;
                (queues, open, failures)
            }
        };
        let wake = queues.store()?;
        self.commit(writer, open, began)?;
        Ok(Committed { wake, failures })
    }

    /// Commits, and checks that others see it.
    fn commit(
        &self,
        writer: &Connection,
        open: OpenTransaction<'_>,
        began: Steady,
    ) -> Result<(), Failure> {
        extend_leases(writer, &self.clock, began).map_err(Failure::Sqlite)?;
        open.commit()?;
        // It is done, so the deadline of the request does not count any more.
        busy::restart();
        self.hold_files(writer).map_err(undecided)?;
        self.transactions.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Runs a change of several queues in a transaction by itself: between two of the group, so that no count of theirs is
    /// read before it and stored after it.
    pub(super) fn alone<T>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, QueueError> {
        let ended = {
            let writer = lock(&self.writer);
            busy::restart();
            let change = |writer: &Connection| {
                let open = OpenTransaction::begin(writer)?;
                let began = Steady::of(&self.clock);
                self.hold_files(writer)?;
                let changed = change(writer).map_err(Failure::Sqlite)?;
                self.commit(writer, open, began)?;
                Ok(changed)
            };
            let writer = writer.as_ref().ok_or_else(|| Failure::Queue(closed()));
            writer.and_then(change)
        };
        self.checkpoint();
        ended.map_err(|failure| match failure.into() {
            WriteError::Queue(error) => error,
            WriteError::Panic(panic) => resume_unwind(panic),
        })
    }

    #[cfg(test)]
    pub(super) fn hold(&self) -> MutexGuard<'_, Option<Connection>> {
        lock(&self.writer)
    }

    #[cfg(test)]
    pub(super) fn has_leader(&self) -> bool {
        lock(&self.queue).has_leader
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        lock(&self.queue).waiting.len()
    }
}

/// Ends all writes of the transaction, whatever happens to the leader, and makes another thread lead after it.
struct Leader<'g> {
    group: &'g GroupCommit,
    requests: Vec<Arc<dyn Request>>,
}

impl Leader<'_> {
    /// The first write gets the error itself, the others a copy.
    fn fail(&self, error: WriteError) {
        let of_all = match &error {
            WriteError::Queue(error) => copy_of(error),
            WriteError::Panic(_) => panicked(),
        };
        // There is none where the leader, which knows it, had ended those of the first transaction already.
        if let Some((first, rest)) = self.requests.split_first() {
            for request in rest {
                request.end(Err(WriteError::Queue(copy_of(&of_all))));
            }
            first.end(Err(error));
        }
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fail(WriteError::Queue(panicked()));
        }
        let next = {
            let mut queue = lock(&self.group.queue);
            let next = queue.waiting.front().cloned();
            queue.has_leader = next.is_some();
            next
        };
        if let Some(next) = next {
            next.lead();
        }
    }
}
