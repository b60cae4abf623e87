//! Lists by kind and error.

use super::*;

on_each_broker! {
    a_list_of_a_kind_has_only_those
    a_list_by_error_looks_at_the_last_one
    both_together_and_in_pages
}

/// The ids of the jobs in a list.
fn list(on: &On, request: &ListRequest) -> Vec<JobId> {
    let jobs = on.admin().list(request).unwrap();
    jobs.into_iter().map(|job| job.id).collect()
}

fn of(kind: &'static str) -> NewJob {
    NewJob::new(kind, b"{}".to_vec())
}

fn a_list_of_a_kind_has_only_those(on: &On) {
    let kinds = ["a", "b", "a", "c", "b", "a@2"];
    let jobs = kinds.map(|kind| NewJob {
        keep_result: Some(MINUTE),
        attempts: 3,
        ..of(kind)
    });
    for job in &jobs {
        on.add(job);
    }
    let wanted = |kind: &str| -> Vec<JobId> {
        let of_kind = jobs.iter().filter(|job| job.kind == kind);
        of_kind.map(|job| job.id).collect()
    };
    let check = |state| {
        for kind in ["a", "b", "c", "a@2", "A", ""] {
            let request = ListRequest::new(state).kind(kind);
            assert_eq!(list(on, &request), wanted(kind), "{kind:?} {state:?}");
            let first = wanted(kind).into_iter().take(1).collect::<Vec<_>>();
            assert_eq!(list(on, &request.clone().limit(1)), first);
            let rest = wanted(kind).into_iter().skip(1).collect::<Vec<_>>();
            if let Some(&first) = first.first() {
                assert_eq!(list(on, &request.after(Some(first))), rest);
            }
        }
        assert_eq!(list(on, &ListRequest::new(state)).len(), jobs.len());
    };
    check(JobState::Ready);
    let claimed = on.claim(&ClaimRequest::new(9, MINUTE));
    check(JobState::Running);
    for job in &claimed {
        let delay = MINUTE * 2;
        on.settle(&job.lease, Settle::Release { delay });
    }
    check(JobState::Delayed);
    on.clock.advance(MINUTE * 2);
    on.claim(&ClaimRequest::new(9, MINUTE))
        .iter()
        .for_each(|job| {
            on.settle(&job.lease, dead("no"));
        });
    check(JobState::Dead);
    for job in &jobs {
        assert!(on.admin().retry_dead(job.id).unwrap());
    }
    for _ in &jobs {
        on.run(done());
    }
    check(JobState::Done);
}

fn a_list_by_error_looks_at_the_last_one(on: &On) {
    let [never, timeout, both] = [job(), job(), job()];
    on.add(&timeout);
    on.run(retry("a timeout"));
    on.add(&both);
    let later = on.claim(&ClaimRequest::new(2, MINUTE));
    on.settle(&later[1].lease, retry("a timeout"));
    on.settle(&later[0].lease, retry("a 100% Timeout_ of \0 it"));
    on.run(retry("refused"));
    on.add(&never);
    let wanted = |text: &str| list(on, &ListRequest::new(JobState::Ready).error(text));
    assert_eq!(wanted("timeout"), []);
    assert_eq!(wanted("Timeout"), [timeout.id]);
    assert_eq!(wanted("100% Timeout_"), [timeout.id], "it is no pattern");
    assert_eq!(wanted("\0 it"), [timeout.id]);
    assert_eq!(wanted("refused"), [both.id]);
    assert_eq!(wanted(""), [timeout.id, both.id], "that have an error");
}

fn both_together_and_in_pages(on: &On) {
    const ALL: usize = 12_000;
    let jobs: Vec<NewJob> = (0..ALL).map(|at| of(["a", "b"][at % 2])).collect();
    on.broker().enqueue(&jobs).unwrap();
    let claimed = on.claim(&ClaimRequest::new(ALL, MINUTE));
    let ends: Vec<_> = claimed
        .into_iter()
        .enumerate()
        .map(|(at, job)| (job.lease, dead(["x", "y", "z"][at % 3])))
        .collect();
    on.broker().settle(&ends).unwrap();
    let wanted: Vec<JobId> = (0..ALL)
        .filter(|at| at % 2 == 1 && at % 3 == 2)
        .map(|at| jobs[at].id)
        .collect();
    let request = ListRequest::new(JobState::Dead).kind("b").error("z");
    assert_eq!(list(on, &request), wanted);
    let mut paged = Vec::new();
    loop {
        let page = list(on, &request.clone().limit(700).after(paged.last().copied()));
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 700);
        paged.extend(page);
    }
    assert_eq!(paged, wanted);
    let last = ListRequest::new(JobState::Dead).error("z").kind("none");
    assert_eq!(list(on, &last), []);
}
