//! [`Limits::max_ready`]: a queue that is full refuses more, as a whole, and loses nothing.

use super::prelude::*;

fn max_ready(limit: u64) -> Limits {
    Limits {
        max_ready: Some(limit),
        ..Limits::default()
    }
}

/// Why they are refused: all together, or the only one by its own answer.
#[track_caller]
fn refused(on: &Bench, jobs: &[NewJob]) -> Option<QueueError> {
    match on.broker.enqueue(jobs) {
        Err(error) => Some(error),
        Ok(mut answers) if jobs.len() == 1 => answers.pop()?.err(),
        Ok(_) => None,
    }
}

/// All of them are refused, and nothing is changed.
#[track_caller]
fn is_full(on: &Bench, jobs: &[NewJob]) {
    let mut before = None;
    on.counted(|stats| before = Some(stats));
    let limit = ok(on.limits().limits()).max_ready;
    match refused(on, jobs) {
        Some(QueueError::Full { limit: told }) => assert_eq!(Some(told), limit),
        other => panic!("{other:?}"),
    }
    on.counted(|stats| assert_eq!(Some(stats), before));
    for job in jobs {
        on.is_in(job.id, None);
    }
}

fn unique(name: &str) -> NewJob {
    NewJob {
        unique: Some("u".to_owned()),
        ..job(name)
    }
}

pub(crate) fn a_full_queue_refuses_a_whole_batch_and_loses_nothing(lab: &Lab) {
    let on = lab.bench();
    on.limit(max_ready(3));
    on.add_all(&[job("a"), job("b")]);
    is_full(&on, &[job("c"), job("d")]);
    on.another().add(job("c"));
    is_full(&on, &[job("d")]);
    is_full(&on.another(), &jobs(100));
    assert!(ok(on.broker.enqueue(&[])).is_empty());
    let on = on.reopen();
    is_full(&on, &[job("d")]);
    assert_eq!(on.next_names(1), ["a"]);
    // What runs does not wait any more.
    on.add(job("d"));
    is_full(&on, &[job("e")]);
    assert_eq!(on.next_names(100), ["b", "c", "d"]);
}

pub(crate) fn a_bound_may_change_and_be_taken_off(lab: &Lab) {
    let on = lab.bench();
    on.limit(max_ready(0));
    is_full(&on, &[job("a")]);
    on.limit(max_ready(u64::MAX));
    on.add_all(&jobs(5));
    on.limit(max_ready(2));
    is_full(&on, &[job("b")]);
    assert_eq!(on.claim(3).len(), 3);
    is_full(&on, &[job("b")]);
    assert_eq!(on.claim(1).len(), 1);
    on.add(job("b"));
    on.limit(Limits::default());
    on.add_all(&jobs(100));
}

pub(crate) fn the_parked_count_too(lab: &Lab) {
    let on = lab.bench();
    on.limit(Limits {
        per_key: Some(1),
        ..max_ready(3)
    });
    let keyed = |name: &str| NewJob {
        key: Some("k".to_owned()),
        ..job(name)
    };
    on.add_all(&[keyed("a"), keyed("b"), keyed("c")]);
    assert_eq!(on.stats().parked, 2);
    is_full(&on, &[job("d")]);
    is_full(&on, &[keyed("d")]);
    assert_eq!(on.next_names(100), ["a"]);
    on.add(keyed("d"));
    is_full(&on, &[keyed("e")]);
}

/// Those that come later, or come back, are not refused: what was acknowledged once stays so.
pub(crate) fn what_is_due_later_or_comes_back_is_let_in(lab: &Lab) {
    let on = lab.bench();
    on.limit(max_ready(1));
    on.add(job("retried"));
    let retried = on.next();
    on.add(job("released"));
    let released = on.next();
    on.add(job("lost"));
    on.next();
    on.add(job("dead"));
    let dead = on.next();
    on.bury(&dead);
    on.add(job("ready"));
    let later = |name: &str| NewJob {
        delay: seconds(10),
        ..job(name)
    };
    on.add_all(&[later("due"), later("due too")]);
    is_full(&on, &[later("not alone"), job("with it")]);
    on.retry(&retried, seconds(0));
    on.release(&released);
    assert!(ok(on.admin().retry_dead(dead.lease.id())));
    on.pass(LEASE);
    assert_eq!(on.stats().ready, 7);
    let scheduled = Scheduled {
        name: "s".to_owned(),
        cron: "0 * * * *".to_owned(),
        kind: "test".to_owned(),
        payload: Vec::new(),
        next: 100,
        missed: Missed::Once,
    };
    ok(on.schedules().put_schedule(&scheduled));
    assert_eq!(
        ok(on.schedules().fire(&scheduled, 200, Some(&job("fired")))),
        Fired::Done
    );
    assert_eq!(on.stats().ready, 8);
    is_full(&on, &[job("more")]);
    on.add(later("and later"));
}

