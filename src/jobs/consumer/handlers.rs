//! Who handles which kind of job, and how a job ends by what its handler says.

use super::context::Context;
use crate::jobs::backoff::Backoff;
use crate::jobs::broker::{Claimed, Settle};
use crate::jobs::error::{JobError, Then};
use crate::jobs::job::{Job, JobId, QuickHash};
use crate::panic::{drop_quietly, message_of};
use serde::Serialize;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// What a handler makes of a job's data: its result, as JSON.
type Handle = Box<dyn Fn(&[u8], &Context) -> Result<Vec<u8>, JobError> + Send + Sync>;

/// The same for several jobs at once.
type HandleAll = Box<dyn Fn(&[&[u8]], &[Context]) -> Vec<Result<Vec<u8>, Failure>> + Send + Sync>;
type Fallback = Box<dyn Fn(&FailedJob<'_>) -> Result<(), JobError> + Send + Sync>;
type Before = Box<dyn Fn(&Context) + Send + Sync>;
type After = Box<dyn Fn(&Context, &Ended) + Send + Sync>;

/// A job that will not be tried again, for the fallback handler.
#[derive(Debug)]
#[non_exhaustive]
pub struct FailedJob<'a> {
    /// Its name.
    pub id: JobId,
    /// Its kind.
    pub kind: &'a str,
    /// Its data, as JSON.
    pub payload: &'a [u8],
    /// Why it failed the last time.
    pub error: &'a str,
    /// How often it was tried.
    pub attempts: u32,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// The job is done.
    Done {
        /// How long it ran.
        took: Duration,
    },
    /// It is tried again.
    Retried {
        /// How long it ran.
        took: Duration,
        /// How long it waits now.
        delay: Duration,
        /// Why.
        error: String,
    },
    /// It is never tried again.
    Died {
        /// How long it ran.
        took: Duration,
        /// Why.
        error: String,
    },
}

pub(super) struct Kind {
    pub(super) handler: Handler,
    /// After which the job is given to another.
    pub(super) run_time: Option<Duration>,
    pub(super) backoff: Option<Backoff>,
}

pub(super) enum Handler {
    One(Handle),
    All { most: usize, handle: HandleAll },
}

#[derive(Default)]
pub(super) struct Handlers {
    kinds: HashMap<&'static str, Kind, QuickHash>,
    pub(super) backoff: Backoff,
    pub(super) fallback: Option<Fallback>,
    pub(super) before: Vec<Before>,
    pub(super) after: Vec<After>,
}

impl Handlers {
    /// # Panics
    ///
    /// If the kind has a handler.
    pub(super) fn add<J, R>(
        &mut self,
        handler: impl Fn(J, &Context) -> Result<R, JobError> + Send + Sync + 'static,
    ) where
        J: Job,
        R: Serialize,
    {
        let handle: Handle =
            Box::new(move |payload, context| encode(&handler(decode(payload)?, context)?));
        self.insert(J::KIND, Handler::One(handle));
    }

    /// # Panics
    ///
    /// As [`add`](Handlers::add).
    pub(super) fn add_all<J: Job>(
        &mut self,
        most: usize,
        handler: impl Fn(Vec<J>, &[Context]) -> Vec<Result<(), JobError>> + Send + Sync + 'static,
    ) {
        let handle: HandleAll = Box::new(move |payloads, contexts| {
            let decoded = payloads
                .iter()
                .map(|payload| caught(|| decode::<J>(payload)));
            let (mut jobs, mut known, mut ends) = (Vec::new(), Vec::new(), Vec::new());
            for (decoded, context) in decoded.zip(contexts) {
                match decoded {
                    Ok(job) => {
                        jobs.push(job);
                        known.push(context.clone());
                        ends.push(None);
                    }
                    Err(failure) => ends.push(Some(failure)),
                }
            }
            // The others are handled without those that cannot be read.
            let mut told = if jobs.is_empty() {
                Vec::new()
            } else {
                handle_all(&handler, jobs, &known)
            }
            .into_iter();
            let end = |unread: Option<Failure>| match unread {
                Some(failure) => Err(failure),
                None => told
                    .next()
                    .unwrap_or_else(|| Err(Failure::of("its end was not told".to_owned()))),
            };
            ends.into_iter().map(end).collect()
        });
        let most = most.max(1);
        self.insert(J::KIND, Handler::All { most, handle });
    }

    fn insert(&mut self, kind: &'static str, handler: Handler) {
        let kind_of = Kind {
            handler,
            run_time: None,
            backoff: None,
        };
        let before = self.kinds.insert(kind, kind_of);
        assert!(
            before.is_none(),
            "two handlers for jobs of the kind {kind:?}"
        );
    }

