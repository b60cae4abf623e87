//! A server whose memory is full: it takes no more jobs, and those that it has are worked off.

mod common;

use anthill_jobs::broker::{Admin, LimitStore};
use anthill_jobs::{Broker, Extended, JobState, Limits, ListRequest, NewJob, QueueError, Settle};
use anthill_test_support::redis::{Options, Persistence};
use anthill_test_support::skip_unless;
use common::{LEASE, claim, contents, ear, enqueue, finish, fresh, job, key, open, stats};
use std::sync::atomic::Ordering;
use std::time::Duration;

fn large() -> NewJob {
    NewJob::new("test", vec![b'x'; 20_000])
}

#[track_caller]
fn is_full<T: std::fmt::Debug>(answer: Result<T, QueueError>) {
    let error = answer.expect_err("it is full");
    assert!(matches!(error, QueueError::Broker(_)), "{error:?}");
    // It may be tried again, when there is room.
    assert!(error.is_transient());
    let said = format!("{error:?}");
    assert!(said.contains("memory of the server is full"), "{said}");
}

#[test]
fn a_full_server_refuses_jobs_and_is_worked_off() {
    let options = Options::new(Persistence::AofEverysec).set("maxmemory-policy", "noeviction");
    let server = skip_unless!(options.start());
    let queue = fresh();
    let broker = open(&server.url(), &queue);
    let mut raw = server.raw();
    let mut stored = Vec::new();
    for number in 0..50 {
        let mut one = large();
        one.unique = Some(format!("unique {number}"));
        one.key = Some("key".to_owned());
        enqueue(&broker, &[one]);
        let batch = [large(), large()];
        enqueue(&broker, &batch);
        stored.extend(batch);
    }
    let held = claim(&broker, 5);
    let used = raw.info("memory")["used_memory"].clone();
    raw.run(&["CONFIG", "SET", "maxmemory", &used]);
    // Whoever counts has said so now, and everything is refused that would take more.
    is_full(broker.enqueue(&[large()]));
    let before = contents(&mut raw, &queue);
    let mut rich = large();
    rich.unique = Some("another one".to_owned());
    rich.headers.insert("a".to_owned(), "b".to_owned());
    let mut later = large();
    later.delay = LEASE;
    for batch in [
        vec![large()],
        vec![large(), job("small")],
        vec![rich],
        vec![later],
    ] {
        is_full(broker.enqueue(&batch));
    }
    // What is stored already is not known as such: it is refused, too, and nothing is half done.
    is_full(broker.enqueue(&stored[..2]));
    is_full(broker.progress(&held[0].lease, b"1"));
    assert_eq!(contents(&mut raw, &queue), before, "nothing is written");
    // All that drains or looks goes on.
    let (heard, _subscription) = ear(&broker, Duration::from_millis(200));
    let leases: Vec<_> = held.iter().map(|job| job.lease.clone()).collect();
    let extended = broker.extend(&leases, LEASE).expect("heartbeats go on");
    assert!(extended.iter().all(|one| matches!(one, Extended::Held(_))));
    assert_eq!(stats(&broker).ready, 145);
    let list = broker.list(&ListRequest::new(JobState::Ready).limit(10));
    assert_eq!(list.expect("it can be looked at").len(), 10);
    let limits = Limits {
        running: Some(20),
        ..Limits::default()
    };
    broker.set_limits(limits).expect("they can be set");
    broker
        .set_paused(true)
        .and_then(|()| broker.set_paused(false))
        .expect("it can be paused");
    let failed = |how: Settle| vec![(held[0].lease.clone(), how)];
    let error = "it failed".to_owned();
    let delay = Duration::ZERO;
    let settled = broker.settle(&failed(Settle::Retry { delay, error }));
    assert!(settled.expect("it is stored")[0].is_stored());
    assert_eq!(finish(&broker, &held[1..]), 4);
    assert!(broker.delete(stored[0].id).is_ok() && broker.cancel(stored[1].id).is_ok());
    // Another one of the backlog after the other, until there is room: then it takes jobs again.
    let mut claimed = 0;
    let mut again = None;
    while again.is_none() {
        let some = claim(&broker, 7);
        assert!(!some.is_empty(), "it is empty, and has no room: {claimed}");
        claimed += some.len();
        assert_eq!(finish(&broker, &some), some.len());
        again = broker.enqueue(&[job("again")]).ok();
    }
    loop {
        let some = claim(&broker, 20);
        if some.is_empty() {
            break;
        }
        assert_eq!(finish(&broker, &some), some.len());
    }
    let now = stats(&broker);
    assert_eq!((now.ready, now.running), (0, 0), "{now:?}");
    assert_eq!(now.enqueued, 151, "{now:?}");
    assert_eq!(now.done + now.removed, 151, "{now:?}");
    assert_eq!(raw.run(&["HLEN", &key(&queue, "data")]).integer(), 0);
    assert!(heard.elsewhere.load(Ordering::SeqCst) > 0, "messages came");
}
