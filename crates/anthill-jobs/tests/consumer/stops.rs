//! How a consumer ends.

use crate::bench::*;
use anthill::Pool;
use anthill_jobs::*;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

#[test]
fn what_runs_is_finished_and_the_rest_stays_in_the_queue() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(2);
    let gate = Gate::new();
    let there = gate.clone();
    queue.enqueue_all((0..100).map(Count).collect()).unwrap();
    let consumer = queue
        .consumer(&pool)
        .workers(2..=2)
        .handle(move |_: Count, context: &Context| {
            there.pass();
            assert!(context.stop_token().is_stopped());
            Ok(())
        })
        .start()
        .unwrap();
    gate.wait_for(2);
    let late = consumer.stop(Duration::ZERO).unwrap_err();
    assert_eq!(late.running().len(), 2);
    assert_eq!(late.to_string(), "2 jobs still run");
    gate.open();
    consumer.stop(LONG).unwrap();
    let stats = queue.stats().unwrap();
    assert_eq!((stats.done, stats.ready, stats.running), (2, 98, 0));
    // Again, and nothing happens.
    consumer.stop(Duration::ZERO).unwrap();
}

#[test]
fn quick_jobs_that_were_claimed_ahead_are_handed_back() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(1);
    let gate = Gate::new();
    let there = gate.clone();
    // The first ones are quick, so that several are claimed at once.
    queue.enqueue_all((0..5_000).map(Count).collect()).unwrap();
    let consumer = queue
        .consumer(&pool)
        .handle(move |Count(n): Count, _: &Context| {
            if n == 2_000 {
                there.pass();
            }
            Ok(())
        })
        .start()
        .unwrap();
    gate.wait_for(1);
    assert!(consumer.stop(Duration::ZERO).is_err());
    gate.open();
    consumer.stop(LONG).unwrap();
    let stats = queue.stats().unwrap();
    assert_eq!((stats.done, stats.ready), (2_001, 2_999));
    assert_eq!(stats.retried + stats.lost_leases, 0);
    // What was handed back has not lost an attempt.
    let first = &queue.list(JobState::Ready, None, 1).unwrap()[0];
    assert_eq!((first.attempt, &first.payload[..]), (0, &b"2001"[..]));
}

#[test]
fn a_consumer_that_is_dropped_waits_for_what_runs() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(1);
    let (send, started) = mpsc::channel();
    let consumer = queue
        .consumer(&pool)
        .handle(move |_: Count, context: &Context| {
            send.send(())?;
            assert!(context.stop_token().wait_timeout(LONG));
            Ok(())
        })
        .start()
        .unwrap();
    queue.enqueue(Count(1)).unwrap();
    hear(&started);
    drop(consumer);
    assert_eq!(queue.stats().unwrap().done, 1);
}

#[test]
fn a_handler_may_drop_its_own_consumer() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(1);
    let place: Arc<Mutex<Option<Consumer>>> = Arc::default();
    let (send, dropped) = mpsc::channel();
    let own = place.clone();
    let consumer = queue
        .consumer(&pool)
        .handle(move |_: Count, _: &Context| {
            drop(own.lock().unwrap().take());
            Ok(send.send(())?)
        })
        .start()
        .unwrap();
    *place.lock().unwrap() = Some(consumer);
    queue.enqueue(Count(1)).unwrap();
    hear(&dropped);
    until("it ends as it would have", || {
        queue.stats().unwrap().done == 1
    });
}

#[test]
fn a_handler_that_stops_its_own_consumer_does_not_wait_for_itself() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(1);
    let place: Arc<Mutex<Option<Arc<Consumer>>>> = Arc::default();
    let own = place.clone();
    let (send, said) = mpsc::channel();
    let handler = move |_: Count, context: &Context| {
        let consumer = own.lock().unwrap().take().expect("it was put there");
        let late = consumer.stop(Duration::MAX).unwrap_err();
        let idle = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| consumer.wait_idle()));
        Ok(send.send((late.running() == [context.id()], idle.is_err()))?)
    };
    let consumer = Arc::new(queue.consumer(&pool).handle(handler).start().unwrap());
    *place.lock().unwrap() = Some(consumer.clone());
    queue.enqueue(Count(1)).unwrap();
    assert_eq!(hear(&said), (true, true));
    consumer.stop(LONG).unwrap();
    assert_eq!(queue.stats().unwrap().done, 1);
}

#[test]
fn a_payload_whose_drop_panics_costs_one_attempt() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("once more");
        }
    }
    let (queue, _) = queue();
    let pool = Pool::with_capacity(1);
    let consumer = queue
        .consumer(&pool)
        .handle(|Count(n): Count, _: &Context| -> Result<(), JobError> {
            if n == 1 {
                std::panic::panic_any(Bomb);
            }
            Ok(())
        })
        .start()
        .unwrap();
    queue.job(Count(1)).retries(0).enqueue().unwrap();
    queue.enqueue(Count(2)).unwrap();
    consumer.wait_idle();
    let stats = queue.stats().unwrap();
    assert_eq!((stats.done, stats.died, stats.running), (1, 1, 0));
}

#[test]
fn a_consumer_stops_although_its_pool_is_taken_by_others() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(1);
    let gate = Gate::new();
    let there = gate.clone();
    pool.submit(move || there.pass()).unwrap();
    gate.wait_for(1);
    let consumer = queue
        .consumer(&pool)
        .handle(|_: Count, _: &Context| -> Result<(), JobError> { Ok(()) })
        .start()
        .unwrap();
    queue.enqueue(Count(1)).unwrap();
    consumer.stop(LONG).unwrap();
    assert_eq!(queue.stats().unwrap().ready, 1);
    gate.open();
}

#[test]
fn a_pool_that_is_released_leaves_the_jobs_where_they_are() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(1);
    let consumer = queue
        .consumer(&pool)
        .handle(|_: Count, _: &Context| -> Result<(), JobError> { Ok(()) })
        .start()
        .unwrap();
    queue.enqueue(Count(1)).unwrap();
    consumer.wait_idle();
    pool.release();
    queue.enqueue(Count(2)).unwrap();
    consumer.stop(LONG).unwrap();
    let stats = queue.stats().unwrap();
    assert_eq!((stats.done, stats.ready), (1, 1));
}

#[test]
fn a_pool_that_is_dropped_ends_though_there_is_work_for_ever() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(2);
    let (_consumer, ran) = for_ever(&queue, &pool);
    (0..100).for_each(|_| hear(&ran));
    drop(pool);
}
