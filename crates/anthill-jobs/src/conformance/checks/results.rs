//! Results that are kept for a time, and how far a job is that runs.

use super::prelude::*;

fn kept(name: &str, time: u64) -> NewJob {
    let keep_result = Some(seconds(time));
    NewJob {
        keep_result,
        ..job(name)
    }
}

pub(crate) fn a_result_is_kept_for_its_time_and_then_gone(lab: &Lab) {
    let on = lab.bench();
    let long = on.add(kept("long", 20));
    let short = on.add(kept("short", 10));
    on.advance(seconds(100));
    // It is the end that counts, not the enqueue.
    for claimed in on.claim(2) {
        let result = format!("\"of {}\"", name(&claimed)).into_bytes();
        assert!(on.settle(&claimed, Settle::Done { result }));
    }
    let result = |id| on.another().get(id).and_then(|job| job.result);
    assert_eq!(result(long).as_deref(), Some(&b"\"of long\""[..]));
    assert_eq!(result(short).as_deref(), Some(&b"\"of short\""[..]));
    assert_eq!(on.state(short), Some(JobState::Done));
    on.pass(seconds(10) - GRAIN);
    assert!(result(short).is_some());
    on.pass(GRAIN);
    assert!(on.get(short).is_none());
    assert!(result(long).is_some());
    assert_eq!(on.stats().results, 1);
    on.pass(seconds(10));
    assert!(on.get(long).is_none());
    let stats = on.stats();
    assert_eq!((stats.results, stats.done, stats.removed), (0, 2, 0));
}

/// Nobody who consumes need be there for it to go.
pub(crate) fn a_result_is_gone_though_nobody_claims(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(kept("a", 10));
    on.done(&on.next());
    on.advance(seconds(20));
    assert!(on.get(id).is_none_or(|job| job.result.is_none()));
}

pub(crate) fn a_result_that_nobody_wants_is_not_kept(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(job("a"));
    on.done(&on.next());
    assert!(on.get(id).is_none());
    let stats = on.stats();
    assert_eq!((stats.results, stats.done), (0, 1));
}

pub(crate) fn a_result_that_is_there_is_not_claimed_nor_keeps_anybody_back(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&[kept("a", 1_000), kept("b", 1_000)]);
    on.done(&on.next());
    assert_eq!(on.next_names(100), ["b"]);
    on.pass(LEASE);
    assert_eq!(on.next_names(100), ["b"]);
}

pub(crate) fn a_result_is_whatever_bytes_it_is(lab: &Lab) {
    let on = lab.bench();
    let large: Vec<u8> = (0..1_u32 << 20).map(|n| n.to_le_bytes()[0]).collect();
    for result in [Vec::new(), b"\xff\x00\xfe'\"".to_vec(), large] {
        let id = on.add(kept("a", 10));
        let claimed = on.next();
        let stored = result.clone();
        assert!(on.settle(&claimed, Settle::Done { result: stored }));
        assert!(on.job(id).result == Some(result), "it came back otherwise");
    }
}

// ---- progress ----

pub(crate) fn progress_can_be_read_while_the_job_runs(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(kept("a", 10));
    let claimed = on.next();
    assert_eq!(on.job(id).progress, None);
    for progress in [
        &b"{\"percent\":10}"[..],
        b"{\"percent\":90}",
        b"",
        b"\xff\x00",
    ] {
        assert!(on.progress(&claimed, progress));
        assert_eq!(on.another().job(id).progress.as_deref(), Some(progress));
    }
    let shown = on.job(id);
    assert_eq!((shown.state, shown.attempt), (JobState::Running, 1));
}

pub(crate) fn to_tell_progress_prolongs_no_lease(lab: &Lab) {
    let on = lab.bench();
    on.add(job("a"));
    let claimed = on.next();
    on.advance(LEASE / 2);
    assert!(on.progress(&claimed, b"1"));
    on.advance(LEASE / 2);
    assert_eq!(on.next_names(100), ["a"]);
}

pub(crate) fn of_a_job_that_does_not_run_there_is_no_progress(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(kept("a", 10));
    let first = on.next();
    on.release(&first);
    assert!(!on.progress(&first, b"1"));
    assert_eq!(on.job(id).progress, None);
    let second = on.next();
    on.done(&second);
    assert!(!on.progress(&second, b"1"));
    assert_eq!(on.job(id).progress, None);
}
