//! The errors of a job's earlier attempts.

use super::prelude::*;

/// Fails an attempt, and returns the error.
#[track_caller]
fn fail(on: &Bench, number: u32) -> String {
    let error = format!("failure {number}: it's \"broken\" 🪦");
    let delay = seconds(0);
    let claimed = on.next();
    let end = Settle::Retry {
        delay,
        error: error.clone(),
    };
    assert!(on.settle(&claimed, end));
    error
}

/// The errors that are kept, with the numbers of the attempts.
#[track_caller]
fn errors(on: &Bench, id: JobId) -> Vec<(u32, String)> {
    let errors = on.job(id).errors.into_iter();
    errors.map(|one| (one.attempt, one.error)).collect()
}

pub(crate) fn the_errors_of_earlier_attempts_are_kept(lab: &Lab) {
    let on = lab.bench();
    let other = on.add(job("other"));
    on.bury(&on.next());
    let id = on.add(job("a"));
    assert!(errors(&on, id).is_empty());
    let mut expected = Vec::new();
    for attempt in 1..=3 {
        expected.push((attempt, fail(&on, attempt)));
        assert_eq!(errors(&on, id), expected);
        assert_eq!(errors(&on.another(), id), expected);
        assert_eq!(
            on.job(id).error.as_ref(),
            Some(&expected[expected.len() - 1].1)
        );
    }
    // A release is no failure.
    if on.has(Capability::UncountedRelease) {
        on.release(&on.next());
        assert_eq!(errors(&on, id), expected);
    }
    let claimed = on.next();
    assert_eq!(errors(&on, id), expected, "while it runs");
    assert!(on.settle(&claimed, dead("for good")));
    expected.push((4, "for good".to_owned()));
    assert_eq!(errors(&on, id), expected);
    assert_eq!(errors(&on, other), [(1, "for good".to_owned())]);
}

pub(crate) fn the_last_ten_errors_are_kept(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(job("a"));
    let all: Vec<(u32, String)> = (1..=13)
        .map(|attempt| (attempt, fail(&on, attempt)))
        .collect();
    let kept = JobInfo::ERRORS_KEPT;
    assert_eq!(errors(&on, id), all[all.len() - kept..]);
    if on.has(Capability::List) {
        let listed = ok(on.admin().list(&ListRequest::new(JobState::Ready)));
        assert_eq!(listed[0].errors.len(), kept);
    }
}

pub(crate) fn how_long_ago_an_attempt_failed_is_told(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(job("a"));
    for attempt in 1..=3 {
        fail(&on, attempt);
        on.advance(seconds(10));
    }
    let errors = on.job(id).errors;
    assert_eq!(errors.len(), 3);
    for (error, expected) in errors.iter().zip([30, 20, 10]) {
        let off = error.ago.abs_diff(seconds(expected));
        assert!(off <= GRAIN, "{:?}, not {expected} s", error.ago);
    }
}

/// A lease that is over is the end of an attempt, if the job was claimed alone.
pub(crate) fn a_lost_lease_is_among_the_errors(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(job("a"));
    let first = fail(&on, 1);
    on.next();
    on.pass(LEASE);
    let found = errors(&on, id);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0], (1, first));
    assert_eq!(found[1].0, 2);
    assert!(!found[1].1.is_empty(), "it tells why");
    assert_eq!(on.job(id).error.as_ref(), Some(&found[1].1));
}

pub(crate) fn errors_are_there_after_a_restart(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(job("a"));
    let expected = vec![(1, fail(&on, 1)), (2, fail(&on, 2))];
    let on = on.restart();
    assert_eq!(errors(&on, id), expected);
}
