//! B1, B2, B6: what an enqueue adds, and in which order that comes out again.

use std::thread;
use std::time::Duration;

use anthill_jobs::{Enqueued, JobId, JobState, NewJob, QueueStats};

use crate::bench::{Bench, Fixture, GRAIN, done, job, jobs, name, names, ok, seconds};

pub(crate) fn a_new_broker_is_empty<F: Fixture>() {
    let on = Bench::<F>::new();
    let claims = on.claims(100);
    assert!(claims.jobs.is_empty());
    assert_eq!(claims.again_in, None);
    assert_eq!(on.stats(), QueueStats::default());
    assert!(on.enqueue(&[]).is_empty());
}

pub(crate) fn a_job_comes_out_as_it_went_in<F: Fixture>() {
    let on = Bench::<F>::new();
    let id = on.add(NewJob {
        attempts: 7,
        ..NewJob::new("resize", b"{\"width\":80}".to_vec())
    });
    let claimed = on.next();
    assert_eq!(claimed.lease.id, id);
    assert_eq!(claimed.kind, "resize");
    assert_eq!(claimed.payload, b"{\"width\":80}");
    assert_eq!((claimed.attempt, claimed.attempts), (1, 7));
    assert_eq!(claimed.waited, Duration::ZERO);
}

pub(crate) fn jobs_come_out_in_the_order_in_which_they_went_in<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add_all(&[job("a"), job("b"), job("c")]);
    on.add(job("d"));
    on.clock.advance(seconds(1));
    on.add_all(&[job("e"), job("f")]);
    assert_eq!(on.next_names(4), ["a", "b", "c", "d"]);
    on.add(job("g"));
    assert_eq!(on.next_names(100), ["e", "f", "g"]);
    assert_eq!(on.next_names(100), [""; 0]);
}

/// The ids are no order: who made his first need not be who enqueued first.
pub(crate) fn the_order_is_that_of_the_enqueues_and_not_of_the_ids<F: Fixture>() {
    let on = Bench::<F>::new();
    let mut early_ids = jobs(10);
    early_ids.reverse();
    on.add_all(&early_ids);
    let order = ["9", "8", "7", "6", "5", "4", "3", "2", "1", "0"];
    assert_eq!(on.next_names(100), order);
}

pub(crate) fn the_order_is_kept_when_the_wall_clock_is_set_back<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add(job("first"));
    on.clock.set_wall(on.clock.wall() - seconds(3600));
    on.add(job("second"));
    assert_eq!(on.next_names(100), ["first", "second"]);
}

pub(crate) fn who_has_the_higher_priority_goes_first<F: Fixture>() {
    let Some(on) = Bench::<F>::able(|can| can.priority) else {
        return;
    };
    for (name, priority) in [
        ("normal 1", 0),
        ("lowest", i16::MIN),
        ("high 1", 5),
        ("low", -5),
        ("normal 2", 0),
        ("high 2", 5),
        ("highest", i16::MAX),
    ] {
        let job = job(name);
        on.add(NewJob { priority, ..job });
    }
    let order = [
        "highest", "high 1", "high 2", "normal 1", "normal 2", "low", "lowest",
    ];
    assert_eq!(on.next_names(100), order);
}

pub(crate) fn the_same_id_again_is_a_duplicate_of_itself<F: Fixture>() {
    let on = Bench::<F>::new();
    let first = job("once");
    let id = on.add(first.clone());
    assert_eq!(on.add_again(first.clone()), id);
    // Whatever else is different.
    let mut other = job("other data");
    other.id = id;
    assert_eq!(on.add_again(other), id);
    assert_eq!(on.next_names(100), ["once"]);
    // Also while it runs.
    assert_eq!(on.add_again(first), id);
    assert_eq!(on.next_names(100), [""; 0]);
}

