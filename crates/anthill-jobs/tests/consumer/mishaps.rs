//! What users, brokers and pools may do wrong, and a consumer outlives.

use crate::bench::*;
use anthill::Pool;
use anthill_jobs::*;
use std::fmt;
use std::sync::mpsc;
use std::time::Duration;

type Done = Result<(), JobError>;

/// An error that panics when it is asked what it says, or when it is dropped.
#[derive(Debug)]
struct Nasty {
    says: bool,
}

impl fmt::Display for Nasty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        assert!(self.says, "it says nothing");
        f.write_str("nasty")
    }
}

impl std::error::Error for Nasty {}

impl Drop for Nasty {
    fn drop(&mut self) {
        assert!(!self.says || std::thread::panicking(), "it will not go");
    }
}

#[test]
fn an_error_that_panics_costs_one_attempt() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(1);
    let consumer = queue
        .consumer(&pool)
        .handle(|Count(n): Count, _: &Context| -> Done { Err(Nasty { says: n == 1 })? })
        .handle_batch(2, |jobs: Vec<Text>, _: &[Context]| {
            let end = |_| Err(JobError::from(Nasty { says: false }));
            jobs.into_iter().map(end).collect()
        })
        .start()
        .unwrap();
    queue.job(Count(0)).retries(0).enqueue().unwrap();
    queue.job(Count(1)).retries(0).enqueue().unwrap();
    queue.job(text("?")).retries(0).enqueue().unwrap();
    consumer.wait_idle();
    consumer.stop(LONG).unwrap();
    let errors = queue
        .dead(10)
        .unwrap()
        .into_iter()
        .map(|job| job.error.unwrap());
    let nothing = "it panicked: it says nothing";
    assert_eq!(
        errors.collect::<Vec<_>>(),
        [nothing, "it panicked: it will not go", nothing]
    );
}

#[test]
fn a_hook_for_errors_that_panics_ends_nobody() {
    let spy = Spy::new();
    let queue = spy.queue(&Clock::system());
    let pool = Pool::with_capacity(1);
    spy.fail_schedules(1);
    spy.fail_claims(1);
    let (send, heard) = mpsc::channel();
    let consumer = queue
        .consumer(&pool)
        .handle(|_: Count, _: &Context| -> Done { Ok(()) })
        .on_error(move |_| {
            send.send(()).unwrap();
            panic!("a hook");
        })
        .start()
        .unwrap();
    (0..2).for_each(|_| hear(&heard));
    queue.enqueue(Count(1)).unwrap();
    until("it is done", || queue.stats().unwrap().done == 1);
    consumer.stop(LONG).unwrap();
}

#[test]
fn a_pool_that_was_released_and_is_opened_again_goes_on() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(1);
    let consumer = queue
        .consumer(&pool)
        .handle(|_: Count, _: &Context| -> Done { Ok(()) })
        .start()
        .unwrap();
    consumer.wait_idle();
    pool.release();
    queue.enqueue(Count(1)).unwrap();
    pool.reboot();
    until("it is done", || queue.stats().unwrap().done == 1);
}

#[test]
fn a_neighbour_that_cannot_be_read_does_not_cost_an_attempt() {
    let (queue, _) = queue();
    queue
        .enqueue_new(&NewJob::new("count", b"?".to_vec()))
        .unwrap();
    queue.job(Count(1)).retries(0).enqueue().unwrap();
    let pool = Pool::with_capacity(1);
    let consumer = queue
        .consumer(&pool)
        .handle_batch(8, |jobs: Vec<Count>, contexts: &[Context]| {
            assert_eq!((jobs.len(), contexts.len()), (1, 1));
            vec![Ok(())]
        })
        .start()
        .unwrap();
    consumer.wait_idle();
    let stats = queue.stats().unwrap();
    assert_eq!((stats.done, stats.died), (1, 1));
}

