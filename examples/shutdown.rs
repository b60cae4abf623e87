//! How does a pool end? Gently, with a time limit, at once, or by going out of scope; and it can be opened again.
//!
//! ```text
//! cargo run --example shutdown
//! ```

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use anthill::{Pool, SubmitErrorKind};

fn main() -> Result<(), Box<dyn Error>> {
    let pool = Pool::builder().capacity(1).unbounded_backlog().build()?;
    let ran = Arc::new(AtomicUsize::new(0));

    // release closes the pool and does not wait: tasks that were accepted still run, later ones are given back.
    let gate = occupy(&pool)?;
    submit(&pool, 10, &ran)?;
    pool.release();
    let refused = pool.submit(|| ()).expect_err("closed");
    assert_eq!(refused.kind(), SubmitErrorKind::Closed);
    println!("release:         {refused}");

    // release_timeout also waits for the threads, and returns what remains when the time is up.
    let remains = pool
        .release_timeout(Duration::from_millis(20))
        .expect_err("the worker waits at the gate");
    assert_eq!((remains.running(), remains.queued()), (1, 10));
    println!("release_timeout: {remains}");
    drop(gate);
    pool.release_timeout(Duration::MAX)?;
    assert_eq!((ran.load(Ordering::Relaxed), pool.workers()), (10, 0));

    // reboot opens it again, with the same handles and counters.
    pool.reboot();
    submit(&pool, 5, &ran)?;
    pool.wait_idle();
    assert_eq!(
        (ran.load(Ordering::Relaxed), pool.stats().completed),
        (15, 16)
    );
    println!(
        "reboot:          {} tasks completed before and after",
        pool.stats().completed
    );

    // release_now drops the backlog, and returns how many tasks that was. It does not interrupt running tasks.
    let gate = occupy(&pool)?;
    submit(&pool, 10, &ran)?;
    assert_eq!(pool.release_now(), 10);
    drop(gate);
    pool.release_timeout(Duration::MAX)?;
    assert_eq!(
        (ran.load(Ordering::Relaxed), pool.stats().discarded),
        (15, 10)
    );
    println!(
        "release_now:     {} tasks discarded",
        pool.stats().discarded
    );

    // Dropping the pool releases it, and waits for all tasks that it accepted.
    pool.reboot();
    submit(&pool, 10, &ran)?;
    let handle = pool.handle();
    drop(pool);
    assert_eq!(ran.load(Ordering::Relaxed), 25);
    assert!(handle.is_closed() && handle.workers() == 0);
    println!("drop:            all 10 ran first");
    Ok(())
}

fn submit(pool: &Pool, tasks: usize, ran: &Arc<AtomicUsize>) -> Result<(), Box<dyn Error>> {
    for _ in 0..tasks {
        let ran = Arc::clone(ran);
        pool.submit(move || {
            ran.fetch_add(1, Ordering::Relaxed);
        })?;
    }
    Ok(())
}

/// Keeps the worker busy until the gate is dropped. When it returns, the worker has begun.
fn occupy(pool: &Pool) -> Result<Sender<()>, Box<dyn Error>> {
    let (gate, opens) = mpsc::channel::<()>();
    let (started, starts) = mpsc::channel();
    pool.submit(move || {
        started.send(()).expect("read below");
        // Nothing is ever sent: this ends when the gate is dropped.
        let _ = opens.recv();
    })?;
    starts.recv()?;
    Ok(gate)
}
