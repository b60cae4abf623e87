//! B3: only kinds that are asked for are claimed, in their order, whatever else waits before them.

use super::prelude::*;

fn of(kind: &'static str, name: &str) -> NewJob {
    NewJob::new(kind, name.as_bytes().to_vec())
}

/// A claim of jobs of these kinds.
#[track_caller]
fn claims(on: &Bench, limit: usize, kinds: &[&str]) -> Claims {
    let kinds: Vec<String> = kinds.iter().map(|&kind| kind.to_owned()).collect();
    let request = ClaimRequest::new(limit, LEASE).of_kinds(kinds.into());
    on.claims_by(&request)
}

#[track_caller]
fn claim(on: &Bench, limit: usize, kinds: &[&str]) -> Vec<Claimed> {
    claims(on, limit, kinds).jobs
}

#[track_caller]
fn kinds(on: &Bench) -> Vec<String> {
    let mut kinds = ok(on.admin().ready_kinds());
    kinds.sort();
    kinds
}

pub(crate) fn only_kinds_that_are_asked_for_are_claimed(lab: &Lab) {
    let on = lab.bench();
    let all = [
        of("a", "a1"),
        of("b", "b1"),
        of("c", "c1"),
        of("b", "b2"),
        of("a", "a2"),
        of("aa", "aa1"),
        of("a", "a3"),
        of("c", "c2"),
    ];
    on.add_all(&all);
    assert!(claim(&on, 10, &[]).is_empty(), "of no kind");
    assert!(claim(&on, 10, &["A", "d", ""]).is_empty(), "of others");
    let some = claim(&on, 10, &["b"]);
    on.are(&some, &["b1", "b2"]);
    assert!(some.iter().all(|job| job.kind == "b"));
    on.are(&claim(&on, 10, &["c", "d"]), &["c1", "c2"]);
    on.are(&claim(&on, 10, &["c", "aa", "d"]), &["aa1"]);
    on.comes(10, &["a1", "a2", "a3"]);
}

pub(crate) fn kinds_are_claimed_in_the_order_of_their_jobs(lab: &Lab) {
    let on = lab.bench();
    let all = [
        of("a", "a1"),
        of("b", "b1"),
        of("c", "c1"),
        of("b", "b2"),
        of("a", "a2"),
        of("a", "a3"),
        of("c", "c2"),
    ];
    on.add_all(&all);
    assert_eq!(names(&claim(&on, 1, &["b"])), ["b1"]);
    assert_eq!(names(&claim(&on, 2, &["c", "a"])), ["a1", "c1"]);
    assert_eq!(
        names(&claim(&on, 100, &["c", "a", "d"])),
        ["a2", "a3", "c2"]
    );
    assert_eq!(on.next_names(100), ["b2"]);
}

pub(crate) fn several_kinds_are_merged_by_priority_and_order(lab: &Lab) {
    let on = lab.bench();
    let kinds = ["a", "b", "c"];
    let mut expected = Vec::new();
    for n in 0..60_i16 {
        let kind = kinds[usize::from(n.unsigned_abs()) * 7 % 3];
        let priority = n * 11 % 5 - 2;
        let name = format!("{kind}{n}");
        let job = of(kind, &name);
        on.add(NewJob { priority, ..job });
        expected.push((-priority, n, name));
    }
    expected.sort();
    expected.retain(|(.., name)| !name.starts_with('b'));
    let expected: Vec<String> = expected.into_iter().map(|(.., name)| name).collect();
    let mut came = Vec::new();
    for limit in [1, 2, 7, 100] {
        came.extend(names(&claim(&on, limit, &["c", "a"])));
    }
    assert_eq!(came, expected);
    on.counted(|stats| assert_eq!(stats.ready, 20));
}

pub(crate) fn however_many_others_wait_before_them(lab: &Lab) {
    let on = lab.bench();
    for _ in 0..3 {
        on.add_all(&jobs(1_000));
        on.add(of("wanted", "first"));
    }
    on.add_all(&jobs(1_000));
    on.add(of("other", "other"));
    on.are(&claim(&on, 2, &["wanted"]), &["first"; 2]);
    let both = claim(&on, 10, &["wanted", "other"]);
    on.are(&both, &["first", "other"]);
    assert!(claim(&on, 10, &["wanted", "other"]).is_empty());
    on.counted(|stats| assert_eq!(stats.ready, 4_000));
}

pub(crate) fn a_kind_that_is_named_twice_is_one(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&[of("a", "a1"), of("b", "b1"), of("a", "a2")]);
    let some = claim(&on, 10, &["a", "b", "a", "a"]);
    on.are(&some, &["a1", "b1", "a2"]);
    assert!(some.iter().all(|job| job.attempt == 1));
    on.all_done(&some);
    on.finds_nothing();
    on.counted(|stats| assert_eq!((stats.ready, stats.running, stats.done), (0, 0, 3)));
}

