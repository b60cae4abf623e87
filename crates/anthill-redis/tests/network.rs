//! Networks that break between a request and its answer: what a caller is told, and what has become of the jobs.

mod common;

use anthill::Pool;
use anthill_jobs::{Broker, Context, Enqueued, Extended, Job, JobError, Queue, Settle, Settled};
use anthill_test_support::{Arrivals, eventually, redis, skip_unless};
use common::line::{Line, TIMEOUT, is_unavailable};
use common::wire::Act;
use common::{
    LEASE, builder, claim, done, ear, enqueue, finish, hears, job, jobs, key, names, open, request,
    stats,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[test]
fn an_enqueue_that_is_cut_is_stored_once() {
    let line = Line::new(skip_unless!(redis::shared()));
    let broker = line.open();
    let before = stats(&broker);
    for (number, rich) in [(0, false), (1, true), (2, false), (3, true)] {
        let mut one = job(format!("letter {number}"));
        one.unique = rich.then(|| format!("unique {number}"));
        let batch = [one.clone(), job("beside it")];
        let first = if number < 2 {
            Act::CutReply
        } else {
            Act::CutRequest
        };
        line.plan.acts(format!("letter {number}"), vec![first]);
        // The broker asks again by itself, and knows that it was its own call.
        let answers = enqueue(&broker, &batch);
        assert!(answers.iter().all(|one| one.is_added()), "{answers:?}");
        assert!(line.plan.is_over());
        // What the caller repeats is a duplicate.
        assert_eq!(enqueue(&broker, &batch)[0], Enqueued::Duplicate(one.id));
    }
    let now = stats(&broker);
    assert_eq!(now.enqueued - before.enqueued, 8, "{now:?}");
    assert_eq!(now.ready, 8, "{now:?}");
}

#[test]
fn an_enqueue_that_is_cut_each_time_fails_and_may_be_repeated() {
    let line = Line::new(skip_unless!(redis::shared()));
    let broker = line.open();
    let mut ready = 0;
    for (number, is_stored) in [(0, true), (1, false)] {
        let one = job(format!("letter {number}"));
        let cut = || {
            if is_stored {
                Act::CutReply
            } else {
                Act::CutRequest
            }
        };
        line.plan.acts(&one.payload, vec![cut(), cut(), cut()]);
        is_unavailable(broker.enqueue(std::slice::from_ref(&one)));
        line.plan.acts("", Vec::new());
        ready += u64::from(is_stored);
        assert_eq!(stats(&line.near).ready, ready);
        let expected = if is_stored {
            Enqueued::Duplicate(one.id)
        } else {
            Enqueued::Added(one.id)
        };
        assert_eq!(enqueue(&broker, &[one])[0], expected);
        ready = number + 1;
    }
}

/// The first of two calls may have been done, whatever the second one is told.
#[test]
fn a_refusal_that_follows_a_lost_answer_leaves_it_open() {
    let line = Line::new(skip_unless!(redis::shared()));
    let broker = line.open();
    for refusal in [
        "NOPERM it may not",
        "OOM it is full",
        "READONLY it is a replica",
        "ERR why",
    ] {
        let one = job(format!("letter {refusal}"));
        let refuses = || Act::Answer(format!("-{refusal}\r\n").into_bytes());
        let acts = std::iter::once(Act::CutReply).chain((0..500).map(|_| refuses()));
        line.plan.acts(&one.payload, acts.collect());
        let quick = builder(&line.address, &line.queue).timeout(TIMEOUT).open();
        is_unavailable(
            quick
                .expect("it is there")
                .enqueue(std::slice::from_ref(&one)),
        );
        line.plan.acts("", Vec::new());
        assert_eq!(
            enqueue(&broker, std::slice::from_ref(&one)),
            [Enqueued::Duplicate(one.id)]
        );
    }
}

/// Its own message is not heard by a process, which has told its listeners itself.
#[test]
fn listeners_of_this_process_are_told_of_what_was_stored_without_an_answer() {
    let line = Line::new(skip_unless!(redis::shared()));
    let broker = line.open();
    let (heard, _subscription) = ear(&broker, Duration::MAX);
    let one = job("letter");
    line.plan
        .acts(&one.payload, vec![Act::CutReply, Act::CutReply]);
    is_unavailable(broker.enqueue(&[one]));
    assert!(
        heard.here.load(Ordering::SeqCst) > 0,
        "it is stored, and waits"
    );
    // Nor is it a job that is retried, whose settlement was done.
    let before = heard.here.load(Ordering::SeqCst);
    let held = claim(&broker, 1).remove(0);
    line.plan.acts(held.lease.token(), vec![Act::CutReply]);
    let again = Settle::Retry {
        delay: Duration::ZERO,
        error: String::new(),
    };
    let _ = broker.settle(&[(held.lease, again)]);
    assert_eq!(stats(&line.near).ready, 1);
    assert!(heard.here.load(Ordering::SeqCst) > before, "it waits again");
}

#[test]
fn a_claim_that_is_cut_before_its_answer_comes_again_after_the_lease() {
    let line = Line::new(skip_unless!(redis::shared()));
    let broker = line.open();
    let before = stats(&broker).lost_leases;
    enqueue(&broker, &jobs(3));
    let by = |name: &str| request(3, Duration::from_millis(300)).by(Arc::from(name.to_owned()));
    line.plan.acts("who loses", vec![Act::CutReply]);
    is_unavailable(broker.claim(&by("who loses")));
    let mut again = Vec::new();
    eventually("they come again", || {
        again.extend(claim(&broker, 3));
        again.len() == 3
    });
    assert!(again.iter().all(|job| job.attempt == 1), "{again:?}");
    assert_eq!(finish(&broker, &again), 3);
    assert_eq!(stats(&broker).lost_leases - before, 3);
}

#[test]
fn a_claim_that_is_cut_on_its_way_has_claimed_nothing() {
    let line = Line::new(skip_unless!(redis::shared()));
    let broker = line.open();
    enqueue(&broker, &jobs(3));
    line.plan.acts("who loses", vec![Act::CutRequest]);
    is_unavailable(broker.claim(&request(3, LEASE).by(Arc::from("who loses"))));
    let claimed = claim(&broker, 3);
    assert_eq!(names(&claimed), ["0", "1", "2"]);
    assert_eq!(finish(&broker, &claimed), 3);
}

/// The lease may be over, or this call may have ended the job: a caller who hears that he lost it would be told wrong.
#[test]
fn a_settlement_whose_answer_was_lost_is_not_called_lost() {
    let line = Line::new(skip_unless!(redis::shared()));
    let broker = line.open();
    let before = stats(&broker).done;
    let mut rich = job("rich");
    rich.key = Some("key".to_owned());
    // The rich one is asked of the quick script first, which does nothing.
    let cuts = [vec![Act::CutReply], vec![Act::Pass, Act::CutReply]];
    for (batch, cut) in [jobs(2), vec![rich]].into_iter().zip(cuts) {
        enqueue(&broker, &batch);
        let held = claim(&broker, 2);
        line.plan.acts(held[0].lease.token(), cut);
        let ends: Vec<_> = held.iter().map(done).collect();
        is_unavailable(broker.settle(&ends));
        // It was done; of who asks again by himself the broker says so much.
        assert!(
            line.near
                .settle(&ends)
                .unwrap()
                .iter()
                .all(|one| *one == Settled::Lost)
        );
    }
    assert_eq!(stats(&broker).done - before, 3, "each is done once");
    // One that did not come through is made again, and nobody notices; nor where some of it is lost in truth.
    enqueue(&broker, &jobs(2));
    let held = claim(&broker, 2);
    let mut ends: Vec<_> = held.iter().map(done).collect();
    ends.push((
        anthill_jobs::Lease::new(held[0].lease.id(), b"another one"),
        ends[0].1.clone(),
    ));
    line.plan.acts(held[0].lease.token(), vec![Act::CutRequest]);
    let settled = broker.settle(&ends).expect("it is made again");
    assert_eq!(settled, [Settled::Stored, Settled::Stored, Settled::Lost]);
}

#[derive(Serialize, Deserialize)]
struct Letter;

impl Job for Letter {
    const KIND: &'static str = "letter";
}

#[test]
fn a_consumer_counts_what_it_cannot_confirm_and_loses_nothing() {
    let line = Line::new(skip_unless!(redis::shared()));
    let queue = Queue::of(line.open());
    let near = Queue::of(open(&redis::shared().unwrap().url(), &line.queue));
    let before = near.stats().expect("they are read");
    let pool = Pool::with_capacity(1);
    let runs = Arrivals::new();
    let counts = runs.clone();
    let consumer = queue
        .consumer(&pool)
        .lease(LEASE)
        .handle(move |_: Letter, _: &Context| -> Result<(), JobError> {
            counts.arrive();
            Ok(())
        })
        .start()
        .expect("it starts");
    // Nothing but its settlement names the job: the answer to that, and then the settlement itself.
    for (number, act) in [(1, Act::CutReply), (2, Act::CutRequest)] {
        let one = near.encode(&Letter).expect("it can be written");
        line.plan.acts(one.id.as_bytes(), vec![act]);
        near.enqueue_new(&one).expect("it is stored");
        eventually("its settlement is cut", || line.plan.is_over());
        eventually("it is settled", || consumer.stats().in_hand == 0);
        runs.wait_for(number);
        assert_eq!(near.stats().unwrap().done - before.done, number as u64);
    }
    let counted = consumer.stats();
    assert_eq!((counted.unconfirmed, counted.lost), (1, 0), "{counted:?}");
    assert_eq!(runs.count(), 2, "each runs once");
    consumer.stop(LEASE).expect("it stops");
}

#[test]
fn a_heartbeat_that_is_cut_costs_no_lease() {
    let line = Line::new(skip_unless!(redis::shared()));
    let broker = line.open();
    enqueue(&broker, &jobs(1));
    let held = claim(&broker, 1).remove(0);
    for act in [Act::CutReply, Act::CutRequest] {
        line.plan.acts(held.lease.token(), vec![act]);
        let extended = broker.extend(std::slice::from_ref(&held.lease), LEASE);
        let extended = extended.expect("it is sent again");
        assert!(matches!(extended[0], Extended::Held(_)), "{extended:?}");
        assert!(line.plan.is_over());
    }
    assert_eq!(finish(&broker, &[held]), 1);
}

/// The messages of one connection are lost, and its ends are not told.
#[test]
fn messages_that_do_not_come_are_made_up_for_by_a_poll_and_another_connection() {
    let access = skip_unless!(redis::shared());
    let line = Line::new(access);
    let broker = line.open();
    line.plan
        .acts("SUBSCRIBE", vec![Act::Answer(subscribed(&line.queue))]);
    let poll = Duration::from_millis(200);
    let (heard, _subscription) = ear(&broker, poll);
    eventually("it is connected", || line.plan.is_over());
    let before = heard.elsewhere.load(Ordering::SeqCst);
    eventually("it polls", || {
        heard.elsewhere.load(Ordering::SeqCst) >= before + 4
    });
    let connections = line.wire.accepted();
    eventually("it connects again", || line.wire.accepted() > connections);
    // Now they come: a thread that is told waits for no poll.
    let near = &line.near;
    hears(&heard, || {
        enqueue(near, &[job("heard")]);
    });
}

/// What a server says when somebody has subscribed.
fn subscribed(queue: &str) -> Vec<u8> {
    let channel = key(queue, "conf");
    format!(
        "*3\r\n$9\r\nsubscribe\r\n${}\r\n{channel}\r\n:1\r\n",
        channel.len()
    )
    .into_bytes()
}
