//! The file: new, damaged, shared with other queues and with transactions of its owner.

use super::*;
use crate::broker::{ConsumerRegistry, ScheduleStore};
use crate::sqlite::watch::Seen;
use crate::{ConsumerInfo, Scheduled};

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
    for _ in 0..100 {
        add(&broker, &job());
    }
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
    assert!(add(&one, &shared).is_added());
    assert!(add(&two, &shared).is_added());
    two.set_paused(true).unwrap();
    two.set_limits(Limits {
        running: Some(7),
        ..Limits::default()
    })
    .unwrap();
    assert_eq!(one.limits().unwrap(), Limits::default());
    let claims = one.claim(&ClaimRequest::new(10, MINUTE)).unwrap();
    assert_eq!(ids(&claims), [shared.id]);
    assert_eq!(settle(&two, &[(lease_of(&claims), done())]), [false]);
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
    let mut seen = Seen::default();
    let mut has_changed = || !two.store.changed(&mut seen).unwrap().is_empty();
    has_changed();
    assert!(!has_changed());
    one.claim(&ClaimRequest::new(1, MINUTE)).unwrap();
    one.stats().unwrap();
    assert!(!has_changed(), "what found nothing changed nothing");
    one.enqueue(&[job()]).unwrap();
    assert!(has_changed());
    assert!(!has_changed());
    assert_eq!(
        two.claim(&ClaimRequest::new(1, MINUTE)).unwrap().jobs.len(),
        1
    );
    assert_eq!(
        one.claim(&ClaimRequest::new(1, MINUTE)).unwrap().jobs.len(),
        0
    );
}

/// However seldom the listener wants to look.
#[cfg(target_os = "linux")]
#[test]
fn what_another_process_commits_is_heard_at_once() {
    let folder = Folder::new();
    // Of another process, as it has another clock.
    let (ours, theirs) = (folder.open(), folder.open_with(&Clock::manual()));
    let (sender, heard) = std::sync::mpsc::channel();
    let listener = Listener::new(MINUTE * 60, move |change| {
        let _ = sender.send(change);
    });
    let wait = Duration::from_secs(20);
    // Also where an earlier subscription has just ended, whose thread may end later.
    for _ in 0..20 {
        let (sender, heard) = std::sync::mpsc::channel();
        let earlier = Listener::new(MINUTE * 60, move |change| {
            let _ = sender.send(change);
        });
        let earlier = ours.subscribe(earlier).unwrap();
        add(&theirs, &job());
        assert_eq!(heard.recv_timeout(wait), Ok(Change::Elsewhere));
        drop(earlier);
    }
    let _subscription = ours.subscribe(listener).unwrap();
    // One of them may be of what was before.
    for _ in 0..5 {
        add(&theirs, &job());
        assert_eq!(heard.recv_timeout(wait), Ok(Change::Elsewhere));
    }
}

/// What makes nothing claimable wakes no other process.
#[test]
fn watchers_are_told_of_what_can_be_claimed_and_of_nothing_else() {
    let folder = Folder::new();
    let clock = Clock::manual();
    let broker = folder.open_with(&clock);
    let another = SqliteBroker::open(folder.file(), "another", clock.clone()).unwrap();
    // Of another process, as it has another clock.
    let watching = folder.open();
    let delayed = NewJob {
        delay: MINUTE * 60,
        ..job()
    };
    add(&broker, &job());
    add(&broker, &delayed);
    let lease = claim_one(&broker);
    let mut seen = Seen::default();
    let mut is_told = || !watching.store.changed(&mut seen).unwrap().is_empty();
    assert!(is_told(), "of what was before");
    let mut commits = 0;
    let mut reader = Commits::new(&folder);
    let mut committed = || std::mem::replace(&mut commits, reader.version()) != commits;
    committed();

    assert_eq!(extend(&broker, std::slice::from_ref(&lease)), [true]);
    assert!(committed() && !is_told(), "of a heartbeat");
    assert!(broker.progress(&lease, b"1").unwrap());
    assert!(committed() && !is_told(), "of progress");
    let consumer = ConsumerInfo::new("one", Vec::new(), 1);
    broker.announce(&consumer, MINUTE).unwrap();
    assert!(committed() && !is_told(), "of a consumer");
    broker.withdraw("one").unwrap();
    assert!(committed() && !is_told(), "nor that it is gone");
    add(&another, &job());
    assert!(committed() && !is_told(), "of another queue's job");
    let own = "CREATE TABLE orders (what TEXT)";
    folder.connect().execute_batch(own).unwrap();
    assert!(committed() && !is_told(), "of the application's own");

    assert_eq!(broker.set_due(&[delayed.id], MINUTE).unwrap(), [true]);
    assert!(is_told(), "of a job that is due earlier");
    let schedule = Scheduled {
        name: "nightly".to_owned(),
        cron: "0 0 * * *".to_owned(),
        kind: "kind".to_owned(),
        payload: b"{}".to_vec(),
        next: 1,
        missed: crate::Missed::Once,
    };
    broker.put_schedule(&schedule).unwrap();
    assert!(is_told(), "of a schedule");
    broker.put_schedule(&schedule).unwrap();
    assert!(is_told(), "also if it is the same again");
    add(&broker, &job());
    assert!(is_told() && !is_told());
}

#[test]
fn consumers_of_before_a_boot_are_gone_and_of_other_queues_not_shown() {
    let folder = Folder::new();
    let clock = Clock::manual();
    let one = folder.open_with(&clock);
    let two = SqliteBroker::open(folder.file(), "another", clock.clone()).unwrap();
    let announce = |broker: &SqliteBroker, id| {
        let consumer = ConsumerInfo::new(id, Vec::new(), 1);
        broker.announce(&consumer, MINUTE).unwrap();
    };
    let live = |broker: &SqliteBroker| -> Vec<String> {
        let live = broker.consumers().unwrap().into_iter();
        live.map(|consumer| consumer.id).collect()
    };
    announce(&one, "a");
    announce(&two, "b");
    assert_eq!(
        (live(&one), live(&two)),
        (vec!["a".to_owned()], vec!["b".to_owned()])
    );
    clock.reboot();
    assert!(live(&one).is_empty() && live(&two).is_empty());
    announce(&one, "c");
    assert_eq!(live(&one), ["c"]);
    let stored = "SELECT count(*) FROM anthill_consumers WHERE queue = ?1";
    let stored = |broker: &SqliteBroker| -> i64 {
        let connection = folder.connect();
        connection
            .query_row(stored, [broker.queue], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(
        (stored(&one), stored(&two)),
        (1, 1),
        "each queue's own announcement removes them"
    );
}

/// Counts commits as watchers do.
struct Commits(Connection);

impl Commits {
    fn new(folder: &Folder) -> Commits {
        Commits(folder.connect())
    }

    fn version(&mut self) -> i64 {
        let version = self
            .0
            .query_row("PRAGMA data_version", [], |row| row.get(0));
        version.unwrap()
    }
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
