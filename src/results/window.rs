//! The items of a map that are pulled and not yielded: a ring. The caller fills and empties it; any number of runners
//! take the next item and leave its result. With [batches](super::batch) a batch is what is called an item here: it has
//! one place and one number.
//!
//! ```text
//!             first              next               tail
//!  ─ yielded ─┼── taken, done ────┼──── waiting ─────┼─ not pulled ─
//! ```
//!
//! - W1: `tail` is the caller's; whoever reads it sees the items before it.
//! - W2: Whoever moves `next` past an item has the item. If the window is ordered, it also leaves the result in the
//!   item's place: a [`Taken`] is that right.
//! - W3: The caller puts an item into a place only once the place is empty. At most a ring of items is pulled and not
//!   yielded, and items are taken in order; so the item that was there before has at least been taken.
//! - W4: If there are many places, those after the first segment are made as the caller reaches them, so that a map of
//!   few items takes little memory.

use super::batch::Batch;
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
    /// A batch, before and after it is processed.
    Batch(Box<Batch<T, R>>),
}

/// What waits to be taken.
pub(super) enum Work<T, R> {
    Item(T),
    Batch(Box<Batch<T, R>>),
}

/// What came of it.
pub(super) enum Done<T, R> {
    Result(R),
    Batch(Box<Batch<T, R>>),
}

struct Place<T, R> {
    state: AtomicU32,
    content: UnsafeCell<Content<T, R>>,
}

type Places<T, R> = Box<[Place<T, R>]>;

/// The number of places that are made at once, as a power of 2.
const SEGMENT_BITS: u32 = 8;

/// The number of columns, as a power of 2: items whose numbers follow one another are at least so many places apart.
const COLUMN_BITS: u32 = 2;

pub(super) struct Window<T, R> {
    /// Whether results are left here, and collected in order.
    ordered: bool,
    /// The first places, in rows: a power of 2, at most a segment.
    places: Places<T, R>,
    /// W4: the other places.
    segments: Box<[OnceCell<Places<T, R>>]>,
    /// The mask of a number to a place, and of a place to one within its segment.
    mask: usize,
    place_mask: usize,
    row_bits: u32,
    next: CachePadded<AtomicU64>,
    tail: CachePadded<AtomicU64>,
}

// SAFETY: one thread at a time moves what is in a place in and out: the caller while the place is empty or done (W3),
// otherwise whoever moved `next` past it (W2).
unsafe impl<T: Send, R: Send> Sync for Window<T, R> {}

/// W2: the right to leave the result of an item that was taken.
pub(super) struct Taken<'a, T, R> {
    number: u64,
    /// Where the result goes, if the window is ordered.
    place: Option<&'a Place<T, R>>,
}

impl<T, R> Work<T, R> {
    /// How many items it has.
    pub(super) fn len(&self) -> usize {
        match self {
            Work::Item(_) => 1,
            Work::Batch(batch) => batch.len(),
        }
    }
}

impl<T, R> From<Work<T, R>> for Content<T, R> {
    fn from(work: Work<T, R>) -> Self {
        match work {
            Work::Item(item) => Content::Item(item),
            Work::Batch(batch) => Content::Batch(batch),
        }
    }
}

impl<T, R> From<Done<T, R>> for Content<T, R> {
    fn from(done: Done<T, R>) -> Self {
        match done {
            Done::Result(result) => Content::Result(result),
            Done::Batch(batch) => Content::Batch(batch),
        }
    }
}

impl<T, R> Taken<'_, T, R> {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Leaves what came of the item.
    ///
    /// # Panics
    ///
    /// Panics if the window is not ordered: then it has no place for the result.
    pub(super) fn leave(self, done: Done<T, R>) {
        let Some(place) = self.place else {
            unreachable!("results are left in order here, or elsewhere");
        };
        // SAFETY: W2: the place is that of the item for which `self` was made, and `self` is consumed here.
        place
            .content
            .with_mut(|at| unsafe { *at = Content::from(done) });
        // Sequentially consistent: whoever leaves the result looks afterwards whether the caller sleeps.
        place.state.store(DONE, Ordering::SeqCst);
    }
}

