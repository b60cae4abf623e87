//! B7: as many jobs with a key run as may; the others with it are parked, and the next go first.

use super::prelude::*;

fn per_key(limit: u32) -> Limits {
    Limits {
        per_key: Some(limit),
        ..Limits::default()
    }
}

/// A job with a key: the first letter of its name.
fn keyed(name: &str) -> NewJob {
    let key = name.chars().next().map(String::from);
    NewJob { key, ..job(name) }
}

/// A broker with jobs of those names, of which `limit` with the same first letter run at once.
fn with(lab: &Lab, limit: u32, jobs: &[&str]) -> Bench {
    let on = lab.bench();
    on.limit(per_key(limit));
    let jobs: Vec<NewJob> = jobs.iter().map(|name| keyed(name)).collect();
    on.add_all(&jobs);
    on
}

/// Nothing is left over: what waits comes when what runs is done.
#[track_caller]
fn all_come(on: &Bench, order: &[&str]) {
    let mut came = Vec::new();
    for _ in 0..=order.len() {
        let claimed = on.claim(100);
        on.all_done(&claimed);
        came.extend(names(&claimed));
    }
    assert_eq!(came, order);
    let stats = on.stats();
    assert_eq!((stats.ready, stats.parked, stats.running), (0, 0, 0));
}

pub(crate) fn jobs_whose_key_is_in_use_are_parked_and_the_next_go_first(lab: &Lab) {
    let all = ["a1", "a2", "a3", "b1", "a4", "b2"];
    let on = with(lab, 1, &all);
    on.add(job("no key"));
    on.add(job("none either"));
    let claimed = on.claim(100);
    assert_eq!(names(&claimed), ["a1", "b1", "no key", "none either"]);
    let stats = on.stats();
    assert_eq!((stats.parked, stats.ready, stats.running), (4, 0, 4));
    if on.has(Capability::List) {
        assert_eq!(on.list(JobState::Parked), ["a2", "a3", "a4", "b2"]);
    }
    on.done(&claimed[0]);
    assert_eq!(on.next_names(100), ["a2"], "in order, and one for one");
    on.done(&claimed[1]);
    assert_eq!(on.next_names(100), ["b2"]);
    assert_eq!(on.stats().parked, 2);
}

pub(crate) fn as_many_with_a_key_run_as_may(lab: &Lab) {
    let on = with(lab, 3, &["a1", "a2", "a3", "a4", "a5"]);
    let other = on.another();
    let mine = on.claim(2);
    let others = other.claim(100);
    assert_eq!(names(&others), ["a3"]);
    assert!(on.claim(100).is_empty());
    other.done(&others[0]);
    on.done(&mine[1]);
    assert_eq!(other.next_names(100), ["a4", "a5"]);
}

pub(crate) fn without_a_limit_a_key_is_no_matter(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&[keyed("a1"), keyed("a2"), keyed("a3")]);
    on.comes(100, &["a1", "a2", "a3"]);
}

/// They are where they would be had they not been parked.
pub(crate) fn a_job_that_was_parked_is_in_its_old_place(lab: &Lab) {
    let on = with(lab, 1, &["a1", "a2", "b1"]);
    let claimed = on.claim(100);
    on.add_all(&[keyed("b2"), job("c")]);
    on.done(&claimed[0]);
    on.done(&claimed[1]);
    assert_eq!(on.next_names(100), ["a2", "b2", "c"]);
}

pub(crate) fn the_parked_come_by_priority_too(lab: &Lab) {
    let on = lab.bench();
    on.limit(per_key(1));
    on.add(keyed("a1"));
    let first = on.next();
    on.add_all(&[keyed("a low"), keyed("b")]);
    on.add(NewJob {
        priority: 5,
        ..keyed("a high")
    });
    let claimed = on.claim(100);
    assert_eq!(names(&claimed), ["b"]);
    on.done(&first);
    on.done(&claimed[0]);
    all_come(&on, &["a high", "a low"]);
}

/// One of higher priority that comes when there is room goes before those that waited.
pub(crate) fn who_comes_with_a_higher_priority_goes_before_the_parked(lab: &Lab) {
    let on = lab.bench();
    on.limit(per_key(1));
    on.add_all(&[keyed("a1"), keyed("a2"), keyed("a3")]);
    let claimed = on.claim(100);
    on.done(&claimed[0]);
    on.add(NewJob {
        priority: 5,
        ..keyed("a high")
    });
    all_come(&on, &["a high", "a2", "a3"]);
}

