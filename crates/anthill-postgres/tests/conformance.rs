//! What every broker promises, over Postgres: the checks are those of `anthill_jobs::conformance`.
//!
//! Each has a schema of its own on one server of this process. No check waits for a time: the server's clock is moved by hand,
//! as the schema's `anthill_now()` reads it from a table. With `ANTHILL_POOLER=1` the brokers reach the server through a pooler.

mod support;

use anthill_jobs::conformance::{Fixture, Means, Transaction};
use anthill_jobs::{Broker, Enqueued, Lease, NewJob, QueueError, Settle, Settled};
use anthill_postgres::PostgresBroker;
use anthill_postgres::postgres::{self, Client, NoTls};
use anthill_test_support::missing::{self, Missing};
use anthill_test_support::postgres::{Fsync, Options, Server};
use anthill_test_support::skip_unless;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock};
use std::time::Duration;
use support::pooler::Pooler;

/// Noon (UTC) on 1 January 2025.
const START: &str = "2025-01-01 12:00:00+00";

/// A schema of a check, or why there is none.
struct Postgres(Result<Schema, Missing>);

struct Schema {
    address: String,
    name: String,
    /// Moves the clock.
    client: Mutex<Client>,
}

/// The server of all checks.
struct Place {
    server: Server,
    /// Before the server, if `ANTHILL_POOLER` is set.
    pooler: Option<Pooler>,
}

fn place() -> Result<&'static Place, Missing> {
    static PLACE: OnceLock<Result<Place, Missing>> = OnceLock::new();
    let start = || {
        let server = Options::new(Fsync::Off)
            .set("max_connections", "300")
            .start()?;
        let is_asked = std::env::var_os("ANTHILL_POOLER").is_some();
        let pooler = is_asked.then(|| Pooler::start(&server)).transpose()?;
        Ok(Place { server, pooler })
    };
    PLACE.get_or_init(start).as_ref().map_err(Clone::clone)
}

impl Postgres {
    fn new() -> Postgres {
        let schema = place().map(Schema::new);
        if let Err(missing) = &schema {
            static TOLD: Once = Once::new();
            TOLD.call_once(|| missing::skip(missing));
        }
        Postgres(schema)
    }

    fn schema(&self) -> &Schema {
        self.0.as_ref().expect("Postgres is installed")
    }
}

impl Schema {
    fn new(place: &Place) -> Schema {
        static SCHEMAS: AtomicU32 = AtomicU32::new(0);
        let number = SCHEMAS.fetch_add(1, Ordering::Relaxed);
        let direct = place.server.url();
        let mut client = Client::connect(&direct, NoTls).expect("the server is there");
        let made = PostgresBroker::builder(&direct).schema(format!("check_{number}"));
        drop(made.open().expect("the schema can be made"));
        client
            .batch_execute(&format!(
                "CREATE TABLE check_{number}.test_clock AS SELECT '{START}'::timestamptz AS at;
                 CREATE OR REPLACE FUNCTION check_{number}.anthill_now() RETURNS timestamptz
                 LANGUAGE sql VOLATILE AS 'SELECT at FROM check_{number}.test_clock'"
            ))
            .expect("the clock can be replaced");
        Schema {
            address: place.pooler.as_ref().map_or(direct, Pooler::url),
            name: format!("check_{number}"),
            client: Mutex::new(client),
        }
    }

    fn open(&self) -> PostgresBroker {
        let opened = PostgresBroker::builder(&self.address)
            .schema(&self.name)
            .open();
        opened.expect("the queue can be opened")
    }

    fn open_apart(&self) -> PostgresBroker {
        let apart = PostgresBroker::builder(&self.address)
            .schema(&self.name)
            .alone();
        apart.open().expect("the queue can be opened")
    }

    /// Sets the clock to an SQL expression of its time, `at`.
    fn set_clock(&self, to: &str) {
        let set = format!("UPDATE {}.test_clock SET at = {to}", self.name);
        let mut client = self.client.lock().expect("nobody panicked");
        client.batch_execute(&set).expect("the clock can be set");
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let drop = format!("DROP SCHEMA {} CASCADE", self.name);
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
    fn missing(&self) -> Option<String> {
        self.0.as_ref().err().map(ToString::to_string)
    }

    fn open(&self) -> Arc<dyn Broker> {
        Arc::new(self.schema().open())
    }

    fn open_apart(&self) -> Arc<dyn Broker> {
        Arc::new(self.schema().open_apart())
    }

    fn advance(&self, time: Duration) {
        assert_eq!(
            time.subsec_nanos() % 1_000,
            0,
            "the server's clock has microseconds"
        );
        let micros = time.as_micros();
        let schema = self.schema();
        schema.set_clock(&format!("at + {micros}::bigint * interval '1 microsecond'"));
    }

    fn means(&self) -> &[Means] {
        &[Means::StillClock, Means::SettleIn]
    }

    fn transaction(&self) -> Box<dyn Transaction + '_> {
        let schema = self.schema();
        let client = Client::connect(&schema.address, NoTls).expect("the server is there");
        // A transaction borrows its client. These few stay until the process ends.
        let client = Box::leak(Box::new(client));
        Box::new(InTransaction {
            transaction: client.transaction().expect("it can be begun"),
            broker: schema.open(),
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
    let schema = Schema::new(skip_unless!(place()));
    let broker = schema.open();
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
    let find = |broker: &PostgresBroker, job: &NewJob| {
        let admin = broker.admin().expect("it looks");
        admin.get(job.id).expect("it is read")
    };
    assert_eq!(claim(&broker), ["plain"]);
    for (step, expected) in [(40, &[][..]), (15, &["plain"][..]), (10, &["delayed"][..])] {
        // An hour back, and on from there.
        schema.set_clock("at - interval '1 hour'");
        // Whoever claims first notices.
        assert_eq!(claim(&broker), [""; 0]);
        schema.set_clock(&format!("at + interval '{step} seconds'"));
        let due = find(&schema.open_apart(), &delayed).expect("it is there");
        assert!(due.due_in.is_none_or(|due| due <= seconds(20)), "{due:?}");
        assert_eq!(claim(&broker), expected);
    }
    schema.set_clock("at + interval '40 seconds'");
    assert!(find(&broker, &expires).is_none());
}

anthill_jobs::conformance_tests!(on_postgres, crate::Postgres::new);
