//! What an operator does to a queue: pause, resume, cancel, retry, delete, purge.

use super::prelude::*;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

// ---- pause ----

pub(crate) fn while_paused_nothing_is_claimed_and_all_else_goes_on(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&jobs(6));
    let mut claimed = on.claim(4);
    ok(on.admin().set_paused(true));
    assert!(on.stats().paused);
    assert!(on.claim(100).is_empty());
    assert!(on.another().claim(100).is_empty());
    on.add(job("enqueued"));
    assert!(on.extend(&mut claimed[0], LEASE * 2));
    assert!(on.progress(&claimed[0], b"50"));
    on.done(&claimed[0]);
    on.retry(&claimed[1], seconds(10));
    on.bury(&claimed[2]);
    on.release(&claimed[3]);
    let stats = on.stats();
    assert_eq!((stats.ready, stats.delayed), (4, 1));
    assert_eq!((stats.done, stats.dead, stats.running), (1, 1, 0));
    on.pass(seconds(20));
    assert!(on.claim(100).is_empty());
    ok(on.another().admin().set_paused(false));
    assert!(!on.stats().paused);
    assert_eq!(on.next_names(100), ["3", "4", "5", "enqueued", "1"]);
}

/// Time does to a job what it does.
pub(crate) fn a_pause_ends_no_time(lab: &Lab) {
    let on = lab.bench();
    on.add(NewJob {
        expires: Some(seconds(10)),
        ..job("expires")
    });
    on.add(NewJob {
        delay: seconds(10),
        ..job("due")
    });
    ok(on.admin().set_paused(true));
    on.pass(seconds(20));
    let stats = on.stats();
    assert_eq!((stats.expired, stats.ready, stats.delayed), (1, 1, 0));
    ok(on.admin().set_paused(false));
    let lost = on.next();
    ok(on.admin().set_paused(true));
    on.pass(LEASE);
    let stats = on.stats();
    assert_eq!((stats.lost_leases, stats.ready, stats.running), (1, 1, 0));
    ok(on.admin().set_paused(false));
    let again = on.next();
    assert_eq!((again.lease.id(), again.attempt), (lost.lease.id(), 2));
}

pub(crate) fn to_pause_twice_is_to_pause(lab: &Lab) {
    let on = lab.bench();
    on.add(job("a"));
    ok(on.admin().set_paused(true));
    ok(on.admin().set_paused(true));
    ok(on.admin().set_paused(false));
    assert_eq!(on.next_names(100), ["a"]);
    ok(on.admin().set_paused(false));
    assert!(!on.stats().paused);
}

// ---- one job of each state ----

/// A broker with one job in each state, named after it.
fn one_of_each(lab: &Lab) -> (Bench, impl Fn(JobState) -> JobId + use<>) {
    let on = lab.bench();
    let ids = JobState::ALL.map(|state| {
        let mut job = job(state.name());
        match state {
            JobState::Done => job.keep_result = Some(LEASE * 100),
            JobState::Delayed => job.delay = LEASE * 100,
            JobState::Running | JobState::Parked => job.key = Some("key".to_owned()),
            _ => {}
        }
        (state, job)
    });
    let job_of = |state| {
        ids.iter()
            .find(|one| one.0 == state)
            .expect("all states")
            .1
            .clone()
    };
    let limits = Limits {
        per_key: Some(1),
        ..Limits::default()
    };
    on.limit(limits);
    on.add_all(&[JobState::Dead, JobState::Done].map(job_of));
    let claimed = on.claim(2);
    on.bury(&claimed[0]);
    on.done(&claimed[1]);
    on.add_all(&[JobState::Running, JobState::Parked].map(job_of));
    on.add(job_of(JobState::Delayed));
    assert_eq!(names(&on.claim(100)), ["running"]);
    on.add(job_of(JobState::Ready));
    let id_of = move |state| {
        ids.iter()
            .find(|one| one.0 == state)
            .expect("all states")
            .1
            .id
    };
    for state in JobState::ALL {
        assert_eq!(on.state(id_of(state)), Some(state));
        assert_eq!(on.list(state), [state.name()]);
    }
    (on, id_of)
}

