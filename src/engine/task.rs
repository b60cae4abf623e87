//! What the queue carries: a closure with its type erased, or a job that others hold as well.
//!
//! A [`Task`] is run once or dropped. A **closure** is stored in place when it is small (up to three
//! words), and only its task can run it. A **job** is shared with whoever may take it away before a
//! worker gets to it: a handle that cancels it, or runs it because it waits for it. So a task is
//! *claimed* before it is run or discarded. Once a job has been claimed elsewhere its task is a *shell*:
//! it holds no place and nothing of a user's, and is dropped where it is found.
//!
//! Nothing here knows of pools.
//!
//! - T1: `space` holds a value of the type `F` that `vtable` was made for, in place if `F` fits
//!   (`Inline::<F>::FITS`), else as a `Box<F>`; it is read out once, by `run`, `into_inner` or `drop`.
//! - T2: A job is claimed once, by its task or by another holder. Whoever claims it runs or abandons it,
//!   and is the one to give its place back.

use crate::panic::drop_quietly;
use crate::sync::Arc;
use std::any::Any;
use std::mem::{ManuallyDrop, MaybeUninit, align_of, size_of};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{cmp, ptr};

/// What a task panicked with.
pub(crate) type Payload = Box<dyn Any + Send>;

/// How a task ended.
pub(crate) enum Outcome {
    Completed,
    /// The pool's panic handler is to be told.
    Panicked(Payload),
    /// Whoever holds the job has the payload.
    PanicTaken,
    /// It was cancelled before its first step.
    Cancelled,
}

pub(crate) enum Task {
    Closure(Closure),
    Job(Ticket),
}

impl Task {
    pub(crate) fn new<F: Body>(closure: F) -> Task {
        Task::Closure(Closure::new(closure))
    }

    pub(crate) fn of_job(job: Arc<dyn Job>) -> Task {
        Task::Job(Ticket {
            job,
            placed: false,
            hold: Hold::Open,
        })
    }

    /// T2: takes the right to run the task, or to discard it; false for a shell.
    pub(crate) fn claim(&mut self) -> bool {
        match self {
            Task::Closure(_) => true,
            Task::Job(ticket) => ticket.claim(),
        }
    }

    /// Notes that the task holds a place from now on; false for a shell, which cannot.
    pub(crate) fn hold_place(&mut self) -> bool {
        match self {
            Task::Closure(_) => true,
            Task::Job(ticket) => ticket.hold_place(),
        }
    }

    pub(crate) fn is_shell(&mut self) -> bool {
        match self {
            Task::Closure(_) => false,
            Task::Job(ticket) => ticket.is_shell(),
        }
    }

    /// Gives up a task that is not to run, and leaves its job as it is.
    pub(crate) fn disown(self) {
        match self {
            Task::Closure(closure) => drop(closure),
            Task::Job(ticket) => drop(ticket.into_job()),
        }
    }

    /// Runs the task, which the caller claimed. `over` hears how it ended, before those are told who
    /// wait for a job.
    pub(crate) fn run(self, over: impl FnOnce(Outcome)) {
        match self {
            Task::Closure(closure) => over(closure.run()),
            Task::Job(ticket) => {
                let job = ticket.into_job();
                over(job.run());
                job.settle();
            }
        }
    }

    /// Drops the task unrun, which the caller claimed; a panic in that is caught. `over` is called before
    /// those are told who wait for a job.
    pub(crate) fn discard(self, over: impl FnOnce()) {
        match self {
            Task::Closure(closure) => {
                drop_quietly(closure);
                over();
            }
            Task::Job(ticket) => {
                let job = ticket.into_job();
                job.abandon(Unrun::Discarded);
                over();
                job.settle();
            }
        }
    }

    /// Gives the closure back.
    ///
    /// # Safety
    ///
    /// The task must have been made by `Task::new::<F>` for this very `F`.
    pub(crate) unsafe fn into_inner<F>(self) -> F {
        match self {
            // SAFETY: the caller vouches for `F`.
            Task::Closure(closure) => unsafe { closure.into_inner::<F>() },
            Task::Job(_) => unreachable!("`Task::new` makes closures"),
        }
    }
}

/// Work that somebody claimed: a task, or a job whose task is a shell now.
pub(crate) enum Claimed<'a> {
    Task(Task),
    Job(&'a dyn Job),
}

impl Claimed<'_> {
    /// As [`Task::run`].
    pub(crate) fn run(self, over: impl FnOnce(Outcome)) {
        match self {
            Claimed::Task(task) => task.run(over),
            Claimed::Job(job) => {
                over(job.run());
                job.settle();
            }
        }
    }
}

