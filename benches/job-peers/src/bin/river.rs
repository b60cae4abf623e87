//! The driver of `riverqueue`, the official client of River for Rust, on Postgres and on `SQLite`.
//!
//! What it is given, and where that is from:
//!
//! - many at once by `insert_many`, as its documentation says;
//! - the shortest fetch cooldown that it takes, a millisecond, because "throughput is limited by this value" (its own
//!   benchmark, `riverqueue bench`, takes two); the same for the queue alone, so that a producer keeps the client's
//!   100 ms, within which it notifies once;
//! - a pool of 50 connections, and as many as 2,000 workers where it may choose, both as in `riverqueue bench`;
//! - completions are batched by itself; notifications are on, and it polls each second beside them, as it does by
//!   default;
//! - on `SQLite`, WAL and a busy timeout of five seconds as its documentation says, and `synchronous=FULL` as all here.
//!
//! It never runs more jobs at once than it has workers, and claims no more than that: with one worker, one for a fetch.

use std::error::Error;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anthill_job_peers::{
    BATCH, Command, Payload, address, count_statements, pause, ready, started, took,
};
use riverqueue::migrate::{PostgresMigrator, SqliteMigrator};
use riverqueue::sqlx::postgres::{PgPool, PgPoolOptions};
use riverqueue::sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use riverqueue::sqlx::{self, query_scalar};
use riverqueue::{
    Client, ClientBuilder, InsertOpts, Job, JobArgs, QUEUE_DEFAULT, QueueConfig, WorkContext,
    WorkOutcome, Workers,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::sleep;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const CONNECTIONS: u32 = 50;
const BEST_WORKERS: usize = 2_000;
const LEFT: &str =
    "SELECT EXISTS(SELECT 1 FROM river_job WHERE state IN ('available', 'running', 'retryable'))";

#[derive(Clone, Debug, Deserialize, JobArgs, Serialize)]
#[river(kind = "thumbnail")]
struct Thumbnail {
    path: String,
    width: u32,
    sent: u64,
}

impl Thumbnail {
    fn new(number: usize) -> Thumbnail {
        let Payload { path, width, sent } = Payload::new(number);
        Thumbnail { path, width, sent }
    }
}

enum Store {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl Store {
    async fn open() -> Result<Store> {
        let address = address();
        if address.starts_with("postgres") {
            let pool = PgPoolOptions::new().max_connections(CONNECTIONS);
            return Ok(Store::Postgres(pool.connect(&address).await?));
        }
        let options = SqliteConnectOptions::from_str(&address)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new().max_connections(5);
        Ok(Store::Sqlite(pool.connect_with(options).await?))
    }

    async fn migrate(&self) -> Result<()> {
        match self {
            Store::Postgres(pool) => drop(PostgresMigrator::new(pool.clone()).migrate_up().await?),
            Store::Sqlite(pool) => drop(SqliteMigrator::new(pool.clone()).migrate_up().await?),
        }
        Ok(())
    }

    fn client(&self) -> ClientBuilder {
        match self {
            Store::Postgres(pool) => Client::builder(pool.clone()),
            Store::Sqlite(pool) => Client::builder(pool.clone()),
        }
    }

    async fn is_any_left(&self) -> sqlx::Result<bool> {
        match self {
            Store::Postgres(pool) => query_scalar(LEFT).fetch_one(pool).await,
            Store::Sqlite(pool) => query_scalar(LEFT).fetch_one(pool).await,
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let command = Command::from_args();
    if matches!(command, Command::Consume) && !address().starts_with("postgres") {
        count_statements();
    }
    let store = Store::open().await?;
    match command {
        Command::Setup => store.migrate().await,
        Command::Enqueue { jobs, batch } => enqueue(&store, jobs, batch).await,
        Command::Work { jobs, workers } => work(&store, jobs, workers.or(BEST_WORKERS)).await,
        Command::Consume => consume(&store).await,
        Command::Produce { jobs, pause: mean } => {
            let client = store.client().build()?;
            for number in 0..jobs {
                sleep(pause(mean)).await;
                client.insert(Thumbnail::new(number)).await?;
            }
            Ok(())
        }
    }
}

async fn enqueue(store: &Store, jobs: usize, batch: bool) -> Result<()> {
    let client = store.client().build()?;
    let begun = Instant::now();
    if batch {
        for first in (0..jobs).step_by(BATCH) {
            let some = (first..jobs.min(first + BATCH))
                .map(|number| (Thumbnail::new(number), InsertOpts::default()));
            client.insert_many(some).await?;
        }
    } else {
        for number in 0..jobs {
            client.insert(Thumbnail::new(number)).await?;
        }
    }
    took(begun)
}

async fn work(store: &Store, jobs: usize, workers: usize) -> Result<()> {
    static RUN: AtomicUsize = AtomicUsize::new(0);
    static ALL_RUN: LazyLock<Notify> = LazyLock::new(Notify::new);
    let mut handlers = Workers::new();
    handlers.add_fn(move |_: WorkContext, _: Job<Thumbnail>| async move {
        if RUN.fetch_add(1, Ordering::Relaxed) + 1 == jobs {
            ALL_RUN.notify_one();
        }
        Ok::<_, std::io::Error>(WorkOutcome::Complete)
    })?;
    let client = client(store, handlers, workers)?;
    let begun = Instant::now();
    let _run = client.start()?;
    ALL_RUN.notified().await;
    while store.is_any_left().await? {
        sleep(Duration::from_millis(1)).await;
    }
    took(begun)
}

async fn consume(store: &Store) -> Result<()> {
    let mut handlers = Workers::new();
    handlers.add_fn(|_: WorkContext, job: Job<Thumbnail>| async move {
        let Thumbnail { path, width, sent } = job.args;
        started(&Payload { path, width, sent });
        Ok::<_, std::io::Error>(WorkOutcome::Complete)
    })?;
    let client = Arc::new(client(store, handlers, 8)?);
    let mut run = client.start()?;
    run.wait_ready().await?;
    ready();
    Ok(run.wait().await?)
}

fn client(store: &Store, handlers: Workers, workers: usize) -> Result<Client> {
    let queue = QueueConfig::new(workers).with_fetch_cooldown(Duration::from_millis(1));
    Ok(store
        .client()
        .workers(handlers)
        .queue(QUEUE_DEFAULT, queue)
        .build()?)
}
