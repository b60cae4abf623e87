//! Unique keys: what keeps others out, and until when.

use super::prelude::*;

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

/// The key `k` is that of the job `id`.
#[track_caller]
fn is_kept(on: &Bench, id: JobId) {
    assert_eq!(on.add_again(unique("again", "k")), id);
}

/// The key `k` is free, and free again when this returns.
#[track_caller]
fn is_free(on: &Bench) {
    let id = on.add(unique("free", "k"));
    assert!(ok(on.admin().cancel(id)));
}

pub(crate) fn a_second_job_with_the_key_is_a_duplicate_of_the_first(lab: &Lab) {
    let on = lab.bench();
    let first = on.add(unique("first", "k"));
    let second = unique("second", "k");
    assert_eq!(on.add_again(second.clone()), first);
    assert_eq!(on.add_again(second.clone()), first);
    on.is_in(second.id, None);
    // Other keys, and none, are no matter.
    on.add(unique("other", "K"));
    on.add(unique("longer", "k "));
    on.add(unique("empty", ""));
    on.add(job("plain"));
    on.comes(100, &["first", "other", "longer", "empty", "plain"]);
    // Also while they run.
    is_kept(&on, first);
    on.counted(|stats| assert_eq!((stats.enqueued, stats.duplicates), (5, 3)));
}

/// A duplicate may be enqueued again when the key is free: it was not added before.
pub(crate) fn a_refused_duplicate_may_come_again(lab: &Lab) {
    let on = lab.bench();
    on.add(unique("first", "k"));
    let second = unique("second", "k");
    on.add_again(second.clone());
    let claimed = on.next();
    on.done(&claimed);
    on.add(second);
    assert_eq!(on.next_names(100), ["second"]);
}

pub(crate) fn one_batch_may_hold_a_unique_key_twice(lab: &Lab) {
    let on = lab.bench();
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
    on.comes(100, &["a", "b", "d"]);
}