/// Does `act` to a job of each state, and sees that it takes those of `states` away, and no others.
fn takes_away(lab: &Lab, states: &[JobState], act: impl Fn(&Bench, JobState, JobId) -> bool) {
    for state in JobState::ALL {
        let (on, id_of) = one_of_each(lab);
        let id = id_of(state);
        let before = on.stats();
        let wanted = states.contains(&state);
        assert_eq!(act(&on, state, id), wanted, "of {state:?}");
        assert_eq!(on.state(id), (!wanted).then_some(state), "of {state:?}");
        assert_eq!(on.stats().removed, before.removed + u64::from(wanted));
        for other in JobState::ALL.into_iter().filter(|&other| other != state) {
            assert_eq!(
                on.state(id_of(other)),
                Some(other),
                "{state:?} is no {other:?}"
            );
        }
        if wanted {
            assert!(!act(&on, state, id), "it is gone");
        } else {
            assert_eq!(on.stats(), before);
        }
    }
}

pub(crate) fn what_waits_can_be_cancelled_and_nothing_else(lab: &Lab) {
    let waiting = [JobState::Ready, JobState::Delayed, JobState::Parked];
    takes_away(lab, &waiting, |on, _, id| ok(on.admin().cancel(id)));
}

pub(crate) fn what_is_over_can_be_deleted_and_nothing_else(lab: &Lab) {
    let over = [JobState::Dead, JobState::Done];
    takes_away(lab, &over, |on, _, id| ok(on.admin().delete(id)));
}

pub(crate) fn a_purge_takes_all_of_a_state_and_nothing_else(lab: &Lab) {
    let all_but_running = [
        JobState::Ready,
        JobState::Delayed,
        JobState::Parked,
        JobState::Dead,
        JobState::Done,
    ];
    takes_away(lab, &all_but_running, |on, state, _| {
        if state == JobState::Running {
            return on.admin().purge(&[state]).is_ok();
        }
        match ok(on.admin().purge(&[state])) {
            0 => false,
            1 => true,
            more => panic!("purged {more}"),
        }
    });
}

pub(crate) fn of_an_unknown_job_there_is_nothing_to_do(lab: &Lab) {
    let on = lab.bench();
    on.add(job("a"));
    let unknown = job("unknown").id;
    assert!(on.get(unknown).is_none());
    assert!(!ok(on.admin().cancel(unknown)));
    assert!(!ok(on.admin().delete(unknown)));
    assert!(!ok(on.admin().retry_dead(unknown)));
    assert_eq!(on.next_names(100), ["a"]);
}

pub(crate) fn what_was_cancelled_does_not_come(lab: &Lab) {
    let on = lab.bench();
    let ids = on.add_all(&jobs(3));
    let delayed = on.add(NewJob {
        delay: seconds(10),
        ..job("delayed")
    });
    assert!(ok(on.admin().cancel(ids[1])));
    assert!(ok(on.another().admin().cancel(delayed)));
    on.advance(seconds(10));
    assert_eq!(on.next_names(100), ["0", "2"]);
    assert_eq!(on.stats().removed, 2);
}

pub(crate) fn a_purge_tells_how_many_it_took(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&jobs(2_500));
    let claimed = on.claim(500);
    on.all_dead(&claimed[..100]);
    assert_eq!(ok(on.admin().purge(&[JobState::Ready])), 2_000);
    assert_eq!(ok(on.admin().purge(&[JobState::Ready])), 0);
    assert_eq!(ok(on.admin().purge(&[JobState::Dead])), 100);
    assert!(on.claim(100).is_empty());
    on.all_done(&claimed[100..]);
    let stats = on.stats();
    assert_eq!((stats.removed, stats.done), (2_100, 400));
    assert_eq!((stats.ready, stats.running, stats.dead), (0, 0, 0));
}

// ---- retry_dead ----

pub(crate) fn only_a_dead_job_can_be_retried_by_hand(lab: &Lab) {
    for state in JobState::ALL {
        let (on, id_of) = one_of_each(lab);
        let is_dead = state == JobState::Dead;
        let before = on.stats();
        assert_eq!(
            ok(on.admin().retry_dead(id_of(state))),
            is_dead,
            "{state:?}"
        );
        let now = if is_dead { JobState::Ready } else { state };
        assert_eq!(on.state(id_of(state)), Some(now));
        if !is_dead {
            assert_eq!(on.stats(), before);
        }
    }
}

