//! A spawned task and its result, in one allocation.
//!
//! The queued task holds it as a [`Claimable`], the handle as a [`Held`]. Its [`State`] decides who may touch what; its
//! [`Owner`] is told of its end. Once the task was claimed elsewhere and its handle is gone, nothing of a user's is in
//! it: a tombstone may be dropped wherever it is found. Two processors read and write it, so it is kept small.

use super::join_error::JoinError;
use super::state::{Keeper, State};
use crate::engine::task::Outcome;
use crate::engine::task::claimable::{Claim, Claimable, Placement, Unrun};
use crate::engine::task::intrusive_arc::{HasHolders, Holders, IntrusiveArc};
use crate::engine::{current, run};
use crate::panic::{Payload, drop_quietly};
use crate::sync::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};

/// The owner of a spawned task, which decides what becomes of what it returns.
pub(crate) trait Owner<R>: Send {
    type Value: Send;

    /// Returns the value for the handle, or `None` if what the task returned is not for the handle. It runs as a part
    /// of the task.
    fn judge(&self, returned: R) -> Option<Self::Value>;
    /// Returns whether the task, which was claimed to be run, may begin.
    fn may_begin(&self) -> bool {
        true
    }
    /// Runs the task.
    fn run<T>(&self, task: impl FnOnce() -> T) -> T {
        task()
    }
    /// The task panicked, and it has no handle; the payload comes back if it is for the panic handler.
    fn take_panic(&self, payload: Payload) -> Option<Payload>;
    /// The task panicked, and its handle has the payload.
    fn hear_of_panic(&self, message: Option<String>);
    /// The task was dropped before it started.
    fn dropped(&self, why: Unrun);
    /// The task is over in every respect; `was_counted` as returned by [`State::settle`].
    fn over(self, was_counted: bool);
}

/// The owner of a task that belongs to no scope or group.
pub(crate) struct Nobody;

impl<R: Send> Owner<R> for Nobody {
    type Value = R;

    fn judge(&self, returned: R) -> Option<R> {
        Some(returned)
    }

    fn take_panic(&self, payload: Payload) -> Option<Payload> {
        Some(payload)
    }

    fn hear_of_panic(&self, _message: Option<String>) {}

    fn dropped(&self, _why: Unrun) {}

    fn over(self, _was_counted: bool) {}
}

/// A spawned task as its handle holds it.
pub(crate) trait Held<T>: Claimable {
    fn state(&self) -> &State;
    fn claimable(&self) -> &dyn Claimable;
    /// Claims the task, if nobody has.
    fn take_claim(&self) -> Option<Claim<'_>>;
    /// Takes the result of a task that is done. It is a return value and so written where the caller wants it in the
    /// end: moving what was just written is expensive.
    ///
    /// # Safety
    ///
    /// H2: only for the handle, once it has seen that the task is done.
    ///
    /// # Panics
    ///
    /// Panics if it was taken before.
    unsafe fn take(&self) -> Result<T, JoinError>;
    /// Drops the result of a task that is done, if it was not taken before. Returns why the task failed.
    ///
    /// # Safety
    ///
    /// As for `take`.
    unsafe fn drop_result(&self) -> Option<JoinError>;
}

pub(crate) type SpawnedRef<F, T, O> = IntrusiveArc<Spawned<F, T, O>>;

enum Stage<F, T> {
    Closure(F),
    Value(T),
    /// What the task returned went to the owner.
    Judged,
    /// Boxed once more, to be one word large.
    Panicked(Box<Payload>),
    Cancelled,
    Gone,
}

pub(crate) struct Spawned<F, T, O> {
    state: State,
    /// H1: only for whoever claims the task, who takes it out to settle the task.
    owner: UnsafeCell<MaybeUninit<O>>,
    stage: UnsafeCell<Stage<F, T>>,
}

// SAFETY: the stage and the owner move between threads, but two threads never use them at once: the state decides whose
// the stage is (H1, H2), and only whoever claimed the task uses the owner (H1).
unsafe impl<F: Send, T: Send, O: Send> Sync for Spawned<F, T, O> {}

