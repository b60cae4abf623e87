//! How an address becomes a queue: a table of schemes and their openers. The engines of this crate are in it; those of
//! other crates are added by the program.

use crate::address::without_password;
use crate::error::QueueError;
use crate::queue::Queue;
#[cfg(feature = "sqlite")]
use crate::{Clock, SqliteBroker};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Opens the queues of one engine by their addresses.
///
/// A function or closure `Fn(&str) -> Result<Queue, QueueError>` is an opener that cannot open read-only. (A closure must name
/// the type of its parameter: `|address: &str| …`.)
pub trait Opener: Send + Sync + 'static {
    /// Opens the queue at an address, and creates it if the engine does so. The address is complete, with its scheme.
    ///
    /// # Errors
    ///
    /// [`QueueError::Address`] if the address is wrong, or any error of the broker.
    fn open(&self, address: &str) -> Result<Queue, QueueError>;

    /// Opens an existing queue, so that each change of it is a [`QueueError::ReadOnly`].
    ///
    /// # Errors
    ///
    /// As [`open`](Opener::open). By default always: the engine cannot do this.
    fn open_read_only(&self, address: &str) -> Result<Queue, QueueError> {
        let why = "the engine of this scheme cannot open a queue read-only";
        Err(QueueError::address(&without_password(address), why))
    }
}

impl<F> Opener for F
where
    F: Fn(&str) -> Result<Queue, QueueError> + Send + Sync + 'static,
{
    fn open(&self, address: &str) -> Result<Queue, QueueError> {
        self(address)
    }
}

/// Opens queues by their addresses: a table of schemes, each with an [`Opener`].
///
/// [`Openers::new`] knows the engines of this crate, `memory` and, with the feature of that name, `sqlite`. A program adds
/// others:
///
/// ```
/// use anthill_jobs::{Openers, Queue, QueueError};
///
/// # mod anthill_postgres {
/// #     pub fn open(_: &str) -> Result<anthill_jobs::Queue, anthill_jobs::QueueError> {
/// #         Ok(anthill_jobs::Queue::memory())
/// #     }
/// # }
/// fn openers() -> Openers {
///     Openers::new().with("postgres", anthill_postgres::open)
/// }
///
/// let queue = openers().open("postgres://localhost/jobs")?;
/// let unknown = openers().open("redis://localhost").unwrap_err();
/// assert!(unknown.to_string().contains("postgres"), "it lists the schemes that are known");
/// # Ok::<(), QueueError>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Openers(BTreeMap<String, Arc<dyn Opener>>);

impl Openers {
    /// Makes a table of the engines in this crate.
    pub fn new() -> Openers {
        let openers = Openers(BTreeMap::new()).with("memory", Memory);
        #[cfg(feature = "sqlite")]
        let openers = openers.with("sqlite", Sqlite);
        openers
    }

    /// Adds the opener of a scheme: the part of an address before the first colon.
    ///
    /// # Panics
    ///
    /// If the scheme has an opener already, or is not a scheme: two or more lower-case letters, digits, `+`, `-` or `.`,
    /// of which the first is a letter. (One letter would be a drive of Windows.)
    pub fn with(mut self, scheme: &str, opener: impl Opener) -> Openers {
        assert!(is_scheme(scheme), "{scheme:?} is not a scheme");
        let before = self.0.insert(scheme.to_owned(), Arc::new(opener));
        assert!(before.is_none(), "two openers for the scheme {scheme:?}");
        self
    }

    /// Opens the queue at an address; its engine decides whether that creates it.
    ///
    /// # Errors
    ///
    /// [`QueueError::Address`] if the address has no known scheme, or is wrong; or any error of the broker.
    pub fn open(&self, address: &str) -> Result<Queue, QueueError> {
        self.find(address)?.open(address)
    }

    /// Opens an existing queue, so that each change of it is a [`QueueError::ReadOnly`].
    ///
    /// # Errors
    ///
    /// As [`open`](Openers::open); also if there is no such queue, or its engine cannot do this.
    pub fn open_read_only(&self, address: &str) -> Result<Queue, QueueError> {
        self.find(address)?.open_read_only(address)
    }

