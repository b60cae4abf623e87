//! The handlers by kind, and how a job ends by what its handler returned.

use super::context::{Context, Signal};
use crate::backoff::Backoff;
use crate::broker::{Broker, Claimed, Settle};
use crate::error::{JobError, Then};
use crate::id::{JobId, QuickHash};
use crate::job::{Job, stored_kind};
use crate::panics::{drop_quietly, message_of};
use crate::sync::lock;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A handler of one job: from its data to its result, both as JSON.
type Handle = Box<dyn Fn(&[u8], &Context) -> Result<Vec<u8>, JobError> + Send + Sync>;

/// A handler of several jobs at once.
type HandleAll = Box<dyn Fn(&[&[u8]], &[Context]) -> Vec<Result<Vec<u8>, Failure>> + Send + Sync>;

/// A longer error is cut, in bytes.
const ERROR_LIMIT: usize = 16 << 10;
type Fallback = Box<dyn Fn(&FailedJob<'_>) -> Result<(), JobError> + Send + Sync>;
type Before = Box<dyn Fn(&Context) + Send + Sync>;
type After = Box<dyn Fn(&Context, &Ended) + Send + Sync>;

/// A failed job that will not be tried again, for the fallback handler.
#[derive(Debug)]
#[non_exhaustive]
pub struct FailedJob<'a> {
    /// Its id.
    pub id: JobId,
    /// Its kind.
    pub kind: &'a str,
    /// Its data, as JSON.
    pub payload: &'a [u8],
    /// Why its last attempt failed.
    pub error: &'a str,
    /// How many attempts it had.
    pub attempts: u32,
}

/// How an attempt ended, for the hooks after it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// The job is done.
    Done {
        /// How long the attempt took.
        took: Duration,
    },
    /// The job will be tried again.
    Retried {
        /// How long the attempt took.
        took: Duration,
        /// How long it waits before that.
        delay: Duration,
        /// Why the attempt failed.
        error: String,
    },
    /// The job will not be tried again.
    Died {
        /// How long the attempt took.
        took: Duration,
        /// Why the attempt failed.
        error: String,
    },
    /// The handler handed the job back.
    HandedBack {
        /// How long the attempt took.
        took: Duration,
    },
    /// The attempt failed, and the job is not tried again, because somebody has
    /// [cancelled](crate::Queue::cancel_running) it.
    Cancelled {
        /// How long the attempt took.
        took: Duration,
    },
}

pub(super) struct Kind {
    /// [`Job::KIND`].
    pub(super) name: &'static str,
    pub(super) handler: Handler,
    /// After which a job is given up.
    pub(super) run_time: Option<Duration>,
    pub(super) backoff: Option<Backoff>,
}

pub(super) enum Handler {
    One(Handle),
    All { limit: usize, handle: HandleAll },
}

