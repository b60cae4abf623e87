//! B4, B5: leases, and what becomes of a job, and of who had it, when one is over.

use std::time::Duration;

use anthill_jobs::{Claimed, JobState, NewJob, Settle};

use crate::bench::{
    Bench, Fixture, GRAIN, Handle, LEASE, dead, done, job, jobs, names, ok, retry, seconds,
};

pub(crate) fn a_job_whose_lease_is_over_is_ready_again_in_its_old_place<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add_all(&[job("a"), job("b")]);
    let first = on.next();
    on.add(job("c"));
    let (again, took) = on.follow();
    assert_eq!(names(&again), ["b", "c"], "not before the lease is over");
    assert!(took.is_zero());
    for job in &again {
        on.release(job);
    }
    on.clock.advance(LEASE - GRAIN);
    assert_eq!(on.next_names(1), ["b"]);
    on.clock.advance(GRAIN);
    let again = on.claim_all(2);
    assert_eq!(names(&again), ["a", "c"]);
    assert_eq!(again[0].attempt, 2, "it counts as an attempt");
    assert_ne!(again[0].lease, first.lease);
    assert_eq!(on.stats().lost_leases, 1);
    assert_eq!(on.stats().retried, 0);
}

pub(crate) fn a_claim_tells_when_the_next_lease_is_over<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add_all(&[job("a"), job("b")]);
    on.next();
    on.clock.advance(seconds(5));
    on.next();
    for (name, after) in [("a", LEASE - seconds(5)), ("b", seconds(5))] {
        let (jobs, took) = on.follow();
        assert_eq!(names(&jobs), [name]);
        assert!(took >= after - GRAIN && took <= after + GRAIN, "{took:?}");
        on.done(&jobs[0]);
    }
    assert_eq!(on.claims(1).again_in, None);
}

pub(crate) fn several_lost_jobs_come_back_in_their_old_order<F: Fixture>() {
    let Some(on) = Bench::<F>::able(|can| can.priority) else {
        return;
    };
    on.add_all(&jobs(4));
    on.add(NewJob {
        priority: 1,
        ..job("urgent")
    });
    // Claimed at different times, so their leases are over in another order than they are in.
    let claimed = on.claim(3);
    assert_eq!(names(&claimed), ["urgent", "0", "1"]);
    on.clock.advance(seconds(1));
    assert!(on.extend(&claimed[1], LEASE));
    on.clock.advance(seconds(1));
    assert!(on.extend(&claimed[0], LEASE));
    on.clock.advance(LEASE);
    let all = on.claim_all(100);
    assert_eq!(names(&all), ["urgent", "0", "1", "2", "3"]);
    assert_eq!(on.stats().lost_leases, 3);
}

/// What `zombie` tells of a job that is not his any more is refused, and changes nothing.
#[track_caller]
fn is_refused(on: &Handle, zombie: &Claimed) {
    let id = zombie.lease.id;
    let before = format!("{:?} {:?}", on.get(id), on.stats());
    for end in [
        done(),
        retry(seconds(5)),
        dead("no"),
        Settle::Release {
            delay: Duration::ZERO,
        },
    ] {
        assert!(!on.settle(zombie, end.clone()), "{end:?} of a zombie");
    }
    assert!(!on.extend(zombie, LEASE * 100));
    assert!(!ok(on.broker.progress(zombie.lease, b"\"zombie\"")));
    assert_eq!(format!("{:?} {:?}", on.get(id), on.stats()), before);
}

pub(crate) fn a_zombie_is_refused_while_the_job_waits<F: Fixture>() {
    let Some(on) = Bench::<F>::able(|can| can.fenced && can.by_id) else {
        return;
    };
    on.add(job("a"));
    let zombie = on.next();
    on.pass(LEASE);
    assert_eq!(on.state(zombie.lease.id), Some(JobState::Ready));
    is_refused(&on, &zombie);
    assert_eq!(on.next_names(100), ["a"]);
}

pub(crate) fn a_zombie_is_refused_while_another_one_runs_the_job<F: Fixture>() {
    let Some(on) = Bench::<F>::able(|can| can.fenced && can.by_id) else {
        return;
    };
    let keep_result = Some(LEASE);
    let id = on.add(NewJob {
        keep_result,
        ..job("a")
    });
    let zombie = on.next();
    on.clock.advance(LEASE);
    let owner = on.next();
    assert_eq!(owner.attempt, 2);
    is_refused(&on, &zombie);
    // And the lease of the one who has it ends when it would have.
    on.pass(LEASE - seconds(1));
    assert!(ok(on.broker.progress(owner.lease, b"1")));
    assert!(on.extend(&owner, LEASE));
    is_refused(&on, &zombie);
    on.done(&owner);
    assert_eq!(on.state(id), Some(JobState::Done));
    is_refused(&on, &zombie);
}

/// The claim that was given back, and the job claimed again with the same number of attempts.
pub(crate) fn who_released_a_job_has_no_say_in_it<F: Fixture>() {
    let Some(on) = Bench::<F>::able(|can| can.fenced && can.by_id) else {
        return;
    };
    on.add(job("a"));
    let before = on.next();
    on.release(&before);
    is_refused(&on, &before);
    let owner = on.next();
    assert_eq!(owner.attempt, before.attempt);
    is_refused(&on, &before);
    on.done(&owner);
}

