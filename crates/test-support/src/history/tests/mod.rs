//! Each kind of violation is seeded and caught; histories that may have happened pass.

mod claims;
mod jobs;
mod limits;
mod model;
mod queue;
mod rollback;
mod text;

use super::check::check;
use super::{
    Accepted, Books, Event, Fault, Kind, Left, Outcome, Report, Rules, Started, Stored, What,
};

/// Events, one at each tick of 10; a job's claims have the numbers of its tokens.
#[derive(Clone, Default)]
struct Story {
    events: Vec<Event>,
    now: u64,
    rules: Rules,
    /// Whether claims are ordered by a number, and by the times of their requests.
    numbers: bool,
    times: bool,
    /// The length of each lease, if it is told.
    lease: Option<u64>,
    key: Option<&'static str>,
}

impl Story {
    /// A job `a` that was acknowledged.
    fn of_a() -> Self {
        let mut story = Self {
            numbers: true,
            times: true,
            ..Self::default()
        };
        story.enqueue("a", Accepted::Yes);
        story
    }

    fn tell(&mut self, by: &str, what: What) -> &mut Self {
        self.now += 10;
        self.events.push(Event {
            at: self.now,
            by: by.to_owned(),
            what,
        });
        self
    }

    fn enqueueing(&mut self, job: &str) -> &mut Self {
        let job = job.to_owned();
        self.tell("p", What::Enqueueing { job })
    }

    fn enqueued(&mut self, job: &str, answer: Accepted) -> &mut Self {
        let job = job.to_owned();
        self.tell("p", What::Enqueued { job, answer })
    }

    fn enqueue(&mut self, job: &str, answer: Accepted) -> &mut Self {
        self.enqueueing(job).enqueued(job, answer)
    }

    /// A claim, asked for one tick before it starts.
    fn start(&mut self, by: &str, job: &str, token: u64) -> &mut Self {
        self.now += 10;
        let mut started = Started::new(job, token.to_string());
        started.claim = self.numbers.then_some(token);
        started.asked = self.times.then_some(self.now);
        started.lease = self.lease;
        started.key = self.key.map(str::to_owned);
        self.tell(by, What::Started(started))
    }

    fn extend(&mut self, by: &str, job: &str, token: u64, lease: u64) -> &mut Self {
        self.now += 10;
        let asked = self.now;
        let (job, token) = (job.to_owned(), token.to_string());
        self.tell(
            by,
            What::Extended {
                job,
                token,
                asked,
                lease,
            },
        )
    }

    fn lose(&mut self, by: &str, job: &str, token: u64) -> &mut Self {
        let (job, token) = (job.to_owned(), token.to_string());
        self.tell(by, What::LeaseLost { job, token })
    }

    fn settling(&mut self, by: &str, job: &str, token: u64, outcome: Outcome) -> &mut Self {
        let (job, token) = (job.to_owned(), token.to_string());
        self.tell(
            by,
            What::Settling {
                job,
                token,
                outcome,
            },
        )
    }

    fn settled(&mut self, by: &str, job: &str, token: u64, answer: Stored) -> &mut Self {
        let (job, token) = (job.to_owned(), token.to_string());
        self.tell(by, What::Settled { job, token, answer })
    }

    fn settle(
        &mut self,
        by: &str,
        job: &str,
        token: u64,
        outcome: Outcome,
        answer: Stored,
    ) -> &mut Self {
        self.settling(by, job, token, outcome)
            .settled(by, job, token, answer)
    }

    fn done(&mut self, by: &str, job: &str, token: u64) -> &mut Self {
        self.settle(by, job, token, Outcome::Done, Stored::Yes)
    }

    fn fault(&mut self, of: &str, fault: Fault) -> &mut Self {
        let of = of.to_owned();
        self.tell("test", What::Fault { of, fault })
    }

    fn recovered(&mut self, of: &str) -> &mut Self {
        let of = of.to_owned();
        self.tell("test", What::Recovered { of })
    }

    /// The store fails now, and comes back as it was at some moment after `since`.
    fn roll_back(&mut self, since: u64) -> &mut Self {
        self.tell("test", What::RolledBack { since })
    }

    fn again(&mut self, job: &str) -> &mut Self {
        let job = job.to_owned();
        self.tell("test", What::Again { job })
    }

    fn removing(&mut self, job: &str) -> &mut Self {
        let job = job.to_owned();
        self.tell("test", What::Removing { job })
    }

    fn left(&mut self, job: &str, state: Left) -> &mut Self {
        let job = job.to_owned();
        self.tell("test", What::Left { job, state })
    }

    /// The verdict, once the queue is drained.
    fn report(&self) -> Report {
        let mut whole = self.clone();
        whole.tell("test", What::Drained);
        check(&whole.events, &self.rules)
    }

    #[track_caller]
    fn passes(&self) -> Books {
        let report = self.report();
        report.assert_valid();
        report.books
    }

    #[track_caller]
    fn fails(&self, kinds: &[Kind]) -> Books {
        let report = self.report();
        let found: Vec<Kind> = report.violations.iter().map(|one| one.kind).collect();
        assert_eq!(found, kinds, "{report}");
        report.books
    }
}
