//! Jobs in transactions of the application's.

use super::*;
use crate::Settled;
use crate::sqlite::watch::Seen;
use std::slice;

#[test]
fn jobs_go_with_the_users_transaction_and_not_without_it() {
    let folder = Folder::new();
    let broker = folder.open();
    let mut user = folder.connect();
    user.execute_batch("CREATE TABLE orders (what TEXT) STRICT")
        .unwrap();
    let order = user.transaction().unwrap();
    broker.enqueue_in(&order, &jobs(3)).unwrap();
    order
        .execute("INSERT INTO orders VALUES ('ants')", [])
        .unwrap();
    assert_eq!(broker.stats().unwrap().ready, 0);
    order.rollback().unwrap();
    assert_eq!(broker.stats().unwrap().enqueued, 0);
    let mut seen = Seen::default();
    broker.store.changed(&mut seen).unwrap();
    let order = user.transaction().unwrap();
    let one = job();
    assert!(broker.enqueue_in(&order, slice::from_ref(&one)).unwrap()[0].is_added());
    assert_eq!(
        broker.enqueue_in(&order, &[one.clone(), job()]).unwrap()[0],
        Enqueued::Duplicate(one.id)
    );
    order.commit().unwrap();
    assert_eq!(broker.stats().unwrap().ready, 2);
    assert_eq!(broker.store.changed(&mut seen).unwrap().len(), 1);
    // Without one it is one of its own.
    broker.enqueue_in(&user, &jobs(2)).unwrap();
    assert!(user.is_autocommit());
    assert_eq!(broker.stats().unwrap().ready, 4);
    audit(&folder, &broker);

    let elsewhere = Folder::new();
    drop(elsewhere.open());
    let refused = broker.enqueue_in(&elsewhere.connect(), &jobs(1));
    assert!(matches!(refused, Err(QueueError::Address { .. })));
}

#[test]
fn a_users_transaction_that_is_late_is_told_and_adds_nothing() {
    let folder = Folder::new();
    let broker = folder.open();
    let user = folder.connect();
    user.busy_timeout(Duration::ZERO).unwrap();
    user.execute_batch("BEGIN").unwrap();
    user.query_row("SELECT count(*) FROM anthill_jobs", [], |_| Ok(()))
        .unwrap();
    broker.enqueue(&[job()]).unwrap();
    assert!(matches!(
        broker.enqueue_in(&user, &jobs(2)),
        Err(QueueError::Busy)
    ));
    user.execute_batch("COMMIT").unwrap();
    assert_eq!(broker.stats().unwrap().enqueued, 1);
}

/// An application's connection, with a table of its own.
fn shop(folder: &Folder) -> Connection {
    let shop = folder.connect();
    let sales = "CREATE TABLE sales (what TEXT) STRICT";
    shop.execute_batch(sales).unwrap();
    shop
}

fn sell(shop: &Connection) {
    let sell = "INSERT INTO sales VALUES ('ants')";
    shop.execute(sell, []).unwrap();
}

