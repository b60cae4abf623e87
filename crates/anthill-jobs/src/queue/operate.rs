//! What an operator does with a queue: pause, limits, counts, lists, dead letters, cancel, purge, backup.

use super::Queue;
use crate::broker::{
    Admin, Capability, ConsumerInfo, JobInfo, JobState, LimitStore, Limits, ListRequest,
    QueueStats, Retention,
};
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
        self.admin_for(Capability::ById)?.cancel(id)
    }

    /// Requests to cancel a job that runs: its handler's [stop token](crate::Context::stop_token) is set when its consumer next
    /// extends its lease, within a third of that. If the attempt then succeeds the job is done; otherwise it is removed, and
    /// not tried again. Returns whether there was such a job.
    ///
    /// # Errors
    ///
    /// If the broker fails, or lacks [`Capability::CancelRunning`].
    pub fn cancel_running(&self, id: JobId) -> Result<bool, QueueError> {
        self.admin_for(Capability::CancelRunning)?
            .cancel_running(id)
    }

    /// Makes a delayed job ready now. Returns whether the job waited.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn run_now(&self, id: JobId) -> Result<bool, QueueError> {
        let set = self
            .admin_for(Capability::ById)?
            .set_due(&[id], Duration::ZERO)?;
        Ok(set.first() == Some(&true))
    }

    /// Pauses the queue: no job starts, in any process, until [`resume`](Queue::resume).
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn pause(&self) -> Result<(), QueueError> {
        self.admin_for(Capability::Pause)?.set_paused(true)
    }

    /// Ends a pause.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn resume(&self) -> Result<(), QueueError> {
        self.admin_for(Capability::Pause)?.set_paused(false)
    }

    /// Sets the limits for all consumers and producers in all processes together.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn set_limits(&self, limits: Limits) -> Result<(), QueueError> {
        let needs = [
            (limits.running.is_some(), Capability::RunningLimit),
            (limits.per_key.is_some(), Capability::PerKey),
            (limits.rate.is_some(), Capability::Rate),
            (limits.max_ready.is_some(), Capability::MaxReady),
        ];
        for (_, capability) in needs.into_iter().filter(|&(is_needed, _)| is_needed) {
            self.capabilities().require(capability)?;
        }
        self.limit_store()?.set_limits(limits)
    }

    /// Returns the limits.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn limits(&self) -> Result<Limits, QueueError> {
        self.limit_store()?.limits()
    }

    /// Bounds the queue for all producers in all processes: an enqueue that would make more than `limit` jobs ready or
    /// parked fails with [`QueueError::Full`] and gives its jobs back. Sets [`Limits::max_ready`] and leaves the
    /// other limits as they are.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn max_ready(&self, limit: u64) -> Result<(), QueueError> {
        let limits = self.limits()?;
        self.set_limits(Limits {
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
        self.admin()?.stats()
    }

    /// Returns a job, if there is one with that id.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn get(&self, id: JobId) -> Result<Option<JobInfo>, QueueError> {
        self.admin_for(Capability::ById)?.get(id)
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
        self.admin_for(Capability::List)?
            .list(&ListRequest::new(state).after(after).limit(limit))
    }

    /// Returns the jobs that a request asks for: by state, kind and error.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn list_by(&self, request: &ListRequest) -> Result<Vec<JobInfo>, QueueError> {
        self.admin_for(Capability::List)?.list(request)
    }

    /// Returns the kinds of the ready jobs, as they are stored, in no particular order.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn ready_kinds(&self) -> Result<Vec<String>, QueueError> {
        self.admin_for(Capability::List)?.ready_kinds()
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
        self.admin_for(Capability::ById)?.retry_dead(id)
    }

    /// Deletes a dead letter, or a kept result. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn delete(&self, id: JobId) -> Result<bool, QueueError> {
        self.admin_for(Capability::ById)?.delete(id)
    }

    /// Removes all jobs that wait (ready, delayed or parked) at the start of the call. Returns how many.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn purge(&self) -> Result<u64, QueueError> {
        self.admin_for(Capability::Purge)?.purge(&JobState::WAITING)
    }

    /// Removes all jobs in these states, of which none may be `Running`, that are there at the start of the call. Returns how
    /// many.
    ///
    /// # Errors
    ///
    /// If the broker fails, or a state is `Running`.
    pub fn purge_states(&self, states: &[JobState]) -> Result<u64, QueueError> {
        self.admin_for(Capability::Purge)?.purge(states)
    }

    /// Writes the queue's whole file to a new one, while the queue is in use. See `SqliteBroker::backup`.
    ///
    /// # Errors
    ///
    /// If the queue is not in an `SQLite` file, if `path` exists already, or if it cannot be written.
    pub fn backup(&self, path: impl AsRef<Path>) -> Result<(), QueueError> {
        #[cfg(feature = "sqlite")]
        if let Some(sqlite) = self.broker_as::<crate::SqliteBroker>() {
            return sqlite.backup(path);
        }
        let _ = path;
        Err(self.capabilities().unsupported("backups"))
    }

    /// Sets for how long the queue keeps jobs that are over.
    ///
    /// # Errors
    ///
    /// If the broker fails, or lacks [`Capability::Retention`].
    pub fn set_retention(&self, retention: Retention) -> Result<(), QueueError> {
        self.admin_for(Capability::Retention)?
            .set_retention(retention)
    }

    /// Returns for how long the queue keeps jobs that are over.
    ///
    /// # Errors
    ///
    /// If the broker fails, or lacks [`Capability::Retention`].
    pub fn retention(&self) -> Result<Retention, QueueError> {
        self.admin_for(Capability::Retention)?.retention()
    }

    /// Returns the live consumers of all processes. What each runs is in [`JobInfo::consumer`] of the running jobs.
    ///
    /// # Errors
    ///
    /// If the broker fails, or lacks [`Capability::Consumers`].
    pub fn consumers(&self) -> Result<Vec<ConsumerInfo>, QueueError> {
        let capabilities = self.capabilities();
        capabilities.require(Capability::Consumers)?;
        let refused = || capabilities.unsupported(Capability::Consumers.what());
        let registry = self.broker.consumer_registry();
        registry.ok_or_else(refused)?.consumers()
    }

    /// What a broker does without claiming it is not relied on.
    fn admin_for(&self, capability: Capability) -> Result<&dyn Admin, QueueError> {
        self.capabilities().require(capability)?;
        self.admin()
    }

    pub(crate) fn admin(&self) -> Result<&dyn Admin, QueueError> {
        let refused = || self.capabilities().unsupported("operations of operators");
        self.broker.admin().ok_or_else(refused)
    }

    fn limit_store(&self) -> Result<&dyn LimitStore, QueueError> {
        let refused = || self.capabilities().unsupported("limits");
        self.broker.limit_store().ok_or_else(refused)
    }
}
