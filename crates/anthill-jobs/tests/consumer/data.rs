//! What jobs and handlers give that is too large, or cannot be read back, and ends that a broker does not take.

use crate::bench::*;
use crate::watched::{Call, Watch, Watched};
use anthill::Pool;
use anthill_jobs::*;
use serde::{Deserialize, Serialize, Serializer};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

#[test]
fn a_result_that_is_too_large_is_dead_with_the_reason_and_others_go_on() {
    let (queue, _) = queue();
    let jobs = queue
        .consumer(&Pool::with_capacity(1))
        .handle(|Count(n): Count, _: &Context| Ok("x".repeat(n as usize)))
        .data_limit(100)
        .inline();
    let keep = |n| {
        queue
            .job(Count(n))
            .keep_result(SECOND)
            .enqueue()
            .unwrap()
            .id()
    };
    // In JSON it has two quotation marks.
    let (large, fits) = (keep(99), keep(98));
    assert_eq!(jobs.run_due().unwrap(), 2);
    let dead = queue.get(large).unwrap().unwrap();
    assert_eq!((dead.state, dead.attempt), (JobState::Dead, 1));
    let why = "its result exceeds the limit of 100 bytes";
    assert_eq!(dead.error.as_deref(), Some(why));
    assert_eq!(queue.result::<String>(fits).unwrap().unwrap().len(), 98);
}

/// What cannot be written, or would take for ever.
struct Never;
impl Serialize for Never {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("nobody writes this"))
    }
}

#[test]
fn a_result_that_is_not_kept_is_not_written() {
    let (queue, _) = queue();
    let jobs = queue
        .consumer(&Pool::with_capacity(1))
        .handle(|_: Count, _: &Context| Ok(Never))
        .data_limit(0)
        .inline();
    queue.enqueue(Count(1)).unwrap();
    let kept = queue.job(Count(2)).keep_result(SECOND).enqueue().unwrap();
    assert_eq!(jobs.run_due().unwrap(), 2);
    assert_eq!(queue.stats().unwrap().done, 1);
    let dead = queue.get(kept.id()).unwrap().unwrap();
    let why = "its result cannot be written as JSON: nobody writes this";
    assert_eq!(dead.error.as_deref(), Some(why));
}

#[test]
fn the_text_of_an_error_is_cut() {
    let (queue, _) = queue();
    let jobs = queue
        .consumer(&Pool::with_capacity(1))
        .handle(|Count(n): Count, _: &Context| -> Result<(), JobError> {
            // Of letters that have two bytes, from the second byte on.
            let text = format!("x{}", "ä".repeat(n as usize));
            Err(JobError::fatal(text))
        })
        .fallback(|_| Err("ö".repeat(1 << 20).into()))
        .inline();
    let id = queue.enqueue(Count(1 << 20)).unwrap();
    assert_eq!(jobs.run_due().unwrap(), 1);
    let error = queue.get(id).unwrap().unwrap().error.unwrap();
    assert!(error.len() < (16 << 10) + 100, "{}", error.len());
    assert!(error.starts_with("xää"));
    assert!(
        error.ends_with("bytes in all)"),
        "{}",
        &error[error.len() - 50..]
    );
}

#[test]
fn progress_that_is_too_large_is_refused_and_the_job_goes_on() {
    let (queue, _) = queue();
    let jobs = queue
        .consumer(&Pool::with_capacity(1))
        .handle(|_: Count, context: &Context| {
            assert!(context.progress(&"half").unwrap());
            let refused = context.progress(&"x".repeat(100)).unwrap_err();
            let is_size = matches!(
                refused,
                QueueError::TooLarge {
                    size: 102,
                    limit: 100
                }
            );
            assert!(is_size, "{refused:?}");
            Ok(())
        })
        .data_limit(100)
        .inline();
    let id = queue
        .job(Count(1))
        .keep_result(SECOND)
        .enqueue()
        .unwrap()
        .id();
    assert_eq!(jobs.run_due().unwrap(), 1);
    let job = queue.get(id).unwrap().unwrap();
    assert_eq!(
        (job.state, job.progress.as_deref()),
        (JobState::Done, Some(&b"\"half\""[..]))
    );
}

// ── what could not be read back ─────────────────────────────────────────────────────────────

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Number {
    x: f64,
}
impl Job for Number {
    const KIND: &'static str = "number";
}

#[derive(Serialize, Deserialize)]
struct Nest {
    inner: Option<Box<Nest>>,
}
impl Job for Nest {
    const KIND: &'static str = "nest";
}

fn nest(depth: u32) -> Nest {
    let within = |inner, _| Nest {
        inner: Some(Box::new(inner)),
    };
    (1..depth).fold(Nest { inner: None }, within)
}

fn depth(nest: &Nest) -> u32 {
    1 + nest.inner.as_ref().map_or(0, |inner| depth(inner))
}

#[test]
fn what_cannot_be_read_back_is_refused_and_given_back() {
    let (queue, _) = queue();
    let nan = || Number { x: f64::NAN };
    let refused = queue.enqueue(nan()).unwrap_err();
    assert!(matches!(refused.reason(), QueueError::Unreadable(_)));
    assert!(refused.into_inner().x.is_nan());
    let refused = queue.job(nan()).delay(SECOND).unique("k").enqueue();
    assert!(refused.unwrap_err().into_inner().x.is_nan());
    // All or none.
    let refused = queue
        .enqueue_all(vec![Number { x: 1.0 }, nan()])
        .unwrap_err();
    assert_eq!(refused.into_inner()[0], Number { x: 1.0 });
    let infinite = Number { x: f64::INFINITY };
    assert!(queue.schedule("never", "* * * * *", &infinite).is_err());
    let store = queue.as_broker().schedule_store().unwrap();
    assert!(store.schedules().unwrap().all.is_empty());
    let deep = queue.enqueue(nest(1_000)).unwrap_err();
    assert!(matches!(deep.reason(), QueueError::Unreadable(_)));
    assert_eq!(depth(&deep.into_inner()), 1_000);
    assert_eq!(queue.stats().unwrap().enqueued, 0);
    queue.job(Number { x: 0.5 }).unique("k").enqueue().unwrap();
    queue.enqueue(nest(100)).unwrap();
    let stats = queue.stats().unwrap();
    assert_eq!((stats.enqueued, stats.ready), (2, 2));
}

