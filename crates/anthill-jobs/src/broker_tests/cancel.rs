//! Requests to cancel a job that runs.

use super::*;
use crate::broker::{Change, Extended, Limits, Listener};
use crate::{Capability, QueueStats};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

on_each_broker! {
    only_a_job_that_runs_can_be_asked_to_end
    its_consumer_is_told_with_each_heartbeat
    what_would_go_on_is_removed
    what_is_over_ends_as_it_did
    the_request_ends_with_the_attempt
    what_waits_for_the_key_goes_on
}

fn stats(on: &On) -> QueueStats {
    on.admin().stats().unwrap()
}

fn cancel(on: &On, id: JobId) -> bool {
    on.admin().cancel_running(id).unwrap()
}

fn is_requested(on: &On, id: JobId) -> bool {
    on.get(id).unwrap().cancel_requested
}

/// Claims the only job, and requests its end.
fn cancelled(on: &On, job: &NewJob) -> Lease {
    assert!(on.add(job).is_added());
    let lease = on.claim_one().lease;
    assert!(cancel(on, job.id));
    assert!(is_requested(on, job.id));
    lease
}

fn only_a_job_that_runs_can_be_asked_to_end(on: &On) {
    let capabilities = on.broker().capabilities();
    capabilities.require(Capability::CancelRunning).unwrap();
    let ready = NewJob {
        keep_result: Some(MINUTE * 9),
        ..job()
    };
    let delayed = NewJob {
        delay: MINUTE * 9,
        ..job()
    };
    on.add(&ready);
    on.add(&delayed);
    assert!(!cancel(on, ready.id) && !cancel(on, delayed.id) && !cancel(on, JobId::new()));
    assert!(!is_requested(on, ready.id));
    on.claim_one();
    assert!(
        cancel(on, ready.id) && cancel(on, ready.id),
        "as often as one likes"
    );
    assert_eq!(on.get(ready.id).unwrap().state, JobState::Running);
    on.clock.advance(MINUTE);
    assert!(
        !cancel(on, ready.id),
        "its lease is over, and so is the job"
    );
    assert_eq!(on.get(ready.id).map(|job| job.state), None);
    let again = job();
    on.add(&again);
    on.claim_one();
    on.clock.advance(MINUTE);
    assert!(!cancel(on, again.id), "its lease is over");
    assert_eq!(on.get(again.id).unwrap().state, JobState::Ready);
    on.run(dead("no"));
    assert!(!cancel(on, again.id));
}

fn its_consumer_is_told_with_each_heartbeat(on: &On) {
    let (one, other) = (job(), job());
    on.add(&one);
    on.add(&other);
    let jobs = on.claim(&ClaimRequest::new(2, MINUTE));
    let leases = [&jobs[0], &jobs[1]].map(|job| job.lease.clone());
    let extend = || on.broker().extend(&leases, MINUTE).unwrap();
    let held = leases.clone().map(Extended::Held);
    assert_eq!(extend(), held);
    assert!(cancel(on, one.id));
    for _ in 0..2 {
        on.clock.advance(SECOND * 40);
        let [first, second] = leases.clone();
        let wanted = [Extended::Cancelled(first), Extended::Held(second)];
        assert_eq!(extend(), wanted, "and the lease is extended all the same");
    }
    assert_eq!(on.settle(&leases[0], done()), Settled::Stored);
    assert_eq!(extend()[0], Extended::Lost);
}

fn what_would_go_on_is_removed(on: &On) {
    let later = Settle::Release { delay: MINUTE };
    let last = NewJob {
        attempts: 1,
        ..job()
    };
    let ends = [
        (job(), Some(retry("no"))),
        (last.clone(), Some(retry("no"))),
        (job(), Some(release())),
        (job(), Some(later)),
        (job(), None),
        (
            NewJob {
                id: JobId::new(),
                ..last
            },
            None,
        ),
    ];
    for (removed, (job, end)) in (1..).zip(ends) {
        let job = NewJob {
            unique: Some("u".to_owned()),
            ..job
        };
        let lease = cancelled(on, &job);
        match end {
            Some(end) => assert_eq!(on.settle(&lease, end), Settled::Stored),
            None => on.clock.advance(MINUTE),
        }
        assert!(on.get(job.id).is_none());
        let stats = stats(on);
        assert_eq!((stats.removed, stats.retried, stats.died), (removed, 0, 0));
        assert_eq!((stats.running, stats.ready, stats.delayed), (0, 0, 0));
        // Its unique key is free, as the next one is added.
    }
    assert_eq!(stats(on).lost_leases, 2);
}

fn what_is_over_ends_as_it_did(on: &On) {
    let kept = NewJob {
        keep_result: Some(MINUTE),
        ..job()
    };
    let lease = cancelled(on, &kept);
    assert_eq!(on.settle(&lease, done()), Settled::Stored);
    let shown = on.get(kept.id).unwrap();
    assert_eq!(
        (shown.state, shown.result.is_some()),
        (JobState::Done, true)
    );
    assert!(!shown.cancel_requested);
    let dies = job();
    let lease = cancelled(on, &dies);
    assert_eq!(on.settle(&lease, dead("no")), Settled::Stored);
    let shown = on.get(dies.id).unwrap();
    assert_eq!(
        (shown.state, shown.cancel_requested),
        (JobState::Dead, false)
    );
    let stats = stats(on);
    assert_eq!((stats.removed, stats.done, stats.died), (0, 1, 1));
}

fn the_request_ends_with_the_attempt(on: &On) {
    let job = job();
    let lease = cancelled(on, &job);
    on.settle(&lease, dead("no"));
    assert!(on.admin().retry_dead(job.id).unwrap());
    let lease = on.claim_one().lease;
    assert!(!is_requested(on, job.id));
    let leases = std::slice::from_ref(&lease);
    let extended = on.broker().extend(leases, MINUTE).unwrap();
    assert_eq!(extended, [Extended::Held(lease.clone())]);
    on.settle(&lease, retry("no"));
    assert_eq!(on.get(job.id).unwrap().state, JobState::Ready);
}

fn what_waits_for_the_key_goes_on(on: &On) {
    let limits = Limits {
        per_key: Some(1),
        ..Limits::default()
    };
    on.queue.set_limits(limits).unwrap();
    let keyed = || NewJob {
        key: Some("k".to_owned()),
        ..job()
    };
    let lease = cancelled(on, &keyed());
    let next = keyed();
    on.add(&next);
    let heard = Arc::new(AtomicU32::new(0));
    let ear = Arc::clone(&heard);
    let listener = Listener::new(Duration::MAX, move |change| {
        assert_eq!(change, Change::Here);
        ear.fetch_add(1, Ordering::Relaxed);
    });
    let _subscription = on.broker().subscribe(listener).unwrap();
    on.settle(&lease, retry("no"));
    assert!(heard.load(Ordering::Relaxed) > 0);
    assert_eq!(on.claim_one().lease.id(), next.id);
}