// ── closures ────────────────────────────────────────────────────────────────────────────────────

const WORDS: usize = 3;

type Space = MaybeUninit<[usize; WORDS]>;

/// What a closure does; for closures, and for a call of a function that is known beforehand.
pub(crate) trait Body: Send + 'static {
    fn call(self);
}

impl<F: FnOnce() + Send + 'static> Body for F {
    fn call(self) {
        self();
    }
}

pub(crate) struct Closure {
    vtable: &'static VTable,
    space: Space,
}

struct VTable {
    /// Moves the closure out of the space and calls it.
    run: unsafe fn(*mut Space),
    /// Drops the closure in the space.
    drop: unsafe fn(*mut Space),
}

// SAFETY: the only value in it is the closure, and `Closure::new` takes only closures that are
// `Send`; the vtable is shared and immutable.
unsafe impl Send for Closure {}

struct Inline<F>(F);

impl<F> Inline<F> {
    const FITS: bool =
        size_of::<F>() <= size_of::<Space>() && align_of::<F>() <= align_of::<Space>();
}

struct Calls<F>(F);

impl<F: Body> Calls<F> {
    const VTABLE: VTable = VTable {
        run: |space| {
            // SAFETY: the caller hands over a space that holds an `F` (T1) and uses it no more.
            let closure = unsafe { take::<F>(space) };
            closure.call();
        },
        drop: |space| {
            // SAFETY: as above.
            drop(unsafe { take::<F>(space) });
        },
    };
}

/// Moves the `F` out of `space`.
///
/// # Safety
///
/// `space` must hold an `F` as T1 says, and must not be read as one again.
unsafe fn take<F>(space: *mut Space) -> F {
    if Inline::<F>::FITS {
        // SAFETY: T1: the space holds an `F` in place, which size and alignment allow; the caller
        // gives up the space.
        unsafe { ptr::read(space.cast::<F>()) }
    } else {
        // SAFETY: T1: the space holds a `Box<F>`, one word; the caller gives up the space.
        let boxed = unsafe { ptr::read(space.cast::<Box<F>>()) };
        *boxed
    }
}

impl Closure {
    fn new<F: Body>(closure: F) -> Closure {
        let mut space = Space::uninit();
        let at = space.as_mut_ptr();
        if Inline::<F>::FITS {
            // SAFETY: an `F` fits the space in size and alignment, and the space is ours.
            unsafe { ptr::write(at.cast::<F>(), closure) };
        } else {
            // SAFETY: a `Box<F>` is one word of a word's alignment, and the space is ours.
            unsafe { ptr::write(at.cast::<Box<F>>(), Box::new(closure)) };
        }
        Closure {
            vtable: const { &Calls::<F>::VTABLE },
            space,
        }
    }

    /// Calls the closure; a panic in it, or in the drop of what it captured, is caught.
    pub(crate) fn run(self) -> Outcome {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: T1, and `ManuallyDrop` keeps the closure from being dropped a second time.
        let call = || unsafe { (this.vtable.run)(&raw mut this.space) };
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(()) => Outcome::Completed,
            Err(payload) => Outcome::Panicked(payload),
        }
    }

    /// # Safety
    ///
    /// As for [`Task::into_inner`].
    unsafe fn into_inner<F>(self) -> F {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: the caller vouches for `F`, so the space holds one (T1); `ManuallyDrop` keeps
        // the closure from being dropped a second time.
        unsafe { take::<F>(&raw mut this.space) }
    }
}

impl Drop for Closure {
    fn drop(&mut self) {
        // SAFETY: T1; a closure that was run or given back is never dropped.
        unsafe { (self.vtable.drop)(&raw mut self.space) }
    }
}

// ── jobs ────────────────────────────────────────────────────────────────────────────────────────

/// Where a job was when it was claimed by another than its task.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// In the shared queue or a batch, with a place.
    Placed,
    /// In line, or at the desk of a worker.
    Loose,
}

/// Work that its task shares with others who may claim it.
pub(crate) trait Job: Send + Sync {
    /// T2: takes the right to run or abandon it. `placed` is what its task noted.
    fn claim(&self, placed: bool) -> Option<Spot>;
    /// Whether a task of it would be a shell.
    fn is_claimed(&self, placed: bool) -> bool;
    /// Notes that its task holds a place from now on; false if the task is a shell.
    fn hold_place(&self) -> bool;
    /// Runs it, for who claimed it; catches what it panics with.
    fn run(&self) -> Outcome;
    /// It is over, and the pool has all that it held: whoever waits for it may know.
    fn settle(&self);
    /// Drops it unrun, for who claimed it and settles it then.
    fn abandon(&self, why: Unrun);
}

