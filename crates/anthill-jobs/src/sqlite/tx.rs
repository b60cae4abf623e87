//! A queue in a transaction: its row, loaded once and stored once, and the steps of jobs from state to state.
//!
//! The counts in the row are updated here, and so is what follows from a job that leaves: its unique key is free
//! ([`unique`](super::unique)), and a parked job may have room ([`keys`](super::keys)).

use super::time::{Now, TimeMark, duration, nanos};
use crate::{Clock, JobState, Limits, QueueStats, Rate, Retention};
use rusqlite::{Connection, Row, params};

/// The row of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QueueRow {
    pub(super) limits: Limits,
    pub(super) retention: Retention,
    pub(super) rate_boot: i64,
    pub(super) rate_kept: i64,
    pub(super) rate_behind: bool,
    pub(super) mark: TimeMark,
    /// After a change of the limits: the key from which on keys must be balanced.
    pub(super) unpark: Option<String>,
    pub(super) turn: i64,
    /// How often there may have been something to claim after a change.
    told: i64,
    pub(super) counts: QueueStats,
}

pub(super) fn number(state: JobState) -> i64 {
    match state {
        JobState::Ready => 0,
        JobState::Delayed => 1,
        JobState::Parked => 2,
        JobState::Running => 3,
        JobState::Dead => 4,
        JobState::Done => 5,
    }
}

pub(super) fn state(row: &Row<'_>, column: usize) -> rusqlite::Result<JobState> {
    let stored: i64 = row.get(column)?;
    let state = JobState::ALL
        .into_iter()
        .find(|&state| number(state) == stored);
    state.ok_or(rusqlite::Error::IntegralValueOutOfRange(column, stored))
}

impl QueueRow {
    pub(super) fn load(connection: &Connection, queue: i64) -> rusqlite::Result<QueueRow> {
        let load = "SELECT paused, most_running, most_per_key, rate_jobs, rate_per, rate_burst, rate_boot, rate_kept,
            unpark, turn, ready, delayed, parked, running, dead, results, enqueued, duplicates, done, retried, died,
            lost_leases, expired, removed, rate_behind, max_ready, time, time_boot, ahead, keep_done, keep_dead, told
            FROM anthill_queues WHERE id = ?1";
        connection.prepare_cached(load)?.query_row([queue], |row| {
            let count = |column| {
                row.get(column)
                    .map(|count: i64| u64::try_from(count).unwrap_or(0))
            };
            let rate = match (row.get(3)?, row.get(4)?, row.get(5)?) {
                (Some(jobs), Some(per), Some(burst)) => {
                    let per = duration(per);
                    Some(Rate { jobs, per, burst })
                }
                _ => None,
            };
            Ok(QueueRow {
                limits: Limits {
                    running: row.get(1)?,
                    per_key: row.get(2)?,
                    rate,
                    max_ready: row.get::<_, Option<i64>>(25)?.map(i64::unsigned_abs),
                },
                retention: Retention {
                    done: row.get::<_, Option<i64>>(29)?.map(duration),
                    dead: row.get::<_, Option<i64>>(30)?.map(duration),
                },
                rate_boot: row.get(6)?,
                rate_kept: row.get(7)?,
                rate_behind: row.get(24)?,
                mark: TimeMark {
                    time: row.get(26)?,
                    boot: row.get(27)?,
                    ahead: row.get(28)?,
                },
                unpark: row.get(8)?,
                turn: row.get(9)?,
                told: row.get(31)?,
                counts: QueueStats {
                    ready: count(10)?,
                    delayed: count(11)?,
                    parked: count(12)?,
                    running: count(13)?,
                    dead: count(14)?,
                    results: count(15)?,
                    oldest: None,
                    paused: row.get(0)?,
                    enqueued: count(16)?,
                    duplicates: count(17)?,
                    done: count(18)?,
                    retried: count(19)?,
                    died: count(20)?,
                    lost_leases: count(21)?,
                    expired: count(22)?,
                    removed: count(23)?,
                },
            })
        })
    }

