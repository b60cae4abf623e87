//! A request to cancel a job that runs: its consumer is told when it extends the lease, and if it then does not succeed the job
//! is removed.

use super::prelude::*;
use crate::broker::Extended;

/// A job that runs, and whose cancellation is requested.
#[track_caller]
fn cancelled(on: &Bench, job: NewJob) -> Claimed {
    let id = on.add(job);
    let claimed = on.next();
    assert_eq!(claimed.lease.id(), id);
    assert!(ok(on.admin().cancel_running(id)));
    claimed
}

/// Extends a lease, and returns whether a request to cancel the job was told.
#[track_caller]
fn is_told(on: &Bench, job: &mut Claimed) -> bool {
    let leases = std::slice::from_ref(&job.lease);
    let mut extended = ok(on.broker.extend(leases, LEASE));
    let (lease, told) = match extended.pop() {
        Some(Extended::Held(lease)) => (lease, false),
        Some(Extended::Cancelled(lease)) => (lease, true),
        other => panic!("{other:?}"),
    };
    job.lease = lease;
    told
}

/// It was removed, and nothing of it is left.
#[track_caller]
fn is_gone(on: &Bench, id: JobId, removed: u64) {
    on.finds_nothing();
    on.is_in(id, None);
    on.counted(|stats| {
        assert_eq!(stats.removed, removed);
        assert_eq!((stats.ready, stats.delayed, stats.running), (0, 0, 0));
        assert_eq!((stats.dead, stats.done), (0, 0));
    });
}

pub(crate) fn a_request_to_cancel_is_told_by_each_extension(lab: &Lab) {
    let on = lab.bench();
    let ids = on.add_all(&jobs(2));
    let mut claimed = [on.next(), on.next()];
    claimed.sort_by_key(name);
    assert!(!is_told(&on, &mut claimed[0]));
    assert!(ok(on.another().admin().cancel_running(ids[0])));
    assert!(is_told(&on, &mut claimed[0]));
    assert!(is_told(&on, &mut claimed[0]), "also the next time");
    assert!(!is_told(&on, &mut claimed[1]), "it is another one's");
    on.shown(ids[0], |job| {
        assert!(job.expect("it runs").cancel_requested);
    });
    on.shown(ids[1], |job| {
        assert!(!job.expect("it runs").cancel_requested);
    });
    assert!(ok(on.admin().cancel_running(ids[0])), "it runs still");
    // Both in one call, each in its place.
    let leases: Vec<Lease> = claimed.iter().map(|job| job.lease.clone()).collect();
    let told = match &ok(on.broker.extend(&leases, LEASE))[..] {
        [Extended::Cancelled(first), Extended::Held(second)] => [first.clone(), second.clone()],
        other => panic!("{other:?}"),
    };
    let ends = told.map(|lease| (lease, done()));
    assert_eq!(on.settle_all(&ends), [true, true]);
}

/// One that waits is cancelled otherwise.
pub(crate) fn only_a_job_that_runs_gets_such_a_request(lab: &Lab) {
    let on = lab.bench();
    let ids = on.add_all(&jobs(3));
    on.bury(&on.next());
    let done_one = on.next();
    on.done(&done_one);
    for id in ids.into_iter().chain([JobId::new()]) {
        assert!(!ok(on.admin().cancel_running(id)));
    }
    let mut last = on.next();
    assert!(!is_told(&on, &mut last));
    on.done(&last);
}

pub(crate) fn a_cancelled_job_that_succeeds_is_done(lab: &Lab) {
    let on = lab.bench();
    let claimed = cancelled(&on, job("a"));
    on.done(&claimed);
    on.is_in(claimed.lease.id(), None);
    on.finds_nothing();
    on.counted(|stats| assert_eq!((stats.done, stats.removed), (1, 0)));
    assert!(!ok(on.admin().cancel_running(claimed.lease.id())));
    if on.has(Capability::Results) {
        let claimed = cancelled(
            &on,
            NewJob {
                keep_result: Some(LEASE),
                ..job("b")
            },
        );
        on.done(&claimed);
        on.is_in(claimed.lease.id(), JobState::Done);
    }
}

pub(crate) fn a_cancelled_job_that_fails_is_removed(lab: &Lab) {
    let on = lab.bench();
    for (removed, delay) in [(1, 0), (2, 10)] {
        let claimed = cancelled(&on, job("a"));
        on.retry(&claimed, seconds(delay));
        is_gone(&on, claimed.lease.id(), removed);
    }
    on.pass(seconds(10));
    on.finds_nothing();
}

/// The reason is kept.
pub(crate) fn a_cancelled_job_that_fails_for_good_is_dead(lab: &Lab) {
    let on = lab.bench();
    let claimed = cancelled(&on, job("a"));
    on.bury(&claimed);
    on.finds_nothing();
    on.shown(claimed.lease.id(), |job| {
        let reason = job.map(|job| (job.state, job.error));
        assert_eq!(reason, Some((JobState::Dead, Some("for good".to_owned()))));
    });
    on.counted(|stats| {
        assert_eq!((stats.ready, stats.delayed, stats.running), (0, 0, 0));
        assert_eq!((stats.died, stats.removed, stats.done), (1, 0, 0));
    });
}

pub(crate) fn a_cancelled_job_that_is_handed_back_is_removed(lab: &Lab) {
    let on = lab.bench();
    for (removed, delay) in [(1, 0), (2, 10)] {
        let claimed = cancelled(&on, job("a"));
        assert!(on.settle(&claimed, release(seconds(delay))));
        is_gone(&on, claimed.lease.id(), removed);
    }
    on.pass(seconds(10));
    on.finds_nothing();
}

/// Whether or not it was claimed alone.
pub(crate) fn a_cancelled_job_whose_lease_is_over_is_removed(lab: &Lab) {
    let on = lab.bench();
    let claimed = cancelled(&on, job("a"));
    on.pass(LEASE);
    is_gone(&on, claimed.lease.id(), 1);
    let ids = on.add_all(&jobs(2));
    assert_eq!(on.claim(2).len(), 2);
    for &id in &ids {
        assert!(ok(on.admin().cancel_running(id)));
    }
    on.pass(LEASE);
    is_gone(&on, ids[0], 3);
    on.is_in(ids[1], None);
    if on.has(Capability::Fenced) {
        assert!(!on.settle(&claimed, done()));
    }
}

/// As each job that is over does.
pub(crate) fn a_cancelled_job_frees_its_keys(lab: &Lab) {
    let on = lab.bench();
    on.limit(Limits {
        per_key: Some(1),
        ..Limits::default()
    });
    let keyed = |name: &str| NewJob {
        unique: Some("u".to_owned()),
        key: Some("k".to_owned()),
        ..job(name)
    };
    let claimed = cancelled(&on, keyed("first"));
    assert_eq!(on.add_again(keyed("second")), claimed.lease.id());
    let parked = NewJob {
        unique: None,
        ..keyed("parked")
    };
    on.add(parked);
    on.finds_nothing();
    on.retry(&claimed, seconds(0));
    on.add(keyed("second"));
    let claimed = on.claim(100);
    assert_eq!(names(&claimed), ["parked"]);
    on.done(&claimed[0]);
    assert_eq!(on.next_names(100), ["second"]);
}

pub(crate) fn a_request_to_cancel_is_there_after_a_restart(lab: &Lab) {
    let on = lab.bench();
    let mut claimed = cancelled(&on, job("a"));
    let on = on.restart();
    assert!(is_told(&on, &mut claimed));
    on.retry(&claimed, seconds(0));
    is_gone(&on, claimed.lease.id(), 1);
}
