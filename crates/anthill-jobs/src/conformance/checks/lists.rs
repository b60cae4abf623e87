//! What an operator sees: single jobs, and lists of those in a state.

use super::prelude::*;

pub(crate) fn a_job_is_shown_as_it_was_enqueued(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(NewJob {
        priority: -7,
        attempts: 3,
        key: Some("a key".to_owned()),
        delay: seconds(100),
        ..NewJob::new("resize", b"[1]".to_vec())
    });
    on.advance(seconds(40));
    for handle in [on.clone(), on.another()] {
        let info = handle.job(id);
        assert_eq!(info.kind, "resize");
        assert_eq!(info.payload, b"[1]");
        assert_eq!(info.state, JobState::Delayed);
        assert_eq!(info.priority, -7);
        assert_eq!((info.attempt, info.attempts), (0, 3));
        assert_eq!(info.key.as_deref(), Some("a key"));
        assert_eq!((info.error, info.progress, info.result), (None, None, None));
        assert_near(info.age, seconds(40));
        assert_near(info.due_in.expect("it is delayed"), seconds(60));
    }
}

#[track_caller]
fn assert_near(time: Duration, expected: Duration) {
    assert!(
        time.abs_diff(expected) <= GRAIN,
        "{time:?}, not {expected:?}"
    );
}

pub(crate) fn a_job_is_shown_in_each_of_its_states(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(NewJob {
        keep_result: Some(LEASE),
        delay: seconds(10),
        ..job("a")
    });
    assert_eq!(on.state(id), Some(JobState::Delayed));
    on.pass(seconds(10));
    let shown = on.job(id);
    assert_eq!((shown.state, shown.due_in), (JobState::Ready, None));
    let claimed = on.next();
    let shown = on.job(id);
    assert_eq!((shown.state, shown.attempt), (JobState::Running, 1));
    on.retry(&claimed, seconds(20));
    let shown = on.job(id);
    assert_eq!((shown.state, shown.attempt), (JobState::Delayed, 1));
    assert_near(shown.due_in.expect("it is delayed"), seconds(20));
    assert_near(shown.age, seconds(10));
    assert_eq!(shown.error.as_deref(), Some("not yet"));
    on.pass(seconds(20));
    on.done(&on.next());
    let shown = on.job(id);
    assert_eq!((shown.state, shown.attempt), (JobState::Done, 2));
    assert_eq!(shown.due_in, None);
    assert_near(shown.age, seconds(30));
}

/// Ten jobs in that state, which all got there one after the other.
fn ten(lab: &Lab, state: JobState) -> (Bench, Vec<JobId>) {
    let on = lab.bench();
    let ids = match state {
        JobState::Ready => on.add_all(&jobs(10)),
        JobState::Delayed => {
            let delayed = |(n, job)| NewJob {
                delay: LEASE + seconds(n),
                ..job
            };
            let delayed: Vec<_> = (0..).zip(jobs(10)).map(delayed).collect();
            // Not in the order in which they are due.
            let last = on.add_all(&delayed[5..]);
            let first = on.add_all(&delayed[..5]);
            [first, last].concat()
        }
        JobState::Parked => parked(&on),
        JobState::Running | JobState::Dead | JobState::Done => {
            let kept = |job| NewJob {
                keep_result: Some(LEASE),
                ..job
            };
            let kept: Vec<_> = jobs(10).into_iter().map(kept).collect();
            let ids = on.add_all(&kept);
            for _ in &ids {
                on.advance(seconds(1));
                let claimed = on.next();
                match state {
                    JobState::Dead => on.bury(&claimed),
                    JobState::Done => on.done(&claimed),
                    _ => {}
                }
            }
            ids
        }
    };
    // And some that are none of them.
    if state != JobState::Delayed {
        on.add(NewJob {
            delay: LEASE * 100,
            ..job("another")
        });
    }
    (on, ids)
}

