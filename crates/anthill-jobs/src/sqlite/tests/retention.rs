//! How what is over goes away: in parts.

use super::*;
use crate::Retention;

/// Runs the sweep until it has nothing to do. Returns how many jobs each transaction left in that state.
fn sweeps(broker: &SqliteBroker, state: JobState) -> Vec<u64> {
    let mut left = Vec::new();
    loop {
        let count = move |tx: &mut Tx<'_>| Ok((sweep::sweep(tx)?, *tx.queue.count(state)));
        let (has_more, count) = broker.write(count).unwrap();
        left.push(count);
        if !has_more {
            return left;
        }
    }
}

fn end_all(broker: &SqliteBroker, jobs: &[NewJob], end: &Settle) {
    broker.enqueue(jobs).unwrap();
    let claims = broker
        .claim(&ClaimRequest::new(jobs.len(), MINUTE))
        .unwrap();
    let leases = claims.jobs.into_iter().map(|job| job.lease);
    let ends: Vec<_> = leases.map(|lease| (lease, end.clone())).collect();
    assert!(settle(broker, &ends).into_iter().all(|held| held));
}

#[test]
fn no_transaction_removes_more_than_a_batch() {
    let folder = Folder::new();
    let clock = Clock::manual();
    let broker = folder.open_with(&clock);
    let keep = Retention::default();
    broker.set_retention(keep.done(MINUTE * 9)).unwrap();
    let dead = Settle::Dead {
        error: "no".to_owned(),
    };
    end_all(&broker, &jobs(1_200), &dead);
    end_all(&broker, &jobs(700), &done());
    let kept = || NewJob {
        keep_result: Some(MINUTE),
        ..job()
    };
    let kept: Vec<NewJob> = (0..700).map(|_| kept()).collect();
    end_all(&broker, &kept, &done());
    clock.advance(MINUTE);
    let (dead, results) = (JobState::Dead, JobState::Done);
    assert_eq!(
        sweeps(&broker, dead),
        [1_200, 1_200],
        "700 results are not kept as such any more"
    );
    broker
        .set_retention(keep.done(MINUTE).dead(MINUTE))
        .unwrap();
    assert_eq!(sweeps(&broker, dead), [700, 200, 0]);
    assert_eq!(broker.stats().unwrap().results, 0, "and these went along");
    assert_eq!(broker.stats().unwrap().removed, 0);
    audit(&folder, &broker);

    // And if nothing is to be kept any more.
    end_all(&broker, &jobs(700), &done());
    broker.set_retention(keep).unwrap();
    assert_eq!(sweeps(&broker, results), [200, 0]);
    audit(&folder, &broker);
}

/// The exact moment, however many died in it.
#[test]
fn thousands_that_died_at_once_are_old_at_once() {
    let folder = Folder::new();
    let clock = Clock::manual();
    let broker = folder.open_with(&clock);
    let dead = Settle::Dead {
        error: "no".to_owned(),
    };
    let all = jobs(3_000);
    end_all(&broker, &all, &dead);
    broker
        .set_retention(Retention::default().dead(MINUTE))
        .unwrap();
    let listed = broker.list(&ListRequest::new(JobState::Dead)).unwrap();
    let listed: Vec<JobId> = listed.into_iter().map(|job| job.id).collect();
    assert_eq!(listed, all.iter().map(|job| job.id).collect::<Vec<_>>());
    clock.advance(Duration::new(59, 999_999_999));
    assert_eq!(broker.stats().unwrap().dead, 3_000);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(sweeps(&broker, JobState::Dead).last(), Some(&0));
    audit(&folder, &broker);
}
