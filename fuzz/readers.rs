//! What each fuzz target does with its input: each is read by what a program reads it by, and must end in a value or an
//! error, never in a panic or a hang. `crates/anthill-jobs/tests/corpus.rs` includes this file and replays the corpus.

use anthill::Pool;
use anthill_jobs::rusqlite::types::Value;
use anthill_jobs::rusqlite::{Connection, params};
use anthill_jobs::{
    Clock, Context, Job, JobError, JobState, MemoryBroker, NewJob, Queue, QueueError, SqliteBroker,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

/// A job whose data has a bit of everything.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Order {
    number: u64,
    #[serde(default)]
    name: String,
    #[serde(default)]
    price: f64,
    #[serde(default)]
    at: Option<(i8, char)>,
    #[serde(default)]
    way: Way,
    #[serde(default)]
    tags: BTreeMap<String, Option<bool>>,
    #[serde(default)]
    parts: Vec<Order>,
    #[serde(default)]
    rest: serde_json::Value,
}

#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
enum Way {
    #[default]
    Post,
    By(String),
    Between {
        least: i32,
        most: i32,
    },
}

impl Job for Order {
    const KIND: &'static str = "order";
    const VERSION: u32 = 2;

    fn read(version: u32, payload: &[u8]) -> Result<Order, serde_json::Error> {
        // The first version was a number alone.
        if version == 0 {
            return serde_json::from_slice(payload).map(|number| Order {
                number,
                name: String::new(),
                price: 0.0,
                at: None,
                way: Way::Post,
                tags: BTreeMap::new(),
                parts: Vec::new(),
                rest: serde_json::Value::Null,
            });
        }
        serde_json::from_slice(payload)
    }
}

/// Runs what is due in `queue`, with a handler for orders of all versions; how many attempts that were.
fn run_due(queue: &Queue) -> Result<usize, QueueError> {
    let handler = |_: Order, _: &Context| -> Result<(), JobError> { Ok(()) };
    let pool = Pool::with_capacity(1); // for what it is called, it starts no thread
    queue.consumer(&pool).handle(handler).inline().run_due()
}

/// `KIND\nPAYLOAD`: a job of that kind (`order`, `order@1`, …, or any other) with that data, as a broker gets it.
///
/// # Panics
///
/// If the job is not done where its data can be read, not dead where it cannot, or claimed where its kind is unknown.
pub(crate) fn payload(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n');
    let (kind, payload) = match end {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (&b"order@2"[..], data),
    };
    let Ok(kind) = std::str::from_utf8(kind) else {
        return;
    };
    let version = match kind {
        "order" => Some(0),
        "order@1" => Some(1),
        "order@2" => Some(2),
        _ => None,
    };
    let queue = Queue::of(MemoryBroker::new(Clock::manual()));
    if queue
        .enqueue_new(&NewJob::new(kind.to_owned(), payload.to_vec()))
        .is_err()
    {
        return;
    }
    let attempts = run_due(&queue).expect("a broker in memory does not fail");
    let stats = queue.stats().expect("a broker in memory does not fail");
    let Some(version) = version else {
        assert_eq!((attempts, stats.ready), (0, 1), "{kind:?} is no order");
        return;
    };
    match Order::read(version, payload) {
        Ok(order) => {
            assert_eq!((attempts, stats.done), (1, 1), "{order:?}: {stats:?}");
            // What was read can be handed in again, whatever a program of the newest version makes of it.
            queue.enqueue(order).expect("what was read can be enqueued");
        }
        Err(error) => assert_eq!((attempts, stats.dead), (1, 1), "{error}: {stats:?}"),
    }
}

/// An address of a queue. Those of files are looked at only, in a folder of their own.
///
/// # Panics
///
/// If one is opened that names no queue, or a look at one makes a file.
pub(crate) fn address(data: &[u8]) {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder for the time being");
        std::env::set_current_dir(folder.path()).expect("it is there");
        folder
    });
    let Ok(address) = std::str::from_utf8(data) else {
        return;
    };
    if !address.starts_with("sqlite:") {
        let queue = Queue::open(address);
        assert_eq!(queue.is_ok(), address == "memory:", "{address:?}");
        drop(queue.map_err(|error| error.to_string()));
    }
    // Not one of another folder.
    let address = address.replace('/', "_");
    let error = Queue::open_read_only(&address).expect_err("there is no queue");
    assert!(!error.to_string().is_empty());
    let made = folder.path().read_dir().expect("it is there").count();
    assert_eq!(made, 0, "a look at {address:?} makes a file");
}

