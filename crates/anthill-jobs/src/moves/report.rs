//! What a move is asked for, and what it reports.

use crate::broker::{JobInfo, JobState};
use crate::error::QueueError;
use crate::id::JobId;
use std::error::Error;
use std::fmt;

/// Which jobs to [move](crate::Queue::move_to).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MoveRequest {
    /// The states of the jobs: those of jobs that wait, or `Dead`.
    pub states: Vec<JobState>,
    /// Their kind, as it is stored; `None` is any kind.
    pub kind: Option<String>,
    /// The most jobs to move.
    pub limit: usize,
}

impl MoveRequest {
    /// Moves all jobs that wait.
    pub fn waiting() -> MoveRequest {
        MoveRequest {
            states: JobState::WAITING.to_vec(),
            kind: None,
            limit: usize::MAX,
        }
    }

    /// Moves all jobs in one state.
    pub fn of_state(state: JobState) -> MoveRequest {
        MoveRequest {
            states: vec![state],
            ..MoveRequest::waiting()
        }
    }

    /// Moves only jobs of one kind.
    #[must_use]
    pub fn kind(self, kind: impl Into<String>) -> MoveRequest {
        MoveRequest {
            kind: Some(kind.into()),
            ..self
        }
    }

    /// Moves at most so many jobs.
    #[must_use]
    pub fn limit(self, limit: usize) -> MoveRequest {
        MoveRequest { limit, ..self }
    }

    pub(super) fn is_of_kind(&self, kind: &str) -> bool {
        self.kind.as_ref().is_none_or(|wanted| wanted == kind)
    }

    pub(super) fn wants(&self, state: JobState) -> bool {
        let waits = |state: &JobState| JobState::WAITING.contains(state);
        // One that was ready may be parked by now.
        self.states.contains(&state) || (waits(&state) && self.states.iter().any(waits))
    }
}

/// How a move ended.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Moved {
    /// How many jobs are in the target now, and not in the source any more.
    pub moved: u64,
    /// How many had started, or were gone, before they could be moved. They were left alone.
    pub started: u64,
    /// The jobs that the target refused. They are in the source, as they were.
    pub refused: Vec<NotMoved>,
    /// The jobs that may be in both queues: the target has them, but before they could be removed from the source they had
    /// been started, changed or removed there.
    pub in_both: Vec<JobId>,
}

/// A job that the target refused.
#[derive(Debug)]
#[non_exhaustive]
pub struct NotMoved {
    /// The job.
    pub id: JobId,
    /// Why it was refused.
    pub why: WhyNot,
}

/// Why the target refused a job.
#[derive(Debug)]
#[non_exhaustive]
pub enum WhyNot {
    /// This job in the target has the same unique key.
    UniqueKey(JobId),
    /// A job in the target has the same id, and has other data or is dead.
    SameId,
    /// The target cannot store the job: it is too large, or needs a capability that the broker lacks.
    Refused(QueueError),
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhyNot::UniqueKey(id) => write!(f, "job {id} in the target has its unique key"),
            WhyNot::SameId => {
                f.write_str("a job in the target has its id, and has other data or is dead")
            }
            WhyNot::Refused(error) => error.fmt(f),
        }
    }
}

/// A move that failed before its end. No job is lost: what was not moved is in the source.
///
/// If a broker failed, and the reason is not that the target is [full](QueueError::Full), up to a hundred jobs may be in
/// both queues; the same move again removes them from the source, if they have not started.
#[derive(Debug)]
pub struct MoveError {
    pub(super) reason: QueueError,
    pub(super) moved: Moved,
}

impl MoveError {
    /// Returns why the move failed.
    pub fn reason(&self) -> &QueueError {
        &self.reason
    }

    /// Returns what was moved before that.
    pub fn moved(&self) -> &Moved {
        &self.moved
    }

    /// Returns the reason, and what was moved before that.
    pub fn into_parts(self) -> (QueueError, Moved) {
        (self.reason, self.moved)
    }
}

impl fmt::Display for MoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl Error for MoveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason.source()
    }
}

/// How the move of one job ended.
pub(crate) enum MoveOutcome {
    Moved,
    Started,
    Refused(WhyNot),
    InBoth,
}

impl Moved {
    pub(super) fn count(&mut self, id: JobId, outcome: MoveOutcome) {
        match outcome {
            MoveOutcome::Moved => self.moved += 1,
            MoveOutcome::Started => self.started += 1,
            MoveOutcome::Refused(why) => self.refused.push(NotMoved { id, why }),
            MoveOutcome::InBoth => self.in_both.push(id),
        }
    }
}

/// MV1: whether the job in the target is the job of the source.
pub(crate) fn is_same(job: &JobInfo, there: &JobInfo) -> bool {
    there.state != JobState::Dead && there.kind == job.kind && there.payload == job.payload
}
