//! A closure with its type erased, stored in place when it is small (up to three words).
//!
//! It may have an owner beside it, which is told of its end: a scope.
//!
//! - T1: `space` holds a value of the type `V` that `vtable` was made for (a closure, or one with its owner; or what
//!   such a `V` consists of, see [`ValueVTable`]), in place if `V` fits (`Inline::<V>::FITS`), else as a `Box<V>`. A
//!   caller that is about to read the value out takes the vtable, and leaves [`NOTHING`].
//! - T3: A closure with an owner is read out of its [`Member`] first, by `run` or `discard`. The owner is told of it,
//!   and is moved out last, by `over`. In between the closure is only bytes: whatever it owned (a `Box`, for example)
//!   is freed, so the bytes must not be moved as a closure.

use crate::engine::run;
use crate::engine::task::claimable::Unrun;
use crate::engine::task::outcome::Outcome;
use crate::panic::{Payload, drop_quietly};
use crate::sync::Arc;
use std::marker::PhantomData;
use std::mem::{self, MaybeUninit, align_of, size_of};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

const WORDS: usize = 3;

type Space = MaybeUninit<[usize; WORDS]>;

/// What a closure does: any closure, or the call of a function that is known beforehand.
pub(crate) trait Body: Send + 'static {
    fn call(self);
}

impl<F: FnOnce() + Send + 'static> Body for F {
    fn call(self) {
        self();
    }
}

/// To what a closure belongs.
pub(crate) trait ClosureOwner: Send + Sync {
    /// Its closure panicked; returns the payload if the panic handler must be told.
    fn take_panic(&self, payload: Payload) -> Option<Payload>;
    /// Its closure was dropped unrun.
    fn dropped(&self, why: Unrun);
    /// Its closure is over, and all it borrowed is free.
    fn over(&self);
}

/// A closure with its type erased (T1).
pub(crate) struct Closure {
    vtable: &'static VTable,
    space: Space,
}

/// What is done with the closure in a space, by its type.
struct VTable {
    /// Moves the closure out of the space and calls it.
    run: unsafe fn(*mut Space),
    /// Drops the closure in the space.
    drop: unsafe fn(*mut Space),
    owner: Option<OwnerCalls>,
}

/// T1: the vtable of a closure that was run, dropped, or given back.
static NOTHING: VTable = VTable {
    run: |_| {},
    drop: |_| {},
    owner: None,
};

/// How the owner in the space is told.
struct OwnerCalls {
    take_panic: unsafe fn(*mut Space, Payload) -> Option<Payload>,
    dropped: unsafe fn(*mut Space),
    /// Moves the owner out of the space.
    over: unsafe fn(*mut Space),
}

// SAFETY: the only values in it are the closure and its owner, and the makers take only closures that are
// `Send`, and owners that may be shared; the vtable is shared and immutable.
unsafe impl Send for Closure {}

struct Inline<V>(V);

impl<V> Inline<V> {
    const FITS: bool =
        size_of::<V>() <= size_of::<Space>() && align_of::<V>() <= align_of::<Space>();
}

/// Puts a `V` in a space, as T1 says.
fn put<V>(value: V) -> Space {
    let mut space = Space::uninit();
    let at = space.as_mut_ptr();
    if Inline::<V>::FITS {
        // SAFETY: a `V` fits the space in size and alignment, and the space is ours.
        unsafe { ptr::write(at.cast::<V>(), value) };
    } else {
        // SAFETY: a `Box<V>` is one word of a word's alignment, and the space is ours.
        unsafe { ptr::write(at.cast::<Box<V>>(), Box::new(value)) };
    }
    space
}

/// Moves the `V` out of `space`.
///
/// # Safety
///
/// `space` must hold a `V` as T1 says, and must not be read as one again.
unsafe fn take<V>(space: *mut Space) -> V {
    if Inline::<V>::FITS {
        // SAFETY: T1: the space holds a `V` in place, which size and alignment allow; the caller
        // gives up the space.
        unsafe { ptr::read(space.cast::<V>()) }
    } else {
        // SAFETY: T1: the space holds a `Box<V>`, one word; the caller gives up the space.
        let boxed = unsafe { ptr::read(space.cast::<Box<V>>()) };
        *boxed
    }
}

/// The address of the `V` that `space` holds.
///
/// # Safety
///
/// `space` must hold a `V` as T1 says.
unsafe fn at<V>(space: *mut Space) -> *mut V {
    if Inline::<V>::FITS {
        space.cast::<V>()
    } else {
        // SAFETY: T1: the space holds a `Box<V>`.
        let boxed = unsafe { &mut *space.cast::<Box<V>>() };
        ptr::from_mut(&mut **boxed)
    }
}

