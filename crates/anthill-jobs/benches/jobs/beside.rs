//! What a claim costs beside a million jobs that it has nothing to do with, and beside none.

use crate::{ROUNDS, tell};
use anthill_jobs::{
    Broker, ClaimRequest, Claimed, Clock, Lease, Limits, MemoryBroker, NewJob, Settle,
};
use std::time::{Duration, Instant};

const CLAIMS: u32 = 1_000;
const BESIDE: u32 = 1_000_000;
const BATCH: u32 = 10_000;
const DAY: Duration = Duration::from_secs(86_400);

#[derive(Clone, Copy)]
enum Others {
    None,
    Delayed,
    Done,
    HotKey,
    OtherKind,
}

const ALL: [(&str, Others); 5] = [
    ("beside no others", Others::None),
    ("beside 1,000,000 delayed", Others::Delayed),
    ("beside 1,000,000 done", Others::Done),
    ("beside 1,000,000 of a hot key", Others::HotKey),
    ("beside 1,000,000 of other kinds", Others::OtherKind),
];

pub(crate) fn run(is_wanted: &dyn Fn(&str) -> bool) {
    of("memory", is_wanted, &|| {
        (Box::new(MemoryBroker::new(Clock::system())), None)
    });
    #[cfg(feature = "sqlite")]
    of("sqlite", is_wanted, &|| {
        let place = crate::sqlite::folder();
        (Box::new(crate::sqlite::open(place.path())), Some(place))
    });
}

type Place = Option<tempfile::TempDir>;

fn of(broker: &str, is_wanted: &dyn Fn(&str) -> bool, open: &dyn Fn() -> (Box<dyn Broker>, Place)) {
    let mut alone = None;
    for (name, others) in ALL {
        let name = format!("{broker}: claims {name}");
        if !is_wanted(&name) {
            continue;
        }
        let (broker, _place) = open();
        fill(&*broker, others);
        let mut times: Vec<Duration> = (0..ROUNDS).map(|_| claims(&*broker)).collect();
        times.sort();
        let time = times[times.len() / 2].as_secs_f64();
        let more = match alone {
            None => "one job each".to_owned(),
            Some(alone) => format!("each takes {:.2} times as long", time / alone),
        };
        alone.get_or_insert(time);
        tell(&name, CLAIMS, times, &more);
    }
}

fn fill(broker: &dyn Broker, others: Others) {
    let limits = Limits {
        per_key: Some(1),
        ..Limits::default()
    };
    let store = broker.limit_store().expect("it has limits");
    store.set_limits(limits).expect("it works");
    if matches!(others, Others::None) {
        return;
    }
    for _ in 0..BESIDE / BATCH {
        let jobs: Vec<NewJob> = (0..BATCH).map(|_| other(others)).collect();
        broker.enqueue(&jobs).expect("it works");
        if matches!(others, Others::Done) {
            let claimed = claim(broker, BATCH as usize, "other");
            settle(broker, &claimed);
        }
    }
    if matches!(others, Others::HotKey) {
        assert_eq!(claim(broker, 2, "other").len(), 1);
    }
}

fn other(others: Others) -> NewJob {
    let mut job = NewJob::new("other", b"{}".to_vec());
    match others {
        Others::Delayed => job.delay = DAY,
        Others::Done => job.keep_result = Some(DAY),
        Others::HotKey => job.key = Some("hot".to_owned()),
        Others::None | Others::OtherKind => {}
    }
    job
}

fn claim(broker: &dyn Broker, limit: usize, kind: &str) -> Vec<Claimed> {
    let request = ClaimRequest::new(limit, DAY).of_kinds(vec![kind.to_owned()].into());
    broker.claim(&request).expect("it works").jobs
}

fn settle(broker: &dyn Broker, claimed: &[Claimed]) {
    let end = |job: &Claimed| -> (Lease, Settle) {
        let result = b"null".to_vec();
        (job.lease.clone(), Settle::Done { result })
    };
    let ends: Vec<_> = claimed.iter().map(end).collect();
    broker.settle(&ends).expect("it works");
}

/// How long it takes to claim so many, one by one.
fn claims(broker: &dyn Broker) -> Duration {
    let jobs: Vec<NewJob> = (0..CLAIMS)
        .map(|_| NewJob::new("wanted", b"{}".to_vec()))
        .collect();
    broker.enqueue(&jobs).expect("it works");
    let mut claimed = Vec::new();
    let start = Instant::now();
    for _ in 0..CLAIMS {
        claimed.extend(claim(broker, 1, "wanted"));
    }
    let time = start.elapsed();
    assert_eq!(claimed.len(), CLAIMS as usize);
    settle(broker, &claimed);
    time
}
