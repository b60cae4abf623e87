//! B3: a claim gives a job to one consumer, as an attempt; and how a claim ends.

use super::prelude::*;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

pub(crate) fn a_claim_takes_no_more_than_it_is_asked_for(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&jobs(10));
    assert_eq!(on.next_names(0), [""; 0]);
    let mut came = Vec::new();
    for limit in [3, 3, 100] {
        let claimed = on.next_names(limit);
        assert_eq!(claimed.len(), limit.min(10 - came.len()));
        came.extend(claimed);
    }
    if !on.has(Capability::Order) {
        came.sort();
    }
    assert_eq!(came, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
}

/// Claims and settles until all of them have done so with `number` jobs together.
fn claim_until(on: &Bench, limit: usize, number: usize, claimed: &AtomicUsize) -> Vec<JobId> {
    let mut mine = Vec::new();
    while claimed.load(Ordering::SeqCst) < number {
        let jobs = on.claim(limit);
        if jobs.is_empty() {
            // The last ones are another one's, who has not counted them yet; or still come.
            thread::yield_now();
        }
        claimed.fetch_add(jobs.len(), Ordering::SeqCst);
        mine.extend(jobs.iter().map(|job| job.lease.id()));
        on.all_done(&jobs);
        assert!(jobs.iter().all(|job| job.attempt == 1));
    }
    mine
}

