//! B3: a claim gives a job to one consumer, as an attempt; and how a claim ends.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use std::time::Duration;

use anthill_jobs::{Claimed, JobId, JobState, NewJob, Settle};

use crate::bench::{Bench, Fixture, Handle, dead, done, job, jobs, names, ok, retry, seconds};
use anthill_test_support::within;

pub(crate) fn a_claim_takes_no_more_than_it_is_asked_for<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add_all(&jobs(10));
    assert_eq!(on.next_names(0), [""; 0]);
    assert_eq!(on.next_names(3), ["0", "1", "2"]);
    assert_eq!(on.next_names(3), ["3", "4", "5"]);
    assert_eq!(on.next_names(100), ["6", "7", "8", "9"]);
}

/// Claims and settles until all of them have done so with `number` jobs together.
fn claim_until(on: &Handle, limit: usize, number: usize, claimed: &AtomicUsize) -> Vec<JobId> {
    let mut mine = Vec::new();
    while claimed.load(Ordering::SeqCst) < number {
        let jobs = on.claim(limit);
        if jobs.is_empty() {
            // The last ones are another one's, who has not counted them yet; or still come.
            thread::yield_now();
        }
        claimed.fetch_add(jobs.len(), Ordering::SeqCst);
        mine.extend(jobs.iter().map(|job| job.lease.id));
        let ends: Vec<_> = jobs.iter().map(|job| (job.lease, done())).collect();
        assert!(ok(on.broker.settle(&ends)).into_iter().all(|there| there));
        assert!(jobs.iter().all(|job| job.attempt == 1));
    }
    mine
}

pub(crate) fn each_job_is_claimed_by_one_of_many_threads<F: Fixture>() {
    const JOBS: usize = 10_000;
    const THREADS: usize = 8;
    let on = Bench::<F>::new();
    let added: HashSet<JobId> = on.add_all(&jobs(JOBS)).into_iter().collect();
    let handle = on.clone();
    let claimed = within(seconds(60), "10,000 jobs are claimed", move || {
        let count = AtomicUsize::new(0);
        thread::scope(|scope| {
            let claim = || claim_until(&handle, 25, JOBS, &count);
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(claim)).collect();
            let claimed = threads.into_iter().map(thread::ScopedJoinHandle::join);
            claimed
                .flat_map(|ids| ids.expect("no claim fails"))
                .collect::<Vec<JobId>>()
        })
    });
    assert_eq!(claimed.len(), JOBS, "a job was claimed twice");
    assert_eq!(claimed.into_iter().collect::<HashSet<_>>(), added);
    let stats = on.stats();
    assert_eq!((stats.ready, stats.running), (0, 0));
    assert_eq!(stats.done, JOBS as u64);
}

/// From two handles, while others enqueue.
pub(crate) fn two_handles_enqueue_and_claim_at_once<F: Fixture>() {
    const JOBS: usize = 2_000;
    let on = Bench::<F>::new();
    let handles = [on.another(), on.another()];
    let (added, claimed) = within(seconds(60), "4,000 jobs are claimed", move || {
        let count = AtomicUsize::new(0);
        thread::scope(|scope| {
            let count = &count;
            let enqueues = handles.iter().map(|on| {
                let enqueue = move |batch: &[NewJob]| on.add_all(batch);
                scope.spawn(move || -> Vec<JobId> {
                    jobs(JOBS).chunks(20).flat_map(enqueue).collect()
                })
            });
            let enqueues: Vec<_> = enqueues.collect();
            let claim = |on| scope.spawn(move || claim_until(on, 10, 2 * JOBS, count));
            let claims: Vec<_> = handles.iter().map(claim).collect();
            let each = |threads: Vec<thread::ScopedJoinHandle<'_, Vec<JobId>>>| {
                let ids = threads.into_iter().map(thread::ScopedJoinHandle::join);
                ids.flat_map(|ids| ids.expect("nothing fails"))
                    .collect::<Vec<JobId>>()
            };
            (each(enqueues), each(claims))
        })
    });
    assert_eq!(claimed.len(), 2 * JOBS, "a job was claimed twice");
    let set = |ids: Vec<JobId>| ids.into_iter().collect::<HashSet<_>>();
    assert_eq!(set(claimed), set(added));
    let stats = on.stats();
    assert_eq!((stats.enqueued, stats.done), (4_000, 4_000));
    assert_eq!((stats.ready, stats.running), (0, 0));
}

// ---- how a claim ends ----

pub(crate) fn a_job_that_is_done_is_gone<F: Fixture>() {
    let on = Bench::<F>::new();
    let id = on.add(job("a"));
    let claimed = on.next();
    on.done(&claimed);
    assert!(on.get(id).is_none());
    assert_eq!(on.next_names(100), [""; 0]);
    // Only once.
    assert!(!on.settle(&claimed, done()));
    assert_eq!(on.stats().done, 1);
}

/// B6: one that is retried counts as enqueued when it is due again.
pub(crate) fn a_retry_comes_after_its_delay_and_behind_the_others<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add_all(&[job("fails"), job("b")]);
    let first = on.next();
    on.retry(&first, seconds(10));
    assert_eq!(on.next_names(1), ["b"]);
    assert_eq!(on.next_names(100), [""; 0]);
    on.add(job("c"));
    let (again, took) = on.follow();
    assert_eq!(names(&again), ["c"]);
    assert!(took.is_zero());
    let (again, took) = on.follow();
    assert_eq!(names(&again), ["fails"]);
    assert_eq!(took, seconds(10));
    assert_eq!(again[0].attempt, 2);
    assert_ne!(again[0].lease, first.lease);
}

