//! How does a pool end? Softly, within a time, at once, by going out of scope; and it can open again.
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

    // release closes and does not wait: what was accepted still runs, what comes later is given back.
    let gate = occupy(&pool)?;
    submit(&pool, 10, &ran)?;
    pool.release();
    let refused = pool.submit(|| ()).expect_err("closed");
    assert_eq!(refused.kind(), SubmitErrorKind::Closed);
    println!("release:         {refused}");

    // release_timeout waits for the threads too, and says what is still there when time is up.
    let remains = pool
        .release_timeout(Duration::from_millis(20))
        .expect_err("the gate is shut");
    assert_eq!((remains.running(), remains.queued()), (1, 10));
    println!("release_timeout: {remains}");
    drop(gate);
    pool.release_timeout(Duration::MAX)?;
    assert_eq!((ran.load(Ordering::Relaxed), pool.workers()), (10, 0));

    // reboot opens it again: same handles, same counters.
    pool.reboot();
    submit(&pool, 5, &ran)?;
    pool.wait_idle();
    assert_eq!(
        (ran.load(Ordering::Relaxed), pool.stats().completed),
        (15, 16)
    );
    println!(
        "reboot:          {} tasks completed in both lives",
        pool.stats().completed
    );

    // release_now throws the backlog away, and says how much that was. What runs is not interrupted.
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

    // Dropping the pool is a release that waits for all it accepted.
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

/// Keeps the worker busy until the gate is dropped. When this returns, the worker is at it.
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
