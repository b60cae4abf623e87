//! What one process does is heard by others by a message, and not by their poll: the listeners' poll is an hour here, and every
//! test ends long before.

mod support;

use anthill::Pool;
use anthill_jobs::broker::{Change, Listener, Subscription};
use anthill_jobs::{
    Broker, ClaimRequest, Context, Job, JobError, Lease, NewJob, Queue, QueueError, Settle,
};
use anthill_redis::{RedisBroker, RedisBuilder};
use anthill_test_support::redis::{Access, Persistence, Raw, Server, Value, shared};
use anthill_test_support::{eventually, receive, skip_unless};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;
use support::invariants::assert_hold;

const HOUR: Duration = Duration::from_secs(3600);

/// A queue, at which each handle is as another process would have it.
struct Place {
    url: String,
    name: String,
}

impl Place {
    fn new(access: &Access) -> Place {
        static PLACES: AtomicU32 = AtomicU32::new(0);
        Place {
            url: access.url(),
            name: format!("heard{}", PLACES.fetch_add(1, Ordering::Relaxed)),
        }
    }

    fn builder(&self) -> RedisBuilder {
        RedisBroker::builder(&self.url).queue(&*self.name).alone()
    }

    fn open(&self) -> RedisBroker {
        self.builder().open().expect("it can be opened")
    }

    fn channel(&self) -> String {
        format!("{{anthill:{}}}:conf", self.name)
    }

    fn await_subscribed(&self, raw: &mut Raw, number: i64) {
        eventually("it subscribes", || {
            let told = raw.run(&["PUBSUB", "NUMSUB", &self.channel()]).array();
            told[1].integer() == number
        });
    }
}

/// Counts what a broker tells of other processes.
fn ear(broker: &RedisBroker) -> (Arc<AtomicUsize>, Subscription) {
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    let listener = Listener::new(HOUR, move |change| {
        // `Perhaps` is what a poll says.
        if change == Change::Elsewhere {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let subscription = broker.subscribe(listener).expect("it listens");
    (heard, subscription)
}

fn job() -> NewJob {
    NewJob::new("test", b"null".to_vec())
}

fn enqueue(broker: &RedisBroker) {
    let jobs = [job()];
    let answers: Result<Vec<_>, QueueError> = broker
        .enqueue(&jobs)
        .expect("it can be")
        .into_iter()
        .collect();
    answers.expect("it is");
}

#[track_caller]
fn await_more(heard: &AtomicUsize, than: usize) {
    eventually("it is heard", || heard.load(Ordering::SeqCst) > than);
}

/// All that others do is over for a listener when nothing is left to arm: it has been told, and waits to be told again.
fn await_armed(raw: &mut Raw, place: &Place) {
    eventually("it waits to be told", || {
        raw.run(&["HGET", &place.channel(), "w"]) == Value::Bulk(b"1".to_vec())
    });
}

#[test]
fn each_change_of_another_process_is_heard_by_its_message() {
    let access = skip_unless!(shared());
    let place = Place::new(access);
    let mut raw = access.raw();
    let (here, there) = (place.open(), place.open());
    let (heard, _subscription) = ear(&here);
    place.await_subscribed(&mut raw, 1);
    for _ in 0..50 {
        await_armed(&mut raw, &place);
        let before = heard.load(Ordering::SeqCst);
        enqueue(&there);
        await_more(&heard, before);
    }
    // Also what makes a job claimable that is none: a settlement, by which it is tried again.
    for _ in 0..50 {
        let request = ClaimRequest::new(1, HOUR);
        let lease = there.claim(&request).unwrap().jobs.remove(0).lease;
        await_armed(&mut raw, &place);
        let before = heard.load(Ordering::SeqCst);
        let retry = Settle::Retry {
            delay: Duration::ZERO,
            error: "again".to_owned(),
        };
        let ends: [(Lease, Settle); 1] = [(lease, retry)];
        assert!(there.settle(&ends).unwrap()[0].is_stored());
        await_more(&heard, before);
    }
    assert_hold(&mut raw, &place.name);
}

#[test]
fn what_comes_right_after_a_message_is_heard_and_a_burst_is_few_messages() {
    const BURST: u64 = 2_000;
    let access = skip_unless!(Server::start(Persistence::Off));
    let place = Place::new(&access);
    let mut raw = access.raw();
    let (here, there) = (place.open(), place.open());
    let (heard, _subscription) = ear(&here);
    place.await_subscribed(&mut raw, 1);
    await_armed(&mut raw, &place);
    let published = |raw: &mut Raw| raw.commandstats().get("publish").copied().unwrap_or(0);
    let first = published(&mut raw);
    let before = heard.load(Ordering::SeqCst);
    for _ in 0..BURST {
        enqueue(&there);
    }
    await_more(&heard, before);
    // Whatever came after a message is told by another, also to who waits again.
    await_armed(&mut raw, &place);
    let messages = published(&mut raw) - first;
    let heard = heard.load(Ordering::SeqCst) - before;
    eprintln!("{BURST} enqueues, {messages} messages, {heard} heard");
    assert!(messages < BURST / 4, "{messages} messages of {BURST}");
    // One may be that by which the listener finds out whether messages come.
    let heard = u64::try_from(heard).unwrap();
    assert!(messages > 1 && heard + 1 >= messages, "{heard} heard");
}

#[test]
fn what_is_done_while_and_after_the_connection_of_messages_is_ended_is_heard() {
    let server = skip_unless!(Server::start(Persistence::Off));
    let place = Place::new(&server);
    let mut raw = server.raw();
    let (here, there) = (place.open(), place.open());
    let (heard, _subscription) = ear(&here);
    place.await_subscribed(&mut raw, 1);
    for _ in 0..4 {
        await_armed(&mut raw, &place);
        let before = heard.load(Ordering::SeqCst);
        let ended = raw.run(&["CLIENT", "KILL", "TYPE", "pubsub"]).integer();
        assert_eq!(ended, 1);
        // Nobody listens now.
        enqueue(&there);
        await_more(&heard, before);
        place.await_subscribed(&mut raw, 1);
        await_armed(&mut raw, &place);
        let before = heard.load(Ordering::SeqCst);
        enqueue(&there);
        await_more(&heard, before);
    }
    assert_hold(&mut raw, &place.name);
}

#[derive(Serialize, Deserialize)]
struct Ping(u32);

impl Job for Ping {
    const KIND: &'static str = "ping";
}

#[test]
fn a_consumer_runs_what_is_enqueued_elsewhere_without_its_poll() {
    const JOBS: u32 = 60;
    let server = skip_unless!(Server::start(Persistence::Off));
    let place = Place::new(&server);
    let mut raw = server.raw();
    let (ran, runs) = channel();
    let pool = Pool::with_capacity(1);
    let queue = Queue::of(place.open());
    let consumer = queue
        .consumer(&pool)
        .poll(HOUR)
        .handle(move |ping: Ping, _: &Context| -> Result<(), JobError> {
            ran.send(ping.0)?;
            Ok(())
        })
        .start()
        .unwrap();
    place.await_subscribed(&mut raw, 1);
    let elsewhere = Queue::of(place.open());
    for number in 0..JOBS {
        // Ever again its connection is ended, and all others with it.
        if number % 20 == 10 {
            for kind in ["pubsub", "normal"] {
                raw.run(&["CLIENT", "KILL", "TYPE", kind]);
            }
        }
        elsewhere.enqueue(Ping(number)).unwrap();
        assert_eq!(receive("it runs", &runs), number);
    }
    consumer.stop(Duration::from_secs(20)).unwrap();
    assert_hold(&mut raw, &place.name);
}
