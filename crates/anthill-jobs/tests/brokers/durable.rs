//! What a broker whose jobs survive the process brings back, and what its handles see of each
//! other.

use anthill_jobs::{ClaimRequest, JobState, Limits, ListRequest, Missed, NewJob, Rate, Scheduled};

use crate::bench::{Bench, Fixture, GRAIN, LEASE, done, job, jobs, names, ok, seconds};

fn able<F: Fixture>() -> Option<Bench<F>> {
    Bench::able(|can| can.durable)
}

pub(crate) fn what_waits_is_there_again_in_its_order<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    let high = NewJob {
        priority: 5,
        ..job("high")
    };
    on.add_all(&[job("a"), job("b"), high]);
    let delay = seconds(10);
    on.add(NewJob {
        delay,
        ..job("due")
    });
    let on = on.reopen();
    assert_eq!(on.next_names(2), ["high", "a"]);
    on.add(job("c"));
    let on = on.reopen();
    on.clock.advance(delay);
    assert_eq!(on.next_names(100), ["b", "c", "due"]);
}

pub(crate) fn everything_is_there_again<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    let limits = Limits {
        running: Some(50),
        per_key: Some(1),
        rate: Some(Rate {
            jobs: 100,
            per: seconds(1),
            burst: 100,
        }),
        max_ready: Some(9),
    };
    on.limit(limits);
    let key = Some("k".to_owned());
    let keyed = |name| NewJob {
        key: key.clone(),
        ..job(name)
    };
    let unique = "u".to_owned();
    let first = NewJob {
        unique: Some(unique.clone()),
        keep_result: Some(LEASE * 10),
        attempts: 9,
        priority: 3,
        expires: Some(LEASE),
        ..job("first")
    };
    on.add_all(&[first.clone(), job("dies"), job("lost")]);
    let claimed = on.claim(3);
    on.done(&claimed[0]);
    on.bury(&claimed[1]);
    on.pass(LEASE);
    on.add_all(&[keyed("running"), keyed("parked")]);
    let claimed = on.claim_all(100);
    assert_eq!(names(&claimed), ["lost", "running"]);
    on.release(&claimed[0]);
    assert!(ok(on.broker.progress(claimed[1].lease, b"30")));
    on.add(NewJob {
        unique: Some(unique.clone()),
        delay: LEASE * 5,
        ..job("delayed")
    });
    on.add_again(first.clone());
    ok(on.broker.put_schedule(&Scheduled {
        name: "hourly".to_owned(),
        cron: "0 * * * *".to_owned(),
        kind: "report".to_owned(),
        payload: b"{}".to_vec(),
        next: 77,
        missed: Missed::All,
    }));
    ok(on.broker.set_paused(true));

    let all = |on: &Bench<F>| {
        let lists = JobState::ALL
            .map(|state| ok(on.broker.list(&ListRequest::new(state).limit(usize::MAX))));
        let schedules = ok(on.broker.schedules());
        format!("{lists:#?} {schedules:#?} {:#?}", on.stats())
    };
    let before = all(&on);
    let on = on.reopen();
    assert_eq!(all(&on), before);
    assert_eq!(ok(on.broker.limits()), limits);
    assert!(on.stats().paused);
    assert!(on.claim(100).is_empty());

    // And all of it still means the same.
    ok(on.broker.set_paused(false));
    on.add_again(NewJob {
        unique: Some(unique),
        ..job("again")
    });
    assert_eq!(on.add_again(first.clone()), first.id);
    assert_eq!(on.next_names(100), ["lost"], "the key is in use");
    on.done(&claimed[1]);
    assert_eq!(on.next_names(100), ["parked"]);
}

/// Who claimed it may have survived: another process of the same host.
pub(crate) fn a_lease_outlives_the_handle_that_claimed<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    on.add_all(&jobs(2));
    let claimed = on.claim(2);
    let on = on.reopen();
    on.clock.advance(LEASE - GRAIN);
    assert!(on.claim(100).is_empty());
    assert!(on.extend(&claimed[0], LEASE));
    on.done(&claimed[1]);
    let on = on.reopen();
    assert!(on.claim(100).is_empty());
    on.clock.advance(LEASE);
    let again = on.claim(100);
    assert_eq!(names(&again), ["0"]);
    assert_eq!(again[0].attempt, 1, "it was claimed with another one");
    // And it is fenced off for ever.
    let on = on.reopen();
    assert!(!on.settle(&claimed[0], done()));
    on.done(&again[0]);
}

/// Nobody who claimed before the host started anew is there any more.
pub(crate) fn a_restart_of_the_host_ends_all_leases<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    on.add_all(&jobs(2));
    on.add(NewJob {
        attempts: 1,
        ..job("its last")
    });
    let request = ClaimRequest::new(100, LEASE * 1_000);
    let claimed = ok(on.broker.claim(&request)).jobs;
    assert_eq!(names(&claimed), ["0", "1"]);
    assert_eq!(ok(on.broker.claim(&request)).jobs.len(), 1);
    on.clock.reboot();
    let on = on.reopen();
    let again = on.claim_all(100);
    assert_eq!(names(&again), ["0", "1"]);
    let stats = on.stats();
    assert_eq!((stats.lost_leases, stats.died), (3, 1));
    assert!(!on.settle(&claimed[0], done()));
    // These count on the new clock.
    on.clock.advance(LEASE - GRAIN);
    assert!(on.claim(100).is_empty());
    on.clock.advance(GRAIN);
    assert_eq!(names(&on.claim_all(100)), ["0", "1"]);
}

