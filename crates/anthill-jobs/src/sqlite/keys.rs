//! The limit per key (B7): how many jobs with a key may run, and which of them are parked.
//!
//! - JK1: With a limit, exactly as many jobs with a key are ready as there is room for beside those that run; the others
//!   are parked. So a claim never has to skip a job, however many have the same key.
//! - JK2: The ready jobs with a key go before the parked ones, so the order is as if none were parked.
//!
//! Each step that makes a job with a key ready, or removes one from the ready or running jobs, *balances* the key. After a
//! change of the limits the next claims go through the keys and balance each (`balance_all`), before they claim.

use super::sweep::BATCH;
use super::tx::{JobRow, Tx};
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
    /// Balances the key of a job after a step to or from ready or running.
    pub(super) fn balance_key_of(&mut self, job: &JobRow) -> rusqlite::Result<()> {
        match &job.key {
            Some(key) => self.balance_key(key),
            None => Ok(()),
        }
    }

    /// Restores JK1 and JK2 after one step.
    pub(super) fn balance_key(&mut self, key: &str) -> rusqlite::Result<()> {
        match self.queue.limits.per_key {
            Some(_) => self.balance(key, BATCH).map(drop),
            None => Ok(()),
        }
    }

    /// Restores JK1 and JK2 in at most so many moves. Returns how many there were.
    pub(super) fn balance(&mut self, key: &str, max_moves: u32) -> rusqlite::Result<u32> {
        let (room, ready) = match self.queue.limits.per_key {
            None => (u32::MAX, 0),
            Some(limit) => {
                let room = limit.saturating_sub(self.running_of(key, limit)?);
                (room, self.ready_of(key, room.saturating_add(max_moves))?)
            }
        };
        let mut moves = 0;
        for _ in room..ready {
            self.park_last(key)?;
            moves += 1;
        }
        for _ in ready..room {
            if moves == max_moves || !self.unpark(key)? {
                break;
            }
            moves += 1;
        }
        while moves < max_moves && self.is_out_of_order(key)? {
            self.unpark(key)?;
            self.park_last(key)?;
            moves += 1;
        }
        Ok(moves)
    }

    /// Whether a parked job goes before a ready one.
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

    /// Makes the first parked job with the key ready, in its old order. Returns whether there was one.
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

    /// How many jobs with the key run, up to `limit`.
    pub(super) fn running_of(&self, key: &str, limit: u32) -> rusqlite::Result<u32> {
        self.count_of(RUNNING_OF, key, limit)
    }

    /// How many jobs with the key are ready, up to `limit`.
    pub(super) fn ready_of(&self, key: &str, limit: u32) -> rusqlite::Result<u32> {
        self.count_of(READY_OF, key, limit)
    }

    fn count_of(&self, sql: &str, key: &str, limit: u32) -> rusqlite::Result<u32> {
        let mut count = self.connection.prepare_cached(sql)?;
        count.query_row(params![self.number, key, limit], |row| row.get(0))
    }
}
