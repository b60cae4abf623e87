//! The options of a job before it is enqueued.

use crate::broker::Enqueued;
use crate::error::EnqueueError;
use crate::id::JobId;
use crate::job::{Job, NewJob, OncePer};
use crate::queue::Queue;
use std::fmt;
use std::time::Duration;

impl Queue {
    /// Makes a draft of a job, to set its options before it is enqueued.
    ///
    /// ```
    /// # use anthill_jobs::{Job, Queue};
    /// # use std::time::Duration;
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Remind { user: u32 }
    /// # impl Job for Remind { const KIND: &'static str = "remind"; }
    /// # let queue = Queue::memory();
    /// queue
    ///     .job(Remind { user: 7 })
    ///     .delay(Duration::from_secs(3600))
    ///     .unique("remind 7") // one at a time
    ///     .retries(5)
    ///     .enqueue()?;
    /// # assert_eq!(queue.stats()?.delayed, 1);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn job<J: Job>(&self, job: J) -> Draft<'_, J> {
        Draft {
            queue: self,
            job,
            options: NewJob::new(J::KIND, Vec::new()),
        }
    }
}

/// A job that is not enqueued yet, with its options. Made by [`Queue::job`].
///
/// ```
/// use anthill_jobs::{Enqueued, Job, Queue};
/// use std::time::Duration;
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Reindex { shop: u32 }
/// # impl Job for Reindex { const KIND: &'static str = "reindex"; }
///
/// let queue = Queue::memory();
/// let first = queue.job(Reindex { shop: 7 }).unique("shop 7").priority(9).enqueue()?;
/// let again = queue.job(Reindex { shop: 7 }).unique("shop 7").enqueue()?;
/// assert_eq!(again, Enqueued::Duplicate(first.id()));
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[must_use = "a draft is enqueued by `enqueue`"]
pub struct Draft<'a, J> {
    queue: &'a Queue,
    job: J,
    /// Without kind and data.
    options: NewJob,
}

impl<J: Job> Draft<'_, J> {
    fn set(mut self, set: impl FnOnce(&mut NewJob)) -> Self {
        set(&mut self.options);
        self
    }

    /// Delays the job: it is not ready before so long from now.
    pub fn delay(self, delay: Duration) -> Self {
        self.set(|job| job.delay = delay)
    }

    /// Lets the job expire: it is removed if it still waits so long from now, also to be tried again. A job that runs then
    /// is left alone.
    pub fn expires(self, after: Duration) -> Self {
        self.set(|job| job.expires = Some(after))
    }

    /// Sets the priority: higher numbers go first. The default is 0.
    pub fn priority(self, priority: i16) -> Self {
        self.set(|job| job.priority = priority)
    }

    /// Sets how often the job is tried again after a failure. The default is 25.
    pub fn retries(self, retries: u32) -> Self {
        self.set(|job| job.attempts = retries.saturating_add(1))
    }

    /// Sets a unique key: while a job with that key is not over, another enqueue with it adds nothing, and returns the id of
    /// the one that is there.
    pub fn unique(self, key: impl Into<String>) -> Self {
        let key = key.into();
        self.set(|job| job.unique = Some(key))
    }

    /// Debounces the job: [`unique`](Draft::unique), with a delay that starts anew with each enqueue.
    ///
    /// An enqueue that finds a job with that key waiting gives it the new data, makes it due `delay` from now, and adds
    /// nothing. So of a burst of enqueues the last one runs, that long after it. An enqueue that finds the job running
    /// adds another one.
    pub fn debounce(self, key: impl Into<String>, delay: Duration) -> Self {
        let key = key.into();
        self.set(|job| {
            job.unique = Some(key);
            job.delay = delay;
            job.debounce = true;
        })
    }

    /// Enqueues at most one job with that key within a period, whether or not it is over by then. Together with
    /// [`unique`](Draft::unique) either key makes a job a duplicate.
    pub fn once_per(self, key: impl Into<String>, period: Duration) -> Self {
        let key = key.into();
        self.set(|job| job.once_per = Some(OncePer { key, period }))
    }

    /// Sets the key for [`Limits::per_key`](crate::Limits::per_key), which limits how many jobs with the same key run at
    /// once.
    pub fn key(self, key: impl Into<String>) -> Self {
        let key = key.into();
        self.set(|job| job.key = Some(key))
    }

    /// Keeps the job's result for so long after it is done; see [`Queue::result`].
    pub fn keep_result(self, time: Duration) -> Self {
        self.set(|job| job.keep_result = Some(time))
    }

    /// Sets a header: a text beside the data, such as a trace context, which consumers and operators see, and which stays
    /// with the job when it is tried again or moved. Another text of the same name is replaced.
    ///
    /// The broker must have [`Capability::Headers`](crate::Capability::Headers).
    pub fn header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        self.set(|job| {
            job.headers.insert(name, value);
        })
    }

    /// Sets the id. If a job with that id, or its result, is stored already, nothing is added.
    pub fn id(self, id: JobId) -> Self {
        self.set(|job| job.id = id)
    }

    /// Enqueues the job. Returns whether it was added, or is a duplicate.
    ///
    /// # Errors
    ///
    /// As [`Queue::enqueue`]: the job comes back.
    pub fn enqueue(self) -> Result<Enqueued, EnqueueError<J>> {
        let Draft {
            queue,
            job,
            options,
        } = self;
        let set = |new: &mut NewJob| {
            let payload = std::mem::take(&mut new.payload);
            let kind = std::mem::take(&mut new.kind);
            *new = NewJob {
                kind,
                payload,
                ..options
            };
        };
        let enqueued = queue.enqueue_one(&job, set);
        enqueued.map_err(|reason| EnqueueError::new(reason, job))
    }
}

impl<J> fmt::Debug for Draft<'_, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Draft").field(&self.options).finish()
    }
}
