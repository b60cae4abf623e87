//! Leases: kept while a job runs, and told of when they are lost.

use crate::bench::*;
use anthill::Pool;
use anthill_jobs::*;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

#[test]
fn a_job_that_outlasts_its_lease_is_kept_by_heartbeats() {
    let spy = Spy::new();
    let queue = spy.queue(&Clock::system());
    let pool = Pool::with_capacity(2);
    let gate = Gate::new();
    let there = gate.clone();
    queue.enqueue(Count(1)).unwrap();
    let consumer = queue
        .consumer(&pool)
        .lease(Duration::from_millis(600))
        .handle(move |_: Count, _: &Context| {
            there.pass();
            Ok(())
        })
        .start()
        .unwrap();
    gate.wait_for(1);
    // Three of them are the length of the lease.
    spy.wait_for_extends(5);
    assert_eq!(gate.came(), 1, "nobody else got it");
    gate.open();
    consumer.wait_idle();
    let stats = queue.stats().unwrap();
    assert_eq!((stats.done, stats.lost_leases), (1, 0));
}

#[test]
fn who_lost_his_lease_is_told_and_his_end_is_not_taken() {
    let clock = Clock::manual();
    let queue = Queue::of(MemoryBroker::new(clock.clone()));
    let (one, other) = (Pool::with_capacity(1), Pool::with_capacity(1));
    let (send, stopped) = mpsc::channel();
    queue
        .job(Count(1))
        .keep_result(SECOND * 60)
        .enqueue()
        .unwrap();
    let start = |pool: &Pool| {
        let send = send.clone();
        let builder = queue.consumer(pool).lease(Duration::from_millis(90));
        let builder = builder.handle(move |_: Count, context: &Context| {
            if context.attempt() == 1 {
                send.send(context.id())?;
                assert!(context.stop_token().wait_timeout(LONG), "it is told");
                assert!(!context.progress(&1)?, "nor is its progress taken");
            }
            Ok(context.attempt())
        });
        builder.start().unwrap()
    };
    let zombie = start(&one);
    let id = hear(&stopped);
    // As if it had not been heard of for so long.
    clock.advance(SECOND);
    let second = start(&other);
    until("the job is done", || {
        queue.result::<u32>(id).unwrap().is_some()
    });
    zombie.stop(LONG).unwrap();
    second.stop(LONG).unwrap();
    assert_eq!(queue.result::<u32>(id).unwrap(), Some(2));
    let lost = zombie.stats().lost + second.stats().lost;
    assert_eq!(lost, 1);
    assert_eq!(queue.stats().unwrap().done, 1);
}

#[test]
fn a_job_that_runs_too_long_is_given_up_and_goes_to_another() {
    let queue = Queue::memory();
    let pool = Pool::with_capacity(2);
    let job = queue.job(Count(1)).keep_result(SECOND * 60);
    let id = job.enqueue().unwrap().id();
    let (send, second) = mpsc::channel();
    let second = Mutex::new(second);
    let consumer = queue
        .consumer(&pool)
        // Long enough that heartbeats keep it for as long as they are given.
        .lease(SECOND)
        .handle(move |_: Count, context: &Context| {
            if context.attempt() == 1 {
                assert!(context.stop_token().wait_timeout(LONG), "it is told");
                hear(&second.lock().unwrap());
            } else {
                send.send(())?;
            }
            Ok(context.attempt())
        })
        .run_time_of::<Count>(Duration::from_millis(10))
        .workers(2..=2)
        .start()
        .unwrap();
    until("both attempts are over", || {
        queue.stats().unwrap().done == 1 && consumer.stats().in_hand == 0
    });
    assert_eq!(queue.result::<u32>(id).unwrap(), Some(2));
    assert_eq!(
        (queue.stats().unwrap().lost_leases, consumer.stats().lost),
        (1, 1)
    );
}

#[test]
fn a_broker_that_is_down_is_waited_for_and_nothing_is_lost() {
    let spy = Spy::new();
    let queue = spy.queue(&Clock::system());
    let pool = Pool::with_capacity(2);
    let (send, errors) = mpsc::channel();
    spy.fail_claims(2);
    spy.fail_settles(2);
    let consumer = queue
        .consumer(&pool)
        .handle(|_: Count, _: &Context| -> Result<(), JobError> { Ok(()) })
        .on_error(move |error| send.send(error.to_string()).unwrap())
        .start()
        .unwrap();
    queue.enqueue_all((0..100).map(Count).collect()).unwrap();
    until("all are done", || queue.stats().unwrap().done == 100);
    consumer.stop(LONG).unwrap();
    let errors: Vec<String> = errors.try_iter().collect();
    assert_eq!(errors, ["the queue's broker failed"; 4]);
    let stats = queue.stats().unwrap();
    assert_eq!((stats.done, stats.lost_leases, stats.retried), (100, 0, 0));
    assert_eq!(consumer.stats().lost, 0);
}
