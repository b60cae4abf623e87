//! Jobs enqueued and settled in transactions of the caller's: by both clients, and by any client through the function
//! `anthill.enqueue`.

mod support;

use anthill_jobs::broker::{Admin, LimitStore};
use anthill_jobs::{Enqueued, Job, JobState, Limits, OncePer, QueueError, Settled};
use anthill_postgres::postgres::{IsolationLevel, Transaction};
use anthill_postgres::{PostgresBroker, PostgresQueue, tokio_postgres};
use anthill_test_support::postgres;
use anthill_test_support::{skip_unless, watchdog};
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::{claim, client, done, ear, enqueue, fresh, job, jobs, names, open, stats};

#[derive(Serialize, Deserialize)]
struct Welcome {
    user: i64,
}

impl Job for Welcome {
    const KIND: &'static str = "welcome";
}

#[test]
fn a_row_and_its_job_are_there_together_or_not_at_all() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let queue = anthill_postgres::open(&address).unwrap();
    let broker = open(&address);
    let mut app = client(&address);
    app.batch_execute("CREATE TABLE users (name text)").unwrap();
    for commits in [false, true] {
        let mut transaction = app.transaction().unwrap();
        transaction
            .execute("INSERT INTO users VALUES ('Ada')", &[])
            .unwrap();
        queue
            .enqueue_in(&mut transaction, Welcome { user: 7 })
            .unwrap();
        assert_eq!(stats(&broker).ready, 0, "nobody sees it yet");
        if commits {
            transaction.commit().unwrap();
        } else {
            transaction.rollback().unwrap();
        }
        let users: i64 = app
            .query_one("SELECT count(*) FROM users", &[])
            .unwrap()
            .get(0);
        let here = u64::from(commits);
        assert_eq!((users.unsigned_abs(), stats(&broker).ready), (here, here));
        assert_eq!(stats(&broker).enqueued, here);
    }
}

#[test]
fn whether_a_commit_waits_for_the_disk_is_left_to_whose_transaction_it_is() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let broker = open(&address);
    enqueue(&broker, &[job("first")]);
    let first = claim(&broker, 1).remove(0);
    let mut app = client(&address);
    app.batch_execute("SET synchronous_commit = off").unwrap();
    let mut transaction = app.transaction().unwrap();
    broker
        .enqueue_in(&mut transaction, &[job("second")])
        .unwrap();
    broker.settle_in(&mut transaction, &[done(&first)]).unwrap();
    let shown = transaction
        .query_one("SHOW synchronous_commit", &[])
        .unwrap();
    assert_eq!(shown.get::<_, String>(0), "off");
}

/// What the transaction does before and after goes on, whatever the answer is.
#[test]
fn duplicates_and_a_full_queue_are_answers_in_a_transaction_that_goes_on() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let broker = open(&address);
    let there = job("there");
    let mut unique = job("unique");
    unique.unique = Some("k".to_owned());
    enqueue(&broker, &[there.clone(), unique.clone()]);
    broker
        .set_limits(Limits {
            max_ready: Some(3),
            ..Limits::default()
        })
        .unwrap();
    let mut app = client(&address);
    let mut transaction = app.transaction().unwrap();
    let mut again = job("again");
    again.unique = Some("k".to_owned());
    let new = job("new");
    let answers = broker
        .enqueue_in(&mut transaction, &[there.clone(), new.clone(), again])
        .unwrap();
    assert_eq!(
        answers,
        [
            Enqueued::Duplicate(there.id),
            Enqueued::Added(new.id),
            Enqueued::Duplicate(unique.id)
        ]
    );
    let full = broker.enqueue_in(&mut transaction, &[job("one too many")]);
    assert!(
        matches!(full, Err(QueueError::Full { limit: 3 })),
        "{full:?}"
    );
    assert!(broker.enqueue_in(&mut transaction, &[]).unwrap().is_empty());
    transaction.commit().unwrap();
    assert_eq!((stats(&broker).ready, stats(&broker).duplicates), (3, 2));
    assert_eq!(names(&claim(&broker, 9)), ["there", "unique", "new"]);
}

