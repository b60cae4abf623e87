//! The items of a map that were pulled and not yielded: a ring, filled and emptied by the caller, in
//! which any number of runners take the next item and leave its result.
//!
//! ```text
//!             first              next               tail
//!  ─ yielded ─┼── taken, done ────┼──── waiting ─────┼─ not pulled ─
//! ```
//!
//! - W1: `tail` is the caller's; who reads it sees the items before it.
//! - W2: Whoever moves `next` past an item has it, and leaves its result, if the window is ordered, in the
//!   item's place: a [`Taken`] is that right.
//! - W3: The caller puts an item in a place only once that is empty. No more than a ring of items are
//!   pulled and not yielded, and items are taken in order, so the one that was there before has at least
//!   been taken.
//! - W4: Where there are many places, those after the first are made as the caller comes to them, so that few items
//!   take few.

use crate::engine::spin;
use crate::panic::drop_quietly;
use crate::sync::cell::UnsafeCell;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crossbeam_utils::CachePadded;
use once_cell::sync::OnceCell;

const EMPTY: u32 = 0;
const FULL: u32 = 1;
const DONE: u32 = 2;

enum Content<T, R> {
    Nothing,
    Item(T),
    Result(R),
}

struct Place<T, R> {
    state: AtomicU32,
    content: UnsafeCell<Content<T, R>>,
}

type Places<T, R> = Box<[Place<T, R>]>;

/// So many places are made at once: 2 to this power.
const SEGMENT_BITS: u32 = 8;

/// So many places next to each other are far enough from the next so many: 2 to this power.
const COLUMN_BITS: u32 = 2;

pub(super) struct Window<T, R> {
    /// Results are left here, and collected in order.
    ordered: bool,
    /// The first of the places, in rows: a power of two of them, as many as one segment at most.
    places: Places<T, R>,
    /// W4: the others.
    segments: Box<[OnceCell<Places<T, R>>]>,
    /// Of all places, and of those of a segment.
    mask: usize,
    place_mask: usize,
    row_bits: u32,
    next: CachePadded<AtomicU64>,
    tail: CachePadded<AtomicU64>,
}

// SAFETY: what is in a place is moved in and out by one thread at a time: the caller while it is empty
// or done (W3), else who moved `next` past it (W2).
unsafe impl<T: Send, R: Send> Sync for Window<T, R> {}

/// W2: an item that was taken, apart from the item itself.
pub(super) struct Taken<'a, T, R> {
    number: u64,
    /// Where its result is to be left: in an ordered window.
    place: Option<&'a Place<T, R>>,
}

impl<T, R> Taken<'_, T, R> {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Leaves the result of the item.
    ///
    /// # Panics
    ///
    /// If the window is not ordered: it has no place for it.
    pub(super) fn leave(self, result: R) {
        let Some(place) = self.place else {
            unreachable!("results are left in order here, or elsewhere");
        };
        // SAFETY: W2: the item was taken for this, which is used up here.
        place
            .content
            .with_mut(|at| unsafe { *at = Content::Result(result) });
        // Sequentially consistent: who leaves it looks whether the caller sleeps.
        place.state.store(DONE, Ordering::SeqCst);
    }
}

impl<T, R> Drop for Window<T, R> {
    /// Whoever is the last to let go of a map, a panic in the drop of what is left must not end it.
    fn drop(&mut self) {
        let segments = self.segments.iter_mut().filter_map(OnceCell::get_mut);
        for place in self.places.iter_mut().chain(segments.flatten()) {
            // SAFETY: nobody else has the window any more.
            let content = place
                .content
                .with_mut(|at| unsafe { std::mem::replace(&mut *at, Content::Nothing) });
            drop_quietly(content);
        }
    }
}

fn make_places<T, R>(number: usize) -> Places<T, R> {
    let place = |_| Place {
        state: AtomicU32::new(EMPTY),
        content: UnsafeCell::new(Content::Nothing),
    };
    (0..number).map(place).collect()
}

impl<T, R> Window<T, R> {
    /// For at least so many items.
    pub(super) fn new(places: usize, ordered: bool) -> Window<T, R> {
        let all = places.next_power_of_two().max(1 << COLUMN_BITS);
        let first = all.min(1 << SEGMENT_BITS);
        Window {
            ordered,
            places: make_places(first),
            segments: (1..all / first).map(|_| OnceCell::new()).collect(),
            mask: all - 1,
            place_mask: first - 1,
            row_bits: first.trailing_zeros() - COLUMN_BITS,
            next: CachePadded::new(AtomicU64::new(0)),
            tail: CachePadded::new(AtomicU64::new(0)),
        }
    }