/// How a `V` is run and dropped, for callers that do not know the type it is run as.
pub(crate) struct ValueVTable<V> {
    vtable: &'static VTable,
    of: PhantomData<fn(V) -> V>,
}

impl<V> ValueVTable<V> {
    /// # Safety
    ///
    /// A `B` must be a `V` and no more (`repr(transparent)`), and each `V` that is run by this vtable must be a valid
    /// `B`.
    pub(crate) unsafe fn of<B: Body>() -> ValueVTable<V> {
        ValueVTable {
            vtable: const { &Calls::<B>::VTABLE },
            of: PhantomData,
        }
    }
}

impl<V> Clone for ValueVTable<V> {
    fn clone(&self) -> ValueVTable<V> {
        *self
    }
}

impl<V> Copy for ValueVTable<V> {}

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
        owner: None,
    };
}

/// T3: a closure and its owner. Not `ManuallyDrop`, which must not be moved once what is in it was dropped.
struct Member<F, O> {
    closure: MaybeUninit<F>,
    owner: Arc<O>,
}

impl<F: FnOnce() + Send, O: ClosureOwner> Member<F, O> {
    const VTABLE: VTable = VTable {
        run: |space| {
            // SAFETY: T3.
            let closure = unsafe { Self::take_closure(space) };
            closure();
        },
        drop: |space| {
            // SAFETY: T3.
            drop(unsafe { Self::take_closure(space) });
        },
        owner: Some(OwnerCalls {
            take_panic: |space, payload| {
                // SAFETY: T3: the owner is still there.
                unsafe { Self::owner(space) }.take_panic(payload)
            },
            dropped: |space| {
                // SAFETY: as above.
                unsafe { Self::owner(space) }.dropped(Unrun::Discarded);
            },
            over: |space| {
                // SAFETY: T1: the caller gives up the space. T3: in place of the closure there need be none.
                let member = unsafe { take::<Self>(space) };
                member.owner.over();
            },
        }),
    };

    /// # Safety
    ///
    /// Once, for a space that holds a `Self`.
    unsafe fn take_closure(space: *mut Space) -> F {
        // SAFETY: the caller's.
        let member = unsafe { at::<Self>(space) };
        // SAFETY: as above.
        let closure = unsafe { &(*member).closure };
        // SAFETY: `owned` wrote it, and it is taken once: the caller's.
        unsafe { closure.assume_init_read() }
    }

    /// # Safety
    ///
    /// For a space that holds a `Self`, as long as it does.
    unsafe fn owner<'a>(space: *mut Space) -> &'a O {
        // SAFETY: the caller's.
        let member = unsafe { at::<Self>(space) };
        // SAFETY: as above.
        unsafe { &(*member).owner }
    }
}

impl Closure {
    pub(crate) fn new<F: Body>(closure: F) -> Closure {
        Closure {
            vtable: const { &Calls::<F>::VTABLE },
            space: put(closure),
        }
    }

    /// A value that is run as the closure that `vtable` was made for.
    pub(crate) fn of_value<V: Send + 'static>(vtable: ValueVTable<V>, value: V) -> Closure {
        Closure {
            vtable: vtable.vtable,
            space: put(value),
        }
    }

    /// # Safety
    ///
    /// As for [`Task::owned`](crate::engine::task::Task::owned): what `F` borrows lives until the owner is told that
    /// the closure is over.
    pub(crate) unsafe fn owned<F: FnOnce() + Send, O: ClosureOwner>(
        closure: F,
        owner: Arc<O>,
    ) -> Closure {
        let closure = MaybeUninit::new(closure);
        Closure {
            vtable: const { &Member::<F, O>::VTABLE },
            space: put(Member { closure, owner }),
        }
    }

    /// T1: whether it was run, dropped or given back.
    fn is_nothing(&self) -> bool {
        ptr::eq(self.vtable, &raw const NOTHING)
    }

    /// T1: takes its vtable, before the value in the space is read out.
    fn take_vtable(&mut self) -> &'static VTable {
        mem::replace(&mut self.vtable, &NOTHING)
    }

    /// Calls the closure; catches a panic in it, or in the drop of what it captured. `over` is told how it ended,
    /// before the owner is. Must be called once: afterwards there is nothing to be called (T1).
    #[inline]
    pub(crate) fn run(&mut self, over: impl FnOnce(Outcome)) {
        debug_assert!(!self.is_nothing(), "a closure is run once");
        let (vtable, space) = (self.take_vtable(), &raw mut self.space);
        // SAFETY: T1.
        let call = || unsafe { (vtable.run)(space) };
        let outcome = match run::call(call) {
            Ok(()) => Outcome::Completed,
            // SAFETY: T3.
            Err(payload) => unsafe { vtable.panicked(space, payload) },
        };
        over(outcome);
        // SAFETY: T3.
        unsafe { vtable.tell_owner(space) };
    }

    /// Drops the closure unrun; catches a panic in that. Calls `over` before the owner is told. Must be called once,
    /// like [`run`](Closure::run).
    pub(crate) fn discard(&mut self, over: impl FnOnce()) {
        debug_assert!(!self.is_nothing(), "a closure is discarded once");
        let (vtable, space) = (self.take_vtable(), &raw mut self.space);
        // SAFETY: T1.
        unsafe { vtable.drop_unrun(space) };
        over();
        // SAFETY: T3.
        unsafe { vtable.tell_owner(space) };
    }

    fn drop_what_is_left(&mut self) {
        if self.vtable.owner.is_some() {
            self.discard(|| ());
        } else {
            let (vtable, space) = (self.take_vtable(), &raw mut self.space);
            // SAFETY: T1.
            unsafe { (vtable.drop)(space) }
        }
    }

    /// # Safety
    ///
    /// As for [`Task::into_inner`](crate::engine::task::Task::into_inner).
    pub(crate) unsafe fn into_inner<F>(mut self) -> F {
        self.take_vtable();
        // SAFETY: the caller vouches for `F`, so the space holds one (T1).
        unsafe { take::<F>(&raw mut self.space) }
    }
}

