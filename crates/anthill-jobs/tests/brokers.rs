//! What every broker promises (B1 to B12, see `anthill_jobs::Broker`), and each of ours in turn: the checks are in
//! `src/conformance`.
//!
//! No check waits for a time: the broker's clock is moved by hand.

use anthill_jobs::conformance::{Fixture, Means};
use anthill_jobs::{Broker, Clock, MemoryBroker};
use std::sync::Arc;
use std::time::Duration;

/// All handles are the same broker, since nothing else can lead to its jobs.
struct Memory {
    clock: Clock,
    broker: Arc<MemoryBroker>,
}

impl Memory {
    fn new() -> Memory {
        let clock = Clock::manual();
        let broker = Arc::new(MemoryBroker::new(clock.clone()));
        Memory { clock, broker }
    }
}

impl Fixture for Memory {
    fn open(&self) -> Arc<dyn Broker> {
        self.broker.clone()
    }

    fn advance(&self, time: Duration) {
        self.clock.advance(time);
    }

    fn means(&self) -> &[Means] {
        &[Means::StillClock, Means::WallClock]
    }

    fn wall(&self) -> Duration {
        self.clock.wall()
    }

    fn set_wall(&self, wall: Duration) {
        self.clock.set_wall(wall);
    }
}

anthill_jobs::conformance_tests!(memory, Memory::new);

#[cfg(feature = "sqlite")]
mod sqlite_file {
    use super::{Broker, Clock, Duration, Fixture, Means};
    use anthill_jobs::conformance::Transaction;
    use anthill_jobs::rusqlite::Connection;
    use anthill_jobs::{Enqueued, NewJob, QueueError, SqliteBroker};
    use std::path::PathBuf;
    use std::sync::Arc;
    use tempfile::TempDir;

    pub(super) struct Sqlite {
        /// Handles with the same clock share connections and commits, those with the other one do not share theirs.
        clocks: [Clock; 2],
        folder: TempDir,
    }

    impl Sqlite {
        pub(super) fn new() -> Sqlite {
            Sqlite {
                clocks: [Clock::manual(), Clock::manual()],
                folder: tempfile::tempdir().expect("a folder for the file"),
            }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("jobs.db")
        }

        fn open_with(&self, clock: &Clock) -> SqliteBroker {
            let broker = SqliteBroker::open(self.path(), "default", clock.clone());
            broker.expect("the file can be opened")
        }
    }

    impl Fixture for Sqlite {
        fn open(&self) -> Arc<dyn Broker> {
            Arc::new(self.open_with(&self.clocks[0]))
        }

        fn open_apart(&self) -> Arc<dyn Broker> {
            Arc::new(self.open_with(&self.clocks[1]))
        }

        fn advance(&self, time: Duration) {
            for clock in &self.clocks {
                clock.advance(time);
            }
        }

        fn means(&self) -> &[Means] {
            &[Means::StillClock, Means::WallClock, Means::HostRestart]
        }

        fn wall(&self) -> Duration {
            self.clocks[0].wall()
        }

        fn set_wall(&self, wall: Duration) {
            for clock in &self.clocks {
                clock.set_wall(wall);
            }
        }

        fn restart_host(&self) {
            for clock in &self.clocks {
                clock.reboot();
            }
        }

        fn transaction(&self) -> Box<dyn Transaction + '_> {
            let connection = Connection::open(self.path()).expect("the file can be opened");
            let begun = connection.execute_batch("BEGIN IMMEDIATE");
            begun.expect("nobody holds the lock");
            let broker = self.open_with(&self.clocks[0]);
            Box::new(InTransaction { connection, broker })
        }
    }

    struct InTransaction {
        connection: Connection,
        broker: SqliteBroker,
    }

    impl Transaction for InTransaction {
        fn enqueue(&mut self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError> {
            self.broker.enqueue_in(&self.connection, jobs)
        }

        fn commit(self: Box<Self>) {
            let committed = self.connection.execute_batch("COMMIT");
            committed.expect("it can be committed");
        }

        fn roll_back(self: Box<Self>) {
            let rolled_back = self.connection.execute_batch("ROLLBACK");
            rolled_back.expect("it can be rolled back");
        }
    }
}

#[cfg(feature = "sqlite")]
anthill_jobs::conformance_tests!(sqlite, crate::sqlite_file::Sqlite::new);

/// Stale pages are rewritten with `ANTHILL_WRITE_PAGES=1`.
#[cfg(feature = "sqlite")]
#[test]
fn the_table_of_capabilities_is_that_of_the_brokers() {
    let memory = Memory::new().open().capabilities();
    let sqlite = sqlite_file::Sqlite::new().open().capabilities();
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/capabilities.md");
    anthill_jobs::conformance::check_capability_page(page, &[memory, sqlite]);
}
