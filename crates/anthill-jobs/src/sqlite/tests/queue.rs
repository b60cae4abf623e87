//! How jobs go their way, where it differs from a broker in memory.

use super::*;

#[test]
fn claims_go_through_the_index_of_a_state_and_sort_nothing() {
    let folder = Folder::new();
    let _broker = folder.open();
    let connection = folder.connect();
    for statement in [
        claim::READY_OF_KIND,
        kinds::FIRST_OF_KIND,
        kinds::FIRST_KIND,
        kinds::NEXT_KIND,
        claim::NEXT_DUE,
        claim::NEXT_END,
        sweep::OVERDUE,
        sweep::EXPIRED_LEASES,
        sweep::DUE,
        sweep::DUE_KEYS,
        sweep::EXPIRED,
        sweep::KEPT,
        sweep::LAPSED,
        sweep::RETAINED,
        sweep::OLD_DEAD,
        sweep::PERIODS,
        sweep::HELD_LONGER,
        sweep::PARKED_KEY,
        sweep::READY_KEY,
        keys::RUNNING_OF,
        keys::READY_OF,
        keys::LAST_READY,
        keys::FIRST_PARKED,
    ] {
        let mut plan = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {statement}"))
            .unwrap();
        let steps = plan.parameter_count();
        let nothing = vec![rusqlite::types::Null; steps];
        let plan = plan
            .query_map(rusqlite::params_from_iter(nothing), |row| row.get(3))
            .unwrap();
        let plan: Vec<String> = plan.map(Result::unwrap).collect();
        let text = plan.join("\n");
        assert!(!text.contains("TEMP B-TREE"), "{statement}\n{text}");
        assert!(!text.contains("SCAN anthill"), "{statement}\n{text}");
        assert!(
            text.contains("USING INDEX anthill_") || text.contains("USING COVERING INDEX anthill_"),
            "{text}"
        );
    }
}

#[test]
fn who_subscribed_hears_of_what_can_be_claimed() {
    let folder = Folder::new();
    let clock = Clock::manual();
    let broker = folder.open_with(&clock);
    let heard = Arc::new(AtomicU32::new(0));
    let ears = Arc::clone(&heard);
    let listener = Listener::new(Duration::MAX, move |change| {
        assert_eq!(change, Change::Here);
        ears.fetch_add(1, Ordering::Relaxed);
    });
    let _subscription = broker.subscribe(listener).unwrap();
    let heard = || heard.swap(0, Ordering::Relaxed) > 0;
    broker
        .set_limits(Limits {
            per_key: Some(1),
            ..Limits::default()
        })
        .unwrap();
    assert!(heard());
    broker.enqueue(&[keyed("k"), keyed("k")]).unwrap();
    assert!(heard());
    let claims = broker.claim(&ClaimRequest::new(2, MINUTE)).unwrap();
    assert_eq!(claims.jobs.len(), 1);
    assert!(!heard(), "who claims hears nothing of it");
    settle(&broker, &[(lease_of(&claims), done())]);
    assert!(heard(), "a parked one can be claimed");
    broker.set_paused(true).unwrap();
    assert!(!heard());
    broker.set_paused(false).unwrap();
    assert!(heard());
    clock.advance(MINUTE);
    assert!(heard());
}

#[test]
fn a_lease_follows_the_steady_clock() {
    let folder = Folder::new();
    let clock = Clock::manual();
    let broker = folder.open_with(&clock);
    broker.enqueue(&[job()]).unwrap();
    let first = broker.claim(&ClaimRequest::new(1, MINUTE)).unwrap();
    assert_eq!(first.again_in, Some(MINUTE));
    let noon = clock.wall();
    clock.set_wall(noon + MINUTE * 60 * 24);
    assert_eq!(
        broker
            .claim(&ClaimRequest::new(1, MINUTE))
            .unwrap()
            .jobs
            .len(),
        0,
        "the wall clock ends no lease"
    );
    clock.set_wall(noon.saturating_sub(MINUTE * 60));
    clock.advance(MINUTE / 2);
    assert_eq!(extend(&broker, &[lease_of(&first)]), [true]);
    clock.advance(MINUTE / 2);
    assert_eq!(
        broker
            .claim(&ClaimRequest::new(1, MINUTE))
            .unwrap()
            .jobs
            .len(),
        0
    );
    clock.advance(MINUTE / 2);
    let second = broker.claim(&ClaimRequest::new(1, MINUTE)).unwrap();
    assert_eq!(ids(&second), ids(&first), "and prolongs none");
    clock.reboot();
    let third = broker.claim(&ClaimRequest::new(1, MINUTE)).unwrap();
    assert_eq!(
        ids(&third),
        ids(&first),
        "nobody holds one from before the host was started"
    );
    assert_eq!(third.jobs[0].attempt, 3);
    assert_eq!(broker.stats().unwrap().lost_leases, 2);
    let ends = [(lease_of(&second), done()), (lease_of(&third), done())];
    assert_eq!(settle(&broker, &ends), [false, true]);
}

