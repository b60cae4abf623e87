//! Group commit: what many threads want to write at the same time goes into one transaction, and one wait for the
//! disk.
//!
//! There is no thread for it. Who comes while nobody writes leads: he takes all that waits in line, runs it, commits,
//! and tells each how it ended; then the first of those who came meanwhile leads. So one who is alone commits at once,
//! on his own thread.
//!
//! It may be of several queues: all that are in the file have this line. Before anything is written, and again when all is,
//! it is seen to that the files are those that others see ([`file`](super::file), FI2).
//!
//! Heartbeats wait behind nobody in line: they have a transaction of their own, before that of all others who wait. And
//! while a transaction has the lock nobody can give one, in no process; so one that takes long prolongs the leases of all
//! jobs that run by the time that it took.
//!
//! If one operation fails or panics, all is undone, and each runs once more, in a savepoint of its own, so that it
//! undoes only itself. Savepoints from the start would cost each transaction a copy of each page that it changes.

use super::fail::{again, failed};
use super::file::Attachment;
use super::patience;
use super::time::Steady;
use super::tx::Tx;
use crate::calls::Calls;
use crate::sync::{lock, try_lock, wait_until};
use crate::{Clock, QueueError};
use rusqlite::Connection;
use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
#[cfg(test)]
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

/// How many share a transaction.
const MOST: usize = 256;

/// A log of so many pages is written back to the database.
const LONG_LOG: c_int = 1_000;

thread_local! {
    /// How many pages the log had at the last commit of this thread.
    static LOG: Cell<c_int> = const { Cell::new(0) };
}

/// A transaction that has the lock for longer prolongs leases, in nanoseconds.
const LONG: i64 = 50_000_000;

/// The end of a lease that was over before then is not moved.
const PROLONG: &str = "UPDATE anthill_jobs INDEXED BY anthill_running SET ends = ends + ?1
    WHERE queue IN (SELECT id FROM anthill_queues) AND state = 3 AND boot = ?2 AND ends > ?3";

/// The one connection that writes, and those who wait for it.
pub(super) struct Group {
    line: Mutex<Line>,
    /// None when it is closed, because the store is detached, and where none is needed.
    writer: Mutex<Option<Connection>>,
    clock: Clock,
    attachment: Arc<Attachment>,
    pub(super) transactions: AtomicU64,
}

/// A queue of the file, as a member of the group names it.
#[derive(Clone)]
pub(super) struct QueueRef {
    pub(super) number: i64,
    /// Who wants to hear that there is something to claim in it.
    pub(super) calls: Arc<Calls>,
}

#[derive(Default)]
struct Line {
    /// Somebody leads. While nobody does nobody waits.
    is_led: bool,
    /// Those who are urgent come first.
    waiting: VecDeque<Arc<dyn Member>>,
}

/// Whom a member of the group waits behind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Those alone who are urgent, too.
    Heartbeat,
    /// All who came before.
    Other,
}

impl Line {
    fn join(&mut self, member: Arc<dyn Member>) {
        let place = match member.urgency() {
            Urgency::Heartbeat => self.urgent(),
            Urgency::Other => self.waiting.len(),
        };
        self.waiting.insert(place, member);
    }

    fn leave(&mut self, member: &Arc<dyn Member>) {
        let place = self
            .waiting
            .iter()
            .position(|waits| Arc::ptr_eq(waits, member));
        let left = place.and_then(|place| self.waiting.remove(place));
        debug_assert!(left.is_some(), "who leads was in line");
    }

    /// How many of the first are.
    fn urgent(&self) -> usize {
        let urgent = |member: &&Arc<dyn Member>| member.urgency() == Urgency::Heartbeat;
        self.waiting.iter().take_while(urgent).count()
    }
}

/// Why an operation failed.
enum Failure {
    Error(rusqlite::Error),
    /// No failure of SQLite's.
    Queue(QueueError),
    Panic(Box<dyn Any + Send>),
}

/// What is told to those who did not get what they wanted.
enum Stop {
    Error(QueueError),
    Panic(Box<dyn Any + Send>),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        match failure {
            Failure::Error(error) => Stop::Error(failed(error)),
            Failure::Queue(error) => Stop::Error(error),
            Failure::Panic(panic) => Stop::Panic(panic),
        }
    }
}

