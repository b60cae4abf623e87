//! What the servers do by themselves with one job, by the programs that they bring for measuring: `pgbench` and
//! `redis-benchmark`. What `SQLite` does is a driver, as it has no server.

mod postgres;
mod redis;

use anyhow::Result;

use self::postgres::Statement;
use crate::engines::Store;
use crate::place::Place;
use crate::rows::{Row, Scale};

pub(crate) const CLIENTS: &[usize] = &[1, 2, 8];

/// What is done again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ceiling {
    /// A row in a transaction.
    Postgres(Statement),
    /// A script with an enqueue's writes, a job in a call.
    Redis,
}

pub(crate) const CEILINGS: &[Ceiling] = &[
    Ceiling::Postgres(Statement::Insert),
    Ceiling::Postgres(Statement::Update),
    Ceiling::Postgres(Statement::Delete),
    Ceiling::Redis,
];

impl Ceiling {
    pub(crate) fn store(self) -> Store {
        match self {
            Ceiling::Postgres(_) => Store::Postgres,
            Ceiling::Redis => Store::Redis,
        }
    }

    /// What measures it.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Ceiling::Postgres(_) => "pgbench",
            Ceiling::Redis => "redis-benchmark",
        }
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Ceiling::Postgres(_) => "rows/s",
            Ceiling::Redis => "jobs/s",
        }
    }

    pub(crate) fn name(self, clients: usize) -> String {
        let what = match self {
            Ceiling::Postgres(statement) => statement.about(),
            Ceiling::Redis => "write a job in a script",
        };
        let plural = if clients == 1 { "" } else { "s" };
        format!("{what}, {clients} client{plural}")
    }
}

/// What is beside the engines in a row, in turn with them, since disks have moods. On Postgres to enqueue is to insert a
/// row, and to run is to update one; on Redis both are the script. One client for a producer, as many as there are
/// workers for run, and eight where the engine chooses. `None` where the store has no server.
pub(crate) fn of(store: Store, row: Row) -> Option<(Ceiling, usize)> {
    let (enqueue, run) = match store {
        Store::Postgres => (
            Ceiling::Postgres(Statement::Insert),
            Ceiling::Postgres(Statement::Update),
        ),
        Store::Redis => (Ceiling::Redis, Ceiling::Redis),
        Store::Sqlite => return None,
    };
    Some(match row {
        Row::Work(workers) => (run, workers.or(8)),
        _ => (enqueue, 1),
    })
}

/// Rows or calls a second.
pub(crate) fn rate(place: &Place, ceiling: Ceiling, clients: usize, count: usize) -> Result<f64> {
    match ceiling {
        Ceiling::Postgres(statement) => {
            postgres::rate(place.postgres()?, statement, clients, count)
        }
        Ceiling::Redis => redis::rate(place.redis()?, clients, count),
    }
}

/// How many take about as long as a round is to take.
pub(crate) fn count_for(
    place: &Place,
    ceiling: Ceiling,
    clients: usize,
    scale: &Scale,
) -> Result<usize> {
    let Some(seconds) = scale.seconds else {
        return Ok(40);
    };
    let tried = match ceiling {
        Ceiling::Postgres(_) => 500,
        Ceiling::Redis => 5_000,
    };
    let rate = rate(place, ceiling, clients, tried)?;
    #[expect(clippy::cast_possible_truncation, reason = "it is clamped")]
    #[expect(clippy::cast_sign_loss, reason = "it is clamped")]
    Ok((rate * seconds).clamp(100.0, 500_000.0) as usize)
}
