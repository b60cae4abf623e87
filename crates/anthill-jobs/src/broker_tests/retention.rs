//! For how long what is over is kept.

use super::*;
use crate::{Capability, Retention};

on_each_broker! {
    it_comes_back_as_it_was_set
    a_job_that_is_done_is_kept_for_that_long
    a_result_is_kept_for_the_longer_of_both
    a_dead_letter_is_removed_for_its_age
    a_change_counts_for_what_is_over_already
    what_is_kept_can_be_listed_deleted_and_purged
    the_wall_clock_counts
}

fn set(on: &On, retention: Retention) {
    on.queue.set_retention(retention).unwrap();
}

fn keep(done: Option<Duration>, dead: Option<Duration>) -> Retention {
    let keep = Retention::default();
    let keep = done.map_or(keep, |time| keep.done(time));
    dead.map_or(keep, |time| keep.dead(time))
}

/// Enqueues a job, and ends it so.
fn ended(on: &On, keep_result: Option<Duration>, end: Settle) -> JobId {
    let job = NewJob {
        keep_result,
        ..job()
    };
    assert!(on.add(&job).is_added());
    on.run(end)
}

fn is_there(on: &On, id: JobId) -> bool {
    on.get(id).is_some()
}

fn it_comes_back_as_it_was_set(on: &On) {
    let capabilities = on.broker().capabilities();
    capabilities.require(Capability::Retention).unwrap();
    assert_eq!(on.queue.retention().unwrap(), Retention::default());
    let times = [None, Some(Duration::ZERO), Some(MINUTE)];
    for (done, dead) in times
        .into_iter()
        .flat_map(|done| times.map(|dead| (done, dead)))
    {
        set(on, keep(done, dead));
        assert_eq!(on.queue.retention().unwrap(), keep(done, dead));
    }
}

fn a_job_that_is_done_is_kept_for_that_long(on: &On) {
    let gone = ended(on, None, done());
    assert!(!is_there(on, gone));
    set(on, keep(Some(MINUTE), None));
    assert!(!is_there(on, gone));
    let job = NewJob {
        unique: Some("u".to_owned()),
        ..job()
    };
    on.add(&job);
    on.run(done());
    let shown = on.get(job.id).unwrap();
    assert_eq!((shown.state, shown.result), (JobState::Done, None));
    let again = on.add(&job);
    assert_eq!(again, Enqueued::Duplicate(job.id), "its id is taken");
    let next = NewJob {
        id: JobId::new(),
        ..job.clone()
    };
    assert!(on.add(&next).is_added(), "and its unique key is not");
    on.run(done());
    on.clock.advance(SECOND * 59);
    assert!(is_there(on, job.id));
    on.clock.advance(SECOND);
    assert!(!is_there(on, job.id) && !is_there(on, next.id));
    let stats = on.queue.stats().unwrap();
    assert_eq!((stats.results, stats.done, stats.removed), (0, 3, 0));
    assert!(on.add(&job).is_added());
    set(on, keep(Some(Duration::ZERO), None));
    on.run(done());
    assert!(!is_there(on, job.id), "no time is none");
}

fn a_result_is_kept_for_the_longer_of_both(on: &On) {
    set(on, keep(Some(MINUTE * 2), None));
    let short = ended(on, Some(MINUTE), done());
    let long = ended(on, Some(MINUTE * 3), done());
    let ever = ended(on, Some(Duration::MAX), done());
    let has_result = |id| {
        on.get(id)
            .is_some_and(|job| job.result == Some(b"1".to_vec()))
    };
    on.clock.advance(SECOND * 119);
    assert!(has_result(short) && has_result(long));
    on.clock.advance(SECOND);
    assert!(!is_there(on, short) && has_result(long));
    on.clock.advance(SECOND * 59);
    assert!(has_result(long));
    on.clock.advance(SECOND);
    assert!(!is_there(on, long));
    on.clock.advance(MINUTE * 1_000_000);
    assert!(has_result(ever));
}

