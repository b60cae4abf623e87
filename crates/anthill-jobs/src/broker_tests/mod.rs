//! What a broker of this crate may do beyond the core, for each of them: headers, the errors of earlier attempts, requests
//! to cancel, retention, consumers, and lists by kind and error. Time is moved by hand.

mod cancel;
mod consumers;
mod errors;
mod headers;
mod lists;
mod retention;

use crate::broker::{
    Admin, Broker, ClaimRequest, Claimed, Enqueued, JobInfo, JobState, Lease, ListRequest, Settle,
    Settled,
};
use crate::{Clock, JobId, MemoryBroker, NewJob, Queue};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A broker, and its clock.
struct On {
    queue: Queue,
    clock: Clock,
    _folder: Option<tempfile::TempDir>,
}

impl On {
    fn memory() -> On {
        let clock = Clock::manual();
        On {
            queue: Queue::of(MemoryBroker::new(clock.clone())),
            clock,
            _folder: None,
        }
    }

    #[cfg(feature = "sqlite")]
    fn sqlite() -> On {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual();
        let file = folder.path().join("jobs.db");
        let broker = crate::SqliteBroker::open(file, "q", clock.clone()).unwrap();
        On {
            queue: Queue::of(broker),
            clock,
            _folder: Some(folder),
        }
    }

    fn broker(&self) -> &dyn Broker {
        self.queue.as_broker()
    }

    fn admin(&self) -> &dyn Admin {
        self.broker().admin().unwrap()
    }

    fn add(&self, job: &NewJob) -> Enqueued {
        let answers = self.broker().enqueue(std::slice::from_ref(job)).unwrap();
        *answers[0].as_ref().unwrap()
    }

    fn claim(&self, request: &ClaimRequest) -> Vec<Claimed> {
        self.broker().claim(request).unwrap().jobs
    }

    /// Claims one job for a minute.
    fn claim_one(&self) -> Claimed {
        let mut jobs = self.claim(&ClaimRequest::new(1, MINUTE));
        jobs.pop().expect("there is a job to claim")
    }

    fn settle(&self, lease: &Lease, end: Settle) -> Settled {
        self.broker().settle(&[(lease.clone(), end)]).unwrap()[0]
    }

    /// Claims a job, and settles it so.
    fn run(&self, end: Settle) -> JobId {
        let job = self.claim_one();
        assert_eq!(self.settle(&job.lease, end), Settled::Stored);
        job.lease.id()
    }

    fn get(&self, id: JobId) -> Option<JobInfo> {
        self.admin().get(id).unwrap()
    }
}

fn job() -> NewJob {
    NewJob::new("kind", b"{}".to_vec())
}

fn done() -> Settle {
    Settle::Done {
        result: b"1".to_vec(),
    }
}

fn retry(error: &str) -> Settle {
    Settle::Retry {
        delay: Duration::ZERO,
        error: error.to_owned(),
    }
}

fn dead(error: &str) -> Settle {
    Settle::Dead {
        error: error.to_owned(),
    }
}

fn release() -> Settle {
    Settle::Release {
        delay: Duration::ZERO,
    }
}

/// A test of each of these functions, for each broker.
macro_rules! on_each_broker {
    ($($check:ident)+) => {
        mod memory {
            $(
                #[test]
                fn $check() {
                    super::$check(&super::On::memory());
                }
            )+
        }

        #[cfg(feature = "sqlite")]
        mod sqlite {
            $(
                #[test]
                fn $check() {
                    super::$check(&super::On::sqlite());
                }
            )+
        }
    };
}

use on_each_broker;
