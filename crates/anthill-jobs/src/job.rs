//! What a job is before it is stored: its kind, its data, and when and how often it may run.

use super::error::QueueError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::str::FromStr;
use std::time::Duration;
use uuid::Uuid;

/// The data of a job. It names no handler: who enqueues needs not know who runs it.
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
    /// The name under which a handler is found. It is stored with each job, so it must not change while there
    /// are any.
    const KIND: &'static str;

    /// Counts the changes of the data that readers of the version before cannot read. It is stored with the kind (as
    /// `KIND@VERSION`, from version 1 on), and a consumer claims only versions up to the one that it knows: while a
    /// deploy rolls, jobs of the new version wait for a consumer that knows it.
    const VERSION: u32 = 0;

    /// Reads the data of a job of that version, at most [`VERSION`](Job::VERSION). By itself it reads all versions alike,
    /// which is right where a change added fields that have a default.
    ///
    /// # Errors
    ///
    /// If it is no such data: the job goes to the dead letters, with the reason.
    fn read(version: u32, payload: &[u8]) -> Result<Self, serde_json::Error> {
        let _ = version;
        serde_json::from_slice(payload)
    }
}

/// Under which a kind is stored, and found.
pub(crate) fn stored_kind(kind: &'static str, version: u32) -> Cow<'static, str> {
    match version {
        0 => Cow::Borrowed(kind),
        version => Cow::Owned(format!("{kind}@{version}")),
    }
}

/// Names a job, in all queues and on all machines; made by who enqueues it, so that an enqueue that is repeated
/// because its answer was lost adds nothing.
///
/// Ids of one process sort as they were made. Displayed and parsed as a UUID (version 7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(Uuid);

impl JobId {
    /// A new one.
    #[must_use]
    pub fn new() -> JobId {
        JobId(Uuid::now_v7())
    }

    /// Its sixteen bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id with these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> JobId {
        JobId(Uuid::from_bytes(bytes))
    }
}

impl Default for JobId {
    fn default() -> JobId {
        JobId::new()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Hashes ids, of which most is chance already, and kinds, which are few and the program's own.
pub(crate) type QuickHash = BuildHasherDefault<QuickHasher>;

#[derive(Default)]
pub(crate) struct QuickHasher(u64);

impl Hasher for QuickHasher {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        // An odd number with about as many ones as zeros: the hash of a word depends on all of its bits.
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        // Tables use both ends.
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }
}

/// Text that is no [`JobId`].
#[derive(Debug)]
pub struct ParseIdError(uuid::Error);

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no job id")
    }
}

impl std::error::Error for ParseIdError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl FromStr for JobId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<JobId, ParseIdError> {
        text.parse().map(JobId).map_err(ParseIdError)
    }
}

/// Keeps jobs that mean the same from being enqueued twice within a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OncePer {
    /// What they have in common.
    pub key: String,
    /// The key is free again when so much time has passed since the enqueue, and not before.
    pub period: Duration,
}

/// A job as a [`Broker`](super::Broker) gets it. All times count from the enqueue, by the broker's clock.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Its name.
    pub id: JobId,
    /// [`Job::KIND`].
    pub kind: Cow<'static, str>,
    /// The data, as JSON.
    pub payload: Vec<u8>,
    /// Those with more come first; 0 unless told.
    pub priority: i16,
    /// Not to run before.
    pub delay: Duration,
    /// Not to start after: a job that waits then is taken away, whether or not it was tried before. One that is
    /// [retried by hand](super::Broker::retry_dead) does not expire.
    pub expires: Option<Duration>,
    /// How often it may be claimed. An attempt counts from the claim, so that a job that kills its process does
    /// not do so for ever.
    pub attempts: u32,
    /// One at a time with that key, which is free again when the job is over (done, dead or taken away).
    pub unique: Option<String>,
    /// One within a time, whether or not it is over.
    pub once_per: Option<OncePer>,
    /// If another job has the [`unique`](NewJob::unique) key: where that waits it is put off, until `delay` from now,
    /// and gets the data of this one; where it runs it is left alone, and this one is added.
    pub debounce: bool,
    /// No more jobs with this key run at once than the queue's [`per_key`](super::Limits::per_key).
    pub key: Option<String>,
    /// How long its result is kept when it is done; `None`: it is not.
    pub keep_result: Option<Duration>,
}

/// How often a job is tried unless told.
pub(crate) const ATTEMPTS: u32 = 26;

impl NewJob {
    /// A job of a kind that is known at run time only.
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
        }
    }

    pub(crate) fn encode<J: Job>(job: &J) -> Result<NewJob, QueueError> {
        let payload = serde_json::to_vec(job).map_err(QueueError::Encode)?;
        // What a handler could not read is refused here, where it comes back: not a number, too deep.
        J::read(J::VERSION, &payload).map_err(QueueError::Unreadable)?;
        Ok(NewJob::new(stored_kind(J::KIND, J::VERSION), payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_as_they_are_made_and_come_back_from_text() {
        let ids: Vec<JobId> = (0..1_000).map(|_| JobId::new()).collect();
        assert!(ids.is_sorted());
        for id in ids {
            assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
            assert_eq!(JobId::from_bytes(*id.as_bytes()), id);
        }
        assert!("7".parse::<JobId>().is_err());
    }
}
