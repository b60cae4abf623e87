//! B1, B2, B6: what an enqueue adds, and in which order that comes out again.

use super::prelude::*;
use std::thread;

pub(crate) fn a_new_broker_is_empty(lab: &Lab) {
    let on = lab.bench();
    on.is_at_rest();
    on.counted(|stats| assert_eq!(stats, QueueStats::default()));
    assert!(ok(on.broker.enqueue(&[])).is_empty());
}

pub(crate) fn a_job_comes_out_as_it_went_in(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(NewJob {
        attempts: 7,
        ..NewJob::new("resize", b"{\"width\":80}".to_vec())
    });
    let claimed = on.next();
    assert_eq!(claimed.lease.id(), id);
    assert_eq!(claimed.kind, "resize");
    assert_eq!(claimed.payload, b"{\"width\":80}");
    assert_eq!((claimed.attempt, claimed.attempts), (1, 7));
    if on.can(Means::StillClock) {
        assert_eq!(claimed.waited, Duration::ZERO);
    }
}

pub(crate) fn jobs_come_out_in_the_order_in_which_they_went_in(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&[job("a"), job("b"), job("c")]);
    on.add(job("d"));
    on.advance(seconds(1));
    on.add_all(&[job("e"), job("f")]);
    assert_eq!(on.next_names(4), ["a", "b", "c", "d"]);
    on.add(job("g"));
    assert_eq!(on.next_names(100), ["e", "f", "g"]);
    on.finds_nothing();
}

/// The ids are no order: who made his first need not be who enqueued first.
pub(crate) fn the_order_is_that_of_the_enqueues_and_not_of_the_ids(lab: &Lab) {
    let on = lab.bench();
    let mut early_ids = jobs(10);
    early_ids.reverse();
    on.add_all(&early_ids);
    let order = ["9", "8", "7", "6", "5", "4", "3", "2", "1", "0"];
    assert_eq!(on.next_names(100), order);
}

pub(crate) fn the_order_is_kept_when_the_wall_clock_is_set_back(lab: &Lab) {
    let on = lab.bench();
    on.add(job("first"));
    on.set_wall(on.wall() - seconds(3600));
    on.add(job("second"));
    assert_eq!(on.next_names(100), ["first", "second"]);
}

pub(crate) fn who_has_the_higher_priority_goes_first(lab: &Lab) {
    let on = lab.bench();
    let all = [
        ("normal 1", 0),
        ("lowest", i16::MIN),
        ("high 1", 5),
        ("low", -5),
        ("normal 2", 0),
        ("high 2", 5),
        ("highest", i16::MAX),
    ];
    for (name, priority) in all {
        let job = job(name);
        on.add(NewJob { priority, ..job });
    }
    let came = on.next_names(100);
    if on.has(Capability::Order) {
        let order = [
            "highest", "high 1", "high 2", "normal 1", "normal 2", "low", "lowest",
        ];
        assert_eq!(came, order);
    }
    let priority = |came: &String| all.iter().find(|(name, _)| name == came).map(|one| one.1);
    let priorities: Vec<_> = came.iter().filter_map(priority).collect();
    assert_eq!(priorities, [i16::MAX, 5, 5, 0, 0, -5, i16::MIN]);
}

pub(crate) fn the_same_id_again_is_a_duplicate_of_itself(lab: &Lab) {
    let on = lab.bench();
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
    on.finds_nothing();
}

pub(crate) fn an_id_is_a_duplicate_wherever_its_job_is(lab: &Lab) {
    let on = lab.bench();
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
    on.finds_nothing();
}

/// Both jobs of a batch that has the same id twice, and those around them.
pub(crate) fn one_batch_may_hold_an_id_twice(lab: &Lab) {
    let on = lab.bench();
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
    on.comes(100, &["a", "b", "c"]);
}

