//! What every broker promises, over Postgres: the checks are those of `anthill_jobs::conformance`.
//!
//! Each has a schema of its own on one server of this process. No check waits for a time: the server's clock is moved by hand,
//! as the schema's `anthill_now()` reads it from a table.

use anthill_jobs::conformance::{Fixture, Means, Transaction};
use anthill_jobs::{Broker, Enqueued, Lease, NewJob, QueueError, Settle, Settled};
use anthill_postgres::PostgresBroker;
use anthill_postgres::postgres::{self, Client, NoTls};
use anthill_test_support::postgres::{Access, Fsync, Options, Server};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// Noon (UTC) on 1 January 2025.
const START: &str = "2025-01-01 12:00:00+00";

struct Postgres {
    address: String,
    schema: String,
    /// Moves the clock.
    client: Mutex<Client>,
}

/// The server of all checks.
fn server() -> &'static Access {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let options = Options::new(Fsync::Off).set("max_connections", "300");
        options.start().expect("Postgres is installed")
    })
}

impl Postgres {
    fn new() -> Postgres {
        static SCHEMAS: AtomicU32 = AtomicU32::new(0);
        let number = SCHEMAS.fetch_add(1, Ordering::Relaxed);
        let (address, schema) = (server().url(), format!("check_{number}"));
        let mut client = Client::connect(&address, NoTls).expect("the server is there");
        let fixture = |client| Postgres {
            address,
            schema,
            client: Mutex::new(client),
        };
        let made = PostgresBroker::builder(&server().url()).schema(format!("check_{number}"));
        drop(made.open().expect("the schema can be made"));
        client
            .batch_execute(&format!(
                "CREATE TABLE check_{number}.test_clock AS SELECT '{START}'::timestamptz AS at;
                 CREATE OR REPLACE FUNCTION check_{number}.anthill_now() RETURNS timestamptz
                 LANGUAGE sql VOLATILE AS 'SELECT at FROM check_{number}.test_clock'"
            ))
            .expect("the clock can be replaced");
        fixture(client)
    }

    fn open_here(&self) -> PostgresBroker {
        let opened = PostgresBroker::builder(&self.address)
            .schema(&self.schema)
            .open();
        opened.expect("the queue can be opened")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let drop = format!("DROP SCHEMA {} CASCADE", self.schema);
        let quiet = "SET client_min_messages = error";
        let mut client = self.client.lock().expect("nobody panicked");
        let dropped = client
            .batch_execute(quiet)
            .and_then(|()| client.batch_execute(&drop));
        if let Err(error) = dropped {
            eprintln!("{drop}: {error}");
        }
    }
}

impl Fixture for Postgres {
    fn open(&self) -> Arc<dyn Broker> {
        Arc::new(self.open_here())
    }

    fn open_apart(&self) -> Arc<dyn Broker> {
        let apart = PostgresBroker::builder(&self.address)
            .schema(&self.schema)
            .alone();
        Arc::new(apart.open().expect("the queue can be opened"))
    }

    fn advance(&self, time: Duration) {
        let micros = i64::try_from(time.as_micros()).expect("not so long");
        assert_eq!(
            time.subsec_nanos() % 1_000,
            0,
            "the server's clock has microseconds"
        );
        let mut client = self.client.lock().expect("nobody panicked");
        let moved = client.execute(
            &format!(
                "UPDATE {}.test_clock SET at = at + $1::bigint * interval '1 microsecond'",
                self.schema
            ),
            &[&micros],
        );
        moved.expect("the clock can be moved");
    }

    fn means(&self) -> &[Means] {
        &[Means::StillClock, Means::SettleIn]
    }

    fn transaction(&self) -> Box<dyn Transaction + '_> {
        let client = Client::connect(&self.address, NoTls).expect("the server is there");
        // A transaction borrows its client. These few stay until the process ends.
        let client = Box::leak(Box::new(client));
        Box::new(InTransaction {
            transaction: client.transaction().expect("it can be begun"),
            broker: self.open_here(),
        })
    }
}

struct InTransaction {
    transaction: postgres::Transaction<'static>,
    broker: PostgresBroker,
}

impl Transaction for InTransaction {
    fn enqueue(&mut self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError> {
        self.broker.enqueue_in(&mut self.transaction, jobs)
    }

    fn settle(&mut self, ends: &[(Lease, Settle)]) -> Result<Vec<Settled>, QueueError> {
        self.broker.settle_in(&mut self.transaction, ends)
    }

    fn commit(self: Box<Self>) {
        self.transaction.commit().expect("it can be committed");
    }

    fn roll_back(self: Box<Self>) {
        let rolled_back = self.transaction.rollback();
        rolled_back.expect("it can be rolled back");
    }
}

/// B10, as far as a server's clock can be known: what was told to wait does not wait for longer when the clock is set back.
#[test]
fn time_goes_on_when_the_servers_clock_is_set_back() {
    let fixture = Postgres::new();
    let broker = fixture.open_here();
    let seconds = Duration::from_secs;
    let mut delayed = NewJob::new("test", b"delayed".to_vec());
    delayed.delay = seconds(60);
    let mut expires = NewJob::new("test", b"expires".to_vec());
    expires.delay = seconds(3600);
    expires.expires = Some(seconds(100));
    let plain = NewJob::new("test", b"plain".to_vec());
    broker
        .enqueue(&[delayed.clone(), expires.clone(), plain])
        .expect("they are enqueued");
    let claim = |broker: &PostgresBroker| {
        let request = anthill_jobs::ClaimRequest::new(10, seconds(50));
        let claims = broker.claim(&request).expect("it claims");
        let name = |job: anthill_jobs::Claimed| String::from_utf8(job.payload).expect("a name");
        claims.jobs.into_iter().map(name).collect::<Vec<String>>()
    };
    assert_eq!(claim(&broker), ["plain"]);
    for (step, expected) in [(40, &[][..]), (15, &["plain"][..]), (10, &["delayed"][..])] {
        // An hour back, and on from there.
        let set = format!(
            "UPDATE {}.test_clock SET at = at - interval '1 hour'",
            fixture.schema
        );
        fixture
            .client
            .lock()
            .expect("nobody panicked")
            .batch_execute(&set)
            .expect("it is set");
        // Whoever claims first notices.
        assert_eq!(claim(&broker), [""; 0]);
        fixture.advance(seconds(step));
        let other = fixture.open_apart();
        let due = other
            .admin()
            .expect("it looks")
            .get(delayed.id)
            .expect("it is read");
        assert!(
            due.expect("it is there")
                .due_in
                .is_none_or(|due| due <= seconds(20))
        );
        assert_eq!(claim(&broker), expected);
    }
    fixture.advance(seconds(40));
    let admin = broker.admin().expect("it looks");
    assert!(admin.get(expires.id).expect("it is read").is_none());
}

anthill_jobs::conformance_tests!(on_postgres, crate::Postgres::new);