/// What is due by now is ready, whether or not anybody has seen to it.
pub(crate) fn what_is_due_counts_and_what_has_expired_does_not(lab: &Lab) {
    let on = lab.bench();
    on.limit(max_ready(1));
    on.add(NewJob {
        expires: Some(seconds(10)),
        ..job("expires")
    });
    is_full(&on, &[job("a")]);
    on.advance(seconds(10));
    on.add(job("a"));
    assert_eq!(on.next_names(100), ["a"]);
    on.add(NewJob {
        delay: seconds(10),
        ..job("due")
    });
    on.advance(seconds(10));
    match refused(&on, &[job("b")]) {
        Some(QueueError::Full { limit: 1 }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(on.next_names(100), ["due"]);
}

/// They add nothing, and are told whose duplicates they are.
pub(crate) fn duplicates_do_not_count(lab: &Lab) {
    let on = lab.bench();
    let once = |name: &str| NewJob {
        once_per: Some(OncePer {
            key: "o".to_owned(),
            period: seconds(10),
        }),
        ..job(name)
    };
    on.limit(max_ready(3));
    let there = job("there");
    let all = on.add_all(&[there.clone(), unique("u"), once("o")]);
    let again = [there.clone(), unique("u"), once("o")];
    let told: Vec<_> = all.iter().map(|&id| Enqueued::Duplicate(id)).collect();
    assert_eq!(on.enqueue(&again), told);
    is_full(&on, &[job("one more")]);
    assert_eq!(on.next_names(1), ["there"]);
    // One has room, and the others add nothing.
    let more = job("more");
    let enqueued = on.enqueue(&[unique("u"), more.clone(), once("o"), there.clone()]);
    assert_eq!(enqueued[1], Enqueued::Added(more.id));
    assert_eq!(on.stats().ready, 3);
}

/// Nor do those of which one batch has several.
pub(crate) fn duplicates_within_a_batch_do_not_count(lab: &Lab) {
    let on = lab.bench();
    on.limit(max_ready(2));
    let (one, twice) = (unique("one"), job("twice"));
    let batch = [
        one.clone(),
        unique("two"),
        twice.clone(),
        twice.clone(),
        unique("three"),
    ];
    let enqueued = on.enqueue(&batch);
    let added = enqueued.iter().filter(|one| one.is_added()).count();
    assert_eq!((added, on.stats().ready), (2, 2));
    assert_eq!(enqueued[1], Enqueued::Duplicate(one.id));
    assert_eq!(enqueued[3], Enqueued::Duplicate(twice.id));
}

/// Where that which it would put off runs it is one more.
pub(crate) fn a_debounced_job_counts_where_it_is_added(lab: &Lab) {
    let on = lab.bench();
    on.limit(max_ready(1));
    let debounced = |name: &str| NewJob {
        debounce: true,
        ..unique(name)
    };
    let first = on.add(debounced("a"));
    assert_eq!(on.add_again(debounced("b")), first);
    let running = on.next();
    on.add(job("ready"));
    is_full(&on, &[debounced("c")]);
    on.add(NewJob {
        delay: seconds(1),
        ..debounced("c")
    });
    on.done(&running);
    assert_eq!(on.claim(100).len(), 1);
    assert_eq!(on.stats().delayed, 1);
}

/// A waiting job that is put off from later to now would be one more; it has been let in already.
pub(crate) fn a_debounce_is_not_refused(lab: &Lab) {
    let on = lab.bench();
    on.limit(max_ready(1));
    let debounced = |name: &str, delay| NewJob {
        debounce: true,
        delay: seconds(delay),
        ..unique(name)
    };
    let first = on.add(debounced("a", 10));
    on.add(job("ready"));
    assert_eq!(on.add_again(debounced("b", 0)), first);
    assert_eq!(on.state(first), Some(JobState::Ready));
    assert_eq!(names(&on.claim(100)), ["ready", "b"]);
}

/// The bound is no rule for those that come back with a delay.
pub(crate) fn a_retry_with_a_delay_is_let_in(lab: &Lab) {
    let on = lab.bench();
    on.limit(max_ready(1));
    on.add(job("a"));
    let first = on.next();
    on.add(job("b"));
    let second = on.next();
    on.add(job("c"));
    on.retry(&first, seconds(1));
    let delay = seconds(1);
    assert!(on.settle(&second, Settle::Release { delay }));
    on.pass(seconds(1));
    assert_eq!(on.stats().ready, 3);
}
