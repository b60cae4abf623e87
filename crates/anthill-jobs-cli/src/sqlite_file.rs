//! Queues in an SQLite file. Before the library opens a file this checks whether it has the queue, or belongs to another
//! program.

#![allow(clippy::doc_markdown, reason = "SQLite is a name, and no code")]

use crate::engines::Purpose;
use crate::outcome::Fallible;
use anthill_jobs::{Queue, QueueError};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::io::ErrorKind;
use std::path::Path;

pub(crate) fn open(address: &str, purpose: Purpose) -> Fallible<Queue> {
    match purpose {
        Purpose::Look | Purpose::Change => refuse_missing(address)?,
        Purpose::Create { in_any: false } => refuse_foreign(address)?,
        Purpose::Create { in_any: true } => {}
    }
    match Queue::open(address) {
        Err(QueueError::ReadOnly(_)) if purpose == Purpose::Look => {
            Ok(Queue::open_read_only(address)?)
        }
        opened => Ok(opened?),
    }
}

/// The file and the name of an address; `None` if the library refuses it.
fn parts(address: &str) -> Option<(&Path, &str)> {
    let rest = address.strip_prefix("sqlite:")?;
    let (file, name) = match rest.split_once('?') {
        None => (rest, "default"),
        Some((file, query)) => (file, query.strip_prefix("queue=")?),
    };
    let is_name = !name.is_empty() && !name.contains(['?', '&', '=', '%']);
    (!file.is_empty() && is_name).then_some((file.as_ref(), name))
}

/// Refuses the address of a queue that does not exist, and names those that do.
fn refuse_missing(address: &str) -> Fallible<()> {
    let Some((file, name)) = parts(address) else {
        return Ok(());
    };
    let size = match file.metadata() {
        Ok(found) => found.len(),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(format!("cannot access {}: {error}", file.display()).into());
        }
        // The library refuses it and says which folder is missing.
        Err(_) if !has_folder(file) => return Ok(()),
        Err(error) => {
            return Err(format!("there is no queue in {}: {error}", file.display()).into());
        }
    };
    // SQLite takes a file of one byte or none for a new one, and would discard its log.
    if size < 2 {
        return if has_log(file) {
            Ok(())
        } else {
            Err(format!("there is no queue in {}: it is empty", file.display()).into())
        };
    }
    match names(file) {
        Ok(names) if names.is_empty() => {
            Err(format!("there is no queue in {}", file.display()).into())
        }
        Ok(names) if !names.iter().any(|found| found == name) => {
            let file = file.display();
            Err(format!("there is no queue {name:?} in {file}, only {names:?}").into())
        }
        // The library says what is wrong with the file.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Refuses a database of another program that has no queue yet.
fn refuse_foreign(address: &str) -> Fallible<()> {
    let Some((file, _)) = parts(address) else {
        return Ok(());
    };
    // The library says what is wrong with the file.
    if file.metadata().is_ok_and(|found| found.len() > 1) && is_foreign(file).unwrap_or(false) {
        let file = file.display();
        return Err(format!(
            "{file} is a database of another program, without a queue; --create creates one in it"
        )
        .into());
    }
    Ok(())
}

/// Whether it has tables, but none of a queue.
fn is_foreign(file: &Path) -> rusqlite::Result<bool> {
    let foreign = "SELECT count(*) > 0 AND total(name = 'anthill_queues') = 0 FROM sqlite_master";
    connect(file)?.query_row(foreign, [], |row| row.get(0))
}

fn has_folder(file: &Path) -> bool {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    file.parent().is_none_or(Path::is_dir)
}

fn has_log(file: &Path) -> bool {
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    Path::new(&log).metadata().is_ok_and(|log| log.len() > 0)
}

/// Opens the file to look at it; read-only if writing is not permitted.
fn connect(file: &Path) -> rusqlite::Result<Connection> {
    // A relative path might pass for a URI.
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    // Closing it must not unlink a log that others may use: see `leave_log` in the library.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

fn names(file: &Path) -> rusqlite::Result<Vec<String>> {
    let connection = connect(file)?;
    let is_there = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'anthill_queues')";
    if !connection.query_row(is_there, [], |row| row.get(0))? {
        return Ok(Vec::new());
    }
    let mut names = connection.prepare("SELECT name FROM anthill_queues ORDER BY name")?;
    let names = names.query_map([], |row| row.get(0))?;
    names.collect()
}