impl VTable {
    /// # Safety
    ///
    /// T3: the closure panicked, and its owner was not told of its end.
    unsafe fn panicked(&self, space: *mut Space, payload: Payload) -> Outcome {
        let Some(owner) = &self.owner else {
            return Outcome::Panicked(payload);
        };
        // SAFETY: the caller's.
        match unsafe { (owner.take_panic)(space, payload) } {
            Some(payload) => Outcome::Panicked(payload),
            None => Outcome::PanicTaken,
        }
    }

    /// # Safety
    ///
    /// T1, T3: once, and the closure was not run.
    unsafe fn drop_unrun(&self, space: *mut Space) {
        // SAFETY: the caller's.
        let drops = || unsafe { (self.drop)(space) };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(drops)) {
            drop_quietly(payload);
        }
        if let Some(owner) = &self.owner {
            // SAFETY: the caller's.
            unsafe { (owner.dropped)(space) };
        }
    }

    /// # Safety
    ///
    /// T3: once, after the closure.
    unsafe fn tell_owner(&self, space: *mut Space) {
        if let Some(owner) = &self.owner {
            // SAFETY: the caller's.
            unsafe { (owner.over)(space) };
        }
    }
}

impl Drop for Closure {
    #[inline]
    fn drop(&mut self) {
        if !self.is_nothing() {
            self.drop_what_is_left();
        }
    }
}

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;
    use crate::engine::task::Task;
    use crate::sync::{AtomicUsize, Ordering};

    #[test]
    fn runs_small_large_and_overaligned_closures_once() {
        #[repr(align(64))]
        struct Aligned(u8);
        let count = Arc::new(());
        let (small, large, aligned) = (count.clone(), count.clone(), count.clone());
        let padding = [7_usize; 9];
        let byte = Aligned(3);
        let run = |mut closure: Closure| {
            closure.run(|outcome| assert!(matches!(outcome, Outcome::Completed)));
        };
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

    #[derive(Default)]
    struct Ends {
        dropped: AtomicUsize,
        over: AtomicUsize,
    }

    impl ClosureOwner for Ends {
        fn take_panic(&self, payload: Payload) -> Option<Payload> {
            Some(payload)
        }

        fn dropped(&self, _why: Unrun) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }

        fn over(&self) {
            self.over.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// T3. What the closures own is freed before their owner is moved out: miri reports it if they are moved with it.
    #[test]
    fn an_owner_is_moved_out_alone() {
        let ends = Arc::new(Ends::default());
        let owned = |capture: Box<usize>, wide: [usize; 9]| {
            let (small, large) = (capture.clone(), capture);
            // SAFETY: they borrow nothing.
            let small = unsafe { Closure::owned(move || drop(small), Arc::clone(&ends)) };
            // SAFETY: as above.
            let large = unsafe {
                let large = move || assert_eq!(wide.len() + *large, 16);
                Closure::owned(large, Arc::clone(&ends))
            };
            [small, large]
        };
        for mut closure in owned(Box::new(7), [0; 9]) {
            closure.run(|outcome| assert!(matches!(outcome, Outcome::Completed)));
        }
        drop(owned(Box::new(7), [0; 9]));
        let counts = [&ends.dropped, &ends.over].map(|count| count.load(Ordering::Relaxed));
        assert_eq!((counts, Arc::strong_count(&ends)), ([2, 4], 1));
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
