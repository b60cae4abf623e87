//! Who handles which kind of job, and how a job ends by what its handler says.

use super::context::Context;
use crate::backoff::Backoff;
use crate::broker::{Claimed, Settle};
use crate::error::{JobError, Then};
use crate::job::{Job, JobId, QuickHash, stored_kind};
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

/// What a handler makes of a job's data: its result, as JSON.
type Handle = Box<dyn Fn(&[u8], &Context) -> Result<Vec<u8>, JobError> + Send + Sync>;

/// The same for several jobs at once.
type HandleAll = Box<dyn Fn(&[&[u8]], &[Context]) -> Vec<Result<Vec<u8>, Failure>> + Send + Sync>;

/// An error of more bytes is cut.
const ERROR_LIMIT: usize = 16 << 10;
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
    /// Its handler handed it back.
    HandedBack {
        /// How long it ran.
        took: Duration,
    },
}

pub(super) struct Kind {
    /// [`Job::KIND`].
    pub(super) name: &'static str,
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
    kinds: Vec<Kind>,
    /// By the names under which they are stored: which kind, in which version.
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
        // Those that no job uses now. The newest goes first: as many stay as run at once.
        let unused: Mutex<Vec<S>> = Mutex::default();
        self.add(move |job: J, context: &Context| {
            let state = lock(&unused).pop();
            let mut state = state.map_or_else(&make, Ok)?;
            // One that a panic went through is dropped with it.
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
        most: usize,
        handler: impl Fn(Vec<J>, &[Context]) -> Vec<Result<(), JobError>> + Send + Sync + 'static,
    ) {
        let handle: HandleAll = Box::new(move |payloads, contexts| {
            let decoded = payloads
                .iter()
                .zip(contexts)
                .map(|(payload, context)| caught(|| decode::<J>(payload, context)));
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
        self.insert::<J>(Handler::All { most, handle });
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
            assert!(
                before.is_none(),
                "two handlers for jobs of the kind {kind:?}"
            );
        }
    }

    /// The names under which the kinds are stored that have a handler.
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
        kind.unwrap_or_else(|| panic!("no handler yet for jobs of the kind {:?}", J::KIND))
    }

    pub(super) fn find(&self, stored: &str) -> Option<&Kind> {
        self.number(stored).map(|number| &self.kinds[number])
    }

    /// What is the same for all versions of a kind.
    pub(super) fn number(&self, stored: &str) -> Option<usize> {
        self.stored.get(stored).map(|&(number, _)| number)
    }

    /// The kind that is stored under this name, and its version.
    pub(super) fn kind_and_version(&self, stored: &str) -> Option<(&'static str, u32)> {
        let &(number, version) = self.stored.get(stored)?;
        Some((self.kinds[number].name, version))
    }

    /// Whether some kind may not run for ever.
    pub(super) fn have_limits(&self) -> bool {
        self.kinds.iter().any(|kind| kind.run_time.is_some())
    }

    /// The most jobs that some handler takes at once.
    pub(super) fn most_at_once(&self) -> usize {
        let most = self.kinds.iter().map(|kind| match kind.handler {
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
        context: &Context,
        took: Duration,
    ) -> (Settle, Ended) {
        let failure = match end {
            Ok(result) => return (Settle::Done { result }, Ended::Done { took }),
            Err(failure) => failure,
        };
        let error = shortened(failure.text);
        let backoff = self.find(&claimed.kind).and_then(|kind| kind.backoff);
        let backoff = backoff.unwrap_or(self.backoff);
        let interrupted = failure.then == Then::Retry && !failure.is_panic && context.heeds_stop();
        let delay = match failure.then {
            _ if interrupted => {
                let delay = Duration::ZERO;
                return (Settle::Release { delay }, Ended::HandedBack { took });
            }
            Then::HandBack => {
                // Else it would be claimed again at once, and handed back.
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
fn decode<J: Job>(payload: &[u8], context: &Context) -> Result<J, JobError> {
    J::read(context.version(), payload)
        .map_err(|error| JobError::fatal(format!("it cannot be read as {:?}: {error}", J::KIND)))
}

/// As JSON, if it is to be kept.
fn encode<R: Serialize>(result: &R, context: &Context) -> Result<Vec<u8>, JobError> {
    if !context.keeps_result() {
        return Ok(b"null".to_vec());
    }
    let most = context.data_limit();
    let mut encoded = Bounded {
        bytes: Vec::new(),
        most,
        is_full: false,
    };
    match serde_json::to_writer(&mut encoded, result) {
        Ok(()) => Ok(encoded.bytes),
        Err(_) if encoded.is_full => {
            let why = format!("its result is larger than {most} bytes, which are the most");
            Err(JobError::fatal(why))
        }
        Err(error) => {
            let why = format!("its result cannot be written as JSON: {error}");
            Err(JobError::fatal(why))
        }
    }
}

/// So that what is too large is never there as a whole.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
    is_full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
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

/// Why an attempt failed, apart from what is a user's.
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

/// A panic is an error like another, also one of the error itself when it is asked what it says, or dropped.
pub(super) fn caught<T>(call: impl FnOnce() -> Result<T, JobError>) -> Result<T, Failure> {
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
