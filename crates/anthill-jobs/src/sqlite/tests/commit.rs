//! Transactions that are shared, and what goes wrong in them.

use super::*;

#[test]
fn sixteen_threads_share_one_transaction() {
    let folder = Folder::new();
    let broker = folder.open();
    let enqueue = |broker: &SqliteBroker| add(broker, &job());
    let calls = (0..16).map(|_| Box::new(enqueue) as Box<_>).collect();
    let before = transactions(&broker);
    let enqueued = together(&broker, calls);
    assert!(enqueued.into_iter().all(Enqueued::is_added));
    assert_eq!(broker.stats().unwrap().ready, 16);
    assert_eq!(transactions(&broker) - before, 1);
    audit(&folder, &broker);
}

#[test]
fn one_alone_has_a_transaction_of_his_own() {
    let folder = Folder::new();
    let broker = folder.open();
    (0..10).for_each(|_| drop(broker.enqueue(&[job()]).unwrap()));
    assert_eq!(transactions(&broker), 10);
}

#[test]
fn threads_that_come_and_go_are_all_answered() {
    let folder = Folder::new();
    let broker = folder.open();
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                for _ in 0..20 {
                    broker.enqueue(&[job()]).unwrap();
                    let claims = broker.claim(&ClaimRequest::new(1, MINUTE)).unwrap();
                    let jobs = claims.jobs.into_iter();
                    let ends: Vec<_> = jobs.map(|job| (job.lease, done())).collect();
                    assert!(settle(&broker, &ends).into_iter().all(|there| there));
                }
            });
        }
    });
    let stats = broker.stats().unwrap();
    assert_eq!(
        (stats.enqueued, stats.done, stats.ready, stats.running),
        (160, 160, 0, 0)
    );
    audit(&folder, &broker);
}

#[test]
fn an_error_undoes_only_its_own_operation() {
    let folder = Folder::new();
    let broker = folder.open();
    let good = |broker: &SqliteBroker| broker.enqueue(&[job()]).map(drop);
    let bad = |broker: &SqliteBroker| {
        broker.write(|tx| {
            let _ = enqueue::enqueue(tx, &jobs(3))?;
            Err(rusqlite::Error::InvalidQuery)
        })
    };
    let mut calls: Vec<Call<Result<(), QueueError>>> = Vec::new();
    for _ in 0..3 {
        calls.push(Box::new(good));
        calls.push(Box::new(bad));
    }
    let ended = together(&broker, calls);
    for (place, end) in ended.into_iter().enumerate() {
        assert_eq!(end.is_err(), place % 2 == 1, "{end:?}");
    }
    assert_eq!(broker.stats().unwrap().ready, 3);
    audit(&folder, &broker);
    // Alone as well.
    assert!(matches!(bad(&broker), Err(QueueError::Broker(_))));
    assert_eq!(broker.stats().unwrap().enqueued, 3);
}

#[test]
fn a_panic_goes_to_whose_it_is_and_the_others_go_on() {
    let folder = Folder::new();
    let broker = folder.open();
    let good = |broker: &SqliteBroker| broker.enqueue(&[job()]).is_ok();
    let bad = |broker: &SqliteBroker| {
        let panics = || broker.write(|_| -> rusqlite::Result<()> { panic!("on purpose") });
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_ok()
    };
    let calls: Vec<Call<bool>> = vec![
        Box::new(good),
        Box::new(bad),
        Box::new(good),
        Box::new(bad),
        Box::new(good),
    ];
    assert_eq!(together(&broker, calls), [true, false, true, false, true]);
    assert!(!bad(&broker));
    assert!(good(&broker));
    assert_eq!(broker.stats().unwrap().ready, 4);
}

#[test]
fn a_full_disk_is_an_error_for_all_and_no_more() {
    let folder = Folder::new();
    let broker = folder.open();
    broker.enqueue(&[job()]).unwrap();
    let limit = |pages: i64| {
        let writer = broker.store.group.hold();
        writer
            .as_ref()
            .unwrap()
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
            .unwrap();
    };
    limit(1);
    let enqueue = |broker: &SqliteBroker| {
        broker
            .enqueue(&[NewJob::new("big", vec![b'x'; 100_000])])
            .map(drop)
    };
    let calls: Vec<Call<Result<(), QueueError>>> =
        (0..4).map(|_| Box::new(enqueue) as Box<_>).collect();
    for end in together(&broker, calls) {
        let QueueError::Broker(source) = end.unwrap_err() else {
            panic!("a full disk is the broker's failure");
        };
        assert!(source.to_string().contains("full"), "{source}");
    }
    assert_eq!(broker.stats().unwrap().enqueued, 1);
    assert_eq!(
        broker
            .claim(&ClaimRequest::new(10, MINUTE))
            .unwrap()
            .jobs
            .len(),
        1,
        "what needs no room goes on"
    );
    limit(1_000_000);
    enqueue(&broker).unwrap();
    audit(&folder, &broker);
}

#[test]
fn one_who_keeps_the_file_makes_others_wait_and_not_for_ever() {
    let folder = Folder::new();
    let broker = folder.open();
    let other = folder.connect();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(
        broker
            .store
            .group
            .run_now(&broker.queue_ref(), |_| Ok(()))
            .is_some_and(|end| matches!(end, Err(QueueError::Busy)))
    );
    assert_eq!(broker.stats().unwrap().ready, 0, "who reads does not wait");
    thread::scope(|scope| {
        let enqueue = scope.spawn(|| broker.enqueue(&[job()]));
        other.execute_batch("COMMIT").unwrap();
        let enqueued = enqueue.join().unwrap().unwrap();
        assert!(enqueued[0].as_ref().unwrap().is_added());
    });
}