#[test]
fn a_lease_of_a_job_that_was_is_none_of_one_with_the_same_id() {
    let folder = Folder::new();
    let broker = folder.open();
    let job = job();
    broker.enqueue(std::slice::from_ref(&job)).unwrap();
    let old = claim_one(&broker);
    assert_eq!(settle(&broker, &[(old.clone(), done())]), [true]);
    assert!(add(&broker, &job).is_added());
    claim_one(&broker);
    assert_eq!(settle(&broker, &[(old.clone(), done())]), [false]);
    assert_eq!(extend(&broker, &[old]), [false]);
}

#[test]
fn twenty_thousand_that_are_due_at_once_come_in_parts() {
    let folder = Folder::new();
    let clock = Clock::manual();
    let broker = folder.open_with(&clock);
    let delayed = NewJob {
        delay: MINUTE,
        ..job()
    };
    let all: Vec<NewJob> = (0..20_000)
        .map(|_| NewJob {
            id: JobId::new(),
            ..delayed.clone()
        })
        .collect();
    broker.enqueue(&all).unwrap();
    assert_eq!(
        broker
            .claim(&ClaimRequest::new(1, MINUTE))
            .unwrap()
            .again_in,
        Some(MINUTE)
    );
    clock.advance(MINUTE);
    let mut found = Vec::new();
    loop {
        let claims = broker.claim(&ClaimRequest::new(700, MINUTE * 60)).unwrap();
        assert!(claims.jobs.len() <= sweep::BATCH as usize);
        found.extend(ids(&claims));
        if claims.again_in != Some(Duration::ZERO) {
            break;
        }
    }
    let wanted: Vec<JobId> = all.iter().map(|job| job.id).collect();
    assert_eq!(found, wanted);
    // And as many leases that are over at once.
    clock.advance(MINUTE * 60);
    let nothing = ClaimRequest::new(0, MINUTE);
    while broker.claim(&nothing).unwrap().again_in == Some(Duration::ZERO) {}
    assert_eq!(broker.stats().unwrap().ready, 20_000);
    assert_eq!(broker.stats().unwrap().lost_leases, 20_000);
    audit(&folder, &broker);
}

#[test]
fn parked_jobs_come_back_when_the_limit_does_not_hold_them_or_one_before_them_is_gone() {
    let folder = Folder::new();
    let clock = Clock::manual();
    let broker = folder.open_with(&clock);
    let limit = |per_key| {
        broker
            .set_limits(Limits {
                per_key,
                ..Limits::default()
            })
            .unwrap();
    };
    limit(Some(1));
    let mut all: Vec<NewJob> = (0..1_500).map(|_| keyed("k")).collect();
    all[1].expires = Some(MINUTE);
    broker.enqueue(&all).unwrap();
    broker.enqueue(&[keyed("other"), job()]).unwrap();
    let mut claimed = Vec::new();
    while claimed.len() < 3 {
        claimed.extend(
            broker
                .claim(&ClaimRequest::new(10, MINUTE * 60))
                .unwrap()
                .jobs,
        );
    }
    assert_eq!(broker.stats().unwrap().parked, 1_499);
    settle(&broker, &[(claimed[0].lease.clone(), done())]);
    // The first parked one is ready now, but expires: the next one takes its place.
    clock.advance(MINUTE);
    let next = broker.claim(&ClaimRequest::new(10, MINUTE * 60)).unwrap();
    assert_eq!(ids(&next), [all[2].id]);
    audit(&folder, &broker);
    limit(None);
    let mut back = 0;
    while back < 1_497 {
        let claims = broker
            .claim(&ClaimRequest::new(2_000, MINUTE * 60))
            .unwrap();
        assert!(!claims.jobs.is_empty(), "{back}");
        back += claims.jobs.len();
    }
    assert_eq!(broker.stats().unwrap().running, 1_500);
    audit(&folder, &broker);
}

