//! A transaction of the engine that is the caller's, and what of a job is in it: all of it happens when it commits, and none of
//! it before, or if it does not.

use super::prelude::*;
use crate::broker::{Listener, Settled};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) fn what_is_enqueued_in_a_transaction_is_there_once_it_commits(lab: &Lab) {
    let on = lab.bench();
    let batch = [job("a"), job("b")];
    let [a, b] = [&batch[0], &batch[1]].map(|job| job.id);
    let mut transaction = on.transaction();
    let enqueued = ok(transaction.enqueue(&batch));
    assert_eq!(enqueued, [Enqueued::Added(a), Enqueued::Added(b)]);
    on.is_in(a, None);
    transaction.commit();
    on.is_in(a, JobState::Ready);
    on.comes(10, &["a", "b"]);
    on.counted(|stats| assert_eq!((stats.enqueued, stats.running), (2, 2)));
}

/// Nor has it taken an id or a key.
pub(crate) fn what_is_enqueued_in_a_transaction_that_is_rolled_back_never_was(lab: &Lab) {
    let on = lab.bench();
    let mut inside = job("a");
    if on.has(Capability::Unique) {
        inside.unique = Some("k".to_owned());
    }
    let mut transaction = on.transaction();
    let enqueued = ok(transaction.enqueue(std::slice::from_ref(&inside)));
    assert_eq!(enqueued, [Enqueued::Added(inside.id)]);
    transaction.roll_back();
    on.finds_nothing();
    on.counted(|stats| assert_eq!(stats, QueueStats::default()));
    on.add(inside.clone());
    let mut transaction = on.transaction();
    let again = NewJob {
        id: inside.id,
        ..job("again")
    };
    let enqueued = ok(transaction.enqueue(&[again]));
    assert_eq!(enqueued, [Enqueued::Duplicate(inside.id)]);
    transaction.commit();
    on.comes(10, &["a"]);
}

/// Whoever looks for what others do hears of it once it commits.
pub(crate) fn what_a_transaction_enqueues_is_heard(lab: &Lab) {
    let on = lab.bench();
    let heard = Arc::new(AtomicUsize::new(0));
    let ours = Arc::clone(&heard);
    let poll = seconds(1) / 20;
    let listener = Listener::new(poll, move |_| {
        ours.fetch_add(1, Ordering::SeqCst);
    });
    let subscription = ok(on.broker.subscribe(listener));
    let mut transaction = on.transaction();
    ok(transaction.enqueue(&[job("a")]));
    transaction.commit();
    let limit = poll + on.notification_delay();
    eventually(limit, "a call after a commit", || {
        heard.load(Ordering::SeqCst) > 0
    });
    on.comes(1, &["a"]);
    drop(subscription);
}

pub(crate) fn what_is_settled_in_a_transaction_has_ended_once_it_commits(lab: &Lab) {
    let on = lab.bench();
    let ids = on.add_all(&jobs(2));
    let mut claimed = on.claim(2);
    claimed.sort_by_key(name);
    let ends = [
        (claimed[0].lease.clone(), done()),
        (claimed[1].lease.clone(), retry(seconds(0))),
        (Lease::new(JobId::new(), b"never given"), done()),
    ];
    let mut transaction = on.transaction();
    let settled = ok(transaction.settle(&ends));
    assert_eq!(settled, [Settled::Stored, Settled::Stored, Settled::Lost]);
    on.is_in(ids[0], JobState::Running);
    transaction.commit();
    on.is_in(ids[0], None);
    on.comes(10, &["1"]);
    on.counted(|stats| assert_eq!((stats.done, stats.retried), (1, 1)));
}

pub(crate) fn what_is_settled_in_a_transaction_that_is_rolled_back_goes_on(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(job("a"));
    let claimed = on.next();
    let mut transaction = on.transaction();
    let settled = ok(transaction.settle(&[(claimed.lease.clone(), done())]));
    assert_eq!(settled, [Settled::Stored]);
    transaction.roll_back();
    on.is_in(id, JobState::Running);
    on.finds_nothing();
    on.done(&claimed);
    on.counted(|stats| assert_eq!(stats.done, 1));
}
