//! A closure with its type erased, stored in place when it is small.
//!
//! A [`Task`] owns one `FnOnce() + Send`, runs it or drops it exactly once, and allocates nothing
//! for a closure of up to three words. It knows nothing of pools.
//!
//! Invariant T1: `space` holds a value of the type `F` that `vtable` was made for, in place if
//! `F` fits (`Inline::<F>::FITS`), else as a `Box<F>`; it is read out once, by `run`,
//! `into_inner` or `drop`.

use std::cmp;
use std::mem::{ManuallyDrop, MaybeUninit, align_of, size_of};
use std::ptr;

const WORDS: usize = 3;

type Space = MaybeUninit<[usize; WORDS]>;

pub(crate) struct Task {
    vtable: &'static VTable,
    space: Space,
}

struct VTable {
    /// Moves the closure out of the space and calls it.
    run: unsafe fn(*mut Space),
    /// Drops the closure in the space.
    drop: unsafe fn(*mut Space),
}

// SAFETY: the only value in a task is the closure, and `Task::new` takes only closures that are
// `Send`; the vtable is shared and immutable.
unsafe impl Send for Task {}

struct Inline<F>(F);

impl<F> Inline<F> {
    const FITS: bool =
        size_of::<F>() <= size_of::<Space>() && align_of::<F>() <= align_of::<Space>();
}

struct Calls<F>(F);

impl<F: FnOnce() + Send + 'static> Calls<F> {
    const VTABLE: VTable = VTable {
        run: |space| {
            // SAFETY: the caller hands over a space that holds an `F` (T1) and uses it no more.
            let closure = unsafe { take::<F>(space) };
            closure();
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

impl Task {
    pub(crate) fn new<F: FnOnce() + Send + 'static>(closure: F) -> Task {
        let mut space = Space::uninit();
        let at = space.as_mut_ptr();
        if Inline::<F>::FITS {
            // SAFETY: an `F` fits the space in size and alignment, and the space is ours.
            unsafe { ptr::write(at.cast::<F>(), closure) };
        } else {
            // SAFETY: a `Box<F>` is one word of a word's alignment, and the space is ours.
            unsafe { ptr::write(at.cast::<Box<F>>(), Box::new(closure)) };
        }
        Task {
            vtable: const { &Calls::<F>::VTABLE },
            space,
        }
    }

    /// Calls the closure. A panic in it, or in the drop of what it captured, passes through.
    pub(crate) fn run(self) {
        let mut task = ManuallyDrop::new(self);
        // SAFETY: T1, and `ManuallyDrop` keeps the task from being dropped a second time.
        unsafe { (task.vtable.run)(&raw mut task.space) }
    }

    /// Gives the closure back.
    ///
    /// # Safety
    ///
    /// The task must have been made by `Task::new::<F>` for this very `F`.
    pub(crate) unsafe fn into_inner<F>(self) -> F {
        let mut task = ManuallyDrop::new(self);
        // SAFETY: the caller vouches for `F`, so the space holds one (T1); `ManuallyDrop` keeps
        // the task from being dropped a second time.
        unsafe { take::<F>(&raw mut task.space) }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // SAFETY: T1; a task that was run or taken apart is never dropped.
        unsafe { (self.vtable.drop)(&raw mut self.space) }
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
    use std::sync::Arc;

    #[test]
    fn runs_small_large_and_overaligned_closures_once() {
        #[repr(align(64))]
        struct Aligned(u8);
        let count = Arc::new(());
        let (small, large, aligned) = (count.clone(), count.clone(), count.clone());
        let padding = [7_usize; 9];
        let byte = Aligned(3);
        Task::new(move || drop(small)).run();
        Task::new(move || {
            assert_eq!(
                (padding.iter().sum::<usize>(), Arc::strong_count(&large)),
                (63, 3)
            );
        })
        .run();
        Task::new(move || {
            let byte = byte;
            assert_eq!((byte.0, &raw const byte as usize % 64), (3, 0));
            drop(aligned);
        })
        .run();
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
            unsafe { Task::new(f).into_inner::<F>() }
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