pub(crate) fn each_job_is_claimed_by_one_of_many_threads(lab: &Lab) {
    const JOBS: usize = 10_000;
    const THREADS: usize = 8;
    let on = lab.bench();
    let added: HashSet<JobId> = on.add_all(&jobs(JOBS)).into_iter().collect();
    let handle = on.clone();
    let claimed = within(MINUTE, "10,000 jobs are claimed", move || {
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
    on.counted(|stats| {
        assert_eq!((stats.ready, stats.running), (0, 0));
        assert_eq!(stats.done, JOBS as u64);
    });
}

/// From two handles, while others enqueue.
pub(crate) fn two_handles_enqueue_and_claim_at_once(lab: &Lab) {
    const JOBS: usize = 2_000;
    let on = lab.bench();
    let handles = [on.another(), on.another()];
    let (added, claimed) = within(MINUTE, "4,000 jobs are claimed", move || {
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
    on.counted(|stats| {
        assert_eq!((stats.enqueued, stats.done), (4_000, 4_000));
        assert_eq!((stats.ready, stats.running), (0, 0));
    });
}

// ---- how a claim ends ----

pub(crate) fn a_job_that_is_done_is_gone(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(job("a"));
    let claimed = on.next();
    on.done(&claimed);
    on.is_in(id, None);
    on.finds_nothing();
    on.counted(|stats| assert_eq!(stats.done, 1));
}

/// B12: who repeats a settlement whose answer was lost changes nothing, whatever the answer is.
pub(crate) fn a_settlement_may_be_repeated(lab: &Lab) {
    let on = lab.bench();
    let ids = on.add_all(&jobs(3));
    let mut claimed = on.claim(3);
    claimed.sort_by_key(name);
    let ends = [done(), retry(seconds(0)), dead("for good")];
    let settle = || {
        let ends = claimed.iter().zip(&ends);
        let ends: Vec<_> = ends
            .map(|(job, end)| (job.lease.clone(), end.clone()))
            .collect();
        on.settle_all(&ends)
    };
    assert_eq!(settle(), [true; 3]);
    let again = on.comes(100, &["1"]);
    settle();
    on.finds_nothing();
    assert_eq!(again[0].attempt, 2);
    on.done(&again[0]);
    settle();
    on.finds_nothing();
    on.is_in(ids[2], JobState::Dead);
    on.counted(|stats| {
        assert_eq!((stats.done, stats.retried, stats.died), (2, 1, 1));
        assert_eq!((stats.ready, stats.running, stats.dead), (0, 0, 1));
    });
}

/// B6: one that is retried counts as enqueued when it is due again.
pub(crate) fn a_retry_comes_after_its_delay_and_behind_the_others(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&[job("fails"), job("b")]);
    let first = on.next();
    on.retry(&first, seconds(10));
    assert_eq!(on.next_names(1), ["b"]);
    on.finds_nothing();
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

pub(crate) fn a_retry_without_delay_is_ready_at_once_at_the_end(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&[job("fails"), job("b")]);
    let first = on.next();
    on.retry(&first, seconds(0));
    assert_eq!(on.next_names(100), ["b", "fails"]);
}

pub(crate) fn attempts_count_up_to_the_last_one_and_then_the_job_is_dead(lab: &Lab) {
    let on = lab.bench();
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
        on.shown(id, |job| {
            let job = job.expect("it is there");
            assert_eq!(job.error, Some(format!("failure {attempt}")));
            assert_eq!((job.attempt, job.attempts), (attempt, 3));
        });
    }
    on.is_in(id, JobState::Dead);
    on.finds_nothing();
    on.counted(|stats| assert_eq!((stats.retried, stats.died, stats.dead), (2, 1, 1)));
}

/// Also with a delay, which would be over first.
pub(crate) fn a_job_of_one_attempt_is_dead_when_that_failed(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(NewJob {
        attempts: 1,
        ..job("fails")
    });
    let claimed = on.next();
    on.retry(&claimed, seconds(10));
    on.shown(id, |job| {
        let job = job.expect("it is there");
        assert_eq!(job.state, JobState::Dead);
        assert_eq!(job.error.as_deref(), Some("not yet"));
    });
    on.pass(seconds(10));
    on.is_in(id, JobState::Dead);
    on.finds_nothing();
}

pub(crate) fn a_job_that_failed_for_good_is_dead_at_once_with_its_reason(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(job("fails"));
    let claimed = on.next();
    assert!(on.settle(&claimed, dead("it is \"broken\": 🪦")));
    on.shown(id, |job| {
        let job = job.expect("it is there");
        assert_eq!(job.state, JobState::Dead);
        assert_eq!(job.error.as_deref(), Some("it is \"broken\": 🪦"));
        assert_eq!(job.attempt, 1);
    });
    on.finds_nothing();
    if on.has(Capability::Fenced) {
        assert!(!on.settle(&claimed, retry(seconds(0))));
    }
    on.is_in(id, JobState::Dead);
    on.finds_nothing();
}

pub(crate) fn a_release_gives_the_attempt_back_and_keeps_the_place(lab: &Lab) {
    let on = lab.bench();
    let ids = on.add_all(&[job("a"), job("b"), job("c")]);
    let claimed = on.claim(2);
    on.release(&claimed[1]);
    on.release(&claimed[0]);
    on.shown(ids[0], |job| {
        let job = job.expect("it is there");
        assert_eq!((job.state, job.attempt), (JobState::Ready, 0));
    });
    let again = on.claim(3);
    assert_eq!(names(&again), ["a", "b", "c"]);
    assert!(again.iter().all(|job| job.attempt == 1));
    // The claim was one, all the same.
    assert_ne!(again[0].lease, claimed[0].lease);
    on.counted(|stats| assert_eq!(stats.retried, 0));
}

/// Whoever hands a job back has it no more, and another one may have it at once.
pub(crate) fn a_job_that_is_released_comes_again(lab: &Lab) {
    let on = lab.bench();
    on.add(job("a"));
    for _ in 0..3 {
        let claimed = on.comes(10, &["a"]);
        on.release(&claimed[0]);
    }
    let claimed = on.next();
    on.done(&claimed);
    on.finds_nothing();
}

pub(crate) fn a_job_may_be_released_more_often_than_it_has_attempts(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(NewJob {
        attempts: 1,
        ..job("a")
    });
    for _ in 0..5 {
        let claimed = on.next();
        assert_eq!(claimed.attempt, 1);
        on.release(&claimed);
    }
    on.is_in(id, JobState::Ready);
    let claimed = on.next();
    on.done(&claimed);
}

/// The place of its last turn, not that of its first.
pub(crate) fn a_release_after_a_retry_keeps_the_place_of_the_retry(lab: &Lab) {
    let on = lab.bench();
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
    on.shown(again[1].lease.id(), |job| {
        let error = job.and_then(|job| job.error);
        assert_eq!(error.as_deref(), Some("not yet"));
    });
}

/// The answers come in the order of the questions, and one that is not there hurts no other.
pub(crate) fn many_claims_end_in_one_call_each_in_its_own_way(lab: &Lab) {
    let on = lab.bench();
    let ids = on.add_all(&jobs(5));
    let mut claimed = on.claim(5);
    claimed.sort_by_key(name);
    on.done(&claimed[2]);
    let lease = |job: &Claimed| job.lease.clone();
    let settled = on.settle_all(&[
        (lease(&claimed[4]), release(seconds(0))),
        (Lease::new(JobId::new(), b"never given"), done()),
        (lease(&claimed[0]), done()),
        (lease(&claimed[1]), retry(seconds(0))),
        (lease(&claimed[3]), dead("for good")),
        (Lease::new(JobId::new(), b""), retry(seconds(0))),
    ]);
    assert_eq!(settled, [true, false, true, true, true, false]);
    on.is_in(ids[0], None);
    on.is_in(ids[1], JobState::Ready);
    on.is_in(ids[3], JobState::Dead);
    on.is_in(ids[4], JobState::Ready);
    let mut rest = on.claim_all(5);
    rest.sort_by_key(name);
    assert_eq!(names(&rest), ["1", "4"]);
    assert!(ok(on.broker.settle(&[])).is_empty());
}
