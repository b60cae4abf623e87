//! Why a task has no result.

use crate::panic::{drop_quietly, message_of};
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Why a [`JoinHandle`](crate::JoinHandle) has no result.
///
/// ```
/// let pool = anthill::Pool::with_capacity(1);
/// let error = pool.spawn(|| panic!("out of leaves"))?.join().unwrap_err();
/// assert!(error.is_panic());
/// assert_eq!(error.to_string(), "the task panicked: out of leaves");
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct JoinError {
    kind: Kind,
}

/// Kept small: it is part of the size of every result.
enum Kind {
    Panicked(Box<Panicked>),
    Cancelled,
    Deadlock,
    Failed,
}

struct Panicked {
    message: Option<String>,
    payload: Caught,
}

/// A payload. Its drop catches a panic. It is `Sync`, since no reference to the payload leaves it.
struct Caught(Mutex<Option<Box<dyn Any + Send>>>);

impl Caught {
    fn take(&mut self) -> Option<Box<dyn Any + Send>> {
        let payload = self.0.get_mut();
        payload.unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        drop_quietly(self.take());
    }
}

impl Panicked {
    fn into_payload(mut self) -> Box<dyn Any + Send> {
        let message = || Box::new(self.message.unwrap_or_default()) as _;
        self.payload.take().unwrap_or_else(message)
    }
}

impl JoinError {
    pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> JoinError {
        let message = message_of(&*payload).map(str::to_owned);
        JoinError::of_panic(message, Some(payload))
    }

    /// A panic whose payload went to somebody else.
    pub(crate) fn heard_of(message: Option<String>) -> JoinError {
        JoinError::of_panic(message, None)
    }

    fn of_panic(message: Option<String>, payload: Option<Box<dyn Any + Send>>) -> JoinError {
        let payload = Caught(Mutex::new(payload));
        JoinError {
            kind: Kind::Panicked(Box::new(Panicked { message, payload })),
        }
    }

    pub(crate) fn cancelled() -> JoinError {
        JoinError {
            kind: Kind::Cancelled,
        }
    }

    pub(crate) fn deadlock() -> JoinError {
        JoinError {
            kind: Kind::Deadlock,
        }
    }

    pub(crate) fn failed() -> JoinError {
        JoinError { kind: Kind::Failed }
    }

    /// Returns whether the task panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.kind, Kind::Panicked(_))
    }

    /// Returns whether the task was dropped before it started: cancelled by its handle or with its group, or discarded
    /// by the pool.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.kind, Kind::Cancelled)
    }

    /// Returns whether the wait would never have ended: a task waited for itself, or for one that is suspended beneath
    /// it on the same stack.
    pub fn is_deadlock(&self) -> bool {
        matches!(self.kind, Kind::Deadlock)
    }

    /// Returns whether the task of a [`Group`](crate::Group) returned an error, which [`wait`](crate::Group::wait)
    /// reports.
    pub fn is_failed(&self) -> bool {
        matches!(self.kind, Kind::Failed)
    }

    /// Returns the panic's message if its payload was a string, as that of `panic!` is.
    pub fn message(&self) -> Option<&str> {
        match &self.kind {
            Kind::Panicked(panicked) => panicked.message.as_deref(),
            _ => None,
        }
    }

    /// Returns what the task panicked with, for example for [`resume_unwind`](std::panic::resume_unwind).
    ///
    /// # Panics
    ///
    /// Panics if the task did not panic.
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        match self.try_into_panic() {
            Ok(payload) => payload,
            Err(error) => panic!("the task did not panic: {error}"),
        }
    }

    /// Returns what the task panicked with.
    ///
    /// # Errors
    ///
    /// Returns the error itself if the task did not panic.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send>, JoinError> {
        match self.kind {
            Kind::Panicked(panicked) => Ok(panicked.into_payload()),
            kind => Err(JoinError { kind }),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Panicked(panicked) => {
                (f.debug_tuple("Panicked").field(&panicked.message)).finish()
            }
            Kind::Cancelled => f.write_str("Cancelled"),
            Kind::Deadlock => f.write_str("Deadlock"),
            Kind::Failed => f.write_str("Failed"),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Panicked(panicked) => {
                f.write_str("the task panicked")?;
                let message = panicked.message.as_deref();
                message.map_or(Ok(()), |message| write!(f, ": {message}"))
            }
            Kind::Cancelled => f.write_str("the task was cancelled before it started"),
            Kind::Deadlock => f.write_str("the task waits for itself"),
            Kind::Failed => f.write_str("the task returned an error, which its group reports"),
        }
    }
}

impl Error for JoinError {}