/// One who waits in line, whatever for.
trait Member: Send + Sync {
    fn patience(&self) -> Instant;
    fn queue(&self) -> &QueueRef;
    fn urgency(&self) -> Urgency;
    fn run(&self, tx: &mut Tx<'_>) -> Result<(), Failure>;
    /// How it ended; what is told later does not count.
    fn tell(&self, end: Result<(), Stop>);
    /// It was the first in line, and nobody leads.
    fn lead(&self);
}

type Operation<T> = Box<dyn FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send>;

struct Ticket<T> {
    queue: QueueRef,
    urgency: Urgency,
    patience: Instant,
    operation: Mutex<Operation<T>>,
    stage: Mutex<Stage<T>>,
    told: Condvar,
}

enum Stage<T> {
    Waits,
    Leads,
    /// Not yet committed.
    Ran(T),
    Over(Result<T, Stop>),
    /// And he who asked knows it.
    Known,
}

impl<T: Send> Member for Ticket<T> {
    fn patience(&self) -> Instant {
        self.patience
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
        let result = ran.map_err(Failure::Panic)?.map_err(Failure::Error)?;
        *lock(&self.stage) = Stage::Ran(result);
        Ok(())
    }

    fn tell(&self, end: Result<(), Stop>) {
        let mut stage = lock(&self.stage);
        let before = std::mem::replace(&mut *stage, Stage::Waits);
        *stage = match (before, end) {
            (Stage::Over(end), _) => Stage::Over(end),
            (Stage::Known, _) => Stage::Known,
            (Stage::Ran(result), Ok(())) => Stage::Over(Ok(result)),
            (_, Err(stop)) => Stage::Over(Err(stop)),
            (Stage::Waits | Stage::Leads, Ok(())) => unreachable!("what is committed has run"),
        };
        // Else who wakes would wait for this lock.
        drop(stage);
        self.told.notify_one();
    }

    fn lead(&self) {
        *lock(&self.stage) = Stage::Leads;
        self.told.notify_one();
    }
}

impl<T> Ticket<T> {
    /// Waits until it is over, or is to lead.
    fn wait(&self) {
        let mut stage = lock(&self.stage);
        while matches!(*stage, Stage::Waits | Stage::Ran(_)) {
            stage = wait_until(&self.told, stage, None);
        }
    }

