//! What a broker whose jobs survive the process brings back, and what its handles see of each
//! other.

use super::prelude::*;

pub(crate) fn what_waits_is_there_again_in_its_order(lab: &Lab) {
    let on = lab.bench();
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
    let on = on.restart();
    assert_eq!(on.next_names(2), ["high", "a"]);
    on.add(job("c"));
    let on = on.restart();
    on.advance(delay);
    assert_eq!(on.next_names(100), ["b", "c", "due"]);
}

pub(crate) fn everything_is_there_again(lab: &Lab) {
    let on = lab.bench();
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
    assert!(on.progress(&claimed[1], b"30"));
    on.add(NewJob {
        unique: Some(unique.clone()),
        delay: LEASE * 5,
        ..job("delayed")
    });
    on.add_again(first.clone());
    ok(on.schedules().put_schedule(&Scheduled {
        name: "hourly".to_owned(),
        cron: "0 * * * *".to_owned(),
        kind: "report".to_owned(),
        payload: b"{}".to_vec(),
        next: 77,
        missed: Missed::All,
    }));
    ok(on.admin().set_paused(true));

    let all = |on: &Bench| {
        let lists = JobState::ALL
            .map(|state| ok(on.admin().list(&ListRequest::new(state).limit(usize::MAX))));
        let schedules = ok(on.schedules().schedules());
        format!("{lists:#?} {schedules:#?} {:#?}", on.stats())
    };
    let before = all(&on);
    let on = on.restart();
    assert_eq!(all(&on), before);
    assert_eq!(ok(on.limits().limits()), limits);
    assert!(on.stats().paused);
    assert!(on.claim(100).is_empty());

    // And all of it still means the same.
    ok(on.admin().set_paused(false));
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
pub(crate) fn a_lease_outlives_the_handle_that_claimed(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&jobs(2));
    let mut claimed = on.claim(2);
    let on = on.restart();
    on.advance(LEASE - GRAIN);
    assert!(on.claim(100).is_empty());
    assert!(on.extend(&mut claimed[0], LEASE));
    on.done(&claimed[1]);
    let on = on.restart();
    assert!(on.claim(100).is_empty());
    on.advance(LEASE);
    let again = on.claim(100);
    assert_eq!(names(&again), ["0"]);
    assert_eq!(again[0].attempt, 1, "it was claimed with another one");
    // And it is fenced off for ever.
    let on = on.restart();
    assert!(!on.settle(&claimed[0], done()));
    on.done(&again[0]);
}

/// Nobody who claimed before the host started anew is there any more.
pub(crate) fn a_restart_of_the_host_ends_all_leases(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&jobs(2));
    on.add(NewJob {
        attempts: 1,
        ..job("its last")
    });
    let longest = on.broker.capabilities().maxima.lease;
    let request = ClaimRequest::new(100, longest.min(LEASE * 1_000));
    let claimed = on.claims_by(&request).jobs;
    assert_eq!(names(&claimed), ["0", "1"]);
    assert_eq!(on.claims_by(&request).jobs.len(), 1);
    on.restart_host();
    let on = on.restart();
    let again = on.claim_all(100);
    assert_eq!(names(&again), ["0", "1"]);
    let stats = on.stats();
    assert_eq!((stats.lost_leases, stats.died), (3, 1));
    assert!(!on.settle(&claimed[0], done()));
    // These count on the new clock.
    on.advance(LEASE - GRAIN);
    assert!(on.claim(100).is_empty());
    on.advance(GRAIN);
    assert_eq!(names(&on.claim_all(100)), ["0", "1"]);
}

/// Its steady clock starts from nothing: what was granted before is no debt.
pub(crate) fn a_rate_goes_on_after_a_restart_of_the_host(lab: &Lab) {
    let on = lab.bench();
    on.limit(Limits {
        rate: Some(Rate {
            jobs: 1,
            per: seconds(60),
            burst: 1,
        }),
        ..Limits::default()
    });
    on.advance(seconds(100_000));
    on.add_all(&jobs(3));
    assert_eq!(on.next_names(1), ["0"]);
    on.restart_host();
    let on = on.restart();
    on.advance(seconds(60));
    let claimed = on.claim(100);
    assert_eq!(claimed.len(), 1);
    assert!(on.claim(100).is_empty());
    on.advance(seconds(60));
    assert_eq!(on.claim(100).len(), 1);
}

pub(crate) fn time_goes_on_while_nobody_has_it_open(lab: &Lab) {
    let on = lab.bench();
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
    let on = on.restart();
    assert!(on.get(id).is_none());
    assert_eq!(on.next_names(100), ["due"]);
    assert_eq!(on.stats().expired, 1);
}

/// A reopened one gives out nothing a second time.
pub(crate) fn no_lease_is_given_twice(lab: &Lab) {
    let mut on = lab.bench();
    let mut leases = std::collections::HashSet::new();
    let same = job("the same id, again and again");
    for _ in 0..5 {
        on.enqueue(std::slice::from_ref(&same));
        for _ in 0..2 {
            let claimed = on.next();
            assert!(
                leases.insert(claimed.lease.clone()),
                "{:?} again",
                claimed.lease
            );
            on.release(&claimed);
            on = on.restart();
        }
        let claimed = on.next();
        assert!(
            leases.insert(claimed.lease.clone()),
            "{:?} again",
            claimed.lease
        );
        on.done(&claimed);
        on = on.restart();
    }
}

// ---- two handles ----

/// Another process has no part of this one.
pub(crate) fn another_process_has_the_same_jobs(lab: &Lab) {
    let on = lab.bench();
    let other = on.apart();
    on.add(job("a"));
    let mut claimed = other.comes(10, &["a"]);
    on.finds_nothing();
    assert!(on.extend(&mut claimed[0], LEASE));
    on.retry(&claimed[0], seconds(0));
    let again = on.comes(10, &["a"]);
    assert_eq!(again[0].attempt, 2);
    other.finds_nothing();
    if on.has(Capability::Fenced) {
        assert!(!other.settle(&claimed[0], done()));
    }
    other.done(&again[0]);
    on.finds_nothing();
    on.counted(|stats| assert_eq!(stats, other.stats()));
    assert_eq!(on.broker.identity(), other.broker.identity());
}

pub(crate) fn handles_see_what_the_others_did(lab: &Lab) {
    let on = lab.bench();
    let other = on.another();
    let ids = on.add_all(&jobs(3));
    let mut claimed = other.claim(2);
    assert_eq!(claimed.len(), 2);
    // A lease is no matter of who has it, but of what is in it.
    on.done(&claimed[0]);
    assert!(on.extend(&mut claimed[1], LEASE * 2));
    if on.has(Capability::ById) {
        let left = ids
            .iter()
            .find(|&&id| claimed.iter().all(|job| job.lease.id() != id));
        let left = *left.expect("one is left");
        assert_eq!(on.state(claimed[1].lease.id()), Some(JobState::Running));
        assert!(ok(other.admin().cancel(left)));
        assert_eq!(on.state(left), None);
    }
    other.done(&claimed[1]);
    on.counted(|stats| assert_eq!(stats, other.stats()));
}