    /// Loads how far a queue's time has come.
    pub(super) fn mark(connection: &Connection, queue: i64) -> rusqlite::Result<TimeMark> {
        let mark = "SELECT time, time_boot, ahead FROM anthill_queues WHERE id = ?1";
        connection.prepare_cached(mark)?.query_row([queue], |row| {
            Ok(TimeMark {
                time: row.get(0)?,
                boot: row.get(1)?,
                ahead: row.get(2)?,
            })
        })
    }

    fn store(&self, connection: &Connection, queue: i64, time: i64) -> rusqlite::Result<()> {
        let store = "UPDATE anthill_queues SET paused = ?2, most_running = ?3, most_per_key = ?4, rate_jobs = ?5,
            rate_per = ?6, rate_burst = ?7, rate_boot = ?8, rate_kept = ?9, unpark = ?10, turn = ?11, ready = ?12,
            delayed = ?13, parked = ?14, running = ?15, dead = ?16, results = ?17, enqueued = ?18, duplicates = ?19,
            done = ?20, retried = ?21, died = ?22, lost_leases = ?23, expired = ?24, removed = ?25, rate_behind = ?26,
            max_ready = ?27, time = ?28, time_boot = ?29, ahead = ?30, keep_done = ?31, keep_dead = ?32, told = ?33
            WHERE id = ?1";
        let (limits, counts) = (&self.limits, &self.counts);
        let rate = limits.rate;
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        connection.prepare_cached(store)?.execute(params![
            queue,
            counts.paused,
            limits.running,
            limits.per_key,
            rate.map(|rate| rate.jobs),
            rate.map(|rate| nanos(rate.per)),
            rate.map(|rate| rate.burst),
            self.rate_boot,
            self.rate_kept,
            self.unpark,
            self.turn,
            count(counts.ready),
            count(counts.delayed),
            count(counts.parked),
            count(counts.running),
            count(counts.dead),
            count(counts.results),
            count(counts.enqueued),
            count(counts.duplicates),
            count(counts.done),
            count(counts.retried),
            count(counts.died),
            count(counts.lost_leases),
            count(counts.expired),
            count(counts.removed),
            self.rate_behind,
            limits.max_ready.map(count),
            time,
            self.mark.boot,
            self.mark.ahead,
            self.retention.done.map(nanos),
            self.retention.dead.map(nanos),
            self.told,
        ])?;
        Ok(())
    }

    pub(super) fn count(&mut self, state: JobState) -> &mut u64 {
        match state {
            JobState::Ready => &mut self.counts.ready,
            JobState::Delayed => &mut self.counts.delayed,
            JobState::Parked => &mut self.counts.parked,
            JobState::Running => &mut self.counts.running,
            JobState::Dead => &mut self.counts.dead,
            JobState::Done => &mut self.counts.results,
        }
    }
}

/// What a step needs to know of a job.
#[derive(Debug)]
pub(super) struct JobRow {
    pub(super) place: i64,
    pub(super) state: JobState,
    pub(super) id: [u8; 16],
    pub(super) key: Option<String>,
    /// The unique key that it holds until it is over.
    pub(super) holds: Option<String>,
}

/// Reads the first columns of a row.
pub(super) fn job_row(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    Ok(JobRow {
        place: row.get(0)?,
        state: state(row, 1)?,
        id: row.get(2)?,
        key: row.get(3)?,
        holds: row.get(4)?,
    })
}

/// Whether a flag is set that most rows lack.
pub(super) fn flag(row: &Row<'_>, column: usize) -> rusqlite::Result<bool> {
    let set: Option<bool> = row.get(column)?;
    Ok(set == Some(true))
}

/// A queue in an open transaction.
pub(super) struct Tx<'c> {
    pub(super) connection: &'c Connection,
    /// The queue's number.
    pub(super) number: i64,
    pub(super) now: Now,
    pub(super) queue: QueueRow,
    /// Whether to notify consumers after the commit.
    pub(super) wake: bool,
    loaded: QueueRow,
}