/// An enqueue whose answer was lost is repeated.
pub(crate) fn a_batch_again_adds_only_what_was_not_there(lab: &Lab) {
    let on = lab.bench();
    let mut batch = jobs(5);
    let ids = on.add_all(&batch);
    batch.push(job("new"));
    let enqueued = on.enqueue(&batch);
    let again: Vec<JobId> = enqueued.iter().map(|one| one.id()).collect();
    assert_eq!(again[..5], ids);
    let added: Vec<bool> = enqueued.iter().map(|one| one.is_added()).collect();
    assert_eq!(added, [false, false, false, false, false, true]);
    on.comes(100, &["0", "1", "2", "3", "4", "new"]);
}

/// B1: nobody sees a part of a batch.
pub(crate) fn a_batch_is_there_as_a_whole_or_not_at_all(lab: &Lab) {
    let on = lab.bench();
    let batch = on.broker.capabilities().maxima.batch.min(10);
    let other = on.another();
    let enqueues = thread::spawn(move || {
        for _ in 0..100 {
            other.add_all(&jobs(batch));
        }
    });
    let mut got = 0;
    while got < 100 * batch {
        let ended = enqueues.is_finished();
        let claimed = on.claim(1_000 * batch).len();
        assert_eq!(claimed % batch, 0, "a part of a batch");
        let in_whole = |stats: QueueStats| stats.enqueued % batch as u64 == 0;
        on.counted(|stats| assert!(in_whole(stats), "a part of a batch"));
        assert!(claimed > 0 || !ended, "{got} jobs came, and no more do");
        got += claimed;
    }
    enqueues.join().expect("all were added");
}

/// B1: one that the broker will never take keeps the others out, or only itself. It is a text with NUL, which a broker may
/// take as well.
pub(crate) fn a_job_that_is_refused_keeps_none_out_or_all(lab: &Lab) {
    let on = lab.bench();
    let odd = NewJob::new("with \0", Vec::new());
    let batch = [job("a"), odd.clone(), job("b")];
    let [a, b] = [&batch[0], &batch[2]].map(|job| job.id);
    match on.broker.enqueue(&batch) {
        Err(QueueError::Invalid(_)) => on.finds_nothing(),
        answer => {
            let answers = ok(answer);
            assert_eq!(answers.len(), 3, "an answer for each job");
            let [first, second, third] = [0, 1, 2].map(|at| &answers[at]);
            assert!(matches!(first, Ok(Enqueued::Added(id)) if *id == a));
            assert!(matches!(third, Ok(Enqueued::Added(id)) if *id == b));
            match second {
                Ok(Enqueued::Added(id)) => assert_eq!(*id, odd.id),
                Err(QueueError::Invalid(_)) => {
                    assert!(!on.has(Capability::AtomicBatches), "a part of a batch");
                }
                other => panic!("{other:?}"),
            }
            let are_added = second.is_ok();
            assert_eq!(on.claim(3).len(), if are_added { 3 } else { 2 });
        }
    }
}

// ---- delays ----

pub(crate) fn a_delayed_job_does_not_come_before_it_is_due(lab: &Lab) {
    let on = lab.bench();
    let delay = seconds(10);
    on.add(NewJob {
        delay,
        ..job("later")
    });
    on.finds_nothing();
    on.advance(delay - GRAIN);
    on.finds_nothing();
    on.advance(GRAIN);
    assert_eq!(on.next_names(100), ["later"]);
    on.finds_nothing();
}

pub(crate) fn a_claim_tells_when_the_next_job_is_due(lab: &Lab) {
    let on = lab.bench();
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
    on.is_at_rest();
}

/// B6: as if it had been enqueued when it was due, whether or not anybody looked then.
pub(crate) fn a_delayed_job_is_in_line_as_of_when_it_is_due(lab: &Lab) {
    let on = lab.bench();
    for (name, delay) in [("due at 20", 20), ("due at 10", 10)] {
        let delay = seconds(delay);
        on.add(NewJob { delay, ..job(name) });
    }
    on.add(job("at 0"));
    on.advance(seconds(15));
    on.add(job("at 15"));
    on.advance(seconds(10));
    on.add(job("at 25"));
    let order = ["at 0", "due at 10", "at 15", "due at 20", "at 25"];
    assert_eq!(on.next_names(100), order);
}