// ── ends that a broker does not take ────────────────────────────────────────────────────────

/// Takes no end of one job, or none but that it is dead.
#[derive(Clone)]
struct Refuses {
    id: Arc<Mutex<Option<JobId>>>,
    takes_dead: bool,
    refused: Arc<AtomicUsize>,
}

impl Watch for Refuses {
    fn before(&self, _: Call) -> Result<(), QueueError> {
        Ok(())
    }

    fn settling(&self, ends: &[(Lease, Settle)]) -> Result<(), QueueError> {
        let id = *self.id.lock().unwrap();
        let is_refused = |(lease, end): &(Lease, Settle)| {
            let may = self.takes_dead && matches!(end, Settle::Dead { .. });
            Some(lease.id()) == id && !may
        };
        if ends.iter().any(is_refused) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(QueueError::Broker("string or blob too big".into()));
        }
        Ok(())
    }
}

fn refusing(takes_dead: bool) -> (Refuses, Queue) {
    let watch = Refuses {
        id: Arc::default(),
        takes_dead,
        refused: Arc::default(),
    };
    let broker = MemoryBroker::new(Clock::system());
    let queue = Queue::of(Watched {
        broker,
        watch: watch.clone(),
    });
    (watch, queue)
}

#[test]
fn an_end_that_is_never_taken_holds_up_no_other_and_its_job_is_dead_with_the_reason() {
    let (watch, queue) = refusing(true);
    let pool = Pool::with_capacity(1);
    let ids = queue.enqueue_all((0..50).map(Count).collect()).unwrap();
    *watch.id.lock().unwrap() = Some(ids[20]);
    let (send, errors) = mpsc::channel();
    let consumer = queue
        .consumer(&pool)
        .handle(|_: Count, _: &Context| -> Result<(), JobError> { Ok(()) })
        .on_error(move |error| send.send(error.to_string()).unwrap())
        .start()
        .unwrap();
    until("others are done", || queue.stats().unwrap().done == 49);
    // Others go on meanwhile.
    let mut more = 0;
    until("it is dead", || {
        queue.enqueue(Count(100)).unwrap();
        more += 1;
        std::thread::sleep(std::time::Duration::from_millis(1));
        queue.stats().unwrap().dead == 1
    });
    consumer.wait_idle();
    consumer.stop(LONG).unwrap();
    let dead = &queue.dead(1).unwrap()[0];
    assert_eq!(dead.id, ids[20]);
    let why = dead.error.as_ref().unwrap();
    assert!(why.starts_with("its end could not be stored: "), "{why}");
    let stats = queue.stats().unwrap();
    assert_eq!(
        (stats.done, stats.running, stats.lost_leases),
        (49 + more, 0, 0)
    );
    assert!(errors.try_iter().count() >= 2, "somebody is told");
}

#[test]
fn a_job_of_which_no_end_is_taken_is_given_up() {
    let (watch, queue) = refusing(false);
    let pool = Pool::with_capacity(1);
    let ids = queue.enqueue_all((0..50).map(Count).collect()).unwrap();
    *watch.id.lock().unwrap() = Some(ids[20]);
    let consumer = queue
        .consumer(&pool)
        .handle(|_: Count, _: &Context| -> Result<(), JobError> { Ok(()) })
        .on_error(|_| {})
        .start()
        .unwrap();
    until("it is given up", || {
        queue.enqueue(Count(100)).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
        consumer.stats().lost == 1
    });
    consumer.wait_idle();
    let refused = watch.refused.load(Ordering::SeqCst);
    queue.enqueue_all((0..50).map(Count).collect()).unwrap();
    consumer.wait_idle();
    consumer.stop(LONG).unwrap();
    assert_eq!(
        watch.refused.load(Ordering::SeqCst),
        refused,
        "nobody asks again"
    );
    let stats = queue.stats().unwrap();
    assert_eq!((stats.running, stats.ready, stats.dead), (1, 0, 0));
    assert_eq!(stats.done + 1, stats.enqueued);
}

/// It may be that one call in between fails: that is no reason to bury a job that is done.
#[test]
fn one_failure_among_others_costs_no_job_its_life() {
    for times in 1..=5 {
        let spy = Spy::new();
        let queue = spy.queue(&Clock::system());
        let pool = Pool::with_capacity(1);
        spy.fail_settles(times);
        queue.enqueue_all((0..8).map(Count).collect()).unwrap();
        let consumer = queue
            .consumer(&pool)
            .handle_batch(8, |jobs: Vec<Count>, _: &[Context]| {
                jobs.iter().map(|_| Ok(())).collect()
            })
            .on_error(|_| {})
            .start()
            .unwrap();
        until("all are done", || {
            let stats = queue.stats().unwrap();
            stats.done + stats.dead == 8
        });
        consumer.stop(LONG).unwrap();
        assert_eq!(queue.stats().unwrap().dead, 0, "{times} failures");
    }
}