#[test]
fn a_purge_of_the_ready_leaves_no_parked_one_behind() {
    let folder = Folder::new();
    let broker = folder.open();
    broker
        .set_limits(Limits {
            per_key: Some(1),
            ..Limits::default()
        })
        .unwrap();
    broker
        .enqueue(&[keyed("k"), keyed("k"), keyed("k")])
        .unwrap();
    let first = broker.claim(&ClaimRequest::new(3, MINUTE)).unwrap();
    assert_eq!(settle(&broker, &[(lease_of(&first), done())]), [true]);
    assert_eq!(broker.purge(&[JobState::Ready]).unwrap(), 1);
    assert_eq!(
        broker
            .claim(&ClaimRequest::new(3, MINUTE))
            .unwrap()
            .jobs
            .len(),
        1
    );
    audit(&folder, &broker);
}

#[test]
fn a_parked_job_that_comes_first_goes_before_one_that_was_released() {
    let folder = Folder::new();
    let broker = folder.open();
    let limits = Limits {
        per_key: Some(1),
        ..Limits::default()
    };
    broker.set_limits(limits).unwrap();
    let (first, urgent) = (keyed("k"), keyed("k"));
    broker.enqueue(std::slice::from_ref(&first)).unwrap();
    let lease = claim_one(&broker);
    let urgent = NewJob {
        priority: 1,
        ..urgent
    };
    broker.enqueue(std::slice::from_ref(&urgent)).unwrap();
    assert!(
        broker
            .claim(&ClaimRequest::new(1, MINUTE))
            .unwrap()
            .jobs
            .is_empty()
    );
    assert_eq!(settle(&broker, &[(lease, release())]), [true]);
    assert_eq!(
        ids(&broker.claim(&ClaimRequest::new(2, MINUTE)).unwrap()),
        [urgent.id]
    );
    audit(&folder, &broker);
}

#[test]
fn parked_jobs_that_expire_with_one_that_is_ready_leave_the_next_one_ready() {
    let folder = Folder::new();
    let clock = Clock::manual();
    let broker = folder.open_with(&clock);
    let limits = Limits {
        per_key: Some(1),
        ..Limits::default()
    };
    broker.set_limits(limits).unwrap();
    let expiring = || NewJob {
        expires: Some(MINUTE),
        ..keyed("k")
    };
    let all = [keyed("k"), expiring(), expiring(), expiring(), keyed("k")];
    broker.enqueue(&all).unwrap();
    let lease = lease_of(&broker.claim(&ClaimRequest::new(5, MINUTE * 9)).unwrap());
    settle(&broker, &[(lease, done())]);
    // One is ready, and two are parked with the last one.
    clock.advance(MINUTE);
    assert_eq!(
        ids(&broker.claim(&ClaimRequest::new(5, MINUTE)).unwrap()),
        [all[4].id]
    );
    assert_eq!(broker.stats().unwrap().expired, 3);
    audit(&folder, &broker);
}

/// What is balanced on the way is not taken for what it was.
#[test]
fn jobs_of_a_key_that_expire_together_after_a_lower_limit_leave_the_counts_right() {
    let folder = Folder::new();
    let clock = Clock::manual();
    let broker = folder.open_with(&clock);
    let expiring = NewJob {
        expires: Some(MINUTE),
        ..keyed("k")
    };
    let renamed = |job: &NewJob| NewJob {
        id: JobId::new(),
        ..job.clone()
    };
    for job in [&expiring, &keyed("k"), &keyed("k"), &expiring, &expiring] {
        broker.enqueue(&[renamed(job)]).unwrap();
    }
    let limits = Limits {
        per_key: Some(1),
        ..Limits::default()
    };
    broker.set_limits(limits).unwrap();
    clock.advance(MINUTE);
    let claims = broker.claim(&ClaimRequest::new(9, MINUTE)).unwrap();
    assert_eq!(claims.jobs.len(), 1);
    let stats = broker.stats().unwrap();
    assert_eq!((stats.expired, stats.ready, stats.parked), (3, 0, 1));
    audit(&folder, &broker);
}

/// Who comes while it takes the others away in steps is left alone.
#[test]
fn a_purge_takes_only_what_was_there_when_it_began() {
    let folder = Folder::new();
    let broker = folder.open();
    broker.enqueue(&jobs(20_000)).unwrap();
    let late = job();
    thread::scope(|scope| {
        let purge = scope.spawn(|| broker.purge(&JobState::WAITING).unwrap());
        while broker.stats().unwrap().removed == 0 {
            thread::yield_now();
        }
        broker.enqueue(std::slice::from_ref(&late)).unwrap();
        assert_eq!(purge.join().unwrap(), 20_000);
    });
    assert_eq!(broker.get(late.id).unwrap().unwrap().state, JobState::Ready);
    audit(&folder, &broker);
}
