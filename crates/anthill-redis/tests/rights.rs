//! What a user of a server has to be allowed for a queue, and that it is enough and no more.

mod common;

use anthill_jobs::broker::{Admin, ConsumerRegistry, LimitStore, ScheduleStore};
use anthill_jobs::{
    Broker, ClaimRequest, ConsumerInfo, Enqueued, JobId, JobState, Limits, ListRequest, NewJob,
    OncePer, QueueError, Rate, Retention, Scheduled, Settle,
};
use anthill_redis::RedisBroker;
use anthill_test_support::redis::{self, Persistence, Server};
use anthill_test_support::{eventually, skip_unless};
use common::users::{address_of, commands, make_user};
use common::{LEASE, builder, contents, ear, enqueue, fresh, hears, job, jobs, key, open, stats};
use std::sync::atomic::Ordering;
use std::time::Duration;

fn failed(job: &anthill_jobs::Claimed) -> (anthill_jobs::Lease, Settle) {
    let error = "it failed".to_owned();
    (job.lease.clone(), Settle::Dead { error })
}

/// Does everything with a queue that a program can do.
fn round(address: &str, queue: &str) -> Result<(), QueueError> {
    let broker = builder(address, queue).open()?;
    // Stored, also in each of the ways that a script of its own knows nothing of.
    let plain = jobs(3);
    broker.enqueue(&plain)?;
    broker.enqueue(&plain)?;
    let mut rich = job("rich");
    rich.unique = Some("unique".to_owned());
    rich.once_per = Some(OncePer {
        key: "once".to_owned(),
        period: LEASE,
    });
    rich.key = Some("key".to_owned());
    rich.expires = Some(LEASE);
    rich.keep_result = Some(LEASE);
    rich.headers.insert("a".to_owned(), "b".to_owned());
    broker.enqueue(std::slice::from_ref(&rich))?;
    let mut keyed = job("keyed");
    keyed.key = Some("key".to_owned());
    let mut large = NewJob::new("test", vec![b'x'; 70_000]);
    large.delay = Duration::from_micros(1);
    let mut gone = job("gone");
    gone.expires = Some(Duration::from_micros(1));
    let mut later = job("later");
    later.delay = LEASE;
    broker.enqueue(&[keyed, large, gone, later.clone()])?;
    // Limits, which park, and order by keys.
    let mut limits = Limits {
        per_key: Some(1),
        max_ready: Some(100),
        running: Some(50),
        rate: None,
    };
    broker.set_limits(limits)?;
    limits.rate = Some(Rate {
        jobs: 1000,
        per: Duration::from_secs(1),
        burst: 1000,
    });
    broker.set_limits(limits)?;
    assert_eq!(broker.limits()?, limits);
    assert_eq!(broker.stats()?.parked, 1);
    assert_eq!(broker.ready_kinds()?, ["test"]);
    // Looked at.
    let all = ListRequest::new(JobState::Ready);
    assert!(broker.list(&all)?.len() >= 4);
    assert_eq!(
        broker
            .list(&all.clone().after(Some(plain[0].id)).limit(1))?
            .len(),
        1
    );
    assert_eq!(broker.list(&ListRequest::new(JobState::Delayed))?.len(), 1);
    assert_eq!(broker.list(&ListRequest::new(JobState::Parked))?.len(), 1);
    assert!(broker.get(rich.id)?.is_some());
    // Claimed, also by what looks at nothing but the ready jobs of a kind.
    let mut held = broker.claim(&common::request(2, LEASE))?.jobs;
    let any = ClaimRequest::new(3, LEASE);
    held.extend(broker.claim(&any)?.jobs);
    let kinds: std::sync::Arc<[String]> = vec!["test".to_owned(), "other".to_owned()].into();
    held.extend(
        broker
            .claim(&ClaimRequest::new(1, LEASE).of_kinds(kinds))?
            .jobs,
    );
    assert!(held.len() >= 4, "{held:?}");
    let leases: Vec<_> = held.iter().map(|job| job.lease.clone()).collect();
    broker.extend(&leases, LEASE)?;
    assert!(broker.progress(&leases[0], b"1")?);
    broker.list(&ListRequest::new(JobState::Running))?;
    broker.cancel_running(leases[1].id())?;
    let again = Settle::Retry {
        delay: Duration::ZERO,
        error: "once more".to_owned(),
    };
    broker.settle(&[
        (leases[0].clone(), again),
        failed(&held[1]),
        failed(&held[2]),
    ])?;
    let ends: Vec<_> = held[3..].iter().map(common::done).collect();
    broker.settle(&ends)?;
    by_hand(&broker, rich.id, later.id)?;
    schedules_and_consumers(&broker)
}