/// A cron expression. A zero and four bytes before it are the time at which it is looked at, in units of 64 seconds.
///
/// # Panics
///
/// If the next time is not after now, or the schedule is not as it was told.
pub(crate) fn cron(data: &[u8]) {
    let clock = Clock::manual();
    let expression = match data.split_first_chunk::<5>() {
        Some((&[0, a, b, c, d], rest)) => {
            let seconds = u32::from_be_bytes([a, b, c, d]);
            clock.set_wall(Duration::from_secs(u64::from(seconds) * 64));
            rest
        }
        _ => data,
    };
    let Ok(expression) = std::str::from_utf8(expression) else {
        return;
    };
    let queue = Queue::of(MemoryBroker::new(clock.clone()));
    let now = i64::try_from(clock.wall().as_secs()).expect("that is within reach");
    let order = Order::read(0, b"7").expect("a number is an order");
    match queue.schedule("nightly", expression, &order) {
        Ok(()) => {
            let kept = queue.schedules().expect("it does not fail");
            assert_eq!(kept.len(), 1);
            assert_eq!(kept[0].cron, expression);
            assert!(kept[0].next > now, "{expression:?} at {now}: {kept:?}");
        }
        Err(QueueError::Schedule { text, reason }) => {
            assert!(text == expression && !reason.is_empty());
        }
        Err(error) => panic!("{expression:?}: {error}"),
    }
}

/// The file of a queue, whatever it is.
pub(crate) fn file(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder for the time being");
    let path = folder.path().join("jobs.db");
    std::fs::write(&path, data).expect("it can be written");
    use_file(&path);
}

/// Changes to the rows of a queue's file with all sorts of jobs: three bytes and a value each (a column, a row,
/// and the kind of value), over and over.
pub(crate) fn rows(data: &[u8]) {
    static TEMPLATE: OnceLock<Vec<u8>> = OnceLock::new();
    let folder = tempfile::tempdir().expect("a folder for the time being");
    let path = folder.path().join("jobs.db");
    let template = TEMPLATE.get_or_init(|| template(folder.path()));
    std::fs::write(&path, template).expect("it can be written");
    {
        let connection = Connection::open(&path).expect("it is a database");
        let columns = columns(&connection);
        // What SQLite itself refuses (a column that may not be null, a unique one) is left out.
        let _ = connection
            .execute_batch("PRAGMA synchronous = OFF; PRAGMA ignore_check_constraints = ON; BEGIN");
        let mut data = data;
        while let Some(change) = Change::read(&mut data) {
            change.apply(&connection, &columns);
        }
        connection.execute_batch("COMMIT").expect("it is written");
    }
    use_file(&path);
}

struct Change {
    column: usize,
    row: u8,
    value: Option<Value>,
}

impl Change {
    fn read(data: &mut &[u8]) -> Option<Change> {
        let (&[column, row, kind], rest) = data.split_first_chunk::<3>()?;
        *data = rest;
        let mut take = |many: usize| {
            let (taken, rest) = data.split_at(many.min(data.len()));
            *data = rest;
            taken.to_vec()
        };
        let value = match kind % 7 {
            0 => Some(Value::Null),
            1 => Some(Value::Integer(
                i64::from(take(1).first().copied().unwrap_or(0)) - 128,
            )),
            2 => {
                let mut bytes = [0; 8];
                bytes
                    .iter_mut()
                    .zip(take(8))
                    .for_each(|(to, from)| *to = from);
                Some(Value::Integer(i64::from_be_bytes(bytes)))
            }
            3 => Some(Value::Real(f64::from(kind) * 1e300)),
            4 => Some(Value::Text(
                String::from_utf8_lossy(&take(usize::from(kind >> 3))).into_owned(),
            )),
            5 => Some(Value::Blob(take(usize::from(kind >> 3)))),
            _ => None,
        };
        Some(Change {
            column: usize::from(column),
            row,
            value,
        })
    }

    fn apply(&self, connection: &Connection, columns: &[(String, String)]) {
        let (table, column) = &columns[self.column % columns.len()];
        let chosen = format!(
            "rowid IN (SELECT rowid FROM \"{table}\" LIMIT 1 OFFSET {})",
            self.row % 8
        );
        let _ = match &self.value {
            Some(value) => connection.execute(
                &format!("UPDATE \"{table}\" SET \"{column}\" = ?1 WHERE {chosen}"),
                params![value],
            ),
            None => connection.execute(&format!("DELETE FROM \"{table}\" WHERE {chosen}"), []),
        };
    }
}

