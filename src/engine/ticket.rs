//! A task's part in what others hold as well: a [job](super::job), or a [token](super::tokens).
//!
//! A ticket is *claimed* before its work is run or discarded, and *settled* after it: it keeps account of that
//! itself ([`Hold`]), and does nothing out of turn. What was claimed elsewhere leaves a *shell*: it holds no
//! place and nothing of a user's, and is dropped where it is found.

use super::job::{JobRef, Unrun};
use super::task::Outcome;
use super::tokens::Token;
use crate::sync::Arc;
use std::mem;

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
    /// The claim (T2): to run the work or to discard it.
    Claim,
    /// The work was run or discarded, and is to be settled (T2).
    Ended,
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
    ///
    /// # Safety
    ///
    /// Nobody has claimed the job, and nobody can do so before this returns.
    pub(super) unsafe fn hold_first_place(&mut self) -> bool {
        match self {
            Ticket::Job { job, .. } => {
                // SAFETY: the caller's.
                unsafe { job.hold_first_place() };
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

    /// T2: uses the claim up.
    fn spend_claim(&mut self) {
        let hold = mem::replace(self.hold(), Hold::Nothing);
        assert!(
            hold == Hold::Claim,
            "a ticket is claimed before its work is run or discarded"
        );
    }

    /// Does the work that was claimed. `over` hears how it ended; a job is to be [settled](Ticket::settle) then.
    pub(super) fn run(&mut self, over: impl FnOnce(Outcome)) {
        self.spend_claim();
        match self {
            Ticket::Job { job, hold } => {
                // SAFETY: T2: this ticket claimed it, and its claim is used up.
                let outcome = unsafe { job.run() };
                *hold = Hold::Ended;
                over(outcome);
            }
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

    /// Drops the work unrun that was claimed.
    pub(super) fn abandon(&mut self) {
        self.spend_claim();
        match self {
            Ticket::Job { job, hold } => {
                // SAFETY: T2: as in `run`.
                unsafe { job.abandon(Unrun::Discarded) };
                *hold = Hold::Ended;
            }
            Ticket::Token { token, .. } => token.abandon(),
        }
    }

    /// Drops the work unrun, if nobody else has claimed it.
    #[cold]
    fn end_early(&mut self) {
        if self.claim() {
            self.abandon();
        }
        self.settle();
    }

    /// After `run` or `abandon`: the pool has all that it held, and whoever waits may know.
    pub(crate) fn settle(&mut self) {
        if let Ticket::Job { job, hold } = self {
            if mem::replace(hold, Hold::Nothing) == Hold::Ended {
                // SAFETY: T2: this ticket ran or abandoned it, and does not settle it again.
                unsafe { job.settle() };
            }
        }
    }
}

impl Drop for Ticket {
    #[inline]
    fn drop(&mut self) {
        if *self.hold() != Hold::Nothing {
            self.end_early();
        }
    }
}