/// Its steady clock starts from nothing: what was granted before is no debt.
pub(crate) fn a_rate_goes_on_after_a_restart_of_the_host<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    on.limit(Limits {
        rate: Some(Rate {
            jobs: 1,
            per: seconds(60),
            burst: 1,
        }),
        ..Limits::default()
    });
    on.clock.advance(seconds(100_000));
    on.add_all(&jobs(3));
    assert_eq!(on.next_names(1), ["0"]);
    on.clock.reboot();
    let on = on.reopen();
    on.clock.advance(seconds(60));
    let claimed = on.claim(100);
    assert_eq!(claimed.len(), 1);
    assert!(on.claim(100).is_empty());
    on.clock.advance(seconds(60));
    assert_eq!(on.claim(100).len(), 1);
}

pub(crate) fn time_goes_on_while_nobody_has_it_open<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    let clock = on.clock.clone();
    on.add_all(&[
        NewJob {
            delay: seconds(10),
            ..job("due")
        },
        NewJob {
            expires: Some(seconds(10)),
            ..job("expires")
        },
    ]);
    let id = on.add(NewJob {
        keep_result: Some(seconds(10)),
        priority: 1,
        ..job("done")
    });
    on.done(&on.next());
    clock.advance(seconds(20));
    let on = on.reopen();
    assert!(on.get(id).is_none());
    assert_eq!(on.next_names(100), ["due"]);
    assert_eq!(on.stats().expired, 1);
}

/// A reopened one gives out nothing a second time.
pub(crate) fn no_lease_is_given_twice<F: Fixture>() {
    let Some(mut on) = able::<F>() else { return };
    let mut leases = std::collections::HashSet::new();
    let same = job("the same id, again and again");
    for _ in 0..5 {
        on.enqueue(std::slice::from_ref(&same));
        for _ in 0..2 {
            let claimed = on.next();
            assert!(leases.insert(claimed.lease), "{:?} again", claimed.lease);
            on.release(&claimed);
            on = on.reopen();
        }
        let claimed = on.next();
        assert!(leases.insert(claimed.lease), "{:?} again", claimed.lease);
        on.done(&claimed);
        on = on.reopen();
    }
}

// ---- two handles ----

pub(crate) fn handles_see_what_the_others_did<F: Fixture>() {
    let on = Bench::<F>::new();
    let other = on.another();
    let ids = on.add_all(&jobs(3));
    let claimed = other.claim(2);
    assert_eq!(names(&claimed), ["0", "1"]);
    // A lease is no matter of who has it, but of what is in it.
    on.done(&claimed[0]);
    assert!(on.extend(&claimed[1], LEASE * 2));
    if on.broker.capabilities().by_id {
        assert_eq!(on.state(ids[1]), Some(JobState::Running));
        assert!(ok(other.broker.cancel(ids[2])));
        assert_eq!(on.state(ids[2]), None);
    }
    other.done(&claimed[1]);
    assert_eq!(on.stats(), other.stats());
}

/// A process that sleeps asks now and again.
pub(crate) fn a_change_by_another_handle_is_noticed<F: Fixture>() {
    let Some(on) = Bench::<F>::able(|can| can.shared) else {
        return;
    };
    let other = on.another();
    let mut seen = 0;
    ok(on.broker.has_changed(&mut seen));
    assert!(!ok(on.broker.has_changed(&mut seen)), "nobody did anything");
    other.add_all(&jobs(2));
    assert!(ok(on.broker.has_changed(&mut seen)), "an enqueue");
    assert!(!ok(on.broker.has_changed(&mut seen)), "it was told");
    let claimed = other.claim(1);
    ok(on.broker.has_changed(&mut seen));
    other.release(&claimed[0]);
    assert!(ok(on.broker.has_changed(&mut seen)), "a release");
    assert!(!ok(on.broker.has_changed(&mut seen)));
    ok(other.broker.set_paused(true));
    ok(on.broker.has_changed(&mut seen));
    ok(other.broker.set_paused(false));
    assert!(ok(on.broker.has_changed(&mut seen)), "the end of a pause");
    // Each who asks has his own memory of it.
    let mut afresh = seen;
    other.add(job("c"));
    assert!(ok(on.broker.has_changed(&mut seen)));
    assert!(ok(on.broker.has_changed(&mut afresh)));
}

/// To look is no change, or two who look would wake each other for ever.
pub(crate) fn a_claim_that_finds_nothing_changes_nothing<F: Fixture>() {
    let Some(on) = Bench::<F>::able(|can| can.shared) else {
        return;
    };
    let other = on.another();
    let delay = seconds(10);
    on.add(NewJob {
        delay,
        ..job("later")
    });
    other.claim(1);
    let mut seen = 0;
    ok(on.broker.has_changed(&mut seen));
    for _ in 0..3 {
        assert!(other.claim(1).is_empty());
        other.stats();
        ok(other.broker.limits());
        assert!(!ok(on.broker.has_changed(&mut seen)));
    }
}
