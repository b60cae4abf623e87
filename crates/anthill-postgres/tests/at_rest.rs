//! What a consumer does that has nothing to do, as the server counts it; and clients whose clock is an hour off.
//!
//! This binary has its own `clock_gettime`, which moves the wall clock of a process by as much as its role asks for.
#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "each test binary uses a part")]
mod fleet;

use anthill::Pool;
use anthill_fleet_support::roles::{Parcel, child_of, consume, draft, produce, say, told};
use anthill_fleet_support::{LONG, Member, balance, recorded};
use anthill_jobs::{Context, Enqueued, Job, JobError};
use anthill_test_support::history::{Rules, now};
use anthill_test_support::postgres::{Fsync, Options, shared};
use anthill_test_support::skip_unless;
use fleet::{Own, Postgres, Stage};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const HOUR: i64 = 3600;

/// By how many seconds the wall clock of this process is off.
static OFF: AtomicI64 = AtomicI64::new(0);

/// In the place of the C library's, for all of this process.
///
/// # Safety
///
/// As that of the C library: `time` can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> libc::c_int {
    // SAFETY: the caller's promise is that of the system call.
    let told = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    if told == 0 && [libc::CLOCK_REALTIME, libc::CLOCK_REALTIME_COARSE].contains(&clock) {
        // SAFETY: it was written to.
        unsafe { (*time).tv_sec += OFF.load(Ordering::Relaxed) };
    }
    libc::c_int::try_from(told).unwrap_or(-1)
}

fn move_clock() {
    OFF.store(told("OFF").unwrap_or(0), Ordering::Relaxed);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    say(&format!("clock {}", now.as_secs()));
}

fn off_consume() {
    move_clock();
    consume::<Postgres>();
}

fn off_produce() {
    move_clock();
    produce::<Postgres>();
}

#[derive(Serialize, Deserialize)]
struct Hourly;

impl Job for Hourly {
    const KIND: &'static str = "hourly";
}

/// Sets a schedule, and watches over it.
fn off_schedule() {
    move_clock();
    let own = Own::open();
    if let Some(cron) = told::<String>("CRON") {
        own.queue
            .schedule("hourly", &cron, &Hourly)
            .expect("it can be set");
    }
    let pool = Pool::with_capacity(1);
    let consumer = own
        .queue
        .consumer(&pool)
        .handle(|_: Hourly, _: &Context| -> Result<(), JobError> {
            say("fired");
            Ok(())
        })
        .start()
        .expect("it starts");
    say("consumes");
    let mut line = String::new();
    while std::io::stdin()
        .read_line(&mut line)
        .is_ok_and(|read| read > 0)
    {}
    consumer.stop(LONG).expect("it stops");
}

/// Enqueues one job in an hour, and says whether it was added.
fn off_once() {
    move_clock();
    let own = Own::open();
    let parcel = Parcel {
        number: 7,
        until: None,
    };
    let job = own
        .queue
        .job(parcel)
        .once_per("once", Duration::from_secs(1800));
    let answer = job
        .delay(Duration::from_secs(7200))
        .enqueue()
        .expect("the server is there");
    say(if matches!(answer, Enqueued::Added(_)) {
        "once added"
    } else {
        "once duplicate"
    });
}

#[test]
fn child() {
    child_of::<fleet::Postgres>(&[
        ("off_consume", off_consume),
        ("off_produce", off_produce),
        ("off_schedule", off_schedule),
        ("off_once", off_once),
    ]);
}

/// Checks that the process's clock is off, and no other one's.
#[track_caller]
fn hear_clock(member: &Member, off: i64) {
    let told: i64 = member.hear("clock ").parse().unwrap();
    let here = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let here = i64::try_from(here).unwrap();
    assert!((told - here - off).abs() < 100, "{told}, {here}");
}

#[test]
fn consumers_at_rest_make_less_than_a_statement_in_two_seconds() {
    const TIME: Duration = Duration::from_secs(20);
    const CONSUMERS: u32 = 3;
    let options = Options::new(Fsync::Off)
        .set("log_statement", "all")
        .set("log_min_duration_statement", "-1");
    let server = skip_unless!(options.start());
    let stage = Stage::new(&server);
    let consumers: Vec<Member> = (0..CONSUMERS)
        .map(|_| stage.start("consume", &[]))
        .collect();
    for consumer in &consumers {
        consumer.hear("consumes");
    }
    // The start is over when nobody says anything for a while; one job shows that they are awake.
    stage.enqueue(1, None);
    stage.await_drained();
    let lines = || {
        let log = server.log();
        // With parameters it is an execution of an unnamed statement.
        let is_statement =
            |line: &&str| line.contains("LOG:  execute ") || line.contains("LOG:  statement: ");
        log.lines()
            .filter(is_statement)
            .map(str::to_owned)
            .collect::<Vec<String>>()
    };
    std::thread::sleep(Duration::from_secs(2));
    let before = lines().len();
    std::thread::sleep(TIME);
    let made = lines().split_off(before);
    let most = CONSUMERS * u32::try_from(TIME.as_secs()).unwrap() / 2;
    eprintln!(
        "{} statements of {CONSUMERS} consumers at rest in {TIME:?}; at most {most}",
        made.len()
    );
    let mut by_kind = std::collections::BTreeMap::<String, u32>::new();
    for line in &made {
        let text = line
            .split("LOG:  ")
            .nth(1)
            .unwrap_or(line)
            .trim_start_matches("execute <unnamed>: ");
        *by_kind.entry(text.chars().take(60).collect()).or_default() += 1;
    }
    eprintln!("{by_kind:#?}");
    assert!(made.len() <= most as usize, "{made:#?}");
    assert!(!made.is_empty(), "nothing was counted");
    // They are awake.
    stage.enqueue(3, None);
    stage.await_drained();
}

