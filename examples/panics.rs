//! What if a task panics? That task is lost, its worker goes on, and a handler is called.
//!
//! ```text
//! cargo run --example panics
//! ```
//!
//! (The standard panic hook still prints each panic, as in any thread; a program can set its own.)

use std::error::Error;
use std::panic::panic_any;
use std::sync::mpsc;

use anthill::{Pool, TaskPanic};

fn main() -> Result<(), Box<dyn Error>> {
    counted_without_a_handler()?;
    passed_to_the_handler()?;
    passed_to_a_handler_with_state()
}

fn counted_without_a_handler() -> Result<(), Box<dyn Error>> {
    let pool = Pool::with_capacity(1);
    for n in 0..10 {
        pool.submit(move || assert!(n % 5 != 0, "{n} is a multiple of five"))?;
    }
    pool.wait_idle();
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.panicked), (8, 2));
    assert_eq!(stats.workers_started, 1, "the worker survived them all");
    println!(
        "counted: {} tasks completed, {} panicked, on one thread",
        stats.completed, stats.panicked
    );
    Ok(())
}

/// The handler runs on the worker, right after the panic.
fn passed_to_the_handler() -> Result<(), Box<dyn Error>> {
    #[derive(Debug, PartialEq)]
    struct OutOfPaper {
        tray: u8,
    }

    let (sender, panics) = mpsc::channel();
    let pool = Pool::builder()
        .capacity(1)
        .name("printer")
        .panic_handler(move |panic: TaskPanic| drop(sender.send(panic)))
        .build()?;
    pool.submit(|| panic!("paper jam"))?;
    pool.submit(|| panic_any(OutOfPaper { tray: 2 }))?;

    let jam = panics.recv()?;
    assert_eq!(jam.message(), Some("paper jam"));
    assert_eq!(jam.thread_name(), Some("printer-0"));

    // Any value can be a payload, and the handler owns it.
    let empty = panics.recv()?;
    assert_eq!(empty.message(), None);
    let payload = empty
        .into_payload()
        .downcast::<OutOfPaper>()
        .expect("what the task threw");
    assert_eq!(*payload, OutOfPaper { tray: 2 });
    println!(
        "handler: {:?}, then {payload:?}",
        jam.message().unwrap_or_default()
    );
    Ok(())
}

/// Each worker makes a handler of its own and alone calls it, so the handler needs no lock.
fn passed_to_a_handler_with_state() -> Result<(), Box<dyn Error>> {
    let (sender, notes) = mpsc::channel();
    let pool = Pool::builder()
        .capacity(1)
        .panic_handler_per_worker(move |worker| {
            let sender = sender.clone();
            let mut seen = 0;
            move |_panic: TaskPanic| {
                seen += 1;
                sender
                    .send((worker, seen))
                    .expect("the receiver outlives the pool");
            }
        })
        .build()?;
    for _ in 0..3 {
        pool.submit(|| panic!("again"))?;
    }
    pool.wait_idle();
    let seen: Vec<_> = notes.try_iter().collect();
    assert_eq!(
        seen.iter().map(|&(_, seen)| seen).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    println!(
        "per worker: worker {} counted its {} panics itself",
        seen[0].0,
        seen.len()
    );
    Ok(())
}