    /// Where an item goes: far from the next one, so that two runners do not write to one cache line.
    fn place(&self, number: u64) -> &Place<T, R> {
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits count")]
        let number = number as usize & self.mask;
        let at = number & self.place_mask;
        let (row, column) = (at & (self.place_mask >> COLUMN_BITS), at >> self.row_bits);
        let at = row << COLUMN_BITS | column;
        if number <= self.place_mask {
            &self.places[at]
        } else {
            &self.more_places(number)[at]
        }
    }

    /// W4
    fn more_places(&self, number: usize) -> &[Place<T, R>] {
        let segment = &self.segments[(number >> SEGMENT_BITS) - 1];
        segment.get_or_init(|| make_places(1 << SEGMENT_BITS))
    }

    /// Adds an item, which waits to be taken.
    ///
    /// # Safety
    ///
    /// For the caller, who alone puts and collects, one at a time; and with a number one higher each time, the
    /// first being 0.
    pub(super) unsafe fn put(&self, number: u64, item: T) {
        let place = self.place(number);
        // ORDERING: Acquire: with `take` and `collect`, what was there before has been moved out.
        // W3: taken, and just being moved out.
        spin::until_step(|| place.state.load(Ordering::Acquire) == EMPTY);
        // SAFETY: W3: the place is empty, and nobody comes to it before `tail` says so. What is about to be there
        // is of this number: the caller's.
        place
            .content
            .with_mut(|at| unsafe { *at = Content::Item(item) });
        // ORDERING: Relaxed: `tail` publishes it.
        place.state.store(FULL, Ordering::Relaxed);
        // W1. Sequentially consistent: who adds an item counts on runners that then find none, or not.
        self.tail.store(number + 1, Ordering::SeqCst);
    }

    /// How many items wait.
    pub(super) fn waiting(&self) -> usize {
        let next = self.next.load(Ordering::SeqCst);
        let tail = self.tail.load(Ordering::SeqCst);
        usize::try_from(tail.saturating_sub(next)).unwrap_or(usize::MAX)
    }

    /// The number of the next item to be taken.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    /// W2: takes the next item. `only`: if it is this one.
    pub(super) fn take(&self, only: Option<u64>) -> Option<(Taken<'_, T, R>, T)> {
        loop {
            // ORDERING: Relaxed: a guess, which the exchange proves.
            let number = self.next.load(Ordering::Relaxed);
            if number >= self.tail.load(Ordering::SeqCst) || only.is_some_and(|only| only != number)
            {
                return None;
            }
            // ORDERING: Relaxed: W1 publishes the item; the exchange only says whose it is.
            let relaxed = Ordering::Relaxed;
            let moved =
                self.next
                    .compare_exchange_weak(number, number + 1, Ordering::SeqCst, relaxed);
            if moved.is_err() {
                continue;
            }
            let place = self.place(number);
            // SAFETY: W2.
            let content = place
                .content
                .with_mut(|at| unsafe { std::mem::replace(&mut *at, Content::Nothing) });
            if !self.ordered {
                // ORDERING: Release: pairs with `put`.
                place.state.store(EMPTY, Ordering::Release);
            }
            let place = self.ordered.then_some(place);
            match content {
                Content::Item(item) => return Some((Taken { number, place }, item)),
                Content::Nothing | Content::Result(_) => unreachable!("each item is taken once"),
            }
        }
    }

    /// For the caller: whether there is a result.
    pub(super) fn is_done(&self, number: u64) -> bool {
        self.place(number).state.load(Ordering::SeqCst) == DONE
    }

    /// Takes a result, if it is there.
    ///
    /// # Safety
    ///
    /// For the caller, as [`put`](Window::put).
    pub(super) unsafe fn collect(&self, number: u64) -> Option<R> {
        if !self.is_done(number) {
            return None;
        }
        let place = self.place(number);
        // SAFETY: the place is done, and so the caller's, which this is.
        let content = place
            .content
            .with_mut(|at| unsafe { std::mem::replace(&mut *at, Content::Nothing) });
        // ORDERING: Release: pairs with `put`, though that is on this thread.
        place.state.store(EMPTY, Ordering::Release);
        match content {
            Content::Result(result) => Some(result),
            Content::Nothing | Content::Item(_) => {
                unreachable!("a place that is done has a result")
            }
        }
    }
}
