//! The list of live consumers, and who runs which job.

use super::*;
use crate::Capability;
use crate::broker::{ConsumerInfo, ConsumerRegistry, Listener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

on_each_broker! {
    a_consumer_is_live_until_its_time_is_over
    a_consumer_that_is_withdrawn_is_gone
    the_wall_clock_makes_none_come_or_go
    nobody_is_woken
    a_job_shows_who_runs_it
}

fn registry(on: &On) -> &dyn ConsumerRegistry {
    on.broker().consumer_registry().unwrap()
}

fn info(id: &str) -> ConsumerInfo {
    let kinds = vec!["a".to_owned(), "\"b\"@2".to_owned()];
    ConsumerInfo {
        running: 3,
        age: MINUTE,
        ..ConsumerInfo::new(id, kinds, 7)
    }
}

/// Ids, and how many seconds ago each was seen.
fn live(on: &On) -> Vec<(String, u64)> {
    let live = on.queue.consumers().unwrap().into_iter();
    live.map(|one| (one.id, one.seen.as_secs())).collect()
}

fn is(id: &str, seen: u64) -> (String, u64) {
    (id.to_owned(), seen)
}

fn a_consumer_is_live_until_its_time_is_over(on: &On) {
    let capabilities = on.broker().capabilities();
    capabilities.require(Capability::Consumers).unwrap();
    assert_eq!(live(on), []);
    registry(on).announce(&info("one"), MINUTE).unwrap();
    assert_eq!(on.queue.consumers().unwrap(), [info("one")]);
    on.clock.advance(SECOND * 30);
    registry(on).announce(&info("other"), MINUTE).unwrap();
    let aged = ConsumerInfo {
        age: SECOND * 90,
        seen: SECOND * 30,
        ..info("one")
    };
    assert_eq!(on.queue.consumers().unwrap(), [aged, info("other")]);
    let changed = ConsumerInfo {
        kinds: Vec::new(),
        workers: 1,
        running: 0,
        age: SECOND,
        ..info("one")
    };
    registry(on).announce(&changed, SECOND * 10).unwrap();
    assert_eq!(on.queue.consumers().unwrap(), [changed, info("other")]);
    on.clock.advance(SECOND * 10);
    assert_eq!(live(on), [is("other", 10)]);
    on.clock.advance(SECOND * 49);
    assert_eq!(live(on), [is("other", 59)]);
    on.clock.advance(SECOND);
    assert_eq!(live(on), []);
}

fn a_consumer_that_is_withdrawn_is_gone(on: &On) {
    for id in ["b", "a", "", "c"] {
        registry(on).announce(&info(id), MINUTE).unwrap();
    }
    assert_eq!(live(on), [is("", 0), is("a", 0), is("b", 0), is("c", 0)]);
    for id in ["b", "b", "none", ""] {
        registry(on).withdraw(id).unwrap();
    }
    assert_eq!(live(on), [is("a", 0), is("c", 0)]);
}

fn the_wall_clock_makes_none_come_or_go(on: &On) {
    registry(on).announce(&info("one"), MINUTE).unwrap();
    let noon = on.clock.wall();
    for wall in [noon + MINUTE * 99, noon.saturating_sub(MINUTE * 99)] {
        on.clock.set_wall(wall);
        assert_eq!(live(on), [is("one", 0)]);
    }
    on.clock.advance(MINUTE);
    assert_eq!(live(on), []);
}

fn nobody_is_woken(on: &On) {
    let heard = Arc::new(AtomicU32::new(0));
    let ear = Arc::clone(&heard);
    let listener = Listener::new(Duration::MAX, move |_| {
        ear.fetch_add(1, Ordering::Relaxed);
    });
    let _subscription = on.broker().subscribe(listener).unwrap();
    registry(on).announce(&info("one"), MINUTE).unwrap();
    registry(on).withdraw("one").unwrap();
    assert_eq!(heard.load(Ordering::Relaxed), 0);
    on.add(&job());
    assert_eq!(heard.load(Ordering::Relaxed), 1);
}

fn a_job_shows_who_runs_it(on: &On) {
    let jobs = [job(), job(), job(), job()];
    on.broker().enqueue(&jobs).unwrap();
    let by = |id: &str, limit| on.claim(&ClaimRequest::new(limit, MINUTE).by(id.into()));
    let shown = || {
        jobs.each_ref()
            .map(|job| on.get(job.id).and_then(|job| job.consumer))
    };
    let [one, other] = ["one", "other"].map(|id| Some(id.to_owned()));
    assert_eq!(shown(), [None, None, None, None]);
    let first = by("one", 2);
    let second = by("other", 1);
    let third = on.claim_one();
    assert_eq!(shown(), [one.clone(), one.clone(), other.clone(), None]);
    let listed = on
        .admin()
        .list(&ListRequest::new(JobState::Running))
        .unwrap();
    let listed: Vec<_> = listed.into_iter().map(|job| job.consumer).collect();
    assert_eq!(listed, shown());
    on.settle(&first[0].lease, retry("no"));
    on.settle(&first[1].lease, dead("no"));
    on.settle(&second[0].lease, release());
    on.settle(&third.lease, retry("no"));
    assert_eq!(shown(), [None, None, None, None]);
    let again = by("other", 9);
    assert_eq!(again.len(), 3);
    assert_eq!(shown(), [other.clone(), None, other.clone(), other]);
    on.clock.advance(MINUTE);
    assert_eq!(shown(), [None, None, None, None], "its leases are over");
    // Alone, for they are suspect.
    for _ in 0..3 {
        let job = on.claim_one();
        let shown = on.get(job.lease.id()).unwrap();
        assert_eq!((shown.state, shown.consumer), (JobState::Running, None));
        on.settle(&job.lease, done());
    }
    assert_eq!(by("one", 1).len(), 0);
}