impl<F, R, T, O> Spawned<F, T, O>
where
    F: FnOnce() -> R + Send,
    T: Send,
    O: Owner<R, Value = T>,
{
    pub(crate) fn new(closure: F, owner: O, held: bool) -> Self {
        Spawned {
            state: State::new(held),
            owner: UnsafeCell::new(MaybeUninit::new(owner)),
            stage: UnsafeCell::new(Stage::Closure(closure)),
        }
    }

    /// Takes the closure back out of a task that was refused, and so is not queued.
    pub(crate) fn take_back(&self) -> Option<F> {
        let _spot = self.state.claim()?;
        // SAFETY: H1: claimed.
        match unsafe { self.replace(Stage::Gone) } {
            Stage::Closure(closure) => Some(closure),
            _ => None,
        }
    }

    /// # Safety
    ///
    /// Only for the one whose the stage is (H1, H2).
    unsafe fn replace(&self, stage: Stage<F, T>) -> Stage<F, T> {
        // SAFETY: the caller's.
        self.stage.with_mut(|at| unsafe { ptr::replace(at, stage) })
    }

    /// # Safety
    ///
    /// Only for whoever claimed the task and has not settled it (H1).
    unsafe fn owner(&self) -> &O {
        // SAFETY: the caller's: nobody else uses it.
        let owner = self.owner.with_mut(|at| unsafe { &*at });
        // SAFETY: it is there until `settle`.
        unsafe { owner.assume_init_ref() }
    }

    /// # Safety
    ///
    /// Only for whoever claimed the task and has not run it (H1).
    unsafe fn drop_unrun(&self, owner: &O, why: Unrun) {
        // SAFETY: the caller's.
        drop_quietly(unsafe { self.replace(Stage::Cancelled) });
        owner.dropped(why);
        // SAFETY: H1: the caller's, and it was not run. Here it makes no difference whose the result is.
        let _ = unsafe { self.state.end() };
    }

    fn call(&self, owner: &O, closure: F) -> Stage<F, T> {
        let call = || owner.judge(closure());
        let address = ptr::from_ref(self).cast();
        match current::within(address, || owner.run(|| run::call(call))) {
            Ok(Some(value)) => Stage::Value(value),
            Ok(None) => Stage::Judged,
            Err(payload) => Stage::Panicked(Box::new(payload)),
        }
    }
}

