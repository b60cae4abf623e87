//! A task whose work other holders can claim, too: a [claimable](super::claimable), or a [permit](super::permits).
//!
//! A shared task is *claimed* before its work is run or discarded, and *settled* after that. It keeps account of both
//! itself ([`Stage`]), and does nothing out of order. Where the work was claimed elsewhere the task is a *tombstone*:
//! it holds no place and nothing of a user's, and is dropped where it is found.

use crate::engine::task::claimable::{ClaimableRef, Unrun};
use crate::engine::task::outcome::Outcome;
use crate::engine::task::permits::Permit;
use crate::sync::Arc;
use std::mem;

/// A task to work that other holders can claim.
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

/// What a shared task may do next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Try to claim its work.
    Open,
    /// T2: run the work or discard it: it is claimed.
    Claim,
    /// T2: settle the work: it was run or discarded.
    Ended,
    /// Nothing more. (By the time the tombstone of a permit is dropped another permit may be there, as they are all
    /// alike: it must not take that one's place.)
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

    /// Notes that the task holds a place from now on; false for a tombstone, which holds none.
    pub(crate) fn note_place(&mut self) -> bool {
        if *self.stage() == Stage::Open {
            let held = match self {
                SharedTask::Claimable { claimable, .. } => claimable.note_place(),
                SharedTask::Permit { permit, placed, .. } => {
                    *placed = *placed || permit.note_place();
                    *placed
                }
            };
            if !held {
                *self.stage() = Stage::Nothing;
            }
        }
        *self.stage() != Stage::Nothing
    }

    /// The same where no other holder can have claimed the claimable yet.
    ///
    /// # Safety
    ///
    /// No holder has claimed the claimable, and none can do so before this returns.
    pub(crate) unsafe fn note_first_place(&mut self) -> bool {
        match self {
            SharedTask::Claimable { claimable, .. } => {
                // SAFETY: the caller's.
                unsafe { claimable.note_first_place() };
                true
            }
            SharedTask::Permit { .. } => self.note_place(),
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

    /// Drops a shared task whose work must not run, and leaves the work as it is.
    pub(crate) fn disown(mut self) {
        *self.stage() = Stage::Nothing;
    }

    /// T2: uses the claim up.
    fn spend_claim(&mut self) {
        let stage = mem::replace(self.stage(), Stage::Nothing);
        assert!(
            stage == Stage::Claim,
            "a shared task is claimed before its work is run or discarded"
        );
    }

    /// Does the work that was claimed. `over` is told how it ended; the claimable must be
    /// [settled](SharedTask::settle) then.
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

    /// Drops the claimed work unrun.
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

    /// Drops the work unrun, if no other holder has claimed it.
    #[cold]
    fn end_early(&mut self) {
        if self.claim() {
            self.abandon();
        }
        self.settle();
    }

    /// After `run` or `abandon`, when the pool has the place back: tells those that wait.
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
