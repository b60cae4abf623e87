//! A queue in memory that may have a fault.

use super::{Left, Outcome};

pub(super) const LEASE: u64 = 60;
pub(super) const JOBS: usize = 12;
pub(super) const LIMIT: usize = 2;

/// What the queue does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    /// Settles are stored whatever their token is.
    NoFence,
    /// So are renewals.
    NoFenceOfRenewals,
    /// Leases end half-way.
    ShortLeases,
    /// A job that is to be tried again is dropped.
    DropsRetried,
    /// What is done stays in line.
    ForgetsDone,
    /// Limits are not kept.
    NoLimit,
    /// Refused jobs are kept.
    KeepsRefused,
    /// Tokens are those of the job's first claim.
    SameToken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Absent,
    Ready,
    Running { token: u64, until: u64 },
    Over(Outcome),
}

struct Record {
    state: State,
    claims: u64,
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request {
    Enqueue {
        job: usize,
        refuse: bool,
    },
    Claim,
    Renew {
        job: usize,
        token: u64,
    },
    Settle {
        job: usize,
        token: u64,
        outcome: Outcome,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Yes,
    No,
    Claimed { job: usize, token: u64 },
    Nothing,
}

pub(super) struct Queue {
    bug: Bug,
    jobs: Vec<Record>,
}

impl Queue {
    pub(super) fn new(bug: Bug) -> Self {
        let absent = || Record {
            state: State::Absent,
            claims: 0,
        };
        Self {
            bug,
            jobs: (0..JOBS).map(|_| absent()).collect(),
        }
    }

    /// Whether all that came in has come out.
    pub(super) fn is_drained(&self) -> bool {
        let over = |job: &Record| matches!(job.state, State::Over(_) | State::Absent);
        self.jobs.iter().all(over)
    }

    pub(super) fn left(&self, job: usize) -> Option<Left> {
        match self.jobs[job].state {
            State::Over(Outcome::Dead) => Some(Left::Dead),
            State::Ready | State::Running { .. } => Some(Left::Waiting),
            State::Over(_) | State::Absent => None,
        }
    }

    pub(super) fn answer(&mut self, request: Request, now: u64) -> Answer {
        match request {
            Request::Enqueue { job, refuse } => {
                if !refuse || self.bug == Bug::KeepsRefused {
                    self.jobs[job].state = State::Ready;
                }
                if refuse { Answer::No } else { Answer::Yes }
            }
            Request::Claim => self.claim(now),
            Request::Renew { job, token } => self.renew(job, token, now),
            Request::Settle {
                job,
                token,
                outcome,
            } => self.settle(job, token, outcome),
        }
    }

    fn lease(&self, now: u64) -> u64 {
        let length = if self.bug == Bug::ShortLeases {
            LEASE / 2
        } else {
            LEASE
        };
        now + length
    }

    fn claim(&mut self, now: u64) -> Answer {
        let runs =
            |record: &&Record| matches!(record.state, State::Running { until, .. } if until > now);
        let until = self.lease(now);
        for job in 0..JOBS {
            // Two keys.
            let of_key = self.jobs.iter().skip(job % 2).step_by(2);
            if of_key.filter(runs).count() >= LIMIT && self.bug != Bug::NoLimit {
                continue;
            }
            let record = &mut self.jobs[job];
            let free = match record.state {
                State::Ready => true,
                State::Running { until, .. } => until <= now,
                State::Over(Outcome::Done) => self.bug == Bug::ForgetsDone && record.claims < 3,
                State::Over(_) | State::Absent => false,
            };
            if free {
                record.claims += 1;
                let token = if self.bug == Bug::SameToken {
                    1
                } else {
                    record.claims
                };
                record.state = State::Running { token, until };
                return Answer::Claimed { job, token };
            }
        }
        Answer::Nothing
    }

    /// A lease that is over is not renewed: a limit may have let another job in.
    fn renew(&mut self, job: usize, token: u64, now: u64) -> Answer {
        let until = self.lease(now);
        let record = &mut self.jobs[job];
        let holds = matches!(record.state, State::Running { token: held, until } if held == token && until > now);
        if holds {
            record.state = State::Running { token, until };
        }
        if holds || self.bug == Bug::NoFenceOfRenewals {
            Answer::Yes
        } else {
            Answer::No
        }
    }

    /// Nobody else has the job where the lease is over and the token is the last.
    fn settle(&mut self, job: usize, token: u64, outcome: Outcome) -> Answer {
        let record = &mut self.jobs[job];
        let holds = matches!(record.state, State::Running { token: held, .. } if held == token);
        if !holds && self.bug != Bug::NoFence {
            return Answer::No;
        }
        record.state = match outcome {
            Outcome::Done | Outcome::Dead => State::Over(outcome),
            Outcome::Retry if self.bug == Bug::DropsRetried => State::Over(Outcome::Done),
            Outcome::Retry | Outcome::HandedBack => State::Ready,
        };
        Answer::Yes
    }
}
