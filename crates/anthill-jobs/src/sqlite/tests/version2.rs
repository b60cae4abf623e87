//! A file of version 2 opens with all its jobs, and has the tables of a new one then.

use super::*;
use crate::Retention;
use crate::sqlite::time::Steady;
use rusqlite::params;
use std::collections::BTreeMap;

/// The tables as version 2 made them.
const VERSION_2: &str = "
CREATE TABLE anthill_schema (version INTEGER NOT NULL) STRICT;

CREATE TABLE anthill_queues (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    paused INTEGER NOT NULL DEFAULT 0,
    most_running INTEGER,
    most_per_key INTEGER,
    rate_jobs INTEGER,
    rate_per INTEGER,
    rate_burst INTEGER,
    rate_boot INTEGER NOT NULL DEFAULT 0, -- the boot of the host that rate_kept is of
    rate_kept INTEGER NOT NULL DEFAULT 0, -- steady: up to when the rate limit has granted jobs
    rate_behind INTEGER NOT NULL DEFAULT 0, -- ready jobs were left when it granted no more
    max_ready INTEGER,
    time INTEGER NOT NULL DEFAULT 0,      -- when the row was written
    time_boot INTEGER NOT NULL DEFAULT 0, -- the boot of the host that ahead is of
    ahead INTEGER NOT NULL DEFAULT 0,     -- by how much the time is ahead of the steady clock
    unpark TEXT,                          -- the limits were changed: keys from here on must be balanced
    turn INTEGER NOT NULL DEFAULT 0,      -- the last turn that was given
    ready INTEGER NOT NULL DEFAULT 0,     -- from here on counts
    delayed INTEGER NOT NULL DEFAULT 0,
    parked INTEGER NOT NULL DEFAULT 0,
    running INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    results INTEGER NOT NULL DEFAULT 0,
    enqueued INTEGER NOT NULL DEFAULT 0,
    duplicates INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,
    retried INTEGER NOT NULL DEFAULT 0,
    died INTEGER NOT NULL DEFAULT 0,
    lost_leases INTEGER NOT NULL DEFAULT 0,
    expired INTEGER NOT NULL DEFAULT 0,
    removed INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE anthill_jobs (
    place INTEGER PRIMARY KEY,            -- never used again
    queue INTEGER NOT NULL,
    state INTEGER NOT NULL,               -- 0 ready, 1 delayed, 2 parked, 3 running, 4 dead, 5 done
    rank INTEGER NOT NULL,                -- the negative of the priority
    turn INTEGER NOT NULL,                -- the order within a rank: about when it is due; or when it died
    attempt INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL,
    claim INTEGER NOT NULL DEFAULT 0,     -- counts the claims: only the newest may settle the job
    together INTEGER NOT NULL DEFAULT 0,  -- the newest claim was one of several jobs
    suspect INTEGER NOT NULL DEFAULT 0,   -- it lost a lease, and no attempt since has reported its end
    boot INTEGER,                         -- the boot of the host that ends is of
    ends INTEGER,                         -- steady: the end of the lease
    due INTEGER NOT NULL,                 -- when it is ready, or since when
    expires INTEGER,
    keep INTEGER,                         -- how long to keep the result
    until INTEGER,                        -- the end of that
    enqueued INTEGER NOT NULL,
    id BLOB NOT NULL,
    kind TEXT NOT NULL,
    key TEXT,
    holds TEXT,                           -- the unique key that it has until it is over
    error TEXT,
    progress BLOB,
    result BLOB,
    payload BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX anthill_jobs_id ON anthill_jobs (queue, id);
CREATE INDEX anthill_ready ON anthill_jobs (queue, kind, rank, turn) WHERE state = 0;
CREATE INDEX anthill_ready_key ON anthill_jobs (queue, key, rank, turn) WHERE state = 0 AND key IS NOT NULL;
CREATE INDEX anthill_delayed ON anthill_jobs (queue, due) WHERE state = 1;
CREATE INDEX anthill_parked ON anthill_jobs (queue, key, rank, turn) WHERE state = 2;
CREATE INDEX anthill_running ON anthill_jobs (queue, boot, ends) WHERE state = 3;
CREATE INDEX anthill_running_key ON anthill_jobs (queue, key) WHERE state = 3 AND key IS NOT NULL;
CREATE INDEX anthill_dead ON anthill_jobs (queue, turn) WHERE state = 4;
CREATE INDEX anthill_done ON anthill_jobs (queue, until) WHERE state = 5;
CREATE INDEX anthill_expires ON anthill_jobs (queue, expires) WHERE state < 3 AND expires IS NOT NULL;

CREATE TABLE anthill_unique (
    queue INTEGER NOT NULL,
    key TEXT NOT NULL,
    id BLOB NOT NULL,
    held INTEGER NOT NULL,                -- until the job is over
    until INTEGER,                        -- and not before then
    PRIMARY KEY (queue, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX anthill_unique_until ON anthill_unique (queue, until) WHERE until IS NOT NULL;

CREATE TABLE anthill_schedules (
    queue INTEGER NOT NULL,
    name TEXT NOT NULL,
    cron TEXT NOT NULL,
    kind TEXT NOT NULL,
    payload BLOB NOT NULL,
    next INTEGER NOT NULL,                -- wall, in seconds
    missed INTEGER NOT NULL,              -- what to do about missed times: 0 once, 1 all, 2 skip
    PRIMARY KEY (queue, name)
) STRICT;
";

const HOUR: i64 = 3_600_000_000_000;

struct Old {
    folder: Folder,
    clock: Clock,
    /// By state.
    ids: Vec<JobId>,
}

impl Old {
    /// A file of version 2 with the queues "q" and "idle", and in the first one a job in each state.
    fn new() -> Old {
        let (folder, clock) = (Folder::new(), Clock::manual());
        let file = connection::connect(&folder.file(), Access::Write).unwrap();
        file.execute_batch(VERSION_2).unwrap();
        file.execute_batch(
            "INSERT INTO anthill_schema VALUES (2);
            INSERT INTO anthill_queues (id, name) VALUES (1, 'idle');
            INSERT INTO anthill_queues (id, name, most_per_key, ready, delayed, parked, running, dead, results, enqueued,
            retried, died, turn) VALUES (2, 'q', 1, 1, 1, 1, 1, 1, 1, 7, 3, 1, 7)",
        )
        .unwrap();
        let now = i64::try_from(clock.wall().as_nanos()).unwrap();
        let steady = Steady::of(&clock);
        let ids = JobState::ALL.map(|state| {
            let id = JobId::new();
            let number = tx::number(state);
            let keyed = matches!(state, JobState::Running | JobState::Parked);
            let insert = "INSERT INTO anthill_jobs (place, queue, state, rank, turn, attempt, attempts, claim, boot, ends,
                due, keep, until, enqueued, id, kind, key, holds, error, result, payload) VALUES
                (?1, 2, ?2, -5, ?3, ?4, 7, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 'kind', ?12, ?13, ?14, ?15, ?16)";
            let tried = matches!(state, JobState::Running | JobState::Dead | JobState::Done);
            let is_running = state == JobState::Running;
            let is_done = state == JobState::Done;
            file.execute(
                insert,
                params![
                    (2_i64 << 44) + number + 1,
                    number,
                    if state == JobState::Dead { now - HOUR } else { number },
                    u32::from(tried),
                    is_running.then_some(steady.boot),
                    is_running.then_some(steady.since + HOUR),
                    if state == JobState::Delayed { now + HOUR } else { now - HOUR },
                    is_done.then_some(HOUR),
                    is_done.then_some(now + HOUR / 2),
                    now - 2 * HOUR,
                    id.as_bytes(),
                    keyed.then_some("k"),
                    (state == JobState::Ready).then_some("u"),
                    (state == JobState::Dead).then_some("it was Monday"),
                    is_done.then_some(b"42".as_slice()),
                    format!("{number}").into_bytes(),
                ],
            )
            .unwrap();
            id
        });
        let unique = "INSERT INTO anthill_unique (queue, key, id, held) VALUES (2, 'u', ?1, 1)";
        file.execute(unique, [ids[0].as_bytes()]).unwrap();
        let ids = ids.to_vec();
        Old { folder, clock, ids }
    }

    fn open(&self) -> Result<SqliteBroker, QueueError> {
        SqliteBroker::open(self.folder.file(), "q", self.clock.clone())
    }

    fn version(&self) -> i64 {
        let version = "SELECT max(version) FROM anthill_schema";
        let file = self.folder.connect();
        file.query_row(version, [], |row| row.get(0)).unwrap()
    }
}

/// The names of the columns of each table, and the text of each index.
fn objects(folder: &Folder) -> BTreeMap<String, Vec<String>> {
    let file = folder.connect();
    let texts = |sql: &str| -> Vec<String> {
        let mut texts = file.prepare(sql).unwrap();
        let texts = texts.query_map([], |row| row.get(0)).unwrap();
        texts.map(Result::unwrap).collect()
    };
    let names = texts("SELECT name FROM sqlite_master WHERE name LIKE 'anthill%'");
    let parts = names.into_iter().map(|name| {
        let mut columns = texts(&format!(
            "SELECT printf('%s %s %d %s', name, type, \"notnull\", dflt_value) FROM pragma_table_info('{name}')"
        ));
        columns.sort();
        let indexed = format!("SELECT sql FROM sqlite_master WHERE type = 'index' AND name = '{name}'");
        columns.extend(texts(&indexed));
        (name, columns)
    });
    parts.collect()
}

#[test]
fn a_file_of_version_2_opens_with_all_its_jobs() {
    let old = Old::new();
    let broker = old.open().unwrap();
    assert_eq!(old.version(), 3);
    let new = Folder::new();
    drop(new.open());
    assert_eq!(objects(&old.folder), objects(&new));
    audit(&old.folder, &broker);
    for (state, &id) in JobState::ALL.into_iter().zip(&old.ids) {
        let job = broker.get(id).unwrap().unwrap();
        let listed = broker.list(&ListRequest::new(state)).unwrap();
        assert_eq!((job.state, listed.len(), listed[0].id), (state, 1, id));
        assert_eq!(job.payload, tx::number(state).to_string().into_bytes());
        assert_eq!((job.priority, job.attempts), (5, 7));
        assert_eq!(job.age, MINUTE * 120);
        assert!(job.headers.is_empty() && job.errors.is_empty() && !job.cancel_requested);
    }
    let get = |state: JobState| broker.get(old.ids[number(state)]).unwrap();
    assert_eq!(
        get(JobState::Dead).unwrap().error.as_deref(),
        Some("it was Monday")
    );
    assert_eq!(
        get(JobState::Done).unwrap().result.as_deref(),
        Some(b"42".as_slice())
    );
    assert_eq!(get(JobState::Running).unwrap().consumer, None);

    // And it goes on from there.
    let lease = ends::lease(old.ids[number(JobState::Running)], (2 << 44) + 4, 1);
    assert_eq!(extend(&broker, std::slice::from_ref(&lease)), [true]);
    assert_eq!(settle(&broker, &[(lease, done())]), [true]);
    let first = broker.claim(&ClaimRequest::new(9, MINUTE)).unwrap();
    let both = [
        old.ids[number(JobState::Ready)],
        old.ids[number(JobState::Parked)],
    ];
    assert_eq!(ids(&first), both);
    let unique = NewJob {
        unique: Some("u".to_owned()),
        ..job()
    };
    assert_eq!(add(&broker, &unique), Enqueued::Duplicate(both[0]));
    assert!(broker.retry_dead(old.ids[number(JobState::Dead)]).unwrap());
    old.clock.advance(MINUTE * 30);
    assert!(get(JobState::Done).is_none(), "its time is over");
    old.clock.advance(MINUTE * 30);
    assert_eq!(get(JobState::Delayed).unwrap().state, JobState::Ready);
    audit(&old.folder, &broker);
    let idle = SqliteBroker::open(old.folder.file(), "idle", old.clock.clone()).unwrap();
    assert!(add(&idle, &job()).is_added());
}

fn number(state: JobState) -> usize {
    usize::try_from(tx::number(state)).unwrap()
}

/// By when they were over: an hour, and half an hour ago.
#[test]
fn the_retention_counts_for_jobs_of_version_2() {
    let old = Old::new();
    let broker = old.open().unwrap();
    let ids = [JobState::Dead, JobState::Done].map(|state| old.ids[number(state)]);
    let are_there = || ids.map(|id| broker.get(id).unwrap().is_some());
    let keep = |time| broker.set_retention(Retention::default().done(time).dead(time));
    keep(MINUTE * 61).unwrap();
    old.clock.advance(MINUTE);
    assert_eq!(are_there(), [false, true]);
    old.clock.advance(MINUTE * 29);
    assert_eq!(
        are_there(),
        [false, true],
        "its result is not kept any more"
    );
    old.clock.advance(MINUTE);
    assert_eq!(are_there(), [false, false]);
    audit(&old.folder, &broker);
}

/// One of them does it, and the others wait.
#[test]
fn many_may_open_a_file_of_version_2_at_once() {
    let old = Old::new();
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                // As from another process.
                let broker = old.folder.open();
                assert!(add(&broker, &job()).is_added());
            });
        }
    });
    assert_eq!(old.open().unwrap().stats().unwrap().enqueued, 7 + 8);
}

