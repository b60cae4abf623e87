//! Limits of how many run at once and of how many start in a time, for all handles together.

use super::prelude::*;

fn running(limit: u32) -> Limits {
    Limits {
        running: Some(limit),
        ..Limits::default()
    }
}

fn rate(jobs: u32, per: Duration, burst: u32) -> Limits {
    Limits {
        rate: Some(Rate { jobs, per, burst }),
        ..Limits::default()
    }
}

pub(crate) fn limits_are_read_back_as_they_were_set(lab: &Lab) {
    let on = lab.bench();
    let per_key = on.has(Capability::PerKey).then_some(3);
    assert_eq!(ok(on.limits().limits()), Limits::default());
    let all = Limits {
        running: Some(u32::MAX),
        per_key,
        rate: Some(Rate {
            jobs: 7,
            per: Duration::from_millis(1_500),
            burst: 2,
        }),
        max_ready: Some(1_000_000),
    };
    for limits in [
        all,
        running(0),
        rate(1, seconds(3600), 1),
        Limits::default(),
    ] {
        on.limit(limits);
        assert_eq!(ok(on.limits().limits()), limits);
        assert_eq!(ok(on.another().limits().limits()), limits);
    }
}

// ---- running at once ----

pub(crate) fn no_more_run_at_once_than_the_limit_allows(lab: &Lab) {
    let on = lab.bench();
    let other = on.another();
    on.limit(running(3));
    on.add_all(&jobs(10));
    let mine = on.claim(2);
    let others = other.claim(100);
    assert_eq!(names(&others), ["2"], "there is room for one");
    assert!(on.claim(100).is_empty() && other.claim(100).is_empty());
    // Each way to end a claim makes room.
    on.done(&mine[0]);
    assert_eq!(other.next_names(100), ["3"]);
    on.retry(&mine[1], seconds(1000));
    assert_eq!(on.next_names(100), ["4"]);
    other.bury(&others[0]);
    let claimed = other.claim(100);
    assert_eq!(names(&claimed), ["5"]);
    other.release(&claimed[0]);
    assert_eq!(on.next_names(100), ["5"]);
    assert_eq!(on.stats().running, 3);
}

pub(crate) fn a_lease_that_is_over_makes_room_for_another_job(lab: &Lab) {
    let on = lab.bench();
    on.limit(running(1));
    on.add(NewJob {
        attempts: 1,
        ..job("lost")
    });
    on.add(job("next"));
    on.next();
    let (jobs, took) = on.follow();
    assert_eq!(names(&jobs), ["next"]);
    assert!(took >= LEASE - GRAIN && took <= LEASE + GRAIN, "{took:?}");
}

pub(crate) fn a_limit_may_change_while_jobs_run(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&jobs(10));
    let claimed = on.claim(4);
    on.limit(running(2));
    assert!(on.claim(100).is_empty(), "more run than may");
    on.all_done(&claimed[..2]);
    assert!(on.claim(100).is_empty());
    on.done(&claimed[2]);
    assert_eq!(on.next_names(100), ["4"]);
    on.limit(running(4));
    assert_eq!(on.next_names(100), ["5", "6"]);
    on.limit(running(0));
    on.done(&claimed[3]);
    assert!(on.claim(100).is_empty());
    on.limit(Limits::default());
    assert_eq!(on.next_names(100), ["7", "8", "9"]);
}

// ---- rate ----

pub(crate) fn a_rate_lets_a_burst_through_and_then_one_at_a_time(lab: &Lab) {
    let on = lab.bench();
    let other = on.another();
    on.limit(rate(10, seconds(1), 3));
    on.add_all(&jobs(20));
    assert_eq!(on.next_names(2), ["0", "1"]);
    let claims = other.claims(100);
    assert_eq!(names(&claims.jobs), ["2"], "the rest of the burst");
    let gap = Duration::from_millis(100);
    let again = claims.again_in.expect("the rate allows more soon");
    assert!(again >= gap - GRAIN && again <= gap + GRAIN, "{again:?}");
    for number in 3..8 {
        let (jobs, took) = on.follow();
        assert_eq!(names(&jobs), [number.to_string()]);
        assert!(took >= gap - GRAIN && took <= gap + GRAIN, "{took:?}");
        assert!(other.claim(100).is_empty());
    }
    // After a pause a burst may start again, and no more than that.
    on.advance(seconds(50));
    assert_eq!(on.next_names(100), ["8", "9", "10"]);
    assert!(on.claim(100).is_empty());
}

pub(crate) fn another_rate_does_not_wait_for_the_debt_of_the_one_before(lab: &Lab) {
    let on = lab.bench();
    on.limit(rate(1, seconds(3600), 1));
    on.add_all(&jobs(3));
    assert_eq!(on.next_names(1), ["0"]);
    on.limit(rate(1_000, seconds(1), 10));
    assert_eq!(on.next_names(10), ["1", "2"]);
}

