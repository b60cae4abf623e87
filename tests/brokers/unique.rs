//! Unique keys: what keeps others out, and until when.

use std::time::Duration;

use anthill::jobs::{Enqueued, JobId, JobState, NewJob, OncePer};

use crate::bench::{Bench, Fixture, GRAIN, Handle, LEASE, job, ok, seconds};

/// A job beside which there is no other one with the same key.
fn unique(name: &str, key: &str) -> NewJob {
    let unique = Some(key.to_owned());
    NewJob {
        unique,
        ..job(name)
    }
}

/// A job that keeps others with its key out for so long.
fn once_per(name: &str, key: &str, period: Duration) -> NewJob {
    let key = key.to_owned();
    let once_per = Some(OncePer { key, period });
    NewJob {
        once_per,
        ..job(name)
    }
}

fn able<F: Fixture>() -> Option<Bench<F>> {
    Bench::able(|can| can.unique)
}

/// The key `k` is that of the job `id`.
#[track_caller]
fn is_kept(on: &Handle, id: JobId) {
    assert_eq!(on.add_again(unique("again", "k")), id);
}

/// The key `k` is free, and free again when this returns.
#[track_caller]
fn is_free(on: &Handle) {
    let id = on.add(unique("free", "k"));
    assert!(ok(on.broker.cancel(id)));
}

pub(crate) fn a_second_job_with_the_key_is_a_duplicate_of_the_first<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    let first = on.add(unique("first", "k"));
    let second = unique("second", "k");
    assert_eq!(on.add_again(second.clone()), first);
    assert_eq!(on.add_again(second.clone()), first);
    assert!(on.get(second.id).is_none());
    // Other keys, and none, are no matter.
    on.add(unique("other", "K"));
    on.add(unique("longer", "k "));
    on.add(unique("empty", ""));
    on.add(job("plain"));
    assert_eq!(
        on.next_names(100),
        ["first", "other", "longer", "empty", "plain"]
    );
    // Also while they run.
    is_kept(&on, first);
    let stats = on.stats();
    assert_eq!((stats.enqueued, stats.duplicates), (5, 3));
}

/// A duplicate may be enqueued again when the key is free: it was not added before.
pub(crate) fn a_refused_duplicate_may_come_again<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    on.add(unique("first", "k"));
    let second = unique("second", "k");
    on.add_again(second.clone());
    let claimed = on.next();
    on.done(&claimed);
    on.add(second);
    assert_eq!(on.next_names(100), ["second"]);
}

pub(crate) fn one_batch_may_hold_a_unique_key_twice<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    let batch = [
        unique("a", "k"),
        job("b"),
        unique("c", "k"),
        unique("d", "other"),
        once_per("e", "k", LEASE),
    ];
    let first = batch[0].id;
    assert_eq!(
        on.enqueue(&batch),
        [
            Enqueued::Added(first),
            Enqueued::Added(batch[1].id),
            Enqueued::Duplicate(first),
            Enqueued::Added(batch[3].id),
            Enqueued::Duplicate(first),
        ]
    );
    assert_eq!(on.next_names(100), ["a", "b", "d"]);
}

pub(crate) fn a_key_is_free_when_its_job_is_done<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    let keep_result = Some(LEASE);
    let id = on.add(NewJob {
        keep_result,
        ..unique("a", "k")
    });
    let claimed = on.next();
    is_kept(&on, id);
    on.done(&claimed);
    // Though its result is kept.
    is_free(&on);
}

pub(crate) fn a_key_is_free_when_its_job_is_dead<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    for attempts in [1, 2] {
        let id = on.add(NewJob {
            attempts,
            ..unique("a", "k")
        });
        let claimed = on.next();
        is_kept(&on, id);
        if attempts == 1 {
            on.retry(&claimed, seconds(0));
        } else {
            on.bury(&claimed);
        }
        is_free(&on);
    }
}

pub(crate) fn a_key_is_free_when_the_last_lease_of_its_job_is_over<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    let id = on.add(NewJob {
        attempts: 2,
        ..unique("a", "k")
    });
    on.next();
    on.pass(LEASE);
    is_kept(&on, id);
    on.next();
    on.pass(LEASE);
    assert_eq!(on.state(id), Some(JobState::Dead));
    is_free(&on);
}

pub(crate) fn a_key_is_kept_through_retries_and_releases<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    let id = on.add(unique("a", "k"));
    let claimed = on.next();
    on.release(&claimed);
    is_kept(&on, id);
    let claimed = on.next();
    on.retry(&claimed, seconds(10));
    is_kept(&on, id);
    on.pass(seconds(10));
    is_kept(&on, id);
    let claimed = on.next();
    on.retry(&claimed, seconds(0));
    is_kept(&on, id);
    on.done(&on.next());
    is_free(&on);
}

pub(crate) fn a_key_is_free_when_its_job_is_cancelled<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    for delay in [seconds(0), seconds(10)] {
        let id = on.add(NewJob {
            delay,
            ..unique("a", "k")
        });
        is_kept(&on, id);
        assert!(ok(on.broker.cancel(id)));
        is_free(&on);
    }
}

pub(crate) fn a_key_is_free_when_its_job_is_purged<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    for (delay, state) in [(0, JobState::Ready), (10, JobState::Delayed)] {
        let delay = seconds(delay);
        let id = on.add(NewJob {
            delay,
            ..unique("a", "k")
        });
        is_kept(&on, id);
        assert_eq!(ok(on.broker.purge(&[state])), 1);
        is_free(&on);
    }
}