pub(crate) fn an_id_is_a_duplicate_wherever_its_job_is<F: Fixture>() {
    let Some(on) = Bench::<F>::able(|can| can.by_id) else {
        return;
    };
    let keep_result = Some(seconds(3600));
    let all = ["done", "dead", "retried", "running"].map(|name| NewJob {
        keep_result,
        ..job(name)
    });
    on.add_all(&all);
    let claimed = on.claim(4);
    on.done(&claimed[0]);
    on.bury(&claimed[1]);
    on.retry(&claimed[2], seconds(10));
    let states = [
        JobState::Done,
        JobState::Dead,
        JobState::Delayed,
        JobState::Running,
    ];
    for (job, state) in all.into_iter().zip(states) {
        let id = job.id;
        assert_eq!(on.state(id), Some(state));
        assert_eq!(on.add_again(job), id, "while {state:?}");
        assert_eq!(on.state(id), Some(state));
    }
    assert_eq!(on.next_names(100), [""; 0]);
}

/// Both jobs of a batch that has the same id twice, and those around them.
pub(crate) fn one_batch_may_hold_an_id_twice<F: Fixture>() {
    let on = Bench::<F>::new();
    let (a, b, c) = (job("a"), job("b"), job("c"));
    let enqueued = on.enqueue(&[a.clone(), b.clone(), a.clone(), c.clone()]);
    assert_eq!(
        enqueued,
        [
            Enqueued::Added(a.id),
            Enqueued::Added(b.id),
            Enqueued::Duplicate(a.id),
            Enqueued::Added(c.id),
        ]
    );
    assert_eq!(on.next_names(100), ["a", "b", "c"]);
}

/// An enqueue whose answer was lost is repeated.
pub(crate) fn a_batch_again_adds_only_what_was_not_there<F: Fixture>() {
    let on = Bench::<F>::new();
    let mut batch = jobs(5);
    let ids = on.add_all(&batch);
    batch.push(job("new"));
    let enqueued = on.enqueue(&batch);
    let again: Vec<JobId> = enqueued.iter().map(|one| one.id()).collect();
    assert_eq!(again[..5], ids);
    let added: Vec<bool> = enqueued.iter().map(|one| one.is_added()).collect();
    assert_eq!(added, [false, false, false, false, false, true]);
    assert_eq!(on.next_names(100), ["0", "1", "2", "3", "4", "new"]);
}

/// B1: nobody sees a part of a batch.
pub(crate) fn a_batch_is_there_as_a_whole_or_not_at_all<F: Fixture>() {
    const BATCH: usize = 10;
    let on = Bench::<F>::new();
    let other = on.another();
    let enqueues = thread::spawn(move || {
        for _ in 0..100 {
            other.add_all(&jobs(BATCH));
        }
    });
    let mut got = 0;
    while got < 100 * BATCH {
        let ended = enqueues.is_finished();
        let claimed = on.claim(usize::MAX).len();
        assert_eq!(claimed % BATCH, 0, "a part of a batch");
        assert_eq!(on.stats().enqueued % BATCH as u64, 0, "a part of a batch");
        assert!(claimed > 0 || !ended, "{got} jobs came, and no more do");
        got += claimed;
    }
    enqueues.join().expect("all were added");
}

// ---- delays ----

pub(crate) fn a_delayed_job_does_not_come_before_it_is_due<F: Fixture>() {
    let on = Bench::<F>::new();
    let delay = seconds(10);
    on.add(NewJob {
        delay,
        ..job("later")
    });
    assert_eq!(on.next_names(100), [""; 0]);
    on.clock.advance(delay - GRAIN);
    assert_eq!(on.next_names(100), [""; 0]);
    on.clock.advance(GRAIN);
    assert_eq!(on.next_names(100), ["later"]);
    assert_eq!(on.next_names(100), [""; 0]);
}

pub(crate) fn a_claim_tells_when_the_next_job_is_due<F: Fixture>() {
    let on = Bench::<F>::new();
    for (name, delay) in [("third", 30), ("first", 10), ("second", 20)] {
        let delay = seconds(delay);
        on.add(NewJob { delay, ..job(name) });
    }
    for name in ["first", "second", "third"] {
        let (jobs, took) = on.follow();
        assert_eq!(names(&jobs), [name]);
        assert!(
            took >= seconds(10) && took <= seconds(10) + GRAIN,
            "{took:?}"
        );
        on.done(&jobs[0]);
    }
    assert_eq!(on.claims(100).again_in, None);
}