pub(crate) fn a_key_is_free_when_its_job_is_done(lab: &Lab) {
    let on = lab.bench();
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

pub(crate) fn a_key_is_free_when_its_job_is_dead(lab: &Lab) {
    let on = lab.bench();
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

pub(crate) fn a_key_is_free_when_the_last_lease_of_its_job_is_over(lab: &Lab) {
    let on = lab.bench();
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

pub(crate) fn a_key_is_kept_through_retries_and_releases(lab: &Lab) {
    let on = lab.bench();
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

pub(crate) fn a_key_is_free_when_its_job_is_cancelled(lab: &Lab) {
    let on = lab.bench();
    for delay in [seconds(0), seconds(10)] {
        let id = on.add(NewJob {
            delay,
            ..unique("a", "k")
        });
        is_kept(&on, id);
        assert!(ok(on.admin().cancel(id)));
        is_free(&on);
    }
}

pub(crate) fn a_key_is_free_when_its_job_is_purged(lab: &Lab) {
    let on = lab.bench();
    for (delay, state) in [(0, JobState::Ready), (10, JobState::Delayed)] {
        let delay = seconds(delay);
        let id = on.add(NewJob {
            delay,
            ..unique("a", "k")
        });
        is_kept(&on, id);
        assert_eq!(ok(on.admin().purge(&[state])), 1);
        is_free(&on);
    }
}

pub(crate) fn a_key_is_free_when_its_job_has_expired(lab: &Lab) {
    let on = lab.bench();
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
pub(crate) fn a_key_is_free_when_its_job_has_expired_though_nobody_claimed(lab: &Lab) {
    let on = lab.bench();
    let expires = Some(seconds(10));
    on.add(NewJob {
        expires,
        ..unique("expired", "k")
    });
    on.advance(seconds(10) + GRAIN);
    on.add(unique("second", "k"));
    assert_eq!(on.next_names(100), ["second"]);
}

/// What is over does not free what another one has by now.
pub(crate) fn the_end_of_a_job_does_not_free_the_key_of_another(lab: &Lab) {
    let on = lab.bench();
    let dead = on.add(unique("dead", "k"));
    let claimed = on.next();
    on.bury(&claimed);
    let second = on.add(unique("second", "k"));
    assert!(ok(on.admin().delete(dead)));
    is_kept(&on, second);
    on.done(&on.next());
    is_free(&on);
}

// ---- a dead job that is to have its key again ----

pub(crate) fn a_dead_job_that_is_retried_has_its_key_again(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(unique("a", "k"));
    on.bury(&on.next());
    is_free(&on);
    assert!(ok(on.admin().retry_dead(id)));
    is_kept(&on, id);
    on.done(&on.next());
    is_free(&on);
}

pub(crate) fn a_dead_job_stays_dead_while_another_one_has_its_key(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(unique("dead", "k"));
    on.bury(&on.next());
    let second = on.add(unique("second", "k"));
    assert!(!ok(on.admin().retry_dead(id)));
    assert_eq!(on.state(id), Some(JobState::Dead));
    is_kept(&on, second);
    on.done(&on.next());
    assert!(ok(on.admin().retry_dead(id)));
    assert_eq!(on.next_names(100), ["dead"]);
}

// ---- once in a period ----

pub(crate) fn once_in_a_period_holds_though_the_job_is_done(lab: &Lab) {
    let on = lab.bench();
    let period = seconds(100);
    let first = on.add(once_per("first", "k", period));
    assert_eq!(on.add_again(once_per("again", "k", period)), first);
    on.done(&on.next());
    assert_eq!(on.add_again(once_per("again", "k", period)), first);
    on.advance(period - GRAIN);
    assert_eq!(on.add_again(once_per("again", "k", period)), first);
    on.advance(GRAIN);
    // Nobody has to look for it.
    let second = on.add(once_per("second", "k", period));
    on.advance(period - GRAIN);
    assert_eq!(on.add_again(once_per("again", "k", period)), second);
    assert_eq!(on.next_names(100), ["second"]);
}

/// It counts from the enqueue, and ends though the job is still there.
pub(crate) fn a_period_ends_though_its_job_has_not(lab: &Lab) {
    let on = lab.bench();
    let period = seconds(10);
    on.add(once_per("first", "k", period));
    let running = on.next();
    on.advance(period);
    let second = on.add(once_per("second", "k", period));
    // The end of the first is no matter to the second.
    on.done(&running);
    assert_eq!(on.add_again(once_per("again", "k", period)), second);
    on.pass(period - GRAIN);
    assert_eq!(on.add_again(once_per("again", "k", period)), second);
}

pub(crate) fn once_in_a_period_holds_though_the_job_is_gone(lab: &Lab) {
    let on = lab.bench();
    let period = seconds(100);
    let again = |first| assert_eq!(on.add_again(once_per("again", "k", period)), first);
    let first = on.add(once_per("cancelled", "k", period));
    assert!(ok(on.admin().cancel(first)));
    again(first);
    on.pass(period);
    let first = on.add(once_per("purged", "k", period));
    assert_eq!(ok(on.admin().purge(&[JobState::Ready])), 1);
    again(first);
    on.pass(period);
    let first = on.add(once_per("dead", "k", period));
    on.bury(&on.next());
    again(first);
    assert!(ok(on.admin().delete(first)));
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
pub(crate) fn one_at_a_time_and_once_in_a_period_keep_each_other_out(lab: &Lab) {
    let on = lab.bench();
    let period = seconds(10);
    let one = on.add(unique("one", "k"));
    assert_eq!(on.add_again(once_per("two", "k", period)), one);
    on.done(&on.next());
    let two = on.add(once_per("two", "k", period));
    is_kept(&on, two);
    on.done(&on.next());
    is_kept(&on, two);
    on.advance(period);
    is_free(&on);
}

/// Nor does a period that was another job's, and has passed.
pub(crate) fn a_period_that_has_passed_keeps_no_dead_job_back(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(unique("dead", "k"));
    on.bury(&on.next());
    on.add(once_per("second", "k", seconds(10)));
    on.done(&on.next());
    assert!(!ok(on.admin().retry_dead(id)));
    on.advance(seconds(10));
    assert!(ok(on.admin().retry_dead(id)));
    is_kept(&on, id);
    assert_eq!(on.next_names(100), ["dead"]);
}

// ---- both ----

/// With keys of their own either keeps it out, and each is freed by its own rule.
pub(crate) fn one_at_a_time_and_once_in_a_period_may_be_told_together(lab: &Lab) {
    let on = lab.bench();
    let period = seconds(100);
    let both = |name: &str| NewJob {
        unique: Some("k".to_owned()),
        ..once_per(name, "o", period)
    };
    let first = on.add(both("first"));
    is_kept(&on, first);
    assert_eq!(on.add_again(once_per("again", "o", period)), first);
    assert_eq!(on.add_again(both("again")), first);
    on.done(&on.next());
    is_free(&on);
    assert_eq!(on.add_again(both("again")), first, "its period is not over");
    // And the other way round.
    let other = on.add(unique("other", "k"));
    on.pass(period);
    assert_eq!(on.add_again(both("again")), other);
    let period_is_free = on.add(once_per("free", "o", period));
    on.all_done(&on.claim(100));
    assert_eq!(on.add_again(both("again")), period_is_free);
    on.pass(period);
    let last = on.add(both("last"));
    is_kept(&on, last);
}

/// What was refused has taken neither key.
pub(crate) fn one_that_is_kept_out_by_one_key_leaves_the_other_free(lab: &Lab) {
    let on = lab.bench();
    let both = |key: &str, period_key: &str| NewJob {
        unique: Some(key.to_owned()),
        ..once_per("both", period_key, seconds(100))
    };
    let one = on.add(unique("one", "k"));
    assert_eq!(on.add_again(both("k", "p")), one);
    let period = on.add(once_per("period", "p", seconds(100)));
    assert_eq!(on.add_again(both("l", "p")), period);
    on.add(unique("free", "l"));
}

/// With the same key it is free when both say so.
pub(crate) fn one_key_for_both_is_free_when_the_job_and_the_period_are_over(lab: &Lab) {
    let on = lab.bench();
    let period = seconds(100);
    let both = |name: &str| NewJob {
        unique: Some("k".to_owned()),
        ..once_per(name, "k", period)
    };
    // The job is over first.
    let first = on.add(both("first"));
    is_kept(&on, first);
    on.done(&on.next());
    is_kept(&on, first);
    on.pass(period - GRAIN);
    is_kept(&on, first);
    on.pass(GRAIN);
    is_free(&on);
    // The period is.
    let second = on.add(both("second"));
    on.pass(period * 2);
    is_kept(&on, second);
    assert_eq!(on.add_again(once_per("again", "k", period)), second);
    on.done(&on.next());
    is_free(&on);
}

/// Dead ones free what `unique` holds, and have both again when they are retried.
pub(crate) fn a_dead_job_with_both_keys_that_is_retried_has_them_again(lab: &Lab) {
    let on = lab.bench();
    let period = seconds(100);
    for key in ["k", "o"] {
        let both = |name: &str| NewJob {
            unique: Some("k".to_owned()),
            ..once_per(name, key, period)
        };
        let id = on.add(both("dies"));
        on.bury(&on.next());
        assert_eq!(on.add_again(both("again")), id, "its period is not over");
        assert!(ok(on.admin().retry_dead(id)));
        is_kept(&on, id);
        on.pass(period);
        is_kept(&on, id);
        on.bury(&on.next());
        is_free(&on);
        let other = on.add(both("other"));
        assert!(!ok(on.admin().retry_dead(id)));
        is_kept(&on, other);
        on.done(&on.next());
        on.pass(period);
        assert!(ok(on.admin().retry_dead(id)));
        is_kept(&on, id);
        on.done(&on.next());
    }
}

// ---- debounce ----

fn debounced(name: &str, delay: Duration) -> NewJob {
    NewJob {
        debounce: true,
        delay,
        ..unique(name, "k")
    }
}

/// The last one of a burst runs, so long after it.
pub(crate) fn a_debounced_job_that_waits_is_put_off_and_gets_the_newer_data(lab: &Lab) {
    let on = lab.bench();
    let delay = seconds(10);
    let id = on.add(debounced("1", delay));
    for name in ["2", "3", "4"] {
        on.pass(seconds(9));
        let again = NewJob {
            kind: "other".into(),
            ..debounced(name, delay)
        };
        assert_eq!(on.add_again(again), id);
        let job = on.job(id);
        assert_eq!((job.state, job.due_in), (JobState::Delayed, Some(delay)));
        assert_eq!((job.kind.as_str(), job.payload), ("other", name.into()));
    }
    on.pass(delay - GRAIN);
    assert!(on.claim(100).is_empty());
    on.pass(GRAIN);
    let claimed = on.claim(100);
    assert_eq!(claimed.len(), 1);
    assert_eq!(
        (claimed[0].lease.id(), &claimed[0].payload[..]),
        (id, &b"4"[..])
    );
    on.counted(|stats| assert_eq!((stats.enqueued, stats.duplicates), (1, 3)));
    on.done(&claimed[0]);
    is_free(&on);
}

pub(crate) fn a_debounced_job_that_is_ready_is_put_off_too(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(debounced("1", seconds(1)));
    on.pass(seconds(1));
    assert_eq!(on.state(id), Some(JobState::Ready));
    on.add(job("behind"));
    assert_eq!(on.add_again(debounced("2", seconds(1))), id);
    assert_eq!(on.state(id), Some(JobState::Delayed));
    assert_eq!(on.next_names(1), ["behind"]);
    on.pass(seconds(1));
    // Without a delay it goes to the end.
    on.add(job("before"));
    assert_eq!(on.add_again(debounced("3", seconds(0))), id);
    assert_eq!(on.next_names(100), ["before", "3"]);
}

/// It is left alone, and the newer one comes after it.
pub(crate) fn a_debounce_of_a_job_that_runs_adds_another_one(lab: &Lab) {
    let on = lab.bench();
    let delay = seconds(1);
    let first = on.add(debounced("1", delay));
    on.pass(delay);
    let running = on.next();
    let second = on.add(debounced("2", delay));
    assert_ne!(first, second);
    assert_eq!(on.add_again(debounced("3", delay)), second);
    is_kept(&on, second);
    on.done(&running);
    is_kept(&on, second);
    on.pass(delay);
    let running = on.claim(100);
    assert_eq!((running.len(), &running[0].payload[..]), (1, &b"3"[..]));
    // The first one's end has freed nothing; the second's does.
    on.done(&running[0]);
    is_free(&on);
}

/// A plain unique one finds it there, and does not move it.
pub(crate) fn a_job_without_debounce_puts_nobody_off(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(debounced("1", seconds(10)));
    on.pass(seconds(5));
    let plain = NewJob {
        debounce: false,
        ..debounced("2", seconds(10))
    };
    assert_eq!(on.add_again(plain), id);
    on.pass(seconds(5));
    assert_eq!(on.next_names(100), ["1"]);
}

/// What waits to be tried again is put off as well, and keeps its attempts.
pub(crate) fn a_debounced_job_that_waits_for_another_attempt_is_put_off(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(debounced("1", seconds(0)));
    on.retry(&on.next(), seconds(5));
    assert_eq!(on.add_again(debounced("2", seconds(10))), id);
    on.pass(seconds(10) - GRAIN);
    assert!(on.claim(100).is_empty());
    on.pass(GRAIN);
    let claimed = on.claim(100);
    assert_eq!(
        (&claimed[0].payload[..], claimed[0].attempt),
        (&b"2"[..], 2)
    );
}

/// It puts itself off, whatever its own period says; once it is over the period keeps others out.
pub(crate) fn a_debounced_job_may_be_once_in_a_period(lab: &Lab) {
    let on = lab.bench();
    let (delay, period) = (seconds(5), seconds(100));
    for key in ["k", "o"] {
        let both = |name: &str| NewJob {
            once_per: Some(OncePer {
                key: key.to_owned(),
                period,
            }),
            ..debounced(name, delay)
        };
        let id = on.add(both("1"));
        on.pass(seconds(3));
        assert_eq!(on.add_again(both("2")), id);
        on.pass(seconds(3));
        let claimed = on.claim(100);
        if key == "k" {
            assert!(claimed.is_empty(), "it was put off");
            on.pass(seconds(2));
            let claimed = on.claim(100);
            assert_eq!(&claimed[0].payload[..], b"2");
            on.done(&claimed[0]);
        } else {
            // The period is another key's: that keeps it out.
            assert_eq!(&claimed[0].payload[..], b"1");
            on.done(&claimed[0]);
        }
        assert_eq!(on.add_again(both("3")), id, "its period is not over");
        on.pass(period);
        let next = on.add(both("4"));
        assert!(ok(on.admin().cancel(next)));
        on.pass(period);
    }
}