pub(crate) fn a_retry_without_delay_is_ready_at_once_at_the_end<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add_all(&[job("fails"), job("b")]);
    let first = on.next();
    on.retry(&first, seconds(0));
    assert_eq!(on.next_names(100), ["b", "fails"]);
}

pub(crate) fn attempts_count_up_to_the_last_one_and_then_the_job_is_dead<F: Fixture>() {
    let on = Bench::<F>::new();
    let id = on.add(NewJob {
        attempts: 3,
        ..job("fails")
    });
    for attempt in 1..=3 {
        let claimed = on.next();
        assert_eq!((claimed.attempt, claimed.attempts), (attempt, 3));
        let error = format!("failure {attempt}");
        let delay = seconds(0);
        assert!(on.settle(&claimed, Settle::Retry { delay, error }));
        let job = on.job(id);
        assert_eq!(job.error, Some(format!("failure {attempt}")));
        assert_eq!((job.attempt, job.attempts), (attempt, 3));
    }
    assert_eq!(on.state(id), Some(JobState::Dead));
    on.pass(seconds(1_000_000));
    assert_eq!(on.next_names(100), [""; 0]);
    let stats = on.stats();
    assert_eq!((stats.retried, stats.died, stats.dead), (2, 1, 1));
}

/// Also with a delay, which would be over first.
pub(crate) fn a_job_of_one_attempt_is_dead_when_that_failed<F: Fixture>() {
    let on = Bench::<F>::new();
    let id = on.add(NewJob {
        attempts: 1,
        ..job("fails")
    });
    let claimed = on.next();
    on.retry(&claimed, seconds(10));
    assert_eq!(on.state(id), Some(JobState::Dead));
    assert_eq!(on.job(id).error.as_deref(), Some("not yet"));
    on.pass(seconds(10));
    assert_eq!(on.state(id), Some(JobState::Dead));
}

pub(crate) fn a_job_that_failed_for_good_is_dead_at_once_with_its_reason<F: Fixture>() {
    let on = Bench::<F>::new();
    let id = on.add(job("fails"));
    let claimed = on.next();
    assert!(on.settle(&claimed, dead("it is \"broken\": 🪦")));
    let job = on.job(id);
    assert_eq!(job.state, JobState::Dead);
    assert_eq!(job.error.as_deref(), Some("it is \"broken\": 🪦"));
    assert_eq!(job.attempt, 1);
    assert_eq!(on.next_names(100), [""; 0]);
    assert!(!on.settle(&claimed, done()));
    assert_eq!(on.state(id), Some(JobState::Dead));
}

pub(crate) fn a_release_gives_the_attempt_back_and_keeps_the_place<F: Fixture>() {
    let on = Bench::<F>::new();
    let ids = on.add_all(&[job("a"), job("b"), job("c")]);
    let claimed = on.claim(2);
    on.release(&claimed[1]);
    on.release(&claimed[0]);
    assert_eq!(on.job(ids[0]).attempt, 0);
    assert_eq!(on.state(ids[0]), Some(JobState::Ready));
    let again = on.claim(3);
    assert_eq!(names(&again), ["a", "b", "c"]);
    assert!(again.iter().all(|job| job.attempt == 1));
    // The claim was one, all the same.
    assert_ne!(again[0].lease, claimed[0].lease);
    assert_eq!(on.stats().retried, 0);
}

pub(crate) fn a_job_may_be_released_more_often_than_it_has_attempts<F: Fixture>() {
    let on = Bench::<F>::new();
    let id = on.add(NewJob {
        attempts: 1,
        ..job("a")
    });
    for _ in 0..5 {
        let claimed = on.next();
        assert_eq!(claimed.attempt, 1);
        on.release(&claimed);
    }
    assert_eq!(on.state(id), Some(JobState::Ready));
}

/// The place of its last turn, not that of its first.
pub(crate) fn a_release_after_a_retry_keeps_the_place_of_the_retry<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add_all(&[job("a"), job("b")]);
    let first = on.next();
    on.retry(&first, seconds(0));
    on.add(job("c"));
    let claimed = on.claim(2);
    assert_eq!(names(&claimed), ["b", "a"]);
    assert_eq!(claimed[1].attempt, 2);
    on.release(&claimed[1]);
    on.release(&claimed[0]);
    let again = on.claim(3);
    assert_eq!(names(&again), ["b", "a", "c"]);
    assert_eq!(again[1].attempt, 2);
    // Why it failed is still known.
    assert_eq!(on.job(again[1].lease.id).error.as_deref(), Some("not yet"));
}

/// The answers come in the order of the questions, and one that is not there hurts no other.
pub(crate) fn many_claims_end_in_one_call_each_in_its_own_way<F: Fixture>() {
    let on = Bench::<F>::new();
    let ids = on.add_all(&jobs(5));
    let claimed = on.claim(5);
    on.done(&claimed[2]);
    let lease = |job: &Claimed| job.lease;
    let settled = ok(on.broker.settle(&[
        (
            lease(&claimed[4]),
            Settle::Release {
                delay: Duration::ZERO,
            },
        ),
        (lease(&claimed[2]), done()),
        (lease(&claimed[0]), done()),
        (lease(&claimed[1]), retry(seconds(10))),
        (lease(&claimed[0]), retry(seconds(10))),
        (lease(&claimed[3]), dead("for good")),
    ]));
    assert_eq!(settled, [true, false, true, true, false, true]);
    let states: Vec<_> = ids.iter().map(|&id| on.state(id)).collect();
    assert_eq!(
        states,
        [
            None,
            Some(JobState::Delayed),
            None,
            Some(JobState::Dead),
            Some(JobState::Ready)
        ]
    );
    assert!(ok(on.broker.settle(&[])).is_empty());
}
