//! How an enqueue ended: the job was added, or was a duplicate.

use crate::id::JobId;

/// How an enqueue ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// The job is in the queue.
    Added(JobId),
    /// Nothing was added: another job has its unique key, or it was enqueued before. The id is that of the job that is
    /// there.
    Duplicate(JobId),
}

impl Enqueued {
    /// Returns the id of the job that will run.
    pub fn id(self) -> JobId {
        let (Enqueued::Added(id) | Enqueued::Duplicate(id)) = self;
        id
    }

    /// Returns whether this enqueue added the job.
    pub fn is_added(self) -> bool {
        matches!(self, Enqueued::Added(_))
    }
}
