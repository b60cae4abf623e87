//! Consumers of different kinds, and of different versions of one, on one queue.

use crate::bench::*;
use anthill::Pool;
use anthill_jobs::*;
use serde::{Deserialize, Serialize};
use std::sync::mpsc;

type Done = Result<(), JobError>;

#[test]
fn consumers_of_different_kinds_share_a_queue() {
    let (queue, _) = queue();
    let pools = [Pool::with_capacity(2), Pool::with_capacity(2)];
    let (send, counted) = mpsc::channel();
    let (say, texted) = mpsc::channel();
    let counts = queue
        .consumer(&pools[0])
        .handle(move |Count(n): Count, _: &Context| Ok(send.send(n)?))
        .start()
        .unwrap();
    let texts = queue
        .consumer(&pools[1])
        .handle(move |Text { text }: Text, _: &Context| Ok(say.send(text)?))
        .start()
        .unwrap();
    for n in 0..100 {
        queue.job(Count(n)).retries(0).enqueue().unwrap();
        queue
            .job(text(&n.to_string()))
            .retries(0)
            .enqueue()
            .unwrap();
    }
    until("all are done", || queue.stats().unwrap().done == 200);
    counts.stop(LONG).unwrap();
    texts.stop(LONG).unwrap();
    assert_eq!(
        (counted.try_iter().count(), texted.try_iter().count()),
        (100, 100)
    );
    let stats = queue.stats().unwrap();
    assert_eq!((stats.died, stats.retried, stats.lost_leases), (0, 0, 0));
    assert_eq!((counts.stats().claimed, texts.stats().claimed), (100, 100));
}

/// A consumer sleeps beside jobs that it does not know, and those do not keep it from its own.
#[test]
fn what_nobody_knows_waits_and_is_in_nobodys_way() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(1);
    for _ in 0..1_000 {
        queue.job(text("?")).retries(0).enqueue().unwrap();
    }
    let consumer = queue
        .consumer(&pool)
        .handle(|_: Count, _: &Context| -> Done { Ok(()) })
        .start()
        .unwrap();
    for n in 0..100 {
        queue.job(Count(n)).priority(-1).enqueue().unwrap();
    }
    consumer.wait_idle();
    consumer.stop(LONG).unwrap();
    let stats = queue.stats().unwrap();
    assert_eq!((stats.done, stats.ready), (100, 1_000));
    let waiting = queue.list(JobState::Ready, None, 2_000).unwrap();
    assert!(waiting.iter().all(|job| job.attempt == 0));
    assert_eq!(consumer.stats().claimed, 100);
}

// ── versions ────────────────────────────────────────────────────────────────────────────────

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Old {
    name: String,
}
impl Job for Old {
    const KIND: &'static str = "greet";
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct New {
    first: String,
    last: String,
}
impl Job for New {
    const KIND: &'static str = "greet";
    const VERSION: u32 = 2;

    fn read(version: u32, payload: &[u8]) -> Result<New, serde_json::Error> {
        if version >= 2 {
            return serde_json::from_slice(payload);
        }
        let Old { name } = serde_json::from_slice(payload)?;
        let (first, last) = name.split_once(' ').unwrap_or((&name, ""));
        Ok(New {
            first: first.to_owned(),
            last: last.to_owned(),
        })
    }
}

fn new(first: &str, last: &str) -> New {
    New {
        first: first.to_owned(),
        last: last.to_owned(),
    }
}

#[test]
fn an_old_consumer_leaves_newer_jobs_and_a_new_one_reads_older_ones() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(1);
    let (send, old_ran) = mpsc::channel();
    let old = queue
        .consumer(&pool)
        .handle(move |job: Old, cx: &Context| Ok(send.send((job.name, cx.version()))?))
        .inline();
    let (send, new_ran) = mpsc::channel();
    let newer = queue
        .consumer(&pool)
        .handle(move |job: New, cx: &Context| {
            assert_eq!(cx.kind(), "greet");
            Ok(send.send((job, cx.version()))?)
        })
        .inline();
    let ada = || Old {
        name: "Ada Lovelace".to_owned(),
    };
    queue
        .job(new("Grace", "Hopper"))
        .retries(0)
        .enqueue()
        .unwrap();
    queue.enqueue(ada()).unwrap();
    assert_eq!(old.run_due().unwrap(), 1);
    assert_eq!(
        old_ran.try_iter().collect::<Vec<_>>(),
        [("Ada Lovelace".to_owned(), 0)]
    );
    let waiting = queue.list(JobState::Ready, None, 10).unwrap();
    assert_eq!((waiting.len(), waiting[0].kind.as_str()), (1, "greet@2"));
    assert_eq!(waiting[0].attempt, 0);
    queue.enqueue(ada()).unwrap();
    // One of a version between, which no program makes any more.
    let between = serde_json::to_vec(&ada()).unwrap();
    queue.enqueue_new(&NewJob::new("greet@1", between)).unwrap();
    // And one that is newer than both.
    queue
        .enqueue_new(&NewJob::new("greet@3", b"?".to_vec()))
        .unwrap();
    assert_eq!(newer.run_due().unwrap(), 3);
    let read: Vec<_> = new_ran.try_iter().collect();
    let lovelace = |version| (new("Ada", "Lovelace"), version);
    assert_eq!(
        read,
        [(new("Grace", "Hopper"), 2), lovelace(0), lovelace(1)]
    );
    let stats = queue.stats().unwrap();
    assert_eq!((stats.done, stats.ready, stats.dead), (4, 1, 0));
}

/// What is no such data in any version is dead with the reason, by `read`.
#[test]
fn an_older_job_that_cannot_be_read_is_dead_with_the_reason() {
    let (queue, _) = queue();
    let newer = queue
        .consumer(&Pool::with_capacity(1))
        .handle(|_: New, _: &Context| -> Done { Ok(()) })
        .inline();
    queue
        .enqueue_new(&NewJob::new("greet", b"{}".to_vec()))
        .unwrap();
    assert_eq!(newer.run_due().unwrap(), 1);
    let dead = &queue.dead(1).unwrap()[0];
    let why = dead.error.as_ref().unwrap();
    assert!(why.contains("missing field `name`"), "{why}");
}

/// The run time and the backoff of a kind are those of all its versions.
#[test]
fn what_is_told_of_a_kind_is_told_of_its_versions() {
    let (queue, _) = queue();
    let newer = queue
        .consumer(&Pool::with_capacity(1))
        .handle(|_: New, _: &Context| -> Done { Err("no".into()) })
        .backoff_of::<New>(Backoff::new(SECOND * 77, SECOND * 77))
        .inline();
    let old = queue
        .enqueue(Old {
            name: String::new(),
        })
        .unwrap();
    let new = queue.enqueue(new("", "")).unwrap();
    assert_eq!(newer.run_due().unwrap(), 2);
    for id in [old, new] {
        let due = queue.get(id).unwrap().unwrap().due_in.unwrap();
        assert!(due > SECOND * 30 && due <= SECOND * 77, "{due:?}");
    }
}
