//! How the program opens a queue by its address. A command that only looks creates none: a mistyped address must not pass
//! for an empty queue.

use crate::outcome::Fallible;
use crate::{engines, sqlite_file};
use anthill_jobs::{Queue, QueueError};

/// Opens a queue and creates it if it does not exist; in a database of another program only if `in_any`.
pub(crate) fn open_or_create(address: &str, in_any: bool) -> Fallible<Queue> {
    let address = full(address)?;
    if !in_any {
        sqlite_file::refuse_foreign(&address)?;
    }
    Ok(engines::openers().open(&address)?)
}

/// Opens an existing queue.
pub(crate) fn open(address: &str) -> Fallible<Queue> {
    let address = full(address)?;
    sqlite_file::refuse_missing(&address)?;
    Ok(engines::openers().open(&address)?)
}

/// Opens an existing queue to look at it, read-only if writing is not permitted.
pub(crate) fn open_to_look(address: &str) -> Fallible<Queue> {
    let address = full(address)?;
    sqlite_file::refuse_missing(&address)?;
    let openers = engines::openers();
    match openers.open(&address) {
        Err(QueueError::ReadOnly(_)) => Ok(openers.open_read_only(&address)?),
        opened => Ok(opened?),
    }
}

/// Completes the address `to`: one that begins with `?` is in the same file as `address`.
pub(crate) fn beside(address: &str, to: &str) -> String {
    if !to.starts_with('?') {
        return to.to_owned();
    }
    let file = address.split_once('?').map_or(address, |(file, _)| file);
    format!("{file}{to}")
}

/// The address with its scheme: `sqlite` if it has none.
fn full(address: &str) -> Fallible<String> {
    let scheme = address.split_once(':').map(|(scheme, _)| scheme);
    match scheme {
        Some("memory") => {
            Err("a queue in memory is visible to the process that made it, and to no other".into())
        }
        // One letter is a drive of Windows; and a file's name may contain a colon.
        Some(scheme) if scheme.len() > 1 && scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
            Ok(address.to_owned())
        }
        _ => Ok(format!("sqlite:{address}")),
    }
}