#[test]
fn without_permission_to_write_a_file_of_version_2_is_refused_and_left_alone() {
    let old = Old::new();
    let opened = SqliteBroker::open_read_only(old.folder.file(), "q", old.clock.clone());
    let Err(error @ QueueError::ReadOnly(_)) = opened else {
        panic!("{opened:?}");
    };
    let text = error.to_string();
    assert!(
        text.contains("version 2") && text.contains("must open the queue once"),
        "{text}"
    );
    assert_eq!(old.version(), 2);
    drop(old.open().unwrap());
    let opened = SqliteBroker::open_read_only(old.folder.file(), "q", old.clock.clone());
    assert_eq!(opened.unwrap().stats().unwrap().ready, 1);
}

/// All of it, or nothing.
#[test]
fn a_damaged_file_of_version_2_is_told_and_left_as_it_is() {
    let old = Old::new();
    let file = old.folder.connect();
    file.execute_batch("DROP INDEX anthill_ready").unwrap();
    let before = objects(&old.folder);
    let Err(QueueError::Corrupt(why)) = old.open() else {
        panic!("it opened");
    };
    assert!(why.contains("tables and indexes"), "{why}");
    assert_eq!((old.version(), objects(&old.folder)), (2, before));
}

/// Its statements are those of version 2, which a program that has the file open goes on to use.
#[test]
fn a_program_of_version_2_that_has_the_file_open_goes_on() {
    let old = Old::new();
    let file = old.folder.connect();
    let broker = old.open().unwrap();
    let ready = JobState::Ready;
    let delete = "DELETE FROM anthill_jobs WHERE place = ?1";
    file.execute(delete, [(2_i64 << 44) + 1]).unwrap();
    let insert = "INSERT INTO anthill_jobs (place, queue, state, rank, turn, attempts, due, expires, keep, enqueued,
        id, kind, key, holds, payload) VALUES (?1, 2, 0, 0, 9, 7, 9, NULL, NULL, 9, ?2, 'kind', NULL, NULL, x'7b7d')";
    let id = JobId::new();
    file.execute(insert, params![(2_i64 << 44) + 8, id.as_bytes()])
        .unwrap();
    let count = "UPDATE anthill_queues SET enqueued = 8 WHERE id = 2";
    file.execute(count, []).unwrap();
    let kept = "SELECT place FROM anthill_jobs INDEXED BY anthill_done
        WHERE queue = 2 AND state = 5 AND until <= ?1 ORDER BY until LIMIT 500";
    assert!(file.prepare(kept).unwrap().exists([i64::MAX]).unwrap());
    assert_eq!(broker.get(id).unwrap().unwrap().state, ready);
    assert_eq!(
        ids(&broker.claim(&ClaimRequest::new(1, MINUTE)).unwrap()),
        [id]
    );
    audit(&old.folder, &broker);
}
