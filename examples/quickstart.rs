//! How do I start? A pool, some tasks, and waiting for them.
//!
//! ```text
//! cargo run --example quickstart
//! ```

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anthill::Pool;

/// Steps of the Collatz sequence from `n` down to 1.
fn collatz_steps(mut n: u64) -> u64 {
    let mut steps = 0;
    while n != 1 {
        n = if n % 2 == 0 { n / 2 } else { 3 * n + 1 };
        steps += 1;
    }
    steps
}

fn main() -> Result<(), Box<dyn Error>> {
    // At most four tasks run at once. Making a pool starts no thread; a thread starts when a task needs it.
    let pool = Pool::with_capacity(4);
    assert_eq!(pool.workers(), 0);

    let total = Arc::new(AtomicU64::new(0));
    for start in (1..=100_000).step_by(1_000) {
        let total = Arc::clone(&total);
        // While four tasks run, `submit` blocks until one is done, so no queue can grow.
        pool.submit(move || {
            let steps: u64 = (start..start + 1_000).map(collatz_steps).sum();
            total.fetch_add(steps, Ordering::Relaxed);
        })?;
    }

    // `wait_idle` returns after the tasks, so all that they did is visible here.
    pool.wait_idle();
    let total = total.load(Ordering::Relaxed);
    assert_eq!(total, (1..=100_000).map(collatz_steps).sum::<u64>());

    let stats = pool.stats();
    assert_eq!((stats.submitted, stats.completed), (100, 100));
    assert!(stats.workers_started <= 4, "workers are reused");
    println!(
        "{total} steps, by {} tasks on {} threads",
        stats.completed, stats.workers_started
    );

    // Dropping the pool runs the tasks that were accepted, and joins its threads.
    Ok(())
}
