//! The driver of anthill's own queue, on Postgres, on Redis (with the feature `redis`), and on `SQLite`.
//!
//! All as a user gets it: the defaults of a queue and of a consumer, and a pool of as many threads as there are workers.
//! Where it may choose there are eight.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anthill::Pool;
use anthill_job_peers::{
    BATCH, Command, Payload, address, count_statements, pause, ready, started, took,
};
use anthill_jobs::{Context, Job, JobError, Openers, Queue};
use serde::{Deserialize, Serialize};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const BEST_WORKERS: usize = 8;

#[derive(Deserialize, Serialize)]
#[serde(transparent)]
struct Thumbnail(Payload);

impl Job for Thumbnail {
    const KIND: &'static str = "thumbnail";
}

fn thumbnail(number: usize) -> Thumbnail {
    Thumbnail(Payload::new(number))
}

/// Opens the queue of the address. Each engine of anthill's has its line here.
fn open() -> Result<Queue> {
    let openers = Openers::new()
        .with("postgres", anthill_postgres::open)
        .with("postgresql", anthill_postgres::open);
    let openers = openers.with("redis", anthill_redis::open);
    Ok(openers.open(&address())?)
}

fn main() -> Result<()> {
    let command = Command::from_args();
    if matches!(command, Command::Consume) && address().starts_with("sqlite:") {
        count_statements();
    }
    let queue = open()?;
    match command {
        // The queue has made its tables.
        Command::Setup => Ok(()),
        Command::Enqueue { jobs, batch } => enqueue(&queue, jobs, batch),
        Command::Work { jobs, workers } => work(&queue, jobs, workers.or(BEST_WORKERS)),
        Command::Consume => consume(&queue),
        Command::Produce { jobs, pause: mean } => {
            for number in 0..jobs {
                thread::sleep(pause(mean));
                queue.enqueue(thumbnail(number))?;
            }
            Ok(())
        }
    }
}

fn enqueue(queue: &Queue, jobs: usize, batch: bool) -> Result<()> {
    let begun = Instant::now();
    if batch {
        for first in (0..jobs).step_by(BATCH) {
            queue.enqueue_all((first..jobs.min(first + BATCH)).map(thumbnail).collect())?;
        }
    } else {
        for number in 0..jobs {
            queue.enqueue(thumbnail(number))?;
        }
    }
    took(begun)
}

fn work(queue: &Queue, jobs: usize, workers: usize) -> Result<()> {
    let all_run = Arc::new((Mutex::new(false), Condvar::new()));
    let run = AtomicUsize::new(0);
    let pool = Pool::with_capacity(workers);
    let begun = Instant::now();
    let _consumer = queue
        .consumer(&pool)
        .handle({
            let all_run = Arc::clone(&all_run);
            move |_: Thumbnail, _: &Context| -> std::result::Result<(), JobError> {
                if run.fetch_add(1, Ordering::Relaxed) + 1 == jobs {
                    *all_run.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
                    all_run.1.notify_one();
                }
                Ok(())
            }
        })
        .start()?;
    let guard = all_run.0.lock().unwrap_or_else(PoisonError::into_inner);
    drop(all_run.1.wait_while(guard, |is_done| !*is_done));
    loop {
        let stats = queue.stats()?;
        if stats.ready + stats.running + stats.delayed == 0 {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    took(begun)
}

fn consume(queue: &Queue) -> Result<()> {
    let pool = Pool::with_capacity(8);
    let _consumer = queue
        .consumer(&pool)
        .handle(
            |job: Thumbnail, _: &Context| -> std::result::Result<(), JobError> {
                started(&job.0);
                Ok(())
            },
        )
        .start()?;
    ready();
    loop {
        thread::park();
    }
}
