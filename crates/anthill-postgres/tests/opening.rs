//! How a queue is opened: by ten at once, by those who may not, and of another version.

mod support;

use anthill_jobs::broker::Admin;
use anthill_jobs::{Broker, Openers, Queue, QueueError};
use anthill_postgres::postgres::error::SqlState;
use anthill_postgres::{PostgresBroker, PostgresOpener};
use anthill_test_support::postgres::{self, Access};
use anthill_test_support::{in_child_process, skip_unless, watchdog};
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};
use support::{claim, client, enqueue, finish, fresh, job, jobs, open, stats};

const CHILD: &str = "ANTHILL_TEST_OPENS";

/// A database, its address, and that of a role in it with the given rights.
fn with_role(server: &Access, role: &str, grants: &str) -> (String, String) {
    let address = fresh(server);
    drop(open(&address));
    let mut owner = client(&address);
    let unique = format!("{role}_{}", std::process::id());
    // Roles are of the whole server.
    let made = format!(
        "DO $$ BEGIN CREATE ROLE {unique} LOGIN PASSWORD 'secret'; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    );
    owner.batch_execute(&made).expect("a role");
    let grants = grants.replace("{role}", &unique);
    owner
        .batch_execute(&grants)
        .expect("the rights are granted");
    let its = address.split_once('@').expect("an authority").1;
    (address.clone(), format!("postgres://{unique}:secret@{its}"))
}

#[test]
fn ten_threads_that_open_at_once_make_one_schema() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let barrier = Barrier::new(10);
    thread::scope(|scope| {
        for number in 0..10 {
            let (address, barrier) = (&address, &barrier);
            scope.spawn(move || {
                barrier.wait();
                let broker = PostgresBroker::builder(address).alone().open();
                let broker = broker.expect("each of them gets it");
                enqueue(&broker, &[job(number.to_string())]);
            });
        }
    });
    let broker = open(&address);
    assert_eq!(stats(&broker).ready, 10);
    let versions = "SELECT count(*) FROM anthill.versions";
    let count: i64 = client(&address).query_one(versions, &[]).unwrap().get(0);
    assert_eq!(count, 1);
}