/// What operators do.
fn by_hand(broker: &RedisBroker, rich: JobId, later: JobId) -> Result<(), QueueError> {
    broker.set_due(&[later], Duration::from_secs(1))?;
    broker.set_due(&[later], Duration::ZERO)?;
    let dead = broker.list(&ListRequest::new(JobState::Dead))?;
    assert!(!dead.is_empty());
    broker.retry_dead(dead[0].id)?;
    broker.remove_unchanged(&broker.list(&ListRequest::new(JobState::Ready))?[..1])?;
    broker.delete(rich)?;
    broker.cancel(later)?;
    broker.set_paused(true)?;
    broker.set_paused(false)?;
    broker.set_retention(Retention::default().done(LEASE).dead(LEASE))?;
    broker.retention()?;
    let more = enqueue_all(broker, 2)?;
    let held = broker.claim(&ClaimRequest::new(3, LEASE))?.jobs;
    let ends: Vec<_> = held.iter().map(common::done).collect();
    broker.settle(&ends)?;
    let is_over = broker.list(&ListRequest::new(JobState::Done))?;
    broker.list(&ListRequest::new(JobState::Done).after(Some(is_over[0].id)))?;
    broker.purge(&[JobState::Done, JobState::Dead, JobState::Ready])?;
    drop(more);
    Ok(())
}

fn schedules_and_consumers(broker: &RedisBroker) -> Result<(), QueueError> {
    let schedule = Scheduled {
        name: "nightly".to_owned(),
        cron: "0 3 * * *".to_owned(),
        kind: "test".to_owned(),
        payload: b"{}".to_vec(),
        next: 1,
        missed: anthill_jobs::Missed::Once,
    };
    broker.put_schedule(&schedule)?;
    broker.fire(&schedule, 2, Some(&job("fired")))?;
    assert_eq!(broker.schedules()?.all.len(), 1);
    assert!(broker.drop_schedule("nightly")?);
    broker.announce(&ConsumerInfo::new("a", vec!["test".to_owned()], 1), LEASE)?;
    assert_eq!(broker.consumers()?.len(), 1);
    broker.withdraw("a")
}

fn enqueue_all(broker: &RedisBroker, number: usize) -> Result<Vec<Enqueued>, QueueError> {
    broker.enqueue(&jobs(number))?.into_iter().collect()
}

#[test]
fn each_command_of_the_list_is_needed_and_all_are_enough() {
    let server = skip_unless!(Server::start(Persistence::AofEverysec));
    let queue = fresh();
    make_user(&server, "worker", &queue, &commands());
    let address = address_of(&server, "worker", "secret");
    round(&address, &queue).expect("all of them are enough");
    // It hears of others, and others of it.
    let (broker, other) = (open(&address, &queue), open(&server.url(), &queue));
    let (heard, _subscription) = ear(&broker, LEASE);
    let (heard_by_other, _other_subscription) = ear(&other, LEASE);
    for (from, heard) in [(&other, &heard), (&broker, &heard_by_other)] {
        hears(heard, || {
            enqueue(from, &[job("heard")]);
        });
    }
    // Without one of them something fails.
    for without in commands() {
        if without == "zremrangebylex" {
            // Of the quick claim, which is made only shortly after another one.
            continue;
        }
        let rest: Vec<&str> = commands()
            .into_iter()
            .filter(|command| *command != without)
            .collect();
        let queue = fresh();
        make_user(&server, "less", &queue, &rest);
        // So that the server has to be told the texts.
        server.raw().run(&["SCRIPT", "FLUSH"]);
        let address = address_of(&server, "less", "secret");
        if ["subscribe", "publish", "zcount"].contains(&without) {
            // Two are for messages, without which consumers look for themselves. One is for a list during which a job is removed.
            round(&address, &queue).unwrap_or_else(|error| panic!("{without}: {error}"));
            continue;
        }
        let refused = round(&address, &queue);
        let Err(QueueError::Denied(why)) = refused else {
            panic!("without {without}: {refused:?}");
        };
        assert!(
            why.contains("perm") || why.contains("can't"),
            "{without}: {why}"
        );
    }
}