impl<'a, F, R, T, O> Spawned<F, T, O>
where
    F: FnOnce() -> R + Send + 'a,
    T: Send + 'a,
    O: Owner<R, Value = T> + 'a,
{
    /// For the queued task.
    pub(crate) fn as_claimable(this: SpawnedRef<F, T, O>) -> IntrusiveArc<dyn Claimable + 'a> {
        // SAFETY: the same value.
        unsafe { this.cast(|claimable| claimable as NonNull<dyn Claimable + 'a>) }
    }

    /// For the handle.
    pub(crate) fn as_held(this: SpawnedRef<F, T, O>) -> IntrusiveArc<dyn Held<T> + 'a> {
        // SAFETY: the same value.
        unsafe { this.cast(|claimable| claimable as NonNull<dyn Held<T> + 'a>) }
    }
}

impl<F, T, O> Spawned<F, T, O> {
    /// # Safety
    ///
    /// As for `owner`, and once: `owner` must not be called afterwards.
    unsafe fn take_owner(&self) -> O {
        // SAFETY: the caller's: nobody else uses it.
        let owner = self.owner.with_mut(|at| unsafe { &*at });
        // SAFETY: the caller's: it was not taken, and is not used again.
        unsafe { owner.assume_init_read() }
    }
}

// SAFETY: the holders are a part of the state, and are made with it.
unsafe impl<F, T, O> HasHolders for Spawned<F, T, O> {
    fn holders(&self) -> &Holders {
        &self.state.holders
    }
}

impl<F, T, O> Drop for Spawned<F, T, O> {
    fn drop(&mut self) {
        if !self.state.is_settled() {
            // SAFETY: nobody else holds it, and the owner was not taken.
            drop(unsafe { self.take_owner() });
        }
    }
}

/// Offers a panic to the owner.
fn offer<R>(owner: &impl Owner<R>, payload: Payload) -> Outcome {
    match owner.take_panic(payload) {
        Some(payload) => Outcome::Panicked(payload),
        None => Outcome::PanicTaken,
    }
}

// SAFETY: H1: `CLAIMED` is set once.
unsafe impl<F, R, T, O> Claimable for Spawned<F, T, O>
where
    F: FnOnce() -> R + Send,
    T: Send,
    O: Owner<R, Value = T>,
{
    fn claim(&self) -> Option<Placement> {
        self.state.claim()
    }

    fn is_claimed(&self) -> bool {
        self.state.is_claimed()
    }

    fn note_place(&self) -> bool {
        self.state.note_place()
    }

    unsafe fn note_first_place(&self) {
        // SAFETY: the caller's; and a handle exists only once the claimable was submitted.
        unsafe { self.state.note_first_place() };
    }

    unsafe fn run(&self) -> Outcome {
        // SAFETY: H1: claimed, and not settled.
        let owner = unsafe { self.owner() };
        if !owner.may_begin() {
            // SAFETY: H1: claimed, and not run.
            unsafe { self.drop_unrun(owner, Unrun::Cancelled) };
            return Outcome::Cancelled;
        }
        // SAFETY: H1: claimed.
        let Stage::Closure(closure) = (unsafe { self.replace(Stage::Gone) }) else {
            unreachable!("a claimable is run once");
        };
        let stage = self.call(owner, closure);
        let panic = match &stage {
            Stage::Panicked(payload) => Some(crate::panic::message_of(&***payload)),
            _ => None,
        };
        let panic = panic.map(|message| message.map(str::to_owned));
        // SAFETY: H1: claimed, and not done.
        unsafe { self.replace(stage) };
        // SAFETY: H1: claimed, and not done.
        match (unsafe { self.state.end() }, panic) {
            (Keeper::Handle, None) => Outcome::Completed,
            (Keeper::Handle, Some(message)) => {
                owner.hear_of_panic(message);
                Outcome::PanicTaken
            }
            // SAFETY: H2: the result stays here.
            (Keeper::Runner, _) => match unsafe { self.replace(Stage::Gone) } {
                Stage::Panicked(payload) => offer(owner, *payload),
                unwanted => match catch_unwind(AssertUnwindSafe(|| drop(unwanted))) {
                    Ok(()) => Outcome::Completed,
                    Err(payload) => offer(owner, payload),
                },
            },
        }
    }

    unsafe fn settle(&self) {
        debug_assert!(!self.state.is_settled());
        // SAFETY: H1: claimed, and settled here, once. A tombstone keeps no owner.
        let owner = unsafe { self.take_owner() };
        // SAFETY: H1: the caller's.
        let was_counted = unsafe { self.state.settle() };
        owner.over(was_counted);
    }

    unsafe fn abandon(&self, why: Unrun) {
        // SAFETY: H1: claimed, and not settled.
        let owner = unsafe { self.owner() };
        // SAFETY: H1: claimed, and not run.
        unsafe { self.drop_unrun(owner, why) };
    }
}

impl<F, R, T, O> Held<T> for Spawned<F, T, O>
where
    F: FnOnce() -> R + Send,
    T: Send,
    O: Owner<R, Value = T>,
{
    fn state(&self) -> &State {
        &self.state
    }

    fn claimable(&self) -> &dyn Claimable {
        self
    }

    fn take_claim(&self) -> Option<Claim<'_>> {
        Claim::take(self)
    }

    unsafe fn take(&self) -> Result<T, JoinError> {
        // SAFETY: the caller's.
        match unsafe { self.replace(Stage::Gone) } {
            Stage::Value(value) => Ok(value),
            Stage::Panicked(payload) => Err(JoinError::panicked(*payload)),
            Stage::Judged => Err(JoinError::failed()),
            Stage::Cancelled => Err(JoinError::cancelled()),
            Stage::Closure(_) | Stage::Gone => {
                panic!("a JoinHandle was polled again after it was ready")
            }
        }
    }

    unsafe fn drop_result(&self) -> Option<JoinError> {
        // SAFETY: the caller's.
        match unsafe { self.replace(Stage::Gone) } {
            Stage::Panicked(payload) => Some(JoinError::panicked(*payload)),
            Stage::Judged => Some(JoinError::failed()),
            Stage::Cancelled => Some(JoinError::cancelled()),
            Stage::Value(_) | Stage::Closure(_) | Stage::Gone => None,
        }
    }
}

#[cfg(all(test, not(anthill_loom), target_pointer_width = "64"))]
mod tests {
    use super::*;

    #[test]
    fn a_closure_and_a_result_of_a_word_are_small() {
        fn size<F: FnOnce() -> u64>(_: &F) -> usize {
            size_of::<Spawned<F, u64, Nobody>>()
        }
        let number = 7_u64;
        assert_eq!(size(&move || number), 56);
        assert_eq!(size_of::<Result<u64, JoinError>>(), 16);
    }
}
