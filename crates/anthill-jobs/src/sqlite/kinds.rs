//! Ready jobs by kind: the index orders them within each kind, and there is none over all kinds, which would cost each step
//! of a job one more page. A claim of several kinds merges them.

use rusqlite::{Connection, OptionalExtension, Row, params};

/// The order of ready jobs (B6): rank, turn, place.
pub(super) type Order = (i64, i64, i64);

/// Before all jobs.
pub(super) const START: Order = (i64::MIN, i64::MIN, i64::MIN);

pub(super) const FIRST_KIND: &str = "SELECT kind FROM anthill_jobs INDEXED BY anthill_ready
    WHERE queue = ?1 AND state = 0 ORDER BY kind LIMIT 1";

pub(super) const NEXT_KIND: &str = "SELECT kind FROM anthill_jobs INDEXED BY anthill_ready
    WHERE queue = ?1 AND state = 0 AND kind > ?2 ORDER BY kind LIMIT 1";

pub(super) const FIRST_OF_KIND: &str =
    "SELECT rank, turn, place FROM anthill_jobs INDEXED BY anthill_ready
    WHERE queue = ?1 AND state = 0 AND kind = ?2 AND (rank, turn, place) > (?3, ?4, ?5)
    ORDER BY rank, turn, place LIMIT ?6";

pub(super) fn order(row: &Row<'_>, from: usize) -> rusqlite::Result<Order> {
    Ok((row.get(from)?, row.get(from + 1)?, row.get(from + 2)?))
}

/// The kinds of the ready jobs, in as many steps as there are kinds, however many jobs.
pub(super) fn ready_kinds(connection: &Connection, queue: i64) -> rusqlite::Result<Vec<String>> {
    let mut first = connection.prepare_cached(FIRST_KIND)?;
    let mut next = connection.prepare_cached(NEXT_KIND)?;
    let mut kinds: Vec<String> = Vec::new();
    loop {
        let kind = match kinds.last() {
            None => first.query_row([queue], |row| row.get(0)),
            Some(last) => next.query_row(params![queue, last], |row| row.get(0)),
        };
        let Some(kind) = kind.optional()? else {
            return Ok(kinds);
        };
        kinds.push(kind);
    }
}

/// The first jobs of these kinds behind `after`, up to `limit`, in order.
pub(super) fn first_of(
    connection: &Connection,
    queue: i64,
    kinds: &[String],
    after: Order,
    limit: usize,
) -> rusqlite::Result<Vec<Order>> {
    let mut of_kind = connection.prepare_cached(FIRST_OF_KIND)?;
    let per_kind = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut first = Vec::new();
    for kind in kinds {
        let after = params![queue, kind, after.0, after.1, after.2, per_kind];
        for found in of_kind.query_map(after, |row| order(row, 0))? {
            first.push(found?);
        }
    }
    first.sort_unstable();
    // A kind may be named twice.
    first.dedup();
    first.truncate(limit);
    Ok(first)
}
