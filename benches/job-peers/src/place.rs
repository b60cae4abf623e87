//! Where it is measured: a folder on a disk, with the server and the files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rusqlite::Connection;

use crate::engines::{Engine, Store};
use crate::process::Driver;
use crate::server::postgres::Postgres;
use crate::server::redis::{Persistence, Redis};

pub(crate) struct Place {
    folder: PathBuf,
    pub(crate) postgres: Option<Postgres>,
    pub(crate) redis: Option<Redis>,
}

impl Place {
    pub(crate) fn make(within: &Path) -> Result<Place> {
        let folder = within.join(format!("job-peers-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Place {
            folder,
            postgres: None,
            redis: None,
        })
    }

    /// Starts the server of a store, if it has one.
    pub(crate) fn start(&mut self, store: Store, persistence: Persistence) -> Result<()> {
        match store {
            Store::Postgres => {
                self.postgres = Some(Postgres::make(&self.folder.join("postgres"))?);
            }
            Store::Redis => {
                self.redis = Some(Redis::make(&self.folder.join("redis"), persistence)?);
            }
            Store::Sqlite => {}
        }
        Ok(())
    }

    pub(crate) fn postgres(&self) -> Result<&Postgres> {
        self.postgres
            .as_ref()
            .context("there is no Postgres server")
    }

    pub(crate) fn redis(&self) -> Result<&Redis> {
        self.redis.as_ref().context("there is no Redis server")
    }

    /// Whether the store can be measured.
    pub(crate) fn has(&self, store: Store) -> bool {
        match store {
            Store::Postgres => self.postgres.is_some(),
            Store::Redis => self.redis.is_some(),
            Store::Sqlite => true,
        }
    }

    /// The file system of the folder: one in memory would make each commit free.
    pub(crate) fn file_system(&self) -> String {
        let output = (Command::new("stat").args(["-f", "-c", "%T"]))
            .arg(&self.folder)
            .output();
        output.map_or_else(
            |_| "unknown".to_owned(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    }

    /// Makes the schema of an engine once, to be copied.
    pub(crate) fn prepare(&self, engine: &Engine) -> Result<()> {
        if engine.store == Store::Postgres {
            let (server, model) = (self.postgres()?, model(engine));
            server.make_database(&model, "template0")?;
            set_up(engine, &server.address(&model))?;
        }
        Ok(())
    }

    /// A database of the engine with no job in it: on Redis the whole server. Returns its address.
    pub(crate) fn fresh(&self, engine: &Engine) -> Result<String> {
        match engine.store {
            Store::Postgres => {
                let server = self.postgres()?;
                server.make_database(&engine.id(), &model(engine))?;
                Ok(server.address(&engine.id()))
            }
            Store::Redis => {
                let server = self.redis()?;
                server.empty()?;
                set_up(engine, &server.address())?;
                Ok(server.address())
            }
            Store::Sqlite => {
                let folder = self.folder.join(engine.id());
                if folder.exists() {
                    fs::remove_dir_all(&folder)?;
                }
                fs::create_dir(&folder)?;
                let address = format!("sqlite:{}", self.file(engine).display());
                set_up(engine, &address)?;
                Ok(address)
            }
        }
    }

    /// As [`Postgres::settle`] and [`Redis::settle`]. In `SQLite` a checkpoint is short, and a part of what is measured.
    pub(crate) fn settle(&self, engine: &Engine) -> Result<()> {
        match engine.store {
            Store::Postgres => self.postgres()?.settle(&engine.id()),
            Store::Redis => self.redis()?.settle(),
            Store::Sqlite => Ok(Connection::open(self.file(engine))?.execute_batch("ANALYZE")?),
        }
    }

    /// The file of an engine on `SQLite`.
    fn file(&self, engine: &Engine) -> PathBuf {
        self.folder.join(engine.id()).join("jobs.db")
    }

    /// How many statements the server has begun in the database of the engine.
    pub(crate) fn statements(&self, engine: &Engine) -> Result<f64> {
        let statement = format!(
            "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements JOIN pg_database AS d ON d.oid = dbid WHERE datname = '{}'",
            engine.id()
        );
        self.postgres()?.number("postgres", &statement)
    }

    /// What the server was told since [`Place::forget_statements`], by the engine where it can tell: how often each was
    /// begun, and its milliseconds.
    pub(crate) fn take_statements(&self, engine: &Engine) -> Result<Vec<(f64, f64, String)>> {
        let statements = match engine.store {
            Store::Redis => {
                let commands = self.redis()?.commands()?.into_iter();
                commands
                    .map(|(name, calls, time)| (calls, time / 1_000.0, name))
                    .collect()
            }
            _ => self.postgres_statements(engine)?,
        };
        ensure!(
            !statements.is_empty(),
            "{}: it made no statement",
            engine.id()
        );
        Ok(statements)
    }

    fn postgres_statements(&self, engine: &Engine) -> Result<Vec<(f64, f64, String)>> {
        let statement = format!(
            "SELECT calls, mean_exec_time, regexp_replace(query, '\\s+', ' ', 'g') FROM pg_stat_statements \
             JOIN pg_database AS d ON d.oid = dbid WHERE datname = '{}' ORDER BY calls DESC, query",
            engine.id()
        );
        let text = self.postgres()?.sql("postgres", &statement)?;
        let statements: Option<Vec<_>> = (text.lines())
            .map(|line| {
                let mut columns = line.splitn(3, '|');
                let calls = columns.next()?.parse().ok()?;
                let time = columns.next()?.parse().ok()?;
                Some((calls, time, columns.next()?.to_owned()))
            })
            .collect();
        statements.context("it has three columns")
    }

    pub(crate) fn forget_statements(&self, store: Store) -> Result<()> {
        match store {
            Store::Redis => self.redis()?.forget_commands(),
            _ => (self.postgres()?)
                .sql("postgres", "SELECT pg_stat_statements_reset()")
                .map(drop),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The servers first: their files are in the folder.
        self.postgres = None;
        self.redis = None;
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} stays: {error}", self.folder.display());
        }
    }
}

/// The database that is copied.
fn model(engine: &Engine) -> String {
    format!("model_{}", engine.id())
}

fn set_up(engine: &Engine, address: &str) -> Result<()> {
    let driver = Driver::start(engine.command(address, &["setup"]), &engine.id())?;
    driver.finish(Duration::from_mins(1)).context("setup")
}
