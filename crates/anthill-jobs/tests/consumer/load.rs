//! How much a consumer takes on, and beside whom.

use crate::bench::*;
use anthill::Pool;
use anthill_jobs::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[test]
fn no_more_is_claimed_than_the_pool_can_start() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(3);
    let gate = Gate::new();
    let there = gate.clone();
    queue.enqueue_all((0..50).map(Count).collect()).unwrap();
    let consumer = queue
        .consumer(&pool)
        .workers(8..=8)
        .handle(move |_: Count, _: &Context| {
            there.pass();
            Ok(())
        })
        .start()
        .unwrap();
    gate.wait_for(3);
    assert_eq!(queue.stats().unwrap().running, 3);
    assert_eq!(consumer.stats().in_hand, 3);
    gate.open();
    consumer.wait_idle();
    assert_eq!(queue.stats().unwrap().done, 50);
}

#[test]
fn others_get_their_turn_in_a_pool_that_has_jobs_for_ever() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(1);
    let (consumer, ran) = for_ever(&queue, &pool);
    hear(&ran);
    for _ in 0..20 {
        let task = pool.spawn_timeout(|| 7, LONG).unwrap();
        assert_eq!(task.join().unwrap(), 7);
    }
    consumer.stop(LONG).unwrap();
}

#[test]
fn it_follows_the_load_up_and_down() {
    let (queue, clock) = queue();
    let pool = Pool::with_capacity(8);
    let most = Arc::new(AtomicUsize::new(0));
    let running = Arc::new(AtomicUsize::new(0));
    let (peak, now) = (most.clone(), running.clone());
    let moved = clock.clone();
    let consumer = queue
        .consumer(&pool)
        .workers(1..=8)
        .sizing(Duration::from_millis(5), Duration::from_millis(20))
        .handle(move |_: Count, _: &Context| {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Time goes by, so that the others have waited for longer and longer.
            moved.advance(Duration::from_millis(10));
            std::thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            Err::<(), _>(JobError::retry_in(Duration::ZERO, "again"))
        })
        .start()
        .unwrap();
    for n in 0..64 {
        queue.job(Count(n)).retries(u32::MAX - 1).enqueue().unwrap();
    }
    until("it grows to its most", || consumer.stats().wanted == 8);
    until("and runs so many", || most.load(Ordering::SeqCst) > 4);
    queue.pause().unwrap();
    until("it shrinks to its least", || consumer.stats().wanted == 1);
    queue.resume().unwrap();
    until("and grows again", || consumer.stats().wanted == 8);
    queue.pause().unwrap();
    consumer.stop(LONG).unwrap();
    assert_eq!(running.load(Ordering::SeqCst), 0);
}

#[test]
fn what_comes_while_somebody_looks_is_not_missed() {
    let spy = Spy::new();
    let queue = spy.queue(&Clock::system());
    let pool = Pool::with_capacity(1);
    for n in 0..20 {
        spy.enqueue_during_a_claim(NewJob::new("count", b"1".to_vec()));
        let consumer = queue
            .consumer(&pool)
            .handle(|_: Count, _: &Context| -> Result<(), JobError> { Ok(()) })
            .start()
            .unwrap();
        until("it is done", || queue.stats().unwrap().done == n + 1);
        consumer.stop(LONG).unwrap();
    }
}

#[test]
fn an_idle_consumer_asks_to_hear_of_others_as_often_as_it_polls_and_claims_nothing() {
    const PERIOD: Duration = Duration::from_millis(20);
    let spy = Spy::new();
    let queue = spy.queue(&Clock::system());
    let pool = Pool::with_capacity(1);
    let consumer = queue
        .consumer(&pool)
        .poll(PERIOD)
        .handle(|_: Count, _: &Context| -> Result<(), JobError> { Ok(()) })
        .start()
        .unwrap();
    queue.enqueue(Count(1)).unwrap();
    until("it is done", || queue.stats().unwrap().done == 1);
    consumer.wait_idle();
    assert_eq!(spy.polls(), [PERIOD]);
    // It is at rest once it has claimed in vain.
    let mut claims = 0;
    until("it claims no more", || {
        let before = std::mem::replace(&mut claims, spy.claims());
        std::thread::sleep(PERIOD);
        before == claims
    });
    std::thread::sleep(PERIOD * 10);
    assert_eq!(spy.claims(), claims);
}

#[test]
fn many_producers_and_consumers_do_each_job_once() {
    let queue = Queue::memory();
    let pools: Vec<Pool> = (0..2).map(|_| Pool::with_capacity(2)).collect();
    let done: Arc<Vec<AtomicUsize>> = Arc::new((0..8_000).map(|_| AtomicUsize::new(0)).collect());
    let consumer = |pool: &Pool| {
        let done = done.clone();
        let builder = queue
            .consumer(pool)
            .handle(move |Count(n): Count, _: &Context| {
                done[n as usize].fetch_add(1, Ordering::SeqCst);
                Ok(())
            });
        builder.start().unwrap()
    };
    let consumers: Vec<Consumer> = pools.iter().map(consumer).collect();
    std::thread::scope(|scope| {
        for producer in 0..4_u32 {
            let queue = &queue;
            scope.spawn(move || {
                for n in 0..1_000 {
                    queue.enqueue(Count(producer * 2_000 + n)).unwrap();
                }
                let rest = (1_000..2_000).map(|n| Count(producer * 2_000 + n));
                queue.enqueue_all(rest.collect()).unwrap();
            });
        }
    });
    until("all are done", || queue.stats().unwrap().done == 8_000);
    for consumer in &consumers {
        consumer.stop(LONG).unwrap();
    }
    assert!(done.iter().all(|done| done.load(Ordering::SeqCst) == 1));
    let stats = queue.stats().unwrap();
    assert_eq!((stats.lost_leases, stats.retried, stats.running), (0, 0, 0));
}

#[test]
fn jobs_do_not_wait_behind_long_ones_while_there_might_be_more_runners() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(4);
    let gate = Gate::new();
    let there = gate.clone();
    queue.enqueue_all((0..4).map(Count).collect()).unwrap();
    let consumer = queue
        .consumer(&pool)
        .handle(move |_: Count, _: &Context| {
            there.pass();
            Ok(())
        })
        .start()
        .unwrap();
    gate.wait_for(4);
    assert_eq!(consumer.stats().wanted, 4);
    gate.open();
}

#[test]
fn what_was_claimed_ahead_of_a_long_job_goes_back_to_who_is_free() {
    let (queue, _) = queue();
    let pools: Vec<Pool> = (0..2).map(|_| Pool::with_capacity(1)).collect();
    let gate = Gate::new();
    let consumer = |pool: &Pool| {
        let there = gate.clone();
        let builder = queue
            .consumer(pool)
            .handle(move |Count(n): Count, _: &Context| {
                if n > 0 {
                    there.pass();
                }
                Ok(())
            });
        builder.start().unwrap()
    };
    let one = consumer(&pools[0]);
    // Quick ones, so that several are claimed at once.
    queue.enqueue_all(vec![Count(0); 300]).unwrap();
    one.wait_idle();
    queue.enqueue_all((1..=20).map(Count).collect()).unwrap();
    gate.wait_for(1);
    let other = consumer(&pools[1]);
    gate.wait_for(2);
    until("neither has more than it runs", || {
        one.stats().in_hand == 1 && other.stats().in_hand == 1
    });
    gate.open();
    until("all are done", || queue.stats().unwrap().done == 320);
    assert_eq!(queue.stats().unwrap().lost_leases, 0);
}