#[test]
fn the_list_is_of_what_the_scripts_call() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lua");
    let mut called = std::collections::BTreeSet::new();
    for file in std::fs::read_dir(folder).expect("it is there") {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("it is text");
        // As in `call('HGET', …)`, also of `redis.pcall`.
        for rest in text.split("call('").skip(1) {
            let name = rest.split('\'').next().unwrap_or_default();
            called.insert(name.to_ascii_lowercase());
        }
    }
    let of_clients = ["eval", "evalsha", "subscribe"].map(str::to_owned);
    called.extend(of_clients);
    let list: std::collections::BTreeSet<String> =
        commands().into_iter().map(str::to_owned).collect();
    assert_eq!(called, list);
}

#[test]
fn a_user_of_one_queue_cannot_touch_another() {
    let server = skip_unless!(Server::start(Persistence::Off));
    let (queue, other) = (fresh(), fresh());
    make_user(&server, "worker", &queue, &commands());
    let address = address_of(&server, "worker", "secret");
    let owner = open(&server.url(), &other);
    enqueue(&owner, &jobs(2));
    let before = contents(&mut server.raw(), &other);
    let refused = builder(&address, &other).open();
    assert!(matches!(refused, Err(QueueError::Denied(_))), "{refused:?}");
    // Nor one whose name begins or ends alike.
    for name in [format!("{queue}x"), queue[..queue.len() - 1].to_owned()] {
        let refused = builder(&address, &name).open();
        assert!(matches!(refused, Err(QueueError::Denied(_))), "{name}");
    }
    assert_eq!(contents(&mut server.raw(), &other), before);
    assert_eq!(server.raw().run(&["KEYS", "*"]).array().len(), before.len());
}

/// Redis' default for a new user is no channel: what is stored is stored, though nobody can be told.
#[test]
fn who_may_not_publish_stores_jobs_all_the_same() {
    let server = skip_unless!(Server::start(Persistence::Off));
    let queue = fresh();
    make_user(&server, "mute", &queue, &commands());
    server
        .raw()
        .run(&["ACL", "SETUSER", "mute", "resetchannels"]);
    let consumer = open(&server.url(), &queue);
    let (heard, _subscription) = ear(&consumer, LEASE);
    eventually("it is armed", || {
        let told = server.raw().run(&["HGET", &key(&queue, "conf"), "w"]);
        told == redis::Value::Bulk(b"1".to_vec())
    });
    let before = heard.elsewhere.load(Ordering::SeqCst);
    let mute = open(&address_of(&server, "mute", "secret"), &queue);
    let mut rich = job("rich");
    rich.key = Some("key".to_owned());
    for one in [job("plain"), rich] {
        server.raw().run(&["HSET", &key(&queue, "conf"), "w", "1"]);
        let answer = mute.enqueue(std::slice::from_ref(&one));
        assert!(answer.is_ok(), "it is stored: {answer:?}");
    }
    assert_eq!(stats(&mute).ready, 2);
    // It cannot subscribe either, and looks for itself.
    let (heard_by_mute, _mute_subscription) = ear(&mute, Duration::from_millis(200));
    eventually("it polls", || {
        heard_by_mute.elsewhere.load(Ordering::SeqCst) >= 3
    });
    assert!(heard.elsewhere.load(Ordering::SeqCst) >= before);
}
