//! Jobs that go from one queue to another: what a move between files is made of, and a move within one, in one transaction.

use super::SqliteBroker;
use super::enqueue::enqueue;
use super::manage::find;
use super::read;
use super::time::nanos;
use super::tx::{Tx, number, step};
use crate::transfer::{Passage, WhyNot, is_same};
use crate::{Enqueued, JobId, JobInfo, JobState, NewJob, QueueError};
use rusqlite::{OptionalExtension, params};
use std::sync::Arc;
use std::time::Duration;

/// Whether each of them waited.
pub(super) fn set_due(
    tx: &mut Tx<'_>,
    ids: &[JobId],
    delay: Duration,
) -> rusqlite::Result<Vec<bool>> {
    let mut set = |&id: &JobId| set_one_due(tx, id, delay);
    ids.iter().map(&mut set).collect()
}

fn set_one_due(tx: &mut Tx<'_>, id: JobId, delay: Duration) -> rusqlite::Result<bool> {
    let waiting = find(tx, id)?.filter(|job| JobState::WAITING.contains(&job.state));
    let Some(job) = waiting else {
        return Ok(false);
    };
    if delay.is_zero() && job.state != JobState::Delayed {
        return Ok(true);
    }
    let due = tx.now.time.saturating_add(nanos(delay));
    let (state, turn) = if delay.is_zero() {
        (JobState::Ready, tx.next_turn())
    } else {
        (JobState::Delayed, tx.turn_at(due))
    };
    // The turn of one that was delayed from the start is not before it is due; another one has its place.
    let set = "UPDATE anthill_jobs SET state = ?2, due = ?3,
        turn = CASE WHEN state <> 1 OR turn < due THEN turn ELSE ?4 END WHERE place = ?1";
    let mut set = tx.connection.prepare_cached(set)?;
    set.execute(params![job.place, number(state), due, turn])?;
    tx.moved(job.state, state, 1);
    // Also for one that is delayed: who sleeps may sleep too long.
    tx.wake = true;
    tx.balance_key_of(&job)?;
    Ok(true)
}

/// Whether each of them was there, and the same.
pub(super) fn remove_unchanged(tx: &mut Tx<'_>, jobs: &[JobInfo]) -> rusqlite::Result<Vec<bool>> {
    let mut remove = |job: &JobInfo| {
        let same = "SELECT place, state, id, key, holds FROM anthill_jobs
            WHERE queue = ?1 AND id = ?2 AND state IN (0, 1, 2, 4) AND kind = ?3 AND payload = ?4";
        let mut same = tx.connection.prepare_cached(same)?;
        let with = params![tx.number, job.id.as_bytes(), job.kind, job.payload];
        let same = same.query_row(with, step);
        let Some(same) = same.optional()? else {
            return Ok(false);
        };
        tx.remove(&same)?;
        tx.queue.counts.removed += 1;
        Ok(true)
    };
    jobs.iter().map(&mut remove).collect()
}

/// What became of each, and how many the target may have, where that was why the rest was not moved.
type Passages = (Vec<Passage>, Option<u64>);

impl SqliteBroker {
    /// Whether a move to that one can be one transaction.
    pub(crate) fn shares_file(&self, with: &SqliteBroker) -> bool {
        Arc::ptr_eq(&self.store, &with.store)
    }

    /// Moves jobs to another queue of the same file, in one transaction.
    pub(crate) fn move_some(
        &self,
        to: &SqliteBroker,
        ids: &[JobId],
        arriving: &dyn Fn(&JobInfo) -> Result<NewJob, Passage>,
    ) -> Result<Passages, QueueError> {
        self.store.refuse_to_write()?;
        let moved = self.store.group.alone(|connection| {
            let load = |queue| Tx::load(connection, queue, &self.clock);
            let (mut from, mut into) = (load(self.queue)?, load(to.queue)?);
            let passages = move_all(&mut from, &mut into, ids, arriving)?;
            from.store()?;
            into.store()?;
            Ok((passages, (from.wake, into.wake)))
        });
        self.store.check()?;
        let (passages, (from_wakes, into_wakes)) = moved?;
        if from_wakes {
            self.calls.call();
        }
        if into_wakes {
            to.calls.call();
        }
        Ok(passages)
    }
}

fn move_all(
    from: &mut Tx<'_>,
    into: &mut Tx<'_>,
    ids: &[JobId],
    arriving: &dyn Fn(&JobInfo) -> Result<NewJob, Passage>,
) -> rusqlite::Result<Passages> {
    let mut passages = Vec::new();
    for &id in ids {
        match move_one(from, into, id, arriving)? {
            Ok(passage) => passages.push(passage),
            Err(most) => return Ok((passages, Some(most))),
        }
    }
    Ok((passages, None))
}

/// What became of it; or how many the target may have, where it has them.
fn move_one(
    from: &mut Tx<'_>,
    into: &mut Tx<'_>,
    id: JobId,
    arriving: &dyn Fn(&JobInfo) -> Result<NewJob, Passage>,
) -> rusqlite::Result<Result<Passage, u64>> {
    let Some(job) = read::get(from.connection, from.number, id, from.now)? else {
        return Ok(Ok(Passage::Started));
    };
    let new = match arriving(&job) {
        Ok(new) => new,
        Err(passage) => return Ok(Ok(passage)),
    };
    let enqueued = match enqueue(into, &[new])? {
        Ok(enqueued) => enqueued.into_iter().next(),
        Err(most) => return Ok(Err(most)),
    };
    let refused = match enqueued {
        Some(Enqueued::Added(_)) => None,
        Some(Enqueued::Duplicate(other)) if other != id => Some(WhyNot::UniqueKey(other)),
        _ => {
            let there = read::get(into.connection, into.number, id, into.now)?;
            let is_it = there.is_some_and(|there| is_same(&job, &there));
            (!is_it).then_some(WhyNot::SameId)
        }
    };
    if let Some(why) = refused {
        return Ok(Ok(Passage::Refused(why)));
    }
    if let Some(step) = find(from, id)? {
        from.remove(&step)?;
        from.queue.counts.removed += 1;
    }
    Ok(Ok(Passage::Moved))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::{Broker, Clock};

    #[test]
    fn in_a_file_that_was_taken_away_nothing_is_moved() {
        let folder = tempfile::tempdir().unwrap();
        let (there, away) = (folder.path().join("jobs"), folder.path().join("away"));
        let open = |name| SqliteBroker::open(&there, name, Clock::system()).unwrap();
        let (from, to) = (open("from"), open("to"));
        let job = NewJob::new("test", b"1".to_vec());
        from.enqueue(std::slice::from_ref(&job)).unwrap();
        std::fs::rename(&there, &away).unwrap();
        let moved = from.move_some(&to, &[job.id], &|_| Ok(job.clone()));
        assert!(matches!(moved, Err(QueueError::Detached(_))));
        drop((from, to));
        std::fs::rename(&away, &there).unwrap();
        assert_eq!(open("from").stats().unwrap().ready, 1);
        assert_eq!(open("to").stats().unwrap().enqueued, 0);
    }
}