// ---- each way in which a job stops running makes room ----

pub(crate) fn a_job_that_is_dead_makes_room(lab: &Lab) {
    let on = with(lab, 1, &["a1", "a2"]);
    let claimed = on.claim(100);
    on.bury(&claimed[0]);
    all_come(&on, &["a2"]);
}

pub(crate) fn a_job_that_is_retried_makes_room(lab: &Lab) {
    let on = with(lab, 1, &["a1", "a2", "a3"]);
    let claimed = on.claim(100);
    on.retry(&claimed[0], seconds(10));
    let claimed = on.claim(100);
    assert_eq!(names(&claimed), ["a2"]);
    on.advance(seconds(10));
    assert!(on.claim(100).is_empty(), "it is due, and its key in use");
    on.done(&claimed[0]);
    all_come(&on, &["a3", "a1"]);
}

pub(crate) fn a_job_that_is_released_goes_before_the_parked(lab: &Lab) {
    let on = with(lab, 1, &["a1", "a2", "a3"]);
    let claimed = on.claim(100);
    on.release(&claimed[0]);
    let claimed = on.claim(100);
    assert_eq!(names(&claimed), ["a1"]);
    on.done(&claimed[0]);
    all_come(&on, &["a2", "a3"]);
}

pub(crate) fn a_job_whose_lease_is_over_goes_before_the_parked(lab: &Lab) {
    let on = with(lab, 1, &["a1", "a2", "a3"]);
    on.claim(100);
    on.advance(LEASE);
    let claimed = on.claim(100);
    assert_eq!(names(&claimed), ["a1"]);
    assert_eq!(claimed[0].attempt, 2);
    on.done(&claimed[0]);
    all_come(&on, &["a2", "a3"]);
}

pub(crate) fn a_job_whose_last_lease_is_over_makes_room(lab: &Lab) {
    let on = lab.bench();
    on.limit(per_key(1));
    on.add(NewJob {
        attempts: 1,
        ..keyed("a1")
    });
    on.add_all(&[keyed("a2"), keyed("a3")]);
    assert_eq!(on.next_names(100), ["a1"]);
    on.advance(LEASE);
    all_come(&on, &["a2", "a3"]);
}

pub(crate) fn a_zombie_makes_no_room(lab: &Lab) {
    let on = with(lab, 1, &["a1", "a2"]);
    let zombie = on.next();
    on.advance(LEASE);
    let owner = on.claim(100);
    assert_eq!(names(&owner), ["a1"]);
    assert!(!on.settle(&zombie, done()));
    assert!(on.claim(100).is_empty(), "a1 runs still");
    on.done(&owner[0]);
    all_come(&on, &["a2"]);
}

// ---- nobody is left parked where nothing with the key runs ----

/// `next_is_taken` takes the second job away when it was called back and before it is claimed.
fn the_third_comes(lab: &Lab, next_is_taken: impl FnOnce(&Bench, NewJob)) {
    let on = lab.bench();
    on.limit(per_key(1));
    let second = NewJob {
        expires: Some(seconds(10)),
        ..keyed("a2")
    };
    on.add_all(&[keyed("a1"), second.clone(), keyed("a3")]);
    let claimed = on.claim(100);
    on.done(&claimed[0]);
    next_is_taken(&on, second);
    all_come(&on, &["a3"]);
}

pub(crate) fn a_cancel_of_the_next_in_line_lets_the_one_after_it_come(lab: &Lab) {
    the_third_comes(lab, |on, second| assert!(ok(on.admin().cancel(second.id))));
}

pub(crate) fn an_expiry_of_the_next_in_line_lets_the_one_after_it_come(lab: &Lab) {
    the_third_comes(lab, |on, _| on.advance(seconds(20)));
}

/// The first of them makes room for the second, whose time is over, too.
pub(crate) fn an_expiry_of_two_in_line_lets_the_one_after_them_come(lab: &Lab) {
    let on = with(lab, 1, &["a1"]);
    let expires = Some(seconds(10));
    let expiring = |name| NewJob {
        expires,
        ..keyed(name)
    };
    on.add_all(&[expiring("a2"), expiring("a3"), keyed("a4")]);
    let claimed = on.claim(100);
    on.done(&claimed[0]);
    on.pass(seconds(20));
    let stats = on.stats();
    assert_eq!((stats.ready, stats.parked, stats.expired), (1, 0, 2));
    all_come(&on, &["a4"]);
}

