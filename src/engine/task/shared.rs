//! A task's part in what others hold as well: a [claimable](super::claimable), or a [permit](super::permits).
//!
//! A shared task is *claimed* before its work is run or discarded, and *settled* after it: it keeps account of that
//! itself ([`Stage`]), and does nothing out of turn. What was claimed elsewhere leaves a *tombstone*: it holds no
//! place and nothing of a user's, and is dropped where it is found.

use crate::engine::task::Outcome;
use crate::engine::task::claimable::{ClaimableRef, Unrun};
use crate::engine::task::permits::Permit;
use crate::sync::Arc;
use std::mem;

pub(crate) enum SharedTask {
    Claimable {
        claimable: ClaimableRef,
        stage: Stage,
    },
    Permit {
        permit: Arc<dyn Permit>,
        placed: bool,
        stage: Stage,
    },
}

/// What a shared task has of its work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The right to try to claim it.
    Open,
    /// The claim (T2): to run the work or to discard it.
    Claim,
    /// The work was run or discarded, and is to be settled (T2).
    Ended,
    /// Nothing any more. Of permits, which are all alike, another one may be there by the time the tombstone is
    /// dropped: it must not take that one's place.
    Nothing,
}

impl SharedTask {
    pub(crate) fn of_claimable(claimable: ClaimableRef) -> SharedTask {
        let stage = Stage::Open;
        SharedTask::Claimable { claimable, stage }
    }

    pub(crate) fn of_permit(permit: Arc<dyn Permit>) -> SharedTask {
        SharedTask::Permit {
            permit,
            placed: false,
            stage: Stage::Open,
        }
    }

    fn stage(&mut self) -> &mut Stage {
        let (SharedTask::Claimable { stage, .. } | SharedTask::Permit { stage, .. }) = self;
        stage
    }

    /// T2: takes the right to run the work, or to discard it; false for a tombstone.
    pub(crate) fn claim(&mut self) -> bool {
        if *self.stage() == Stage::Open {
            let claimed = match self {
                SharedTask::Claimable { claimable, .. } => claimable.claim().is_some(),
                SharedTask::Permit { permit, placed, .. } => permit.claim(*placed),
            };
            *self.stage() = if claimed {
                Stage::Claim
            } else {
                Stage::Nothing
            };
        }
        *self.stage() == Stage::Claim
    }

    /// Notes that the task holds a place from now on; false for a tombstone, which cannot.
    pub(crate) fn hold_place(&mut self) -> bool {
        if *self.stage() == Stage::Open {
            let held = match self {
                SharedTask::Claimable { claimable, .. } => claimable.hold_place(),
                SharedTask::Permit { permit, placed, .. } => {
                    *placed = *placed || permit.hold_place();
                    *placed
                }
            };
            if !held {
                *self.stage() = Stage::Nothing;
            }
        }
        *self.stage() != Stage::Nothing
    }

    /// The same where nobody else can have claimed a claimable yet.
    ///
    /// # Safety
    ///
    /// Nobody has claimed the claimable, and nobody can do so before this returns.
    pub(crate) unsafe fn hold_first_place(&mut self) -> bool {
        match self {
            SharedTask::Claimable { claimable, .. } => {
                // SAFETY: the caller's.
                unsafe { claimable.hold_first_place() };
                true
            }
            SharedTask::Permit { .. } => self.hold_place(),
        }
    }

    pub(crate) fn is_tombstone(&mut self) -> bool {
        if *self.stage() == Stage::Open {
            let is_tombstone = match self {
                SharedTask::Claimable { claimable, .. } => claimable.is_claimed(),
                SharedTask::Permit { permit, placed, .. } => !permit.has(*placed),
            };
            if is_tombstone {
                *self.stage() = Stage::Nothing;
            }
        }
        *self.stage() == Stage::Nothing
    }

    /// Gives up a shared task whose work is not to run, and leaves that as it is.
    pub(crate) fn disown(mut self) {
        *self.stage() = Stage::Nothing;
    }

    /// T2: uses the claim up.
    fn spend_claim(&mut self) {
        let stage = mem::replace(self.stage(), Stage::Nothing);
        assert!(
            stage == Stage::Claim,
            "a shared is claimed before its work is run or discarded"
        );
    }

    /// Does the work that was claimed. `over` hears how it ended; a claimable is to be [settled](SharedTask::settle) then.
    pub(crate) fn run(&mut self, over: impl FnOnce(Outcome)) {
        self.spend_claim();
        match self {
            SharedTask::Claimable { claimable, stage } => {
                // SAFETY: T2: this shared task claimed it, and its claim is used up.
                let outcome = unsafe { claimable.run() };
                *stage = Stage::Ended;
                over(outcome);
            }
            SharedTask::Permit { permit, .. } => {
                let mut over = Some(over);
                permit.run(&mut |outcome| {
                    if let Some(over) = over.take() {
                        over(outcome);
                    }
                });
            }
        }
    }

    /// Drops the work unrun that was claimed.
    pub(crate) fn abandon(&mut self) {
        self.spend_claim();
        match self {
            SharedTask::Claimable { claimable, stage } => {
                // SAFETY: T2: as in `run`.
                unsafe { claimable.abandon(Unrun::Discarded) };
                *stage = Stage::Ended;
            }
            SharedTask::Permit { permit, .. } => permit.abandon(),
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
        if let SharedTask::Claimable { claimable, stage } = self {
            if mem::replace(stage, Stage::Nothing) == Stage::Ended {
                // SAFETY: T2: this shared task ran or abandoned it, and does not settle it again.
                unsafe { claimable.settle() };
            }
        }
    }
}

impl Drop for SharedTask {
    #[inline]
    fn drop(&mut self) {
        if *self.stage() != Stage::Nothing {
            self.end_early();
        }
    }
}
