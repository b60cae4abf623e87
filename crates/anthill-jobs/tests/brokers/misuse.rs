//! Zero, enormous and contradicting values: each does what is nearest to what it says, and none
//! breaks the broker.

use std::time::Duration;

use anthill_jobs::{ClaimRequest, JobState, Limits, ListRequest, NewJob, OncePer, Rate};

use crate::bench::{Bench, Fixture, Handle, job, jobs, names, ok, retry, seconds};

/// As far as a user can go.
const EVER: Duration = Duration::MAX;

/// It still does all that it is there for.
#[track_caller]
fn works(on: &Handle) {
    on.add(job("works"));
    let claimed = on.claim(100);
    assert_eq!(names(&claimed).last().map(String::as_str), Some("works"));
    on.all_done(&claimed);
    assert!(on.claim(100).is_empty());
}

pub(crate) fn a_delay_for_ever_is_one<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add(NewJob {
        delay: EVER,
        ..job("never")
    });
    on.add(job("fails"));
    let claimed = on.next();
    on.retry(&claimed, EVER);
    on.pass(seconds(1 << 31));
    assert_eq!(on.stats().delayed, 2);
    works(&on);
}

pub(crate) fn an_expiry_that_never_comes_is_none<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add(NewJob {
        expires: Some(EVER),
        ..job("a")
    });
    on.pass(seconds(1 << 31));
    on.release(&on.next());
    on.retry(&on.next(), seconds(0));
    assert_eq!(on.next_names(100), ["a"]);
    works(&on);
}

pub(crate) fn a_result_may_be_kept_for_ever<F: Fixture>() {
    let Some(on) = Bench::<F>::able(|can| can.by_id) else {
        return;
    };
    let id = on.add(NewJob {
        keep_result: Some(EVER),
        ..job("a")
    });
    on.done(&on.next());
    on.pass(seconds(1 << 31));
    assert_eq!(on.state(id), Some(JobState::Done));
    works(&on);
}

pub(crate) fn a_result_kept_for_no_time_is_not_there<F: Fixture>() {
    let Some(on) = Bench::<F>::able(|can| can.by_id) else {
        return;
    };
    let id = on.add(NewJob {
        keep_result: Some(Duration::ZERO),
        ..job("a")
    });
    on.done(&on.next());
    on.pass(Duration::from_millis(1));
    assert!(on.get(id).is_none());
    works(&on);
}

pub(crate) fn a_period_without_end_and_one_of_no_time<F: Fixture>() {
    let Some(on) = Bench::<F>::able(|can| can.unique) else {
        return;
    };
    let once = |key: &str, period| NewJob {
        once_per: Some(OncePer {
            key: key.to_owned(),
            period,
        }),
        ..job("a")
    };
    let first = on.add(once("ever", EVER));
    on.pass(seconds(1 << 31));
    assert_eq!(on.add_again(once("ever", EVER)), first);
    on.add(once("never", Duration::ZERO));
    on.clock.advance(Duration::from_millis(1));
    on.add(once("never", Duration::ZERO));
    assert_eq!(on.claim(100).len(), 3);
    works(&on);
}

pub(crate) fn a_lease_for_ever_does_not_end<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add_all(&jobs(2));
    let one = ok(on.broker.claim(&ClaimRequest::new(1, EVER))).jobs;
    let two = on.next();
    assert!(on.extend(&two, EVER));
    on.pass(seconds(1 << 31));
    assert!(on.claim(100).is_empty());
    on.done(&one[0]);
    on.done(&two);
    works(&on);
}

/// It is over at once, and the next claim, if not this one, may have it.
pub(crate) fn a_lease_of_no_time_is_over<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add(NewJob {
        attempts: 3,
        ..job("a")
    });
    for attempt in 1..=3 {
        let claimed = ok(on.broker.claim(&ClaimRequest::new(100, Duration::ZERO))).jobs;
        assert_eq!(claimed.len(), 1);
        assert_eq!(claimed[0].attempt, attempt);
        on.clock.advance(Duration::from_millis(1));
    }
    assert!(on.claim(100).is_empty());
    assert_eq!(on.stats().died, 1);
    works(&on);
}

/// It may be claimed no more than once, so that is its last.
pub(crate) fn a_job_with_no_attempts_does_not_come_again<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add(NewJob {
        attempts: 0,
        ..job("a")
    });
    let claimed = on.claim(100);
    assert!(claimed.len() <= 1);
    for job in &claimed {
        assert!(on.settle(job, retry(seconds(0))));
    }
    assert!(on.claim(100).is_empty());
    works(&on);
}

pub(crate) fn a_job_may_have_as_many_attempts_as_there_are_numbers<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add(NewJob {
        attempts: u32::MAX,
        ..job("a")
    });
    let claimed = on.next();
    assert_eq!((claimed.attempt, claimed.attempts), (1, u32::MAX));
    on.retry(&claimed, seconds(0));
    assert_eq!(on.next().attempt, 2);
}

pub(crate) fn no_limit_is_too_high<F: Fixture>() {
    let on = Bench::<F>::new();
    let per_key = on.broker.capabilities().per_key.then_some(u32::MAX);
    for (jobs, per, burst) in [
        (u32::MAX, Duration::from_nanos(1), u32::MAX),
        (u32::MAX, EVER, u32::MAX),
        (1, EVER, u32::MAX),
        (1, seconds(1), u32::MAX),
        (0, EVER, 0),
        (1, EVER, 1),
    ] {
        on.limit(Limits {
            running: Some(u32::MAX),
            per_key,
            rate: Some(Rate { jobs, per, burst }),
            max_ready: Some(u64::MAX),
        });
        for _ in 0..3 {
            on.add(job("a"));
            on.all_done(&on.claim(1));
            on.clock.advance(seconds(1));
        }
        on.limit(Limits::default());
        on.all_done(&on.claim(100));
        works(&on);
    }
}

/// The wall clock may be set to before 1970 counts, and far from now.
pub(crate) fn no_wall_clock_is_too_wrong<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add(job("before"));
    on.add(NewJob {
        delay: seconds(10),
        ..job("delayed")
    });
    for wall in [Duration::ZERO, seconds(1 << 33), seconds(1)] {
        on.clock.set_wall(wall);
        on.claims(0);
        on.stats();
        let shown = ok(on
            .broker
            .list(&ListRequest::new(JobState::Ready).limit(100)));
        assert!(shown.iter().all(|job| job.age <= seconds(1 << 33)));
    }
    // It was due when the clock was ahead.
    let claimed = on.claim(100);
    assert_eq!(names(&claimed), ["before", "delayed"]);
    on.all_done(&claimed);
    works(&on);
}
