//! Addresses: schemes of this crate and of others, and what is refused.

use anthill_jobs::{Durability, Job, Opener, Openers, Queue, QueueError};
use serde::{Deserialize, Serialize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

#[derive(Serialize, Deserialize)]
struct Letter;

impl Job for Letter {
    const KIND: &'static str = "letter";
}

fn memory(_: &str) -> Result<Queue, QueueError> {
    Queue::open("memory:")
}

/// An engine that says how it was asked.
struct Engine {
    asked: Arc<Mutex<Vec<String>>>,
}

impl Opener for Engine {
    fn open(&self, address: &str) -> Result<Queue, QueueError> {
        self.asked.lock().unwrap().push(format!("open {address}"));
        Ok(Queue::memory())
    }

    fn open_read_only(&self, address: &str) -> Result<Queue, QueueError> {
        self.asked.lock().unwrap().push(format!("look {address}"));
        Err(QueueError::ReadOnly("asked for".to_owned()))
    }
}

/// The address and the reason of an address that is refused.
#[track_caller]
fn refused(opened: Result<Queue, QueueError>) -> (String, String) {
    match opened {
        Err(QueueError::Address { address, reason }) => (address, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_scheme_of_another_crate_opens_its_queue_with_the_whole_address() {
    let asked = Arc::default();
    let engine = Engine {
        asked: Arc::clone(&asked),
    };
    let openers = Openers::new().with("postgres", engine);
    let queue = openers.open("postgres://localhost:5432/jobs?queue=mail");
    queue.unwrap().enqueue(Letter).unwrap();
    let read_only = openers.open_read_only("postgres:jobs");
    assert!(matches!(read_only, Err(QueueError::ReadOnly(_))));
    assert_eq!(
        asked.lock().unwrap()[..],
        [
            "open postgres://localhost:5432/jobs?queue=mail",
            "look postgres:jobs"
        ]
    );
}

#[test]
fn a_function_is_an_opener_that_cannot_open_read_only() {
    let openers = Openers::new().with("other", |_: &str| Queue::open("memory:"));
    openers.open("other:").unwrap().enqueue(Letter).unwrap();
    let (address, reason) = refused(openers.open_read_only("other:x"));
    assert_eq!(address, "other:x");
    assert!(reason.contains("read-only"), "{reason}");
}

#[test]
fn an_unknown_scheme_is_refused_with_the_schemes_that_are_known() {
    let openers = Openers::new().with("redis", memory).with("amqp", memory);
    for opened in [
        openers.open("postgres:jobs"),
        openers.open_read_only("postgres:jobs"),
    ] {
        let (address, reason) = refused(opened);
        assert_eq!(address, "postgres:jobs");
        let known = if cfg!(feature = "sqlite") {
            "amqp, memory, redis, sqlite"
        } else {
            "amqp, memory, redis"
        };
        assert_eq!(
            reason,
            format!("unknown scheme \"postgres\"; known schemes: {known}")
        );
    }
    // What another table has this one has not.
    refused(Openers::new().open("redis:"));
}

#[test]
fn an_address_without_a_scheme_is_refused_with_the_schemes_that_are_known() {
    for address in ["", "jobs.db", "/var/lib/jobs.db"] {
        let (_, reason) = refused(Queue::open(address));
        assert!(reason.contains("it has no scheme"), "{reason}");
        assert!(reason.contains("memory"), "{reason}");
    }
}

#[test]
fn schemes_are_compared_letter_by_letter() {
    let openers = Openers::new().with("post", memory);
    for address in [
        ":x",
        "Post:x",
        "POST:x",
        "post :x",
        " post:x",
        "pos:x",
        "poste:x",
        "p:x",
        "C:\\jobs.db",
        "MEMORY:",
        "p\u{43e}st:x",
    ] {
        let (_, reason) = refused(openers.open(address));
        assert!(
            reason.starts_with("unknown scheme"),
            "{address:?}: {reason}"
        );
    }
}

#[test]
fn a_scheme_has_one_opener() {
    let register_again = |openers: Openers, scheme: &str| {
        catch_unwind(AssertUnwindSafe(|| openers.with(scheme, memory))).is_err()
    };
    assert!(register_again(Openers::new(), "memory"));
    let openers = Openers::new().with("post", memory);
    assert!(register_again(openers.clone(), "post"));
    assert_eq!(
        register_again(openers, "sqlite"),
        cfg!(feature = "sqlite"),
        "without the feature a program may have an engine of its own for it"
    );
}

#[test]
fn what_is_not_a_scheme_is_refused_when_it_is_registered() {
    for scheme in [
        "",
        "c",
        "Post",
        "POST",
        "post gres",
        "post:",
        "post/",
        "1post",
        "+post",
        "post\u{e9}",
        "post\n",
        "po_st",
    ] {
        let registered = catch_unwind(|| Openers::new().with(scheme, memory));
        assert!(registered.is_err(), "{scheme:?}");
    }
    for scheme in ["pg", "redis+tls", "x-engine.2"] {
        let openers = Openers::new().with(scheme, memory);
        openers.open(&format!("{scheme}:anything")).unwrap();
    }
}

#[test]
fn a_password_is_not_shown() {
    let show = |address: &str| {
        let error = Queue::open(address).unwrap_err();
        (
            refused(Err(error)).0,
            Queue::open(address).unwrap_err().to_string(),
        )
    };
    for (address, shown) in [
        ("pg://ann:secret@host/db", "pg://ann:…@host/db"),
        ("pg://ann:sec@ret@host:1/db?x=y", "pg://ann:…@host:1/db?x=y"),
        ("pg://:secret@host", "pg://:…@host"),
        // One with a letter that ends a host, and one behind it.
        ("pg://ann:a/secret@host/db", "pg://ann:…@host/db"),
        (
            "pg://host/db?password=secret&x=y",
            "pg://host/db?password=…&x=y",
        ),
        (
            "redis+unix:///run/redis?pass=secret",
            "redis+unix:///run/redis?pass=…",
        ),
        // Rather too much than too little.
        ("pg:x:y@z", "pg:x:…@z"),
        ("pg://ann@host/a:b@c", "pg://ann@host/a:…@c"),
        // Nothing is left out where there is none.
        ("pg://host:5432/db", "pg://host:5432/db"),
    ] {
        let (told, text) = show(address);
        assert_eq!(told, shown);
        assert!(!text.contains("secret"), "{text}");
    }
    let openers = Openers::new().with("pg", memory);
    let (told, _) = refused(openers.open_read_only("pg://ann:secret@host"));
    assert_eq!(told, "pg://ann:…@host");
}

#[test]
fn a_queue_in_memory_has_no_name_and_nobody_else_sees_it() {
    let queue = Queue::open("memory:").unwrap();
    let capabilities = queue.capabilities();
    assert_eq!(capabilities.name, "memory");
    assert_eq!(capabilities.durability, Durability::None);
    refused(Queue::open("memory:name"));
    refused(Queue::open_read_only("memory:"));
}

#[cfg(feature = "sqlite")]
#[test]
fn a_file_is_opened_by_its_address_for_reading_too() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("sqlite:{}", folder.path().join("jobs.db").display());
    refused(Openers::new().open_read_only(&format!("{address}/none/jobs.db")));
    Queue::open(&address).unwrap().enqueue(Letter).unwrap();
    let read_only = Openers::default().open_read_only(&address).unwrap();
    assert_eq!(read_only.stats().unwrap().ready, 1);
    assert!(matches!(read_only.pause(), Err(QueueError::ReadOnly(_))));
}

#[cfg(not(feature = "sqlite"))]
#[test]
fn without_its_feature_sqlite_is_refused_by_the_features_name() {
    for opened in [
        Queue::open("sqlite:jobs.db"),
        Queue::open_read_only("sqlite:jobs.db"),
    ] {
        let (_, reason) = refused(opened);
        assert!(reason.contains("the feature `sqlite`"), "{reason}");
    }
}
