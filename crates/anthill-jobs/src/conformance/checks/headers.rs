//! Headers: texts by name beside the data.

use super::prelude::*;
use crate::conformance::through::queue_of;
use crate::moves::MoveRequest;
use std::collections::BTreeMap;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn headers() -> BTreeMap<String, String> {
    let all = [
        ("traceparent", TRACE),
        ("content-encoding", "zstd"),
        ("", "no name"),
        ("no value", ""),
        ("Größe", "日本語 🐜, it's \"quoted\"\nand more"),
    ];
    let all = all.iter();
    all.map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn with_headers(name: &str) -> NewJob {
    NewJob {
        headers: headers(),
        ..job(name)
    }
}

pub(crate) fn headers_come_out_as_they_went_in(lab: &Lab) {
    let on = lab.bench();
    let ids = on.add_all(&[with_headers("with"), job("without")]);
    on.shown(ids[0], |job| {
        assert_eq!(job.expect("it is there").headers, headers());
    });
    let mut claimed = on.claim(2);
    claimed.sort_by_key(name);
    assert_eq!(names(&claimed), ["with", "without"]);
    assert_eq!(claimed[0].headers, headers());
    assert!(claimed[1].headers.is_empty());
    on.shown(ids[0], |job| {
        assert_eq!(job.expect("it is there").headers, headers());
    });
    if on.has(Capability::List) {
        let listed = ok(on.admin().list(&ListRequest::new(JobState::Running)));
        let with = listed.into_iter().find(|job| job.id == ids[0]);
        assert_eq!(with.expect("it runs").headers, headers());
    }
}

/// Whatever way it comes again.
pub(crate) fn headers_are_there_in_each_attempt(lab: &Lab) {
    let on = lab.bench();
    on.add(with_headers("a"));
    let claimed = on.next();
    on.retry(&claimed, seconds(0));
    let claimed = on.next();
    assert_eq!(claimed.headers, headers(), "after a retry");
    on.release(&claimed);
    let claimed = on.claims_by(&ClaimRequest::new(1, Duration::ZERO)).jobs;
    assert_eq!(claimed[0].headers, headers(), "after a release");
    on.advance(GRAIN);
    let claimed = on.next();
    assert_eq!(claimed.headers, headers(), "after a lost lease");
    if on.has(Capability::ById) {
        on.bury(&claimed);
        assert_eq!(on.job(claimed.lease.id()).headers, headers());
        assert!(ok(on.admin().retry_dead(claimed.lease.id())));
        let claimed = on.next();
        assert_eq!(claimed.headers, headers(), "after a retry of a dead job");
    }
}

pub(crate) fn headers_are_there_after_a_restart(lab: &Lab) {
    let on = lab.bench();
    on.add(with_headers("a"));
    let on = on.restart();
    assert_eq!(on.next().headers, headers());
}

/// A text with NUL may be refused, as everywhere.
pub(crate) fn odd_headers_are_kept_or_refused(lab: &Lab) {
    let on = lab.bench();
    for text in [
        "with a \0 inside",
        "\u{202e}backwards",
        "long ".repeat(1_000).trim(),
    ] {
        let new = NewJob {
            headers: BTreeMap::from([(text.to_owned(), text.to_owned())]),
            ..job("a")
        };
        if on.may_add(&new, text) {
            let claimed = on.next();
            assert_eq!(claimed.headers, new.headers);
            on.done(&claimed);
        }
        on.finds_nothing();
    }
}

/// To another queue.
pub(crate) fn headers_go_along_with_a_move(lab: &Lab) {
    let (from, to) = (lab.bench(), lab.bench());
    from.add(with_headers("a"));
    let queues = [&from, &to].map(|on| queue_of(&on.broker));
    let moved = queues[0].move_to(&queues[1], &MoveRequest::waiting());
    assert_eq!(moved.expect("it can be moved").moved, 1);
    from.finds_nothing();
    let claimed = to.next();
    assert_eq!(
        (name(&claimed), claimed.headers),
        ("a".to_owned(), headers())
    );
}