#[test]
fn the_isolation_level_of_the_transaction_is_the_callers() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let broker = open(&address);
    let mut app = client(&address);
    for level in [IsolationLevel::RepeatableRead, IsolationLevel::Serializable] {
        let mut transaction = app
            .build_transaction()
            .isolation_level(level)
            .start()
            .unwrap();
        let mut unique = job("a");
        unique.unique = Some(format!("{level:?}"));
        broker
            .enqueue_in(&mut transaction, &[unique, job("b")])
            .unwrap();
        transaction.commit().unwrap();
    }
    assert_eq!(stats(&broker).ready, 4);
}

#[test]
fn a_transaction_of_another_database_is_refused() {
    let server = skip_unless!(postgres::shared());
    let (here, there) = (fresh(server), fresh(server));
    let (broker, other) = (open(&here), open(&there));
    let mut app = client(&there);
    let mut transaction = app.transaction().unwrap();
    let refused = broker.enqueue_in(&mut transaction, &[job("lost?")]);
    assert!(
        matches!(refused, Err(QueueError::Address { .. })),
        "{refused:?}"
    );
    drop(transaction);
    // Where there are no such tables either.
    let mut app = client(&server.url());
    let mut transaction = app.transaction().unwrap();
    assert!(
        broker
            .enqueue_in(&mut transaction, &[job("lost?")])
            .is_err()
    );
    assert_eq!((stats(&broker).ready, stats(&other).ready), (0, 0));
}

/// Also by other processes, when it commits and not before.
#[test]
fn a_commit_is_heard() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let broker = open(&address);
    // No poll comes in that time but one.
    let (heard, _subscription) = ear(&broker, Duration::from_secs(3600));
    anthill_test_support::eventually("it listens", || heard.load(Ordering::SeqCst) == 1);
    let mut app = client(&address);
    let mut transaction = app.transaction().unwrap();
    broker.enqueue_in(&mut transaction, &jobs(3)).unwrap();
    assert_eq!(heard.load(Ordering::SeqCst), 1, "before the commit");
    transaction.commit().unwrap();
    anthill_test_support::eventually("the commit is heard", || heard.load(Ordering::SeqCst) == 2);
    app.execute("SELECT anthill.enqueue('default', 'test', '1')", &[])
        .unwrap();
    anthill_test_support::eventually("SQL is heard", || heard.load(Ordering::SeqCst) == 3);
}

// ── settlements ─────────────────────────────────────────────────────────────────────────────

#[test]
fn what_a_handler_did_and_the_end_of_its_job_happen_together() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let broker = open(&address);
    enqueue(&broker, &[job("a")]);
    let mut app = client(&address);
    app.batch_execute("CREATE TABLE effects (what text)")
        .unwrap();
    let claimed = claim(&broker, 1);
    for commits in [false, true] {
        let mut transaction = app.transaction().unwrap();
        transaction
            .execute("INSERT INTO effects VALUES ('a')", &[])
            .unwrap();
        let settled = broker
            .settle_in(&mut transaction, &[done(&claimed[0])])
            .unwrap();
        assert_eq!(settled, [Settled::Stored]);
        if commits {
            transaction.commit().unwrap();
        } else {
            transaction.rollback().unwrap();
            assert_eq!(stats(&broker).running, 1);
        }
    }
    let effects: i64 = app
        .query_one("SELECT count(*) FROM effects", &[])
        .unwrap()
        .get(0);
    assert_eq!((effects, stats(&broker).done), (1, 1));
    // Nobody settles it again.
    let mut transaction = app.transaction().unwrap();
    let again = broker
        .settle_in(&mut transaction, &[done(&claimed[0])])
        .unwrap();
    assert_eq!(again, [Settled::Lost]);
}

// ── others do not wait ──────────────────────────────────────────────────────────────────────