/// B6: as if it had been enqueued when it was due, whether or not anybody looked then.
pub(crate) fn a_delayed_job_is_in_line_as_of_when_it_is_due<F: Fixture>() {
    let on = Bench::<F>::new();
    for (name, delay) in [("due at 20", 20), ("due at 10", 10)] {
        let delay = seconds(delay);
        on.add(NewJob { delay, ..job(name) });
    }
    on.add(job("at 0"));
    on.clock.advance(seconds(15));
    on.add(job("at 15"));
    on.clock.advance(seconds(10));
    on.add(job("at 25"));
    let order = ["at 0", "due at 10", "at 15", "due at 20", "at 25"];
    assert_eq!(on.next_names(100), order);
}

pub(crate) fn jobs_due_at_once_come_in_the_order_of_their_enqueues<F: Fixture>() {
    let on = Bench::<F>::new();
    for (name, delay) in [("a", 20), ("b", 15), ("c", 10)] {
        let delay = seconds(delay);
        on.add(NewJob { delay, ..job(name) });
        on.clock.advance(seconds(5));
    }
    on.clock.advance(seconds(10));
    assert_eq!(on.next_names(100), ["a", "b", "c"]);
}

pub(crate) fn priority_counts_among_those_that_are_due<F: Fixture>() {
    let Some(on) = Bench::<F>::able(|can| can.priority) else {
        return;
    };
    on.add(job("plain"));
    on.add(NewJob {
        priority: 9,
        delay: seconds(10),
        ..job("urgent, later")
    });
    assert_eq!(on.next_names(1), ["plain"]);
    on.add(job("plain 2"));
    on.clock.advance(seconds(10));
    assert_eq!(on.next_names(100), ["urgent, later", "plain 2"]);
}

/// Delays follow the host's clock, and what that is set to.
pub(crate) fn a_delay_follows_the_wall_clock<F: Fixture>() {
    let on = Bench::<F>::new();
    let delay = seconds(1800);
    on.add(NewJob { delay, ..job("a") });
    on.clock.set_wall(on.clock.wall() + seconds(3600));
    assert_eq!(on.next_names(100), ["a"]);
}

/// So many names, each `delay` from now.
fn many(number: usize, delay: Duration) -> Vec<NewJob> {
    let delayed = |job| NewJob { delay, ..job };
    jobs(number).into_iter().map(delayed).collect()
}

pub(crate) fn many_jobs_due_at_once_all_come_in_order<F: Fixture>() {
    const JOBS: usize = 20_000;
    let on = Bench::<F>::new();
    on.add_all(&many(JOBS, seconds(60)));
    assert!(on.claim(JOBS).is_empty());
    on.clock.advance(seconds(60));
    let mut next = 0;
    on.drain(1_000, |claimed| {
        for job in &claimed {
            assert_eq!(name(job), next.to_string());
            next += 1;
        }
        let ends: Vec<_> = claimed.iter().map(|job| (job.lease, done())).collect();
        assert!(ok(on.broker.settle(&ends)).into_iter().all(|there| there));
    });
    assert_eq!(next, JOBS);
}

/// However many they are, and though nobody looked meanwhile.
pub(crate) fn who_comes_after_many_were_due_waits_behind_them<F: Fixture>() {
    const JOBS: usize = 3_000;
    let on = Bench::<F>::new();
    on.add_all(&many(JOBS, seconds(10)));
    on.clock.advance(seconds(20));
    on.add(job("late"));
    let mut came = Vec::new();
    on.drain(1_000, |claimed| came.extend(names(&claimed)));
    assert_eq!(came.len(), JOBS + 1);
    let late = came.iter().position(|name| name == "late");
    assert_eq!(late, Some(JOBS), "it went before those due before it came");
}

// ---- how long it waited ----

pub(crate) fn a_claim_tells_how_long_the_job_was_ready<F: Fixture>() {
    let on = Bench::<F>::new();
    on.add(job("at once"));
    on.add(NewJob {
        delay: seconds(10),
        ..job("delayed")
    });
    on.clock.advance(seconds(25));
    let claimed = on.claim(2);
    assert_eq!(names(&claimed), ["at once", "delayed"]);
    assert_eq!(claimed[0].waited, seconds(25));
    // Not while it was delayed; but then, though nobody looked.
    let waited = claimed[1].waited;
    assert!(waited >= seconds(15) - GRAIN && waited <= seconds(15));
}
