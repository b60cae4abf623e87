//! What every broker promises, over Redis: the checks are those of `anthill_jobs::conformance`.
//!
//! Each has a prefix of its own on one server of this process. No check waits for a time: the scripts take the time from the field
//! `c` of a queue's `conf`, where there is one. All checks are done twice: as a program would, and without the quick scripts, so that
//! the others are held to the same.

use anthill_jobs::conformance::{Fixture, Means};
use anthill_jobs::{Broker, Durability};
use anthill_redis::{RedisBroker, RedisBuilder};
use anthill_test_support::missing::{self, Missing};
use anthill_test_support::redis::{Access, Raw, shared};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

/// Noon (UTC) on 1 January 2025, in microseconds.
const START: u64 = 1_735_732_800_000_000;

/// A queue of a check, or why there is none.
struct Redis(Result<Place, Missing>);

struct Place {
    access: &'static Access,
    prefix: String,
    has_quick_scripts: bool,
    /// Moves the clock.
    client: Mutex<Raw>,
}

impl Redis {
    fn new() -> Redis {
        Redis::with(true)
    }

    fn without_quick_scripts() -> Redis {
        Redis::with(false)
    }

    fn with(has_quick_scripts: bool) -> Redis {
        let place = shared().map(|access| Place::new(access, has_quick_scripts));
        if let Err(missing) = &place {
            static TOLD: Once = Once::new();
            TOLD.call_once(|| missing::skip(missing));
        }
        Redis(place)
    }

    fn place(&self) -> &Place {
        self.0.as_ref().expect("Redis is installed")
    }
}

impl Place {
    fn new(access: &'static Access, has_quick_scripts: bool) -> Place {
        static PREFIXES: AtomicU32 = AtomicU32::new(0);
        let number = PREFIXES.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            access,
            prefix: format!("check_{number}"),
            has_quick_scripts,
            client: Mutex::new(access.raw()),
        };
        place.clock("HSET", START);
        place
    }

    /// Sets the clock, or lets it go on.
    fn clock(&self, command: &str, micros: u64) {
        let key = format!("{{{}:default}}:conf", self.prefix);
        let mut client = self.client.lock().expect("nobody panicked");
        client.run(&[command, &key, "c", &micros.to_string()]);
    }

    fn builder(&self) -> RedisBuilder {
        // The server stores nothing, and outlives all handles.
        let builder = RedisBroker::builder(&self.access.url())
            .prefix(&*self.prefix)
            .durability(Durability::Process);
        if self.has_quick_scripts {
            builder
        } else {
            builder.without_quick_scripts()
        }
    }
}

impl Fixture for Redis {
    fn missing(&self) -> Option<String> {
        self.0.as_ref().err().map(ToString::to_string)
    }

    fn open(&self) -> Arc<dyn Broker> {
        let opened = self.place().builder().open();
        Arc::new(opened.expect("the queue can be opened"))
    }

    fn open_apart(&self) -> Arc<dyn Broker> {
        let opened = self.place().builder().alone().open();
        Arc::new(opened.expect("the queue can be opened"))
    }

    fn advance(&self, time: Duration) {
        assert_eq!(
            time.subsec_nanos() % 1_000,
            0,
            "the server's clock has microseconds"
        );
        let micros = u64::try_from(time.as_micros()).expect("it is not that long");
        self.place().clock("HINCRBY", micros);
    }

    fn means(&self) -> &[Means] {
        &[Means::StillClock]
    }
}

anthill_jobs::conformance_tests!(on_redis, crate::Redis::new);
anthill_jobs::conformance_tests!(without_quick_scripts, crate::Redis::without_quick_scripts);