/// While it is open consumers claim and settle jobs with the same keys, and park those that have no room.
#[test]
fn nobody_waits_for_an_open_transaction() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let broker = open(&address);
    let per_key = Some(1);
    let limits = Limits {
        per_key,
        ..Limits::default()
    };
    broker.set_limits(limits).unwrap();
    let keyed = |name: &str| {
        let mut job = job(name);
        job.key = Some("k".to_owned());
        job
    };
    enqueue(&broker, &[keyed("1"), keyed("2")]);
    let mut app = client(&address);
    let mut transaction = app.transaction().unwrap();
    let within = [keyed("3"), keyed("4"), job("plain")];
    broker.enqueue_in(&mut transaction, &within).unwrap();
    let broker = watchdog("two jobs run", move || {
        for name in ["1", "2"] {
            let claimed = claim(&broker, 9);
            assert_eq!(names(&claimed), [name]);
            assert_eq!(support::finish(&broker, &claimed), 1);
        }
        assert!(claim(&broker, 9).is_empty());
        broker
    });
    transaction.commit().unwrap();
    // The next claims see to it that no more run than may.
    let first = claim(&broker, 9);
    assert_eq!(names(&first), ["3", "plain"]);
    assert_eq!(stats(&broker).parked, 1);
    assert!(claim(&broker, 9).is_empty());
    assert_eq!(support::finish(&broker, &first), 2);
    assert_eq!(names(&claim(&broker, 9)), ["4"]);
}

/// A transaction that takes long is not seen by those who look meanwhile, and is found when it commits, though what others
/// enqueued later has run.
#[test]
fn a_job_of_a_transaction_that_commits_late_is_found_at_once() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let broker = open(&address);
    let mut app = client(&address);
    let mut transaction = app.transaction().unwrap();
    broker.enqueue_in(&mut transaction, &[job("late")]).unwrap();
    for _ in 0..20 {
        enqueue(&broker, &jobs(5));
        let claimed = claim(&broker, 5);
        assert_eq!(support::finish(&broker, &claimed), 5);
    }
    transaction.commit().unwrap();
    assert_eq!(names(&claim(&broker, 5)), ["late"]);
}

/// A parked job whose lock another transaction held when its turn came is not forgotten.
#[test]
fn a_parked_job_that_was_locked_when_there_was_room_comes_all_the_same() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let broker = open(&address);
    let limits = Limits {
        per_key: Some(1),
        ..Limits::default()
    };
    broker.set_limits(limits).unwrap();
    let mut both = jobs(2);
    for job in &mut both {
        job.key = Some("k".to_owned());
    }
    enqueue(&broker, &both);
    let first = claim(&broker, 9);
    assert_eq!(names(&first), ["0"]);
    let mut app = client(&address);
    let mut transaction = app.transaction().unwrap();
    let id = both[1].id.to_string();
    let lock = format!("SELECT 1 FROM anthill.jobs WHERE id = '{id}' FOR UPDATE");
    transaction.execute(&lock, &[]).unwrap();
    assert_eq!(support::finish(&broker, &first), 1);
    assert_eq!(stats(&broker).parked, 1, "it is locked");
    transaction.rollback().unwrap();
    anthill_test_support::eventually("it is claimed", || !claim(&broker, 9).is_empty());
}

// ── SQL ─────────────────────────────────────────────────────────────────────────────────────

fn call(transaction: &mut Transaction<'_>, arguments: &str) -> String {
    let call = format!("SELECT anthill.enqueue({arguments})::text");
    transaction
        .query_one(&call, &[])
        .expect("it is enqueued")
        .get(0)
}

