//! The ceiling of `SQLite`: what it commits by itself, one row of a job in a transaction, with the settings of
//! anthill's broker (WAL, `synchronous=FULL`). `work` deletes one row by its key in a transaction, on one connection,
//! however many workers a row has: `SQLite` has one writer.

use std::error::Error;
use std::time::Instant;

use anthill_job_peers::{BATCH, Command, Payload, address, took};
use rusqlite::{Connection, TransactionBehavior};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let address = address();
    let mut store = Connection::open(address.trim_start_matches("sqlite:"))?;
    store.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
    match Command::from_args() {
        Command::Setup => store.execute_batch(
            "CREATE TABLE job (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, payload BLOB NOT NULL)",
        )?,
        Command::Enqueue { jobs, batch } => {
            let begun = Instant::now();
            let step = if batch { BATCH } else { 1 };
            for first in (0..jobs).step_by(step) {
                let within = store.transaction_with_behavior(TransactionBehavior::Immediate)?;
                for number in first..jobs.min(first + step) {
                    let payload = serde_json::to_vec(&Payload::new(number))?;
                    within
                        .prepare_cached("INSERT INTO job (kind, payload) VALUES ('thumbnail', ?)")?
                        .execute([payload])?;
                }
                within.commit()?;
            }
            took(begun)
        }
        Command::Work { jobs, .. } => {
            let begun = Instant::now();
            for id in 1..=jobs {
                let within = store.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let mut delete = within.prepare_cached("DELETE FROM job WHERE id = ?")?;
                assert_eq!(delete.execute([id])?, 1, "job {id} is there");
                drop(delete);
                within.commit()?;
            }
            took(begun)
        }
        Command::Consume | Command::Produce { .. } => return Err("a table has no consumer".into()),
    }
    Ok(())
}
