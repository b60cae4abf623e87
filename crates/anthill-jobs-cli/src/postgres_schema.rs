//! Queues in a schema of a Postgres database.
//!
//! - A command makes no tables in a database that has none, and updates none: the database is another program's, and
//!   processes of an older version may be using the tables. `--create` says that it may.
//! - One that looks, or changes a queue, makes no queue either.

use crate::engines::Purpose;
use crate::outcome::Fallible;
use anthill_jobs::{Queue, QueueError};
use anthill_postgres::PostgresBroker;

pub(crate) fn open(address: &str, purpose: Purpose) -> Fallible<Queue> {
    let builder = || PostgresBroker::builder(address).migrate(false);
    match purpose {
        // The library would show all of it, as it finds no password in it.
        _ if !address.contains("://") => {
            Err("the address of a queue in Postgres begins with postgres://".into())
        }
        Purpose::Create { in_any: true } => Ok(builder().migrate(true).open_queue()?),
        Purpose::Create { in_any: false } => builder().open_queue().map_err(|error| {
            if has_no_tables(&error) {
                format!("{error}; --create makes it").into()
            } else {
                error.into()
            }
        }),
        Purpose::Look | Purpose::Change => {
            // Finds it or fails, and its connection serves the other one. That one shows the jobs that are due as ready,
            // where it may change them, and is open to those who may only read, too.
            let _found = builder().read_only().open()?;
            Ok(builder().open_queue()?)
        }
    }
}

fn has_no_tables(error: &QueueError) -> bool {
    matches!(error, QueueError::Address { reason, .. } if reason.ends_with("may not be made here"))
}
