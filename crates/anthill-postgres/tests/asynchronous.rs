//! Calls from async tasks: `enqueue_async` blocks no thread; the blocking calls block theirs, and never panic.

mod support;

use anthill_jobs::broker::Admin;
use anthill_jobs::{Broker, Enqueued, Job, QueueError};
use anthill_postgres::{PostgresBroker, PostgresQueue};
use anthill_test_support::postgres;
use anthill_test_support::proxy::{Protocol, Proxy};
use anthill_test_support::{skip_unless, watchdog};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use support::{claim, enqueue, finish, fresh, job, jobs, open, stats};
use tokio::runtime::Builder;

#[derive(Serialize, Deserialize)]
struct Letter(String);

impl Job for Letter {
    const KIND: &'static str = "letter";
}

/// On the one thread of its runtime another task runs while the enqueue waits for the server.
#[test]
fn an_async_enqueue_leaves_its_thread_to_others() {
    let server = skip_unless!(postgres::shared());
    let database = server.fresh_database();
    drop(open(&server.url_of(&database)));
    let proxy = Proxy::start(server.address(), Protocol::Postgres);
    let address = server.url_through(proxy.address(), &database);
    let broker = open(&address);
    enqueue(&broker, &jobs(1));
    proxy.stall();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    watchdog("both tasks end", move || {
        runtime.block_on(async {
            let enqueued = broker.enqueue_async(&[job("a")]);
            let mut enqueued = std::pin::pin!(enqueued);
            // It waits, and this goes on.
            let waits = tokio::time::timeout(Duration::from_millis(50), &mut enqueued);
            assert!(waits.await.is_err());
            proxy.resume();
            let enqueued = enqueued.await.expect("it is enqueued");
            assert!(enqueued[0].is_added());
            assert!(broker.enqueue_async(&[]).await.unwrap().is_empty());
        });
    });
}

/// What was called is done, though nobody waits for it.
#[test]
fn an_async_enqueue_that_is_dropped_goes_on() {
    let server = skip_unless!(postgres::shared());
    let broker = open(&fresh(server));
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        drop(broker.enqueue_async(&[job("a")]));
    });
    anthill_test_support::eventually("it is there", || stats(&broker).ready == 1);
}

/// Of any executor: this one knows nothing of tokio.
#[test]
fn an_async_enqueue_needs_no_runtime() {
    let server = skip_unless!(postgres::shared());
    let queue = anthill_postgres::open(&fresh(server)).unwrap();
    let id = block_on(queue.enqueue_async(&Letter("a".into()))).unwrap();
    let broker: &PostgresBroker = queue.postgres().unwrap();
    assert_eq!(broker.get(id).unwrap().unwrap().kind, "letter");
    let twice = job("b");
    let all = [twice.clone(), twice.clone()];
    let enqueued = block_on(broker.enqueue_async(&all)).unwrap();
    assert_eq!(
        enqueued,
        [Enqueued::Added(twice.id), Enqueued::Duplicate(twice.id)]
    );
    let invalid = block_on(broker.enqueue_async(&[anthill_jobs::NewJob::new("a\0b", vec![])]));
    assert!(
        matches!(invalid, Err(QueueError::Invalid(_))),
        "{invalid:?}"
    );
}

/// Polls a future on this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};

    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Inside a task, on runtimes of each sort: from the opening on.
#[test]
fn blocking_calls_may_be_made_in_a_task() {
    let server = skip_unless!(postgres::shared());
    let all = |address: String| {
        let broker = open(&address);
        enqueue(&broker, &jobs(3));
        assert_eq!(finish(&broker, &claim(&broker, 3)), 3);
        assert_eq!(stats(&broker).done, 3);
        drop(broker);
    };
    let runtimes = [
        Builder::new_current_thread().enable_all().build().unwrap(),
        Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap(),
    ];
    for runtime in runtimes {
        let (first, second) = (fresh(server), fresh(server));
        watchdog("the tasks end", move || {
            runtime.block_on(async move {
                all(first);
                tokio::spawn(async move { all(second) }).await.unwrap();
            });
        });
    }
}

/// A subscription is told on a thread where the broker may be called.
#[test]
fn a_listener_may_call_the_broker() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let broker = std::sync::Arc::new(open(&address));
    let (sender, seen) = std::sync::mpsc::channel();
    let own = std::sync::Arc::downgrade(&broker);
    let listener = anthill_jobs::broker::Listener::new(Duration::from_secs(3600), move |_| {
        if let Some(broker) = own.upgrade() {
            let _ = sender.send(stats(&broker).ready);
        }
    });
    let _subscription = broker.subscribe(listener).unwrap();
    let other = PostgresBroker::builder(&address).alone().open().unwrap();
    enqueue(&other, &[job("a")]);
    loop {
        if anthill_test_support::receive("it has looked", &seen) == 1 {
            return;
        }
    }
}
