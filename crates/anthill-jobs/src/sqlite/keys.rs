//! B7: how many jobs with a key may run, and which of them wait for that aside.
//!
//! - JK1: With a limit, as many jobs with a key are ready as it has room for beside those that run, and no more; the rest
//!   are parked. So a claim meets nothing that it would have to pass over, however many there are with one key.
//! - JK2: Those that are ready go before those that are parked, so the order is as if none were.
//!
//! Each step that makes a job with a key ready, or takes one from those that are ready or run, *balances* the key. After a
//! change of the limits the claims to come go through the keys and balance each (`balance_all`), before they claim.

use super::tidy::BATCH;
use super::tx::{Step, Tx};
use crate::JobState;
use rusqlite::{OptionalExtension, params};

pub(super) const FIRST_PARKED: &str =
    "SELECT rank, turn, place FROM anthill_jobs INDEXED BY anthill_parked
    WHERE queue = ?1 AND state = 2 AND key = ?2 ORDER BY rank, turn, place LIMIT 1";

pub(super) const LAST_READY: &str =
    "SELECT rank, turn, place FROM anthill_jobs INDEXED BY anthill_ready_key
    WHERE queue = ?1 AND state = 0 AND key = ?2 ORDER BY rank DESC, turn DESC, place DESC LIMIT 1";

pub(super) const READY_OF: &str = "SELECT count(*) FROM (
    SELECT 1 FROM anthill_jobs INDEXED BY anthill_ready_key WHERE queue = ?1 AND state = 0 AND key = ?2 LIMIT ?3)";

pub(super) const RUNNING_OF: &str = "SELECT count(*) FROM (
    SELECT 1 FROM anthill_jobs INDEXED BY anthill_running_key WHERE queue = ?1 AND state = 3 AND key = ?2 LIMIT ?3)";

impl Tx<'_> {
    /// After a step of a job that was ready or ran, or is ready now.
    pub(super) fn balance_key_of(&mut self, job: &Step) -> rusqlite::Result<()> {
        match &job.key {
            Some(key) => self.balance_key(key),
            None => Ok(()),
        }
    }

    /// JK1 and JK2, where one step has changed something.
    pub(super) fn balance_key(&mut self, key: &str) -> rusqlite::Result<()> {
        match self.queue.limits.per_key {
            Some(_) => self.balance(key, BATCH).map(drop),
            None => Ok(()),
        }
    }

    /// JK1 and JK2, in at most so many moves; how many.
    pub(super) fn balance(&mut self, key: &str, most: u32) -> rusqlite::Result<u32> {
        let (room, ready) = match self.queue.limits.per_key {
            None => (u32::MAX, 0),
            Some(limit) => {
                let room = limit.saturating_sub(self.running_of(key, limit)?);
                (room, self.ready_of(key, room.saturating_add(most))?)
            }
        };
        let mut moves = 0;
        for _ in room..ready {
            self.park_last(key)?;
            moves += 1;
        }
        for _ in ready..room {
            if moves == most || !self.unpark(key)? {
                break;
            }
            moves += 1;
        }
        while moves < most && self.is_out_of_order(key)? {
            self.unpark(key)?;
            self.park_last(key)?;
            moves += 1;
        }
        Ok(moves)
    }

    /// One that is parked goes before one that is ready.
    fn is_out_of_order(&self, key: &str) -> rusqlite::Result<bool> {
        if self.queue.counts.parked == 0 {
            return Ok(false);
        }
        let parked = self.of_key(FIRST_PARKED, key)?;
        let ready = self.of_key(LAST_READY, key)?;
        Ok(parked.is_some() && parked < ready)
    }

    fn of_key(&self, sql: &str, key: &str) -> rusqlite::Result<Option<(i64, i64, i64)>> {
        let mut one = self.connection.prepare_cached(sql)?;
        let one = one.query_row(params![self.number, key], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        });
        one.optional()
    }

    fn park_last(&mut self, key: &str) -> rusqlite::Result<()> {
        if let Some((_, _, place)) = self.of_key(LAST_READY, key)? {
            self.set_state(place, JobState::Parked)?;
            self.moved(JobState::Ready, JobState::Parked, 1);
        }
        Ok(())
    }

    /// Makes the first of those parked with that key ready, in its old order; whether there was one.
    pub(super) fn unpark(&mut self, key: &str) -> rusqlite::Result<bool> {
        if self.queue.counts.parked == 0 {
            return Ok(false);
        }
        let Some((_, _, place)) = self.of_key(FIRST_PARKED, key)? else {
            return Ok(false);
        };
        self.set_state(place, JobState::Ready)?;
        self.moved(JobState::Parked, JobState::Ready, 1);
        self.wake = true;
        Ok(true)
    }

    /// How many with that key run, if not more than `most`.
    pub(super) fn running_of(&self, key: &str, most: u32) -> rusqlite::Result<u32> {
        self.count_of(RUNNING_OF, key, most)
    }

    /// How many with that key are ready, if not more than `most`.
    pub(super) fn ready_of(&self, key: &str, most: u32) -> rusqlite::Result<u32> {
        self.count_of(READY_OF, key, most)
    }

    fn count_of(&self, sql: &str, key: &str, most: u32) -> rusqlite::Result<u32> {
        let mut count = self.connection.prepare_cached(sql)?;
        count.query_row(params![self.number, key, most], |row| row.get(0))
    }
}
