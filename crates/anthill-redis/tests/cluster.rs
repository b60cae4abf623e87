//! Queues in a cluster: each on the node that has its slot, also while that is moved, and when the node is gone.

mod common;

use anthill_jobs::broker::Admin;
use anthill_jobs::{Broker, JobId, QueueError};
use anthill_test_support::redis::{Cluster, Options, Persistence, Step, slot_of};
use anthill_test_support::{becomes_true, eventually, skip_unless, watchdog};
use common::{
    Ends, GRACE, LEASE, Over, builder, claim, ear, enqueue, finish, fresh, hears, job, jobs, key,
    names, open, stats, work,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The address with these nodes of a cluster.
fn address(cluster: &Cluster, nodes: &[usize]) -> String {
    let places: Vec<String> = nodes
        .iter()
        .map(|&node| cluster.nodes()[node].address().to_string())
        .collect();
    let password = cluster.nodes()[0].password().expect("they have one");
    format!("redis://:{password}@{}/", places.join(","))
}

fn slot(queue: &str) -> u16 {
    slot_of(key(queue, "conf"))
}

/// A queue that a node has.
fn queue_on(cluster: &Cluster, node: usize) -> String {
    loop {
        let queue = fresh();
        if cluster.owner(slot(&queue)) == node {
            return queue;
        }
    }
}

/// How often the nodes have answered with an error, all together.
fn errors(cluster: &Cluster, code: &str) -> u64 {
    let running = cluster.nodes().iter().filter(|node| node.is_running());
    let count = |node: &anthill_test_support::redis::Server| {
        let fields = node.raw().info("errorstats");
        let count = fields.get(&format!("errorstat_{code}"))?;
        count.strip_prefix("count=")?.parse::<u64>().ok()
    };
    running.filter_map(count).sum()
}

#[test]
fn queues_are_spread_over_the_nodes_and_found_by_any_of_them() {
    let cluster = skip_unless!(Cluster::start(3));
    for node in 0..3 {
        let queue = queue_on(&cluster, node);
        for seed in 0..3 {
            let broker = open(&address(&cluster, &[seed]), &queue);
            enqueue(&broker, &[job(seed.to_string())]);
            let limits = anthill_jobs::Limits::default();
            anthill_jobs::broker::LimitStore::set_limits(&broker, limits).expect("it is found");
        }
        let broker = open(&address(&cluster, &[2, 1, 0]), &queue);
        let other = open(&address(&cluster, &[1]), &queue);
        assert_eq!(broker.identity(), other.identity());
        let claimed = claim(&broker, 10);
        assert_eq!(names(&claimed), ["0", "1", "2"]);
        assert_eq!(finish(&other, &claimed), 3);
        // A message goes to all nodes, and so to who listens at another one.
        let (heard, _subscription) = ear(&broker, LEASE);
        hears(&heard, || {
            enqueue(&other, &[job("heard")]);
        });
        let mut raw = cluster.nodes()[node].raw();
        assert!(raw.run(&["EXISTS", &key(&queue, "jobs")]).integer() == 1);
    }
    // There is but one database in a cluster.
    let refused = builder(&format!("{}3", address(&cluster, &[0])), &fresh()).open();
    assert!(
        matches!(refused, Err(QueueError::Address { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_fleet_works_on_while_the_slot_of_its_queue_is_moved() {
    let cluster = skip_unless!(Cluster::start(3));
    let queue = queue_on(&cluster, 0);
    let address = address(&cluster, &[0, 1, 2]);
    let (is_over, is_produced) = (AtomicBool::new(false), AtomicBool::new(false));
    let (stored, ends) = thread::scope(|scope| {
        let over = Over(&is_over);
        let producer = scope.spawn(|| {
            let _produced = Over(&is_produced);
            let broker = open(&address, &queue);
            let mut stored: Vec<JobId> = Vec::new();
            while !is_over.load(Ordering::SeqCst) {
                if stats(&broker).ready > 100 {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                }
                let mut some = jobs(5);
                some[0].key = Some("key".to_owned());
                some[1].keep_result = Some(LEASE);
                let added = enqueue(&broker, &some);
                assert!(added.iter().all(|one| one.is_added()), "{added:?}");
                stored.extend(some.iter().map(|job| job.id));
            }
            stored
        });
        let consumer = || {
            let broker = open(&address, &queue);
            work(&broker, LEASE, &|| is_produced.load(Ordering::SeqCst))
        };
        let consumers: Vec<_> = (0..3).map(|_| scope.spawn(consumer)).collect();
        let watch = open(&address, &queue);
        // Works on in between, and meets each of the answers that a node has for those who ask the wrong one.
        for round in 0..20 {
            let done = stats(&watch).done;
            eventually("they work", || stats(&watch).done > done + 20);
            let (from, to) = if round % 2 == 0 { (0, 2) } else { (2, 0) };
            let met = |code: &str| {
                let before = errors(&cluster, code);
                let met = || errors(&cluster, code) > before;
                assert!(becomes_true(GRACE, met), "{round}: nobody meets {code}");
            };
            let mut steps = 0;
            cluster.move_slot_in_steps(slot(&queue), from, to, 4, |step| {
                steps += 1;
                match step {
                    // Where it matters most: a part has gone over; all of it, and nobody knows yet.
                    Step::Moved(4) if steps == 3 && round % 4 < 2 => met("TRYAGAIN"),
                    Step::Moved(moved) if moved < 4 && round % 4 < 2 => met("ASK"),
                    _ => {}
                }
            });
        }
        drop(over);
        let stored = producer.join().expect("no panic");
        let mut ends: BTreeMap<JobId, Ends> = BTreeMap::new();
        for consumer in consumers {
            for (id, end) in consumer.join().expect("no panic") {
                let all = ends.entry(id).or_default();
                all.stored += end.stored;
                all.unknown += end.unknown;
                all.lost += end.lost;
            }
        }
        (stored, ends)
    });
    for code in ["MOVED", "ASK", "TRYAGAIN"] {
        let count = errors(&cluster, code);
        eprintln!("{code} {count}");
        assert!(count > 0, "nobody met {code}");
    }
    // Nothing was cut, so nobody is in doubt: all are done, and each once.
    assert!(stored.len() > 400, "{}", stored.len());
    let once = |id: &JobId| ends.get(id).is_some_and(|end| end.stored == 1);
    let wrong: Vec<_> = stored.iter().filter(|id| !once(id)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(ends.len(), stored.len());
    assert!(ends.values().all(|end| (end.lost, end.unknown) == (0, 0)));
    let stats = stats(&open(&address, &queue));
    assert_eq!(stats.done, stored.len() as u64, "{stats:?}");
    assert_eq!(
        (stats.enqueued, stats.duplicates, stats.lost_leases),
        (stats.done, 0, 0)
    );
}

#[test]
fn a_node_that_is_gone_is_told_in_time_and_its_queue_goes_on_when_it_is_back() {
    let options = Options::new(Persistence::AofAlways).set("cluster-node-timeout", "1500");
    let cluster = skip_unless!(Cluster::start_with(3, &options));
    let queue = queue_on(&cluster, 1);
    let timeout = Duration::from_secs(1);
    // By the node that has it, by the others alone, and by all.
    let open = |nodes: &[usize]| {
        let builder = builder(&address(&cluster, nodes), &queue).timeout(timeout);
        builder.open().expect("it is there")
    };
    let brokers = [open(&[1]), open(&[0, 2]), open(&[0, 1, 2])];
    enqueue(&brokers[0], &jobs(3));
    let held = claim(&brokers[1], 1);
    assert_eq!(stats(&brokers[2]).running, 1);
    cluster.nodes()[1].kill();
    let fails = |call: &(dyn Fn() -> Result<(), QueueError> + Sync)| {
        let begin = Instant::now();
        let error = call().expect_err("it is gone");
        assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
        assert!(begin.elapsed() < timeout + GRACE, "{:?}", begin.elapsed());
    };
    let before = errors(&cluster, "CLUSTERDOWN");
    for broker in &brokers {
        fails(&|| broker.enqueue(&jobs(1)).map(drop));
    }
    eventually("the others know", || {
        fails(&|| brokers[2].stats().map(drop));
        errors(&cluster, "CLUSTERDOWN") > before
    });
    fails(&|| brokers[1].claim(&common::request(1, LEASE)).map(drop));
    // Nor can one be opened there.
    let all = address(&cluster, &[0, 1, 2]);
    let opened = watchdog("it ends", {
        let queue = queue.clone();
        move || builder(&all, &queue).timeout(timeout).open()
    });
    assert!(
        matches!(opened, Err(QueueError::Unavailable(_))),
        "{opened:?}"
    );
    cluster.nodes()[1].start_again();
    cluster.wait_until_ok();
    for broker in &brokers {
        eventually("it goes on", || broker.stats().is_ok());
    }
    assert_eq!(finish(&brokers[2], &held), 1);
    let rest = claim(&brokers[0], 10);
    assert_eq!(names(&rest)[..2], ["1", "2"]);
    assert_eq!(finish(&brokers[1], &rest), rest.len());
}
