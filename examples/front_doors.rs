//! How do I put a job into the queue, and take it out again? Submit with or without waiting, or with a time limit;
//! cancel.
//!
//! ```text
//! cargo run --example front_doors
//! ```

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use anthill::{GroupError, Pool, SubmitErrorKind};

/// How many jobs may wait behind the one worker.
const QUEUE: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    three_ways_to_submit()?;
    a_cancelled_group_starts_nothing_more()?;
    a_cancelled_job_makes_room_at_once()?;
    waiting_for_the_end_but_not_for_ever()
}

/// The same full queue, with each way to submit.
fn three_ways_to_submit() -> Result<(), Box<dyn Error>> {
    let (pool, gate) = full_queue()?;

    // Without waiting.
    let refused = pool.try_submit(|| ()).expect_err("full");
    assert_eq!(refused.kind(), SubmitErrorKind::Full);
    println!("try_submit:     {refused}");

    // With a time limit.
    let limit = Duration::from_millis(20);
    let refused = pool.submit_timeout(|| (), limit).expect_err("still full");
    assert_eq!(refused.kind(), SubmitErrorKind::TimedOut);
    println!("submit_timeout: {refused}");

    // As long as it takes: here, until the gate lets the worker go on.
    thread::scope(|scope| {
        scope.spawn(|| {
            while pool.waiting() == 0 {
                thread::yield_now();
            }
            drop(gate);
        });
        pool.submit(|| ())
    })?;
    println!("submit:         accepted, after a wait");
    Ok(())
}

/// After a cancel no job of the group starts, though the queue is full of them.
fn a_cancelled_group_starts_nothing_more() -> Result<(), Box<dyn Error>> {
    let pool = Pool::builder().capacity(1).backlog(QUEUE).build()?;
    let gate = occupy(&pool)?;
    let started = Arc::new(AtomicUsize::new(0));
    let group = pool.group::<String>();
    for _ in 0..QUEUE {
        let started = Arc::clone(&started);
        group.submit(move || {
            started.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })?;
    }
    assert_eq!(pool.queued(), QUEUE);
    group.cancel();
    assert_eq!(pool.queued(), 0, "their room is free at once");

    drop(gate); // the worker could take them now
    assert!(matches!(group.wait(), Err(GroupError::Cancelled)));
    pool.wait_idle();
    assert_eq!(started.load(Ordering::SeqCst), 0);
    println!(
        "group.cancel:   {} queued jobs dropped, 0 started",
        pool.stats().cancelled
    );
    Ok(())
}

/// A handle cancels one job: what the job captured is dropped, and its place in the queue is free.
fn a_cancelled_job_makes_room_at_once() -> Result<(), Box<dyn Error>> {
    let pool = Pool::builder().capacity(1).backlog(1).build()?;
    let _gate = occupy(&pool)?;
    let upload = pool.spawn(|| "sent")?;
    assert!(pool.try_submit(|| ()).is_err(), "the queue is full");
    assert!(upload.cancel(), "it had not started, and never will");
    pool.try_submit(|| ())?; // while the worker is still busy
    let error = upload.join().expect_err("cancelled");
    assert!(error.is_cancelled());
    println!("handle.cancel:  {error}; another job has its place");
    Ok(())
}

/// Waiting with a time limit returns whether everything was done.
fn waiting_for_the_end_but_not_for_ever() -> Result<(), Box<dyn Error>> {
    let (pool, gate) = full_queue()?;
    let in_time = pool.wait_idle_timeout(Duration::from_millis(20));
    assert!(!in_time);
    println!(
        "wait:           after 20 ms not done, {} queued",
        pool.queued()
    );
    drop(gate);
    assert!(pool.wait_idle_timeout(Duration::from_secs(60)));
    println!("wait:           done, {} completed", pool.stats().completed);
    Ok(())
}

/// Makes a pool whose one worker is busy until the gate is dropped, and whose queue is full.
fn full_queue() -> Result<(Pool, Sender<()>), Box<dyn Error>> {
    let pool = Pool::builder().capacity(1).backlog(QUEUE).build()?;
    let gate = occupy(&pool)?;
    for _ in 0..QUEUE {
        pool.try_submit(|| ())?;
    }
    Ok((pool, gate))
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