    fn end(&self) -> Option<Result<T, Stop>> {
        let mut stage = lock(&self.stage);
        match std::mem::replace(&mut *stage, Stage::Known) {
            Stage::Over(end) => Some(end),
            other => {
                *stage = other;
                None
            }
        }
    }
}

impl Group {
    pub(super) fn new(
        writer: Option<Connection>,
        clock: Clock,
        attachment: Arc<Attachment>,
    ) -> Group {
        // Else SQLite would do it before the lock is taken again: see `write_back`.
        if let Some(writer) = &writer {
            writer.wal_hook(Some(|_, pages| {
                LOG.set(pages);
                Ok(())
            }));
        }
        Group {
            line: Mutex::default(),
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
        let patience = Instant::now() + patience::BUSY;
        let ticket = Arc::new(Ticket::new(queue.clone(), urgency, operation, patience));
        let member: Arc<dyn Member> = ticket.clone();
        let leads = {
            let mut line = lock(&self.line);
            line.join(Arc::clone(&member));
            !std::mem::replace(&mut line.is_led, true)
        };
        if !leads {
            ticket.wait();
        }
        self.finish(&ticket, &member)
    }

    /// Runs it if nobody else writes, and else not.
    pub(super) fn run_now<T: Send + 'static>(
        &self,
        queue: &QueueRef,
        operation: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Option<Result<T, QueueError>> {
        let (urgency, patience) = (Urgency::Other, Instant::now());
        let ticket = Arc::new(Ticket::new(queue.clone(), urgency, operation, patience));
        let member: Arc<dyn Member> = ticket.clone();
        {
            let mut line = lock(&self.line);
            if line.is_led {
                return None;
            }
            line.is_led = true;
            line.join(Arc::clone(&member));
        }
        Some(self.finish(&ticket, &member))
    }

    /// Lends the writer, between two transactions.
    pub(super) fn with_writer<T>(
        &self,
        patience: Instant,
        lend: impl FnOnce(&mut Connection) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        let mut writer = lock(&self.writer);
        patience::until(patience);
        let writer = writer.as_mut().ok_or_else(closed)?;
        self.attachment.hold(writer)?;
        lend(writer)
    }

    /// Closes the writer. If somebody has it now he does.
    pub(super) fn close(&self) {
        if let Some(mut writer) = try_lock(&self.writer) {
            *writer = None;
        }
    }

    fn finish<T>(&self, ticket: &Ticket<T>, member: &Arc<dyn Member>) -> Result<T, QueueError> {
        loop {
            match ticket.end() {
                Some(Ok(result)) => return Ok(result),
                Some(Err(Stop::Error(error))) => return Err(error),
                Some(Err(Stop::Panic(panic))) => resume_unwind(panic),
                None => self.lead(member).iter().for_each(|calls| calls.call()),
            }
        }
    }

    /// Writes for all who are in line; who is to hear that there is something to claim then.
    fn lead(&self, first: &Arc<dyn Member>) -> Vec<Arc<Calls>> {
        lock(&self.line).leave(first);
        let mut leading = Leading {
            group: self,
            members: Vec::new(),
        };
        let mut wake = Vec::new();
        // With heartbeats for the first time, if there are any; after that it is the leader's turn.
        for may_wait in [true, false] {
            wake.extend(self.lead_once(&mut leading, first, may_wait));
            if leading.members.iter().any(|told| Arc::ptr_eq(told, first)) {
                break;
            }
            leading.members.clear();
        }
        wake
    }

    /// One transaction: the leader's, or, if he may wait, one of heartbeats. Tells its members how it ended.
    fn lead_once(
        &self,
        leading: &mut Leading<'_>,
        first: &Arc<dyn Member>,
        may_wait: bool,
    ) -> Vec<Arc<Calls>> {
        let ended = {
            let mut writer = lock(&self.writer);
            patience::until(first.patience());
            let join = |members: &mut _| self.join(members, first, may_wait);
            let ended = match &*writer {
                Some(writer) => self.write(writer, &mut leading.members, join),
                None => Err(Failure::Queue(closed())),
            };
            // What is wrong may be wrong because of this.
            let ended = ended.or_else(|failure| {
                self.attachment.check().map_err(Failure::Queue)?;
                Err(failure)
            });
            if self.attachment.is_lost() {
                *writer = None;
            }
            ended
        };
        match ended {
            Ok(Written { wake, failures }) => {
                for (member, failure) in failures {
                    leading.members[member].tell(Err(failure.into()));
                }
                leading
                    .members
                    .iter()
                    .for_each(|member| member.tell(Ok(())));
                self.write_back();
                wake
            }
            Err(failure) => {
                if leading.members.is_empty() {
                    leading.members.push(Arc::clone(first));
                }
                leading.fail(failure.into());
                Vec::new()
            }
        }
    }

    /// Where the log is long: after the commit, when all have been told.
    ///
    /// Within the commit somebody who cleans up because the lock was lost meanwhile might do it at the same time, and not
    /// know that commit yet: he would put an older page over a newer one. Whoever comes later knows all that is
    /// written back here.
    fn write_back(&self) {
        if LOG.replace(0) < LONG_LOG {
            return;
        }
        // If it fails the log goes on to grow, and the next commit tries again.
        let _ = self.with_writer(Instant::now(), |writer| {
            let write_back = "PRAGMA wal_checkpoint(PASSIVE)";
            writer.query_row(write_back, [], |_| Ok(())).map_err(failed)
        });
    }

    /// Who is in the transaction that has just begun.
    fn join(&self, members: &mut Vec<Arc<dyn Member>>, first: &Arc<dyn Member>, may_wait: bool) {
        let mut line = lock(&self.line);
        let urgent = line.urgent();
        let of_line = if first.urgency() == Urgency::Heartbeat {
            members.push(Arc::clone(first));
            urgent
        } else if may_wait && urgent > 0 {
            urgent
        } else {
            members.push(Arc::clone(first));
            line.waiting.len()
        };
        let of_line = of_line.min(MOST - members.len());
        members.extend(line.waiting.drain(..of_line));
    }

    fn take_hold(&self, writer: &Connection) -> Result<(), Failure> {
        self.attachment.hold(writer).map_err(Failure::Queue)
    }

    /// One transaction; or two where an operation failed. Tells which ones did.
    fn write(
        &self,
        writer: &Connection,
        members: &mut Vec<Arc<dyn Member>>,
        join: impl FnOnce(&mut Vec<Arc<dyn Member>>),
    ) -> Result<Written, Failure> {
        let open = Open::begin(writer)?;
        let began = Steady::of(&self.clock);
        self.take_hold(writer)?;
        // Not before, so that who came while this waited for another process is with it.
        join(members);
        let mut parts = Parts::new(writer, &self.clock);
        let ran = members
            .iter()
            .try_for_each(|member| member.run(parts.of(member.queue())?));
        let (parts, open, failures) = match ran {
            Ok(()) => (parts, open, Vec::new()),
            Err(failure) if members.len() == 1 => return Err(failure),
            Err(_) => {
                drop(open);
                let open = Open::begin(writer)?;
                self.take_hold(writer)?;
                let mut parts = Parts::new(writer, &self.clock);
                let failures = run_apart(&mut parts, members)?;
                (parts, open, failures)
            }
        };
        let wake = parts.store()?;
        self.prolong(writer, began).map_err(Failure::Error)?;
        open.commit()?;
        // It is done, so the patience of who asked is not what counts.
        patience::begin();
        self.take_hold(writer).map_err(undecided)?;
        self.transactions.fetch_add(1, Ordering::Relaxed);
        Ok(Written { wake, failures })
    }

    /// One transaction by itself, of as many queues as it touches: between two of the group, so that no count of theirs is
    /// read before it and stored after it.
    pub(super) fn alone<T>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, QueueError> {
        let ended = {
            let writer = lock(&self.writer);
            patience::begin();
            let change = |writer: &Connection| {
                let open = Open::begin(writer)?;
                let began = Steady::of(&self.clock);
                self.take_hold(writer)?;
                let changed = change(writer).map_err(Failure::Error)?;
                self.prolong(writer, began).map_err(Failure::Error)?;
                open.commit()?;
                patience::begin();
                self.take_hold(writer).map_err(undecided)?;
                self.transactions.fetch_add(1, Ordering::Relaxed);
                Ok(changed)
            };
            let writer = writer.as_ref().ok_or_else(|| Failure::Queue(closed()));
            writer.and_then(change)
        };
        self.write_back();
        ended.map_err(|failure| match failure {
            Failure::Error(error) => failed(error),
            Failure::Queue(error) => error,
            Failure::Panic(panic) => resume_unwind(panic),
        })
    }

    /// Adds the time that a transaction has had the lock to all leases that were not over when it began.
    fn prolong(&self, writer: &Connection, began: Steady) -> rusqlite::Result<()> {
        let now = Steady::of(&self.clock);
        let took = now.since.saturating_sub(began.since);
        if took > LONG && now.boot == began.boot {
            let mut prolong = writer.prepare_cached(PROLONG)?;
            prolong.execute([took, began.boot, began.since])?;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn hold(&self) -> MutexGuard<'_, Option<Connection>> {
        lock(&self.writer)
    }

    #[cfg(test)]
    pub(super) fn is_led(&self) -> bool {
        lock(&self.line).is_led
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        lock(&self.line).waiting.len()
    }
}

/// `Busy` says that nothing was done.
fn undecided(failure: Failure) -> Failure {
    match failure {
        Failure::Queue(QueueError::Busy) => {
            let why =
                "another program keeps the file, and so nobody knows who will see this commit";
            Failure::Queue(QueueError::Broker(why.into()))
        }
        other => other,
    }
}

fn closed() -> QueueError {
    QueueError::Detached("they were closed".to_owned())
}

struct Written {
    /// Those of the queues in which there is something to claim.
    wake: Vec<Arc<Calls>>,
    /// Which of the members failed.
    failures: Vec<(usize, Failure)>,
}

/// A transaction's parts in the queues that it touches.
struct Parts<'c> {
    connection: &'c Connection,
    clock: &'c Clock,
    queues: Vec<(Tx<'c>, Arc<Calls>)>,
}

impl<'c> Parts<'c> {
    /// Of a transaction that is open already.
    fn new(connection: &'c Connection, clock: &'c Clock) -> Parts<'c> {
        Parts {
            connection,
            clock,
            queues: Vec::with_capacity(1),
        }
    }

    fn of(&mut self, queue: &QueueRef) -> Result<&mut Tx<'c>, Failure> {
        let number = queue.number;
        let known = self.queues.iter().position(|(tx, _)| tx.number == number);
        let place = if let Some(place) = known {
            place
        } else {
            let tx = Tx::load(self.connection, number, self.clock).map_err(Failure::Error)?;
            self.queues.push((tx, Arc::clone(&queue.calls)));
            self.queues.len() - 1
        };
        Ok(&mut self.queues[place].0)
    }