/// Of several keys, which take turns.
fn parked(on: &Bench) -> Vec<JobId> {
    on.limit(Limits {
        per_key: Some(1),
        ..Limits::default()
    });
    let key = |n: usize| Some(["b", "c", "a"][n % 3].to_owned());
    let keyed = |(n, job)| NewJob { key: key(n), ..job };
    let running: Vec<_> = jobs(3).into_iter().enumerate().map(keyed).collect();
    on.add_all(&running);
    let parked: Vec<_> = jobs(10).into_iter().enumerate().map(keyed).collect();
    let ids = on.add_all(&parked);
    assert_eq!(on.claim(100).len(), 3);
    ids
}

pub(crate) fn a_list_names_all_in_a_state_the_first_ones_first(lab: &Lab) {
    for state in JobState::ALL {
        let (on, ids) = ten(lab, state);
        let list = |limit| {
            let jobs = ok(on.admin().list(&ListRequest::new(state).limit(limit)));
            assert!(jobs.iter().all(|job| job.state == state));
            jobs.into_iter().map(|job| job.id).collect::<Vec<_>>()
        };
        assert_eq!(list(usize::MAX), ids, "{state:?}");
        assert_eq!(list(10), ids, "{state:?}");
        assert_eq!(list(4), ids[..4], "{state:?}");
        assert_eq!(list(0), [], "{state:?}");
        let others = JobState::ALL.into_iter().filter(|&other| other != state);
        for other in others {
            let there = on.list(other).len();
            let expected = match (state, other) {
                (JobState::Parked, JobState::Running) => 3,
                (_, JobState::Delayed) => 1,
                _ => 0,
            };
            assert_eq!(there, expected, "{other:?} beside {state:?}");
        }
    }
}

/// Page by page, each after the last one of the page before.
pub(crate) fn pages_are_the_list(lab: &Lab) {
    for state in JobState::ALL {
        let (on, ids) = ten(lab, state);
        let mut pages = Vec::new();
        loop {
            let page = ok(on.admin().list(
                &ListRequest::new(state)
                    .after(pages.last().copied())
                    .limit(3),
            ));
            assert!(page.len() <= 3);
            if page.is_empty() {
                break;
            }
            pages.extend(page.iter().map(|job| job.id));
            assert!(pages.len() <= ids.len(), "{state:?}: a job is on two pages");
        }
        assert_eq!(pages, ids, "{state:?}");
    }
}

/// Those that tie in all that the state is ordered by.
pub(crate) fn pages_are_the_list_though_all_happened_at_once(lab: &Lab) {
    let on = lab.bench();
    let delay = seconds(10);
    let delayed: Vec<_> = jobs(10)
        .into_iter()
        .map(|job| NewJob { delay, ..job })
        .collect();
    let keep_result = Some(LEASE);
    let kept: Vec<_> = jobs(10)
        .into_iter()
        .map(|job| NewJob { keep_result, ..job })
        .collect();
    on.add_all(&kept);
    on.all_done(&on.claim(10));
    on.add_all(&jobs(10));
    on.all_dead(&on.claim(10));
    on.add_all(&jobs(10));
    assert_eq!(on.claim(10).len(), 10);
    on.add_all(&delayed);
    for state in [
        JobState::Done,
        JobState::Dead,
        JobState::Running,
        JobState::Delayed,
    ] {
        let mut pages: Vec<JobId> = Vec::new();
        for _ in 0..4 {
            let page = ok(on.admin().list(
                &ListRequest::new(state)
                    .after(pages.last().copied())
                    .limit(3),
            ));
            pages.extend(page.iter().map(|job| job.id));
        }
        let all = ok(on.admin().list(&ListRequest::new(state).limit(100)));
        let all: Vec<JobId> = all.iter().map(|job| job.id).collect();
        assert_eq!(all.len(), 10, "{state:?}");
        assert_eq!(pages, all, "{state:?}");
    }
}

/// "If it is there": one that is not, or that is elsewhere by now, is as none.
pub(crate) fn a_page_after_a_job_that_is_not_there_is_the_first(lab: &Lab) {
    let on = lab.bench();
    let ids = on.add_all(&jobs(3));
    let running = on.next().lease.id();
    assert_eq!(running, ids[0]);
    for after in [None, Some(running), Some(job("unknown").id)] {
        let page = ok(on
            .admin()
            .list(&ListRequest::new(JobState::Ready).after(after).limit(100)));
        let page: Vec<JobId> = page.iter().map(|job| job.id).collect();
        assert_eq!(page, ids[1..]);
    }
}

