//! Handlers that hand their jobs back.

use crate::bench::*;
use anthill::Pool;
use anthill_jobs::*;
use std::sync::mpsc;

/// A handler that is told to stop, and what it answers then.
fn told_to_stop(
    asks: bool,
    answer: impl Fn() -> Result<(), JobError> + Send + Sync + 'static,
) -> (Queue, JobId, ConsumerStats) {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(1);
    let gate = Gate::new();
    let there = gate.clone();
    let id = queue.job(Count(1)).retries(0).enqueue().unwrap().id();
    let consumer = queue
        .consumer(&pool)
        .handle(move |_: Count, context: &Context| {
            let token = asks.then(|| context.stop_token());
            there.pass();
            assert!(token.is_none_or(|token| token.is_stopped()));
            answer()
        })
        .start()
        .unwrap();
    gate.wait_for(1);
    assert!(consumer.stop(std::time::Duration::ZERO).is_err());
    gate.open();
    consumer.stop(LONG).unwrap();
    (queue, id, consumer.stats())
}

#[test]
fn a_job_that_is_handed_back_during_a_stop_is_ready_at_once_with_all_its_attempts() {
    for asks in [true, false] {
        let (queue, id, stats) = told_to_stop(asks, || Err(JobError::hand_back()));
        let job = queue.get(id).unwrap().unwrap();
        assert_eq!(
            (job.state, job.attempt, job.error),
            (JobState::Ready, 0, None)
        );
        assert_eq!((stats.released, stats.died, stats.retried), (1, 0, 0));
        assert_eq!(queue.stats().unwrap().retried, 0);
    }
}

#[test]
fn a_plain_error_of_a_handler_that_heeds_its_token_hands_the_job_back_during_a_stop() {
    let (queue, id, stats) = told_to_stop(true, || Err("interrupted".into()));
    let job = queue.get(id).unwrap().unwrap();
    assert_eq!((job.state, job.attempt), (JobState::Ready, 0));
    assert_eq!((stats.released, stats.died), (1, 0));
}

/// It cannot have heard of the stop.
#[test]
fn a_plain_error_of_a_handler_without_a_token_is_one() {
    let (queue, id, _) = told_to_stop(false, || Err("broken".into()));
    let job = queue.get(id).unwrap().unwrap();
    assert_eq!(
        (job.state, job.error.as_deref()),
        (JobState::Dead, Some("broken"))
    );
}

#[test]
fn neither_a_panic_nor_an_error_that_says_what_is_to_be_hands_a_job_back() {
    for n in 0..3 {
        let (queue, id, stats) = told_to_stop(true, move || match n {
            0 => panic!("it is broken"),
            1 => Err(JobError::fatal("it is broken")),
            _ => Err(JobError::retry_in(SECOND, "it is broken")),
        });
        let job = queue.get(id).unwrap().unwrap();
        assert_eq!((job.state, job.attempt), (JobState::Dead, 1), "{n}");
        assert!(job.error.unwrap().ends_with("it is broken"));
        assert_eq!((stats.released, stats.died), (0, 1));
    }
}

/// A result that is there is one.
#[test]
fn a_job_that_is_done_during_a_stop_is_done() {
    let (queue, id, _) = told_to_stop(true, || Ok(()));
    assert!(queue.get(id).unwrap().is_none());
    assert_eq!(queue.stats().unwrap().done, 1);
}

#[test]
fn a_job_that_is_handed_back_without_a_stop_waits_and_loses_no_attempt() {
    let (queue, clock) = queue();
    let (send, ended) = mpsc::channel();
    let (say, ran) = mpsc::channel();
    let jobs = queue
        .consumer(&Pool::with_capacity(1))
        .handle(move |Count(n): Count, context: &Context| {
            say.send((n, context.attempt()))?;
            // Whatever it needs is not there now.
            if n == 1 {
                return Err(JobError::hand_back());
            }
            Ok(())
        })
        .backoff(Backoff::new(SECOND, SECOND))
        .after(move |_, end| send.send(end.clone()).unwrap())
        .inline();
    let id = queue.job(Count(1)).retries(0).enqueue().unwrap().id();
    for _ in 0..3 {
        assert_eq!(
            jobs.run_due().unwrap(),
            1,
            "it is not claimed again at once"
        );
        let job = queue.get(id).unwrap().unwrap();
        assert_eq!((job.state, job.attempt), (JobState::Delayed, 0));
        let due = job.due_in.unwrap();
        assert!(!due.is_zero() && due <= SECOND, "{due:?}");
        assert!(matches!(ended.try_recv(), Ok(Ended::HandedBack { .. })));
        clock.advance(SECOND);
    }
    assert_eq!(ran.try_iter().collect::<Vec<_>>(), [(1, 1); 3]);
    assert_eq!(queue.stats().unwrap().retried, 0);
}

/// Each of several that are handled together.
#[test]
fn one_of_a_batch_may_be_handed_back() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(1);
    let ids = queue.enqueue_all((0..3).map(Count).collect()).unwrap();
    let consumer = queue
        .consumer(&pool)
        .handle_batch(3, |jobs: Vec<Count>, _: &[Context]| {
            let end = |Count(n): &Count| match n {
                1 => Err(JobError::hand_back()),
                _ => Ok(()),
            };
            jobs.iter().map(end).collect()
        })
        .start()
        .unwrap();
    consumer.wait_idle();
    consumer.stop(LONG).unwrap();
    let job = queue.get(ids[1]).unwrap().unwrap();
    assert_eq!((job.state, job.attempt), (JobState::Delayed, 0));
    assert_eq!(
        (queue.stats().unwrap().done, consumer.stats().released),
        (2, 1)
    );
}
