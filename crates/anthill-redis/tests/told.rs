//! What the log says of a server that was started again: by each process, once, with what may be gone by its settings.

use anthill_jobs::Broker;
use anthill_redis::RedisBroker;
use anthill_test_support::redis::{Persistence, Server};
use anthill_test_support::skip_unless;
use std::sync::Mutex;

/// The warnings of this crate.
static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Log;

impl log::Log for Log {
    fn enabled(&self, of: &log::Metadata<'_>) -> bool {
        of.target().starts_with("anthill_redis")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let text = record.args().to_string();
            TOLD.lock().expect("nobody panicked").push(text);
        }
    }

    fn flush(&self) {}
}

/// What was told since the last time.
fn told() -> Vec<String> {
    std::mem::take(&mut *TOLD.lock().expect("nobody panicked"))
}

#[test]
fn a_restart_is_told_once_with_what_may_be_gone() {
    log::set_logger(&Log).expect("it is the only one");
    log::set_max_level(log::LevelFilter::Warn);
    for (persistence, window) in [
        (Persistence::AofAlways, "is on its disk"),
        (Persistence::AofEverysec, "in the last two seconds"),
        (Persistence::AofNo, "its machine lost power"),
    ] {
        let server = skip_unless!(Server::start(persistence));
        let broker = RedisBroker::open(&server.url()).expect("it can be opened");
        let look = || broker.admin().expect("it looks").stats();
        look().expect("it is there");
        assert_eq!(told(), [""; 0], "{persistence:?}");
        server.kill();
        server.start_again();
        look().expect("it is there again");
        look().expect("it is there still");
        let told = told();
        assert_eq!(told.len(), 1, "{persistence:?}: {told:?}");
        let is_told = told[0].contains("was started again") && told[0].contains(window);
        assert!(is_told, "{persistence:?}: {told:?}");
    }
}
