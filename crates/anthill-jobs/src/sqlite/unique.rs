//! Unique keys: who has one, until its job is over, until a time, or both.

use super::tx::{Step, Tx, step};
use rusqlite::{OptionalExtension, params};

/// Who has a unique key.
pub(super) struct Owner {
    pub(super) id: [u8; 16],
    /// Until its job is over; else until a time.
    pub(super) is_held: bool,
}

impl Tx<'_> {
    /// Who has that unique key. One that has expired has not, though nobody may have seen to that yet.
    pub(super) fn owner(&mut self, key: &str) -> rusqlite::Result<Option<Owner>> {
        let owner = "SELECT id, held FROM anthill_unique
            WHERE queue = ?1 AND key = ?2 AND (held = 1 OR until > ?3)";
        let mut owner = self.connection.prepare_cached(owner)?;
        let key_now = params![self.number, key, self.now.time];
        let owner = owner.query_row(key_now, |row| {
            Ok(Owner {
                id: row.get(0)?,
                is_held: row.get(1)?,
            })
        });
        let Some(owner) = owner.optional()? else {
            return Ok(None);
        };
        let expired = "SELECT place, state, id, key, holds FROM anthill_jobs
            WHERE queue = ?1 AND id = ?2 AND holds = ?3 AND state < 3 AND expires <= ?4";
        let mut expired = self.connection.prepare_cached(expired)?;
        let expired = expired.query_row(params![self.number, owner.id, key, self.now.time], step);
        if let Some(expired) = expired.optional()? {
            self.expire(&expired)?;
            // It may have it for a time as well.
            return self.owner(key);
        }
        Ok(Some(owner))
    }

    pub(super) fn own(
        &self,
        key: &str,
        id: &[u8; 16],
        is_held: bool,
        until: Option<i64>,
    ) -> rusqlite::Result<()> {
        let own = "INSERT INTO anthill_unique (queue, key, id, held, until) VALUES (?1, ?2, ?3, ?4, ?5)
            ON CONFLICT (queue, key) DO UPDATE SET id = excluded.id, held = excluded.held, until = excluded.until";
        let mut own = self.connection.prepare_cached(own)?;
        own.execute(params![self.number, key, id, is_held, until])?;
        Ok(())
    }

    /// For a job that has the key for a time, and is not over any more.
    pub(super) fn hold_again(&self, key: &str, id: &[u8; 16]) -> rusqlite::Result<()> {
        let hold = "UPDATE anthill_unique SET held = 1 WHERE queue = ?1 AND key = ?2 AND id = ?3";
        let mut hold = self.connection.prepare_cached(hold)?;
        hold.execute(params![self.number, key, id])?;
        Ok(())
    }

    /// A job that is over does not keep others out.
    pub(super) fn free_key(&self, job: &Step) -> rusqlite::Result<()> {
        // A dead one has none any more: another job may.
        let Some(key) = &job.holds else {
            return Ok(());
        };
        let free = "DELETE FROM anthill_unique
            WHERE queue = ?1 AND key = ?2 AND id = ?3 AND held = 1 AND until IS NULL";
        let mut free = self.connection.prepare_cached(free)?;
        if free.execute(params![self.number, key, job.id])? == 0 {
            let only_for_a_time = "UPDATE anthill_unique SET held = 0
                WHERE queue = ?1 AND key = ?2 AND id = ?3 AND held = 1";
            let mut only_for_a_time = self.connection.prepare_cached(only_for_a_time)?;
            only_for_a_time.execute(params![self.number, key, job.id])?;
        }
        Ok(())
    }
}
