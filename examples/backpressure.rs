//! What if the producer is faster than the workers? It waits, is refused, waits for a limited time; or a policy
//! decides.
//!
//! ```text
//! cargo run --example backpressure
//! ```

use std::error::Error;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anthill::{Overflow, Pool, SubmitErrorKind};

fn main() -> Result<(), Box<dyn Error>> {
    waiting_bounds_the_producer()?;
    refusals_give_the_task_back()?;
    reject_makes_submit_refuse()?;
    caller_runs_slows_the_producer_down()?;
    drop_oldest_keeps_the_newest()
}

/// One worker and two places to wait: a thousand tasks never take more memory than three.
fn waiting_bounds_the_producer() -> Result<(), Box<dyn Error>> {
    let pool = Pool::builder().capacity(1).backlog(2).build()?;
    let done = Arc::new(AtomicUsize::new(0));
    let mut most = 0;
    for made in 1..=1_000 {
        let task_done = Arc::clone(&done);
        pool.submit(move || {
            black_box((0..black_box(5_000_u64)).sum::<u64>());
            task_done.fetch_add(1, Ordering::SeqCst);
        })?;
        most = most.max(made - done.load(Ordering::SeqCst));
    }
    assert!(most <= 3);
    println!("block:       1000 tasks, at most {most} in the pool at any time");
    Ok(())
}

/// `try_submit` never blocks, `submit_timeout` only for a limited time; a refused closure comes back.
fn refusals_give_the_task_back() -> Result<(), Box<dyn Error>> {
    let pool = Pool::with_capacity(1);
    let gate = occupy(&pool)?;

    let letter = String::from("the only copy");
    let (sender, inbox) = mpsc::channel();
    let refused = pool
        .try_submit(move || sender.send(letter).expect("read below"))
        .expect_err("full");
    assert_eq!(refused.kind(), SubmitErrorKind::Full);

    let (kind, task) = pool
        .submit_timeout(refused.into_inner(), Duration::from_millis(20))
        .expect_err("still full")
        .into_parts();
    assert_eq!(kind, SubmitErrorKind::TimedOut);

    drop(gate);
    pool.submit(task)?;
    println!(
        "give back:   {:?} arrives at the third attempt",
        inbox.recv()?
    );
    Ok(())
}

/// With `Overflow::Reject` even `submit` fails instead of blocking.
fn reject_makes_submit_refuse() -> Result<(), Box<dyn Error>> {
    let pool = Pool::builder()
        .capacity(1)
        .overflow(Overflow::Reject)
        .build()?;
    let _gate = occupy(&pool)?;
    let refused = pool.submit(|| ()).expect_err("full");
    assert_eq!(refused.kind(), SubmitErrorKind::Full);
    assert_eq!(pool.stats().rejected, 1);
    println!("reject:      {refused}");
    Ok(())
}

/// With `Overflow::CallerRuns` the producer runs the task itself, and so produces nothing meanwhile.
fn caller_runs_slows_the_producer_down() -> Result<(), Box<dyn Error>> {
    let pool = Pool::builder()
        .capacity(1)
        .overflow(Overflow::CallerRuns)
        .build()?;
    let _gate = occupy(&pool)?;
    let (sender, ran_on) = mpsc::channel();
    pool.submit(move || sender.send(thread::current().id()).expect("read below"))?;
    assert_eq!(ran_on.recv()?, thread::current().id());
    println!("caller runs: the task ran on the thread that submitted it");
    Ok(())
}

/// With `Overflow::DropOldest` the task that has waited longest makes room: right for data that goes stale.
fn drop_oldest_keeps_the_newest() -> Result<(), Box<dyn Error>> {
    let pool = Pool::builder()
        .capacity(1)
        .backlog(2)
        .overflow(Overflow::DropOldest)
        .build()?;
    let gate = occupy(&pool)?;
    let readings = Arc::new(Mutex::new(Vec::new()));
    for reading in 1..=5 {
        let readings = Arc::clone(&readings);
        pool.submit(move || {
            let mut readings = readings.lock().expect("nothing panics under it");
            readings.push(reading);
        })?;
    }
    drop(gate);
    pool.wait_idle();
    let kept = readings.lock().expect("nothing panics under it");
    assert_eq!(*kept, [4, 5]);
    assert_eq!(pool.stats().discarded, 3);
    println!("drop oldest: of the readings 1 to 5 the pool kept {kept:?}");
    Ok(())
}

/// Keeps a worker busy until the gate is dropped. When it returns, the worker has begun.
fn occupy(pool: &Pool) -> Result<Sender<()>, Box<dyn Error>> {
    let (gate, opens): (Sender<()>, Receiver<()>) = mpsc::channel();
    let (started, starts) = mpsc::channel();
    pool.submit(move || {
        started.send(()).expect("read below");
        // Nothing is ever sent: this ends when the gate is dropped.
        let _ = opens.recv();
    })?;
    starts.recv()?;
    Ok(gate)
}
