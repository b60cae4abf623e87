//! Processes that are killed, or stopped for longer than their lease: real processes, and real signals. What was acknowledged is
//! done in the end, what was done twice is counted and explained, nothing is lost.

use crate::{Engine, LONG, Member, Stage, balance};
use anthill_test_support::history::Rules;
use anthill_test_support::proxy::{Proxy, Trigger};
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A call of a broker, on its way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A consumer claims.
    Claim,
    /// A consumer settles.
    Settle,
    /// A producer enqueues.
    Enqueue,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Settle => "settle",
            Self::Enqueue => "enqueue",
        }
    }
}

/// How a call is cut on its way: a proxy before the server, the call as the proxy sees it, and the queue's address through it.
pub type Wire<'w> = dyn Fn(Call) -> (Proxy, Trigger, String) + Sync + 'w;

/// How many kills there are to be: `ANTHILL_KILLS`, and 200 by default.
pub fn wanted() -> u64 {
    std::env::var("ANTHILL_KILLS").map_or(200, |kills| kills.parse().expect("a number"))
}

/// Where a consumer is killed. Those with a call's name are told by the bytes of that call, on their way.
const POINTS: [&str; 12] = [
    "before claim",
    "after claim",
    "before hook",
    "handler",
    "after hook",
    "before settle",
    "after settle",
    "claim on its way",
    "claim not answered",
    "settle on its way",
    "settle not answered",
    "somewhere",
];

/// Where a producer is.
const OF_PRODUCERS: [&str; 5] = [
    "before enqueue",
    "after enqueue",
    "enqueue on its way",
    "enqueue not answered",
    "somewhere",
];

/// Those who kill, and what they have killed.
struct Killers<'s, E> {
    stage: &'s Stage<E>,
    wire: &'s Wire<'s>,
    kills: AtomicU64,
    wanted: u64,
    by_point: Mutex<BTreeMap<String, u32>>,
    next: AtomicU64,
    is_over: AtomicBool,
}

impl<E: Engine> Killers<'_, E> {
    /// Starts a process and kills it at a point; says whether it was reached.
    fn kill(
        &self,
        role: &str,
        point: &str,
        told: &[(&str, String)],
        random: &mut StdRng,
    ) -> Member {
        let nth = random.random_range(1..=6);
        let mut told = told.to_vec();
        let call = [Call::Claim, Call::Settle, Call::Enqueue]
            .into_iter()
            .find(|call| point.starts_with(call.name()));
        let proxy = call.map(|call| {
            let (proxy, trigger, url) = (self.wire)(call);
            let trigger = trigger.nth(nth);
            let cut = if point.ends_with("not answered") {
                proxy.cut_reply(trigger)
            } else {
                proxy.cut_request(trigger)
            };
            told.push(("URL", url));
            (proxy, cut)
        });
        if proxy.is_none() && point != "somewhere" {
            told.push(("POINT", point.to_owned()));
            told.push(("NTH", nth.to_string()));
        }
        let mut member = self.stage.start(role, &told);
        let is_killed = if let Some((_proxy, cut)) = proxy {
            let struck = anthill_test_support::becomes_true(LONG, || cut.has_struck());
            if struck {
                member.kill();
            }
            struck
        } else if point == "somewhere" {
            let begun = if role == "consume" {
                "consumes"
            } else {
                "produces"
            };
            let begun = member.hear_within(begun, LONG).is_some();
            std::thread::sleep(Duration::from_micros(random.random_range(0..30_000)));
            member.kill();
            begun
        } else {
            member.is_killed(LONG)
        };
        assert!(is_killed, "{role}: {point}, {nth}: not reached");
        *self
            .by_point
            .lock()
            .expect("nobody panics with it")
            .entry(format!("{role}: {point}"))
            .or_default() += 1;
        self.kills.fetch_add(1, Ordering::SeqCst);
        member
    }

    fn goes_on(&self) -> bool {
        self.kills.load(Ordering::SeqCst) < self.wanted && !self.is_over.load(Ordering::SeqCst)
    }

    fn consumers(&self, mut place: usize, random: &mut StdRng) {
        while self.goes_on() {
            let told = [
                ("WORKERS", random.random_range(1..=3).to_string()),
                ("WORK_US", random.random_range(0..2_000).to_string()),
            ];
            self.kill("consume", POINTS[place % POINTS.len()], &told, random);
            place += 1;
        }
    }

    fn producers(&self, random: &mut StdRng) {
        let mut place = 0;
        while self.goes_on() {
            let from = self.next.load(Ordering::SeqCst);
            let told = [
                ("FROM", from.to_string()),
                ("KEYS", "3".to_owned()),
                ("UNIQUE", "1".to_owned()),
                ("BATCH", random.random_range(1..=10).to_string()),
                ("BACKLOG", u32::MAX.to_string()),
            ];
            let member = self.kill(
                "produce",
                OF_PRODUCERS[place % OF_PRODUCERS.len()],
                &told,
                random,
            );
            let said = member.rest().into_iter();
            let acknowledged =
                said.filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok());
            // The next one goes on with what was not acknowledged: with the same ids.
            self.next
                .fetch_max(acknowledged.max().unwrap_or(0), Ordering::SeqCst);
            place += 1;
        }
    }
}

