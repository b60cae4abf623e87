//! The user of the page's section on rights can do everything that a queue can.

use anthill_jobs::conformance::{self, Fixture, Means};
use anthill_jobs::{Broker, Durability};
use anthill_redis::RedisBroker;
use anthill_test_support::redis::{Persistence, Server};
use anthill_test_support::skip_unless;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const PAGE: &str = include_str!("../docs/redis.md");

/// What is sent, too, and may be refused: a look at what the server is set to, the name of the library, and the end of a subscription.
const MAY_BE_REFUSED: [&str; 5] = [
    "config|get",
    "info",
    "client|setinfo",
    "unsubscribe",
    "punsubscribe",
];

/// Noon (UTC) on 1 January 2025, in microseconds.
const START: u64 = 1_735_732_800_000_000;

/// The page's command.
fn command() -> Vec<&'static str> {
    let line = PAGE.lines().find(|line| line.starts_with("ACL SETUSER "));
    line.expect("the page has the command")
        .split_whitespace()
        .collect()
}

/// Makes the page's user, for other queues than that of the page.
fn make_user(server: &Server, queues: &str) {
    let command = command().into_iter().map(|word| match word {
        ">PASSWORD" => ">pw".to_owned(),
        word => word.replace("{anthill:mail}", queues),
    });
    let command: Vec<String> = command.collect();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    server.raw().run(&command);
}

fn address(server: &Server) -> String {
    format!("redis://worker:pw@{}/", server.address())
}

/// Commands that the server has refused, or keys and channels.
fn refused(server: &Server) -> BTreeSet<String> {
    let entries = server.raw().run(&["ACL", "LOG", "1000"]).array();
    let field = |entry: anthill_test_support::redis::Value| {
        let fields = entry.array();
        let at = |name: &str| {
            let place = fields.iter().step_by(2).position(|one| one.text() == name);
            fields[2 * place.expect("an entry has it") + 1].text()
        };
        match &*at("reason") {
            "command" => at("object"),
            reason => format!("{reason} {}", at("object")),
        }
    };
    let all: BTreeSet<String> = entries.into_iter().map(field).collect();
    let may_be = |one: &String| MAY_BE_REFUSED.contains(&&**one);
    all.into_iter().filter(|one| !may_be(one)).collect()
}

/// A check's queue, with a prefix of its own.
struct Restricted {
    server: Arc<Server>,
    prefix: String,
}

impl Restricted {
    fn new(server: &Arc<Server>) -> Restricted {
        static PREFIXES: AtomicU32 = AtomicU32::new(0);
        let number = PREFIXES.fetch_add(1, Ordering::Relaxed);
        let redis = Restricted {
            server: Arc::clone(server),
            prefix: format!("check_{number}"),
        };
        redis.clock("HSET", START);
        redis
    }

    fn clock(&self, command: &str, micros: u64) {
        let key = format!("{{{}:default}}:conf", self.prefix);
        let mut raw = self.server.raw();
        raw.run(&[command, &key, "c", &micros.to_string()]);
    }

    fn open_as(&self, is_alone: bool) -> Arc<dyn Broker> {
        let builder = RedisBroker::builder(&address(&self.server))
            .prefix(&*self.prefix)
            .durability(Durability::Process);
        let builder = if is_alone { builder.alone() } else { builder };
        Arc::new(builder.open().expect("the queue can be opened"))
    }
}

impl Fixture for Restricted {
    fn open(&self) -> Arc<dyn Broker> {
        self.open_as(false)
    }

    fn open_apart(&self) -> Arc<dyn Broker> {
        self.open_as(true)
    }

    fn advance(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).expect("it is not that long");
        self.clock("HINCRBY", micros);
    }

    fn means(&self) -> &[Means] {
        &[Means::StillClock]
    }
}

#[test]
fn a_user_with_these_rights_can_do_all_that_a_queue_can() {
    let server = Arc::new(skip_unless!(Server::start(Persistence::Off)));
    make_user(&server, "{check_*}");
    let fixtures = Arc::clone(&server);
    conformance::run(move || Restricted::new(&fixtures));
    assert_eq!(refused(&server), BTreeSet::new());
}
