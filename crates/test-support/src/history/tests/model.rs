//! A queue that works, simulated with all that goes wrong around it, has valid histories; one with a fault is found out.
//!
//! Each request takes three steps at times of their own: it is sent, it takes effect, and its answer comes, or does not.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::queue::{Answer, Bug, JOBS, LEASE, LIMIT, Queue, Request};
use super::*;
use crate::seeded_rng;

struct Process {
    name: String,
    claims: Vec<(usize, u64)>,
    /// The request, when it was sent, and its answer once it has taken effect.
    asks: Option<(Request, u64, Option<Answer>)>,
    frozen: bool,
}

struct World {
    rng: StdRng,
    queue: Queue,
    now: u64,
    lives: usize,
    to_enqueue: Vec<(usize, bool)>,
    processes: Vec<Process>,
    events: Vec<Event>,
}

fn name(job: usize) -> String {
    format!("job {job}")
}

impl World {
    fn new(seed: u64, bug: Bug) -> Self {
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            queue: Queue::new(bug),
            now: 0,
            lives: 0,
            to_enqueue: Vec::new(),
            processes: Vec::new(),
            events: Vec::new(),
        };
        for job in 0..JOBS {
            let refuse = world.rng.random_bool(0.1);
            world.to_enqueue.push((job, refuse));
        }
        for _ in 0..4 {
            let process = world.life();
            world.processes.push(process);
        }
        world
    }

    fn life(&mut self) -> Process {
        self.lives += 1;
        Process {
            name: format!("life {}", self.lives),
            claims: Vec::new(),
            asks: None,
            frozen: false,
        }
    }

    fn tell(&mut self, by: &str, what: What) {
        self.now += self.rng.random_range(1..4);
        self.events.push(Event {
            at: self.now,
            by: by.to_owned(),
            what,
        });
    }

    /// Runs until nothing can happen any more; faults strike only in the first part.
    fn run(mut self) -> Report {
        for step in 0..6_000 {
            let at = self.rng.random_range(0..self.processes.len());
            if step < 600 {
                self.strike(at);
            } else if self.processes[at].frozen {
                self.thaw(at);
            }
            if !self.processes[at].frozen {
                self.step(at);
            }
            let idle = |process: &Process| process.claims.is_empty() && process.asks.is_none();
            if step > 600
                && self.to_enqueue.is_empty()
                && self.queue.is_drained()
                && self.processes.iter().all(idle)
            {
                break;
            }
        }
        for job in 0..JOBS {
            let Some(state) = self.queue.left(job) else {
                continue;
            };
            self.tell(
                "test",
                What::Left {
                    job: name(job),
                    state,
                },
            );
        }
        self.tell("test", What::Drained);
        check(&self.events, &Rules::default().per_key(LIMIT))
    }

    fn strike(&mut self, at: usize) {
        let of = self.processes[at].name.clone();
        let choice = self.rng.random_range(0..100);
        if self.processes[at].frozen {
            if choice < 5 {
                self.thaw(at);
            }
        } else if choice < 2 {
            let fault = Fault::Frozen;
            self.tell("test", What::Fault { of, fault });
            self.processes[at].frozen = true;
        } else if choice < 4 {
            // What it has sent may still take effect, or not.
            if choice < 3 {
                self.take_effect(at);
            }
            self.processes[at] = self.life();
            let fault = Fault::Killed;
            self.tell("test", What::Fault { of, fault });
        }
    }

    fn thaw(&mut self, at: usize) {
        self.processes[at].frozen = false;
        let of = self.processes[at].name.clone();
        self.tell("test", What::Recovered { of });
    }

    /// The next thing that a process does.
    fn step(&mut self, at: usize) {
        match self.processes[at].asks {
            None => self.ask(at),
            Some((_, _, None)) => self.take_effect(at),
            Some((request, asked, Some(answer))) => {
                self.processes[at].asks = None;
                let lost = self.rng.random_bool(0.1);
                self.answer(at, request, asked, answer, lost);
            }
        }
    }

    fn ask(&mut self, at: usize) {
        let by = self.processes[at].name.clone();
        let held = self.processes[at].claims.clone();
        let choice = self.rng.random_range(0..10);
        let request = if choice < 2 && !self.to_enqueue.is_empty() {
            let (job, refuse) = self.to_enqueue.pop().expect("there is one");
            self.tell(&by, What::Enqueueing { job: name(job) });
            Request::Enqueue { job, refuse }
        } else if held.is_empty() || (choice < 5 && held.len() < 2) {
            self.now += 1;
            Request::Claim
        } else {
            let (job, token) = held[self.rng.random_range(0..held.len())];
            if choice < 7 {
                self.now += 1;
                Request::Renew { job, token }
            } else {
                let outcomes = [
                    Outcome::Done,
                    Outcome::Retry,
                    Outcome::Dead,
                    Outcome::HandedBack,
                ];
                let outcome = outcomes[self.rng.random_range(0..outcomes.len())];
                let settling = What::Settling {
                    job: name(job),
                    token: token.to_string(),
                    outcome,
                };
                self.tell(&by, settling);
                Request::Settle {
                    job,
                    token,
                    outcome,
                }
            }
        };
        self.processes[at].asks = Some((request, self.now, None));
    }

    /// What the queue does.
    fn take_effect(&mut self, at: usize) {
        self.now += self.rng.random_range(1..4);
        let Some((request, asked, None)) = self.processes[at].asks else {
            return;
        };
        let answer = self.queue.answer(request, self.now);
        self.processes[at].asks = Some((request, asked, Some(answer)));
    }

    /// What the process makes of an answer, or of none.
    fn answer(&mut self, at: usize, request: Request, asked: u64, answer: Answer, lost: bool) {
        let by = self.processes[at].name.clone();
        let is_yes = matches!(answer, Answer::Yes);
        match request {
            Request::Enqueue { job, .. } => {
                let answer = match (lost, is_yes) {
                    (true, _) => Accepted::Unknown,
                    (false, true) => Accepted::Yes,
                    (false, false) => Accepted::No,
                };
                self.tell(
                    &by,
                    What::Enqueued {
                        job: name(job),
                        answer,
                    },
                );
            }
            Request::Claim => {
                let Answer::Claimed { job, token } = answer else {
                    return;
                };
                if lost {
                    return;
                }
                self.processes[at].claims.push((job, token));
                let started = Started {
                    claim: Some(token),
                    key: Some(format!("key {}", job % 2)),
                    asked: Some(asked),
                    lease: Some(LEASE),
                    ..Started::new(name(job), token.to_string())
                };
                self.tell(&by, What::Started(started));
            }
            Request::Renew { job, token } => {
                let (job_name, token_name) = (name(job), token.to_string());
                if lost {
                    return;
                }
                let what = if is_yes {
                    What::Extended {
                        job: job_name,
                        token: token_name,
                        asked,
                        lease: LEASE,
                    }
                } else {
                    self.processes[at]
                        .claims
                        .retain(|held| *held != (job, token));
                    What::LeaseLost {
                        job: job_name,
                        token: token_name,
                    }
                };
                self.tell(&by, what);
            }
            Request::Settle { job, token, .. } => {
                self.processes[at]
                    .claims
                    .retain(|held| *held != (job, token));
                let answer = match (lost, is_yes) {
                    (true, _) => Stored::Unknown,
                    (false, true) => Stored::Yes,
                    (false, false) => Stored::Lost,
                };
                let (job, token) = (name(job), token.to_string());
                self.tell(&by, What::Settled { job, token, answer });
            }
        }
    }
}