/// Whatever a purge of those that are ready leaves.
pub(crate) fn a_purge_of_the_ready_leaves_nobody_parked_for_ever(lab: &Lab) {
    let on = with(lab, 1, &["a1", "a2", "a3"]);
    let claimed = on.claim(100);
    on.done(&claimed[0]);
    let purged = ok(on.admin().purge(&[JobState::Ready]));
    assert!(purged > 0);
    let left = [&["a2", "a3"][..], &["a3"], &[]][usize::try_from(purged).unwrap()];
    all_come(&on, left);
}

pub(crate) fn the_parked_may_be_cancelled_and_purged_and_expire(lab: &Lab) {
    let on = lab.bench();
    on.limit(per_key(1));
    let ids = on.add_all(&[
        keyed("a1"),
        keyed("a2"),
        NewJob {
            expires: Some(seconds(10)),
            ..keyed("a3")
        },
        keyed("a4"),
        keyed("b1"),
    ]);
    let claimed = on.claim(100);
    assert_eq!(names(&claimed), ["a1", "b1"]);
    on.add(keyed("b2"));
    on.claim(100);
    assert!(ok(on.admin().cancel(ids[1])));
    on.pass(seconds(20));
    assert_eq!(on.list(JobState::Parked), ["a4", "b2"]);
    assert_eq!(ok(on.admin().purge(&[JobState::Parked])), 2);
    on.all_done(&claimed);
    on.add(keyed("a5"));
    all_come(&on, &["a5"]);
    let stats = on.stats();
    assert_eq!((stats.removed, stats.expired), (3, 1));
}

pub(crate) fn a_limit_that_is_raised_or_taken_off_lets_the_parked_come(lab: &Lab) {
    let on = with(lab, 1, &["a1", "a2", "a3", "a4", "a5", "b1", "b2"]);
    assert_eq!(on.next_names(100), ["a1", "b1"]);
    on.limit(per_key(2));
    assert_eq!(on.next_names(100), ["a2", "b2"]);
    assert!(on.claim(100).is_empty());
    on.limit(Limits::default());
    assert_eq!(on.next_names(100), ["a3", "a4", "a5"]);
}

pub(crate) fn a_limit_that_is_lowered_holds_for_those_that_come(lab: &Lab) {
    let on = with(lab, 3, &["a1", "a2", "a3", "a4", "a5"]);
    let claimed = on.claim(100);
    on.limit(per_key(1));
    on.done(&claimed[0]);
    assert!(on.claim(100).is_empty());
    on.done(&claimed[1]);
    assert!(on.claim(100).is_empty());
    on.done(&claimed[2]);
    assert_eq!(on.next_names(100), ["a4"]);
}

/// Those that run when the limit is set are counted.
pub(crate) fn a_limit_counts_those_that_run_already(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&[keyed("a1"), keyed("a2"), keyed("a3"), keyed("b1")]);
    let claimed = on.claim(2);
    on.limit(per_key(1));
    assert_eq!(on.next_names(100), ["b1"]);
    on.done(&claimed[0]);
    assert!(on.claim(100).is_empty());
    on.done(&claimed[1]);
    assert_eq!(on.next_names(100), ["a3"]);
}

pub(crate) fn a_limit_of_none_parks_all_with_a_key(lab: &Lab) {
    let on = with(lab, 0, &["a1", "a2", "b1"]);
    on.add(job("no key"));
    assert_eq!(on.next_names(100), ["no key"]);
    on.pass(seconds(3600));
    assert!(on.next_names(100).iter().all(|name| name == "no key"));
    on.limit(per_key(1));
    assert_eq!(on.next_names(100), ["a1", "b1"]);
}

/// Many keys, each with a line of its own; looking past them all costs no order.
pub(crate) fn many_keys_with_long_lines_all_come_in_order(lab: &Lab) {
    const KEYS: usize = 100;
    const EACH: usize = 20;
    let on = lab.bench();
    on.limit(per_key(1));
    let batch: Vec<NewJob> = (0..KEYS * EACH)
        .map(|number| NewJob {
            key: Some(format!("key {}", number / EACH)),
            ..job(format!("{}", number % EACH))
        })
        .collect();
    on.add_all(&batch);
    for round in 0..EACH {
        let claimed = on.claim(KEYS * EACH);
        assert_eq!(claimed.len(), KEYS, "one of each key");
        assert!(
            names(&claimed)
                .iter()
                .all(|name| *name == round.to_string())
        );
        on.all_done(&claimed);
    }
    assert!(on.claim(1).is_empty());
}