    fn find(&self, address: &str) -> Result<&dyn Opener, QueueError> {
        let refuse = |why: String| Err(QueueError::address(&without_password(address), why));
        let known = || {
            self.0
                .keys()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let Some((scheme, _)) = address.split_once(':') else {
            return refuse(format!("it has no scheme; known schemes: {}", known()));
        };
        if let Some(opener) = self.0.get(scheme) {
            return Ok(&**opener);
        }
        if cfg!(not(feature = "sqlite")) && scheme == "sqlite" {
            return refuse(
                "this program was built without the feature `sqlite` of anthill-jobs".to_owned(),
            );
        }
        refuse(format!(
            "unknown scheme {scheme:?}; known schemes: {}",
            known()
        ))
    }
}

impl Default for Openers {
    fn default() -> Openers {
        Openers::new()
    }
}

impl fmt::Debug for Openers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Openers").field(&self.0.keys()).finish()
    }
}

impl Queue {
    /// Opens the queue at an address:
    ///
    /// | address | |
    /// |---|---|
    /// | `memory:` | a new queue in the memory of this process |
    /// | `sqlite:FILE`, `sqlite:FILE?queue=NAME` | in a file, which is created if it does not exist; the default name is `default` |
    ///
    /// Both are taken literally: nothing is decoded, so a file name cannot contain `?`, and a queue name none of `?`, `&`,
    /// `=` and `%`. `SqliteBroker::open` takes any name. [`Openers`] opens the queues of other engines, too.
    ///
    /// # Errors
    ///
    /// [`QueueError::Address`] if the address is wrong, or its scheme is not one of these; or any error of the broker.
    pub fn open(address: &str) -> Result<Queue, QueueError> {
        Openers::new().open(address)
    }

    /// Opens an existing queue, so that each change of it is a [`QueueError::ReadOnly`]. That needs no permission to write:
    /// see `SqliteBroker::open_read_only`.
    ///
    /// # Errors
    ///
    /// As [`open`](Queue::open); also if there is no such queue, or it is in memory.
    pub fn open_read_only(address: &str) -> Result<Queue, QueueError> {
        Openers::new().open_read_only(address)
    }
}

fn is_scheme(text: &str) -> bool {
    let is_of_scheme = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(is_of_scheme)
}

struct Memory;

impl Opener for Memory {
    fn open(&self, address: &str) -> Result<Queue, QueueError> {
        if address == "memory:" {
            Ok(Queue::memory())
        } else {
            Err(QueueError::address(
                address,
                "a queue in memory has no name",
            ))
        }
    }

    fn open_read_only(&self, address: &str) -> Result<Queue, QueueError> {
        let why = "a queue in memory is visible only to the handles of the process that made it";
        Err(QueueError::address(address, why))
    }
}

#[cfg(feature = "sqlite")]
struct Sqlite;

#[cfg(feature = "sqlite")]
impl Opener for Sqlite {
    fn open(&self, address: &str) -> Result<Queue, QueueError> {
        let (file, name) = sqlite_parts(address)?;
        let broker = SqliteBroker::open(file, name, Clock::system())?;
        Ok(Queue::of(broker))
    }

    fn open_read_only(&self, address: &str) -> Result<Queue, QueueError> {
        let (file, name) = sqlite_parts(address)?;
        let broker = SqliteBroker::open_read_only(file, name, Clock::system())?;
        Ok(Queue::of(broker))
    }
}

/// The file and the queue's name.
#[cfg(feature = "sqlite")]
fn sqlite_parts(address: &str) -> Result<(&str, &str), QueueError> {
    let refuse = |why: &str| Err(QueueError::address(address, why));
    let rest = address.split_once(':').map_or("", |(_, rest)| rest);
    let (file, query) = match rest.split_once('?') {
        None => (rest, None),
        Some((file, query)) => (file, Some(query)),
    };
    if file.is_empty() {
        return refuse("it names no file");
    }
    let Some(query) = query else {
        return Ok((file, "default"));
    };
    let Some(name) = query.strip_prefix("queue=") else {
        return refuse(
            "only ?queue=NAME may follow the file (SqliteBroker::open opens a file with ? in its name)",
        );
    };
    match name.find(['?', '&', '=', '%']) {
        None if name.is_empty() => refuse("?queue= has no name"),
        None => Ok((file, name)),
        Some(_) => refuse(
            "only one ?queue=NAME may follow the file, and the name, which is taken literally, may contain none of \
             ? & = %",
        ),
    }
}
