//! Queues in a Redis server.
//!
//! - A command makes no queue: the server is another program's, too, and nothing in it says whether queues are meant to be
//!   there, as tables do in a database. `--create` says so.

use crate::engines::Purpose;
use crate::outcome::Fallible;
use anthill_jobs::{Queue, QueueError};
use anthill_redis::RedisBroker;

pub(crate) fn open(address: &str, purpose: Purpose) -> Fallible<Queue> {
    match purpose {
        Purpose::Create { in_any: true } => Ok(anthill_redis::open(address)?),
        Purpose::Create { in_any: false } => find(address).map_err(|error| {
            if is_not_there(&error) {
                format!("{error}; --create makes it").into()
            } else {
                error.into()
            }
        }),
        Purpose::Look | Purpose::Change => Ok(find(address)?),
    }
}

/// Opens a queue that is there.
fn find(address: &str) -> Result<Queue, QueueError> {
    let builder = || RedisBroker::builder(address);
    // Finds it or fails, and its connection serves the other one. That one shows the jobs that are due as ready.
    let _found = builder().read_only().open()?;
    builder().open_queue()
}

fn is_not_there(error: &QueueError) -> bool {
    matches!(error, QueueError::Address { reason, .. } if reason.starts_with("there is no queue "))
}
