//! The engines, each made once, with [`WORKERS`] threads that are up before the clock starts.

use std::sync::{Arc, Barrier};

use anthill::Pool;
use rayon::ThreadPoolBuilder;
use tokio::runtime::Runtime;

/// The threads of each engine. `anthill-default` and the names of engines go by it.
pub(crate) const WORKERS: usize = 2;

/// Ants' mode: no backlog, a submitter waits while as many tasks run as there are workers.
pub(crate) fn ants_mode() -> Pool {
    started(Pool::with_capacity(WORKERS))
}

pub(crate) fn with_backlog() -> Pool {
    let pool = Pool::builder()
        .capacity(WORKERS)
        .unbounded_backlog()
        .build();
    started(pool.expect("the settings agree with each other"))
}

/// As it comes: a worker for each processor, and an unbounded backlog.
pub(crate) fn default_mode() -> Pool {
    started(Pool::default())
}

/// Returns the pool once all its workers have been seen running at the same time.
fn started(pool: Pool) -> Pool {
    let all = Arc::new(Barrier::new(pool.capacity() + 1));
    for _ in 0..pool.capacity() {
        let all = Arc::clone(&all);
        let submitted = pool.submit(move || {
            all.wait();
        });
        assert!(submitted.is_ok(), "an open pool accepts");
    }
    all.wait();
    pool.wait_idle();
    pool
}

/// Its workers are up when it is made.
pub(crate) fn rayon() -> rayon::ThreadPool {
    let pool = ThreadPoolBuilder::new().num_threads(WORKERS).build();
    let pool = pool.expect("the system has threads to give");
    pool.broadcast(|_| ());
    pool
}

/// A runtime of so many workers, and as many threads for what blocks.
pub(crate) fn tokio() -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(WORKERS)
        .build()
        .expect("the system has threads to give");
    let all = Arc::new(Barrier::new(WORKERS + 1));
    for _ in 0..WORKERS {
        let all = Arc::clone(&all);
        runtime.spawn_blocking(move || {
            all.wait();
        });
    }
    all.wait();
    runtime
}

pub(crate) fn rusty_pool() -> rusty_pool::ThreadPool {
    let pool = rusty_pool::Builder::new()
        .core_size(WORKERS)
        .max_size(WORKERS)
        .build();
    pool.start_core_threads();
    pool
}

/// Its workers are up when it is made.
pub(crate) fn threadpool() -> threadpool::ThreadPool {
    threadpool::ThreadPool::new(WORKERS)
}
