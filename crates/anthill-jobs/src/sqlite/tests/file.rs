//! The file: new, damaged, shared with other queues and with transactions of its owner.

use super::*;
use std::slice;

#[test]
fn a_torn_file_is_told_and_never_a_new_queue() {
    let folder = Folder::new();
    let broker = folder.open();
    let big = NewJob::new("kind", vec![b'x'; 2_000]);
    let many: Vec<NewJob> = (0..500)
        .map(|_| NewJob {
            id: JobId::new(),
            ..big.clone()
        })
        .collect();
    broker.enqueue(&many).unwrap();
    drop(broker);
    let whole = std::fs::read(folder.file()).unwrap();
    for length in [
        2,
        99,
        600,
        4_096,
        5_000,
        50_000,
        whole.len() / 2,
        whole.len() - 4_096,
        whole.len() - 1,
    ] {
        std::fs::write(folder.file(), &whole[..length]).unwrap();
        let opened = SqliteBroker::open(folder.file(), "q", Clock::manual());
        let error = match opened {
            Err(error) => error,
            Ok(broker) => broker
                .claim(&ClaimRequest::new(1_000, MINUTE))
                .map(|_| length)
                .unwrap_err(),
        };
        assert!(
            matches!(error, QueueError::Corrupt(_)),
            "{length}: {error:?}"
        );
    }
    // Or somebody else's bytes are in it.
    let mut overwritten = whole.clone();
    overwritten[20_000..whole.len() - 8_192].fill(0xA5);
    std::fs::write(folder.file(), &overwritten).unwrap();
    let claimed = SqliteBroker::open(folder.file(), "q", Clock::manual())
        .and_then(|broker| broker.claim(&ClaimRequest::new(1_000, MINUTE)));
    assert!(matches!(claimed, Err(QueueError::Corrupt(_))));
    std::fs::write(
        folder.file(),
        "this is a letter and no database\n".repeat(100),
    )
    .unwrap();
    let opened = SqliteBroker::open(folder.file(), "q", Clock::manual());
    assert!(matches!(opened, Err(QueueError::Corrupt(_))));
}

#[test]
fn an_emptied_file_with_a_log_is_no_new_queue() {
    let folder = Folder::new();
    let broker = folder.open();
    broker.enqueue(&[job()]).unwrap();
    let log = folder.0.path().join("jobs.db-wal");
    let copy = Folder::new();
    std::fs::copy(log, copy.0.path().join("jobs.db-wal")).unwrap();
    std::fs::write(copy.file(), b"").unwrap();
    let opened = SqliteBroker::open(copy.file(), "q", Clock::manual());
    assert!(matches!(opened, Err(QueueError::Corrupt(_))));
}

#[test]
fn a_torn_log_is_a_queue_up_to_there() {
    let folder = Folder::new();
    let broker = folder.open();
    (0..100).for_each(|_| drop(broker.enqueue(&[job()]).unwrap()));
    let log = std::fs::read(folder.0.path().join("jobs.db-wal")).unwrap();
    let file = std::fs::read(folder.file()).unwrap();
    let copy = Folder::new();
    for length in [0, 100, log.len() / 2, log.len() - 10] {
        std::fs::write(copy.file(), &file).unwrap();
        std::fs::write(copy.0.path().join("jobs.db-wal"), &log[..length]).unwrap();
        let broker = copy.open();
        assert!(broker.stats().unwrap().ready < 100);
        broker.enqueue(&[job()]).unwrap();
        audit(&copy, &broker);
    }
}

#[test]
fn tables_of_another_version_are_left_alone() {
    for (change, says) in [
        ("UPDATE anthill_schema SET version = 0", "never existed"),
        ("DELETE FROM anthill_schema", "have no version"),
        ("DROP INDEX anthill_ready", "tables and indexes"),
    ] {
        let folder = Folder::new();
        drop(folder.open());
        folder.connect().execute_batch(change).unwrap();
        let opened = SqliteBroker::open(folder.file(), "q", Clock::manual());
        let Err(QueueError::Corrupt(why)) = opened else {
            panic!("{change}");
        };
        assert!(why.contains(says), "{why}");
    }
}

#[test]
fn what_can_keep_no_log_is_no_address() {
    for path in [":memory:", ""] {
        let opened = SqliteBroker::open(path, "q", Clock::manual());
        assert!(
            matches!(opened, Err(QueueError::Address { .. })),
            "{path}: {opened:?}"
        );
    }
}

#[test]
fn a_folder_that_is_missing_is_named() {
    let folder = Folder::new();
    let missing = folder.0.path().join("no").join("such");
    let text = folder.0.path().join("text");
    std::fs::write(&text, "").unwrap();
    for (path, says) in [
        (missing.join("jobs.db"), missing.parent().unwrap()),
        (text.join("jobs.db"), &text),
        (folder.0.path().to_owned(), folder.0.path()),
    ] {
        let opened = SqliteBroker::open(&path, "q", Clock::manual());
        let Err(QueueError::Address { address, reason }) = opened else {
            panic!("{opened:?}");
        };
        let told = format!("{address}: {reason}");
        assert!(told.contains(&format!("{}", says.display())), "{told}");
        assert!(reason.contains("folder"), "{reason}");
    }
}

#[test]
fn many_may_open_a_new_file_at_once() {
    let folder = Folder::new();
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                let broker = folder.open();
                broker.enqueue(&[job()]).unwrap();
            });
        }
    });
    assert_eq!(folder.open().stats().unwrap().ready, 8);
}

