//! Jobs that are not to run after a time.

use super::prelude::*;

fn expiring(name: &str, after: u64) -> NewJob {
    let expires = Some(seconds(after));
    NewJob {
        expires,
        ..job(name)
    }
}

pub(crate) fn a_job_is_claimed_until_it_expires_and_not_after(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&[expiring("a", 10), expiring("b", 10), job("c")]);
    on.advance(seconds(10) - GRAIN);
    assert_eq!(on.next_names(1), ["a"]);
    on.advance(GRAIN * 2);
    assert_eq!(on.next_names(100), ["c"]);
    assert_eq!(on.stats().expired, 1);
}

pub(crate) fn an_expired_job_is_gone_and_counted(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(expiring("a", 10));
    let kept = on.add(expiring("b", 20));
    on.pass(seconds(15));
    assert!(on.get(id).is_none());
    assert_eq!(on.state(kept), Some(JobState::Ready));
    let stats = on.stats();
    assert_eq!((stats.expired, stats.ready, stats.removed), (1, 1, 0));
    assert!(!ok(on.admin().cancel(id)));
}

pub(crate) fn a_delayed_job_may_expire_before_it_is_due(lab: &Lab) {
    let on = lab.bench();
    let delay = seconds(20);
    for name in ["early", "late"] {
        let after = if name == "early" { 10 } else { 30 };
        let job = expiring(name, after);
        on.add(NewJob { delay, ..job });
    }
    on.pass(seconds(15));
    let stats = on.stats();
    assert_eq!((stats.expired, stats.delayed), (1, 1));
    on.advance(seconds(10));
    assert_eq!(on.next_names(100), ["late"]);
}

/// Though both moments passed while nobody looked.
pub(crate) fn what_was_due_and_has_expired_since_is_not_claimed(lab: &Lab) {
    let on = lab.bench();
    let delay = seconds(10);
    let job = expiring("a", 20);
    on.add(NewJob { delay, ..job });
    on.advance(seconds(30));
    assert!(on.claim(100).is_empty());
    let stats = on.stats();
    assert_eq!((stats.expired, stats.delayed, stats.ready), (1, 0, 0));
}

pub(crate) fn a_job_that_was_claimed_in_time_may_take_its_time(lab: &Lab) {
    let on = lab.bench();
    on.add(expiring("a", 10));
    let claimed = on.next();
    on.pass(seconds(30));
    let stats = on.stats();
    assert_eq!((stats.expired, stats.running), (0, 1));
    assert!(on.settle(&claimed, done()));
}

/// "Not to run after" holds for each attempt.
pub(crate) fn no_attempt_starts_after_the_expiry(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&[
        expiring("retried", 10),
        expiring("delayed", 10),
        expiring("released", 10),
        expiring("lost", 10),
    ]);
    let claimed = on.claim(4);
    on.advance(seconds(15));
    on.retry(&claimed[0], seconds(0));
    on.retry(&claimed[1], seconds(5));
    on.release(&claimed[2]);
    on.pass(seconds(0));
    on.advance(LEASE);
    assert_eq!(on.next_names(100), [""; 0]);
    let stats = on.stats();
    assert_eq!(stats.expired, 4);
    assert_eq!((stats.ready, stats.delayed, stats.running), (0, 0, 0));
}

/// But one that comes back in time is there.
pub(crate) fn an_attempt_before_the_expiry_is_made(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&[expiring("retried", 10), expiring("released", 10)]);
    let claimed = on.claim(2);
    on.retry(&claimed[0], seconds(5));
    on.release(&claimed[1]);
    on.advance(seconds(6));
    assert_eq!(on.next_names(100), ["released", "retried"]);
    assert_eq!(on.stats().expired, 0);
}

/// Who asks for a dead job again wants it to run.
pub(crate) fn a_dead_job_does_not_expire_nor_when_it_is_retried(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(expiring("a", 10));
    on.bury(&on.next());
    on.pass(seconds(20));
    assert_eq!(on.state(id), Some(JobState::Dead));
    assert!(ok(on.admin().retry_dead(id)));
    on.pass(seconds(20));
    assert_eq!(on.next_names(100), ["a"]);
    assert_eq!(on.stats().expired, 0);
}

pub(crate) fn a_result_does_not_expire_with_its_job(lab: &Lab) {
    let on = lab.bench();
    let keep_result = Some(seconds(3600));
    let id = on.add(NewJob {
        keep_result,
        ..expiring("a", 10)
    });
    on.done(&on.next());
    on.pass(seconds(20));
    assert_eq!(on.state(id), Some(JobState::Done));
    assert_eq!(on.stats().expired, 0);
}

/// A job that is enqueued with no time left has none.
pub(crate) fn a_job_that_expires_at_once_does_not_run(lab: &Lab) {
    let on = lab.bench();
    on.add(expiring("a", 0));
    on.advance(GRAIN);
    assert_eq!(on.next_names(100), [""; 0]);
    assert_eq!(on.stats().expired, 1);
}

pub(crate) fn many_jobs_expire_at_once(lab: &Lab) {
    let on = lab.bench();
    let batch: Vec<_> = (0..5_000).map(|n| expiring(&n.to_string(), 10)).collect();
    on.add_all(&batch);
    on.add(job("stays"));
    on.advance(seconds(20));
    let mut came = Vec::new();
    on.drain(100, |jobs| came.extend(names(&jobs)));
    assert_eq!(came, ["stays"]);
    assert_eq!(on.stats().expired, 5_000);
}
