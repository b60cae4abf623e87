//! Pieces of work to count instructions of, which do not depend on how threads are scheduled: one worker runs
//! when the submitter is done, or submits to itself.
//!
//! `.ci/instructions` runs them under callgrind, and compares what a task takes with what it took before. By
//! itself this runs each once: `cargo bench --bench instructions -- [WORK TASKS]`.

use std::env;
use std::hint::black_box;
use std::sync::{Arc, Barrier};

use anthill::{FuncPool, JoinHandle, Pool, PoolHandle};

fn main() {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.as_slice() {
        [work, tasks] => run(work, tasks.parse().expect("a number of tasks")),
        _ => WORK.iter().for_each(|work| run(work, 1_000)),
    }
}

const WORK: [&str; 6] = [
    "invoke",
    "submit",
    "submit-all",
    "spawn-and-join",
    "submit-in-a-task",
    "join-in-a-task",
];

fn run(work: &str, tasks: usize) {
    let pool = Pool::builder().capacity(1).unbounded_backlog().build();
    let pool = pool.expect("the settings agree with each other");
    let inside = pool.handle();
    match work {
        "submit" => {
            let held = hold(&pool);
            (0..tasks).for_each(|n| submit(&pool, n));
            held.wait();
        }
        "submit-all" => {
            let held = hold(&pool);
            // Three words, as below.
            let task = |n: usize| {
                let words = [n, n, n];
                move || {
                    black_box(words);
                }
            };
            let submitted = pool.submit_all((0..tasks).map(task));
            assert_eq!(submitted.ok(), Some(tasks), "it is open");
            held.wait();
        }
        "invoke" => {
            let func = |words: [usize; 2]| {
                black_box(words);
            };
            let pool = FuncPool::builder(func)
                .capacity(1)
                .unbounded_backlog()
                .build();
            let pool = pool.expect("the settings agree with each other");
            let held = hold(&pool);
            for n in 0..tasks {
                assert!(pool.invoke([n, n]).is_ok(), "it is open");
            }
            held.wait();
            pool.wait_idle();
        }
        "spawn-and-join" => {
            let held = hold(&pool);
            let handles: Vec<_> = (0..tasks).map(|n| spawn(&pool, n)).collect();
            held.wait();
            pool.wait_idle();
            handles.into_iter().for_each(join);
        }
        "submit-in-a-task" => {
            in_a_task(&pool, move || (0..tasks).for_each(|n| submit(&inside, n)));
        }
        "join-in-a-task" => {
            in_a_task(&pool, move || {
                (0..tasks).for_each(|n| join(spawn(&inside, n)));
            });
        }
        other => panic!("{other} is none of {WORK:?}"),
    }
    pool.wait_idle();
}

/// A task that keeps the one worker busy until the barrier is waited for.
fn hold(pool: &PoolHandle) -> Arc<Barrier> {
    let (begun, over) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (begins, ends) = (Arc::clone(&begun), Arc::clone(&over));
    in_a_task(pool, move || {
        begins.wait();
        ends.wait();
    });
    begun.wait();
    over
}

fn in_a_task(pool: &PoolHandle, task: impl FnOnce() + Send + 'static) {
    assert!(pool.submit(task).is_ok(), "it is open");
}

fn spawn(pool: &PoolHandle, n: usize) -> JoinHandle<usize> {
    pool.spawn(move || black_box(n))
        .unwrap_or_else(|_| panic!("it is open"))
}

fn join(handle: JoinHandle<usize>) {
    handle.join().expect("it does not panic");
}

fn submit(pool: &PoolHandle, n: usize) {
    // Three words.
    let words = [n, n, n];
    let submitted = pool.submit(move || {
        black_box(words);
    });
    assert!(submitted.is_ok(), "it is open");
}
