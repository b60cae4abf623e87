//! The list of live consumers, and which of them runs what.

use super::prelude::*;
use crate::broker::ConsumerInfo;

fn consumer(id: &str) -> ConsumerInfo {
    let kinds = vec!["resize".to_owned(), "test@2".to_owned()];
    ConsumerInfo {
        running: 3,
        age: seconds(7),
        ..ConsumerInfo::new(id, kinds, 8)
    }
}

#[track_caller]
fn announce(on: &Bench, id: &str) {
    ok(on.registry().announce(&consumer(id), LEASE));
}

/// All that are there, by their ids.
#[track_caller]
fn all(on: &Bench) -> Vec<ConsumerInfo> {
    let mut all = ok(on.registry().consumers());
    all.sort_by(|one, other| one.id.cmp(&other.id));
    all
}

#[track_caller]
fn ids(on: &Bench) -> Vec<String> {
    all(on).into_iter().map(|consumer| consumer.id).collect()
}

pub(crate) fn who_is_announced_is_seen_until_it_is_withdrawn(lab: &Lab) {
    let on = lab.bench();
    assert!(all(&on).is_empty());
    announce(&on, "b");
    announce(&on, "a");
    let other = on.another();
    let seen = all(&other);
    assert_eq!(ids(&on), ["a", "b"]);
    assert_eq!(seen[0].kinds, ["resize", "test@2"]);
    assert_eq!((seen[0].workers, seen[0].running), (8, 3));
    ok(other.registry().withdraw("a"));
    assert_eq!(ids(&on), ["b"]);
    ok(on.registry().withdraw("a"));
    ok(on.registry().withdraw("b"));
    assert!(all(&on).is_empty());
    on.finds_nothing();
}

pub(crate) fn who_is_announced_again_takes_its_own_place(lab: &Lab) {
    let on = lab.bench();
    announce(&on, "a");
    let busy = ConsumerInfo {
        running: 8,
        ..ConsumerInfo::new("a", vec!["other".to_owned()], 9)
    };
    ok(on.another().registry().announce(&busy, LEASE));
    let seen = all(&on);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].kinds, ["other"]);
    assert_eq!((seen[0].workers, seen[0].running), (9, 8));
}

/// One that is not heard of any more is gone when its time is over.
pub(crate) fn who_is_silent_is_seen_for_its_time_and_then_gone(lab: &Lab) {
    let on = lab.bench();
    announce(&on, "silent");
    announce(&on, "heard");
    on.advance(LEASE - seconds(1));
    assert_eq!(ids(&on), ["heard", "silent"]);
    announce(&on, "heard");
    on.advance(seconds(1) + GRAIN);
    assert_eq!(ids(&on), ["heard"]);
    on.advance(LEASE);
    assert!(all(&on).is_empty());
}

pub(crate) fn how_long_ago_it_was_seen_and_started_is_told(lab: &Lab) {
    let on = lab.bench();
    announce(&on, "a");
    on.advance(seconds(10));
    let seen = all(&on);
    let [one] = &seen[..] else {
        panic!("one is there: {seen:?}")
    };
    let near = |time: Duration, expected| time.abs_diff(seconds(expected)) <= GRAIN;
    assert!(near(one.seen, 10), "seen {:?} ago", one.seen);
    assert!(near(one.age, 17), "started {:?} ago", one.age);
}

/// The job tells who runs it, while it runs.
pub(crate) fn a_job_tells_who_runs_it(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(job("a"));
    assert_eq!(on.job(id).consumer, None);
    let request = ClaimRequest::new(1, LEASE).by("worker 7".into());
    let claimed = on.claims_by(&request).jobs;
    assert_eq!(on.job(id).consumer.as_deref(), Some("worker 7"));
    on.retry(&claimed[0], seconds(0));
    assert_eq!(on.job(id).consumer, None);
    let claimed = on.next();
    assert_eq!(on.job(id).consumer, None, "nobody said who it is");
    on.done(&claimed);
}
