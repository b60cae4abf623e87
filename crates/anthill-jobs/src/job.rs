//! A job before it is stored: its kind, its data, and when and how often it may run.

use crate::error::QueueError;
use crate::id::JobId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

/// A kind of job: its data, and the name under which consumers find the handler. It contains no handler, so a producer
/// links none.
///
/// ```
/// use anthill_jobs::Job;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Thumbnail {
///     path: std::path::PathBuf,
///     width: u32,
/// }
///
/// impl Job for Thumbnail {
///     const KIND: &'static str = "thumbnail";
/// }
/// ```
pub trait Job: Serialize + DeserializeOwned + Send + 'static {
    /// The name under which a consumer finds the handler. It is stored with each job, so it must not change while jobs of
    /// this kind exist.
    const KIND: &'static str;

    /// The version of the data. Raise it for each change that an older reader cannot read.
    ///
    /// It is stored with the kind (as `KIND@VERSION`, from version 1 on), and a consumer claims only versions up to its
    /// own: during a rolling deploy, jobs of the new version wait for a consumer that knows it.
    const VERSION: u32 = 0;

    /// Reads the data of a job of that version, which is at most [`VERSION`](Job::VERSION). The default reads all versions
    /// alike, which is right if the changes added fields that have a default.
    ///
    /// # Errors
    ///
    /// If the data cannot be read: the job becomes a dead letter, with the reason.
    fn read(version: u32, payload: &[u8]) -> Result<Self, serde_json::Error> {
        let _ = version;
        serde_json::from_slice(payload)
    }
}

/// The name under which a version of a kind is stored.
pub(crate) fn stored_kind(kind: &'static str, version: u32) -> Cow<'static, str> {
    match version {
        0 => Cow::Borrowed(kind),
        version => Cow::Owned(format!("{kind}@{version}")),
    }
}

/// Deduplicates jobs for a period: one job for each key within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OncePer {
    /// The key that duplicates have in common.
    pub key: String,
    /// How long the key is taken, from the enqueue on.
    pub period: Duration,
}

/// A job as a [`Broker`](crate::Broker) gets it, with its data as JSON. All durations count from the enqueue, by the
/// broker's clock.
///
/// ```
/// use anthill_jobs::{NewJob, Queue};
/// use std::time::Duration;
///
/// let queue = Queue::memory();
/// let mut job = NewJob::new("thumbnail", br#"{"path":"cat.png","width":320}"#.to_vec());
/// job.delay = Duration::from_secs(60);
/// assert!(queue.enqueue_new(&job)?.is_added());
/// # Ok::<(), anthill_jobs::QueueError>(())
/// ```
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Its id.
    pub id: JobId,
    /// Its kind, as it is stored: [`Job::KIND`], or `KIND@VERSION`.
    pub kind: Cow<'static, str>,
    /// The data, as JSON.
    pub payload: Vec<u8>,
    /// Its priority: higher numbers go first. The default is 0.
    pub priority: i16,
    /// How long it waits before it is ready.
    pub delay: Duration,
    /// When it expires: if it still waits then it is removed, whether or not it was tried before. A dead letter that is
    /// [retried](crate::broker::Admin::retry_dead) does not expire.
    pub expires: Option<Duration>,
    /// How often it may be claimed. An attempt counts from the claim, so a job that kills its process does not do so for
    /// ever.
    pub attempts: u32,
    /// Its unique key: an enqueue of another job with that key adds nothing until this one is done, dead or removed.
    pub unique: Option<String>,
    /// One job for a key within a period, whether or not it is over.
    pub once_per: Option<OncePer>,
    /// Whether it debounces: if another job has the [`unique`](NewJob::unique) key and waits, that one gets the data of
    /// this one, with its headers, and is due `delay` from now; if it runs, this one is added.
    pub debounce: bool,
    /// Its key: no more jobs with the same key run at once than the queue's [`per_key`](crate::Limits::per_key) limit.
    pub key: Option<String>,
    /// How long its result is kept when it is done; `None` keeps none.
    pub keep_result: Option<Duration>,
    /// Texts by name beside the data, which consumers see: a trace context, for example.
    pub headers: BTreeMap<String, String>,
}

/// The default of [`NewJob::attempts`].
pub(crate) const ATTEMPTS: u32 = 26;

impl NewJob {
    /// Makes a job whose kind is known only at run time. The payload is JSON.
    pub fn new(kind: impl Into<Cow<'static, str>>, payload: Vec<u8>) -> NewJob {
        NewJob {
            id: JobId::new(),
            kind: kind.into(),
            payload,
            priority: 0,
            delay: Duration::ZERO,
            expires: None,
            attempts: ATTEMPTS,
            unique: None,
            once_per: None,
            debounce: false,
            key: None,
            keep_result: None,
            headers: BTreeMap::new(),
        }
    }

    pub(crate) fn encode<J: Job>(job: &J) -> Result<NewJob, QueueError> {
        let payload = serde_json::to_vec(job).map_err(QueueError::Encode)?;
        // Data that no handler could read (NaN, nesting that is too deep) is refused here, where the caller gets it back.
        J::read(J::VERSION, &payload).map_err(QueueError::Unreadable)?;
        Ok(NewJob::new(stored_kind(J::KIND, J::VERSION), payload))
    }
}