impl<T, R> Drop for Window<T, R> {
    /// The drop of what is left must not unwind, whoever holds the map last.
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
    /// Makes a window for at least `places` items.
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

    /// Returns the place of an item: far from that of the next one, so that two runners do not write to one cache line.
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

    /// W4: the segment of a place, made if this is the first look.
    fn more_places(&self, number: usize) -> &[Place<T, R>] {
        let segment = &self.segments[(number >> SEGMENT_BITS) - 1];
        segment.get_or_init(|| make_places(1 << SEGMENT_BITS))
    }

    /// Adds an item, which waits to be taken.
    ///
    /// # Safety
    ///
    /// Only for the caller, which alone puts and collects, one at a time; with numbers that count up from 0.
    pub(super) unsafe fn put(&self, number: u64, work: Work<T, R>) {
        let place = self.place(number);
        // ORDERING: Acquire: with `take` and `collect`, what was there before has been moved out.
        // W3: the former item was taken, and may just be being moved out.
        spin::until_step(|| place.state.load(Ordering::Acquire) == EMPTY);
        // SAFETY: W3: the place is empty, and nobody comes to it before `tail` says so: it is the caller's.
        place
            .content
            .with_mut(|at| unsafe { *at = Content::from(work) });
        // ORDERING: Relaxed: `tail` publishes it.
        place.state.store(FULL, Ordering::Relaxed);
        // W1. Sequentially consistent: whoever adds an item looks afterwards for runners, and a runner that ends looks
        // afterwards for items.
        self.tail.store(number + 1, Ordering::SeqCst);
    }

    /// Returns how many items wait.
    pub(super) fn waiting(&self) -> usize {
        let next = self.next.load(Ordering::SeqCst);
        let tail = self.tail.load(Ordering::SeqCst);
        usize::try_from(tail.saturating_sub(next)).unwrap_or(usize::MAX)
    }

    /// Returns the number of the next item to be taken.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    /// W2: takes the next item; with `only`, if it is that one.
    pub(super) fn take(&self, only: Option<u64>) -> Option<(Taken<'_, T, R>, Work<T, R>)> {
        loop {
            // ORDERING: Relaxed: a guess, which the exchange verifies.
            let number = self.next.load(Ordering::Relaxed);
            if number >= self.tail.load(Ordering::SeqCst) || only.is_some_and(|only| only != number)
            {
                return None;
            }
            // ORDERING: Relaxed: W1 publishes the item; the exchange only decides whose it is.
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
                Content::Item(item) => return Some((Taken { number, place }, Work::Item(item))),
                Content::Batch(batch) => {
                    return Some((Taken { number, place }, Work::Batch(batch)));
                }
                Content::Nothing | Content::Result(_) => unreachable!("each item is taken once"),
            }
        }
    }

    /// Returns whether there is a result.
    pub(super) fn is_done(&self, number: u64) -> bool {
        self.place(number).state.load(Ordering::SeqCst) == DONE
    }

    /// Takes a result, if it is there.
    ///
    /// # Safety
    ///
    /// Only for the caller, as [`put`](Window::put).
    pub(super) unsafe fn collect(&self, number: u64) -> Option<Done<T, R>> {
        if !self.is_done(number) {
            return None;
        }
        let place = self.place(number);
        // SAFETY: the place is done, and so the caller's, which calls this.
        let content = place
            .content
            .with_mut(|at| unsafe { std::mem::replace(&mut *at, Content::Nothing) });
        // ORDERING: Release: pairs with `put`, though that is on this thread.
        place.state.store(EMPTY, Ordering::Release);
        match content {
            Content::Result(result) => Some(Done::Result(result)),
            Content::Batch(batch) => Some(Done::Batch(batch)),
            Content::Nothing | Content::Item(_) => {
                unreachable!("a place that is done has a result")
            }
        }
    }
}