fn a_dead_letter_is_removed_for_its_age(on: &On) {
    let old = ended(on, None, dead("no"));
    on.clock.advance(MINUTE);
    let young = ended(on, None, dead("no"));
    on.clock.advance(MINUTE * 1_000);
    set(on, keep(Some(SECOND), None));
    assert!(
        is_there(on, old) && is_there(on, young),
        "for ever by default"
    );
    set(on, keep(None, Some(MINUTE * 1_001)));
    assert!(!is_there(on, old) && is_there(on, young));
    assert!(on.admin().retry_dead(young).unwrap());
    on.clock.advance(MINUTE * 9_000);
    assert!(is_there(on, young), "it is not dead any more");
    on.run(dead("no"));
    on.clock.advance(SECOND * (60 * 1_001 - 1));
    assert!(is_there(on, young), "it counts from its last death");
    on.clock.advance(SECOND);
    assert!(!is_there(on, young));
    let stats = on.queue.stats().unwrap();
    assert_eq!((stats.dead, stats.died, stats.removed), (0, 3, 0));
}

fn a_change_counts_for_what_is_over_already(on: &On) {
    set(on, keep(Some(MINUTE * 10), Some(MINUTE * 10)));
    let plain = ended(on, None, done());
    let kept = ended(on, Some(MINUTE * 4), done());
    let dies = ended(on, None, dead("no"));
    let all = || [plain, kept, dies].map(|id| is_there(on, id));
    on.clock.advance(MINUTE * 3);
    // Shorter, and the result is promised for longer.
    set(on, keep(Some(MINUTE * 2), Some(MINUTE * 2)));
    assert_eq!(all(), [false, true, false]);
    // Longer: also for the result, whose time then ends.
    set(on, keep(Some(MINUTE * 20), Some(MINUTE * 20)));
    let plain = ended(on, None, done());
    on.clock.advance(MINUTE * 2);
    assert!(is_there(on, kept) && is_there(on, plain));
    // None: what only the retention kept goes at once.
    set(on, Retention::default());
    assert!(!is_there(on, kept) && !is_there(on, plain));
    assert_eq!(on.queue.stats().unwrap().results, 0);
}

fn what_is_kept_can_be_listed_deleted_and_purged(on: &On) {
    set(on, keep(Some(MINUTE * 9), None));
    let kept: Vec<JobId> = (0..6)
        .map(|at| {
            on.clock.advance(SECOND);
            let job = NewJob {
                keep_result: (at % 2 == 1).then_some(MINUTE),
                // Of which nothing depends.
                priority: at,
                ..job()
            };
            on.add(&job);
            on.run(done())
        })
        .collect();
    let list = |after, limit| -> Vec<JobId> {
        let request = ListRequest::new(JobState::Done).after(after).limit(limit);
        let jobs = on.admin().list(&request).unwrap();
        jobs.into_iter().map(|job| job.id).collect()
    };
    let in_pages = || {
        let mut all = Vec::new();
        while let [some @ .., last] = &list(all.last().copied(), 2)[..] {
            all.extend(some);
            all.push(*last);
        }
        all
    };
    // Those whose results are kept come last.
    let order = [0, 2, 4, 1, 3, 5].map(|at| kept[at]);
    assert_eq!(list(None, 9), order);
    assert_eq!(in_pages(), order);
    assert_eq!(on.queue.stats().unwrap().results, 6);
    on.clock.advance(MINUTE);
    on.broker().claim(&ClaimRequest::new(0, MINUTE)).unwrap();
    assert_eq!(in_pages(), kept);
    assert!(on.admin().delete(kept[0]).unwrap() && !is_there(on, kept[0]));
    assert!(!on.admin().retry_dead(kept[1]).unwrap() && !on.admin().cancel(kept[1]).unwrap());
    assert_eq!(on.admin().purge(&[JobState::Done]).unwrap(), 5);
    let stats = on.queue.stats().unwrap();
    assert_eq!((stats.results, stats.removed), (0, 6));
}

fn the_wall_clock_counts(on: &On) {
    set(on, keep(Some(MINUTE), Some(MINUTE)));
    let (done, dies) = (ended(on, None, done()), ended(on, None, dead("no")));
    let noon = on.clock.wall();
    on.clock.set_wall(noon.saturating_sub(MINUTE * 60));
    on.clock.advance(SECOND * 59);
    assert!(
        is_there(on, done) && is_there(on, dies),
        "it is not set back"
    );
    on.clock.set_wall(noon + MINUTE);
    assert!(!is_there(on, done) && !is_there(on, dies));
}