pub(crate) fn the_ready_are_listed_as_they_will_be_claimed(lab: &Lab) {
    let on = lab.bench();
    for (name, priority) in [("c", 0), ("a", 9), ("e", -9), ("d", 0), ("b", 9)] {
        let job = job(name);
        on.add(NewJob { priority, ..job });
    }
    assert_eq!(on.list(JobState::Ready), ["a", "b", "c", "d", "e"]);
    assert_eq!(on.next_names(100), ["a", "b", "c", "d", "e"]);
}

/// Whatever comes and goes between two pages: no one that stays is left out or told twice.
pub(crate) fn pages_hold_while_jobs_come_and_go(lab: &Lab) {
    let on = lab.bench();
    let ids = on.add_all(&jobs(9));
    let first = ok(on.admin().list(&ListRequest::new(JobState::Ready).limit(3)));
    assert_eq!(first.iter().map(|job| job.id).collect::<Vec<_>>(), ids[..3]);
    on.add(job("new"));
    assert!(ok(on.admin().cancel(ids[0])));
    assert!(ok(on.admin().cancel(ids[5])));
    let rest = ok(on.admin().list(
        &ListRequest::new(JobState::Ready)
            .after(Some(ids[2]))
            .limit(100),
    ));
    let rest: Vec<JobId> = rest.iter().map(|job| job.id).collect();
    assert_eq!(rest[..5], [ids[3], ids[4], ids[6], ids[7], ids[8]]);
    assert_eq!(rest.len(), 6);
}

/// A list need not load what nobody looks at.
pub(crate) fn a_list_shows_no_more_data_than_it_is_asked_for(lab: &Lab) {
    let on = lab.bench();
    let keep_result = Some(LEASE);
    on.add_all(&[
        NewJob {
            keep_result,
            ..job("ä0123456789")
        },
        NewJob {
            keep_result,
            ..job("b")
        },
    ]);
    let both = on.claim(2);
    for (job, progress) in both.iter().zip(["\"0123456789\"", "1"]) {
        assert!(ok(on.broker.progress(&job.lease, progress.as_bytes())));
    }
    let shown = |state, data| -> Vec<_> {
        let jobs = ok(on.admin().list(&ListRequest::new(state).data(data)));
        let shown = jobs.into_iter().map(|job| {
            (
                job.payload,
                job.payload_size,
                job.progress.is_some(),
                job.result.is_some(),
            )
        });
        shown.collect()
    };
    let running = |data| {
        let mut shown = shown(JobState::Running, data);
        shown.sort_by_key(|job| std::cmp::Reverse(job.1));
        shown
    };
    let whole = "ä0123456789".as_bytes();
    assert_eq!(
        running(0),
        [(vec![], 12, false, false), (vec![], 1, false, false)]
    );
    // Bytes, though that is the half of a letter.
    assert_eq!(
        running(1),
        [
            (whole[..1].to_vec(), 12, false, false),
            (b"b".to_vec(), 1, true, false)
        ]
    );
    assert_eq!(
        running(12),
        [
            (whole.to_vec(), 12, true, false),
            (b"b".to_vec(), 1, true, false)
        ]
    );
    for (job, result) in both.iter().zip([&b"\"0123456789\""[..], b"1"]) {
        let result = result.to_vec();
        assert!(on.settle(job, Settle::Done { result }));
    }
    let mut done = shown(JobState::Done, 3);
    done.sort_by_key(|job| std::cmp::Reverse(job.1));
    assert_eq!(
        done,
        [
            (whole[..3].to_vec(), 12, false, false),
            (b"b".to_vec(), 1, true, true)
        ]
    );
    // All of one that is asked for by its id.
    let one = on.job(both[0].lease.id());
    assert_eq!((one.payload, one.payload_size), (whole.to_vec(), 12));
    assert_eq!(one.result.as_deref(), Some(&b"\"0123456789\""[..]));
}

// ---- a part of a state ----

