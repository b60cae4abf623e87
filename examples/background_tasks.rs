//! How do tasks that run for ever end? They watch the pool's stop token. And nothing is lost silently when a pool
//! stops.
//!
//! ```text
//! cargo run --example background_tasks
//! ```

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use anthill::{JoinError, Pool, PoolHandle, SubmitErrorKind};

fn main() -> Result<(), Box<dyn Error>> {
    long_lived_tasks_end_on_the_stop_token()?;
    stopping_is_always_allowed()?;
    whatever_was_accepted_runs()?;
    discarded_tasks_are_reported()
}

/// A heartbeat, and a watcher that submits more work to the pool while it runs.
fn long_lived_tasks_end_on_the_stop_token() -> Result<(), Box<dyn Error>> {
    let pool = Pool::with_capacity(4);

    let stop = pool.stop_token();
    let heartbeat = pool.spawn(move || {
        let mut beats = 0;
        // Sleeps on the token: a stop ends the sleep, too.
        while !stop.wait_timeout(Duration::from_millis(5)) {
            beats += 1;
        }
        beats
    })?;

    let found = Arc::new(AtomicUsize::new(0));
    let (files, inbox) = mpsc::channel::<&str>();
    let task_found = Arc::clone(&found);
    let watcher = pool.spawn(move || {
        let pool = PoolHandle::current().expect("this is a task of the pool");
        let mut seen = 0;
        for _file in inbox {
            seen += 1;
            let found = Arc::clone(&task_found);
            let count = move || {
                found.fetch_add(1, Ordering::SeqCst);
            };
            // In a task of the pool `submit` never blocks, and it succeeds even while the pool is stopping.
            pool.submit(count).expect("accepted from its own tasks");
        }
        seen
    })?;

    for file in ["a.txt", "b.txt", "c.txt"] {
        files.send(file)?;
    }
    thread::sleep(Duration::from_millis(30)); // the program's own work
    pool.release(); // sets the token
    files.send("late.txt")?;
    drop(files);
    let (beats, seen) = (heartbeat.join()?, watcher.join()?);
    pool.release_timeout(Duration::MAX)?; // the threads are gone
    assert!(beats > 0);
    assert_eq!((seen, found.load(Ordering::SeqCst)), (4, 4));
    println!(
        "stop token:   the heartbeat ended after {beats} beats, the watcher after {seen} files"
    );
    Ok(())
}

/// A pool can be stopped before its first task, more than once, from several threads and from a task.
fn stopping_is_always_allowed() -> Result<(), Box<dyn Error>> {
    let unused = Pool::with_capacity(4);
    unused.release();
    unused.release();
    unused.release_timeout(Duration::MAX)?;
    assert_eq!(unused.release_now(), 0);
    assert_eq!(unused.stats().workers_started, 0);
    let refused = unused.submit(|| ()).expect_err("stopped");
    assert_eq!(refused.kind(), SubmitErrorKind::Closed);

    let pool = Pool::with_capacity(1);
    pool.submit(|| PoolHandle::current().expect("in a task").release())?;
    pool.wait_idle();
    assert!(pool.is_closed());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| pool.release_timeout(Duration::MAX));
        }
    });
    assert_eq!(pool.workers(), 0);
    println!("stop, again:  before the first task, twice, in a task and on four threads at once");
    Ok(())
}

/// The pool is stopped while another thread submits: each job runs or comes back, none is lost.
fn whatever_was_accepted_runs() -> Result<(), Box<dyn Error>> {
    let pool = Pool::builder().capacity(2).backlog(10).build()?;
    let ran = Arc::new(AtomicUsize::new(0));
    let (accepted, given_back) = thread::scope(|scope| {
        let producer = scope.spawn(|| {
            let (mut accepted, mut given_back) = (0, Vec::new());
            for _ in 0..1_000 {
                let ran = Arc::clone(&ran);
                let job = move || {
                    thread::sleep(Duration::from_micros(50));
                    ran.fetch_add(1, Ordering::SeqCst);
                };
                match pool.submit(job) {
                    Ok(()) => accepted += 1,
                    Err(refused) => given_back.push(refused.into_inner()),
                }
            }
            (accepted, given_back)
        });
        thread::sleep(Duration::from_millis(10));
        pool.release(); // at any moment
        producer.join().expect("it does not panic")
    });
    pool.release_timeout(Duration::MAX)?;
    assert_eq!(ran.load(Ordering::SeqCst), accepted);
    println!(
        "stop midway:  of 1000 jobs {accepted} were accepted and ran, {} came back",
        given_back.len()
    );
    // They can run here, or go to another pool.
    for job in given_back {
        job();
    }
    assert_eq!(ran.load(Ordering::SeqCst), 1_000);
    Ok(())
}

/// `release_now` drops the queued tasks and returns how many there were; each handle reports it, too.
fn discarded_tasks_are_reported() -> Result<(), Box<dyn Error>> {
    let pool = Pool::builder().capacity(1).unbounded_backlog().build()?;
    let gate = occupy(&pool)?;
    let mut handles = Vec::new();
    for job in 0..5 {
        handles.push(pool.spawn(move || job)?);
    }
    let discarded = pool.release_now();
    drop(gate);
    let cancelled = handles
        .into_iter()
        .filter_map(|handle| handle.join().err())
        .filter(JoinError::is_cancelled)
        .count();
    pool.release_timeout(Duration::MAX)?;
    assert_eq!((discarded, cancelled), (5, 5));
    assert_eq!(pool.stats().discarded, 5);
    println!("stop now:     {discarded} queued jobs discarded, and {cancelled} handles report it");
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