impl<'c> Tx<'c> {
    /// Loads a queue in a transaction that is open already.
    pub(super) fn load(
        connection: &'c Connection,
        number: i64,
        clock: &Clock,
    ) -> rusqlite::Result<Tx<'c>> {
        let mut queue = QueueRow::load(connection, number)?;
        let loaded = queue.clone();
        let now = queue.mark.now(clock);
        queue.mark = queue.mark.moved(now);
        Ok(Tx {
            connection,
            number,
            now,
            loaded,
            queue,
            wake: false,
        })
    }

    /// Stores the row, before the commit. Returns whether to notify the listeners after it.
    pub(super) fn store(mut self) -> rusqlite::Result<bool> {
        // Watchers in other processes see it there.
        self.queue.told = self.queue.told.wrapping_add(i64::from(self.wake));
        // An operation that changed nothing writes nothing, and does not wait for the disk.
        if self.queue != self.loaded {
            let time = self.now.time.max(self.queue.mark.time);
            self.queue.store(self.connection, self.number, time)?;
        }
        Ok(self.wake)
    }

    /// The turn of a job that is enqueued now: the time, but always after the last turn.
    pub(super) fn next_turn(&mut self) -> i64 {
        self.queue.turn = self.now.time.max(self.queue.turn + 1);
        self.queue.turn
    }

    /// The turn of a job that counts as enqueued at that time.
    pub(super) fn turn_at(&self, due: i64) -> i64 {
        due.max(self.queue.turn + 1)
    }

    /// For how long the retention keeps a job that is done.
    pub(super) fn retained(&self) -> i64 {
        self.queue.retention.done.map_or(0, nanos)
    }

    pub(super) fn moved(&mut self, from: JobState, to: JobState, jobs: u64) {
        let count = self.queue.count(from);
        *count = count.saturating_sub(jobs);
        *self.queue.count(to) += jobs;
    }

    /// Removes a job.
    pub(super) fn remove(&mut self, job: &JobRow) -> rusqlite::Result<()> {
        let remove = "DELETE FROM anthill_jobs WHERE place = ?1";
        self.connection
            .prepare_cached(remove)?
            .execute([job.place])?;
        let count = self.queue.count(job.state);
        *count = count.saturating_sub(1);
        self.free_key(job)?;
        match (job.state, &job.key) {
            (JobState::Ready | JobState::Running, Some(key)) => self.balance_key(key),
            _ => Ok(()),
        }
    }

    /// Removes a job by request, which is counted.
    pub(super) fn remove_by_request(&mut self, job: &JobRow) -> rusqlite::Result<()> {
        self.queue.counts.removed += 1;
        self.remove(job)
    }

    /// Makes a running job a dead letter.
    pub(super) fn mark_dead(
        &mut self,
        job: &JobRow,
        error: &str,
        errors: &str,
    ) -> rusqlite::Result<()> {
        let turn = self.next_turn();
        let mark_dead =
            "UPDATE anthill_jobs SET state = 4, turn = ?2, due = ?3, error = ?4, errors = ?5,
            suspect = 0, cancel = NULL WHERE place = ?1";
        let mut mark_dead = self.connection.prepare_cached(mark_dead)?;
        mark_dead.execute(params![job.place, turn, self.now.time, error, errors])?;
        self.moved(job.state, JobState::Dead, 1);
        self.queue.counts.died += 1;
        self.free_key(job)?;
        self.balance_key_of(job)
    }

    pub(super) fn at(&self, place: i64) -> rusqlite::Result<JobRow> {
        let at = "SELECT place, state, id, key, holds FROM anthill_jobs WHERE place = ?1";
        self.connection
            .prepare_cached(at)?
            .query_row([place], job_row)
    }

    pub(super) fn set_state(&self, place: i64, state: JobState) -> rusqlite::Result<()> {
        let set = "UPDATE anthill_jobs SET state = ?2 WHERE place = ?1";
        let mut set = self.connection.prepare_cached(set)?;
        set.execute(params![place, number(state)])?;
        Ok(())
    }

    /// Removes a job that has expired.
    pub(super) fn expire(&mut self, job: &JobRow) -> rusqlite::Result<()> {
        self.queue.counts.expired += 1;
        self.remove(job)
    }
}
