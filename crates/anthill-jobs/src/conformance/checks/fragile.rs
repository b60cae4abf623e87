//! B5, B9: a crash costs an attempt, or a life, only to a job that was claimed by itself.

use super::prelude::*;

/// Jobs of one attempt.
fn once(name: &str) -> NewJob {
    NewJob {
        attempts: 1,
        ..job(name)
    }
}

#[track_caller]
fn not_fragile(on: &Bench, limit: usize) -> Claims {
    let claims = on.claims_by(&ClaimRequest::new(limit, LEASE).not_fragile());
    assert!(claims.jobs.iter().all(|job| !job.is_fragile));
    claims
}

/// What the next claim of many gives, and whether it says that one comes that is claimed by itself.
#[track_caller]
fn next(on: &Bench) -> (Vec<String>, bool) {
    let claims = on.claims(100);
    let is_alone = claims.jobs.iter().any(|job| job.is_fragile);
    assert!(!is_alone || claims.jobs.len() == 1, "it is given by itself");
    (names(&claims.jobs), claims.fragile_next)
}

fn told(names: &[&str], fragile_next: bool) -> (Vec<String>, bool) {
    (
        names.iter().map(|&name| name.to_owned()).collect(),
        fragile_next,
    )
}

pub(crate) fn a_job_on_its_last_attempt_is_given_by_itself_in_its_turn(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&[
        job("a"),
        job("b"),
        once("alone"),
        job("c"),
        once("also"),
        once("too"),
        job("d"),
    ]);
    assert_eq!(next(&on), told(&["a", "b"], true));
    assert_eq!(next(&on).0, ["alone"]);
    assert_eq!(next(&on), told(&["c"], true));
    assert_eq!(next(&on).0, ["also"]);
    assert_eq!(next(&on).0, ["too"]);
    assert_eq!(next(&on), told(&["d"], false));
    assert_eq!(next(&on), told(&[], false));
}

/// Nothing goes past it either: it is told, and waits.
pub(crate) fn none_is_given_where_the_request_forbids_it(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&[job("a"), once("alone"), job("b")]);
    let claims = not_fragile(&on, 100);
    assert_eq!(
        (names(&claims.jobs), claims.fragile_next),
        told(&["a"], true)
    );
    for _ in 0..3 {
        let claims = not_fragile(&on, 100);
        assert_eq!((names(&claims.jobs), claims.fragile_next), told(&[], true));
    }
    let alone = on.claim(100);
    assert_eq!(names(&alone), ["alone"]);
    assert!(alone[0].is_fragile);
    assert_eq!((alone[0].attempt, alone[0].attempts), (1, 1));
    let claims = not_fragile(&on, 100);
    assert_eq!(
        (names(&claims.jobs), claims.fragile_next),
        told(&["b"], false)
    );
}

pub(crate) fn one_of_another_kind_is_in_nobodys_way(lab: &Lab) {
    let on = lab.bench();
    let other = NewJob {
        attempts: 1,
        ..NewJob::new("other", b"other".to_vec())
    };
    on.add(other);
    on.add_all(&[job("a"), job("b")]);
    let ours = vec!["test".to_owned()].into();
    let request = ClaimRequest::new(100, LEASE).of_kinds(ours).not_fragile();
    let claims = on.claims_by(&request);
    assert_eq!(
        (names(&claims.jobs), claims.fragile_next),
        told(&["a", "b"], false)
    );
    let claims = on.claims_by(&request);
    assert_eq!((names(&claims.jobs), claims.fragile_next), told(&[], false));
    assert_eq!(on.next_names(1), ["other"]);
}

pub(crate) fn the_last_of_several_attempts_is_made_by_itself(lab: &Lab) {
    let on = lab.bench();
    for name in ["a", "b"] {
        on.add(NewJob {
            attempts: 2,
            ..job(name)
        });
    }
    let both = on.claim(2);
    assert!(both.iter().all(|job| !job.is_fragile));
    for job in &both {
        on.retry(job, seconds(0));
    }
    let claims = on.claims(2);
    assert_eq!(
        (names(&claims.jobs), claims.jobs[0].is_fragile),
        (vec!["a".to_owned()], true)
    );
    // As if it had not been claimed.
    on.release(&claims.jobs[0]);
    assert!(on.next().is_fragile);
    assert!(on.next().is_fragile);
}

/// Nobody knows which of them began.
pub(crate) fn jobs_that_were_claimed_together_lose_no_attempt_and_are_suspect(lab: &Lab) {
    let on = lab.bench();
    let ids = on.add_all(&jobs(4));
    let together = on.claim(4);
    on.done(&together[3]);
    on.pass(LEASE);
    on.counted(|stats| {
        assert_eq!((stats.lost_leases, stats.ready, stats.died), (3, 3, 0));
    });
    for &id in &ids[..3] {
        on.shown(id, |job| {
            let job = job.expect("it is there");
            assert_eq!(job.attempt, 0);
            assert!(job.error.is_some_and(|why| !why.is_empty()), "it tells why");
        });
    }
    on.add(job("new"));
    let on = on.reopen();
    for name in ["0", "1", "2"] {
        let claims = on.claims(100);
        assert_eq!(names(&claims.jobs), [name]);
        assert!(claims.jobs[0].is_fragile && claims.jobs[0].attempt == 1);
    }
    assert_eq!(next(&on), told(&["new"], false));
}

