//! The errors of a job's last attempts.

use super::*;
use crate::AttemptError;
use crate::Capability;

on_each_broker! {
    the_last_ten_errors_are_kept
    a_dead_letter_keeps_its_errors_and_so_does_its_retry
    a_lost_lease_is_one_of_them
    older_errors_are_cut_and_the_last_one_is_whole
    a_release_and_a_success_add_none
}

/// Number, text, and how many seconds ago.
fn errors(on: &On, id: JobId) -> Vec<(u32, String, u64)> {
    let job = on.get(id).unwrap();
    let last = job.errors.last().map(|last| &*last.error);
    assert_eq!(job.error.as_deref().map(AttemptError::cut), last);
    let parts = |one: AttemptError| (one.attempt, one.error, one.ago.as_secs());
    job.errors.into_iter().map(parts).collect()
}

fn the_last_ten_errors_are_kept(on: &On) {
    let capabilities = on.broker().capabilities();
    capabilities.require(Capability::ErrorHistory).unwrap();
    let job = job();
    on.add(&job);
    assert_eq!(errors(on, job.id), []);
    for attempt in 1..=12 {
        on.run(retry(&format!("error {attempt}")));
        on.clock.advance(SECOND);
    }
    let wanted =
        (3..=12).map(|attempt| (attempt, format!("error {attempt}"), u64::from(13 - attempt)));
    assert_eq!(errors(on, job.id), wanted.collect::<Vec<_>>());
    let listed = on.admin().list(&ListRequest::new(JobState::Ready)).unwrap();
    assert_eq!(listed[0].errors, on.get(job.id).unwrap().errors);
}

fn a_dead_letter_keeps_its_errors_and_so_does_its_retry(on: &On) {
    let job = NewJob {
        attempts: 2,
        ..job()
    };
    on.add(&job);
    on.run(retry("first"));
    on.run(retry("last"));
    let both = [(1, "first".to_owned(), 0), (2, "last".to_owned(), 0)];
    assert_eq!(on.get(job.id).unwrap().state, JobState::Dead);
    assert_eq!(errors(on, job.id), both);
    assert!(on.admin().retry_dead(job.id).unwrap());
    assert_eq!(errors(on, job.id), both);
    on.run(dead("for good"));
    let [first, last] = both;
    assert_eq!(
        errors(on, job.id),
        [first, last, (1, "for good".to_owned(), 0)]
    );
}

fn a_lost_lease_is_one_of_them(on: &On) {
    let few = NewJob {
        attempts: 3,
        ..job()
    };
    on.add(&few);
    on.add(&job());
    // Together: the attempt is taken back, and the next one has its number again.
    assert_eq!(on.claim(&ClaimRequest::new(2, MINUTE)).len(), 2);
    on.clock.advance(MINUTE);
    let lost = |attempt| format!("the lease of attempt {attempt} ended before the job did");
    assert_eq!(errors(on, few.id), [(1, lost(1), 0)]);
    on.run(retry("no"));
    let rest = on.claim_one();
    assert_eq!(on.settle(&rest.lease, done()), Settled::Stored);
    for _ in 0..2 {
        assert_eq!(on.claim_one().lease.id(), few.id);
        on.clock.advance(MINUTE);
    }
    assert_eq!(on.get(few.id).unwrap().state, JobState::Dead);
    assert_eq!(
        errors(on, few.id),
        [
            (1, lost(1), 120),
            (1, "no".to_owned(), 120),
            (2, lost(2), 60),
            (3, lost(3), 0)
        ]
    );
}

fn older_errors_are_cut_and_the_last_one_is_whole(on: &On) {
    let job = NewJob {
        attempts: 99,
        ..job()
    };
    on.add(&job);
    let limit = AttemptError::LIMIT;
    // A character of three bytes is not cut in two.
    let long = format!("{}\u{20ac}{}", "x".repeat(limit - 1), "y".repeat(20 << 10));
    for _ in 0..11 {
        on.run(retry(&long));
        let shown = on.get(job.id).unwrap();
        assert_eq!(shown.error.as_deref(), Some(&*long));
        for error in shown.errors {
            assert_eq!(error.error, long[..limit - 1]);
        }
    }
    let exact = "z".repeat(limit);
    on.run(retry(&exact));
    assert_eq!(errors(on, job.id)[9].1, exact);
}

fn a_release_and_a_success_add_none(on: &On) {
    let job = NewJob {
        keep_result: Some(MINUTE),
        ..job()
    };
    on.add(&job);
    on.run(retry("no"));
    on.run(release());
    on.run(done());
    assert_eq!(on.get(job.id).unwrap().state, JobState::Done);
    assert_eq!(errors(on, job.id), [(1, "no".to_owned(), 0)]);
}