// ---- ready and running together ----

/// Of each key no more are ready or run than may.
#[track_caller]
fn is_bounded(on: &Bench, limit: usize) {
    let mut keys: Vec<String> = Vec::new();
    for state in [JobState::Ready, JobState::Running] {
        let jobs = ok(on.admin().list(&ListRequest::new(state)));
        keys.extend(jobs.into_iter().filter_map(|job| job.key));
    }
    keys.sort();
    let of = |key: &String| keys.iter().filter(|other| *other == key).count();
    assert!(keys.iter().all(|key| of(key) <= limit), "{keys:?}");
}

/// Whatever makes them ready.
pub(crate) fn no_more_are_ready_or_run_than_may(lab: &Lab) {
    let on = lab.bench();
    on.limit(per_key(2));
    let later = NewJob {
        delay: seconds(5),
        ..keyed("a-due")
    };
    on.add_all(&[
        keyed("a1"),
        keyed("b1"),
        keyed("a2"),
        later.clone(),
        NewJob {
            id: crate::JobId::new(),
            ..later
        },
        keyed("a3"),
        keyed("a4"),
    ]);
    is_bounded(&on, 2);
    assert_eq!((on.stats().ready, on.stats().parked), (3, 2));
    let first = on.claim(100);
    assert_eq!(names(&first), ["a1", "b1", "a2"]);
    is_bounded(&on, 2);
    on.pass(seconds(6));
    is_bounded(&on, 2);
    assert_eq!(on.stats().parked, 4, "those that are due wait aside");
    on.retry(&first[0], seconds(0));
    is_bounded(&on, 2);
    on.release(&first[2]);
    is_bounded(&on, 2);
    let next = on.claim(1);
    assert_eq!(names(&next), ["a2"], "in its old place");
    on.bury(&next[0]);
    is_bounded(&on, 2);
    assert!(ok(on.admin().retry_dead(next[0].lease.id())));
    is_bounded(&on, 2);
    on.pass(LEASE);
    is_bounded(&on, 2);
    all_come(&on, &["b1", "a3", "a4", "a-due", "a-due", "a1", "a2"]);
}

/// JK2: as if none had been parked.
pub(crate) fn the_order_is_kept_while_limits_go_up_and_down(lab: &Lab) {
    let on = lab.bench();
    let all: Vec<String> = (0..40)
        .map(|n| format!("{}{n:02}", ["a", "b", "c"][n % 3]))
        .collect();
    let jobs: Vec<NewJob> = all.iter().map(|name| keyed(name)).collect();
    on.limit(per_key(3));
    on.add_all(&jobs);
    let mut came = Vec::new();
    for limit in [3, 1, 2, 0, 5, 1, 4, 1, 1] {
        on.limit(per_key(limit));
        let claimed = on.claim(100);
        is_bounded(&on, limit as usize);
        assert!(claimed.len() <= 3 * limit as usize);
        on.all_done(&claimed);
        is_bounded(&on, limit as usize);
        came.extend(names(&claimed));
    }
    on.limit(Limits::default());
    let rest = on.claim(100);
    on.all_done(&rest);
    came.extend(names(&rest));
    for key in ["a", "b", "c"] {
        let of = |names: &[String]| -> Vec<String> {
            let names = names.iter().filter(|name| name.starts_with(key));
            names.cloned().collect()
        };
        assert_eq!(of(&came), of(&all));
    }
    assert_eq!(came.len(), 40);
}

/// Those with a higher priority go before, and park the last of those that were ready.
pub(crate) fn who_comes_first_is_ready_in_place_of_who_does_not(lab: &Lab) {
    let on = lab.bench();
    on.limit(per_key(2));
    for (name, priority) in [("a1", 0), ("a2", 0), ("a3", 5), ("a4", 9), ("a5", 1)] {
        on.add(NewJob {
            priority,
            ..keyed(name)
        });
        is_bounded(&on, 2);
    }
    assert_eq!(on.list(JobState::Ready), ["a4", "a3"]);
    assert_eq!(on.list(JobState::Parked), ["a5", "a1", "a2"]);
    all_come(&on, &["a4", "a3", "a5", "a1", "a2"]);
}