#[test]
fn a_clock_that_is_an_hour_off_runs_nothing_early_and_nothing_twice() {
    let access = skip_unless!(shared());
    for off in [HOUR, -HOUR] {
        let stage = Stage::new(access);
        let off_told = ("OFF", off.to_string());
        let mut wrong = stage.start("off_consume", std::slice::from_ref(&off_told));
        hear_clock(&wrong, off);
        wrong.hear("consumes");
        let mut right = stage.start("consume", &[]);
        right.hear("consumes");
        let told = [off_told.clone(), ("COUNT", "300".to_owned())];
        let mut producer = stage.start("off_produce", &told);
        hear_clock(&producer, off);
        producer.end();
        // A minute is far within the hour; what is due in a second and a half shows that delays end at all.
        let queue = stage.queue();
        let (mut later, mut soon) = (draft(&queue, 1_001), draft(&queue, 1_003));
        later.delay = Duration::from_secs(60);
        soon.delay = Duration::from_millis(1500);
        let asked = now();
        for job in [&later, &soon] {
            recorded::enqueueing(stage.recorder(), std::iter::once(job.id));
            let answer = queue.enqueue_new(job).unwrap();
            recorded::enqueued(stage.recorder(), job.id, Ok(answer));
        }
        // A job for several leases: each of the two must have kept its own by heartbeats.
        stage.enqueue(2_000, Some("go"));
        stage.enqueue(2_002, Some("go"));
        let of_stage = |id| queue.get(id).unwrap().map(|job| job.state);
        let soon_is_done = anthill_test_support::becomes_true(LONG, || of_stage(soon.id).is_none());
        assert!(soon_is_done, "{off}: it is never due");
        assert!(now() - asked >= 1_500_000_000, "{off}: early");
        assert_eq!(
            of_stage(later.id),
            Some(anthill_jobs::JobState::Delayed),
            "{off}: early"
        );
        stage.let_run("go");
        assert!(queue.cancel(later.id).unwrap());
        stage
            .recorder()
            .record(anthill_test_support::history::What::Removing {
                job: later.id.to_string(),
            });
        stage.await_drained();
        let (wrong, right) = (wrong.end(), right.end());
        assert_eq!(
            (wrong.lost, right.lost),
            (0, 0),
            "{off}: {wrong:?} {right:?}"
        );
        assert!(
            wrong.done > 0 && right.done > 0,
            "{off}: {wrong:?} {right:?}"
        );
        let judged = stage.judge(&Rules::default());
        balance(&format!("clock off by {off} s"), &judged);
        let books = judged.0.books;
        assert_eq!(
            (books.done, books.removed, books.dead),
            (303, 1, 0),
            "{books}"
        );
        assert_eq!(
            (books.duplicates, books.extra_runs, judged.1.lost_leases),
            (0, 0, 0),
            "{books}"
        );
    }
}

#[test]
fn schedules_and_periods_follow_the_servers_clock() {
    let access = skip_unless!(shared());
    let stage = Stage::new(access);
    // Half an hour from now: a clock that is an hour ahead is past it.
    let cron = stage.sql("SELECT to_char((clock_timestamp() + interval '30 minutes') AT TIME ZONE 'UTC', 'MI HH24 * * *')");
    for (off, once) in [(0, "added"), (HOUR, "duplicate"), (-HOUR, "duplicate")] {
        let told = [("OFF", off.to_string()), ("CRON", cron.clone())];
        let mut member = stage.start("off_once", &told);
        assert_eq!(member.hear("once "), once, "{off}");
        member.end();
        let mut member = stage.start("off_schedule", &told);
        hear_clock(&member, off);
        member.hear("consumes");
        let early = member.hear_within("fired", Duration::from_secs(2));
        assert_eq!(early, None, "{off}: it was fired early");
        member.end();
        let next = stage.sql("SELECT next - extract(epoch FROM clock_timestamp())::bigint BETWEEN 1600 AND 1801 FROM anthill.schedules");
        assert_eq!(
            next,
            "t",
            "{off}: {}",
            stage.sql("SELECT *, clock_timestamp() FROM anthill.schedules")
        );
    }
    // What was due while nobody looked is made up for once, by whatever clock.
    stage.sql(
        "UPDATE anthill.schedules SET next = extract(epoch FROM clock_timestamp())::bigint - 10",
    );
    let start = |&off: &i64| stage.start("off_schedule", &[("OFF", off.to_string())]);
    let mut consumers: Vec<Member> = [HOUR, -HOUR, 0].iter().map(start).collect();
    for consumer in &consumers {
        consumer.hear("consumes");
    }
    anthill_test_support::eventually("it is made up for", || {
        stage.queue().stats().unwrap().done == 1
    });
    let mut fired = 0;
    for consumer in &mut consumers {
        let soon = Duration::from_millis(500);
        while consumer.hear_within("fired", soon).is_some() {
            fired += 1;
        }
        consumer.end();
    }
    assert_eq!(fired, 1, "by one of them");
    let next = stage
        .sql("SELECT next > extract(epoch FROM clock_timestamp())::bigint FROM anthill.schedules");
    assert_eq!(next, "t");
}
