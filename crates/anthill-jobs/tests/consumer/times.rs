//! What time brings.

use crate::bench::*;
use anthill::Pool;
use anthill_jobs::*;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// A consumer that tells of what it runs.
fn counting(queue: &Queue, pool: &Pool) -> (Consumer, Receiver<u32>) {
    let (send, ran) = mpsc::channel();
    let builder = queue.consumer(pool);
    let builder = builder.handle(move |Count(n): Count, _: &Context| Ok(send.send(n)?));
    (builder.start().unwrap(), ran)
}

#[test]
fn a_delayed_job_is_run_when_it_is_due_and_not_before() {
    let (queue, clock) = queue();
    let pool = Pool::with_capacity(1);
    let (consumer, ran) = counting(&queue, &pool);
    queue.job(Count(1)).delay(SECOND * 60).enqueue().unwrap();
    clock.advance(SECOND * 59);
    consumer.wait_idle();
    assert_eq!(ran.try_iter().count(), 0);
    clock.advance(SECOND);
    assert_eq!(hear(&ran), 1);
}

#[test]
fn it_wakes_for_what_is_due_by_itself() {
    let queue = Queue::memory();
    let pool = Pool::with_capacity(1);
    let (_consumer, ran) = counting(&queue, &pool);
    queue
        .job(Count(1))
        .delay(Duration::from_millis(50))
        .enqueue()
        .unwrap();
    assert_eq!(hear(&ran), 1);
}

#[test]
fn it_wakes_when_the_rate_allows_more() {
    let queue = Queue::memory();
    let pool = Pool::with_capacity(1);
    let rate = Rate {
        jobs: 100,
        per: SECOND,
        burst: 1,
    };
    queue
        .set_limits(Limits {
            rate: Some(rate),
            ..Limits::default()
        })
        .unwrap();
    let (_consumer, ran) = counting(&queue, &pool);
    let start = std::time::Instant::now();
    queue.enqueue_all((0..5).map(Count).collect()).unwrap();
    let came: Vec<u32> = (0..5).map(|_| hear(&ran)).collect();
    assert_eq!(came, [0, 1, 2, 3, 4]);
    // A limit, so this is no guess about speed.
    assert!(start.elapsed() >= Duration::from_millis(40));
}

#[test]
fn limits_hold_for_all_consumers_together() {
    let (queue, _) = queue();
    let pools: Vec<Pool> = (0..2).map(|_| Pool::with_capacity(4)).collect();
    queue
        .set_limits(Limits {
            running: Some(2),
            ..Limits::default()
        })
        .unwrap();
    let gate = Gate::new();
    let consumer = |pool: &Pool| {
        let there = gate.clone();
        let builder = queue.consumer(pool).workers(4..=4);
        let builder = builder.handle(move |_: Count, _: &Context| {
            there.pass();
            Ok(())
        });
        builder.start().unwrap()
    };
    let consumers: Vec<Consumer> = pools.iter().map(consumer).collect();
    queue.enqueue_all((0..10).map(Count).collect()).unwrap();
    gate.wait_for(2);
    for consumer in &consumers {
        assert!(consumer.stats().in_hand <= 2);
    }
    assert_eq!(queue.stats().unwrap().running, 2);
    gate.open();
    until("all are done", || queue.stats().unwrap().done == 10);
}

#[test]
fn a_paused_queue_starts_nothing_until_it_is_resumed() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(1);
    queue.pause().unwrap();
    let (consumer, ran) = counting(&queue, &pool);
    queue.enqueue(Count(1)).unwrap();
    consumer.wait_idle();
    assert_eq!(ran.try_iter().count(), 0);
    queue.resume().unwrap();
    assert_eq!(hear(&ran), 1);
}

#[test]
fn a_schedule_comes_again_and_again_and_once_for_what_was_missed() {
    let (queue, clock) = queue();
    let pool = Pool::with_capacity(1);
    queue.schedule("hourly", "0 * * * *", &Count(1)).unwrap();
    let (consumer, ran) = counting(&queue, &pool);
    consumer.wait_idle();
    assert_eq!(ran.try_iter().count(), 0);
    for _ in 0..3 {
        clock.advance(SECOND * 3600);
        assert_eq!(hear(&ran), 1);
        // Its lease would be over when the clock is moved.
        consumer.wait_idle();
    }
    clock.advance(SECOND * 3600 * 10);
    assert_eq!(hear(&ran), 1);
    consumer.wait_idle();
    // Another one, while the consumer runs.
    queue
        .schedule("each minute", "* * * * *", &Count(2))
        .unwrap();
    clock.advance(SECOND * 60);
    assert_eq!(hear(&ran), 2);
    consumer.wait_idle();
    assert!(queue.unschedule("each minute").unwrap());
    assert!(queue.unschedule("hourly").unwrap());
    assert!(!queue.unschedule("hourly").unwrap());
    clock.advance(SECOND * 7200);
    consumer.wait_idle();
    assert_eq!(ran.try_iter().count(), 0);
    let wrong = queue
        .schedule("never", "now and then", &Count(1))
        .unwrap_err();
    assert!(matches!(wrong, QueueError::Schedule { .. }));
}

#[test]
fn of_several_consumers_one_fires_a_schedule() {
    let (queue, clock) = queue();
    let pool = Pool::with_capacity(4);
    queue.schedule("hourly", "0 * * * *", &Count(1)).unwrap();
    let consumers: Vec<_> = (0..4).map(|_| counting(&queue, &pool)).collect();
    clock.advance(SECOND * 3600);
    until("it came", || queue.stats().unwrap().done == 1);
    clock.advance(SECOND * 60);
    for (consumer, _) in &consumers {
        consumer.stop(LONG).unwrap();
    }
    assert_eq!(queue.stats().unwrap().enqueued, 1);
}