/// Also where a dead job starts anew with its attempts, and where it is gone.
pub(crate) fn who_had_a_job_that_is_over_has_no_say_in_it<F: Fixture>() {
    let Some(on) = Bench::<F>::able(|can| can.fenced && can.by_id) else {
        return;
    };
    let id = on.add(job("a"));
    let before = on.next();
    on.bury(&before);
    is_refused(&on, &before);
    assert!(ok(on.broker.retry_dead(id)));
    is_refused(&on, &before);
    let owner = on.next();
    assert_eq!(owner.attempt, 1);
    is_refused(&on, &before);
    on.done(&owner);
    // Its room may be another one's by now.
    on.add_all(&jobs(3));
    let others = on.claim(3);
    is_refused(&on, &before);
    is_refused(&on, &owner);
    on.all_done(&others);
}

pub(crate) fn a_lease_that_nobody_had_is_refused<F: Fixture>() {
    let Some(on) = Bench::<F>::able(|can| can.fenced && can.by_id) else {
        return;
    };
    on.add_all(&jobs(2));
    let (one, two) = (on.next(), on.next());
    for (place, claim) in [
        (one.lease.place, 0),
        (-1, 1),
        (i64::MAX, 1),
        (i64::MIN, u64::MAX),
    ] {
        let mut forged = one.clone();
        (forged.lease.place, forged.lease.claim) = (place, claim);
        is_refused(&on, &forged);
    }
    let mut forged = one.clone();
    forged.lease.id = job("unknown").id;
    is_refused(&on, &forged);
    on.done(&one);
    on.done(&two);
}

pub(crate) fn an_extension_keeps_the_job<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add_all(&jobs(2));
    let (kept, lost) = (on.next(), on.next());
    for _ in 0..10 {
        on.clock.advance(LEASE - seconds(1));
        assert!(on.extend(&kept, LEASE));
        let again = on.claim(1);
        if let [again] = &again[..] {
            assert_eq!(again.lease.id, lost.lease.id);
            on.release(again);
        }
    }
    on.done(&kept);
    let stats = on.stats();
    assert_eq!((stats.done, stats.running), (1, 0));
}

/// It counts from now, and may thus make a lease shorter.
pub(crate) fn an_extension_counts_from_now<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add(job("a"));
    let claimed = on.next();
    assert!(on.extend(&claimed, LEASE * 10));
    on.clock.advance(LEASE * 9);
    assert!(on.claim(1).is_empty());
    assert!(on.extend(&claimed, seconds(5)));
    on.clock.advance(seconds(5));
    assert_eq!(on.next_names(1), ["a"]);
}

pub(crate) fn many_leases_are_extended_in_one_call<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add_all(&jobs(3));
    let claimed = on.claim(3);
    on.done(&claimed[1]);
    let leases: Vec<_> = claimed.iter().map(|job| job.lease).collect();
    let extended = ok(on.broker.extend(&leases, LEASE * 2));
    assert_eq!(extended, [true, false, true]);
    on.clock.advance(LEASE);
    assert!(on.claim(3).is_empty());
    on.clock.advance(LEASE);
    assert_eq!(names(&on.claim_all(3)), ["0", "2"]);
    assert!(ok(on.broker.extend(&[], LEASE)).is_empty());
}

/// B5: a job that kills its process does not do so for ever.
pub(crate) fn a_lease_that_is_over_with_the_last_attempt_leaves_a_dead_job<F: Fixture>() {
    let Some(on) = Bench::<F>::able(|can| can.by_id) else {
        return;
    };
    let id = on.add(NewJob {
        attempts: 2,
        ..job("kills")
    });
    for attempt in 1..=2 {
        assert_eq!(on.next().attempt, attempt);
        on.clock.advance(LEASE);
    }
    assert!(on.claim(100).is_empty());
    let job = on.job(id);
    assert_eq!(job.state, JobState::Dead);
    assert!(job.error.is_some_and(|why| !why.is_empty()), "no reason");
    let stats = on.stats();
    assert_eq!((stats.lost_leases, stats.died), (2, 1));
}

/// The settle comes late, and nobody has taken the job away: whatever the answer, it is true.
pub(crate) fn a_late_settle_is_answered_truly<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add(job("a"));
    let claimed = on.next();
    on.clock.advance(LEASE * 2);
    let settled = on.settle(&claimed, done());
    assert_eq!(on.next_names(1).is_empty(), settled);
    assert_eq!(on.stats().done, u64::from(settled));
}

/// Leases follow a clock that nobody sets.
pub(crate) fn no_lease_follows_the_wall_clock<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add(job("a"));
    let first = on.next();
    on.clock.set_wall(on.clock.wall() + seconds(3600));
    assert!(on.claim(1).is_empty(), "an hour ahead ended it");
    assert!(on.extend(&first, LEASE));
    on.clock.set_wall(on.clock.wall() - seconds(7200));
    assert!(on.claim(1).is_empty());
    on.clock.advance(LEASE - GRAIN);
    assert!(on.claim(1).is_empty());
    on.clock.advance(GRAIN);
    let again = on.claim(1);
    assert_eq!(names(&again), ["a"], "an hour back prolonged it");
    assert_eq!(again[0].attempt, 2);
}

/// Who waited for longer than a lease was not claimed by anybody.
pub(crate) fn a_backlog_older_than_the_lease_comes_once<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add_all(&jobs(100));
    on.clock.advance(LEASE * 10);
    for batch in 0..10 {
        let claimed = on.claim(10);
        let expected: Vec<_> = (0..10).map(|n| (batch * 10 + n).to_string()).collect();
        assert_eq!(names(&claimed), expected);
        assert!(claimed.iter().all(|job| job.attempt == 1));
        on.clock.advance(LEASE / 2);
        on.all_done(&claimed);
    }
    assert!(on.claim(100).is_empty());
    let stats = on.stats();
    assert_eq!((stats.done, stats.lost_leases), (100, 0));
}
