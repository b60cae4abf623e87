//! Where it is measured: a folder on a disk, with the server and the files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rusqlite::Connection;

use crate::engines::{Engine, Store};
use crate::process::Driver;
use crate::server::Server;

pub(crate) struct Place {
    folder: PathBuf,
    pub(crate) server: Option<Server>,
}

impl Place {
    pub(crate) fn make(within: &Path) -> Result<Place> {
        let folder = within.join(format!("job-peers-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Place {
            folder,
            server: None,
        })
    }

    pub(crate) fn start_server(&mut self) -> Result<()> {
        self.server = Some(Server::make(&self.folder.join("postgres"))?);
        Ok(())
    }

    pub(crate) fn server(&self) -> Result<&Server> {
        self.server.as_ref().context("there is no server")
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
            let (server, model) = (self.server()?, model(engine));
            server.make_database(&model, "template0")?;
            set_up(engine, &server.address(&model))?;
        }
        Ok(())
    }

    /// A database of the engine with no job in it. Returns its address.
    pub(crate) fn fresh(&self, engine: &Engine) -> Result<String> {
        match engine.store {
            Store::Postgres => {
                let server = self.server()?;
                server.make_database(&engine.id(), &model(engine))?;
                Ok(server.address(&engine.id()))
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

    /// As [`Server::settle`]. In `SQLite` a checkpoint is short, and a part of what is measured.
    pub(crate) fn settle(&self, engine: &Engine) -> Result<()> {
        match engine.store {
            Store::Postgres => self.server()?.settle(&engine.id()),
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
        self.server()?.number("postgres", &statement)
    }

    /// The statements of an engine in its database, how often each was begun, and its milliseconds; forgets them.
    pub(crate) fn take_statements(&self, engine: &Engine) -> Result<Vec<(f64, f64, String)>> {
        let statement = format!(
            "SELECT calls, mean_exec_time, regexp_replace(query, '\\s+', ' ', 'g') FROM pg_stat_statements \
             JOIN pg_database AS d ON d.oid = dbid WHERE datname = '{}' ORDER BY calls DESC, query",
            engine.id()
        );
        let text = self.server()?.sql("postgres", &statement)?;
        let statements: Option<Vec<_>> = (text.lines())
            .map(|line| {
                let mut columns = line.splitn(3, '|');
                let calls = columns.next()?.parse().ok()?;
                let time = columns.next()?.parse().ok()?;
                Some((calls, time, columns.next()?.to_owned()))
            })
            .collect();
        self.forget_statements()?;
        let statements = statements.context("it has three columns")?;
        ensure!(
            !statements.is_empty(),
            "{}: it made no statement",
            engine.id()
        );
        Ok(statements)
    }

    pub(crate) fn forget_statements(&self) -> Result<()> {
        self.server()?
            .sql("postgres", "SELECT pg_stat_statements_reset()")
            .map(drop)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The server first: its files are in the folder.
        self.server = None;
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