    /// To be called before the commit; who is to hear of it after that.
    fn store(self) -> Result<Vec<Arc<Calls>>, Failure> {
        let mut wake = Vec::new();
        for (tx, calls) in self.queues {
            tx.store().map_err(Failure::Error)?;
            if tx.wake {
                wake.push(calls);
            }
        }
        Ok(wake)
    }
}

/// Runs each of them so that it undoes only itself.
fn run_apart(
    parts: &mut Parts<'_>,
    members: &[Arc<dyn Member>],
) -> Result<Vec<(usize, Failure)>, Failure> {
    let mut failures = Vec::new();
    for (place, member) in members.iter().enumerate() {
        let tx = match parts.of(member.queue()) {
            Ok(tx) => tx,
            Err(failure) => {
                failures.push((place, failure));
                continue;
            }
        };
        let before = (tx.queue.clone(), tx.wake);
        statement(tx.connection, "SAVEPOINT anthill_one")?;
        let ran = member.run(tx);
        if let Err(failure) = ran {
            // After some errors SQLite undoes the whole transaction.
            if tx.connection.is_autocommit() {
                return Err(failure);
            }
            statement(tx.connection, "ROLLBACK TO anthill_one")?;
            (tx.queue, tx.wake) = before;
            failures.push((place, failure));
        }
        statement(tx.connection, "RELEASE anthill_one")?;
    }
    Ok(failures)
}

fn statement(connection: &Connection, sql: &str) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(sql).map_err(Failure::Error)?;
    statement.execute([]).map(drop).map_err(Failure::Error)
}