#[test]
fn queues_of_a_file_share_a_transaction_and_each_is_woken_for_its_own() {
    let folder = Folder::new();
    let clock = Clock::manual();
    let one = folder.open_with(&clock);
    let two = SqliteBroker::open(folder.file(), "another", clock.clone()).unwrap();
    let woken = [Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0))];
    let _subscriptions = [(&one, &woken[0]), (&two, &woken[1])].map(|(broker, woken)| {
        let woken = Arc::clone(woken);
        let wake = move |_| {
            woken.fetch_add(1, Ordering::Relaxed);
        };
        broker
            .subscribe(Listener::new(Duration::MAX, wake))
            .unwrap()
    });
    let before = transactions(&one);
    let writer = one.store.group.hold();
    thread::scope(|scope| {
        // Each fails or succeeds for itself, whichever queue it is of.
        let bad = scope.spawn(|| {
            one.write(|tx| {
                let _ = enqueue::enqueue(tx, &jobs(3))?;
                Err::<(), _>(rusqlite::Error::InvalidQuery)
            })
        });
        let good = scope.spawn(|| two.enqueue(&jobs(2)));
        let limited = scope.spawn(|| {
            one.set_limits(Limits {
                running: Some(7),
                ..Limits::default()
            })
        });
        while two.store.group.waiting() < 2 {
            thread::yield_now();
        }
        drop(writer);
        assert!(bad.join().unwrap().is_err());
        good.join().unwrap().unwrap();
        limited.join().unwrap().unwrap();
    });
    assert_eq!(transactions(&two) - before, 1);
    assert_eq!(
        (one.stats().unwrap().ready, two.stats().unwrap().ready),
        (0, 2)
    );
    assert_eq!(one.limits().unwrap().running, Some(7));
    assert_eq!(two.limits().unwrap().running, None);
    assert_eq!(woken[1].load(Ordering::Relaxed), 1);
    audit(&folder, &one);
    audit(&folder, &two);
}

#[test]
fn a_heartbeat_is_answered_before_all_who_wait_in_line() {
    let folder = Folder::new();
    let broker = folder.open();
    broker.enqueue(&jobs(1)).unwrap();
    let lease = claim_one(&broker);
    let before = transactions(&broker);
    let writer = broker.store.group.hold();
    let (answer, answered) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        // Long, and first in line.
        let long = scope.spawn(|| {
            broker.write(move |_| {
                let answer = answered.recv_timeout(MINUTE);
                Ok(answer.expect("the heartbeat was not kept waiting"))
            })
        });
        while !broker.store.group.has_leader() || broker.store.group.waiting() > 0 {
            thread::yield_now();
        }
        let rest = scope.spawn(|| broker.enqueue(&jobs(2)));
        while broker.store.group.waiting() < 1 {
            thread::yield_now();
        }
        scope.spawn(|| answer.send(extend(&broker, &[lease])));
        while broker.store.group.waiting() < 2 {
            thread::yield_now();
        }
        drop(writer);
        assert_eq!(long.join().unwrap().unwrap(), [true]);
        rest.join().unwrap().unwrap();
    });
    assert_eq!(transactions(&broker) - before, 2, "others share as before");
    assert_eq!(broker.stats().unwrap().ready, 2);
}

/// As if it had to do with a million jobs.
fn take_long(broker: &SqliteBroker, clock: &Clock, time: Duration) {
    let clock = clock.clone();
    broker
        .write(move |_| {
            clock.advance(time);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_transaction_that_takes_long_ends_no_lease_that_nobody_could_extend() {
    let folder = Folder::new();
    let clock = Clock::manual();
    let one = folder.open_with(&clock);
    let two = SqliteBroker::open(folder.file(), "another", clock.clone()).unwrap();
    let kept = [&one, &two].map(|broker| {
        broker.enqueue(&jobs(1)).unwrap();
        (broker, claim_one(broker))
    });
    one.enqueue(&jobs(1)).unwrap();
    let second = ClaimRequest::new(1, Duration::from_secs(1));
    let over = lease_of(&one.claim(&second).unwrap());
    clock.advance(Duration::from_secs(2));
    take_long(&one, &clock, MINUTE * 5);
    let copy_of = one.claim(&ClaimRequest::new(9, MINUTE)).unwrap();
    assert_eq!(ids(&copy_of), [over.id()], "that one was over before");
    assert!(
        two.claim(&ClaimRequest::new(9, MINUTE))
            .unwrap()
            .jobs
            .is_empty()
    );
    // Not for longer than that.
    clock.advance(Duration::from_secs(57));
    for (broker, _) in &kept {
        assert!(
            broker
                .claim(&ClaimRequest::new(9, MINUTE))
                .unwrap()
                .jobs
                .is_empty()
        );
    }
    assert_eq!(settle(&one, &[(kept[0].1.clone(), done())]), [true]);
    clock.advance(Duration::from_secs(1));
    assert_eq!(
        ids(&two.claim(&ClaimRequest::new(9, MINUTE)).unwrap()),
        [kept[1].1.id()]
    );
}

#[test]
fn a_short_transaction_prolongs_nothing() {
    let folder = Folder::new();
    let clock = Clock::manual();
    let broker = folder.open_with(&clock);
    broker.enqueue(&jobs(1)).unwrap();
    broker.claim(&ClaimRequest::new(1, MINUTE)).unwrap();
    for _ in 0..1_200 {
        take_long(&broker, &clock, Duration::from_millis(50));
    }
    assert_eq!(
        broker
            .claim(&ClaimRequest::new(1, MINUTE))
            .unwrap()
            .jobs
            .len(),
        1
    );
}