#[test]
fn queues_in_one_file_know_nothing_of_each_other() {
    let folder = Folder::new();
    let clock = Clock::manual();
    let one = folder.open_with(&clock);
    let two = SqliteBroker::open(folder.file(), "another", clock.clone()).unwrap();
    let unique = "u".to_owned();
    let shared = NewJob {
        unique: Some(unique),
        ..job()
    };
    assert!(one.enqueue(slice::from_ref(&shared)).unwrap()[0].is_added());
    assert!(two.enqueue(slice::from_ref(&shared)).unwrap()[0].is_added());
    two.set_paused(true).unwrap();
    two.set_limits(Limits {
        running: Some(7),
        ..Limits::default()
    })
    .unwrap();
    assert_eq!(one.limits().unwrap(), Limits::default());
    let claims = one.claim(&ClaimRequest::new(10, MINUTE)).unwrap();
    assert_eq!(ids(&claims), [shared.id]);
    assert_eq!(
        two.settle(&[(claims.jobs[0].lease, done())]).unwrap(),
        [false]
    );
    assert_eq!(two.purge(&[JobState::Ready]).unwrap(), 1);
    assert_eq!(
        one.get(shared.id).unwrap().unwrap().state,
        JobState::Running
    );
    audit(&folder, &one);
    audit(&folder, &two);
}

#[test]
fn brokers_on_one_file_see_that_it_has_changed() {
    let folder = Folder::new();
    let (one, two) = (folder.open(), folder.open());
    // The first transaction on a host notes that it is this one.
    one.claim(&ClaimRequest::new(1, MINUTE)).unwrap();
    let mut seen = 0;
    two.has_changed(&mut seen).unwrap();
    assert!(!two.has_changed(&mut seen).unwrap());
    one.claim(&ClaimRequest::new(1, MINUTE)).unwrap();
    one.stats().unwrap();
    assert!(
        !two.has_changed(&mut seen).unwrap(),
        "what found nothing changed nothing"
    );
    one.enqueue(&[job()]).unwrap();
    assert!(two.has_changed(&mut seen).unwrap());
    assert!(!two.has_changed(&mut seen).unwrap());
    assert_eq!(
        two.claim(&ClaimRequest::new(1, MINUTE)).unwrap().jobs.len(),
        1
    );
    assert_eq!(
        one.claim(&ClaimRequest::new(1, MINUTE)).unwrap().jobs.len(),
        0
    );
}

#[test]
fn jobs_go_with_the_users_transaction_and_not_without_it() {
    let folder = Folder::new();
    let broker = folder.open();
    let mut user = folder.connect();
    user.execute_batch("CREATE TABLE orders (what TEXT) STRICT")
        .unwrap();
    let order = user.transaction().unwrap();
    broker.enqueue_in(&order, &jobs(3)).unwrap();
    order
        .execute("INSERT INTO orders VALUES ('ants')", [])
        .unwrap();
    assert_eq!(broker.stats().unwrap().ready, 0);
    order.rollback().unwrap();
    assert_eq!(broker.stats().unwrap().enqueued, 0);
    let mut seen = 0;
    broker.has_changed(&mut seen).unwrap();
    let order = user.transaction().unwrap();
    let one = job();
    assert!(broker.enqueue_in(&order, slice::from_ref(&one)).unwrap()[0].is_added());
    assert_eq!(
        broker.enqueue_in(&order, &[one.clone(), job()]).unwrap()[0],
        Enqueued::Duplicate(one.id)
    );
    order.commit().unwrap();
    assert_eq!(broker.stats().unwrap().ready, 2);
    assert!(broker.has_changed(&mut seen).unwrap());
    // Without one it is one of its own.
    broker.enqueue_in(&user, &jobs(2)).unwrap();
    assert!(user.is_autocommit());
    assert_eq!(broker.stats().unwrap().ready, 4);
    audit(&folder, &broker);

    let elsewhere = Folder::new();
    drop(elsewhere.open());
    let refused = broker.enqueue_in(&elsewhere.connect(), &jobs(1));
    assert!(matches!(refused, Err(QueueError::Address { .. })));
}

#[test]
fn a_users_transaction_that_is_late_is_told_and_adds_nothing() {
    let folder = Folder::new();
    let broker = folder.open();
    let user = folder.connect();
    user.busy_timeout(Duration::ZERO).unwrap();
    user.execute_batch("BEGIN").unwrap();
    user.query_row("SELECT count(*) FROM anthill_jobs", [], |_| Ok(()))
        .unwrap();
    broker.enqueue(&[job()]).unwrap();
    assert!(matches!(
        broker.enqueue_in(&user, &jobs(2)),
        Err(QueueError::Busy)
    ));
    user.execute_batch("COMMIT").unwrap();
    assert_eq!(broker.stats().unwrap().enqueued, 1);
}

#[test]
fn a_long_log_is_written_back_and_begun_anew() {
    let folder = Folder::new();
    let broker = folder.open();
    let log = folder.0.path().join("jobs.db-wal");
    let large = || NewJob::new("kind", vec![b'x'; 200_000]);
    let mut longest = 0;
    for _ in 0..60 {
        broker.enqueue(&[large()]).unwrap();
        longest = longest.max(log.metadata().unwrap().len());
    }
    // Twelve megabytes went through it, and four or so are a thousand pages.
    assert!(longest < 6 << 20, "{longest}");
    assert!(folder.file().metadata().unwrap().len() > 6 << 20);
    audit(&folder, &broker);
}