/// All pages of a list, of so many jobs each, by their names.
#[track_caller]
fn pages(on: &Bench, request: &ListRequest, limit: usize) -> Vec<String> {
    let mut all: Vec<JobInfo> = Vec::new();
    loop {
        let after = all.last().map(|job| job.id);
        let request = request.clone().after(after).limit(limit);
        let page = ok(on.admin().list(&request));
        assert!(page.len() <= limit);
        if page.is_empty() {
            let name = |job: JobInfo| String::from_utf8(job.payload).expect("a name");
            return all.into_iter().map(name).collect();
        }
        all.extend(page);
        assert!(all.len() < 1_000, "a job is on two pages");
    }
}

pub(crate) fn a_list_may_be_of_one_kind(lab: &Lab) {
    let on = lab.bench();
    let kinds = ["a", "b", "a@2", "A", "%"];
    let of = |number: usize| {
        let name = number.to_string().into_bytes();
        NewJob::new(kinds[number % kinds.len()], name)
    };
    let all: Vec<NewJob> = (0..50).map(of).collect();
    on.add_all(&all);
    let delay = seconds(10);
    on.add(NewJob { delay, ..of(0) });
    for (number, kind) in kinds.iter().enumerate() {
        let expected: Vec<String> = (0..10).map(|n| (n * 5 + number).to_string()).collect();
        let request = ListRequest::new(JobState::Ready).kind(*kind);
        for limit in [1, 3, 10, 100] {
            assert_eq!(pages(&on, &request, limit), expected, "{kind}");
        }
        // Behind one of another kind, too.
        let behind = request.clone().after(Some(all[24].id));
        let behind = ok(on.admin().list(&behind));
        assert_eq!(behind.len(), 5, "{kind}");
    }
    let none = ListRequest::new(JobState::Ready).kind("c");
    assert!(pages(&on, &none, 3).is_empty());
    let later = ListRequest::new(JobState::Delayed).kind("a");
    assert_eq!(pages(&on, &later, 3), ["0"]);
}

/// Of the last one; the text is no pattern.
pub(crate) fn a_list_may_be_of_those_with_an_error(lab: &Lab) {
    let on = lab.bench();
    let errors = [
        "the disk is full",
        "100% of the Disk is full",
        "timeout of 1000 ms",
        "a_b",
        "acb",
        "it's \"quoted\" \\ 日本語",
    ];
    for (number, error) in errors.iter().cycle().take(30).enumerate() {
        let kind = if number % 2 == 0 { "even" } else { "odd" };
        on.add(NewJob::new(kind, number.to_string().into_bytes()));
        let claimed = on.next();
        let end = Settle::Retry {
            delay: seconds(0),
            error: "before".to_owned(),
        };
        assert!(on.settle(&claimed, end));
        let claimed = on.next();
        assert!(on.settle(&claimed, dead(error)));
    }
    let with = |part: &str| -> Vec<String> {
        let numbers = (0..30).filter(|number| errors[number % 6].contains(part));
        numbers.map(|number| number.to_string()).collect()
    };
    let request = ListRequest::new(JobState::Dead);
    let parts = [
        "disk", "Disk", "full", "0%", "%", "a_b", "_", "100", "", "'s \"q", "\\", "日本", "before",
    ];
    for part in parts {
        for limit in [2, 100] {
            let found = pages(&on, &request.clone().error(part), limit);
            assert_eq!(found, with(part), "{part:?}");
        }
    }
    // Both.
    let odd = pages(&on, &request.clone().error("disk").kind("odd"), 2);
    let expected = with("disk").into_iter();
    let is_odd = |name: &String| name.parse::<u32>().expect("a number") % 2 == 1;
    assert_eq!(odd, expected.filter(is_odd).collect::<Vec<_>>());
    // Those that are tried again have one, too, and those that were not tried have none.
    on.add(job("never tried"));
    on.add(job("tried"));
    let claimed = on.claim(2);
    on.release(&claimed[0]);
    on.retry(&claimed[1], seconds(0));
    let request = ListRequest::new(JobState::Ready);
    assert_eq!(pages(&on, &request.clone().error("not yet"), 2), ["tried"]);
    assert_eq!(pages(&on, &request, 1), ["never tried", "tried"]);
}