#[test]
fn ten_processes_that_open_at_once_make_one_schema() {
    if let Ok(address) = std::env::var(CHILD) {
        let broker = open(&address);
        enqueue(&broker, &[job("of a process")]);
        return;
    }
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let own = std::env::current_exe().expect("this program");
    let start = || {
        let mut command = Command::new(&own);
        command.args(["--exact", "ten_processes_that_open_at_once_make_one_schema"]);
        command.env(CHILD, &address);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("a process")
    };
    let processes: Vec<_> = (0..10).map(|_| start()).collect();
    for process in processes {
        let output = process.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(stats(&open(&address)).ready, 10);
}

#[test]
fn who_may_only_enqueue_can_do_nothing_else() {
    let server = skip_unless!(postgres::shared());
    let (owner, producer) = with_role(server, "enqueuer", "SELECT anthill.let_enqueue('{role}')");
    let broker = open(&producer);
    let mut unique = job("a");
    unique.unique = Some("k".to_owned());
    assert!(enqueue(&broker, std::slice::from_ref(&unique))[0].is_added());
    unique.id = anthill_jobs::JobId::new();
    assert!(!enqueue(&broker, &[unique])[0].is_added());
    // Also a queue that was not there, and from SQL.
    enqueue(&open(&format!("{producer}?queue=another")), &[job("b")]);
    let mut sql = client(&producer);
    sql.execute("SELECT anthill.enqueue('default', 'test', '{}')", &[])
        .expect("it may");
    for forbidden in [
        "SELECT * FROM anthill.jobs",
        "UPDATE anthill.jobs SET state = 0",
        "DELETE FROM anthill.jobs",
        "SELECT * FROM anthill.stats(1)",
        "SELECT anthill.set_paused(1, true)",
        "SELECT anthill.let_work(current_user)",
        "CREATE TABLE anthill.mine ()",
    ] {
        let error = sql.execute(forbidden, &[]).expect_err(forbidden);
        assert_eq!(
            error.code(),
            Some(&SqlState::INSUFFICIENT_PRIVILEGE),
            "{forbidden}"
        );
    }
    let refused = |answer: Result<(), QueueError>| {
        assert!(matches!(answer, Err(QueueError::Denied(_))), "{answer:?}");
    };
    refused(broker.stats().map(drop));
    refused(broker.purge(&[]).map(drop));
    refused(broker.set_paused(true));
    let request = anthill_jobs::ClaimRequest::new(1, support::LEASE);
    refused(broker.claim(&request).map(drop));
    let all = stats(&open(&owner));
    assert_eq!((all.ready, all.duplicates), (2, 1));
}

#[test]
fn who_may_only_look_sees_all_and_changes_nothing() {
    let server = skip_unless!(postgres::shared());
    let (owner, looker) = with_role(server, "looker", "SELECT anthill.let_look('{role}')");
    let worker = open(&owner);
    let all = jobs(3);
    enqueue(&worker, &all);
    let queue = PostgresOpener.open_queue_read_only(&looker);
    let broker = queue.as_broker();
    let admin = broker.admin().expect("it looks");
    assert_eq!(admin.stats().expect("it may look").ready, 3);
    assert_eq!(admin.get(all[1].id).unwrap().unwrap().payload, b"1");
    assert_eq!(admin.ready_kinds().unwrap(), ["test"]);
    assert!(queue.limits().is_ok() && queue.consumers().is_ok());
    assert!(broker.schedule_store().unwrap().schedules().is_ok());
    let refused = broker.enqueue(&[job("a")]);
    assert!(
        matches!(refused, Err(QueueError::ReadOnly(_))),
        "{refused:?}"
    );
    // And by the server, where it was not opened as such.
    let broker = open(&looker);
    assert_eq!(stats(&broker).ready, 3);
    let refused = broker.enqueue(&[job("a")]);
    assert!(matches!(refused, Err(QueueError::Denied(_))), "{refused:?}");
    let refused = broker.set_paused(true);
    assert!(matches!(refused, Err(QueueError::Denied(_))), "{refused:?}");
    assert_eq!(finish(&worker, &claim(&worker, 10)), 3);
}

trait OpenReadOnly {
    fn open_queue_read_only(&self, address: &str) -> Queue;
}

impl OpenReadOnly for PostgresOpener {
    fn open_queue_read_only(&self, address: &str) -> Queue {
        let openers = Openers::new().with("postgres", *self);
        openers.open_read_only(address).expect("it may look")
    }
}

#[test]
fn who_may_work_needs_no_right_to_create() {
    let server = skip_unless!(postgres::shared());
    let (_, worker) = with_role(server, "worker", "SELECT anthill.let_work('{role}')");
    let broker = open(&worker);
    enqueue(&broker, &jobs(3));
    broker.set_paused(true).expect("it may");
    broker.set_paused(false).expect("it may");
    let claimed = claim(&broker, 10);
    assert_eq!(finish(&broker, &claimed), 3);
    let denied = client(&worker).batch_execute("CREATE TABLE anthill.mine ()");
    assert!(denied.is_err());
}

#[test]
fn what_may_not_be_made_is_refused() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let builder = PostgresBroker::builder(&address);
    let refused = builder.clone().migrate(false).open();
    assert!(
        matches!(refused, Err(QueueError::Address { .. })),
        "{refused:?}"
    );
    let refused = builder.clone().read_only().open();
    assert!(
        matches!(refused, Err(QueueError::Address { .. })),
        "{refused:?}"
    );
    drop(builder.clone().open().unwrap());
    let refused = builder.clone().queue("another").read_only().open();
    assert!(
        matches!(refused, Err(QueueError::Address { .. })),
        "{refused:?}"
    );
    // Nor is it made by a look.
    let queues = "SELECT count(*) FROM anthill.queues";
    let count: i64 = client(&address).query_one(queues, &[]).unwrap().get(0);
    assert_eq!(count, 1);
    // A role without rights may not make the schema.
    let (_, nobody) = with_role(server, "nobody", "SELECT 1");
    let refused = PostgresBroker::builder(&nobody).schema("another").open();
    assert!(matches!(refused, Err(QueueError::Denied(_))), "{refused:?}");
    let refused = PostgresBroker::open(&nobody);
    assert!(matches!(refused, Err(QueueError::Denied(_))), "{refused:?}");
}

