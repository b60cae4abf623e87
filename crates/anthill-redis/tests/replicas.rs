//! `replicas=N`: an enqueue is acknowledged when so many replicas have confirmed it, and is an error otherwise, though it is stored.

mod common;

use anthill_jobs::broker::Admin;
use anthill_jobs::{Broker, Enqueued, JobState, QueueError};
use anthill_test_support::redis::{Options, Persistence, Server};
use anthill_test_support::skip_unless;
use common::{builder, enqueue, fresh, job, jobs, open};
use std::time::Duration;

/// A primary and its replica, which has all that it has.
macro_rules! pair {
    () => {{
        let primary = skip_unless!(Server::start(Persistence::Off));
        let replica = Options::new(Persistence::Off).replica_of(&primary);
        let replica = skip_unless!(replica.start());
        replica.wait_for_replication();
        (primary, replica)
    }};
}

#[test]
fn what_a_replica_has_confirmed_is_there_when_it_is_promoted() {
    for _ in 0..3 {
        let (primary, replica) = pair!();
        let queue = fresh();
        let address = format!("{}?replicas=1", primary.url());
        let broker = builder(&address, &queue).open().expect("it can be opened");
        let mut jobs = jobs(20);
        // One that a plain enqueue knows nothing of.
        let mut rich = job("rich");
        rich.key = Some("key".to_owned());
        jobs.push(rich);
        for one in &jobs {
            enqueue(&broker, std::slice::from_ref(one));
        }
        primary.kill();
        replica.promote();
        let other = open(&replica.url(), &queue);
        for one in &jobs {
            let there = other.get(one.id).expect("it looks");
            assert_eq!(there.map(|job| job.state), Some(JobState::Ready));
        }
    }
}

#[test]
fn what_no_replica_confirms_is_an_error_and_can_be_repeated() {
    let (primary, replica) = pair!();
    let queue = fresh();
    let broker = builder(&primary.url(), &queue)
        .replicas(1)
        .timeout(Duration::from_secs(1))
        .open()
        .expect("it can be opened");
    let plain = open(&primary.url(), &queue);
    for one in jobs(3) {
        replica.pause();
        let refused = broker.enqueue(std::slice::from_ref(&one));
        let Err(QueueError::Unavailable(why)) = &refused else {
            panic!("nobody has confirmed it: {refused:?}");
        };
        assert!(why.to_string().contains("replicas"), "{why}");
        // It is stored, and who does not ask for replicas does not wait for them.
        assert!(plain.get(one.id).expect("it looks").is_some());
        assert!(enqueue(&plain, &[job("other")])[0].is_added());
        replica.resume();
        replica.wait_for_replication();
        assert_eq!(
            enqueue(&broker, std::slice::from_ref(&one)),
            [Enqueued::Duplicate(one.id)]
        );
    }
}