pub(crate) fn a_job_that_was_claimed_by_itself_loses_its_attempt(lab: &Lab) {
    let on = lab.bench();
    on.add(job("one"));
    // Of those that were asked for it was the only one there.
    assert_eq!(on.claim(10).len(), 1);
    on.add(job("two"));
    assert_eq!(on.claim(1).len(), 1);
    let on = on.reopen();
    on.pass(LEASE);
    for name in ["one", "two"] {
        let again = on.claim(10);
        assert_eq!(names(&again), [name]);
        assert_eq!((again[0].attempt, again[0].is_fragile), (2, true));
    }
}

/// The newest claim is what counts.
pub(crate) fn a_crash_counts_once_a_job_is_claimed_by_itself(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(NewJob {
        attempts: 3,
        ..job("poison")
    });
    on.add(job("beside it"));
    assert_eq!(on.claim(2).len(), 2);
    on.pass(LEASE);
    for attempt in 1..=3 {
        let claims = on.claims(100);
        assert_eq!(names(&claims.jobs), ["poison"]);
        assert_eq!(
            (claims.jobs[0].attempt, claims.jobs[0].is_fragile),
            (attempt, true)
        );
        on.pass(LEASE);
    }
    on.is_in(id, JobState::Dead);
    let beside = on.next();
    assert_eq!(beside.attempt, 1);
    on.counted(|stats| assert_eq!(stats.died, 1));
    on.done(&beside);
}

pub(crate) fn one_that_is_released_stays_suspect_and_one_that_was_settled_is_not(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&jobs(2));
    on.claim(2);
    on.pass(LEASE);
    let first = on.next();
    assert!(first.is_fragile);
    on.release(&first);
    let first = on.next();
    assert!(
        first.is_fragile,
        "whoever handed it back need not have run it"
    );
    let delay = seconds(5);
    assert!(on.settle(&first, release(delay)));
    on.retry(&on.next(), seconds(10));
    on.pass(delay);
    let first = on.next();
    assert_eq!((first.is_fragile, first.attempt), (true, 1));
    on.retry(&first, seconds(6));
    let on = on.reopen();
    on.pass(seconds(6));
    let both = on.claim(2);
    assert_eq!(names(&both), ["1", "0"]);
    assert!(both.iter().all(|job| !job.is_fragile && job.attempt == 2));
}

/// Nor is a dead one that is retried by hand.
pub(crate) fn one_that_died_is_not_suspect_any_more(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(NewJob {
        attempts: 2,
        ..job("a")
    });
    for _ in 0..2 {
        assert_eq!(on.claim(1).len(), 1);
        on.pass(LEASE);
    }
    assert_eq!(on.state(id), Some(JobState::Dead));
    assert!(ok(on.admin().retry_dead(id)));
    on.add(job("b"));
    assert_eq!(next(&on), told(&["a", "b"], false));
}

/// Of two hundred that have one attempt each a crash costs one.
pub(crate) fn a_poison_pill_takes_nobody_with_it(lab: &Lab) {
    let on = lab.bench();
    let all: Vec<NewJob> = (0..200).map(|n| once(&n.to_string())).collect();
    on.add_all(&all);
    let claimed = on.claim(200);
    assert_eq!(names(&claimed), ["0"], "they are never claimed together");
    on.pass(LEASE);
    on.counted(|stats| {
        assert_eq!((stats.dead, stats.ready, stats.lost_leases), (1, 199, 1));
    });
    assert_eq!(on.next_names(200), ["1"]);
}

pub(crate) fn limits_hold_for_those_that_are_given_by_themselves(lab: &Lab) {
    let on = lab.bench();
    on.limit(Limits {
        running: Some(2),
        ..Limits::default()
    });
    on.add_all(&[job("a"), once("b"), once("c")]);
    let first = on.claim(100);
    assert_eq!(names(&first), ["a"]);
    let second = on.claim(100);
    assert_eq!(names(&second), ["b"]);
    assert!(on.claim(100).is_empty());
    on.done(&second[0]);
    assert_eq!(on.next_names(100), ["c"]);
}

/// Not before, and behind those that were enqueued until then; the attempt is not lost.
pub(crate) fn a_release_with_a_delay_comes_when_that_is_over(lab: &Lab) {
    let on = lab.bench();
    let ids = on.add_all(&[job("a"), job("b")]);
    let first = on.next();
    let delay = seconds(10);
    assert!(on.settle(&first, release(delay)));
    on.shown(ids[0], |job| {
        let job = job.expect("it is there");
        assert_eq!((job.state, job.attempt), (JobState::Delayed, 0));
        assert_eq!(job.due_in, Some(delay));
        assert_eq!(job.error, None);
    });
    on.counted(|stats| assert_eq!(stats.retried, 0));
    on.pass(delay / 2);
    on.add(job("c"));
    assert_eq!(on.next_names(1), ["b"]);
    on.pass(delay / 2);
    on.add(job("d"));
    let rest = on.claim(100);
    assert_eq!(names(&rest), ["c", "a", "d"]);
    assert_eq!(rest[1].attempt, 1);
    // Who released it has no say in it any more.
    if on.has(Capability::Fenced) {
        assert!(!on.settle(&first, release(delay)));
    }
}
