//! What a queue tells of itself: each gauge and each counter, and that they agree with the lists.

use super::prelude::*;

/// What `stats` says is what the lists show.
#[track_caller]
fn gauges_agree(on: &Bench) {
    let stats = on.stats();
    if !on.has(Capability::List) {
        return;
    }
    for state in JobState::ALL {
        let gauge = match state {
            JobState::Ready => stats.ready,
            JobState::Delayed => stats.delayed,
            JobState::Parked => stats.parked,
            JobState::Running => stats.running,
            JobState::Dead => stats.dead,
            JobState::Done => stats.results,
        };
        assert_eq!(gauge, on.list(state).len() as u64, "{state:?}");
    }
}

/// Each counter gets a number that no other one has.
pub(crate) fn each_counter_counts_what_it_says(lab: &Lab) {
    let on = lab.bench();
    let counts = |counters: fn(QueueStats) -> u64| counters(on.stats());

    // Done: 2, of which one leaves a result.
    on.add(job("done"));
    on.add(NewJob {
        keep_result: Some(LEASE * 100),
        ..job("result")
    });
    on.all_done(&on.claim(2));
    assert_eq!(counts(|stats| stats.done), 2);
    gauges_agree(&on);

    // Retried: 3, the same job each time.
    on.add(job("retried"));
    for _ in 0..3 {
        on.retry(&on.next(), seconds(0));
    }
    assert_eq!(counts(|stats| stats.retried), 3);
    gauges_agree(&on);
    on.release(&on.next());

    // Died: 4, one of them after its last attempt, and one with its last lease.
    assert_eq!(ok(on.admin().purge(&[JobState::Ready])), 1);
    on.add_all(&jobs(2));
    let once = |job| NewJob { attempts: 1, ..job };
    on.add_all(&jobs(2).map_all(once));
    let claimed = on.claim_all(4);
    on.bury(&claimed[0]);
    on.bury(&claimed[1]);
    on.retry(&claimed[2], seconds(0));
    on.pass(LEASE);
    assert_eq!(counts(|stats| stats.died), 4);
    assert_eq!(counts(|stats| stats.dead), 4);
    gauges_agree(&on);

    // Lost leases: 5, with the one above.
    on.add_all(&jobs(4));
    assert_eq!(on.claim(4).len(), 4);
    on.pass(LEASE);
    assert_eq!(counts(|stats| stats.lost_leases), 5);
    gauges_agree(&on);

    // Expired: 6.
    let expires = Some(seconds(5));
    on.add_all(&jobs(6).map_all(|job| NewJob { expires, ..job }));
    on.pass(seconds(10));
    assert_eq!(counts(|stats| stats.expired), 6);
    gauges_agree(&on);

    // Duplicates: 7, by their ids and by a key.
    let key = "k".to_owned();
    let unique = Some(key);
    let first = NewJob {
        unique: unique.clone(),
        ..job("unique")
    };
    let id = on.add(first.clone());
    for _ in 0..4 {
        on.add_again(first.clone());
    }
    for _ in 0..3 {
        let unique = unique.clone();
        on.add_again(NewJob {
            unique,
            ..job("second")
        });
    }
    assert_eq!(counts(|stats| stats.duplicates), 7);
    gauges_agree(&on);

    // Removed: 8, with the one above: cancelled, deleted, purged.
    assert!(ok(on.admin().cancel(id)));
    let dead = ok(on.admin().list(&ListRequest::new(JobState::Dead).limit(1)))[0].id;
    assert!(ok(on.admin().delete(dead)));
    assert_eq!(ok(on.admin().purge(&[JobState::Dead])), 3);
    let some: Vec<_> = on.add_all(&jobs(2));
    for id in some {
        assert!(ok(on.admin().cancel(id)));
    }
    let delay = seconds(100);
    on.add_all(&jobs(3).map_all(|job| NewJob { delay, ..job }));

    assert_eq!(
        figures(on.stats()),
        [
            ("ready", 4),
            ("delayed", 3),
            ("parked", 0),
            ("running", 0),
            ("dead", 0),
            ("results", 1),
            ("enqueued", 2 + 1 + 4 + 4 + 6 + 1 + 2 + 3),
            ("duplicates", 7),
            ("done", 2),
            ("retried", 3),
            ("died", 4),
            ("lost leases", 5),
            ("expired", 6),
            ("removed", 8),
        ]
    );
    gauges_agree(&on);
    assert_eq!(on.another().stats(), on.stats());
}

/// Shorter than a chain of iterators in the midst of a script.
trait MapAll {
    fn map_all(self, change: impl FnMut(NewJob) -> NewJob) -> Self;
}