/// The tables and columns of a database.
fn columns(connection: &Connection) -> Vec<(String, String)> {
    let mut statement = connection
        .prepare("SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY 1, 2")
        .expect("each has a schema");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.and_then(Iterator::collect).expect("each has tables")
}

/// The file of a queue with jobs in all states, keys, a schedule, limits and results.
fn template(folder: &Path) -> Vec<u8> {
    let made = || -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let clock = Clock::manual();
        let broker = SqliteBroker::open(folder.join("template.db"), "default", clock.clone())?;
        let queue = Queue::of(broker);
        let order = || Order::read(0, b"7").expect("a number is an order");
        queue.set_limits(anthill_jobs::Limits {
            per_key: Some(1),
            ..Default::default()
        })?;
        queue.enqueue_new(&NewJob::new("other", b"null".to_vec()))?;
        queue.enqueue_new(&NewJob::new("order", b"no number".to_vec()))?;
        queue
            .job(order())
            .keep_result(Duration::from_secs(9))
            .enqueue()?;
        run_due(&queue)?;
        queue
            .job(order())
            .delay(Duration::from_secs(7))
            .unique("one")
            .enqueue()?;
        queue
            .job(order())
            .once_per("day", Duration::from_secs(5))
            .enqueue()?;
        queue
            .job(order())
            .priority(3)
            .key("key")
            .expires(Duration::from_secs(3))
            .enqueue()?;
        queue.job(order()).key("key").enqueue()?;
        let one = anthill_jobs::ClaimRequest::new(1, Duration::from_secs(30));
        queue.as_broker().claim(&one)?;
        queue.schedule("hourly", "0 * * * *", &order())?;
        let copy = folder.join("copy.db");
        queue.backup(&copy)?;
        Ok(std::fs::read(copy)?)
    };
    made().expect("a new queue does all that")
}

/// Does with a file all that a program may do with its queue. Whatever fails must say so.
fn use_file(path: &Path) {
    let told = |result: Result<(), QueueError>| {
        if let Err(error) = result {
            assert!(!error.to_string().is_empty());
        }
    };
    let clock = Clock::manual();
    told(
        SqliteBroker::open_read_only(path, "default", clock.clone())
            .and_then(|broker| look(&Queue::of(broker))),
    );
    told(
        SqliteBroker::open(path, "default", clock.clone()).and_then(|broker| {
            let queue = Queue::of(broker);
            let mut first = Ok(());
            let mut all = |result: Result<(), QueueError>| {
                if first.is_ok() {
                    first = result;
                }
            };
            all(look(&queue));
            all(run_due(&queue).map(drop));
            clock.advance(Duration::from_secs(3600));
            all(run_due(&queue).map(drop));
            all(queue.schedules().and_then(|schedules| {
                let mut one_of_them = Ok(());
                for schedule in &schedules {
                    one_of_them = queue.unschedule(&schedule.name).map(drop);
                }
                one_of_them
            }));
            for state in JobState::ALL {
                all(queue.list(state, None, 3).and_then(|jobs| {
                    for job in jobs {
                        queue.run_now(job.id)?;
                        queue.cancel(job.id)?;
                        queue.retry_dead(job.id)?;
                        queue.delete(job.id)?;
                    }
                    Ok(())
                }));
            }
            all(queue
                .enqueue_new(&NewJob::new("order", b"8".to_vec()))
                .map(drop));
            all(queue.max_ready(1));
            all(run_due(&queue).map(drop));
            all(queue.purge().map(drop));
            all(look(&queue));
            first
        }),
    );
}

fn look(queue: &Queue) -> Result<(), QueueError> {
    let mut first = Ok(());
    for state in JobState::ALL {
        let jobs = queue.list(state, None, 10);
        if let Ok(jobs) = &jobs {
            for job in jobs {
                first = first.and(queue.get(job.id).map(drop));
                drop(queue.result::<serde_json::Value>(job.id));
            }
        }
        first = first.and(jobs.map(drop));
    }
    first
        .and(queue.stats().map(drop))
        .and(queue.ready_kinds().map(drop))
        .and(queue.schedules().map(drop))
        .and(queue.limits().map(drop))
}
