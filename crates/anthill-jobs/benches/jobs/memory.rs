//! The broker in memory.

use crate::{ROUNDS, tell};
use anthill::Pool;
use anthill_jobs::{Context, Job, Queue};
use serde::{Deserialize, Serialize};
use std::time::Instant;

#[derive(Serialize, Deserialize)]
struct Number {
    n: u32,
}

impl Job for Number {
    const KIND: &'static str = "number";
}

const JOBS: u32 = 200_000;

pub(crate) fn run(is_wanted: &dyn Fn(&str) -> bool) {
    for (name, batch) in [
        ("memory: enqueue one by one", 1),
        ("memory: enqueue 1,000 at once", 1_000),
    ] {
        if is_wanted(name) {
            let times = (0..ROUNDS).map(|_| {
                let queue = Queue::memory();
                let start = Instant::now();
                fill(&queue, batch);
                start.elapsed()
            });
            tell(name, JOBS, times.collect(), "");
        }
    }
    let name = "memory: hand to 2 workers";
    if is_wanted(name) {
        let times = (0..ROUNDS).map(|_| {
            let queue = Queue::memory();
            fill(&queue, 1_000);
            let pool = Pool::with_capacity(2);
            let consumer = queue.consumer(&pool).workers(2..=2);
            let consumer = consumer.handle(|job: Number, _: &Context| {
                std::hint::black_box(job.n);
                Ok(())
            });
            let start = Instant::now();
            let consumer = consumer.start().expect("there is a thread to be had");
            consumer.wait_idle();
            let time = start.elapsed();
            let stats = queue.stats().expect("memory does not fail");
            assert_eq!(stats.done, u64::from(JOBS));
            time
        });
        tell(
            name,
            JOBS,
            times.collect(),
            "claimed, decoded, run and settled",
        );
    }
}

fn fill(queue: &Queue, batch: u32) {
    for first in (0..JOBS).step_by(batch as usize) {
        if batch == 1 {
            let _ = queue
                .enqueue(Number { n: first })
                .expect("memory does not fail");
        } else {
            let jobs = (first..first + batch).map(|n| Number { n }).collect();
            let _ = queue.enqueue_all(jobs).expect("memory does not fail");
        }
    }
}
