//! Makes and updates the tables and functions of a schema.
//!
//! - MI1. A version is made in one transaction, under a lock of the database that all processes take for that: of ten that
//!   start at once one does it, and the others find it done.
//! - MI2. Who finds the version that it knows needs no right to create anything, and takes no lock.
//! - MI3. Who finds a newer version refuses: it may mean something else.

use crate::errors::queue_error;
use crate::pool::Failure;
use crate::session::Session;
use crate::sql::{VERSION, VERSIONS, in_schema};
use crate::store::Store;
use anthill_jobs::QueueError;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::types::Type;

/// How long it may take: a large table may get an index.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The number of the lock (MI1).
const LOCK: i64 = 0x616e_7468_696c_6c00;

/// Refuses tables of another version; makes them first, if that is permitted and needed.
pub(crate) fn prepare(store: &Arc<Store>, may_migrate: bool) -> Result<(), QueueError> {
    let found = version(store)?;
    match found {
        Some(VERSION) => return Ok(()),
        Some(newer) if newer > VERSION => return Err(too_new(newer)),
        _ if !may_migrate => {
            let schema = &store.address().schema;
            return Err(store.refuse(match found {
                None => format!("the schema {schema} has no queues, and may not be made here"),
                Some(old) => format!(
                    "the tables in the schema {schema} have version {old}, and may not be updated to version {VERSION} \
                     here"
                ),
            }));
        }
        _ => {}
    }
    let own = Arc::clone(store);
    let migrated = store.runtime.wait(TIMEOUT, async move {
        let schema = own.address().schema.clone();
        let deadline = tokio::time::Instant::now() + TIMEOUT;
        let migrate = async |session: &Session| migrate(session, &schema).await;
        own.pool()
            .with(deadline, migrate)
            .await
            .map_err(QueueError::from)
    });
    match migrated? {
        version if version > VERSION => Err(too_new(version)),
        _ => Ok(()),
    }
}

fn too_new(version: i32) -> QueueError {
    QueueError::Version(format!(
        "the queue's tables have version {version}, of a newer anthill, and this one knows version {VERSION}: nothing is \
         damaged, use a newer anthill"
    ))
}

/// The version of the tables, if there are any.
fn version(store: &Arc<Store>) -> Result<Option<i32>, QueueError> {
    match store.call_or_missing(|calls| &calls.version, Vec::new()) {
        Ok(rows) => {
            let version: Option<i32> = match rows.first() {
                Some(row) => row.try_get(0).map_err(queue_error)?,
                None => None,
            };
            Ok(version)
        }
        Err(Failure::Missing(_)) => Ok(None),
        Err(Failure::Other(error)) => Err(error),
    }
}

/// Returns the version that there is then.
async fn migrate(session: &Session, schema: &str) -> Result<i32, tokio_postgres::Error> {
    session
        .execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})"))
        .await?;
    let made = update(session, schema).await;
    if made.is_err() {
        // The transaction is over either way.
        let _ = session.execute("ROLLBACK").await;
        return made;
    }
    session.execute("COMMIT").await?;
    made
}

async fn update(session: &Session, schema: &str) -> Result<i32, tokio_postgres::Error> {
    // In statements of their own: the lock must be there before they look.
    let exists = "SELECT to_regnamespace($1) IS NOT NULL, to_regclass($2) IS NOT NULL";
    let names = [
        (Box::new(schema.to_owned()) as _, Type::TEXT),
        (Box::new(format!("{schema}.versions")) as _, Type::TEXT),
    ];
    let exists = session.query(exists, &names).await?;
    let (has_schema, has_tables) = match exists.first() {
        Some(row) => (row.try_get(0)?, row.try_get(1)?),
        None => (false, false),
    };
    let found: i32 = if has_tables {
        let version = format!("SELECT coalesce(max(version), 0) FROM {schema}.versions");
        let rows = session.query(&version, &[]).await?;
        rows.first().map_or(Ok(0), |row| row.try_get(0))?
    } else {
        0
    };
    if found >= VERSION {
        return Ok(found);
    }
    if !has_schema {
        session.execute(&format!("CREATE SCHEMA {schema}")).await?;
    }
    for version in found + 1..=VERSION {
        let index = usize::try_from(version - 1).unwrap_or(usize::MAX);
        for text in VERSIONS.get(index).copied().unwrap_or_default() {
            session.execute(&in_schema(text, schema)).await?;
        }
        let done = format!("INSERT INTO {schema}.versions (version) VALUES ({version})");
        session.execute(&done).await?;
    }
    Ok(VERSION)
}
