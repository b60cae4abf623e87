//! The functions of the schema, as they are called; their text, and the versions of it. `sql/` has them.

/// The version of the tables and functions that this crate knows.
pub(crate) const VERSION: i32 = 1;

/// What makes each version of the one before; the first one of nothing.
pub(crate) const VERSIONS: [&[&str]; VERSION as usize] = [&[
    include_str!("sql/tables.sql"),
    include_str!("sql/support.sql"),
    include_str!("sql/enqueue.sql"),
    include_str!("sql/sweep.sql"),
    include_str!("sql/limits.sql"),
    include_str!("sql/claim.sql"),
    include_str!("sql/settle.sql"),
    include_str!("sql/manage.sql"),
    include_str!("sql/read.sql"),
    include_str!("sql/schedules.sql"),
    include_str!("sql/access.sql"),
]];

/// Puts a schema in the place of `anthill`. Its name needs no quotes.
pub(crate) fn in_schema(sql: &str, schema: &str) -> String {
    sql.replace("anthill.", &format!("{schema}."))
        .replace("SCHEMA anthill", &format!("SCHEMA {schema}"))
}

macro_rules! calls {
    ($($name:ident: $sql:literal,)+) => {
        /// The text of each call.
        pub(crate) struct Calls {
            $(pub(crate) $name: Box<str>,)+
        }

        impl Calls {
            pub(crate) fn new(schema: &str) -> Calls {
                Calls {
                    $($name: in_schema($sql, schema).into(),)+
                }
            }
        }
    };
}

calls! {
    version: "SELECT anthill.version()",
    find_queue: "SELECT * FROM anthill.find_queue($1)",
    make_queue: "SELECT anthill.make_queue($1)",
    enqueue: "SELECT * FROM anthill.enqueue_jobs($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
    enqueue_one: "SELECT anthill.enqueue_job($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    claim: "SELECT c.* FROM anthill.claim($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) \
            AS c, anthill.wait_for_disk()",
    go_on: "SELECT anthill.go_on($1, $2) FROM anthill.wait_for_disk()",
    settle: "SELECT s.* FROM anthill.settle($1, $2, $3, $4, $5, $6, $7, $8, $9) AS s, anthill.wait_for_disk()",
    extend: "SELECT e.* FROM anthill.extend($1, $2, $3, $4) AS e, anthill.wait_for_disk()",
    enqueue_within: "SELECT * FROM anthill.enqueue_jobs(anthill.here($1), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, \
                     $14, $15, $16)",
    settle_within: "SELECT s.*, CASE WHEN s.woke THEN pg_notify(anthill.channel(), anthill.here($1)::text)::text END \
                    FROM anthill.settle(anthill.here($1), $2, $3, $4, $5, $6, $7, $8, $9) AS s",
    progress: "SELECT anthill.progress($1, $2, $3, $4)",
    sweep: "SELECT * FROM anthill.sweep($1)",
    details: "SELECT * FROM anthill.details($1, $2, $3)",
    list: "SELECT * FROM anthill.details($1, anthill.list($1, $2, $3, $4, $5, $6), $7)",
    stats: "SELECT * FROM anthill.stats($1)",
    ready_kinds: "SELECT anthill.ready_kinds($1)",
    remove: "SELECT r.* FROM anthill.remove($1, $2, $3, $4, $5) AS r, anthill.wait_for_disk()",
    set_due: "SELECT anthill.set_due($1, $2, $3) FROM anthill.wait_for_disk()",
    retry_dead: "SELECT anthill.retry_dead($1, $2) FROM anthill.wait_for_disk()",
    cancel_running: "SELECT anthill.cancel_running($1, $2) FROM anthill.wait_for_disk()",
    last_place: "SELECT anthill.last_place()",
    purge: "SELECT p.* FROM anthill.purge($1, $2, $3) AS p, anthill.wait_for_disk()",
    set_paused: "SELECT anthill.set_paused($1, $2) FROM anthill.wait_for_disk()",
    set_retention: "SELECT anthill.set_retention($1, $2, $3) FROM anthill.wait_for_disk()",
    set_limits: "SELECT anthill.set_limits($1, $2, $3, $4, $5, $6, $7) FROM anthill.wait_for_disk()",
    settings: "SELECT keep_done, keep_dead, most_running, most_per_key, rate_jobs, rate_per, rate_burst, most_ready \
               FROM anthill.queues WHERE queue = $1",
    schedules: "SELECT * FROM anthill.schedules($1)",
    put_schedule: "SELECT anthill.put_schedule($1, $2, $3, $4, $5, $6, $7) FROM anthill.wait_for_disk()",
    drop_schedule: "SELECT anthill.drop_schedule($1, $2) FROM anthill.wait_for_disk()",
    fire: "SELECT anthill.fire($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) \
           FROM anthill.wait_for_disk()",
    announce: "SELECT anthill.announce($1, $2, $3, $4, $5, $6, $7)",
    withdraw: "SELECT anthill.withdraw($1, $2)",
    consumers: "SELECT * FROM anthill.live_consumers($1)",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_schema_takes_the_place_everywhere() {
        for text in VERSIONS.concat() {
            let moved = in_schema(text, "elsewhere");
            let comments = |line: &&str| !line.trim_start().starts_with("--");
            for line in moved.lines().filter(comments) {
                let line = line.replace("anthill_now", "");
                assert!(!line.contains("anthill"), "{line}");
            }
        }
        let calls = Calls::new("elsewhere");
        assert_eq!(&*calls.version, "SELECT elsewhere.version()");
    }
    /// [`Durability`](anthill_jobs::broker::Durability) promises so.
    #[test]
    fn what_changes_something_waits_for_the_disk() {
        let calls = Calls::new("anthill");
        for call in [
            &calls.claim,
            &calls.settle,
            &calls.extend,
            &calls.go_on,
            &calls.remove,
            &calls.set_due,
            &calls.retry_dead,
            &calls.cancel_running,
            &calls.purge,
            &calls.set_paused,
            &calls.set_retention,
            &calls.set_limits,
            &calls.put_schedule,
            &calls.drop_schedule,
            &calls.fire,
        ] {
            assert!(call.ends_with("anthill.wait_for_disk()"), "{call}");
        }
        // In the transaction of the caller's, he decides.
        for call in [&calls.enqueue_within, &calls.settle_within] {
            assert!(!call.contains("wait_for_disk"), "{call}");
        }
    }
}