pub(crate) fn a_dead_job_that_is_retried_has_all_its_attempts_again(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(NewJob {
        attempts: 2,
        ..job("a")
    });
    for round in 1..=3 {
        for attempt in 1..=2 {
            let claimed = on.next();
            assert_eq!((claimed.attempt, claimed.attempts), (attempt, 2));
            on.retry(&claimed, seconds(0));
        }
        assert_eq!(on.state(id), Some(JobState::Dead));
        assert!(ok(on.admin().retry_dead(id)));
        assert!(!ok(on.admin().retry_dead(id)), "it is dead no more");
        let info = on.job(id);
        assert_eq!((info.state, info.attempt), (JobState::Ready, 0));
        assert_eq!(on.stats().died, round);
    }
    let claimed = on.next();
    assert!(on.settle(&claimed, done()));
    let stats = on.stats();
    assert_eq!((stats.dead, stats.done, stats.removed), (0, 1, 0));
}

/// It is enqueued anew, as it were.
pub(crate) fn a_dead_job_that_is_retried_goes_to_the_end(lab: &Lab) {
    let on = lab.bench();
    let ids = on.add_all(&jobs(3));
    on.bury(&on.next());
    assert!(ok(on.admin().retry_dead(ids[0])));
    on.add(job("new"));
    assert_eq!(on.next_names(100), ["1", "2", "0", "new"]);
}

// ---- purge beside others ----

/// It takes what was there when it began, and ends, though others enqueue for as long as it goes on.
pub(crate) fn a_purge_ends_beside_producers(lab: &Lab) {
    let on = lab.bench();
    let first = on.add_all(&jobs(5_000));
    let delay = seconds(10);
    let delayed: Vec<NewJob> = (jobs(500).into_iter())
        .map(|job| NewJob { delay, ..job })
        .collect();
    let delayed = on.add_all(&delayed);
    let handles = [on.another(), on.another()];
    let operator = on.clone();
    let (taken, added) = within(MINUTE, "a purge ends", move || {
        let is_over = AtomicBool::new(false);
        let waiting = Barrier::new(handles.len() + 1);
        std::thread::scope(|scope| {
            let (is_over, waiting) = (&is_over, &waiting);
            let produce = |on: &Bench| {
                let on = on.clone();
                scope.spawn(move || {
                    let mut added = 0;
                    let batch = || on.add_all(&jobs(50)).len() as u64;
                    added += batch();
                    waiting.wait();
                    while !is_over.load(Ordering::SeqCst) {
                        added += batch();
                    }
                    added
                })
            };
            let producers: Vec<_> = handles.iter().map(produce).collect();
            waiting.wait();
            let purged = ok(operator.admin().purge(&JobState::WAITING));
            is_over.store(true, Ordering::SeqCst);
            let added = producers
                .into_iter()
                .map(std::thread::ScopedJoinHandle::join);
            let added: u64 = added.map(|added| added.expect("nothing fails")).sum();
            (purged, added)
        })
    });
    if on.has(Capability::ById) {
        let all = first.iter().chain(&delayed);
        assert!(all.copied().all(|id| on.get(id).is_none()));
    }
    let stats = on.stats();
    assert!(taken >= 5_500, "{taken}");
    assert_eq!(stats.removed, taken);
    assert_eq!(stats.ready + stats.delayed, 5_500 + added - taken);
}

pub(crate) fn a_purge_of_a_state_that_is_named_twice_is_one(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&jobs(10));
    let states = [JobState::Ready, JobState::Dead, JobState::Ready];
    assert_eq!(ok(on.admin().purge(&states)), 10);
    assert_eq!(ok(on.admin().purge(&[])), 0);
    assert_eq!(on.stats().removed, 10);
}

pub(crate) fn what_runs_is_not_purged(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&jobs(2));
    let claimed = on.claim(1);
    let refused = on.admin().purge(&[JobState::Ready, JobState::Running]);
    assert!(refused.is_err());
    assert_eq!(on.stats().ready, 1);
    on.done(&claimed[0]);
}
