//! The engines whose queues this program opens: one row for each, and a dependency in `Cargo.toml`.
//!
//! The scheme of an engine must consist of letters, digits and `+`: see [`address`](crate::address).

use crate::outcome::Fallible;
#[cfg(feature = "postgres")]
use crate::postgres_schema;
#[cfg(feature = "redis")]
use crate::redis_server;
use crate::sqlite_file;
use anthill_jobs::Queue;

/// What a queue is opened for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Purpose {
    /// To look at it: it must exist, and be open to those who may only read.
    Look,
    /// To change it: it must exist.
    Change,
    /// To enqueue: it is created if it does not exist; in a database or server that may be another program's only if `in_any`.
    Create { in_any: bool },
}

struct Engine {
    schemes: &'static [&'static str],
    open: fn(&str, Purpose) -> Fallible<Queue>,
}

const REDIS: &[&str] = &[
    "redis",
    "rediss",
    "redis+unix",
    "valkey",
    "valkeys",
    "valkey+unix",
];

const ENGINES: &[Engine] = &[
    #[cfg(feature = "postgres")]
    Engine {
        schemes: &["postgres", "postgresql"],
        open: postgres_schema::open,
    },
    #[cfg(feature = "redis")]
    Engine {
        schemes: REDIS,
        open: redis_server::open,
    },
    Engine {
        schemes: &["sqlite"],
        open: sqlite_file::open,
    },
];

/// Opens the queue at an address, which is complete, with its scheme.
pub(crate) fn open(address: &str, purpose: Purpose) -> Fallible<Queue> {
    let scheme = address.split_once(':').map_or("", |(scheme, _)| scheme);
    let mut engines = ENGINES.iter();
    if let Some(engine) = engines.find(|engine| engine.schemes.contains(&scheme)) {
        return (engine.open)(address, purpose);
    }
    for (feature, is_one) in [
        ("postgres", scheme.starts_with("postgres")),
        ("redis", REDIS.contains(&scheme)),
    ] {
        // One that it was built with is found above, unless it is misspelt.
        let is_built = ENGINES
            .iter()
            .any(|engine| engine.schemes.contains(&feature));
        if is_one && !is_built {
            return Err(format!("this program was built without the feature `{feature}`").into());
        }
    }
    let known: Vec<&str> = ENGINES
        .iter()
        .flat_map(|engine| engine.schemes)
        .copied()
        .collect();
    // The rest of such an address may be anything, a password included.
    Err(format!(
        "unknown scheme {scheme:?}; known schemes: {}",
        known.join(", ")
    )
    .into())
}
