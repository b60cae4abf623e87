//! What a step costs beside a great many jobs that it has nothing to do with: counted in the steps of SQLite's machine, which
//! are the same on each run. `ANTHILL_BESIDE=1000000` says beside how many.

use super::*;
use crate::{Retention, Settled};
use rusqlite::{TransactionBehavior, ffi};

/// All that this connection's statements have done since the last call.
fn machine_steps(connection: &Connection) -> i64 {
    // SAFETY: it is open, and nobody else uses it.
    let handle = unsafe { connection.handle() };
    let mut steps = 0;
    let mut statement = std::ptr::null_mut();
    loop {
        // SAFETY: the handle is that of an open connection, and the statement one of it, or null.
        statement = unsafe { ffi::sqlite3_next_stmt(handle, statement) };
        if statement.is_null() {
            return steps;
        }
        let count = ffi::SQLITE_STMTSTATUS_VM_STEP;
        // SAFETY: it is a statement of an open connection.
        steps += i64::from(unsafe { ffi::sqlite3_stmt_status(statement, count, 1) });
    }
}

/// Jobs that no claim of the kind `kind` has to do with.
#[derive(Clone, Copy, Debug)]
enum Beside {
    Nothing,
    Delayed,
    Done,
    /// Done, and kept by the retention alone.
    Retained,
    /// One with their key runs, and no more may.
    HotKey,
    OtherKind,
    Dead,
}

const ALL: [Beside; 6] = [
    Beside::Delayed,
    Beside::Done,
    Beside::Retained,
    Beside::HotKey,
    Beside::OtherKind,
    Beside::Dead,
];

/// Fills the tables as if they had come one by one.
fn fill(connection: &Connection, queue: i64, beside: Beside, number: u64) {
    let (state, column, kind) = match beside {
        Beside::Nothing => return,
        Beside::Delayed => (1, "delayed", "kind"),
        Beside::Done | Beside::Retained => (5, "results", "kind"),
        Beside::HotKey => (2, "parked", "kind"),
        Beside::OtherKind => (0, "ready", "other"),
        Beside::Dead => (4, "dead", "kind"),
    };
    let key = matches!(beside, Beside::HotKey).then_some("hot");
    // None of them is over in time.
    let far = "9000000000000000000 - n";
    let until = if matches!(beside, Beside::Done) {
        far
    } else {
        "NULL"
    };
    let rows = format!(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {number})
        INSERT INTO anthill_jobs (place, queue, state, rank, turn, attempts, due, until, enqueued, id, kind, key, payload)
        SELECT (?1 << 44) + (1 << 40) + n, ?1, {state}, -9, iif({state} < 4, n, {far}), 26, {far}, {until}, 1, randomblob(16), ?2, ?3, x'7b7d' FROM n"
    );
    let rows = connection.execute(&rows, rusqlite::params![queue, kind, key]);
    assert_eq!(rows.unwrap() as u64, number);
    let count = format!("UPDATE anthill_queues SET {column} = {column} + {number} WHERE id = ?1");
    connection.execute(&count, [queue]).unwrap();
}

/// The steps of an enqueue, of claims of three kinds, of an extension, and of a settle.
fn costs(beside: Beside, number: u64) -> Vec<(&'static str, i64)> {
    let folder = Folder::new();
    let clock = Clock::manual();
    let broker = folder.open_with(&clock);
    broker
        .set_limits(Limits {
            per_key: Some(1),
            ..Limits::default()
        })
        .unwrap();
    broker
        .set_retention(Retention::default().done(MINUTE).dead(MINUTE))
        .unwrap();
    broker.enqueue(&[keyed("hot"), keyed("cold")]).unwrap();
    let any = ClaimRequest::new(10, MINUTE);
    let hot = broker.claim(&any).unwrap().jobs;
    assert_eq!(hot.len(), 2);
    let mut connection = connection::connect(&folder.file(), Access::Write).unwrap();
    fill(&connection, broker.queue, beside, number);
    let mut costs = Vec::new();
    let mut run = |name, operation: &mut dyn FnMut(&mut Tx<'_>)| {
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .unwrap();
        let mut tx = Tx::load(&transaction, broker.queue, &clock).unwrap();
        operation(&mut tx);
        tx.store().unwrap();
        transaction.commit().unwrap();
        costs.push((name, machine_steps(&connection)));
    };
    let all = jobs(60);
    // A statement is planned when it is first met, and a plan costs no steps.
    run("enqueue", &mut |tx| {
        enqueue::enqueue(tx, &all).unwrap().unwrap();
    });
    let of = |kinds: &[&str]| {
        let kinds: Vec<String> = kinds.iter().map(|&kind| kind.to_owned()).collect();
        any.clone().of_kinds(kinds.into())
    };
    let mut leases = Vec::new();
    let requests = [
        ("claim of one kind", of(&["kind"])),
        ("claim of several kinds", of(&["kind", "absent", "another"])),
    ];
    for (name, request) in requests {
        run(name, &mut |tx| {
            let claims = claim::claim(tx, &request).unwrap();
            assert_eq!(claims.jobs.len(), 10);
            leases.extend(claims.jobs.into_iter().map(|job| job.lease));
        });
    }
    if !matches!(beside, Beside::OtherKind) {
        run("claim of any kind", &mut |tx| {
            let claims = claim::claim(tx, &any).unwrap();
            assert_eq!(claims.jobs.len(), 10);
            leases.extend(claims.jobs.into_iter().map(|job| job.lease));
        });
    }
    run("claim that finds nothing", &mut |tx| {
        let claims = claim::claim(tx, &of(&["absent"])).unwrap();
        assert!(claims.jobs.is_empty());
    });
    run("extend", &mut |tx| {
        ends::extend(tx, &leases, MINUTE).unwrap();
    });
    let ends: Vec<_> = leases
        .iter()
        .take(20)
        .map(|lease| (lease.clone(), done()))
        .collect();
    run("settle", &mut |tx| {
        let settled = ends::settle(tx, &ends).unwrap();
        assert!(settled.iter().all(|settled| settled.is_stored()));
    });
    // The next one with its key is to come.
    run("settle of a hot key", &mut |tx| {
        let ends: Vec<_> = hot.iter().map(|job| (job.lease.clone(), done())).collect();
        assert_eq!(ends::settle(tx, &ends).unwrap(), [Settled::Stored; 2]);
    });
    costs
}

#[test]
fn no_step_costs_twice_as_much_beside_a_hundred_thousand_jobs() {
    let number = std::env::var("ANTHILL_BESIDE").map_or(100_000, |number| number.parse().unwrap());
    let empty = costs(Beside::Nothing, 0);
    println!("{:<28}{empty:?}", "in an empty queue:");
    for beside in ALL {
        let start = std::time::Instant::now();
        let costs = costs(beside, number);
        println!(
            "beside {number} {beside:?} ({:?}): {costs:?}",
            start.elapsed()
        );
        for (name, cost) in costs {
            let (_, alone) = empty.iter().find(|(alone, _)| *alone == name).unwrap();
            assert!(
                cost <= alone * 2,
                "{name} beside {beside:?}: {cost} steps, alone {alone}"
            );
        }
    }
}
