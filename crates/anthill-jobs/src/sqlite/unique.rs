//! Unique keys: each belongs to a job until that is over, until the end of a period, or both.

use super::tx::{JobRow, Tx, job_row};
use rusqlite::{OptionalExtension, params};

/// The job that has a unique key.
pub(super) struct Owner {
    pub(super) id: [u8; 16],
    /// Whether it has the key until it is over; otherwise until the end of a period.
    pub(super) is_held: bool,
}

impl Tx<'_> {
    /// The job that has a unique key. An expired job does not have it, even if no sweep has removed it yet.
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
        let expired =
            expired.query_row(params![self.number, owner.id, key, self.now.time], job_row);
        if let Some(expired) = expired.optional()? {
            self.expire(&expired)?;
            // A period may hold the key as well.
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

    /// Holds the key of a job that is retried and still has it for a period.
    pub(super) fn hold_again(&self, key: &str, id: &[u8; 16]) -> rusqlite::Result<()> {
        let hold = "UPDATE anthill_unique SET held = 1 WHERE queue = ?1 AND key = ?2 AND id = ?3";
        let mut hold = self.connection.prepare_cached(hold)?;
        hold.execute(params![self.number, key, id])?;
        Ok(())
    }

    /// Frees the unique key of a job that is over.
    pub(super) fn free_key(&self, job: &JobRow) -> rusqlite::Result<()> {
        // A dead job has no key any more: another job may have it.
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