/// Over any time, however often one looks.
pub(crate) fn no_more_start_in_a_time_than_the_rate_allows(lab: &Lab) {
    const SECOND: u64 = 1_000;
    let on = lab.bench();
    on.limit(rate(20, seconds(1), 5));
    on.add_all(&jobs(1_000));
    let mut starts: Vec<u64> = Vec::new();
    for now in (0..20 * SECOND).step_by(7) {
        let claimed = on.claim(100);
        on.all_done(&claimed);
        starts.extend(claimed.iter().map(|_| now));
        on.advance(Duration::from_millis(7));
    }
    for (number, &from) in starts.iter().enumerate() {
        let within = starts[number..].iter().filter(|&&at| at <= from + SECOND);
        assert!(within.count() <= 5 + 20, "too many from {from} on");
    }
    let (least, most) = (20 * 20, 20 * 20 + 5);
    assert!(
        starts.len() >= least && starts.len() <= most,
        "{}",
        starts.len()
    );
}

pub(crate) fn a_claim_that_finds_nothing_uses_up_no_rate(lab: &Lab) {
    let on = lab.bench();
    on.limit(rate(1, seconds(10), 2));
    for _ in 0..5 {
        on.is_at_rest();
    }
    on.add_all(&jobs(3));
    assert_eq!(on.next_names(1), ["0"]);
    assert_eq!(on.next_names(100), ["1"]);
    assert!(on.claim(100).is_empty());
}

/// Whoever looks whether there is anything to do takes no time from those that the rate lets make up for being late.
pub(crate) fn a_claim_of_no_job_leaves_the_rate_as_it_is(lab: &Lab) {
    let again_in = |looks: bool| {
        let on = lab.bench();
        on.limit(rate(10, seconds(1), 1));
        let jobs = jobs(2);
        on.add_all(&jobs);
        assert_eq!(on.claim(5).len(), 1);
        assert!(ok(on.admin().cancel(jobs[1].id)));
        on.advance(Duration::from_millis(120));
        if looks {
            on.claims(0);
        }
        on.add_all(&self::jobs(2));
        let claims = on.claims(5);
        assert_eq!(claims.jobs.len(), 1);
        claims.again_in
    };
    assert_eq!(again_in(true), again_in(false));
}

/// A rate follows a clock that nobody sets: an hour back is no hour without jobs, nor is an hour
/// ahead a burst.
pub(crate) fn no_rate_follows_the_wall_clock(lab: &Lab) {
    let on = lab.bench();
    on.limit(rate(1, seconds(1), 2));
    on.add_all(&jobs(10));
    assert_eq!(on.next_names(100), ["0", "1"]);
    on.set_wall(on.wall() - seconds(3600));
    assert!(on.claim(100).is_empty());
    on.advance(seconds(1));
    assert_eq!(on.next_names(100), ["2"]);
    on.set_wall(on.wall() + seconds(7200));
    assert!(on.claim(100).is_empty());
    on.advance(seconds(1));
    assert_eq!(on.next_names(100), ["3"]);
}

/// A job that is parked has not started.
pub(crate) fn what_is_parked_uses_up_no_rate(lab: &Lab) {
    let on = lab.bench();
    on.limit(Limits {
        per_key: Some(1),
        ..rate(1, seconds(10), 2)
    });
    for (name, key) in [
        ("a1", "a"),
        ("a2", "a"),
        ("a3", "a"),
        ("b1", "b"),
        ("b2", "b"),
    ] {
        let key = Some(key.to_owned());
        on.add(NewJob { key, ..job(name) });
    }
    assert_eq!(on.next_names(100), ["a1", "b1"]);
}

pub(crate) fn limits_of_all_kinds_hold_together(lab: &Lab) {
    let on = lab.bench();
    let per_key = Some(2);
    on.limit(Limits {
        running: Some(3),
        per_key,
        ..rate(1, seconds(1), 4)
    });
    for number in 0..10 {
        let key = Some(if number < 5 { "a" } else { "b" }.to_owned());
        let job = job(number.to_string());
        on.add(NewJob { key, ..job });
    }
    let end = |claimed: &[Claimed]| on.all_done(claimed);
    let claimed = on.claim(100);
    assert_eq!(
        names(&claimed),
        ["0", "1", "5"],
        "two of a key, three in all"
    );
    end(&claimed);
    let claimed = on.claim(100);
    assert_eq!(names(&claimed), ["2"], "the fourth of the burst");
    on.advance(seconds(4));
    let more = on.claim(100);
    assert_eq!(names(&more), ["3", "6"]);
    end(&claimed);
    assert_eq!(on.next_names(100), ["4"]);
}

/// A limit of nothing lets nothing through, until it is another one.
pub(crate) fn a_limit_of_none_at_all_is_a_stop(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&jobs(3));
    on.limit(running(0));
    assert!(on.claim(100).is_empty());
    on.pass(seconds(3600));
    assert!(on.claim(100).is_empty());
    on.limit(Limits::default());
    assert_eq!(on.next_names(100), ["0", "1", "2"]);
}

/// Rates that are nonsense are taken for the nearest that is none.
pub(crate) fn no_rate_is_too_odd(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&jobs(50));
    on.limit(rate(1, seconds(10), 0));
    assert_eq!(on.next_names(100), ["0"], "a burst of none is one of one");
    on.limit(Limits::default());
    on.limit(rate(u32::MAX, Duration::from_nanos(1), 1));
    assert!(!on.claim(10).is_empty());
    on.limit(rate(1, Duration::ZERO, 1));
    assert!(!on.claim(10).is_empty());
    on.limit(rate(0, seconds(1), 1));
    on.claim(10);
    on.limit(Limits::default());
    on.claim(100);
    assert_eq!(on.stats().ready, 0);
}
