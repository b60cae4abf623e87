//! What a move to another queue is made of: jobs put off, and jobs removed that nobody has changed.

use super::prelude::*;
use crate::broker::Listener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[track_caller]
fn put_off(on: &Bench, id: JobId, delay: u64) -> bool {
    let set = ok(on.admin().set_due(&[id], seconds(delay)));
    assert_eq!(set.len(), 1, "an answer for each job");
    set[0]
}

#[track_caller]
fn remove(on: &Bench, job: &JobInfo) -> bool {
    let removed = ok(on.admin().remove_unchanged(std::slice::from_ref(job)));
    assert_eq!(removed.len(), 1, "an answer for each job");
    removed[0]
}

fn with_key(name: &str) -> NewJob {
    let key = Some("key".to_owned());
    NewJob { key, ..job(name) }
}

fn one_per_key() -> Limits {
    Limits {
        per_key: Some(1),
        ..Limits::default()
    }
}

pub(crate) fn who_is_put_off_is_not_claimed_and_comes_back_in_its_old_place(lab: &Lab) {
    let on = lab.bench();
    let ids = on.add_all(&jobs(4));
    let some = [ids[0], ids[2]];
    assert_eq!(ok(on.admin().set_due(&some, seconds(60))), [true, true]);
    assert_eq!(on.job(ids[0]).due_in, Some(seconds(60)));
    assert_eq!((on.stats().ready, on.stats().delayed), (2, 2));
    let next = on.next();
    assert_eq!(next.lease.id(), ids[1]);
    on.done(&next);
    on.add(job("4"));
    // By hand, or by time.
    assert!(put_off(&on, ids[0], 0));
    assert_eq!(on.list(JobState::Ready), ["0", "3", "4"]);
    on.pass(seconds(60));
    assert_eq!(on.list(JobState::Ready), ["0", "2", "3", "4"]);
}

pub(crate) fn who_is_put_off_again_and_again_keeps_its_place(lab: &Lab) {
    let on = lab.bench();
    let ids = on.add_all(&jobs(2));
    assert!(put_off(&on, ids[0], 20));
    on.pass(seconds(10));
    assert!(put_off(&on, ids[0], 20));
    on.pass(seconds(10));
    assert_eq!(on.list(JobState::Ready), ["1"]);
    on.pass(seconds(10));
    assert_eq!(on.list(JobState::Ready), ["0", "1"]);
    // But a retry is at the end, as ever.
    let claimed = on.next();
    on.retry(&claimed, seconds(5));
    on.pass(seconds(5));
    assert_eq!(on.list(JobState::Ready), ["1", "0"]);
}

pub(crate) fn one_that_is_parked_is_put_off_too(lab: &Lab) {
    let on = lab.bench();
    on.limit(one_per_key());
    let ids = on.add_all(&[with_key("0"), with_key("1"), with_key("2")]);
    assert_eq!(on.list(JobState::Parked), ["1", "2"]);
    assert!(put_off(&on, ids[1], 60));
    assert_eq!(on.list(JobState::Parked), ["2"]);
    // One that was ready makes room.
    assert!(put_off(&on, ids[0], 60));
    assert_eq!(on.list(JobState::Ready), ["2"]);
    on.pass(seconds(60));
    assert_eq!(on.list(JobState::Ready), ["0"]);
    assert_eq!(on.list(JobState::Parked), ["1", "2"]);
    assert!(put_off(&on, ids[1], 0));
    assert_eq!(on.list(JobState::Parked), ["1", "2"]);
}

pub(crate) fn a_delayed_job_may_be_due_now_or_later_and_is_in_line_as_of_then(lab: &Lab) {
    let on = lab.bench();
    let delayed = |name: &str| NewJob {
        delay: seconds(100),
        ..job(name)
    };
    let ids = on.add_all(&[delayed("0"), delayed("1"), delayed("2")]);
    on.add(job("now"));
    assert!(put_off(&on, ids[1], 0));
    assert_eq!(on.list(JobState::Ready), ["now", "1"]);
    assert!(put_off(&on, ids[0], 200));
    on.pass(seconds(100));
    assert_eq!(on.list(JobState::Ready), ["now", "1", "2"]);
    on.pass(seconds(50));
    on.add(job("between"));
    on.pass(seconds(50));
    let all = ["now", "1", "2", "between", "0"];
    assert_eq!(on.list(JobState::Ready), all);
}

