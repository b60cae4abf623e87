//! What every broker promises, over Redis: the checks are those of `anthill_jobs::conformance`.
//!
//! Each has a prefix of its own on one server of this process. No check waits for a time: the scripts take the time from the field
//! `c` of the queue's settings, where there is one.

use anthill_jobs::Broker;
use anthill_jobs::conformance::{Fixture, Means};
use anthill_redis::{RedisBroker, RedisBuilder};
use redis::Commands;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Noon (UTC) on 1 January 2025, in microseconds.
const START: u64 = 1_735_732_800_000_000;

struct Redis {
    address: String,
    prefix: String,
    /// Moves the clock.
    client: Mutex<redis::Connection>,
}

impl Redis {
    fn new() -> Redis {
        static PREFIXES: AtomicU32 = AtomicU32::new(0);
        let address = std::env::var("TRY_REDIS").unwrap();
        let number = PREFIXES.fetch_add(1, Ordering::Relaxed);
        let client = redis::Client::open(&*address)
            .unwrap()
            .get_connection()
            .unwrap();
        let prefix = format!("check_{}_{number}", std::process::id());
        let redis = Redis {
            address,
            prefix,
            client: Mutex::new(client),
        };
        let _: () = redis
            .client
            .lock()
            .unwrap()
            .hset(redis.key(), "c", START)
            .unwrap();
        redis
    }

    fn key(&self) -> String {
        format!("{{{}:default}}:conf", self.prefix)
    }

    fn builder(&self) -> RedisBuilder {
        let b = RedisBroker::builder(&self.address).prefix(&*self.prefix);
        if std::env::var_os("TRY_PLAIN").is_some() {
            b.without_quick_scripts()
        } else {
            b
        }
    }
}

impl Fixture for Redis {
    fn open(&self) -> Arc<dyn Broker> {
        Arc::new(self.builder().open().expect("the queue can be opened"))
    }

    fn open_apart(&self) -> Arc<dyn Broker> {
        Arc::new(
            self.builder()
                .alone()
                .open()
                .expect("the queue can be opened"),
        )
    }

    fn advance(&self, time: Duration) {
        assert_eq!(
            time.subsec_nanos() % 1_000,
            0,
            "the server's clock has microseconds"
        );
        let micros = u64::try_from(time.as_micros()).expect("it is not that long");
        let _: u64 = self
            .client
            .lock()
            .unwrap()
            .hincr(self.key(), "c", micros)
            .unwrap();
    }

    fn means(&self) -> &[Means] {
        &[Means::StillClock]
    }
}

anthill_jobs::conformance_tests!(on_redis, crate::Redis::new);
