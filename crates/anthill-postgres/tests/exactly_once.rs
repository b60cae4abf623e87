//! Effects that happen exactly once: a handler that writes and settles its job in one transaction, and jobs that are enqueued in a
//! transaction, under kills at each point.
#![cfg(unix)]

#[allow(dead_code, reason = "each test binary uses a part")]
mod fleet;

use anthill::Pool;
use anthill_fleet_support::recorded::{enqueued, enqueueing, settled, settling};
use anthill_fleet_support::roles::{Parcel, child_of, draft, say, told, told_ms};
use anthill_fleet_support::{LONG, Member, balance};
use anthill_jobs::{Context, Enqueued, JobError};
use anthill_postgres::postgres::{Client, NoTls};
use anthill_test_support::history::{Accepted, Rules, What};
use anthill_test_support::postgres::shared;
use anthill_test_support::{seeded_rng, skip_unless};
use fleet::{Own, Stage};
use rand::Rng;
use std::collections::BTreeMap;

#[test]
fn child() {
    child_of::<fleet::Postgres>(&[("write", write), ("order", order)]);
}

fn connect() -> Client {
    let url: String = told("URL").expect("an address");
    Client::connect(&url, NoTls).expect("the server is there")
}

/// Delivers parcels: a row for each, in the transaction that settles the job.
fn write() {
    let own = Own::open();
    let workers = 2;
    let pool = Pool::with_capacity(workers);
    let (broker, recorder, fuse) = (own.broker.clone(), own.recorder.clone(), own.fuse.clone());
    let deliver =
        move |parcel: Parcel, client: &mut Client, cx: &Context| -> Result<(), JobError> {
            let mut transaction = client.transaction()?;
            transaction.execute(
                "INSERT INTO delivered (number, attempt) VALUES ($1, $2)",
                &[
                    &i64::try_from(parcel.number)?,
                    &i32::try_from(cx.attempt())?,
                ],
            )?;
            fuse.pass("before settle_in", &recorder);
            let ends = [cx.settlement(&())?];
            settling(&recorder, &ends);
            let answers = broker.settle_in(&mut transaction, &ends)?;
            fuse.pass("after settle_in", &recorder);
            if !answers[0].is_stored() {
                settled(&recorder, &ends, Some(&answers));
                // Dropped, so rolled back.
                return Err(JobError::hand_back());
            }
            fuse.pass("before commit", &recorder);
            transaction.commit()?;
            fuse.pass("after commit", &recorder);
            settled(&recorder, &ends, Some(&answers));
            Ok(())
        };
    let consumer = own
        .queue
        .consumer(&pool)
        .workers(workers..=workers)
        .lease(told_ms("LEASE_MS", 400))
        .on_error(|error| say(&format!("error {error:?}")))
        .handle_with(|| Ok(connect()), deliver)
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

/// Takes orders: a row and a job for each, in one transaction.
fn order() {
    let own = Own::open();
    let mut client = connect();
    let from: u64 = told("FROM").expect("a number");
    say("orders");
    for number in from..from + 1_000_000 {
        let job = draft(&own.queue, number);
        let mut transaction = client.transaction().expect("it can be begun");
        let row = [&i64::try_from(number).expect("it fits") as _];
        let inserted = transaction.execute("INSERT INTO orders (number) VALUES ($1)", &row);
        inserted.expect("it can be inserted");
        enqueueing(&own.recorder, std::iter::once(job.id));
        own.fuse.pass("before enqueue_in", &own.recorder);
        let answers = own
            .broker
            .enqueue_in(&mut transaction, std::slice::from_ref(&job));
        let answer = answers.expect("the server is there")[0];
        own.fuse.pass("after enqueue_in", &own.recorder);
        if number % 5 == 4 {
            transaction.rollback().expect("it can be rolled back");
            own.recorder.record(What::Enqueued {
                job: job.id.to_string(),
                answer: Accepted::No,
            });
            continue;
        }
        own.fuse.pass("before commit", &own.recorder);
        transaction.commit().expect("the server is there");
        own.fuse.pass("after commit", &own.recorder);
        enqueued(&own.recorder, job.id, Ok(answer));
        say(&format!("ordered {number}"));
    }
}

/// Kills a process at each of these points, in turn, or whenever; each in its `nth` passage.
fn kill_all(
    stage: &Stage<'_>,
    role: &str,
    points: &[&str],
    kills: usize,
    mut told: impl FnMut(usize) -> Vec<(&'static str, String)>,
    mut ended: impl FnMut(&Member),
) {
    let mut random = seeded_rng(role);
    let mut by_point: BTreeMap<&str, u32> = BTreeMap::new();
    for round in 0..kills {
        let point = points[round % points.len()];
        let mut told = told(round);
        told.push(("POINT", point.to_owned()));
        told.push(("NTH", random.random_range(1..=5).to_string()));
        let mut member = stage.start(role, &told);
        if point == "somewhere" {
            member.hear(&format!(
                "{}s",
                if role == "write" { "consume" } else { role }
            ));
            std::thread::sleep(std::time::Duration::from_micros(
                random.random_range(0..40_000),
            ));
            member.kill();
        } else {
            assert!(member.is_killed(LONG), "{role}: {point} was not reached");
        }
        ended(&member);
        *by_point.entry(point).or_default() += 1;
    }
    eprintln!("{role}: {kills} kills: {by_point:?}");
}

#[test]
fn a_row_and_the_end_of_its_job_happen_once_whatever_dies() {
    let access = skip_unless!(shared());
    let stage = Stage::new(access);
    // No key: a row that was written twice would be there twice.
    stage.sql("CREATE TABLE delivered (number bigint NOT NULL, attempt int NOT NULL)");
    let mut number = 0;
    let points = [
        "before settle_in",
        "after settle_in",
        "before commit",
        "after commit",
        "somewhere",
    ];
    let enqueue = |_: usize| {
        for _ in 0..8 {
            stage.enqueue(number, None);
            number += 1;
        }
        Vec::new()
    };
    kill_all(&stage, "write", &points, 30, enqueue, |_| {});
    // The last one is not killed.
    let mut last = stage.start("write", &[]);
    stage.await_drained();
    last.end();
    let judged = stage.judge(&Rules::default());
    balance("exactly once", &judged);
    let books = &judged.0.books;
    assert_eq!((books.done as u64, books.dead), (number, 0), "{books}");
    assert!(books.killed > 0, "no kill struck a job in hand: {books}");
    let rows = stage
        .sql("SELECT count(*), count(DISTINCT number), min(number), max(number) FROM delivered");
    assert_eq!(
        rows,
        format!("{number}|{number}|0|{}", number - 1),
        "each row is there once"
    );
    // Those whose kill came between the commit and the answer are among these.
    let retried = stage.sql("SELECT count(*) FROM delivered WHERE attempt > 1");
    eprintln!("{number} rows, {retried} of them of a later attempt");
    assert_eq!(judged.1.done, number, "{:?}", judged.1);
}

#[test]
fn a_row_and_its_job_are_both_there_or_neither_whatever_dies() {
    let access = skip_unless!(shared());
    let stage = Stage::new(access);
    stage.sql("CREATE TABLE orders (number bigint PRIMARY KEY)");
    let points = [
        "before enqueue_in",
        "after enqueue_in",
        "before commit",
        "after commit",
        "somewhere",
    ];
    let told = |round: usize| vec![("FROM", (round * 1_000_000).to_string())];
    let mut acknowledged = Vec::new();
    kill_all(&stage, "order", &points, 30, told, |member| {
        let said = member.rest();
        let said = said.iter().filter_map(|line| line.strip_prefix("ordered "));
        acknowledged.extend(said.map(|number| number.parse::<u64>().unwrap()));
    });
    // Whatever the dead left open is rolled back as the server notices.
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL \
                AND pid <> pg_backend_pid()";
    anthill_test_support::eventually("no transaction is open", || stage.sql(open) == "0");
    let id = "('x' || right(replace(j.id::text, '-', ''), 16))::bit(64)::bigint";
    let odd = stage.sql(&format!(
        "SELECT count(*) FILTER (WHERE j.id IS NULL), count(*) FILTER (WHERE o.number IS NULL) \
         FROM orders o FULL JOIN anthill.jobs j ON o.number = {id}"
    ));
    assert_eq!(odd, "0|0", "rows without a job, jobs without a row");
    let rows = stage.sql("SELECT number FROM orders");
    let rows: Vec<u64> = rows.lines().map(|row| row.parse().unwrap()).collect();
    assert!(!acknowledged.is_empty());
    for number in &acknowledged {
        assert!(rows.contains(number), "{number} was acknowledged");
    }
    eprintln!("{} orders, {} acknowledged", rows.len(), acknowledged.len());
    let judged = stage.drain_and_judge(&Rules::default());
    balance("both or neither", &judged);
    assert_eq!(judged.0.books.done, rows.len());
}

#[test]
fn another_client_enqueues_in_its_own_transaction() {
    let access = skip_unless!(shared());
    let stage = Stage::new(access);
    stage.sql("CREATE TABLE orders (number bigint PRIMARY KEY)");
    let mut consumer = stage.start("consume", &[]);
    consumer.hear("consumes");
    let call = |number: u64| {
        let id = Parcel::id(number);
        format!(
            "SELECT anthill.enqueue('default', 'parcel', '{{\"number\": {number}, \"until\": null}}', id => '{id}')"
        )
    };
    let insert = |number: u64| format!("INSERT INTO orders VALUES ({number})");
    // Rolled back: neither.
    stage.sql(&format!("BEGIN; {}; {}; ROLLBACK", insert(1), call(1)));
    // An error: neither.
    let failed = stage.access.sql(
        &stage.database,
        &format!("BEGIN; {}; {}; SELECT 1/0; COMMIT", insert(2), call(2)),
    );
    assert!(failed.unwrap_err().contains("division by zero"));
    assert_eq!(stage.sql("SELECT count(*) FROM anthill.jobs"), "0");
    let stats = stage.queue().stats().unwrap();
    assert_eq!((stats.enqueued, stats.done), (0, 0), "{stats:?}");
    for number in 3..13 {
        let id = Parcel::id(number);
        enqueueing(stage.recorder(), std::iter::once(id));
        let told = stage.sql(&format!(
            "BEGIN; {}; {}; COMMIT",
            insert(number),
            call(number)
        ));
        assert_eq!(told, id.to_string(), "it returns the id");
        enqueued(stage.recorder(), id, Ok(Enqueued::Added(id)));
    }
    let stats = stage.await_drained();
    assert_eq!((stats.enqueued, stats.done), (10, 10), "{stats:?}");
    assert_eq!(consumer.end().done, 10);
    assert_eq!(stage.sql("SELECT count(*) FROM orders"), "10");
    let judged = stage.judge(&Rules::default());
    balance("another client", &judged);
}