/// Kills so many, while a limit holds for each key.
pub fn kill_and_judge<E: Engine>(
    stage: &Stage<E>,
    (wanted, per_key): (u64, u32),
    random: &mut StdRng,
    wire: &Wire<'_>,
) {
    let mut limits = stage.queue().limits().expect("the server is there");
    limits.per_key = Some(per_key);
    stage
        .queue()
        .set_limits(limits)
        .expect("the server is there");
    let killers = Killers {
        stage,
        wire,
        kills: AtomicU64::new(0),
        wanted,
        by_point: Mutex::default(),
        next: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
    };
    let mut seeds = || rand::SeedableRng::seed_from_u64(random.random());
    let mut randoms: Vec<StdRng> = (0..4).map(|_| seeds()).collect();
    std::thread::scope(|scope| {
        let (first, rest) = randoms.split_first_mut().expect("four");
        let killers = &killers;
        scope.spawn(move || {
            let over = OverOnDrop(killers);
            over.0.producers(first);
        });
        for (place, random) in rest.iter_mut().enumerate() {
            scope.spawn(move || {
                let over = OverOnDrop(killers);
                over.0.consumers(place * 4, random);
            });
        }
    });
    let judged = stage.drain_and_judge(&Rules::default().per_key(per_key as usize));
    let kills = killers.kills.load(Ordering::SeqCst);
    let by_point = killers.by_point.lock().expect("nobody panics with it");
    eprintln!("{kills} kills: {by_point:?}");
    balance(&format!("kills, {per_key} of each key"), &judged);
    assert!(judged.0.books.killed > 0, "no kill struck a job in hand");
    assert_eq!(judged.0.books.dead, 0);
    assert!(kills >= wanted);
    if wanted >= 100 {
        assert_eq!(
            by_point.len(),
            POINTS.len() + OF_PRODUCERS.len(),
            "{by_point:?}"
        );
    }
}

/// Ends the others where one panics.
struct OverOnDrop<'k, 's, E>(&'k Killers<'s, E>);

impl<E> Drop for OverOnDrop<'_, '_, E> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.is_over.store(true, Ordering::SeqCst);
        }
    }
}

/// A process is stopped for longer than its lease, and wakes when its job is another's: its end is refused.
pub fn freeze_past_the_lease<E: Engine>(stage: &Stage<E>) {
    stage.enqueue(2, Some("go"));
    let mut zombie = stage.start("consume", &[]);
    assert_eq!(zombie.hear("running "), "2 1");
    zombie.freeze();
    let mut other = stage.start("consume", &[]);
    let again = other.hear("running ");
    assert_eq!(again, "2 2", "claimed again, when its lease was over");
    stage.let_run("go");
    zombie.thaw();
    zombie.hear("ran ");
    other.hear("ran ");
    stage.await_drained();
    let (of_zombie, of_other) = (zombie.end(), other.end());
    assert_eq!(
        (of_zombie.lost, of_zombie.unconfirmed),
        (1, 0),
        "{of_zombie:?}"
    );
    assert_eq!((of_other.done, of_other.lost), (1, 0), "{of_other:?}");
    let judged = stage.judge(&Rules::default());
    balance("zombie", &judged);
    let books = judged.0.books;
    assert_eq!((books.duplicates, books.extra_runs), (1, 1), "{books}");
    assert_eq!(judged.1.done, 1, "it counts once");
}

/// A process stops with more jobs in hand than it runs: it hands back what has not begun.
pub fn stop_with_a_full_buffer<E: Engine>(stage: &Stage<E>) {
    // Quick ones at first, so that it claims many at once.
    let mut producer = stage.start(
        "produce",
        &[
            ("COUNT", "400".to_owned()),
            ("BATCH", "100".to_owned()),
            ("BACKLOG", "9999".to_owned()),
        ],
    );
    producer.end();
    let told = [
        ("WORKERS", "1".to_owned()),
        ("WORK_US", "0".to_owned()),
        ("LEASE_MS", "20000".to_owned()),
    ];
    let mut consumer = stage.start("consume", &told);
    consumer.hear("consumes");
    let full = anthill_test_support::becomes_true(LONG, || consumer.counts().in_hand > 1);
    assert!(full, "its buffer is never full");
    let counts = consumer.end();
    assert_eq!(counts.in_hand, 0, "{counts:?}");
    assert_eq!(counts.lost, 0, "{counts:?}");
    let running = stage.queue().stats().expect("the server is there").running;
    assert_eq!(running, 0, "it is handed back, and waits for no lease");
    let judged = stage.drain_and_judge(&Rules::default());
    balance("full buffer", &judged);
    assert_eq!(
        (judged.0.books.duplicates, judged.0.books.extra_runs),
        (0, 0)
    );
}