#[test]
fn a_pause_is_not_cut_short_by_a_broker_that_fails_nor_by_its_own_length() {
    let spy = Spy::new();
    let queue = spy.queue(&Clock::system());
    let pool = Pool::with_capacity(1);
    spy.fail_settles(1);
    for n in 0..5 {
        queue.job(Count(n)).retries(0).enqueue().unwrap();
    }
    let consumer = queue
        .consumer(&pool)
        .handle(|_: Count, _: &Context| -> Done { Err("no".into()) })
        .pause_after(1, Duration::MAX)
        .start()
        .unwrap();
    until("its end is told at last", || {
        queue.stats().unwrap().died == 1
    });
    assert!(consumer.stats().is_paused);
    consumer.stop(LONG).unwrap();
    assert_eq!(
        (consumer.stats().pauses, queue.stats().unwrap().ready),
        (1, 4)
    );
}

#[test]
fn a_schedule_without_a_next_time_does_not_hold_up_the_others() {
    let (queue, clock) = queue();
    let pool = Pool::with_capacity(1);
    let (send, ran) = mpsc::channel();
    // As an older version may have let it in.
    let once = Scheduled {
        name: "a".to_owned(),
        cron: "0 0 13 1 1 * 2025".to_owned(),
        kind: "count".to_owned(),
        payload: b"1".to_vec(),
        next: i64::try_from(clock.wall().as_secs()).unwrap() + 60,
        missed: Missed::Once,
    };
    let store = queue.as_broker().schedule_store().unwrap();
    store.put_schedule(&once).unwrap();
    queue.schedule("b", "0 * * * *", &Count(2)).unwrap();
    let consumer = queue
        .consumer(&pool)
        .handle(move |Count(n): Count, _: &Context| Ok(send.send(n)?))
        .start()
        .unwrap();
    consumer.wait_idle();
    clock.advance(SECOND * 7200);
    let mut both = [hear(&ran), hear(&ran)];
    both.sort_unstable();
    assert_eq!(both, [1, 2]);
    consumer.wait_idle();
    clock.advance(SECOND * 3600);
    assert_eq!(hear(&ran), 2);
}

#[test]
fn a_broker_that_is_gone_does_not_hold_up_a_stop_for_longer_than_a_lease() {
    let spy = Spy::new();
    let queue = spy.queue(&Clock::system());
    let pool = Pool::with_capacity(1);
    spy.fail_settles(u32::MAX);
    spy.fail_extends(u32::MAX);
    let (send, ran) = mpsc::channel();
    let consumer = queue
        .consumer(&pool)
        .lease(Duration::from_millis(50))
        .handle(move |_: Count, _: &Context| Ok(send.send(())?))
        .start()
        .unwrap();
    queue.enqueue(Count(1)).unwrap();
    hear(&ran);
    consumer.stop(LONG).unwrap();
    assert_eq!(consumer.stats().lost, 1);
}

#[test]
fn a_purge_takes_what_comes_in_place_of_what_it_took() {
    let (queue, _) = queue();
    queue
        .set_limits(Limits {
            per_key: Some(1),
            ..Limits::default()
        })
        .unwrap();
    (0..3).for_each(|n| assert!(queue.job(Count(n)).key("k").enqueue().unwrap().is_added()));
    let broker = queue.as_broker();
    let first = broker
        .claim(&ClaimRequest::new(3, SECOND))
        .unwrap()
        .jobs
        .remove(0);
    let result = b"null".to_vec();
    broker
        .settle(&[(first.lease, Settle::Done { result })])
        .unwrap();
    assert_eq!(queue.purge().unwrap(), 2);
    let stats = queue.stats().unwrap();
    assert_eq!(stats.ready + stats.parked + stats.delayed, 0);
}

#[test]
fn a_broker_that_panics_has_failed_and_the_maintainer_goes_on() {
    let spy = Spy::new();
    let queue = spy.queue(&Clock::system());
    let pool = Pool::with_capacity(1);
    spy.panic(true);
    let (send, errors) = mpsc::channel();
    let consumer = queue
        .consumer(&pool)
        .poll(Duration::from_millis(5))
        .lease(Duration::from_millis(60))
        .handle(|_: Count, _: &Context| -> Done { Ok(()) })
        .on_error(move |error| send.send(error.to_string()).unwrap())
        .start()
        .unwrap();
    (0..3).for_each(|_| assert_eq!(hear(&errors), "the queue's broker failed"));
    spy.panic(false);
    queue
        .job(Count(1))
        .delay(Duration::from_millis(20))
        .enqueue()
        .unwrap();
    until("it is done", || queue.stats().unwrap().done == 1);
    consumer.stop(LONG).unwrap();
}