fn sales(folder: &Folder) -> i64 {
    let count = "SELECT count(*) FROM sales";
    let shop = folder.connect();
    shop.query_row(count, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_job_ends_with_the_users_transaction_and_not_without_it() {
    let folder = Folder::new();
    let broker = folder.open();
    let mut shop = shop(&folder);
    let job = job();
    add(&broker, &job);
    let end = [(claim_one(&broker), done())];
    let state = || broker.get(job.id).unwrap().map(|job| job.state);

    // Rolled back; and so it is if the process dies.
    let sale = shop.transaction().unwrap();
    sell(&sale);
    assert_eq!(broker.settle_in(&sale, &end).unwrap(), [Settled::Stored]);
    assert_eq!(state(), Some(JobState::Running));
    sale.rollback().unwrap();
    let dies = folder.connect();
    dies.execute_batch("BEGIN IMMEDIATE").unwrap();
    sell(&dies);
    assert_eq!(broker.settle_in(&dies, &end).unwrap(), [Settled::Stored]);
    drop(dies);
    assert_eq!((state(), sales(&folder)), (Some(JobState::Running), 0));
    assert_eq!(extend(&broker, slice::from_ref(&end[0].0)), [true]);

    let sale = shop.transaction().unwrap();
    assert_eq!(broker.settle_in(&sale, &end).unwrap(), [Settled::Stored]);
    sell(&sale);
    assert_eq!(
        broker.settle_in(&sale, &end).unwrap(),
        [Settled::Lost],
        "once"
    );
    sale.commit().unwrap();
    assert_eq!((state(), sales(&folder)), (None, 1));
    assert_eq!(
        settle(&broker, &end),
        [false],
        "as its consumer does afterwards"
    );
    assert_eq!(broker.stats().unwrap().done, 1);
    audit(&folder, &broker);
}

#[test]
fn a_lease_that_is_lost_settles_nothing_in_a_users_transaction() {
    let folder = Folder::new();
    let clock = Clock::manual();
    let broker = folder.open_with(&clock);
    let mut shop = shop(&folder);
    add(&broker, &job());
    let lost = claim_one(&broker);
    clock.advance(MINUTE);
    let held = claim_one(&broker);
    assert_eq!(held.id(), lost.id());
    let sale = shop.transaction().unwrap();
    let ends = [(lost, done()), (held.clone(), release()), (held, done())];
    let settled = broker.settle_in(&sale, &ends).unwrap();
    assert_eq!(settled, [Settled::Lost, Settled::Stored, Settled::Lost]);
    sale.commit().unwrap();
    let stats = broker.stats().unwrap();
    assert_eq!((stats.ready, stats.done), (1, 0));
    audit(&folder, &broker);
}

/// The transaction may go on all the same.
#[test]
fn a_settlement_that_fails_undoes_the_others_of_its_call() {
    let folder = Folder::new();
    let broker = folder.open();
    let mut shop = shop(&folder);
    broker.enqueue(&jobs(2)).unwrap();
    let claims = broker.claim(&ClaimRequest::new(2, MINUTE)).unwrap();
    let fails =
        "CREATE TEMP TRIGGER fails BEFORE UPDATE ON anthill_jobs WHEN new.error = 'on purpose'
        BEGIN SELECT RAISE(FAIL, 'it failed'); END";
    shop.execute_batch(fails).unwrap();
    let error = "on purpose".to_owned();
    let [first, second] = [0, 1].map(|at| claims.jobs[at].lease.clone());
    let ends = [(first, done()), (second, Settle::Dead { error })];
    let sale = shop.transaction().unwrap();
    sell(&sale);
    let Err(QueueError::Broker(error)) = broker.settle_in(&sale, &ends) else {
        panic!("it ended");
    };
    assert!(error.to_string().contains("it failed"), "{error}");
    sale.commit().unwrap();
    let stats = broker.stats().unwrap();
    assert_eq!((stats.running, stats.done, sales(&folder)), (2, 0, 1));
    audit(&folder, &broker);
    // Without a transaction it is one of its own.
    let first = slice::from_ref(&ends[0]);
    assert_eq!(broker.settle_in(&shop, first).unwrap(), [Settled::Stored]);
    assert!(shop.is_autocommit());
    assert_eq!(broker.stats().unwrap().done, 1);
    audit(&folder, &broker);
}

#[test]
fn a_users_settlement_that_is_late_is_told_and_ends_nothing() {
    let folder = Folder::new();
    let broker = folder.open();
    let shop = shop(&folder);
    shop.busy_timeout(Duration::ZERO).unwrap();
    broker.enqueue(&jobs(2)).unwrap();
    let ends = [(claim_one(&broker), done())];
    shop.execute_batch("BEGIN").unwrap();
    shop.query_row("SELECT count(*) FROM sales", [], |_| Ok(()))
        .unwrap();
    broker.enqueue(&[job()]).unwrap();
    let late = broker.settle_in(&shop, &ends);
    assert!(matches!(late, Err(QueueError::Busy)), "{late:?}");
    shop.execute_batch("COMMIT").unwrap();
    assert_eq!(broker.stats().unwrap().running, 1);
}

type CallWithin<'b> = dyn Fn(&Connection) -> Result<(), QueueError> + Sync + 'b;

static WAITS: AtomicU32 = AtomicU32::new(0);

fn wait(_: i32) -> bool {
    WAITS.fetch_add(1, Ordering::SeqCst);
    thread::yield_now();
    true
}

/// As it has not read before.
#[test]
fn a_users_transaction_that_begins_with_a_call_waits_for_another_writer() {
    let folder = Folder::new();
    let broker = folder.open();
    add(&broker, &job());
    let ends = [(claim_one(&broker), done())];
    let (mut mine, writer) = (folder.connect(), folder.connect());
    mine.busy_handler(Some(wait)).unwrap();
    let enqueue = |mine: &Connection| broker.enqueue_in(mine, &jobs(1)).map(drop);
    let settle = |mine: &Connection| broker.settle_in(mine, &ends).map(drop);
    let calls: [&CallWithin<'_>; 2] = [&enqueue, &settle];
    for call in calls {
        writer
            .execute_batch("BEGIN IMMEDIATE; UPDATE anthill_queues SET turn = turn + 1")
            .unwrap();
        mine.execute_batch("BEGIN").unwrap();
        let before = WAITS.load(Ordering::SeqCst);
        mine = thread::scope(|scope| {
            let called = scope.spawn(move || (call(&mine), mine));
            while WAITS.load(Ordering::SeqCst) == before && !called.is_finished() {
                thread::yield_now();
            }
            writer.execute_batch("COMMIT").unwrap();
            let (called, mine) = called.join().unwrap();
            called.unwrap();
            mine
        });
        mine.execute_batch("COMMIT").unwrap();
    }
    let stats = broker.stats().unwrap();
    assert_eq!((stats.enqueued, stats.done), (2, 1));
    audit(&folder, &broker);
}

#[test]
fn only_a_connection_to_the_queues_own_file_may_settle_there() {
    let folder = Folder::new();
    let broker = folder.open();
    add(&broker, &job());
    let ends = [(claim_one(&broker), done())];
    let elsewhere = Folder::new();
    drop(elsewhere.open());
    let refused = broker.settle_in(&elsewhere.connect(), &ends);
    assert!(matches!(refused, Err(QueueError::Address { .. })));
    let reader = SqliteBroker::open_read_only(folder.file(), "q", Clock::manual()).unwrap();
    let refused = reader.settle_in(&folder.connect(), &ends);
    assert!(matches!(refused, Err(QueueError::ReadOnly(_))));
    assert_eq!(broker.stats().unwrap().running, 1);
}

#[test]
fn watchers_are_told_of_what_a_users_settlement_made_ready() {
    let folder = Folder::new();
    let broker = folder.open();
    let limits = Limits {
        per_key: Some(1),
        ..Limits::default()
    };
    broker.set_limits(limits).unwrap();
    let next = keyed("k");
    broker.enqueue(&[keyed("k"), next.clone()]).unwrap();
    let ends = [(claim_one(&broker), done())];
    let mut seen = Seen::default();
    broker.store.changed(&mut seen).unwrap();
    broker.settle_in(&folder.connect(), &ends).unwrap();
    assert_eq!(broker.store.changed(&mut seen).unwrap().len(), 1);
    assert_eq!(claim_one(&broker).id(), next.id);
}