#[test]
fn a_queue_that_works_has_valid_histories_whatever_goes_wrong() {
    let mut rng = seeded_rng("a_queue_that_works");
    let mut sum = Books::default();
    for _ in 0..400 {
        let seed = rng.random();
        let report = World::new(seed, Bug::None).run();
        assert!(report.violations.is_empty(), "{seed}: {report}");
        sum.enqueued += report.books.enqueued;
        sum.done += report.books.done;
        sum.dead += report.books.dead;
        sum.waiting += report.books.waiting;
        for (all, one) in [
            (&mut sum.lease_lost, report.books.lease_lost),
            (&mut sum.killed, report.books.killed),
            (&mut sum.unknown_settle, report.books.unknown_settle),
            (&mut sum.frozen, report.books.frozen),
            (&mut sum.extra_runs, report.books.extra_runs),
        ] {
            *all += one;
        }
    }
    // All of it has happened.
    let happened = [
        sum.done,
        sum.dead,
        sum.lease_lost,
        sum.killed,
        sum.unknown_settle,
        sum.frozen,
        sum.extra_runs,
    ];
    assert!(happened.iter().all(|count| *count > 0), "{sum}");
    assert_eq!(sum.waiting, 0, "the queue is not drained");
}

#[test]
fn each_fault_of_a_queue_is_found_out() {
    let mut rng = seeded_rng("each_fault_of_a_queue");
    let faults = [
        (
            Bug::NoFence,
            &[Kind::StaleSettle, Kind::RanAfterEnd, Kind::Undone][..],
        ),
        (Bug::NoFenceOfRenewals, &[Kind::StaleRenewal]),
        (Bug::ShortLeases, &[Kind::LeaseCutShort]),
        (Bug::DropsRetried, &[Kind::Lost]),
        (Bug::ForgetsDone, &[Kind::RanAfterEnd]),
        (Bug::NoLimit, &[Kind::OverLimit]),
        (Bug::KeepsRefused, &[Kind::Unexpected]),
        (Bug::SameToken, &[Kind::TokenReused]),
    ];
    for (bug, kinds) in faults {
        for kind in kinds {
            let found = (0..400).any(|_| {
                let report = World::new(rng.random(), bug).run();
                report.violations.iter().any(|one| one.kind == *kind)
            });
            assert!(found, "{bug:?} does not show as {kind:?}");
        }
    }
}