/// Why a job does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unrun {
    /// Its user wants it no more.
    Cancelled,
    /// The pool dropped it.
    Discarded,
}

/// A task's share of a job.
pub(crate) struct Ticket {
    job: Arc<dyn Job>,
    placed: bool,
    hold: Hold,
}

/// What a ticket has of its job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// The right to try to claim it.
    Open,
    /// The claim.
    Claim,
    /// Nothing any more. Of tokens, which are all alike, another one may be there by the time the shell is
    /// dropped: it must not take that one's place.
    Nothing,
}

impl Ticket {
    fn claim(&mut self) -> bool {
        if self.hold == Hold::Open {
            self.hold = match self.job.claim(self.placed) {
                Some(_) => Hold::Claim,
                None => Hold::Nothing,
            };
        }
        self.hold == Hold::Claim
    }

    fn hold_place(&mut self) -> bool {
        if self.hold == Hold::Open && !self.placed {
            self.placed = self.job.hold_place();
            if !self.placed {
                self.hold = Hold::Nothing;
            }
        }
        self.placed
    }

    fn is_shell(&mut self) -> bool {
        if self.hold == Hold::Open && self.job.is_claimed(self.placed) {
            self.hold = Hold::Nothing;
        }
        self.hold == Hold::Nothing
    }

    /// The job, for who claimed it and runs it.
    fn into_job(self) -> Arc<dyn Job> {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is never used again, nor dropped.
        unsafe { ptr::read(&raw const this.job) }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.claim() {
            self.job.abandon(Unrun::Discarded);
            self.job.settle();
        }
    }
}

/// A task with a place, as it waits in the queue: it comes before those with a higher number.
pub(crate) struct Accepted {
    /// `| number: 63 | waited |`
    order: u64,
    pub(crate) task: Task,
}

impl Accepted {
    pub(crate) fn new(number: u64, task: Task) -> Accepted {
        let order = number << 1;
        Accepted { order, task }
    }

    /// Its submitter waited in line for the place.
    pub(crate) fn after_waiting(number: u64, task: Task) -> Accepted {
        let order = number << 1 | 1;
        Accepted { order, task }
    }

    pub(crate) fn number(&self) -> u64 {
        self.order >> 1
    }

    pub(crate) fn has_waited(&self) -> bool {
        self.order & 1 != 0
    }
}

impl Ord for Accepted {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

impl PartialOrd for Accepted {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Accepted {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Accepted {}

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;

    #[test]
    fn runs_small_large_and_overaligned_closures_once() {
        #[repr(align(64))]
        struct Aligned(u8);
        let count = Arc::new(());
        let (small, large, aligned) = (count.clone(), count.clone(), count.clone());
        let padding = [7_usize; 9];
        let byte = Aligned(3);
        let run = |closure: Closure| assert!(matches!(closure.run(), Outcome::Completed));
        run(Closure::new(move || drop(small)));
        run(Closure::new(move || {
            assert_eq!(
                (padding.iter().sum::<usize>(), Arc::strong_count(&large)),
                (63, 3)
            );
        }));
        run(Closure::new(move || {
            let byte = byte;
            assert_eq!((byte.0, &raw const byte as usize % 64), (3, 0));
            drop(aligned);
        }));
        assert_eq!(Arc::strong_count(&count), 1);
    }

    #[test]
    fn a_dropped_task_drops_what_it_captured() {
        let count = Arc::new(());
        let (small, large) = (count.clone(), (count.clone(), [0_usize; 9]));
        drop(Task::new(move || drop(small)));
        drop(Task::new(move || drop(large)));
        assert_eq!(Arc::strong_count(&count), 1);
    }

    #[test]
    fn gives_the_closure_back() {
        fn back<F: FnOnce() + Send + 'static>(f: F) -> F {
            // SAFETY: the same `F` on both sides.
            unsafe { Closure::new(f).into_inner::<F>() }
        }
        let (send, receive) = std::sync::mpsc::channel();
        let wide = [1_usize; 9];
        back(move || send.send(wide.len()).unwrap())();
        assert_eq!(receive.recv(), Ok(9));
    }

    fn fits<F>(_: &F) -> bool {
        Inline::<F>::FITS
    }

    #[test]
    fn three_words_are_stored_in_place() {
        let (words, wide) = ([1_usize; WORDS], [1_usize; WORDS + 1]);
        assert!(fits(&move || assert_eq!(words.len(), WORDS)));
        assert!(fits(&move || assert_eq!(words, [1; WORDS])));
        assert!(!fits(&move || assert_eq!(wide, [1; WORDS + 1])));
        assert_eq!(size_of::<Task>(), (WORDS + 1) * size_of::<usize>());
    }
}
