//! The engines: their drivers, and where these come from.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::record::Kind;
use crate::toolchains;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    Postgres,
    Redis,
    Sqlite,
}

pub(crate) const STORES: &[Store] = &[Store::Postgres, Store::Redis, Store::Sqlite];

/// What runs a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Rust(&'static str),
    Node(&'static str),
    Python(&'static str),
}

#[derive(Clone, Debug)]
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    /// The package whose version is told.
    package: Option<&'static str>,
    pub(crate) store: Store,
    pub(crate) kind: Kind,
    pub(crate) program: Program,
    /// The jobs that it takes as a backlog, where it does not take all.
    pub(crate) most: Option<usize>,
}

const fn engine(
    name: &'static str,
    package: &'static str,
    store: Store,
    kind: Kind,
    program: Program,
) -> Engine {
    Engine {
        name,
        package: Some(package),
        store,
        kind,
        program,
        most: None,
    }
}

/// Each of its fetches takes all jobs that are due into one Lua call, which takes eight thousand: with more it fetches none.
const APALIS_REDIS_MOST: usize = 7_500;

/// All of them.
pub(crate) const ENGINES: &[Engine] = &[
    engine(
        "anthill",
        "anthill-postgres",
        Store::Postgres,
        Kind::Ours,
        Program::Rust("anthill"),
    ),
    engine(
        "river",
        "riverqueue",
        Store::Postgres,
        Kind::Peer,
        Program::Rust("river"),
    ),
    engine(
        "apalis",
        "apalis-postgres",
        Store::Postgres,
        Kind::Peer,
        Program::Rust("apalis"),
    ),
    engine(
        "graphile-worker",
        "graphile-worker",
        Store::Postgres,
        Kind::Peer,
        Program::Node("graphile-worker.mjs"),
    ),
    engine(
        "pg-boss",
        "pg-boss",
        Store::Postgres,
        Kind::Peer,
        Program::Node("pg-boss.mjs"),
    ),
    engine(
        "procrastinate",
        "procrastinate",
        Store::Postgres,
        Kind::Peer,
        Program::Python("procrastinate_driver.py"),
    ),
    engine(
        "anthill",
        "anthill-redis",
        Store::Redis,
        Kind::Ours,
        Program::Rust("anthill"),
    ),
    Engine {
        most: Some(APALIS_REDIS_MOST),
        ..engine(
            "apalis",
            "apalis-redis",
            Store::Redis,
            Kind::Peer,
            Program::Rust("apalis"),
        )
    },
    engine(
        "bullmq",
        "bullmq",
        Store::Redis,
        Kind::Peer,
        Program::Node("bullmq.mjs"),
    ),
    engine(
        "rq",
        "rq",
        Store::Redis,
        Kind::Peer,
        Program::Python("rq_driver.py"),
    ),
    engine(
        "dramatiq",
        "dramatiq",
        Store::Redis,
        Kind::Peer,
        Program::Python("dramatiq_driver.py"),
    ),
    engine(
        "anthill",
        "anthill-jobs",
        Store::Sqlite,
        Kind::Ours,
        Program::Rust("anthill"),
    ),
    engine(
        "river",
        "riverqueue",
        Store::Sqlite,
        Kind::Peer,
        Program::Rust("river"),
    ),
    engine(
        "apalis",
        "apalis-sqlite",
        Store::Sqlite,
        Kind::Peer,
        Program::Rust("apalis"),
    ),
    Engine {
        name: "bare commits",
        package: None,
        store: Store::Sqlite,
        kind: Kind::Ceiling,
        program: Program::Rust("bare"),
        most: None,
    },
];

impl Store {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Store::Postgres => "Postgres",
            Store::Redis => "Redis",
            Store::Sqlite => "SQLite",
        }
    }
}

impl Engine {
    /// A name that no other one has, of letters that a database takes.
    pub(crate) fn id(&self) -> String {
        let name: String = (self.name.chars())
            .map(|letter| {
                if letter.is_ascii_alphanumeric() {
                    letter
                } else {
                    '_'
                }
            })
            .collect();
        format!("{name}_{}", self.store.name().to_lowercase())
    }

    pub(crate) fn title(&self) -> String {
        match self.package.and_then(toolchains::version) {
            Some(version) => format!("{} {version}", self.name),
            None => self.name.to_owned(),
        }
    }

    /// Whether it can be woken, or is at rest: a table cannot.
    pub(crate) fn is_queue(&self) -> bool {
        self.kind != Kind::Ceiling
    }

    /// Its driver, told to do something with the database of that address.
    pub(crate) fn command(&self, address: &str, args: &[&str]) -> Command {
        let mut command = match self.program {
            Program::Rust(name) => Command::new(drivers().join(name)),
            Program::Node(script) => {
                let mut command = Command::new(toolchains::node());
                command.arg(toolchains::folder("node").join(script));
                command
            }
            Program::Python(script) => {
                let mut command = Command::new(toolchains::python());
                command.arg(toolchains::sources().join(script));
                // The scripts lie among the sources.
                command.env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
        };
        command.args(args).env("DATABASE_URL", address);
        command
    }
}

/// Where the drivers in Rust are: beside this program.
fn drivers() -> PathBuf {
    let program = std::env::current_exe().expect("a program knows where it is");
    program.parent().map(Path::to_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_engine_has_a_version_in_a_lock_file_and_an_id_of_its_own() {
        for engine in ENGINES {
            let is_told = engine
                .title()
                .split(' ')
                .next_back()
                .is_some_and(|word| word.contains('.'));
            assert_eq!(is_told, engine.is_queue(), "{}", engine.title());
            let same = ENGINES.iter().filter(|other| other.id() == engine.id());
            assert_eq!(same.count(), 1, "{}", engine.id());
        }
    }
}