impl MapAll for Vec<NewJob> {
    fn map_all(self, change: impl FnMut(NewJob) -> NewJob) -> Self {
        self.into_iter().map(change).collect()
    }
}

fn figures(stats: QueueStats) -> [(&'static str, u64); 14] {
    [
        ("ready", stats.ready),
        ("delayed", stats.delayed),
        ("parked", stats.parked),
        ("running", stats.running),
        ("dead", stats.dead),
        ("results", stats.results),
        ("enqueued", stats.enqueued),
        ("duplicates", stats.duplicates),
        ("done", stats.done),
        ("retried", stats.retried),
        ("died", stats.died),
        ("lost leases", stats.lost_leases),
        ("expired", stats.expired),
        ("removed", stats.removed),
    ]
}

pub(crate) fn each_gauge_shows_what_is_there(lab: &Lab) {
    let on = lab.bench();
    on.limit(Limits {
        per_key: Some(1),
        ..Limits::default()
    });
    let key = Some("k".to_owned());
    let keep_result = Some(LEASE);
    on.add_all(&jobs(9).map_all(|job| NewJob { keep_result, ..job }));
    let claimed = on.claim(9);
    on.all_dead(&claimed[..4]);
    on.all_done(&claimed[4..]);
    on.add_all(&jobs(4).map_all(|job| NewJob {
        key: key.clone(),
        ..job
    }));
    on.add(job("runs too"));
    assert_eq!(on.claim(100).len(), 2);
    on.add_all(&jobs(1));
    let delay = seconds(10);
    on.add_all(&jobs(6).map_all(|job| NewJob { delay, ..job }));
    gauges_agree(&on);
    let stats = on.stats();
    assert_eq!((stats.ready, stats.running, stats.parked), (1, 2, 3));
    assert_eq!((stats.dead, stats.results, stats.delayed), (4, 5, 6));
}

/// What is due, over or expired is shown as such, though nobody claims.
pub(crate) fn stats_are_those_of_now(lab: &Lab) {
    let on = lab.bench();
    let (delay, expires) = (seconds(10), Some(seconds(10)));
    on.add_all(&[
        NewJob {
            attempts: 1,
            ..job("lost")
        },
        NewJob {
            delay,
            ..job("delayed")
        },
        NewJob {
            expires,
            ..job("expires")
        },
    ]);
    assert_eq!(on.next_names(1), ["lost"]);
    on.advance(LEASE + GRAIN);
    let stats = on.stats();
    assert_eq!((stats.ready, stats.delayed, stats.running), (1, 0, 0));
    assert_eq!((stats.dead, stats.lost_leases, stats.expired), (1, 1, 1));
    gauges_agree(&on);
}

// ---- the oldest ----

#[track_caller]
fn oldest_is(on: &Bench, age: u64) {
    let oldest = on.stats().oldest.expect("one is ready");
    let age = seconds(age);
    assert!(oldest.abs_diff(age) <= GRAIN, "{oldest:?}, not {age:?}");
}

pub(crate) fn the_oldest_is_the_one_that_is_ready_for_the_longest_time(lab: &Lab) {
    let on = lab.bench();
    assert_eq!(on.stats().oldest, None);
    on.add(job("first"));
    oldest_is(&on, 0);
    on.advance(seconds(10));
    on.add(job("second"));
    on.advance(seconds(5));
    oldest_is(&on, 15);
    let first = on.next();
    oldest_is(&on, 5);
    let second = on.next();
    assert_eq!(on.stats().oldest, None, "none is ready");
    on.done(&first);
    on.bury(&second);
    assert_eq!(on.stats().oldest, None);
}

/// Wherever it is in the line.
pub(crate) fn the_oldest_may_have_the_lowest_priority(lab: &Lab) {
    let on = lab.bench();
    for priority in [-5, 5, 0, i16::MIN, i16::MAX] {
        let job = job(priority.to_string());
        on.add(NewJob { priority, ..job });
        on.advance(seconds(10));
    }
    for (oldest, next) in [(50, i16::MAX), (50, 5), (50, 0), (50, -5), (20, i16::MIN)] {
        oldest_is(&on, oldest);
        assert_eq!(on.next_names(1), [next.to_string()]);
    }
}

/// Its delay does not count.
pub(crate) fn a_delayed_job_is_as_old_as_it_is_due(lab: &Lab) {
    let on = lab.bench();
    let delay = seconds(100);
    on.add(NewJob { delay, ..job("a") });
    assert_eq!(on.stats().oldest, None);
    on.advance(delay + seconds(7));
    oldest_is(&on, 7);
    let claimed = on.next();
    on.retry(&claimed, seconds(50));
    assert_eq!(on.stats().oldest, None);
    on.advance(seconds(53));
    oldest_is(&on, 3);
}
