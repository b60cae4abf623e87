//! For how long a queue keeps jobs that are over.

use super::prelude::*;
use crate::broker::Retention;

#[track_caller]
fn keep(on: &Bench, retention: Retention) {
    ok(on.admin().set_retention(retention));
    assert_eq!(ok(on.another().admin().retention()), retention);
}

/// What is too old is removed some at a time, and not at once.
#[track_caller]
fn goes(on: &Bench, id: JobId) {
    for _ in 0..60 {
        on.pass(MINUTE);
        if on.get(id).is_none() {
            return;
        }
    }
    panic!("it is there an hour later: {:?}", on.get(id));
}

/// A job that ends so.
#[track_caller]
fn ended(on: &Bench, job: NewJob, end: Settle) -> JobId {
    let id = on.add(job);
    let claimed = on.next();
    assert!(on.settle(&claimed, end));
    id
}

pub(crate) fn nothing_is_kept_or_removed_by_age_unless_it_is_set(lab: &Lab) {
    let on = lab.bench();
    assert_eq!(ok(on.admin().retention()), Retention::default());
    let done_one = ended(&on, job("a"), done());
    let dead_one = ended(&on, job("b"), dead("for good"));
    on.is_in(done_one, None);
    on.pass(seconds(1_000_000));
    on.is_in(dead_one, JobState::Dead);
}

pub(crate) fn a_job_that_is_done_is_kept_for_its_time(lab: &Lab) {
    let on = lab.bench();
    keep(&on, Retention::default().done(seconds(100)));
    let unique = NewJob {
        id: JobId::new(),
        ..job("a")
    };
    let id = ended(&on, unique.clone(), done());
    on.is_in(id, JobState::Done);
    // It has not asked for its result.
    on.shown(id, |job| assert_eq!(job.and_then(|job| job.result), None));
    assert_eq!(on.add_again(unique.clone()), id, "as long as it is stored");
    on.finds_nothing();
    on.pass(seconds(100) - GRAIN);
    on.is_in(id, JobState::Done);
    goes(&on, id);
    on.add(unique);
    on.counted(|stats| assert_eq!((stats.done, stats.removed), (1, 0)));
}

/// Its key is free, though it is kept.
pub(crate) fn a_job_that_is_kept_keeps_nobody_out(lab: &Lab) {
    let on = lab.bench();
    keep(
        &on,
        Retention::default().done(seconds(100)).dead(seconds(100)),
    );
    let unique = |name: &str| NewJob {
        unique: Some("u".to_owned()),
        ..job(name)
    };
    let first = ended(&on, unique("done"), done());
    let second = ended(&on, unique("dead"), dead("for good"));
    on.is_in(first, JobState::Done);
    on.is_in(second, JobState::Dead);
    on.add(unique("third"));
}

/// With its result.
pub(crate) fn a_result_is_kept_for_the_longer_of_both_times(lab: &Lab) {
    let on = lab.bench();
    keep(&on, Retention::default().done(seconds(100)));
    let kept = |time| NewJob {
        keep_result: Some(seconds(time)),
        ..job("a")
    };
    let (short, long) = (kept(10), kept(7_200));
    let short = ended(&on, short, done());
    let long = ended(&on, long, done());
    on.pass(seconds(100) - GRAIN);
    let result = |id| on.job(id).result;
    assert_eq!(result(short), Some(b"null".to_vec()));
    goes(&on, short);
    assert_eq!(result(long), Some(b"null".to_vec()));
    on.pass(seconds(7_200));
    goes(&on, long);
}

pub(crate) fn a_dead_job_is_kept_for_its_time(lab: &Lab) {
    let on = lab.bench();
    keep(&on, Retention::default().dead(seconds(100)));
    let old = ended(&on, job("old"), dead("for good"));
    on.pass(seconds(50));
    let new = ended(&on, job("new"), dead("for good"));
    on.pass(seconds(50) - GRAIN);
    on.is_in(old, JobState::Dead);
    // One that is retried is none of them.
    assert!(ok(on.admin().retry_dead(new)));
    goes(&on, old);
    on.is_in(new, JobState::Ready);
    on.bury(&on.next());
    on.pass(seconds(100) - GRAIN);
    on.is_in(new, JobState::Dead);
    goes(&on, new);
}

/// It holds for those that are over already.
pub(crate) fn a_retention_may_change(lab: &Lab) {
    let on = lab.bench();
    keep(
        &on,
        Retention::default().done(seconds(100)).dead(seconds(100)),
    );
    let done_one = ended(&on, job("a"), done());
    let dead_one = ended(&on, job("b"), dead("for good"));
    on.pass(seconds(90));
    keep(
        &on,
        Retention::default()
            .done(seconds(20_000))
            .dead(seconds(20_000)),
    );
    on.pass(seconds(10_000));
    on.is_in(done_one, JobState::Done);
    on.is_in(dead_one, JobState::Dead);
    keep(&on, Retention::default().done(seconds(60)));
    goes(&on, done_one);
    on.pass(seconds(100_000));
    on.is_in(dead_one, JobState::Dead);
    keep(&on, Retention::default().dead(seconds(60)));
    goes(&on, dead_one);
}

pub(crate) fn many_that_are_too_old_all_go(lab: &Lab) {
    const JOBS: usize = 2_000;
    let on = lab.bench();
    keep(&on, Retention::default().dead(seconds(100)));
    on.add_all(&jobs(JOBS));
    let claimed = on.claim(JOBS);
    on.all_dead(&claimed);
    on.pass(seconds(100));
    on.add(job("stays"));
    for id in claimed.iter().map(|job| job.lease.id()) {
        if on.get(id).is_some() {
            goes(&on, id);
        }
    }
    on.comes(100, &["stays"]);
}

pub(crate) fn a_retention_is_there_after_a_restart(lab: &Lab) {
    let on = lab.bench();
    let retention = Retention::default().done(seconds(100)).dead(seconds(200));
    keep(&on, retention);
    let id = ended(&on, job("a"), done());
    let on = on.restart();
    assert_eq!(ok(on.admin().retention()), retention);
    on.is_in(id, JobState::Done);
    on.pass(seconds(100));
    goes(&on, id);
}