#[test]
fn any_client_enqueues_by_the_function() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let broker = open(&address);
    let mut app = client(&address);
    let mut transaction = app.transaction().unwrap();
    let plain = call(&mut transaction, "'default', 'test', '{\"a\": 1}'");
    let rich = call(
        &mut transaction,
        "queue => 'default', kind => 'test', payload => '2', priority => 5::smallint, delay => '1 hour', attempts => 3,
         expires => '2 hours', unique_key => 'u', once_key => 'o', once_period => '1 day', key => 'k',
         keep_result => '3 minutes', headers => '{\"trace\": \"7\"}'",
    );
    let again = call(
        &mut transaction,
        "'default', 'test', '3', unique_key => 'u'",
    );
    assert_eq!(again, rich);
    let same = format!("'default', 'test', '4', id => '{plain}'");
    assert_eq!(call(&mut transaction, &same), plain);
    let debounced =
        "'default', 'test', '5', unique_key => 'u', debounce => true, delay => '1 minute'";
    assert_eq!(call(&mut transaction, debounced), rich);
    transaction.commit().unwrap();
    assert_eq!((stats(&broker).enqueued, stats(&broker).duplicates), (2, 3));
    let info = broker.get(plain.parse().unwrap()).unwrap().unwrap();
    assert_eq!(
        (info.state, &info.payload[..]),
        (JobState::Ready, &b"{\"a\": 1}"[..])
    );
    assert_eq!((info.priority, info.attempts), (0, 26));
    let info = broker.get(rich.parse().unwrap()).unwrap().unwrap();
    assert_eq!(
        (info.state, &info.payload[..]),
        (JobState::Delayed, &b"5"[..])
    );
    assert_eq!((info.priority, info.attempts), (5, 3));
    assert_eq!(
        (info.key.as_deref(), info.unique.as_deref()),
        (Some("k"), Some("u"))
    );
    assert_eq!(info.keep_result, Some(Duration::from_secs(180)));
    assert_eq!(info.headers["trace"], "7");
    assert!(info.due_in.unwrap() <= Duration::from_secs(60));
    assert!(info.expires_in.unwrap() > Duration::from_secs(7000));
    let mut other = job("other");
    let period = Duration::from_secs(1);
    other.once_per = Some(OncePer {
        key: "o".to_owned(),
        period,
    });
    assert!(!enqueue(&broker, &[other])[0].is_added());
}

#[test]
fn the_function_refuses_what_makes_no_sense() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let broker = open(&address);
    let mut app = client(&address);
    let limits = Limits {
        max_ready: Some(0),
        ..Limits::default()
    };
    broker.set_limits(limits).unwrap();
    for (arguments, code) in [
        ("'nobody', 'test', '1'", "AH002"),
        ("'default', 'test', '1'", "AH001"),
        ("'default', 'test', 'no JSON'", "22P02"),
        ("'default', NULL, '1'", "22004"),
        ("'default', 'test', '1', once_key => 'o'", "22004"),
        ("'default', 'test', '1', headers => '[1]'", "22023"),
        ("'default', 'test', '1', headers => '{\"a\": 1}'", "22023"),
        ("'default', repeat('k', 1001), '1'", "22023"),
    ] {
        let call = format!("SELECT anthill.enqueue({arguments})");
        let error = app.execute(&call, &[]).expect_err(arguments);
        let told = error.code().map(|code| code.code().to_owned());
        assert_eq!(told.as_deref(), Some(code), "{arguments}: {error:?}");
    }
    assert_eq!(stats(&broker).enqueued, 0);
}

// ── async ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn the_async_client_has_the_same() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let queue = anthill_postgres::open(&address).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (mut app, connection) = tokio_postgres::connect(&address, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let broker: &PostgresBroker = queue.postgres().unwrap();
        let transaction = app.transaction().await.unwrap();
        queue
            .enqueue_in_async(&transaction, &Welcome { user: 1 })
            .await
            .unwrap();
        broker
            .enqueue_in_async(&transaction, &[job("a")])
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        let claimed = claim(broker, 1);
        let transaction = app.transaction().await.unwrap();
        let settled = broker
            .settle_in_async(&transaction, &[done(&claimed[0])])
            .await
            .unwrap();
        assert_eq!(settled, [Settled::Stored]);
        transaction.commit().await.unwrap();
        assert_eq!((stats(broker).ready, stats(broker).done), (1, 1));
    });
}

#[test]
fn a_queue_that_is_not_in_postgres_is_refused() {
    let server = skip_unless!(postgres::shared());
    let queue = anthill_jobs::Queue::memory();
    assert!(matches!(
        queue.postgres(),
        Err(QueueError::Unsupported { .. })
    ));
    let mut app = client(&fresh(server));
    let mut transaction = app.transaction().unwrap();
    let refused = queue.enqueue_in(&mut transaction, Welcome { user: 1 });
    let refused = refused.unwrap_err();
    assert!(matches!(refused.reason(), QueueError::Unsupported { .. }));
    assert_eq!(refused.into_inner().user, 1, "the job comes back");
}