#[derive(Default)]
pub(super) struct Handlers {
    kinds: Vec<Kind>,
    /// By the name under which a kind is stored: its number and version.
    stored: HashMap<Cow<'static, str>, (usize, u32), QuickHash>,
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
        let handle: Handle = Box::new(move |payload, context| {
            let result = handler(decode(payload, context)?, context)?;
            context.note_success();
            encode(&result, context)
        });
        self.insert::<J>(Handler::One(handle));
    }

    /// # Panics
    ///
    /// As [`add`](Handlers::add).
    pub(super) fn add_with<J, S, R>(
        &mut self,
        make: impl Fn() -> Result<S, JobError> + Send + Sync + 'static,
        handler: impl Fn(J, &mut S, &Context) -> Result<R, JobError> + Send + Sync + 'static,
    ) where
        J: Job,
        S: Send + 'static,
        R: Serialize,
    {
        // States that no job uses now. The newest is reused first, so there are as many as jobs ran at once.
        let unused: Mutex<Vec<S>> = Mutex::default();
        self.add(move |job: J, context: &Context| {
            let state = lock(&unused).pop();
            let mut state = state.map_or_else(&make, Ok)?;
            // A panic drops the state with it.
            let end = handler(job, &mut state, context);
            lock(&unused).push(state);
            end
        });
    }

    /// # Panics
    ///
    /// As [`add`](Handlers::add).
    pub(super) fn add_all<J: Job>(
        &mut self,
        limit: usize,
        handler: impl Fn(Vec<J>, &[Context]) -> Vec<Result<(), JobError>> + Send + Sync + 'static,
    ) {
        let handle: HandleAll = Box::new(move |payloads, contexts| {
            let decoded = payloads
                .iter()
                .zip(contexts)
                .map(|(payload, context)| catch(|| decode::<J>(payload, context)));
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
            // Jobs that can be read are handled without those that cannot.
            let mut results = if jobs.is_empty() {
                Vec::new()
            } else {
                handle_all(&handler, jobs, &known)
            }
            .into_iter();
            let end = |unread: Option<Failure>| match unread {
                Some(failure) => Err(failure),
                None => results.next().unwrap_or_else(|| {
                    Err(Failure::of(
                        "its handler returned no result for it".to_owned(),
                    ))
                }),
            };
            ends.into_iter().map(end).collect()
        });
        let limit = limit.max(1);
        self.insert::<J>(Handler::All { limit, handle });
    }

    fn insert<J: Job>(&mut self, handler: Handler) {
        let number = self.kinds.len();
        self.kinds.push(Kind {
            name: J::KIND,
            handler,
            run_time: None,
            backoff: None,
        });
        for version in 0..=J::VERSION {
            let name = stored_kind(J::KIND, version);
            let before = self.stored.insert(name, (number, version));
            let kind = J::KIND;
            assert!(before.is_none(), "two handlers for jobs of kind {kind:?}");
        }
    }

    /// The names under which the kinds with a handler are stored.
    pub(super) fn stored_kinds(&self) -> Arc<[String]> {
        let names = self.stored.keys().map(|name| name.clone().into_owned());
        names.collect::<Vec<String>>().into()
    }

    /// # Panics
    ///
    /// If the kind has no handler yet.
    pub(super) fn kind_of<J: Job>(&mut self) -> &mut Kind {
        let mut kinds = self.kinds.iter_mut();
        let kind = kinds.find(|kind| kind.name == J::KIND);
        kind.unwrap_or_else(|| panic!("no handler yet for jobs of kind {:?}", J::KIND))
    }

    pub(super) fn find(&self, stored: &str) -> Option<&Kind> {
        self.number(stored).map(|number| &self.kinds[number])
    }

    /// The number of a kind, which all its versions share.
    pub(super) fn number(&self, stored: &str) -> Option<usize> {
        self.stored.get(stored).map(|&(number, _)| number)
    }

    /// The kind stored under this name, and its version.
    fn kind_and_version(&self, stored: &str) -> Option<(&'static str, u32)> {
        let &(number, version) = self.stored.get(stored)?;
        Some((self.kinds[number].name, version))
    }

    /// What the handler of a claimed job gets.
    pub(super) fn context(
        &self,
        broker: Arc<dyn Broker>,
        data_limit: usize,
        claimed: &Claimed,
        signal: Arc<Signal>,
    ) -> Context {
        let known = self.kind_and_version(&claimed.kind);
        Context::new(broker, known, data_limit, claimed, signal)
    }

    /// Whether a kind has a run time.
    pub(super) fn have_limits(&self) -> bool {
        self.kinds.iter().any(|kind| kind.run_time.is_some())
    }

    /// The largest batch that a handler takes.
    pub(super) fn max_batch(&self) -> usize {
        let limit = self.kinds.iter().map(|kind| match kind.handler {
            Handler::One(_) => 1,
            Handler::All { limit, .. } => limit,
        });
        limit.max().unwrap_or(1)
    }

    /// How to settle a job whose attempt ended, and what the hooks get.
    pub(super) fn decide(
        &self,
        claimed: &Claimed,
        end: Result<Vec<u8>, Failure>,
        context: &Context,
        took: Duration,
    ) -> (Settle, Ended) {
        let backoff = self.find(&claimed.kind).and_then(|kind| kind.backoff);
        let backoff = backoff.unwrap_or(self.backoff);
        let failure = match end {
            // If the handler's transaction was committed, the broker does not take this.
            Ok(_) if context.is_settled_by_handler() => {
                let delay = backoff.after(claimed.attempt);
                let error =
                    "its handler returned Ok, but did not commit its transaction".to_owned();
                return (Settle::Retry { delay, error }, Ended::Done { took });
            }
            Ok(result) => return (Settle::Done { result }, Ended::Done { took }),
            Err(failure) => failure,
        };
        let error = shortened(failure.text);
        let interrupted = failure.then == Then::Retry && !failure.is_panic && context.heeds_stop();
        let delay = match failure.then {
            _ if interrupted => {
                let delay = Duration::ZERO;
                return (Settle::Release { delay }, Ended::HandedBack { took });
            }
            Then::HandBack => {
                // Without a delay it would be claimed again at once, and handed back.
                let delay = if context.is_stopping() {
                    Duration::ZERO
                } else {
                    backoff.after(1)
                };
                return (Settle::Release { delay }, Ended::HandedBack { took });
            }
            Then::Die => None,
            Then::RetryIn(delay) => Some(delay),
            Then::Retry => Some(backoff.after(claimed.attempt)),
        };
        if let Some(delay) = delay.filter(|_| claimed.attempt < claimed.attempts) {
            let ended = if context.is_cancelled() {
                Ended::Cancelled { took }
            } else {
                let error = error.clone();
                Ended::Retried { took, delay, error }
            };
            return (Settle::Retry { delay, error }, ended);
        }
        self.give_up(claimed, error, took)
    }

    /// The job will not be tried again: the fallback handler may still take care of it.
    fn give_up(&self, claimed: &Claimed, error: String, took: Duration) -> (Settle, Ended) {
        let mut error = error;
        if let Some(fallback) = &self.fallback {
            let failed = FailedJob {
                id: claimed.lease.id(),
                kind: &claimed.kind,
                payload: &claimed.payload,
                error: &error,
                attempts: claimed.attempt,
            };
            match catch(|| fallback(&failed)) {
                Ok(()) => {
                    let result = b"null".to_vec();
                    return (Settle::Done { result }, Ended::Died { took, error });
                }
                Err(second) => {
                    error = shortened(format!("{error}; then the fallback: {}", second.text));
                }
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
    let ends = catch(|| Ok(handler(jobs, contexts))).and_then(|ends| {
        if ends.len() == all {
            return Ok(ends);
        }
        let why = format!("its handler returned {} results for {all} jobs", ends.len());
        Err(Failure::of(why))
    });
    match ends {
        Ok(ends) => {
            let each = ends.into_iter().map(|end| catch(|| end));
            each.map(|end| end.map(|()| b"null".to_vec())).collect()
        }
        Err(failure) => vec![Err(failure); all],
    }
}

/// Data that cannot be read now will never be readable.
fn decode<J: Job>(payload: &[u8], context: &Context) -> Result<J, JobError> {
    J::read(context.version(), payload)
        .map_err(|error| JobError::fatal(format!("it cannot be read as {:?}: {error}", J::KIND)))
}

/// The result as JSON, if it is kept.
fn encode<R: Serialize>(result: &R, context: &Context) -> Result<Vec<u8>, JobError> {
    if !context.keeps_result() {
        return Ok(b"null".to_vec());
    }
    let limit = context.data_limit();
    let mut encoded = Bounded {
        bytes: Vec::new(),
        limit,
        is_full: false,
    };
    match serde_json::to_writer(&mut encoded, result) {
        Ok(()) => Ok(encoded.bytes),
        Err(_) if encoded.is_full => {
            let why = format!("its result exceeds the limit of {limit} bytes");
            Err(JobError::fatal(why))
        }
        Err(error) => {
            let why = format!("its result cannot be written as JSON: {error}");
            Err(JobError::fatal(why))
        }
    }
}

/// A writer with a limit, so that a result that is too large is never in memory as a whole.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    is_full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            self.is_full = true;
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > ERROR_LIMIT {
        let size = text.len();
        let end = (0..=ERROR_LIMIT)
            .rev()
            .find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or(0));
        let _ = write!(text, "… ({size} bytes in all)");
    }
    text
}

/// Why an attempt failed, without values of the user.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) then: Then,
    pub(super) text: String,
    pub(super) is_panic: bool,
}

impl Failure {
    pub(super) fn of(text: String) -> Failure {
        Failure {
            then: Then::Retry,
            text,
            is_panic: false,
        }
    }
}

/// Makes a panic a failure, also a panic of the error itself when it is formatted or dropped.
pub(super) fn catch<T>(call: impl FnOnce() -> Result<T, JobError>) -> Result<T, Failure> {
    let call = || {
        call().map_err(|error| Failure {
            then: error.then,
            text: error.text(),
            is_panic: false,
        })
    };
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        let message = message_of(&*payload).unwrap_or("no message");
        let failure = Failure::of(format!("it panicked: {message}"));
        drop_quietly(payload);
        Err(Failure {
            is_panic: true,
            ..failure
        })
    })
}
