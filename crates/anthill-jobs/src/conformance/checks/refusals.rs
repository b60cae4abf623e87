//! What a broker does not claim is refused: by each way of a [`Queue`](crate::Queue) to ask for it, as
//! [`Unsupported`](QueueError::Unsupported), and nothing is done.

use super::prelude::*;
use crate::broker::Retention;
use crate::conformance::through::queue_of;
use crate::job::Job;
use crate::queue::Queue;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;

#[derive(Serialize, Deserialize)]
struct Anything;

impl Job for Anything {
    const KIND: &str = "anything";
}

/// Refused, as something that the broker does not support.
#[track_caller]
fn refused<T: Debug>(what: &str, answer: Result<T, QueueError>) {
    match answer {
        Err(QueueError::Unsupported { .. }) => {}
        other => panic!("{what} is not claimed, and not refused: {other:?}"),
    }
}

/// A job that needs it.
fn job_with(capability: Capability) -> Option<NewJob> {
    let mut job = job("needs it");
    match capability {
        Capability::Priority => job.priority = 1,
        Capability::Delay => job.delay = seconds(1),
        Capability::Expiry => job.expires = Some(seconds(1)),
        Capability::Unique => job.unique = Some("k".to_owned()),
        Capability::Debounce => job.debounce = true,
        Capability::PerKey => job.key = Some("k".to_owned()),
        Capability::Results => job.keep_result = Some(seconds(1)),
        Capability::Headers => {
            job.headers = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        }
        _ => return None,
    }
    Some(job)
}

/// Limits that need it.
fn limits_with(capability: Capability) -> Option<Limits> {
    let mut limits = Limits::default();
    match capability {
        Capability::RunningLimit => limits.running = Some(1),
        Capability::PerKey => limits.per_key = Some(1),
        Capability::MaxReady => limits.max_ready = Some(1),
        Capability::Rate => {
            limits.rate = Some(Rate {
                jobs: 1,
                per: seconds(1),
                burst: 1,
            });
        }
        _ => return None,
    }
    Some(limits)
}

/// What an operator needs it for.
fn operations_with(queue: &Queue, capability: Capability, running: JobId) {
    let what = capability.what();
    let id = JobId::new();
    match capability {
        Capability::ById => {
            refused(what, queue.get(id));
            refused(what, queue.cancel(id));
            refused(what, queue.run_now(id));
            refused(what, queue.retry_dead(id));
            refused(what, queue.delete(id));
        }
        Capability::CancelRunning => refused(what, queue.cancel_running(running)),
        Capability::List => {
            refused(what, queue.list(JobState::Ready, None, 1));
            refused(what, queue.list_by(&ListRequest::new(JobState::Dead)));
            refused(what, queue.ready_kinds());
            refused(what, queue.dead(1));
        }
        Capability::Purge => {
            refused(what, queue.purge());
            refused(what, queue.purge_states(&[JobState::Dead]));
        }
        Capability::Pause => {
            refused(what, queue.pause());
            refused(what, queue.resume());
        }
        Capability::Retention => {
            refused(
                what,
                queue.set_retention(Retention::default().dead(seconds(1))),
            );
            refused(what, queue.retention());
        }
        Capability::Consumers => refused(what, queue.consumers()),
        Capability::Schedules => {
            refused(what, queue.schedule("a", "0 * * * *", &Anything));
            refused(what, queue.unschedule("a"));
        }
        _ => {}
    }
}

pub(crate) fn what_is_not_claimed_is_refused(lab: &Lab) {
    let on = lab.bench();
    on.add(job("runs"));
    let running = on.next();
    let queue = queue_of(&on.broker);
    let lacked = Capability::ALL.iter().copied().filter(|&one| !on.has(one));
    for capability in lacked {
        let what = capability.what();
        refused(what, queue.clone().require(&[capability]));
        if let Some(new) = job_with(capability) {
            refused(what, queue.enqueue_new(&new));
            let batch = [job("a"), new];
            let answer = queue.enqueue_all_new(&batch);
            refused(what, answer.map_err(|error| error.into_parts().0));
        }
        if let Some(limits) = limits_with(capability) {
            refused(what, queue.set_limits(limits));
        }
        operations_with(&queue, capability, running.lease.id());
        if capability == Capability::Progress {
            refused(what, on.broker.progress(&running.lease, b"1"));
        }
    }
    on.finds_nothing();
    on.done(&running);
}

/// A queue finds all that is claimed there.
pub(crate) fn what_is_claimed_can_be_required(lab: &Lab) {
    let on = lab.bench();
    let claimed = Capability::ALL.iter().copied().filter(|&one| on.has(one));
    let claimed: Vec<Capability> = claimed.collect();
    let queue = queue_of(&on.broker).require(&claimed);
    let queue = queue.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(queue.capabilities(), on.broker.capabilities());
    assert_eq!(on.another().broker.capabilities(), queue.capabilities());
}
