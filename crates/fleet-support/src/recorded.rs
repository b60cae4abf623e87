//! A broker that records what is asked of it and what it answers, for the checker; and a fuse, which kills the process at a named
//! point.
//!
//! What asks is recorded before the request, what is answered after it, so a process that dies has told no more than it did.

use anthill_jobs::broker::{
    Admin, ConsumerRegistry, LimitStore, Listener, ScheduleStore, Subscription,
};
use anthill_jobs::{
    Broker, Capabilities, ClaimRequest, Claims, Enqueued, Extended, JobId, Lease, NewJob,
    QueueError, Settle, Settled,
};
use anthill_test_support::history::{
    Accepted, Fault, Outcome, Recorder, Started, Stored, What, now,
};
use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// The header that tells the job's key, which a claim does not.
pub const KEY: &str = "key";

/// Ends the process at the n-th passage of a point, as the system does: without a word.
#[derive(Debug)]
pub struct Fuse {
    /// The point's name.
    pub point: String,
    /// How many passages there are to be, with the last.
    pub left: AtomicI64,
    /// The name of the process.
    pub by: String,
}

impl Fuse {
    /// The process is at a point. It does not return where that is the end.
    pub fn pass(&self, point: &str, recorder: &Recorder) {
        if self.point != point || self.left.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        recorder.record(What::Fault {
            of: self.by.clone(),
            fault: Fault::Killed,
        });
        // SAFETY: it takes nothing.
        let own = unsafe { libc::getpid() };
        // SAFETY: it takes two numbers.
        unsafe { libc::kill(own, libc::SIGKILL) };
        loop {
            std::thread::park();
        }
    }
}

/// A broker whose calls are recorded; see the [module](self).
pub struct Recorded<B> {
    /// What does it.
    pub broker: Arc<B>,
    /// Where it is recorded.
    pub recorder: Arc<Recorder>,
    /// Where the process is to be killed.
    pub fuse: Arc<Fuse>,
}

impl<B> fmt::Debug for Recorded<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded")
            .field("fuse", &self.fuse)
            .finish_non_exhaustive()
    }
}

/// The text of a lease's token.
pub fn token(lease: &Lease) -> String {
    let mut text = String::new();
    for byte in lease.token() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The nanoseconds of a time.
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("a short time")
}

fn outcome(end: &Settle) -> Outcome {
    match end {
        Settle::Done { .. } => Outcome::Done,
        Settle::Retry { .. } => Outcome::Retry,
        Settle::Dead { .. } => Outcome::Dead,
        _ => Outcome::HandedBack,
    }
}

/// Records that jobs are about to be enqueued.
pub fn enqueueing(recorder: &Recorder, ids: impl Iterator<Item = JobId>) {
    for id in ids {
        recorder.record(What::Enqueueing {
            job: id.to_string(),
        });
    }
}

/// Records the answer for one job: the duplicate of itself is in the queue.
pub fn enqueued(recorder: &Recorder, id: JobId, answer: Result<Enqueued, &QueueError>) {
    let answer = match answer {
        Ok(enqueued) if enqueued.id() == id => Accepted::Yes,
        Err(error) if error.is_uncertain() => Accepted::Unknown,
        _ => Accepted::No,
    };
    recorder.record(What::Enqueued {
        job: id.to_string(),
        answer,
    });
}

/// Records that jobs are about to be settled.
pub fn settling(recorder: &Recorder, ends: &[(Lease, Settle)]) {
    for (lease, end) in ends {
        recorder.record(What::Settling {
            job: lease.id().to_string(),
            token: token(lease),
            outcome: outcome(end),
        });
    }
}

/// Records the answer to that; none if nobody knows.
pub fn settled(recorder: &Recorder, ends: &[(Lease, Settle)], answers: Option<&[Settled]>) {
    for (place, (lease, _)) in ends.iter().enumerate() {
        let answer = match answers.map(|answers| answers[place]) {
            None => Stored::Unknown,
            Some(Settled::Stored) => Stored::Yes,
            Some(_) => Stored::Lost,
        };
        recorder.record(What::Settled {
            job: lease.id().to_string(),
            token: token(lease),
            answer,
        });
    }
}

impl<B: Broker> Broker for Recorded<B> {
    fn capabilities(&self) -> Capabilities {
        self.broker.capabilities()
    }

    fn identity(&self) -> String {
        self.broker.identity()
    }

    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Result<Enqueued, QueueError>>, QueueError> {
        enqueueing(&self.recorder, jobs.iter().map(|job| job.id));
        self.fuse.pass("before enqueue", &self.recorder);
        let answer = self.broker.enqueue(jobs);
        self.fuse.pass("after enqueue", &self.recorder);
        for (place, job) in jobs.iter().enumerate() {
            let answer = match &answer {
                Ok(answers) => answers[place].as_ref().copied(),
                Err(error) => Err(error),
            };
            enqueued(&self.recorder, job.id, answer);
        }
        answer
    }

    fn claim(&self, request: &ClaimRequest) -> Result<Claims, QueueError> {
        self.fuse.pass("before claim", &self.recorder);
        let asked = now();
        let claims = self.broker.claim(request)?;
        if !claims.jobs.is_empty() {
            self.fuse.pass("after claim", &self.recorder);
        }
        for job in &claims.jobs {
            self.recorder.record(What::Started(Started {
                asked: Some(asked),
                lease: Some(nanos(request.lease)),
                key: job.headers.get(KEY).cloned(),
                ..Started::new(job.lease.id().to_string(), token(&job.lease))
            }));
        }
        Ok(claims)
    }

    fn extend(&self, leases: &[Lease], time: Duration) -> Result<Vec<Extended>, QueueError> {
        let asked = now();
        let answers = self.broker.extend(leases, time)?;
        for (lease, answer) in leases.iter().zip(&answers) {
            let (job, token) = (lease.id().to_string(), token(lease));
            self.recorder.record(match answer {
                Extended::Lost => What::LeaseLost { job, token },
                _ => What::Extended {
                    job,
                    token,
                    asked,
                    lease: nanos(time),
                },
            });
        }
        Ok(answers)
    }

    fn settle(&self, ends: &[(Lease, Settle)]) -> Result<Vec<Settled>, QueueError> {
        settling(&self.recorder, ends);
        self.fuse.pass("before settle", &self.recorder);
        let answers = self.broker.settle(ends);
        self.fuse.pass("after settle", &self.recorder);
        settled(
            &self.recorder,
            ends,
            answers.as_ref().ok().map(|answers| &answers[..]),
        );
        answers
    }

    fn subscribe(&self, listener: Listener) -> Result<Subscription, QueueError> {
        self.broker.subscribe(listener)
    }

    fn progress(&self, lease: &Lease, progress: &[u8]) -> Result<bool, QueueError> {
        self.broker.progress(lease, progress)
    }

    fn admin(&self) -> Option<&dyn Admin> {
        self.broker.admin()
    }

    fn limit_store(&self) -> Option<&dyn LimitStore> {
        self.broker.limit_store()
    }

    fn schedule_store(&self) -> Option<&dyn ScheduleStore> {
        self.broker.schedule_store()
    }

    fn consumer_registry(&self) -> Option<&dyn ConsumerRegistry> {
        self.broker.consumer_registry()
    }
}