pub(crate) fn jobs_due_at_once_come_in_the_order_of_their_enqueues(lab: &Lab) {
    let on = lab.bench();
    for (name, delay) in [("a", 20), ("b", 15), ("c", 10)] {
        let delay = seconds(delay);
        on.add(NewJob { delay, ..job(name) });
        on.advance(seconds(5));
    }
    on.advance(seconds(10));
    assert_eq!(on.next_names(100), ["a", "b", "c"]);
}

pub(crate) fn priority_counts_among_those_that_are_due(lab: &Lab) {
    let on = lab.bench();
    on.add(job("plain"));
    on.add(NewJob {
        priority: 9,
        delay: seconds(10),
        ..job("urgent, later")
    });
    assert_eq!(on.next_names(1), ["plain"]);
    on.add(job("plain 2"));
    on.advance(seconds(10));
    assert_eq!(on.next_names(100), ["urgent, later", "plain 2"]);
}

/// Delays follow the host's clock, and what that is set to.
pub(crate) fn a_delay_follows_the_wall_clock(lab: &Lab) {
    let on = lab.bench();
    let delay = seconds(1800);
    on.add(NewJob { delay, ..job("a") });
    on.set_wall(on.wall() + seconds(3600));
    assert_eq!(on.next_names(100), ["a"]);
}

/// Also on a clock that nobody moves by hand.
pub(crate) fn a_short_delay_is_waited_for(lab: &Lab) {
    let on = lab.bench();
    let delay = seconds(2);
    let watch = on.stopwatch();
    on.add(NewJob {
        delay,
        ..job("delayed")
    });
    on.add(job("retried"));
    let first = on.comes(1, &["retried"]);
    on.retry(&first[0], delay);
    let mut came = Vec::new();
    while came.len() < 2 && on.moved() < seconds(10) {
        on.advance(seconds(1) / 2);
        let claimed = on.claim(2);
        let early = !claimed.is_empty() && watch.elapsed() < delay;
        assert!(
            !early,
            "{:?} came after {:?}",
            names(&claimed),
            watch.elapsed()
        );
        came.extend(claimed);
    }
    came.sort_by_key(name);
    assert_eq!(names(&came), ["delayed", "retried"]);
}

/// So many names, each `delay` from now.
fn many(number: usize, delay: Duration) -> Vec<NewJob> {
    let delayed = |job| NewJob { delay, ..job };
    jobs(number).into_iter().map(delayed).collect()
}

pub(crate) fn many_jobs_due_at_once_all_come_in_order(lab: &Lab) {
    const JOBS: usize = 20_000;
    let on = lab.bench();
    on.add_all(&many(JOBS, seconds(60)));
    assert!(on.claim(JOBS).is_empty());
    on.advance(seconds(60));
    let mut next = 0;
    on.drain(1_000, |claimed| {
        for job in &claimed {
            assert_eq!(name(job), next.to_string());
            next += 1;
        }
        on.all_done(&claimed);
    });
    assert_eq!(next, JOBS);
}

/// However many they are, and though nobody looked meanwhile.
pub(crate) fn who_comes_after_many_were_due_waits_behind_them(lab: &Lab) {
    const JOBS: usize = 3_000;
    let on = lab.bench();
    on.add_all(&many(JOBS, seconds(10)));
    on.advance(seconds(20));
    on.add(job("late"));
    let mut came = Vec::new();
    on.drain(1_000, |claimed| came.extend(names(&claimed)));
    assert_eq!(came.len(), JOBS + 1);
    let late = came.iter().position(|name| name == "late");
    assert_eq!(late, Some(JOBS), "it went before those due before it came");
}

// ---- how long it waited ----

pub(crate) fn a_claim_tells_how_long_the_job_was_ready(lab: &Lab) {
    let on = lab.bench();
    on.add(job("at once"));
    on.add(NewJob {
        delay: seconds(10),
        ..job("delayed")
    });
    on.advance(seconds(25));
    let claimed = on.claim(2);
    assert_eq!(names(&claimed), ["at once", "delayed"]);
    assert_eq!(claimed[0].waited, seconds(25));
    // Not while it was delayed; but then, though nobody looked.
    let waited = claimed[1].waited;
    assert!(waited >= seconds(15) - GRAIN && waited <= seconds(15));
}
