//! Behind a pooler that gives each transaction another session of the server: a NOTIFY may be lost, and nothing else.
//!
//! The checks of all brokers run through it by `ANTHILL_POOLER=1 cargo test -p anthill-postgres --test conformance`.

mod support;

use anthill::Pool;
use anthill_jobs::{Context, Job, JobError, Queue};
use anthill_postgres::PostgresBroker;
use anthill_test_support::postgres::{self, Access};
use anthill_test_support::{eventually, skip_unless};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use support::pooler::Pooler;

#[derive(Serialize, Deserialize)]
struct Number(u32);

impl Job for Number {
    const KIND: &'static str = "number";
}

/// A handle that shares nothing with the others, as another process would have it.
fn open_apart(address: &str) -> Queue {
    let builder = PostgresBroker::builder(address).alone();
    builder.open_queue().expect("the queue can be opened")
}

#[test]
fn a_fleet_behind_a_pooler_loses_nothing_and_hears_by_its_poll() {
    let server: &Access = skip_unless!(postgres::shared());
    let pooler = skip_unless!(Pooler::start(server));
    let database = server.fresh_database();
    let (direct, through) = (server.url_of(&database), pooler.url_of(&database));
    let producer = open_apart(&direct);
    let consumers: Vec<Queue> = (0..3).map(|_| open_apart(&through)).collect();

    let runs: Arc<Mutex<BTreeMap<u32, u32>>> = Arc::default();
    let errors: Arc<Mutex<Vec<String>>> = Arc::default();
    let pools: Vec<Pool> = consumers.iter().map(|_| Pool::with_capacity(4)).collect();
    let consumers: Vec<_> = consumers
        .iter()
        .zip(&pools)
        .map(|(queue, pool)| {
            let (runs, errors) = (Arc::clone(&runs), Arc::clone(&errors));
            queue
                .consumer(pool)
                .on_error(move |error| errors.lock().unwrap().push(error.to_string()))
                .handle(
                    move |Number(number): Number, _: &Context| -> Result<(), JobError> {
                        *runs.lock().unwrap().entry(number).or_default() += 1;
                        Ok(())
                    },
                )
                .start()
                .unwrap()
        })
        .collect();
    thread::scope(|scope| {
        for producer in 0..4 {
            let queue = open_apart(&through);
            scope.spawn(move || {
                for number in 0..50 {
                    queue.enqueue(Number(producer * 50 + number)).unwrap();
                }
            });
        }
    });
    let done = || producer.stats().unwrap().done;
    eventually("all are done", || done() == 200);
    // They are idle now, and no notification reaches them.
    producer.enqueue(Number(200)).unwrap();
    eventually("the last one is done", || done() == 201);
    drop(consumers);
    assert!(runs.lock().unwrap().values().all(|&runs| runs == 1));
    assert_eq!(runs.lock().unwrap().len(), 201);
    assert_eq!(*errors.lock().unwrap(), [""; 0]);
}