/// A transaction, which is undone if it is dropped.
struct Open<'c>(&'c Connection);

impl<'c> Open<'c> {
    fn begin(connection: &'c Connection) -> Result<Open<'c>, Failure> {
        statement(connection, "BEGIN IMMEDIATE")?;
        Ok(Open(connection))
    }

    fn commit(self) -> Result<(), Failure> {
        statement(self.0, "COMMIT")
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.0.is_autocommit() {
            // If even this fails, so will the next `BEGIN`, and say so.
            let _ = statement(self.0, "ROLLBACK");
        }
    }
}

/// Sees to it, whatever happens to the leader, that all are told, and that somebody leads after him.
struct Leading<'g> {
    group: &'g Group,
    members: Vec<Arc<dyn Member>>,
}

impl Leading<'_> {
    /// The first one gets the error itself.
    fn fail(&self, stop: Stop) {
        let of_all = match &stop {
            Stop::Error(error) => again(error),
            Stop::Panic(_) => panicked(),
        };
        // None at all where the leader, who knows it, was to go after those whom he has told already.
        if let Some((first, rest)) = self.members.split_first() {
            for member in rest {
                member.tell(Err(Stop::Error(again(&of_all))));
            }
            first.tell(Err(stop));
        }
    }
}

fn panicked() -> QueueError {
    QueueError::Broker("the queue panicked during a commit".into())
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fail(Stop::Error(panicked()));
        }
        let next = {
            let mut line = lock(&self.group.line);
            let next = line.waiting.front().cloned();
            line.is_led = next.is_some();
            next
        };
        if let Some(next) = next {
            next.lead();
        }
    }
}

impl<T> Ticket<T> {
    fn new(
        queue: QueueRef,
        urgency: Urgency,
        operation: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
        patience: Instant,
    ) -> Ticket<T> {
        Ticket {
            queue,
            urgency,
            patience,
            operation: Mutex::new(Box::new(operation)),
            stage: Mutex::new(Stage::Waits),
            told: Condvar::new(),
        }
    }
}
