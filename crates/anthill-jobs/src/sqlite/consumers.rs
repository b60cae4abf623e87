//! The live consumers of a queue. An announcement is a commit, and so a wait for the disk; but it changes nothing in the
//! queue's row, and so wakes nobody ([`watch`](super::watch), WA3).
//!
//! All times are of the steady clock: a wall clock that is set makes no consumer come or go. After a boot of the host none of
//! before is live.

use super::SqliteBroker;
use super::json;
use super::time::{Now, duration, nanos};
use super::tx::Tx;
use crate::broker::{ConsumerInfo, ConsumerRegistry};
use crate::error::QueueError;
use rusqlite::{Connection, params};
use std::time::Duration;

impl ConsumerRegistry for SqliteBroker {
    fn announce(&self, consumer: &ConsumerInfo, time: Duration) -> Result<(), QueueError> {
        let consumer = consumer.clone();
        self.write(move |tx| announce(tx, &consumer, time))
    }

    fn withdraw(&self, id: &str) -> Result<(), QueueError> {
        let id = id.to_owned();
        self.write(move |tx| withdraw(tx, &id))
    }

    fn consumers(&self) -> Result<Vec<ConsumerInfo>, QueueError> {
        self.read(|connection, now| live(connection, self.queue, now))
    }
}

fn announce(tx: &Tx<'_>, consumer: &ConsumerInfo, time: Duration) -> rusqlite::Result<()> {
    let Now { steady, boot, .. } = tx.now;
    // There are few, so this looks at all of the queue.
    let dead = "DELETE FROM anthill_consumers WHERE queue = ?1 AND (boot <> ?2 OR ends <= ?3)";
    let mut dead = tx.connection.prepare_cached(dead)?;
    dead.execute(params![tx.number, boot, steady])?;
    let announce = "INSERT INTO anthill_consumers (queue, id, kinds, workers, running, boot, started, seen, ends)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
        ON CONFLICT (queue, id) DO UPDATE SET kinds = excluded.kinds, workers = excluded.workers,
        running = excluded.running, boot = excluded.boot, started = excluded.started, seen = excluded.seen,
        ends = excluded.ends";
    let mut announce = tx.connection.prepare_cached(announce)?;
    announce.execute(params![
        tx.number,
        consumer.id,
        json::of_kinds(&consumer.kinds),
        consumer.workers,
        consumer.running,
        boot,
        steady.saturating_sub(nanos(consumer.age)),
        steady,
        steady.saturating_add(nanos(time)),
    ])?;
    Ok(())
}

fn withdraw(tx: &Tx<'_>, id: &str) -> rusqlite::Result<()> {
    let withdraw = "DELETE FROM anthill_consumers WHERE queue = ?1 AND id = ?2";
    let mut withdraw = tx.connection.prepare_cached(withdraw)?;
    withdraw.execute(params![tx.number, id])?;
    Ok(())
}

fn live(connection: &Connection, queue: i64, now: Now) -> rusqlite::Result<Vec<ConsumerInfo>> {
    let live = "SELECT id, kinds, workers, running, started, seen FROM anthill_consumers
        WHERE queue = ?1 AND boot = ?2 AND ends > ?3 ORDER BY id";
    let mut live = connection.prepare_cached(live)?;
    let ago = |time: i64| duration(now.steady.saturating_sub(time));
    let live = live.query_map(params![queue, now.boot, now.steady], |row| {
        let kinds = json::kinds(row, 1)?;
        Ok(ConsumerInfo {
            running: row.get(3)?,
            age: ago(row.get(4)?),
            seen: ago(row.get(5)?),
            ..ConsumerInfo::new(row.get::<_, String>(0)?, kinds, row.get(2)?)
        })
    })?;
    live.collect()
}
