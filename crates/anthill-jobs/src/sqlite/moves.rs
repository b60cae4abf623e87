//! Moves within one file: one transaction for each batch of jobs (MV5).

use super::broker::SqliteBroker;
use super::enqueue::enqueue;
use super::manage::find;
use super::read;
use super::tx::Tx;
use crate::broker::Change;
use crate::moves::{MoveOutcome, WhyNot, is_same};
use crate::{Enqueued, JobId, JobInfo, NewJob, QueueError};
use std::sync::Arc;

/// The outcome of each job, and the target's limit, if that is why the rest was not moved.
type MoveOutcomes = (Vec<MoveOutcome>, Option<u64>);

impl SqliteBroker {
    /// Whether a move to that queue can be one transaction.
    pub(crate) fn shares_file(&self, with: &SqliteBroker) -> bool {
        Arc::ptr_eq(&self.store, &with.store)
    }

    /// Moves jobs to another queue of the same file, in one transaction.
    pub(crate) fn move_some(
        &self,
        to: &SqliteBroker,
        ids: &[JobId],
        arriving: &dyn Fn(&JobInfo) -> Result<NewJob, MoveOutcome>,
    ) -> Result<MoveOutcomes, QueueError> {
        self.store.refuse_to_write()?;
        let moved = self.store.group.alone(|connection| {
            let load = |queue| Tx::load(connection, queue, &self.clock);
            let (mut from, mut into) = (load(self.queue)?, load(to.queue)?);
            let outcomes = move_all(&mut from, &mut into, ids, arriving)?;
            Ok((outcomes, (from.store()?, into.store()?)))
        });
        self.store.check()?;
        let (outcomes, (from_wakes, into_wakes)) = moved?;
        if from_wakes {
            self.listeners.notify(Change::Here);
        }
        if into_wakes {
            to.listeners.notify(Change::Here);
        }
        Ok(outcomes)
    }
}

fn move_all(
    from: &mut Tx<'_>,
    into: &mut Tx<'_>,
    ids: &[JobId],
    arriving: &dyn Fn(&JobInfo) -> Result<NewJob, MoveOutcome>,
) -> rusqlite::Result<MoveOutcomes> {
    let mut outcomes = Vec::new();
    for &id in ids {
        match move_one(from, into, id, arriving)? {
            Ok(outcome) => outcomes.push(outcome),
            Err(limit) => return Ok((outcomes, Some(limit))),
        }
    }
    Ok((outcomes, None))
}

/// Moves one job. The inner error is the target's limit, if it is full.
fn move_one(
    from: &mut Tx<'_>,
    into: &mut Tx<'_>,
    id: JobId,
    arriving: &dyn Fn(&JobInfo) -> Result<NewJob, MoveOutcome>,
) -> rusqlite::Result<Result<MoveOutcome, u64>> {
    let Some(job) = read::get(from.connection, from.number, id, from.now)? else {
        return Ok(Ok(MoveOutcome::Started));
    };
    let new = match arriving(&job) {
        Ok(new) => new,
        Err(outcome) => return Ok(Ok(outcome)),
    };
    let enqueued = match enqueue(into, &[new])? {
        Ok(enqueued) => enqueued.into_iter().next(),
        Err(limit) => return Ok(Err(limit)),
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
        return Ok(Ok(MoveOutcome::Refused(why)));
    }
    if let Some(job_row) = find(from, id)? {
        from.remove_by_request(&job_row)?;
    }
    Ok(Ok(MoveOutcome::Moved))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::broker::Admin;
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