pub(crate) fn a_key_is_free_when_its_job_has_expired<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    let expires = Some(seconds(10));
    let id = on.add(NewJob {
        expires,
        ..unique("a", "k")
    });
    is_kept(&on, id);
    on.pass(seconds(10) + GRAIN);
    is_free(&on);
}

/// Else the second would be a duplicate of a job that will not run, and nobody would know.
pub(crate) fn a_key_is_free_when_its_job_has_expired_though_nobody_claimed<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    let expires = Some(seconds(10));
    on.add(NewJob {
        expires,
        ..unique("expired", "k")
    });
    on.clock.advance(seconds(10) + GRAIN);
    on.add(unique("second", "k"));
    assert_eq!(on.next_names(100), ["second"]);
}

/// What is over does not free what another one has by now.
pub(crate) fn the_end_of_a_job_does_not_free_the_key_of_another<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    let dead = on.add(unique("dead", "k"));
    let claimed = on.next();
    on.bury(&claimed);
    let second = on.add(unique("second", "k"));
    assert!(ok(on.broker.delete(dead)));
    is_kept(&on, second);
    on.done(&on.next());
    is_free(&on);
}

// ---- a dead job that is to have its key again ----

pub(crate) fn a_dead_job_that_is_retried_has_its_key_again<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    let id = on.add(unique("a", "k"));
    on.bury(&on.next());
    is_free(&on);
    assert!(ok(on.broker.retry_dead(id)));
    is_kept(&on, id);
    on.done(&on.next());
    is_free(&on);
}

pub(crate) fn a_dead_job_stays_dead_while_another_one_has_its_key<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    let id = on.add(unique("dead", "k"));
    on.bury(&on.next());
    let second = on.add(unique("second", "k"));
    assert!(!ok(on.broker.retry_dead(id)));
    assert_eq!(on.state(id), Some(JobState::Dead));
    is_kept(&on, second);
    on.done(&on.next());
    assert!(ok(on.broker.retry_dead(id)));
    assert_eq!(on.next_names(100), ["dead"]);
}

// ---- once in a period ----

pub(crate) fn once_in_a_period_holds_though_the_job_is_done<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    let period = seconds(100);
    let first = on.add(once_per("first", "k", period));
    assert_eq!(on.add_again(once_per("again", "k", period)), first);
    on.done(&on.next());
    assert_eq!(on.add_again(once_per("again", "k", period)), first);
    on.clock.advance(period - GRAIN);
    assert_eq!(on.add_again(once_per("again", "k", period)), first);
    on.clock.advance(GRAIN);
    // Nobody has to look for it.
    let second = on.add(once_per("second", "k", period));
    on.clock.advance(period - GRAIN);
    assert_eq!(on.add_again(once_per("again", "k", period)), second);
    assert_eq!(on.next_names(100), ["second"]);
}

/// It counts from the enqueue, and ends though the job is still there.
pub(crate) fn a_period_ends_though_its_job_has_not<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    let period = seconds(10);
    on.add(once_per("first", "k", period));
    let running = on.next();
    on.clock.advance(period);
    let second = on.add(once_per("second", "k", period));
    // The end of the first is no matter to the second.
    on.done(&running);
    assert_eq!(on.add_again(once_per("again", "k", period)), second);
    on.pass(period - GRAIN);
    assert_eq!(on.add_again(once_per("again", "k", period)), second);
}

pub(crate) fn once_in_a_period_holds_though_the_job_is_gone<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    let period = seconds(100);
    let again = |first| assert_eq!(on.add_again(once_per("again", "k", period)), first);
    let first = on.add(once_per("cancelled", "k", period));
    assert!(ok(on.broker.cancel(first)));
    again(first);
    on.pass(period);
    let first = on.add(once_per("purged", "k", period));
    assert_eq!(ok(on.broker.purge(&[JobState::Ready])), 1);
    again(first);
    on.pass(period);
    let first = on.add(once_per("dead", "k", period));
    on.bury(&on.next());
    again(first);
    assert!(ok(on.broker.delete(first)));
    again(first);
    on.pass(period);
    let expires = Some(seconds(10));
    let first = on.add(NewJob {
        expires,
        ..once_per("expired", "k", period)
    });
    on.pass(seconds(20));
    assert!(on.get(first).is_none());
    again(first);
}

/// The two ways share their keys.
pub(crate) fn one_at_a_time_and_once_in_a_period_keep_each_other_out<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    let period = seconds(10);
    let one = on.add(unique("one", "k"));
    assert_eq!(on.add_again(once_per("two", "k", period)), one);
    on.done(&on.next());
    let two = on.add(once_per("two", "k", period));
    is_kept(&on, two);
    on.done(&on.next());
    is_kept(&on, two);
    on.clock.advance(period);
    is_free(&on);
}

/// Nor does a period that was another job's, and has passed.
pub(crate) fn a_period_that_has_passed_keeps_no_dead_job_back<F: Fixture>() {
    let Some(on) = able::<F>() else { return };
    let id = on.add(unique("dead", "k"));
    on.bury(&on.next());
    on.add(once_per("second", "k", seconds(10)));
    on.done(&on.next());
    assert!(!ok(on.broker.retry_dead(id)));
    on.clock.advance(seconds(10));
    assert!(ok(on.broker.retry_dead(id)));
    is_kept(&on, id);
    assert_eq!(on.next_names(100), ["dead"]);
}
