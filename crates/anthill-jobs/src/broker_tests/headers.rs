//! Headers stay with their job wherever it goes.

use super::*;
use crate::{Capability, MoveRequest};
use std::collections::BTreeMap;

on_each_broker! {
    headers_stay_with_the_job
    a_debounced_enqueue_replaces_the_headers
    headers_go_with_a_job_that_is_moved
    any_text_comes_back
}

fn with(headers: &[(&str, &str)]) -> NewJob {
    NewJob {
        headers: texts(headers),
        ..job()
    }
}

fn texts(headers: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    headers.iter().map(owned).collect()
}

fn headers_stay_with_the_job(on: &On) {
    let capabilities = on.broker().capabilities();
    capabilities.require(Capability::Headers).unwrap();
    let headers = [("trace", "00-ab-01"), ("encoding", "json")];
    let traced = NewJob {
        attempts: 4,
        keep_result: Some(MINUTE),
        ..with(&headers)
    };
    on.add(&traced);
    let plain = job();
    on.add(&plain);
    let has_them = |state| {
        let shown = on.get(traced.id).unwrap();
        let listed = on.admin().list(&ListRequest::new(state)).unwrap();
        assert_eq!(
            (shown.state, &shown.headers, &listed[0].headers),
            (state, &traced.headers, &traced.headers)
        );
    };
    has_them(JobState::Ready);
    assert!(on.get(plain.id).unwrap().headers.is_empty());
    let both = on.claim(&ClaimRequest::new(2, MINUTE));
    assert_eq!(both[0].headers, texts(&headers));
    assert!(both[1].headers.is_empty());
    has_them(JobState::Running);
    on.settle(&both[1].lease, done());
    on.settle(&both[0].lease, release());
    on.run(retry("no"));
    has_them(JobState::Ready);
    on.claim_one();
    on.clock.advance(MINUTE);
    has_them(JobState::Ready);
    on.run(dead("no"));
    has_them(JobState::Dead);
    assert!(on.admin().retry_dead(traced.id).unwrap());
    assert_eq!(on.claim_one().headers, traced.headers);
    on.clock.advance(MINUTE);
    on.run(done());
    has_them(JobState::Done);
}

fn a_debounced_enqueue_replaces_the_headers(on: &On) {
    let debounced = |headers| NewJob {
        unique: Some("u".to_owned()),
        debounce: true,
        ..with(headers)
    };
    let first = debounced(&[]);
    assert!(on.add(&first).is_added());
    for headers in [&[("a", "1"), ("b", "2")][..], &[("b", "3")], &[]] {
        assert!(!on.add(&debounced(headers)).is_added());
        assert_eq!(on.get(first.id).unwrap().headers, texts(headers));
    }
    assert!(on.claim_one().headers.is_empty());
}

fn headers_go_with_a_job_that_is_moved(on: &On) {
    let headers = [("trace", "00-ab-01")];
    let job = with(&headers);
    on.add(&job);
    let there = Queue::memory();
    let moved = on.queue.move_to(&there, &MoveRequest::waiting()).unwrap();
    assert_eq!(moved.moved, 1);
    assert_eq!(there.get(job.id).unwrap().unwrap().headers, job.headers);
}

fn any_text_comes_back(on: &On) {
    let odd = [
        ("", ""),
        ("a\0b", "\0"),
        ("\"\\", "'; DROP TABLE anthill_jobs"),
        ("ä🐜", "\u{1}\n"),
    ];
    let long = "x".repeat(100_000);
    let mut job = with(&odd);
    job.headers.insert("long".to_owned(), long);
    on.add(&job);
    assert_eq!(on.get(job.id).unwrap().headers, job.headers);
    assert_eq!(on.claim_one().headers, job.headers);
}
