//! What a claim costs beside many other jobs, in pages of the server, which no other load of the machine changes.
//!
//! `ANTHILL_BESIDE=1000000 cargo test -p anthill-postgres --test costs -- --nocapture` measures beside a million.

mod support;

use anthill_jobs::Limits;
use anthill_jobs::broker::{Admin, LimitStore};
use anthill_postgres::PostgresBroker;
use anthill_postgres::postgres::Client;
use anthill_test_support::postgres::{Fsync, Options, Server};
use anthill_test_support::skip_unless;
use support::{claim, client, enqueue, finish, job, jobs, open};

/// How many jobs there are beside.
fn beside() -> i64 {
    let number = std::env::var("ANTHILL_BESIDE").ok();
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or(30_000)
}

fn start() -> Result<Server, anthill_test_support::missing::Missing> {
    Options::new(Fsync::Off)
        .set("shared_preload_libraries", "pg_stat_statements")
        // Only what the test asks for.
        .set("autovacuum", "off")
        .start()
}

struct Bench {
    broker: PostgresBroker,
    sql: Client,
}

impl Bench {
    fn new(server: &Server) -> Bench {
        let address = support::fresh(server);
        let broker = open(&address);
        let mut sql = client(&address);
        sql.batch_execute("CREATE EXTENSION pg_stat_statements")
            .unwrap();
        Bench { broker, sql }
    }

    /// The pages that all calls of a function have touched, and how long they took, in milliseconds.
    fn pages(&mut self, function: &str) -> (i64, f64) {
        let all = "SELECT coalesce(sum(shared_blks_hit + shared_blks_read), 0)::bigint, coalesce(sum(total_exec_time), 0)
            FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
            WHERE d.datname = current_database() AND query LIKE '%anthill.' || $1 || '(%' AND query NOT LIKE '%pg_stat%'";
        let row = self.sql.query_one(all, &[&function]).unwrap();
        (row.get(0), row.get(1))
    }

    /// The pages and the time of a claim of one job, that was just enqueued: the median of many.
    fn claim(&mut self) -> (i64, f64) {
        let mut costs = Vec::new();
        let mut times = Vec::new();
        for _ in 0..60 {
            enqueue(&self.broker, &[job("a")]);
            let before = self.pages("claim");
            let claimed = claim(&self.broker, 1);
            let after = self.pages("claim");
            assert_eq!(finish(&self.broker, &claimed), 1);
            costs.push(after.0 - before.0);
            times.push(after.1 - before.1);
        }
        costs.sort_unstable();
        times.sort_by(f64::total_cmp);
        (costs[30], times[30])
    }

    /// Adds rows as the functions would.
    fn fill(&mut self, columns: &str, values: &str) {
        self.fill_with(beside(), columns, values);
    }

    fn fill_with(&mut self, number: i64, columns: &str, values: &str) {
        let fill = format!(
            "INSERT INTO anthill.jobs (queue, id, rank, place, enqueued, attempts, payload, {columns})
             SELECT 1, gen_random_uuid(), 0, n, clock_timestamp(), 26, '7', {values}
             FROM generate_series(1, {number}) AS n"
        );
        self.sql.batch_execute(&fill).unwrap();
    }
}

/// Beside `fill`, a claim takes at most twice as many pages as alone.
#[track_caller]
fn is_as_cheap(server: &Server, what: &str, fill: impl FnOnce(&mut Bench)) {
    let mut bench = Bench::new(server);
    let alone = bench.claim();
    fill(&mut bench);
    let beside = bench.claim();
    eprintln!(
        "beside {} {what}: {} pages, alone {}; {:.3} ms, alone {:.3}",
        self::beside(),
        beside.0,
        alone.0,
        beside.1,
        alone.1
    );
    assert!(
        beside.0 <= alone.0 * 2,
        "{what}: {} pages, alone {}",
        beside.0,
        alone.0
    );
}

#[test]
fn a_claim_beside_many_others_is_as_cheap_as_alone() {
    let server = skip_unless!(start());
    let (now, later) = ("clock_timestamp()", "clock_timestamp() + interval '1 day'");
    let simple = [
        (
            "delayed",
            "kind, state, turn, due",
            format!("'test', 1, {later}, {later}"),
        ),
        (
            "dead",
            "kind, state, turn, due, ended",
            format!("'test', 4, {now}, {now}, {now}"),
        ),
        (
            "done, with a result",
            "kind, state, turn, due, ended, until, keep",
            format!("'test', 5, {now}, {now}, {now}, {later}, 1"),
        ),
        (
            "ready, of another kind",
            "kind, state, turn, due",
            format!("'other', 0, {now}, {now}"),
        ),
        (
            "running",
            "kind, state, turn, due, ends, claim",
            format!("'test', 3, {now}, {now}, {later}, gen_random_uuid()"),
        ),
        (
            "to expire later",
            "kind, state, turn, due, expires",
            format!("'test', 1, {later}, {later}, {later}"),
        ),
    ];
    for (what, columns, values) in simple {
        is_as_cheap(&server, what, |bench| bench.fill(columns, &values));
    }
}

