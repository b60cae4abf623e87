//! What an operator does with a queue: pause, limits, counts, lists, dead letters, cancel, purge, backup.

use super::Queue;
use crate::broker::{JobInfo, JobState, Limits, ListRequest, QueueStats};
use crate::error::QueueError;
use crate::id::JobId;
use std::path::Path;
use std::time::Duration;

/// # For operators
///
/// Each of these methods fails if the broker fails.
impl Queue {
    /// Removes a job that has not started. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn cancel(&self, id: JobId) -> Result<bool, QueueError> {
        self.broker.cancel(id)
    }

    /// Makes a delayed job ready now. Returns whether the job waited.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn run_now(&self, id: JobId) -> Result<bool, QueueError> {
        let set = self.broker.set_due(&[id], Duration::ZERO)?;
        Ok(set.first() == Some(&true))
    }

    /// Pauses the queue: no job starts, in any process, until [`resume`](Queue::resume).
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn pause(&self) -> Result<(), QueueError> {
        self.broker.set_paused(true)
    }

    /// Ends a pause.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn resume(&self) -> Result<(), QueueError> {
        self.broker.set_paused(false)
    }

    /// Sets the limits for all consumers and producers in all processes together.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn set_limits(&self, limits: Limits) -> Result<(), QueueError> {
        self.broker.set_limits(limits)
    }

    /// Bounds the queue for all producers in all processes: an enqueue that would make more than `limit` jobs ready or
    /// parked fails with [`QueueError::Full`] and gives its jobs back. Sets [`Limits::max_ready`] and leaves the
    /// other limits as they are.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn max_ready(&self, limit: u64) -> Result<(), QueueError> {
        let limits = self.broker.limits()?;
        self.broker.set_limits(Limits {
            max_ready: Some(limit),
            ..limits
        })
    }

    /// Returns what the queue holds and has counted.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn stats(&self) -> Result<QueueStats, QueueError> {
        self.broker.stats()
    }

    /// Returns a job, if there is one with that id.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn get(&self, id: JobId) -> Result<Option<JobInfo>, QueueError> {
        self.broker.get(id)
    }

    /// Returns up to `limit` jobs in a state; those behind the job `after`, if there is one.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn list(
        &self,
        state: JobState,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<JobInfo>, QueueError> {
        self.broker
            .list(&ListRequest::new(state).after(after).limit(limit))
    }

    /// Returns up to `limit` dead letters.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn dead(&self, limit: usize) -> Result<Vec<JobInfo>, QueueError> {
        self.list(JobState::Dead, None, limit)
    }

    /// Makes a dead job ready again, as if it had never been tried. Returns whether it did: there was one, and no other
    /// job has its unique key by now.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn retry_dead(&self, id: JobId) -> Result<bool, QueueError> {
        self.broker.retry_dead(id)
    }

    /// Deletes a dead letter, or a kept result. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn delete(&self, id: JobId) -> Result<bool, QueueError> {
        self.broker.delete(id)
    }

    /// Removes all jobs that wait (ready, delayed or parked) at the start of the call. Returns how many.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn purge(&self) -> Result<u64, QueueError> {
        self.broker.purge(&JobState::WAITING)
    }

    /// Writes the queue's whole file to a new one, while the queue is in use. See `SqliteBroker::backup`.
    ///
    /// # Errors
    ///
    /// If the queue is not in an `SQLite` file, if `path` exists already, or if it cannot be written.
    pub fn backup(&self, path: impl AsRef<Path>) -> Result<(), QueueError> {
        #[cfg(feature = "sqlite")]
        if let Some(sqlite) = &self.sqlite {
            return sqlite.backup(path);
        }
        let _ = path;
        Err(QueueError::Unsupported {
            what: "backups",
            broker: self.broker.capabilities().name,
        })
    }
}
