//! Can a pool grow, shrink and pause while it works? Yes, at any moment and from any thread.
//!
//! ```text
//! cargo run --example resize
//! ```

use std::error::Error;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use anthill::{Pool, PoolHandle};

/// What the tasks themselves count.
#[derive(Default)]
struct Load {
    now: AtomicUsize,
    most: AtomicUsize,
    done: AtomicU64,
}

impl Load {
    /// A task that computes for some microseconds.
    fn work(&self) {
        self.most.fetch_max(
            self.now.fetch_add(1, Ordering::SeqCst) + 1,
            Ordering::SeqCst,
        );
        std::hint::black_box(
            (0..20_000_u64).fold(1, |hash, n| (hash ^ n).wrapping_mul(0x0100_0000_01b3)),
        );
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    fn submit_to(self: &Arc<Self>, pool: &PoolHandle, tasks: usize) {
        for _ in 0..tasks {
            let load = Arc::clone(self);
            pool.submit(move || load.work()).expect("the pool is open");
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let pool = Pool::builder().capacity(1).unbounded_backlog().build()?;

    // Up: three tasks that wait for each other need three workers to finish.
    let meeting = Arc::new(Barrier::new(3));
    for _ in 0..3 {
        let meeting = Arc::clone(&meeting);
        pool.submit(move || {
            meeting.wait();
        })?;
    }
    assert_eq!(pool.tune(3), 1, "tune returns the old capacity");
    pool.wait_idle();
    println!("up:     3 tasks met on {} workers", pool.workers());

    // Down: from here on tasks run one by one.
    pool.tune(1);
    let load = Arc::new(Load::default());
    load.submit_to(&pool, 200);
    pool.wait_idle();
    assert_eq!(load.most.load(Ordering::SeqCst), 1);
    println!("down:   200 tasks, never two at once");

    // Pause: tasks are accepted and none starts. Resume: they run.
    pool.tune(0);
    let load = Arc::new(Load::default());
    load.submit_to(&pool, 200);
    assert_eq!((pool.running(), pool.queued()), (0, 200));
    pool.tune(2);
    pool.wait_idle();
    assert_eq!(load.done.load(Ordering::SeqCst), 200);
    println!("pause:  200 tasks waited until the pool was resumed");

    // Under load: one thread submits while this one raises the capacity, lowers it and pauses the pool.
    let load = Arc::new(Load::default());
    thread::scope(|scope| {
        let producer = scope.spawn(|| load.submit_to(&pool, 20_000));
        for capacity in [4, 1, 3, 0, 2].into_iter().cycle() {
            pool.tune(capacity);
            if producer.is_finished() {
                break;
            }
            thread::yield_now();
        }
    });
    pool.tune(4);
    pool.wait_idle();
    let (most, done) = (
        load.most.load(Ordering::SeqCst),
        load.done.load(Ordering::SeqCst),
    );
    assert_eq!(done, 20_000, "none was lost");
    assert!(most <= 4, "the bound held");
    println!("load:   {done} tasks, at most {most} at once");
    Ok(())
}
