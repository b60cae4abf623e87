//! What is lost with a server that is killed, by how it is set to write: the page's table. Each setting enqueues one job after the other
//! for a while, and each answer is an acknowledgement; then the server is killed, and started again.

use anthill_jobs::{Broker, Durability, JobId, NewJob, QueueError};
use anthill_redis::RedisBroker;
use anthill_test_support::redis::{Persistence, Server};
use anthill_test_support::skip_unless;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// How long jobs are enqueued.
const A_WHILE: Duration = Duration::from_millis(500);

/// For how long Redis may hold back what it writes, while an `fsync` runs.
const HELD_BACK: Duration = Duration::from_secs(2);

fn open(server: &Server) -> Result<RedisBroker, QueueError> {
    RedisBroker::builder(&server.url()).alone().open()
}

/// Kills a server among enqueues. Returns what it had acknowledged, and how long before the kill, of which the job is gone; and how
/// many were acknowledged.
fn lost(server: &Server, says: Durability) -> (Vec<Duration>, usize) {
    let broker = open(server).unwrap();
    assert_eq!(broker.capabilities().durability, says);
    assert_eq!(
        broker.warnings().is_empty(),
        says != Durability::None,
        "{:?}",
        broker.warnings()
    );
    let mut acknowledged: Vec<(JobId, Instant)> = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < A_WHILE {
        let job = NewJob::new("letter", vec![b'x'; 100]);
        let enqueued = broker.enqueue(&[job]).unwrap().remove(0).unwrap();
        acknowledged.push((enqueued.id(), Instant::now()));
    }
    let killed = Instant::now();
    server.kill();
    server.start_again();
    // The old handle finds the server again, or one without the queue, which it makes anew.
    let admin = broker.admin().unwrap();
    admin.stats().unwrap();
    let ids: Vec<JobId> = acknowledged.iter().map(|(id, _)| *id).collect();
    let there: HashSet<JobId> = ids
        .iter()
        .copied()
        .filter(|&id| admin.get(id).unwrap().is_some())
        .collect();
    let gone = acknowledged.iter().filter(|(id, _)| !there.contains(id));
    let ages = gone.map(|(_, at)| killed.saturating_duration_since(*at));
    (ages.collect(), acknowledged.len())
}

#[test]
fn a_kill_costs_what_the_page_says() {
    for (persistence, says) in [
        (Persistence::AofAlways, Durability::Fsync),
        (Persistence::AofEverysec, Durability::Eventual),
        (Persistence::AofNo, Durability::Process),
        (Persistence::Snapshots, Durability::None),
        (Persistence::Off, Durability::None),
    ] {
        let server = skip_unless!(Server::start(persistence));
        let (lost, acknowledged) = lost(&server, says);
        println!(
            "{persistence:?}: {acknowledged} acknowledged, {} of them gone",
            lost.len()
        );
        let oldest = lost.iter().max().copied().unwrap_or_default();
        match persistence {
            Persistence::AofAlways | Persistence::AofNo => assert_eq!(lost, []),
            // One may run just then.
            Persistence::AofEverysec => assert!(oldest <= HELD_BACK, "{oldest:?}"),
            Persistence::Snapshots | Persistence::Off => assert_eq!(lost.len(), acknowledged),
        }
    }
}
