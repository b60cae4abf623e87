//! What can be said of a job before it is enqueued.

use super::broker::Enqueued;
use super::error::EnqueueError;
use super::job::{Job, JobId, NewJob, OncePer};
use super::queue::Queue;
use std::fmt;
use std::time::Duration;

/// A job that is not enqueued yet, made by [`Queue::job`].
#[must_use = "a draft is enqueued by `enqueue`"]
pub struct Draft<'a, J> {
    pub(super) queue: &'a Queue,
    pub(super) job: J,
    /// Without the data.
    pub(super) told: NewJob,
}

impl<J: Job> Draft<'_, J> {
    fn tell(mut self, tell: impl FnOnce(&mut NewJob)) -> Self {
        tell(&mut self.told);
        self
    }

    /// Not before so long from now.
    pub fn delay(self, delay: Duration) -> Self {
        self.tell(|job| job.delay = delay)
    }

    /// Taken away if it waits so long from now, also if that is to be tried again; what runs then is left alone.
    pub fn expires(self, after: Duration) -> Self {
        self.tell(|job| job.expires = Some(after))
    }

    /// Those with more come first; 0 unless told.
    pub fn priority(self, priority: i16) -> Self {
        self.tell(|job| job.priority = priority)
    }

    /// How often it is tried again after it failed; 25 times unless told.
    pub fn retries(self, retries: u32) -> Self {
        self.tell(|job| job.attempts = retries.saturating_add(1))
    }

    /// Not beside another job with that key, which is free again when the job is over: an enqueue meanwhile adds
    /// nothing, and returns the id of the one that is there.
    pub fn unique(self, key: impl Into<String>) -> Self {
        let key = key.into();
        self.tell(|job| job.unique = Some(key))
    }

    /// As [`unique`](Draft::unique), with a delay that starts anew with each enqueue: one that finds a job with that
    /// key waiting puts it off until `delay` from now, gives it its own data, and adds nothing. So of a burst of
    /// enqueues the last one runs, so long after it. One that finds it running adds a job.
    pub fn debounce(self, key: impl Into<String>, delay: Duration) -> Self {
        let key = key.into();
        self.tell(|job| {
            job.unique = Some(key);
            job.delay = delay;
            job.debounce = true;
        })
    }

    /// Not within so long after another job with that key was enqueued, whether or not that is over. May be told
    /// together with [`unique`](Draft::unique): then either keeps it out.
    pub fn once_per(self, key: impl Into<String>, period: Duration) -> Self {
        let key = key.into();
        self.tell(|job| job.once_per = Some(OncePer { key, period }))
    }

    /// Jobs with the same key are bounded together, by [`Limits::per_key`](super::Limits::per_key).
    pub fn key(self, key: impl Into<String>) -> Self {
        let key = key.into();
        self.tell(|job| job.key = Some(key))
    }

    /// Keeps what its handler returns for so long after it is done; see [`Queue::result`].
    pub fn keep_result(self, time: Duration) -> Self {
        self.tell(|job| job.keep_result = Some(time))
    }

    /// With this id: if a job with it is there already, or its result, nothing is added.
    pub fn id(self, id: JobId) -> Self {
        self.tell(|job| job.id = id)
    }

    /// Enqueues it; what became of it.
    ///
    /// # Errors
    ///
    /// As [`Queue::enqueue`]: the job comes back.
    pub fn enqueue(self) -> Result<Enqueued, EnqueueError<J>> {
        let Draft { queue, job, told } = self;
        let tell = |new: &mut NewJob| {
            let payload = std::mem::take(&mut new.payload);
            let kind = std::mem::take(&mut new.kind);
            *new = NewJob {
                kind,
                payload,
                ..told
            };
        };
        let enqueued = queue.enqueue_one(&job, tell);
        enqueued.map_err(|reason| EnqueueError::new(reason, job))
    }
}

impl<J> fmt::Debug for Draft<'_, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Draft").field(&self.told).finish()
    }
}