#[test]
fn tables_of_a_newer_version_are_refused_and_left_alone() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    drop(open(&address));
    let newer = "INSERT INTO anthill.versions (version) VALUES (1000)";
    client(&address).batch_execute(newer).unwrap();
    let refused = PostgresBroker::open(&address);
    assert!(
        matches!(refused, Err(QueueError::Version(_))),
        "{refused:?}"
    );
    assert!(refused.unwrap_err().to_string().contains("1000"));
}

#[test]
fn a_schema_that_the_owner_has_made_is_filled() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    client(&address)
        .batch_execute("CREATE SCHEMA mine")
        .unwrap();
    let broker = PostgresBroker::builder(&address)
        .schema("mine")
        .open()
        .unwrap();
    enqueue(&broker, &[job("a")]);
    let other = PostgresBroker::builder(&address)
        .schema("other")
        .open()
        .unwrap();
    assert_eq!(stats(&other).ready, 0);
    assert_ne!(broker.identity(), other.identity());
}

#[test]
fn transactions_of_another_isolation_by_default_are_refused() {
    let server = skip_unless!(postgres::shared());
    let (address, _) = with_role(server, "strict", "SELECT 1");
    let database = address.rsplit('/').next().unwrap();
    let set =
        format!("ALTER DATABASE {database} SET default_transaction_isolation = 'serializable'");
    client(&address).batch_execute(&set).unwrap();
    let refused = PostgresBroker::builder(&address).alone().open();
    let error = refused.expect_err("it is refused");
    assert!(error.to_string().contains("serializable"), "{error}");
}

#[test]
fn what_is_wrong_with_an_address_is_told() {
    let server = skip_unless!(postgres::shared());
    let database = server.fresh_database();
    let port = server.address().port();
    let wrong = format!("postgres://postgres:wrong@127.0.0.1:{port}/{database}");
    let refused = PostgresBroker::open(&wrong);
    assert!(matches!(refused, Err(QueueError::Denied(_))), "{refused:?}");
    let error = refused.unwrap_err();
    assert!(!error.is_transient() && !error.to_string().contains("wrong@"));
    let refused = PostgresBroker::open(&server.url_of("no_such_database"));
    assert!(
        matches!(refused, Err(QueueError::Address { .. })),
        "{refused:?}"
    );
    let tls = format!("{}?sslmode=require", server.url_of(&database));
    let refused = PostgresBroker::open(&tls).expect_err("the server has no TLS");
    assert!(!refused.to_string().is_empty());
}

#[test]
fn a_server_that_is_not_there_is_told_in_time() {
    // A port that nobody listens on.
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let begin = Instant::now();
    let address = format!("postgres://me@127.0.0.1:{port}/jobs");
    let refused = watchdog("it is refused", move || PostgresBroker::open(&address));
    assert!(
        matches!(refused, Err(QueueError::Unavailable(_))),
        "{refused:?}"
    );
    assert!(refused.unwrap_err().is_transient());
    // One that accepts, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("postgres://me@{}/jobs", silent.local_addr().unwrap());
    let refused = watchdog("it is refused in time", move || {
        let timeout = Duration::from_millis(300);
        PostgresBroker::builder(&address).timeout(timeout).open()
    });
    assert!(
        matches!(refused, Err(QueueError::Unavailable(_))),
        "{refused:?}"
    );
    assert!(begin.elapsed() >= Duration::from_millis(300));
}

/// The thread of the process ends with the last broker, and its connections with it.
#[cfg(target_os = "linux")]
#[test]
fn nothing_is_left_when_the_last_broker_is_gone() {
    use anthill_test_support::{eventually, linux};

    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let name = "nothing_is_left_when_the_last_broker_is_gone";
    in_child_process(name, Duration::from_secs(60), || {
        // The child starts a server of its own.
        let server = postgres::shared().expect("it was there a moment ago");
        let address = fresh(server);
        let broker = open(&address);
        enqueue(&broker, &jobs(3));
        let (_, subscription) = support::ear(&broker, Duration::from_secs(1));
        // One drives the connections, one calls the listener.
        eventually("both threads run", || linux::threads_named("anthill-") == 2);
        drop((broker, subscription));
        eventually("no thread is left", || {
            linux::threads_named("anthill-") == 0
        });
        let mut looks = client(&address);
        let others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'anthill'";
        eventually("no connection is left", || {
            let count: i64 = looks.query_one(others, &[]).unwrap().get(0);
            count == 0
        });
    });
    drop(address);
}
