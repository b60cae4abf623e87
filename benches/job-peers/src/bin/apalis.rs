//! The driver of `apalis`, on Postgres (`apalis-postgres`), Redis (`apalis-redis`) and `SQLite` (`apalis-sqlite`).
//!
//! What it is given, and where that is from:
//!
//! - one by one by `push`, many at once by `push_bulk`, a statement for all of them;
//! - batches of 500 for a fetch ("larger batches can improve throughput"; it takes 10 by default), and as many jobs at
//!   once as the row says (`concurrency`); where it may choose, batches of 2,000, all at once;
//! - `lock_tasks` as by default: what ends before it is locked needs no statement for that, so it costs no-op jobs nothing;
//! - on Postgres `with_pubsub` and, beside it, an interval of ten seconds, as in its example `pubsub.rs`;
//! - on Redis no locks and no events (`lock_tasks(false)`, "for tasks that last shorter than a worker heartbeat";
//!   `emit_events(false)`), so a job has no lease, only its worker's heartbeat; `persist_results` as by default, because
//!   without it no job is ever done. An interval of 100 ms: each push goes to the scheduled jobs, and its script publishes
//!   only for those that do not, so that the notifications of its factory never come; by itself it looks each 30 s;
//! - on `SQLite` an interval of 500 ms, as in its README: its callback tells a process only what that process did;
//! - on `SQLite` its own `setup` says `synchronous = OFF`. That holds for one connection of one process, the one that
//!   makes the schema; all others here have WAL and `synchronous=FULL`, as all engines.
//!
//! Its last completions are stored when its worker is woken for something else. So `work` adds an interval of 5 ms.
//!
//! The intervals but the one beside pubsub are [`Ticks`] in place of its own `interval`: where a fetch takes longer than that, as on a busy machine, its timer ends
//! while nobody waits for it, begins anew unseen, and wakes the worker no more, or with its next heartbeat (30 s).

use std::error::Error;
use std::str::FromStr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use anthill_job_peers::{
    BATCH, Command, Payload, Workers, address, count_statements, pause, ready, started, took,
};
use apalis::prelude::*;
use apalis_postgres::PostgresStorage;
use apalis_redis::RedisStorage;
use apalis_sqlite::SqliteStorage;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::query_scalar;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use tokio::sync::Notify;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const QUEUE: &str = "thumbnail";
const FETCHED: usize = 500;
const BEST_FETCHED: usize = 2_000;

static JOBS: AtomicUsize = AtomicUsize::new(usize::MAX);
static RUN: AtomicUsize = AtomicUsize::new(0);
static ALL_RUN: LazyLock<Notify> = LazyLock::new(Notify::new);

/// Counts, in `work`.
async fn count(_: Payload) -> Result<()> {
    if RUN.fetch_add(1, Ordering::Relaxed) + 1 == JOBS.load(Ordering::Relaxed) {
        ALL_RUN.notify_one();
    }
    Ok(())
}

/// Tells the latency, in `consume`.
async fn tell(job: Payload) -> Result<()> {
    started(&job);
    Ok(())
}

/// Does what the command says with a storage of either kind: their types have no trait in common that says all of it.
macro_rules! run {
    ($command:expr, $storage:expr, $every:expr, $is_any_left:expr) => {{
        let mut storage = $storage;
        match $command {
            Command::Setup => unreachable!("that needs no storage"),
            Command::Enqueue { jobs, batch } => {
                let begun = Instant::now();
                if batch {
                    for first in (0..jobs).step_by(BATCH) {
                        let some = (first..jobs.min(first + BATCH)).map(Payload::new).collect();
                        storage.push_bulk(some).await?;
                    }
                } else {
                    for number in 0..jobs {
                        storage.push(Payload::new(number)).await?;
                    }
                }
                took(begun)
            }
            Command::Work { jobs, workers } => {
                JOBS.store(jobs, Ordering::Relaxed);
                let storage = storage.poll_with_strategy($every(Duration::from_millis(5)));
                let worker = WorkerBuilder::new("worker")
                    .backend(storage)
                    .concurrency(workers.or(BEST_FETCHED))
                    .build(count);
                let begun = Instant::now();
                let worker = tokio::spawn(worker.run());
                ALL_RUN.notified().await;
                while $is_any_left.await? {
                    sleep(Duration::from_millis(1)).await;
                    assert!(!worker.is_finished(), "the worker goes on");
                }
                took(begun)
            }
            Command::Consume => {
                let storage = storage.poll_with_strategy($every(Duration::ZERO));
                let worker = WorkerBuilder::new("worker")
                    .backend(storage)
                    .concurrency(8)
                    .build(tell);
                ready();
                worker.run().await?;
            }
            Command::Produce { jobs, pause: mean } => {
                for number in 0..jobs {
                    sleep(pause(mean)).await;
                    storage.push(Payload::new(number)).await?;
                }
            }
        }
    }};
}

