//! A task's part in what others hold as well: a [job](super::job), or a [token](super::tokens).
//!
//! A ticket is *claimed* before its work is run or discarded. What was claimed elsewhere leaves a *shell*: it
//! holds no place and nothing of a user's, and is dropped where it is found.

use super::job::{JobRef, Unrun};
use super::task::Outcome;
use super::tokens::Token;
use crate::sync::Arc;

pub(crate) enum Ticket {
    Job {
        job: JobRef,
        hold: Hold,
    },
    Token {
        token: Arc<dyn Token>,
        placed: bool,
        hold: Hold,
    },
}

/// What a ticket has of its work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// The right to try to claim it.
    Open,
    /// The claim.
    Claim,
    /// Nothing any more. Of tokens, which are all alike, another one may be there by the time the shell is
    /// dropped: it must not take that one's place.
    Nothing,
}

impl Ticket {
    pub(super) fn of_job(job: JobRef) -> Ticket {
        let hold = Hold::Open;
        Ticket::Job { job, hold }
    }

    pub(super) fn of_token(token: Arc<dyn Token>) -> Ticket {
        Ticket::Token {
            token,
            placed: false,
            hold: Hold::Open,
        }
    }

    fn hold(&mut self) -> &mut Hold {
        let (Ticket::Job { hold, .. } | Ticket::Token { hold, .. }) = self;
        hold
    }

    /// T2: takes the right to run the work, or to discard it; false for a shell.
    pub(super) fn claim(&mut self) -> bool {
        if *self.hold() == Hold::Open {
            let claimed = match self {
                Ticket::Job { job, .. } => job.claim().is_some(),
                Ticket::Token { token, placed, .. } => token.claim(*placed),
            };
            *self.hold() = if claimed { Hold::Claim } else { Hold::Nothing };
        }
        *self.hold() == Hold::Claim
    }

    /// Notes that the task holds a place from now on; false for a shell, which cannot.
    pub(super) fn hold_place(&mut self) -> bool {
        if *self.hold() == Hold::Open {
            let held = match self {
                Ticket::Job { job, .. } => job.hold_place(),
                Ticket::Token { token, placed, .. } => {
                    *placed = *placed || token.hold_place();
                    *placed
                }
            };
            if !held {
                *self.hold() = Hold::Nothing;
            }
        }
        *self.hold() != Hold::Nothing
    }

    /// The same where nobody else can have claimed a job yet.
    pub(super) fn hold_first_place(&mut self) -> bool {
        match self {
            Ticket::Job { job, .. } => {
                job.hold_first_place();
                true
            }
            Ticket::Token { .. } => self.hold_place(),
        }
    }

    pub(super) fn is_shell(&mut self) -> bool {
        if *self.hold() == Hold::Open {
            let is_shell = match self {
                Ticket::Job { job, .. } => job.is_claimed(),
                Ticket::Token { token, placed, .. } => !token.has(*placed),
            };
            if is_shell {
                *self.hold() = Hold::Nothing;
            }
        }
        *self.hold() == Hold::Nothing
    }

    /// Gives up a ticket whose work is not to run, and leaves that as it is.
    pub(super) fn disown(mut self) {
        *self.hold() = Hold::Nothing;
    }

    /// Does the work, for who claimed it. `over` hears how it ended; a job is to be [settled](Ticket::settle) then.
    pub(super) fn run(&mut self, over: impl FnOnce(Outcome)) {
        *self.hold() = Hold::Nothing;
        match self {
            Ticket::Job { job, .. } => over(job.run()),
            Ticket::Token { token, .. } => {
                let mut over = Some(over);
                token.run(&mut |outcome| {
                    if let Some(over) = over.take() {
                        over(outcome);
                    }
                });
            }
        }
    }

    /// Drops the work unrun, for who claimed it.
    pub(super) fn abandon(&mut self) {
        *self.hold() = Hold::Nothing;
        match self {
            Ticket::Job { job, .. } => job.abandon(Unrun::Discarded),
            Ticket::Token { token, .. } => token.abandon(),
        }
    }

    /// After `run` or `abandon`: the pool has all that it held, and whoever waits may know.
    pub(crate) fn settle(&self) {
        if let Ticket::Job { job, .. } = self {
            job.settle();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.claim() {
            self.abandon();
            self.settle();
        }
    }
}