/// Whatever way it became so again.
pub(crate) fn what_is_ready_again_is_of_its_kind(lab: &Lab) {
    let on = lab.bench();
    let delayed = NewJob {
        delay: seconds(10),
        ..of("a", "delayed")
    };
    on.add_all(&[
        of("a", "lost"),
        of("a", "released"),
        of("a", "retried"),
        delayed,
        of("b", "other"),
    ]);
    let three = claim(&on, 3, &["a"]);
    on.release(&three[1]);
    on.retry(&three[2], seconds(5));
    assert!(claim(&on, 1, &["b"]).len() == 1);
    on.pass(LEASE);
    assert!(claim(&on, 100, &["c"]).is_empty());
    let mut came = Vec::new();
    for _ in 0..4 {
        came.extend(names(&claim(&on, 100, &["a"])));
    }
    assert_eq!(came, ["lost", "released", "retried", "delayed"]);
    assert_eq!(names(&claim(&on, 100, &["a", "b"])), ["other"]);
}

/// A claim of other kinds sees to what is due, and tells when to look again.
pub(crate) fn time_goes_on_for_all_kinds(lab: &Lab) {
    let on = lab.bench();
    on.add(NewJob {
        delay: seconds(10),
        ..of("a", "a")
    });
    let again = claims(&on, 1, &["b"]).again_in;
    assert!(again.is_some_and(|again| again <= seconds(10)), "{again:?}");
    on.advance(seconds(10));
    assert!(claim(&on, 1, &["b"]).is_empty());
    on.counted(|stats| assert_eq!(stats.ready, 1));
    assert_eq!(names(&claim(&on, 1, &["a"])), ["a"]);
}

/// A key is that of all kinds together.
pub(crate) fn a_key_bounds_all_kinds_together(lab: &Lab) {
    let on = lab.bench();
    on.limit(Limits {
        per_key: Some(1),
        ..Limits::default()
    });
    let key = Some("k".to_owned());
    let keyed = |kind, name| NewJob {
        key: key.clone(),
        ..of(kind, name)
    };
    on.add_all(&[keyed("a", "a1"), keyed("b", "b1"), keyed("a", "a2")]);
    // It is behind one that nobody has asked for.
    assert!(claim(&on, 100, &["b"]).is_empty());
    let first = claim(&on, 100, &["a", "b"]);
    assert_eq!(names(&first), ["a1"]);
    on.done(&first[0]);
    assert!(claim(&on, 100, &["a"]).is_empty());
    let second = claim(&on, 100, &["b"]);
    assert_eq!(names(&second), ["b1"]);
    on.done(&second[0]);
    assert_eq!(names(&claim(&on, 100, &["a"])), ["a2"]);
}

/// What runs counts, of whichever kind; a claim that finds nothing of its kinds uses up no rate.
pub(crate) fn limits_hold_for_all_kinds_together(lab: &Lab) {
    let on = lab.bench();
    on.limit(Limits {
        running: Some(2),
        ..Limits::default()
    });
    on.add_all(&[of("a", "a1"), of("a", "a2"), of("b", "b1"), of("b", "b2")]);
    let first = claim(&on, 1, &["a"]);
    assert_eq!(names(&claim(&on, 100, &["b"])), ["b1"]);
    assert!(claim(&on, 100, &["a"]).is_empty());
    on.done(&first[0]);
    assert_eq!(names(&claim(&on, 100, &["b", "a"])), ["a2"]);
    on.limit(Limits {
        rate: Some(Rate {
            jobs: 1,
            per: seconds(10),
            burst: 1,
        }),
        ..Limits::default()
    });
    assert!(claim(&on, 100, &["c"]).is_empty());
    assert!(claim(&on, 100, &["a"]).is_empty());
    assert_eq!(names(&claim(&on, 100, &["b"])), ["b2"]);
}

pub(crate) fn the_kinds_of_what_is_ready_are_told(lab: &Lab) {
    let on = lab.bench();
    assert!(kinds(&on).is_empty());
    on.add_all(&[of("b", "1"), of("a", "2"), of("b", "3"), of("", "4")]);
    on.add(NewJob {
        delay: seconds(10),
        ..of("later", "5")
    });
    assert_eq!(kinds(&on), ["", "a", "b"]);
    let first = claim(&on, 1, &["a"]);
    assert_eq!(names(&claim(&on, 1, &["b"])), ["1"]);
    assert_eq!(kinds(&on), ["", "b"], "one of two that run is still ready");
    on.pass(seconds(10));
    assert_eq!(kinds(&on), ["", "b", "later"]);
    on.bury(&first[0]);
    assert_eq!(ok(on.admin().purge(&[JobState::Ready])), 3);
    assert!(kinds(&on).is_empty());
}
