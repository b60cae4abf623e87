//! Zero, enormous and contradicting values: each does what is nearest to what it says, and none
//! breaks the broker.

use super::prelude::*;

/// As far as a user can go.
const EVER: Duration = Duration::MAX;

/// Longer than anybody waits.
const LONG: Duration = Duration::from_secs(1 << 31);

/// It still does all that it is there for.
#[track_caller]
fn works(on: &Bench) {
    on.add(job("works"));
    let claimed = on.claim(100);
    assert!(names(&claimed).iter().any(|name| name == "works"));
    on.all_done(&claimed);
    assert!(on.claim(100).is_empty());
}

/// As long as the engine takes it, which is for ever with most.
pub(crate) fn a_delay_for_ever_is_one(lab: &Lab) {
    let on = lab.bench();
    let ever = on.broker.capabilities().maxima.delay;
    let [never, fails] = [job("never"), job("fails")];
    let ids = [never.id, fails.id];
    on.add(NewJob {
        delay: ever,
        ..never
    });
    on.add(fails);
    let claimed = on.next();
    on.retry(&claimed, ever);
    on.pass(LONG.min(ever - seconds(1)));
    for id in ids {
        on.is_in(id, JobState::Delayed);
    }
    on.finds_nothing();
    works(&on);
}

pub(crate) fn an_expiry_that_never_comes_is_none(lab: &Lab) {
    let on = lab.bench();
    on.add(NewJob {
        expires: Some(EVER),
        ..job("a")
    });
    on.pass(LONG);
    on.release(&on.next());
    on.retry(&on.next(), seconds(0));
    assert_eq!(on.next_names(100), ["a"]);
    works(&on);
}

pub(crate) fn a_result_may_be_kept_for_ever(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(NewJob {
        keep_result: Some(EVER),
        ..job("a")
    });
    on.done(&on.next());
    on.pass(LONG);
    assert_eq!(on.state(id), Some(JobState::Done));
    works(&on);
}

pub(crate) fn a_result_kept_for_no_time_is_not_there(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(NewJob {
        keep_result: Some(Duration::ZERO),
        ..job("a")
    });
    on.done(&on.next());
    on.pass(Duration::from_millis(1));
    assert!(on.get(id).is_none());
    works(&on);
}

pub(crate) fn a_period_without_end_and_one_of_no_time(lab: &Lab) {
    let on = lab.bench();
    let once = |key: &str, period| NewJob {
        once_per: Some(OncePer {
            key: key.to_owned(),
            period,
        }),
        ..job("a")
    };
    let first = on.add(once("ever", EVER));
    on.pass(LONG);
    assert_eq!(on.add_again(once("ever", EVER)), first);
    on.add(once("never", Duration::ZERO));
    on.advance(Duration::from_millis(1));
    on.add(once("never", Duration::ZERO));
    assert_eq!(on.claim(100).len(), 3);
    works(&on);
}

pub(crate) fn a_lease_for_ever_does_not_end(lab: &Lab) {
    let on = lab.bench();
    let ever = on.broker.capabilities().maxima.lease;
    on.add_all(&jobs(2));
    let one = on.claims_by(&ClaimRequest::new(1, ever)).jobs;
    let mut two = on.next();
    assert!(on.extend(&mut two, ever));
    on.pass(LONG.min(ever - seconds(1)));
    on.finds_nothing();
    on.done(&one[0]);
    on.done(&two);
    works(&on);
}

/// It is over at once, and the next claim, if not this one, may have it.
pub(crate) fn a_lease_of_no_time_is_over(lab: &Lab) {
    let on = lab.bench();
    on.add(NewJob {
        attempts: 3,
        ..job("a")
    });
    for attempt in 1..=3 {
        let claimed = on.claims_by(&ClaimRequest::new(1, Duration::ZERO)).jobs;
        assert_eq!(claimed.len(), 1);
        assert_eq!(claimed[0].attempt, attempt);
        on.advance(Duration::from_millis(1));
    }
    on.finds_nothing();
    on.counted(|stats| assert_eq!(stats.died, 1));
    works(&on);
}

/// It may be claimed no more than once, so that is its last.
pub(crate) fn a_job_with_no_attempts_does_not_come_again(lab: &Lab) {
    let on = lab.bench();
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

pub(crate) fn a_job_may_have_as_many_attempts_as_there_are_numbers(lab: &Lab) {
    let on = lab.bench();
    on.add(NewJob {
        attempts: u32::MAX,
        ..job("a")
    });
    let claimed = on.next();
    assert_eq!((claimed.attempt, claimed.attempts), (1, u32::MAX));
    on.retry(&claimed, seconds(0));
    assert_eq!(on.next().attempt, 2);
}

pub(crate) fn no_limit_is_too_high(lab: &Lab) {
    let on = lab.bench();
    let per_key = on.has(Capability::PerKey).then_some(u32::MAX);
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
            on.advance(seconds(1));
        }
        on.limit(Limits::default());
        on.all_done(&on.claim(100));
        works(&on);
    }
}

/// The wall clock may be set to before 1970 counts, and far from now.
pub(crate) fn no_wall_clock_is_too_wrong(lab: &Lab) {
    let on = lab.bench();
    on.add(job("before"));
    on.add(NewJob {
        delay: seconds(10),
        ..job("delayed")
    });
    for wall in [Duration::ZERO, seconds(1 << 33), seconds(1)] {
        on.set_wall(wall);
        on.claims(0);
        on.counted(drop);
        let shown = ok(on
            .admin()
            .list(&ListRequest::new(JobState::Ready).limit(100)));
        assert!(shown.iter().all(|job| job.age <= seconds(1 << 33)));
    }
    // It was due when the clock was ahead.
    let claimed = on.claim(100);
    assert_eq!(names(&claimed), ["before", "delayed"]);
    on.all_done(&claimed);
    works(&on);
}
