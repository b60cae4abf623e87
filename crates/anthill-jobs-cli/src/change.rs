//! Commands that change a queue: retry, delete, cancel, run-now, purge, pause, limits.

use crate::args::SetLimits;
use crate::out::{Out, complain};
use crate::outcome::{Ended, Fallible};
use crate::pages::Pages;
use crate::show;
use anthill::Pool;
use anthill_jobs::{JobId, JobState, ListRequest, Queue, QueueError};
use serde::Serialize;
use serde_json::json;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Change {
    Retry,
    Delete,
    Cancel,
    CancelRunning,
    RunNow,
}

impl Change {
    /// Whether there was a job to change.
    fn apply(self, queue: &Queue, id: JobId) -> Result<bool, QueueError> {
        match self {
            Change::Retry => queue.retry_dead(id),
            Change::Delete => queue.delete(id),
            Change::Cancel => queue.cancel(id),
            Change::CancelRunning => queue.cancel_running(id),
            Change::RunNow => queue.run_now(id),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Change::Retry => "ready again",
            Change::Delete => "deleted",
            Change::Cancel => "cancelled",
            Change::CancelRunning => "asked to stop",
            Change::RunNow => "due now",
        }
    }

    fn why_not(self, queue: &Queue, id: JobId) -> Result<String, QueueError> {
        Ok(match queue.get(id)?.map(|job| job.state) {
            None => "there is no such job".to_owned(),
            Some(JobState::Dead) if self == Change::Retry => ITS_KEY.to_owned(),
            Some(state) => format!("it is {}", state.name()),
        })
    }
}

const ITS_KEY: &str = "another job has its unique key by now";

#[derive(Default, Serialize)]
struct Report {
    changed: Vec<String>,
    refused: Vec<Refused>,
}

#[derive(Serialize)]
struct Refused {
    id: String,
    reason: String,
}

impl Report {
    fn tell(&mut self, id: JobId, change: Change, out: &mut Out) -> Fallible<()> {
        let id = id.to_string();
        if !out.is_json() {
            out.line(&format!("{id} {}", change.name()))?;
        }
        self.changed.push(id);
        Ok(())
    }

    fn refuse(&mut self, id: JobId, reason: String) {
        let id = id.to_string();
        complain(&format!("{id}: {reason}"));
        self.refused.push(Refused { id, reason });
    }

    fn end(self, out: &mut Out) -> Fallible<Ended> {
        if out.is_json() {
            out.document(&self)?;
        }
        Ok(if self.refused.is_empty() {
            Ended::Done
        } else {
            Ended::Missed
        })
    }
}

/// Changes the jobs with these ids, each for itself.
pub(crate) fn named(
    queue: &Queue,
    change: Change,
    ids: &[JobId],
    out: &mut Out,
) -> Fallible<Ended> {
    let mut told = Report::default();
    let changed = ids.iter().try_for_each(|&id| {
        if change.apply(queue, id)? {
            told.tell(id, change, out)
        } else {
            let reason = change.why_not(queue, id)?;
            told.refuse(id, reason);
            Ok(())
        }
    });
    let ended = told.end(out)?;
    changed.map(|()| ended)
}

/// Commits at the same time share a wait for the disk.
const AT_ONCE: usize = 32;

pub(crate) fn retry_all(queue: &Queue, out: &mut Out) -> Fallible<Ended> {
    let ids = dead(queue)?;
    let pool = Pool::with_capacity(AT_ONCE);
    let ours = queue.clone();
    let mut retried = pool.map(ids, move |id| (id, ours.retry_dead(id)));
    let mut told = Report::default();
    let changed = retried.try_for_each(|(id, retried)| {
        if retried? {
            return told.tell(id, Change::Retry, out);
        }
        // Another process may have changed it meanwhile; that is not an error, as it was not named.
        if (queue.get(id)?).is_some_and(|job| job.state == JobState::Dead) {
            told.refuse(id, ITS_KEY.to_owned());
        }
        Ok(())
    });
    let ended = told.end(out)?;
    changed.map(|()| ended)
}

/// All jobs that are dead now. Jobs that die meanwhile do not count, or this might never end.
fn dead(queue: &Queue) -> Result<Vec<JobId>, QueueError> {
    let limit = usize::try_from(queue.stats()?.dead).unwrap_or(usize::MAX);
    let mut pages = Pages::new(queue, ListRequest::new(JobState::Dead).limit(limit));
    let mut ids = Vec::new();
    loop {
        let page = pages.next(0)?;
        if page.is_empty() {
            return Ok(ids);
        }
        ids.extend(page.iter().map(|job| job.id));
    }
}

/// Without `yes` it removes nothing, and fails if there is a job to remove.
pub(crate) fn purge(queue: &Queue, state: JobState, yes: bool, out: &mut Out) -> Fallible<Ended> {
    let removed = if yes {
        queue.purge_states(&[state])?
    } else {
        let jobs = show::count(&queue.stats()?, state);
        if jobs > 0 {
            let state = state.name();
            return Err(format!("{jobs} jobs are {state}: use --yes to remove them all").into());
        }
        0
    };
    if out.is_json() {
        out.document(&json!({ "removed": removed }))?;
    } else {
        out.line(&format!("{removed} removed"))?;
    }
    Ok(Ended::Done)
}

pub(crate) fn pause(queue: &Queue, paused: bool, out: &mut Out) -> Fallible<Ended> {
    if paused {
        queue.pause()?;
    } else {
        queue.resume()?;
    }
    if out.is_json() {
        out.document(&json!({ "paused": paused }))?;
    } else {
        out.line(if paused { "paused" } else { "resumed" })?;
    }
    Ok(Ended::Done)
}

pub(crate) fn limits(queue: &Queue, set: &SetLimits, out: &mut Out) -> Fallible<Ended> {
    let mut limits = queue.limits()?;
    if let Some(changed) = set.changed(limits) {
        queue.set_limits(changed)?;
        limits = changed;
    }
    show::limits(&limits, out)
}