#[test]
fn a_claim_beside_a_hot_key_is_as_cheap_as_alone() {
    let server = skip_unless!(start());
    let now = "clock_timestamp()";
    let limited = |bench: &mut Bench| {
        let per_key = Some(1);
        let limits = Limits {
            per_key,
            ..Limits::default()
        };
        bench.broker.set_limits(limits).unwrap();
        // One runs.
        let mut hot = job("hot");
        hot.key = Some("hot".to_owned());
        enqueue(&bench.broker, &[hot]);
        assert_eq!(claim(&bench.broker, 1).len(), 1);
    };
    is_as_cheap(&server, "parked, of one key", |bench| {
        limited(bench);
        let values = format!("'test', 2, {now}, {now}, 'hot'");
        bench.fill("kind, state, turn, due, key", &values);
    });
    // And the key itself moves on as cheaply: the end of one makes the next one ready.
    let moves = |others: i64| {
        let mut bench = Bench::new(&server);
        limited(&mut bench);
        bench.fill_with(
            others,
            "kind, state, turn, due, key",
            &format!("'test', 2, {now}, {now}, 'hot'"),
        );
        let mut claimed = {
            let id = "SELECT id::text FROM anthill.jobs WHERE state = 3";
            let id: String = bench.sql.query_one(id, &[]).unwrap().get(0);
            // Whoever had it is gone.
            let back = "UPDATE anthill.jobs SET state = 0, returned = true WHERE state = 3";
            bench.sql.batch_execute(back).unwrap();
            let claimed = claim(&bench.broker, 1);
            assert_eq!(claimed[0].lease.id().to_string(), id);
            claimed
        };
        let mut costs = Vec::new();
        for _ in 0..15 {
            let before = bench.pages("settle").0 + bench.pages("claim").0;
            assert_eq!(finish(&bench.broker, &claimed), 1);
            claimed = claim(&bench.broker, 10);
            assert_eq!(claimed.len(), 1, "one with the key runs");
            costs.push(bench.pages("settle").0 + bench.pages("claim").0 - before);
        }
        costs.sort_unstable();
        costs[7]
    };
    let (few, many) = (moves(20), moves(beside()));
    eprintln!(
        "the next one of a key: {many} pages beside {} parked, {few} beside 20",
        beside()
    );
    assert!(many <= few * 2, "{many} pages, beside few {few}");
}

/// Another session has looked before the jobs were settled: their index entries stay.
#[test]
fn a_claim_under_an_old_snapshot_is_as_cheap_as_without() {
    let server = skip_unless!(start());
    let address_of = |bench: &mut Bench| -> String {
        let name: String = bench
            .sql
            .query_one("SELECT current_database()", &[])
            .unwrap()
            .get(0);
        server.url_of(&name)
    };
    for writes in [false, true] {
        let mut bench = Bench::new(&server);
        let alone = bench.claim();
        let mut old = client(&address_of(&mut bench));
        let mut transaction = old
            .build_transaction()
            .isolation_level(anthill_postgres::postgres::IsolationLevel::RepeatableRead)
            .start()
            .unwrap();
        transaction.execute("SELECT 1", &[]).unwrap();
        if writes {
            transaction
                .execute("SELECT pg_current_xact_id()", &[])
                .unwrap();
        }
        let settled = beside().min(100_000);
        for _ in 0..settled / 100 {
            enqueue(&bench.broker, &jobs(100));
            let claimed = claim(&bench.broker, 100);
            assert_eq!(finish(&bench.broker, &claimed), 100);
        }
        let beside = bench.claim();
        eprintln!(
            "after {settled} settles under an old snapshot{}: {} pages, without {}; {:.3} ms, without {:.3}",
            if writes {
                " of a transaction that writes"
            } else {
                ""
            },
            beside.0,
            alone.0,
            beside.1,
            alone.1
        );
        assert!(
            beside.0 <= alone.0 * 2,
            "{} pages, without {}",
            beside.0,
            alone.0
        );
        transaction.rollback().unwrap();
        assert_eq!(bench.broker.stats().unwrap().ready, 0);
    }
}
