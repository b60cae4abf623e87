//! The largest values that an engine takes: as large as it says, and no larger through a queue.

use super::prelude::*;
use crate::conformance::through::queue_of;
use anthill::StopSource;

/// No larger than a check can try.
const DATA: usize = 16 << 20;
const BATCH: usize = 1_000;

pub(crate) fn the_largest_data_is_taken_and_larger_is_refused(lab: &Lab) {
    let on = lab.bench();
    let most = on.broker.capabilities().maxima.payload;
    let data = vec![b'7'; most.min(DATA)];
    on.add(NewJob::new("test", data.clone()));
    let claimed = on.next();
    assert!(claimed.payload == data, "it came back otherwise");
    on.done(&claimed);
    if most < DATA {
        let queue = queue_of(&on.broker).payload_limit(usize::MAX);
        let larger = NewJob::new("test", vec![b'7'; most + 1]);
        match queue.enqueue_new(&larger) {
            Err(QueueError::TooLarge { size, limit }) => {
                assert_eq!((size, limit), (most + 1, most));
            }
            other => panic!("{other:?}"),
        }
        on.finds_nothing();
    }
}

/// Of jobs, of leases, and of settlements.
pub(crate) fn the_largest_batch_is_taken_in_one_call(lab: &Lab) {
    let on = lab.bench();
    let most = on.broker.capabilities().maxima.batch;
    assert!(most > 0, "a batch of none");
    let batch = most.min(BATCH);
    let new = jobs(batch);
    assert_eq!(ok(on.broker.enqueue(&new)).len(), batch);
    let claimed = on.claims(batch).jobs;
    assert_eq!(claimed.len(), batch);
    let leases: Vec<Lease> = claimed.iter().map(|job| job.lease.clone()).collect();
    let extended = ok(on.broker.extend(&leases, LEASE));
    assert_eq!(held(&extended), vec![true; batch]);
    let newest = extended.iter().filter_map(|extended| extended.held());
    let ends: Vec<_> = newest.map(|lease| (lease.clone(), done())).collect();
    assert_eq!(ok(on.broker.settle(&ends)).len(), batch);
    on.finds_nothing();
    // Larger ones are split, unless they are to be all or none.
    if most < BATCH {
        let queue = queue_of(&on.broker);
        let larger = queue.enqueue_all_new(&jobs(most * 2 + 1));
        if on.has(Capability::AtomicBatches) {
            let refused = larger.expect_err("it is too large");
            assert!(matches!(refused.reason(), QueueError::Unsupported { .. }));
            on.finds_nothing();
        } else {
            let enqueued = larger.expect("it is split");
            assert_eq!(enqueued.len(), most * 2 + 1);
            assert_eq!(on.claim(most * 3).len(), most * 2 + 1);
        }
    }
}

pub(crate) fn the_longest_lease_is_taken(lab: &Lab) {
    let on = lab.bench();
    let most = on.broker.capabilities().maxima.lease;
    on.add(job("a"));
    let mut claimed = on.claims_by(&ClaimRequest::new(1, most)).jobs;
    on.finds_nothing();
    assert!(on.extend(&mut claimed[0], most));
    on.done(&claimed[0]);
}

pub(crate) fn the_longest_delay_is_taken_and_a_longer_one_refused(lab: &Lab) {
    let on = lab.bench();
    let most = on.broker.capabilities().maxima.delay;
    on.add(NewJob {
        delay: most,
        ..job("later")
    });
    on.finds_nothing();
    if let Some(delay) = most.checked_add(Duration::from_nanos(1)) {
        let refused = queue_of(&on.broker).enqueue_new(&NewJob { delay, ..job("a") });
        let is_it = matches!(refused, Err(QueueError::Unsupported { .. }));
        assert!(is_it, "{refused:?}");
    }
}

/// For a broker whose claims wait: a job ends the wait, and so does the token. Others return at once, whatever is asked for.
pub(crate) fn a_claim_waits_for_a_job_as_long_as_the_broker_says(lab: &Lab) {
    let on = lab.bench();
    let most = on.broker.capabilities().maxima.wait;
    let wait = most.min(Duration::from_secs(3_600));
    for number in 0..5 {
        let request = ClaimRequest::new(1, LEASE).waiting(wait, StopSource::new().token());
        let consumer = on.clone();
        if wait.is_zero() {
            within(DEADLINE, "a claim that does not wait", move || {
                assert!(consumer.claims_by(&request).jobs.is_empty());
            });
            continue;
        }
        let waiting = std::thread::spawn(move || consumer.claims_by(&request).jobs);
        on.another().add(job(number.to_string()));
        let claimed = within(DEADLINE + on.notification_delay(), "a job", || {
            waiting.join()
        });
        let claimed = claimed.expect("no claim fails");
        assert_eq!(names(&claimed), [number.to_string()]);
        on.all_done(&claimed);
    }
    let stop = StopSource::new();
    let request = ClaimRequest::new(1, LEASE).waiting(wait, stop.token());
    let consumer = on.clone();
    let waiting = std::thread::spawn(move || consumer.claims_by(&request).jobs);
    stop.stop();
    let claimed = within(DEADLINE + most.min(DEADLINE), "the end of a wait", || {
        waiting.join()
    });
    assert_eq!(names(&claimed.expect("no claim fails")), [""; 0]);
    on.add(job("after it"));
    assert_eq!(on.next_names(1), ["after it"]);
}