pub(crate) fn what_does_not_wait_is_not_put_off(lab: &Lab) {
    let on = lab.bench();
    let kept = NewJob {
        keep_result: Some(seconds(1_000)),
        ..job("done")
    };
    let ids = on.add_all(&[kept, job("dead"), job("running")]);
    on.done(&on.next());
    on.bury(&on.next());
    on.next();
    for id in ids.into_iter().chain([JobId::new()]) {
        let before = on.state(id);
        assert!(!put_off(&on, id, 60) && !put_off(&on, id, 0));
        assert_eq!(on.state(id), before);
    }
    assert!(ok(on.admin().set_due(&[], seconds(1))).is_empty());
}

pub(crate) fn a_due_time_that_is_set_is_heard(lab: &Lab) {
    let on = lab.bench();
    let delay = seconds(100);
    let id = on.add(NewJob { delay, ..job("a") });
    let heard = Arc::new(AtomicUsize::new(0));
    let ours = Arc::clone(&heard);
    let listener = Listener::new(Duration::MAX, move |_| {
        ours.fetch_add(1, Ordering::SeqCst);
    });
    let subscription = ok(on.broker.subscribe(listener));
    // Who sleeps until it is due must hear that it is sooner.
    for delay in [10, 0] {
        let before = heard.load(Ordering::SeqCst);
        assert!(put_off(&on, id, delay));
        assert!(
            heard.load(Ordering::SeqCst) > before,
            "no call after {delay}"
        );
    }
    drop(subscription);
}

pub(crate) fn what_is_unchanged_is_removed_and_nothing_else(lab: &Lab) {
    let on = lab.bench();
    let kept = NewJob {
        keep_result: Some(seconds(1_000)),
        ..job("done")
    };
    let delayed = NewJob {
        delay: seconds(100),
        ..job("delayed")
    };
    let all = [kept, job("dead"), job("running"), job("ready"), delayed];
    let ids = on.add_all(&all);
    on.done(&on.next());
    on.bury(&on.next());
    on.next();
    let infos: Vec<JobInfo> = ids.iter().map(|&id| on.job(id)).collect();
    for info in &infos {
        let (mut data, mut kind, mut id) = (info.clone(), info.clone(), info.clone());
        data.payload = b"other".to_vec();
        "other".clone_into(&mut kind.kind);
        id.id = JobId::new();
        for other in [data, kind, id] {
            assert!(!remove(&on, &other), "{other:?}");
        }
    }
    let removed = ok(on.admin().remove_unchanged(&infos));
    assert_eq!(removed, [false, true, false, true, true]);
    let stats = on.stats();
    assert_eq!((stats.removed, stats.running, stats.results), (3, 1, 1));
    assert_eq!((stats.ready, stats.delayed, stats.dead), (0, 0, 0));
    assert!(!remove(&on, &infos[3]));
}

pub(crate) fn what_was_debounced_is_not_unchanged(lab: &Lab) {
    let on = lab.bench();
    let debounced = |name: &str| NewJob {
        unique: Some("u".to_owned()),
        debounce: true,
        delay: seconds(10),
        ..job(name)
    };
    let id = on.add(debounced("old"));
    let before = on.job(id);
    assert!(put_off(&on, id, 60));
    assert_eq!(on.add_again(debounced("new")), id);
    assert_eq!(on.job(id).due_in, Some(seconds(10)));
    assert!(!remove(&on, &before));
    on.pass(seconds(10));
    assert_eq!(on.next_names(1), ["new"]);
}

pub(crate) fn a_removal_frees_keys_and_makes_room(lab: &Lab) {
    let on = lab.bench();
    on.limit(one_per_key());
    let unique = || NewJob {
        unique: Some("u".to_owned()),
        ..with_key("0")
    };
    let id = on.add(unique());
    on.add(with_key("1"));
    assert_eq!(on.list(JobState::Parked), ["1"]);
    assert!(remove(&on, &on.job(id)));
    assert_eq!(on.list(JobState::Ready), ["1"]);
    on.add(unique());
}

pub(crate) fn an_identity_is_that_of_the_queue(lab: &Lab) {
    let (on, other) = (lab.bench(), lab.bench());
    assert_eq!(on.broker.identity(), on.another().broker.identity());
    assert_ne!(on.broker.identity(), other.broker.identity());
}
