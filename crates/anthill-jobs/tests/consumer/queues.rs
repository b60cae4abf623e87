//! Several queues on one consumer.

use crate::bench::*;
use anthill::Pool;
use anthill_jobs::*;
use std::sync::mpsc;

#[test]
fn jobs_of_all_queues_are_run_and_settled_where_they_came_from() {
    let queues = [queue().0, queue().0, queue().0];
    let pool = Pool::with_capacity(2);
    for (number, queue) in (1..).zip(&queues) {
        for n in 0..number * 100 {
            queue.job(Count(n)).retries(n % 2).enqueue().unwrap();
        }
    }
    let consumer = queues[0]
        .consumer(&pool)
        .weight(5)
        .also(&queues[1], 2)
        .also(&queues[2], 1)
        .handle(|_: Count, cx: &Context| -> Result<(), JobError> {
            assert!(cx.progress(&1)?, "it is its own queue's");
            Ok(())
        })
        .start()
        .unwrap();
    consumer.wait_idle();
    for (number, queue) in (1..).zip(&queues) {
        let stats = queue.stats().unwrap();
        assert_eq!(
            (stats.done, stats.dead, stats.retried),
            (number * 100, 0, 0)
        );
    }
    // What comes later is heard of in each.
    for queue in &queues {
        queue.enqueue(Count(1)).unwrap();
        consumer.wait_idle();
    }
    assert_eq!(consumer.stats().done, 603);
}

#[test]
fn a_queue_whose_broker_fails_holds_up_no_other() {
    let (spy, good) = (Spy::new(), queue().0);
    let bad = spy.queue(&Clock::manual());
    let pool = Pool::with_capacity(1);
    let (errors, told) = mpsc::channel();
    spy.fail_claims(u32::MAX);
    let consumer = bad
        .consumer(&pool)
        .weight(1_000)
        .also(&good, 1)
        .handle(|_: Count, _: &Context| -> Result<(), JobError> { Ok(()) })
        .on_error(move |error| drop(errors.send(error.to_string())))
        .start()
        .unwrap();
    bad.enqueue(Count(1)).unwrap();
    for n in 0..100 {
        good.enqueue(Count(n)).unwrap();
    }
    until("the good one is done", || good.stats().unwrap().done == 100);
    hear(&told);
    assert_eq!(bad.stats().unwrap().done, 0);
    spy.fail_claims(0);
    until("and the other one, once it works", || {
        bad.stats().unwrap().done == 1
    });
    drop(consumer);
}

#[test]
fn a_paused_queue_and_the_schedules_of_each_are_its_own() {
    let ((one, clock), (two, other_clock)) = (queue(), queue());
    let pool = Pool::with_capacity(1);
    let (ran, runs) = mpsc::channel();
    let consumer = one
        .consumer(&pool)
        .also(&two, 1)
        .handle(move |Count(n): Count, _: &Context| Ok(ran.send(n)?))
        .start()
        .unwrap();
    one.pause().unwrap();
    one.enqueue(Count(1)).unwrap();
    two.schedule("hourly", "0 * * * *", &Count(2)).unwrap();
    clock.advance(SECOND * 3600);
    other_clock.advance(SECOND * 3600);
    assert_eq!(hear(&runs), 2);
    one.resume().unwrap();
    assert_eq!(hear(&runs), 1);
    drop(consumer);
}
