//! Where a queue is. Who only looks makes none: a slip of the pen must not pass for an empty queue.

use crate::Fallible;
use anthill_jobs::{Queue, QueueError};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::io::ErrorKind;
use std::path::Path;

/// The queue, which is made if it is not there; in a database of another program only if that is wanted.
pub(crate) fn open_or_make(address: &str, in_any: bool) -> Fallible<Queue> {
    let address = full(address)?;
    if let (false, Some((file, _))) = (in_any, parts(&address)) {
        refuse_foreign(file)?;
    }
    Ok(Queue::open(&address)?)
}

/// The queue, which must be there.
pub(crate) fn open(address: &str) -> Fallible<Queue> {
    let address = full(address)?;
    if let Some((file, name)) = parts(&address) {
        refuse_missing(file, name)?;
    }
    Ok(Queue::open(&address)?)
}

/// The queue, which must be there, also for who may not write to it.
pub(crate) fn open_to_look(address: &str) -> Fallible<Queue> {
    let address = full(address)?;
    if let Some((file, name)) = parts(&address) {
        refuse_missing(file, name)?;
    }
    match Queue::open(&address) {
        Err(QueueError::ReadOnly(_)) => Ok(Queue::open_read_only(&address)?),
        opened => Ok(opened?),
    }
}

/// The address `to`; one that begins with `?` is in the same file as `address`.
pub(crate) fn beside(address: &str, to: &str) -> String {
    if !to.starts_with('?') {
        return to.to_owned();
    }
    let file = address.split_once('?').map_or(address, |(file, _)| file);
    format!("{file}{to}")
}

/// With the broker's name: `sqlite` where it has none.
fn full(address: &str) -> Fallible<String> {
    let scheme = address.split_once(':').map(|(scheme, _)| scheme);
    match scheme {
        Some("memory") => {
            Err("a queue in memory can be seen by the process that has it, and no other".into())
        }
        // One letter is a drive.
        Some(scheme) if scheme.len() > 1 && scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
            Ok(address.to_owned())
        }
        _ => Ok(format!("sqlite:{address}")),
    }
}

/// As `Queue::open` takes them apart; what is wrong with others is its to say.
fn parts(address: &str) -> Option<(&Path, &str)> {
    let rest = address.strip_prefix("sqlite:")?;
    let (file, name) = match rest.split_once('?') {
        None => (rest, "default"),
        Some((file, query)) => (file, query.strip_prefix("queue=")?),
    };
    let is_name = !name.is_empty() && !name.contains(['?', '&', '=', '%']);
    (!file.is_empty() && is_name).then_some((file.as_ref(), name))
}

fn refuse_missing(file: &Path, name: &str) -> Fallible<()> {
    let size = match file.metadata() {
        Ok(found) => found.len(),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(format!("{} cannot be looked at: {error}", file.display()).into());
        }
        // Which folder is missing is the queue's to say, which is not made there.
        Err(_) if !has_folder(file) => return Ok(()),
        Err(error) => {
            return Err(format!("there is no queue in {}: {error}", file.display()).into());
        }
    };
    // SQLite takes a file of a byte or none for a new one, and would throw its log away.
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
            Err(format!("there is no queue {name:?} in {file}, but: {names:?}").into())
        }
        // What is wrong with the file is the queue's to say.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn refuse_foreign(file: &Path) -> Fallible<()> {
    // What is wrong with the file is the queue's to say.
    if file.metadata().is_ok_and(|found| found.len() > 1) && is_foreign(file).unwrap_or(false) {
        let file = file.display();
        return Err(format!(
            "{file} is a database of another program, without a queue; --create makes one in it"
        )
        .into());
    }
    Ok(())
}

/// It has tables, but none of ours.
fn is_foreign(file: &Path) -> rusqlite::Result<bool> {
    let foreign = "SELECT count(*) > 0 AND total(name = 'anthill_queues') = 0 FROM sqlite_master";
    look(file)?.query_row(foreign, [], |row| row.get(0))
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

/// Where it may not write `SQLite` is content to read.
fn look(file: &Path) -> rusqlite::Result<Connection> {
    // A relative path might pass for a URI.
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    // Closing it unlinks no log that others may use: see the library's `leave_log`.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

fn names(file: &Path) -> rusqlite::Result<Vec<String>> {
    let connection = look(file)?;
    let is_there = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'anthill_queues')";
    if !connection.query_row(is_there, [], |row| row.get(0))? {
        return Ok(Vec::new());
    }
    let mut names = connection.prepare("SELECT name FROM anthill_queues ORDER BY name")?;
    let names = names.query_map([], |row| row.get(0))?;
    names.collect()
}
