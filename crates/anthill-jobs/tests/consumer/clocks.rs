//! Schedules beside a clock that is wrong for a moment, and times that nobody saw to.

use crate::bench::*;
use anthill::Pool;
use anthill_jobs::*;
use std::sync::mpsc::{self, Receiver};

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

fn counting(queue: &Queue, pool: &Pool) -> (Consumer, Receiver<u32>) {
    let (send, ran) = mpsc::channel();
    let builder = queue.consumer(pool);
    let builder = builder.handle(move |Count(n): Count, _: &Context| Ok(send.send(n)?));
    (builder.start().unwrap(), ran)
}

fn next(queue: &Queue) -> i64 {
    let store = queue.as_broker().schedule_store().unwrap();
    store.schedules().unwrap().all[0].next
}

/// Those that are enqueued; the consumer may not have heard of the last one yet.
fn until_all_ran(queue: &Queue) {
    until("all have run", || {
        let stats = queue.stats().unwrap();
        stats.done == stats.enqueued
    });
}

#[test]
fn a_clock_that_was_a_year_ahead_for_a_moment_silences_no_schedule() {
    let (queue, clock) = queue();
    let pool = Pool::with_capacity(1);
    let (consumer, ran) = counting(&queue, &pool);
    queue.schedule("hourly", "0 * * * *", &Count(0)).unwrap();
    let (right, first) = (clock.wall(), next(&queue));
    clock.set_wall(right + HOUR * 24 * 366);
    assert_eq!(hear(&ran), 0, "it is due by that clock");
    until("its next time is set", || next(&queue) > first + 86_400);
    consumer.wait_idle();
    clock.set_wall(right);
    // As a program does when it starts.
    queue.schedule("hourly", "0 * * * *", &Count(0)).unwrap();
    until("its next time is right", || next(&queue) == first);
    for hours in 1..=5 {
        clock.advance(HOUR);
        assert_eq!(hear(&ran), 0);
        until("its next time is set", || {
            next(&queue) == first + hours * 3600
        });
        consumer.wait_idle();
    }
    consumer.stop(LONG).unwrap();
    assert_eq!(ran.try_iter().count(), 0);
    assert_eq!(queue.stats().unwrap().enqueued, 6);
}

/// The times that pass while a queue is paused, and how many jobs make up for them.
fn paused(missed: Missed) -> (Vec<u32>, Queue, Clock) {
    let (queue, clock) = queue();
    let pool = Pool::with_capacity(1);
    let (consumer, ran) = counting(&queue, &pool);
    let daily = queue.schedule_with("hourly", "0 * * * *", &Count(7), missed);
    daily.unwrap();
    queue.pause().unwrap();
    // At once: a time between would be one that passed while somebody looked.
    clock.advance(HOUR * 30);
    let first = next(&queue);
    queue.resume().unwrap();
    until("they are seen to", || next(&queue) == first + 30 * 3600);
    until_all_ran(&queue);
    // The next one comes at its own time.
    let before = queue.stats().unwrap().enqueued;
    clock.advance(HOUR);
    until("the next one came", || {
        queue.stats().unwrap().enqueued == before + 1
    });
    until_all_ran(&queue);
    consumer.stop(LONG).unwrap();
    (ran.try_iter().collect(), queue, clock)
}

#[test]
fn one_job_makes_up_for_the_times_of_a_pause() {
    let (ran, queue, _) = paused(Missed::Once);
    assert_eq!(ran, [7; 2]);
    assert_eq!(queue.stats().unwrap().enqueued, 2);
}

#[test]
fn a_schedule_may_make_up_for_each_time() {
    let (ran, queue, _) = paused(Missed::All);
    assert_eq!(ran, [7; 31]);
    assert_eq!(queue.stats().unwrap().enqueued, 31);
}

#[test]
fn a_schedule_may_skip_what_was_missed() {
    let (ran, queue, _) = paused(Missed::Skip);
    assert_eq!(ran, [7; 1]);
    assert_eq!(queue.stats().unwrap().enqueued, 1);
}

/// Also those that passed while no consumer ran.
#[test]
fn times_that_passed_while_no_consumer_ran_are_made_up_for_as_the_schedule_says() {
    for (missed, jobs) in [(Missed::Once, 1), (Missed::All, 5), (Missed::Skip, 0)] {
        let (queue, clock) = queue();
        let pool = Pool::with_capacity(1);
        let hourly = queue.schedule_with("hourly", "0 * * * *", &Count(7), missed);
        hourly.unwrap();
        let first = next(&queue);
        // Half an hour after the last one, so that none is punctual.
        clock.advance(HOUR * 5 + HOUR / 2);
        let (consumer, ran) = counting(&queue, &pool);
        until("they are seen to", || next(&queue) == first + 5 * 3600);
        until_all_ran(&queue);
        consumer.stop(LONG).unwrap();
        assert_eq!(ran.try_iter().count(), jobs, "{missed:?}");
    }
}