    /// # Panics
    ///
    /// If the kind has no handler yet.
    pub(super) fn kind_of<J: Job>(&mut self) -> &mut Kind {
        let kind = self.kinds.get_mut(J::KIND);
        kind.unwrap_or_else(|| panic!("no handler yet for jobs of the kind {:?}", J::KIND))
    }

    pub(super) fn find(&self, kind: &str) -> Option<&Kind> {
        self.kinds.get(kind)
    }

    /// Whether some kind may not run for ever.
    pub(super) fn have_limits(&self) -> bool {
        self.kinds.values().any(|kind| kind.run_time.is_some())
    }

    /// The most jobs that some handler takes at once.
    pub(super) fn most_at_once(&self) -> usize {
        let most = self.kinds.values().map(|kind| match kind.handler {
            Handler::One(_) => 1,
            Handler::All { most, .. } => most,
        });
        most.max().unwrap_or(1)
    }

    /// What becomes of a job whose attempt ended so, and how that is told.
    pub(super) fn judge(
        &self,
        claimed: &Claimed,
        end: Result<Vec<u8>, Failure>,
        took: Duration,
    ) -> (Settle, Ended) {
        let failure = match end {
            Ok(result) => return (Settle::Done { result }, Ended::Done { took }),
            Err(failure) => failure,
        };
        let error = failure.text;
        let backoff = self.find(&claimed.kind).and_then(|kind| kind.backoff);
        let delay = match failure.then {
            Then::Die => None,
            Then::RetryIn(delay) => Some(delay),
            Then::Retry => Some(backoff.unwrap_or(self.backoff).after(claimed.attempt)),
        };
        if let Some(delay) = delay.filter(|_| claimed.attempt < claimed.attempts) {
            let retried = Ended::Retried {
                took,
                delay,
                error: error.clone(),
            };
            return (Settle::Retry { delay, error }, retried);
        }
        self.give_up(claimed, error, took)
    }

    /// The fallback handler may still take care of it.
    fn give_up(&self, claimed: &Claimed, error: String, took: Duration) -> (Settle, Ended) {
        let mut error = error;
        if let Some(fallback) = &self.fallback {
            let failed = FailedJob {
                id: claimed.lease.id,
                kind: &claimed.kind,
                payload: &claimed.payload,
                error: &error,
                attempts: claimed.attempt,
            };
            match caught(|| fallback(&failed)) {
                Ok(()) => {
                    let result = b"null".to_vec();
                    return (Settle::Done { result }, Ended::Died { took, error });
                }
                Err(second) => error = format!("{error}; then the fallback: {}", second.text),
            }
        }
        let died = Ended::Died {
            took,
            error: error.clone(),
        };
        (Settle::Dead { error }, died)
    }
}

fn handle_all<J>(
    handler: impl Fn(Vec<J>, &[Context]) -> Vec<Result<(), JobError>>,
    jobs: Vec<J>,
    contexts: &[Context],
) -> Vec<Result<Vec<u8>, Failure>> {
    let all = contexts.len();
    let ends = caught(|| Ok(handler(jobs, contexts))).and_then(|ends| {
        if ends.len() == all {
            return Ok(ends);
        }
        let why = format!("its handler told the end of {} jobs of {all}", ends.len());
        Err(Failure::of(why))
    });
    match ends {
        Ok(ends) => {
            let each = ends.into_iter().map(|end| caught(|| end));
            each.map(|end| end.map(|()| b"null".to_vec())).collect()
        }
        Err(failure) => vec![Err(failure); all],
    }
}

/// What is no such job now will never be one.
fn decode<J: Job>(payload: &[u8]) -> Result<J, JobError> {
    let decoded = serde_json::from_slice(payload);
    decoded.map_err(|error| JobError::fatal(format!("it cannot be read as {:?}: {error}", J::KIND)))
}

fn encode<R: Serialize>(result: &R) -> Result<Vec<u8>, JobError> {
    let encoded = serde_json::to_vec(result);
    encoded
        .map_err(|error| JobError::fatal(format!("its result cannot be written as JSON: {error}")))
}

/// Why an attempt failed, apart from what is a user's.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) then: Then,
    pub(super) text: String,
}

impl Failure {
    pub(super) fn of(text: String) -> Failure {
        let then = Then::Retry;
        Failure { then, text }
    }
}

/// A panic is an error like another, also one of the error itself when it is asked what it says, or dropped.
pub(super) fn caught<T>(call: impl FnOnce() -> Result<T, JobError>) -> Result<T, Failure> {
    let call = || {
        call().map_err(|error| Failure {
            then: error.then,
            text: error.text(),
        })
    };
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        let message = message_of(&*payload).unwrap_or("no message");
        let failure = Failure::of(format!("it panicked: {message}"));
        drop_quietly(payload);
        Err(failure)
    })
}