/// Wakes the worker in an interval. Its next end is always waited for, also when this one was seen late.
struct Ticks(Interval);

impl Ticks {
    fn each(period: Duration) -> Strategy {
        let mut interval = interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Strategy::new().apply(Ticks(interval))
    }
}

impl PollStrategy for Ticks {
    fn poll_drive(
        &mut self,
        context: &mut task::Context<'_>,
        _: &PollSnapshot,
    ) -> Poll<Option<()>> {
        let mut has_ended = false;
        while self.0.poll_tick(context).is_ready() {
            has_ended = true;
        }
        if has_ended {
            Poll::Ready(Some(()))
        } else {
            Poll::Pending
        }
    }
}

/// How many jobs a fetch takes.
fn fetched(command: Command) -> usize {
    match command {
        Command::Work {
            workers: Workers::Best,
            ..
        } => BEST_FETCHED,
        _ => FETCHED,
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let command = Command::from_args();
    if address().starts_with("postgres") {
        postgres(command).await
    } else if address().starts_with("redis") {
        redis(command).await
    } else {
        sqlite(command).await
    }
}

async fn postgres(command: Command) -> Result<()> {
    let pool: PgPool = PgPoolOptions::new().connect(&address()).await?;
    if matches!(command, Command::Setup) {
        return Ok(PostgresStorage::setup(&pool).await?);
    }
    let config = apalis_postgres::Config::default()
        .queue(QUEUE)
        .batch_size(fetched(command));
    let storage = PostgresStorage::<Payload>::new(&pool).with_config(config);
    let every = |period: Duration| {
        if period.is_zero() {
            let pubsub = apalis_postgres::Pubsub::new(pool.clone(), QUEUE.into());
            Strategy::new()
                .stream(pubsub)
                .interval(Duration::from_secs(10))
        } else {
            Ticks::each(period)
        }
    };
    let left = "SELECT EXISTS(SELECT 1 FROM apalis.jobs WHERE status <> 'Done')";
    run!(
        command,
        storage,
        every,
        query_scalar::<_, bool>(left).fetch_one(&pool)
    );
    Ok(())
}

async fn redis(command: Command) -> Result<()> {
    let connection = apalis_redis::connect(address()).await?;
    if matches!(command, Command::Setup) {
        return Ok(());
    }
    let config = apalis_redis::Config::default()
        .queue(QUEUE)
        .batch_size(fetched(command))
        .lock_tasks(false)
        .emit_events(false);
    let (done, store) = (config.done_jobs_set(), connection.clone());
    let storage = RedisStorage::<Payload>::new(connection).with_config(config);
    let every = |period: Duration| {
        Ticks::each(if period.is_zero() {
            Duration::from_millis(100)
        } else {
            period
        })
    };
    let is_any_left = async || {
        let mut done_jobs = redis::cmd("SCARD");
        let count: usize = done_jobs.arg(&done).query_async(&mut store.clone()).await?;
        Ok::<_, redis::RedisError>(count < JOBS.load(Ordering::Relaxed))
    };
    run!(command, storage, every, is_any_left());
    Ok(())
}

async fn sqlite(command: Command) -> Result<()> {
    if matches!(command, Command::Consume) {
        count_statements();
    }
    let options = SqliteConnectOptions::from_str(&address())?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5));
    let pool: SqlitePool = SqlitePoolOptions::new().connect_with(options).await?;
    if matches!(command, Command::Setup) {
        return Ok(SqliteStorage::setup(&pool).await?);
    }
    let config = apalis_sqlite::Config::default()
        .queue(QUEUE)
        .batch_size(fetched(command));
    let storage = SqliteStorage::<Payload>::new(&pool).with_config(config);
    let every = |period: Duration| {
        Ticks::each(if period.is_zero() {
            Duration::from_millis(500)
        } else {
            period
        })
    };
    let left = "SELECT EXISTS(SELECT 1 FROM Jobs WHERE status <> 'Done')";
    run!(
        command,
        storage,
        every,
        query_scalar::<_, bool>(left).fetch_one(&pool)
    );
    Ok(())
}
