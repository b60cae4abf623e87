//! A hierarchical timing wheel: which values are due at a given tick. Pure: it has no clock, no lock and no thread.
//!
//! Time is a number of *ticks*. Level 0 has a slot for each of the next 64 ticks, level 1 one for each 64 ticks, and so
//! on: a level has a slot for each value of six bits of the deadline. A value is on the level of the highest such group
//! in which its deadline differs from `elapsed`, the tick up to which the wheel has been turned. When `elapsed` reaches
//! the first tick of a slot above level 0, the slot is *spread* over the levels below.
//!
//! - WH1: On each level every slot in use lies after that of `elapsed`. Two are excepted: that of `elapsed` itself on
//!   level 0, whose values are due, and a slot that is being spread. So nothing wraps around, and the earliest deadline is
//!   in the first slot in use of the lowest level in use.
//! - WH2: `elapsed` never passes the first tick of a slot in use. So no value changes its level while time passes.
//! - WH3: One step costs one value: `turn` takes and spreads no more values than it is told, and goes on from there the
//!   next time. A slot that is being spread is finished before any other is looked at, as its values may be the
//!   earliest.
//! - WH4: Each value has a number of its own (until 2^32 others came): a [`Key`] that has lost its value finds no
//!   other.
//!
//! Values live in chunks of a slab, linked to a ring for each slot, oldest first: insertion and removal take one step,
//! and never move another value.

/// How many bits of a deadline a level tells apart.
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 8;

/// A deadline that never comes. All others are below it; of ticks of a millisecond these are 8,900 years.
pub(super) const NEVER: u64 = 1 << (BITS * level_bits(LEVELS));

/// How many values a chunk of the slab has.
const CHUNK: u32 = 256;

const NONE: u32 = u32::MAX;

/// Where a value is, and which one it is (WH4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) index: u32,
    pub(super) number: u32,
}

struct Entry<T> {
    /// `None`: the entry is free.
    value: Option<T>,
    deadline: u64,
    /// In the ring of its slot; of a free entry, `next` is the next free one.
    next: u32,
    previous: u32,
    number: u32,
    level: u8,
    slot: u8,
}

struct Level {
    /// A bit for each slot in use.
    in_use: u64,
    /// The oldest value of each slot in use.
    heads: [u32; SLOTS],
}

/// The step that comes next.
#[derive(Clone, Copy)]
struct Step {
    level: usize,
    slot: usize,
    /// The first tick of the slot.
    at: u64,
}

pub(super) struct Wheel<T> {
    elapsed: u64,
    levels: [Level; LEVELS],
    /// WH3: the slot that is being spread.
    spreading: Option<Step>,
    chunks: Vec<Box<[Entry<T>]>>,
    /// The first free entry.
    free: u32,
    len: usize,
    /// WH4: the number of the next value.
    number: u32,
}

impl<T> Wheel<T> {
    pub(super) fn new() -> Wheel<T> {
        let level = || Level {
            in_use: 0,
            heads: [NONE; SLOTS],
        };
        Wheel {
            elapsed: 0,
            levels: std::array::from_fn(|_| level()),
            spreading: None,
            chunks: Vec::new(),
            free: NONE,
            len: 0,
            number: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether the wheel has been turned up to `tick`.
    #[cfg(feature = "futures")]
    pub(super) fn has_reached(&self, tick: u64) -> bool {
        tick <= self.elapsed
    }

    /// Adds a value that is due at `deadline`, which is below [`NEVER`]; at the next turn if that is over.
    pub(super) fn insert(&mut self, deadline: u64, value: T) -> Key {
        debug_assert!(deadline < NEVER);
        if self.free == NONE {
            self.add_chunk();
        }
        let index = self.free;
        let number = self.number;
        self.number = number.wrapping_add(1);
        let entry = self.entry(index);
        let free = entry.next;
        entry.value = Some(value);
        entry.deadline = deadline;
        entry.number = number;
        self.free = free;
        self.len += 1;
        self.link(index);
        Key { index, number }
    }

    /// The value of `key`, unless it was taken or removed.
    #[cfg(any(feature = "futures", test))]
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entry_of(key)?;
        entry.value.as_mut()
    }

    /// Takes the value of `key` out, unless it was taken or removed.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        self.entry_of(key)?.value.as_ref()?;
        self.unlink(key.index);
        self.release(key.index)
    }

    /// Moves on to `now` and appends what is due to `due`, in at most `steps` steps. Returns whether more is due, or may
    /// be.
    pub(super) fn turn(&mut self, now: u64, due: &mut Vec<T>, steps: usize) -> bool {
        for _ in 0..steps {
            let Some(step) = self.next_step().filter(|step| step.at <= now) else {
                // WH2
                self.elapsed = self.elapsed.max(now);
                return false;
            };
            self.elapsed = self.elapsed.max(step.at);
            let index = self.levels[step.level].heads[step.slot];
            self.unlink(index);
            if step.level == 0 {
                due.extend(self.release(index));
            } else {
                self.link(index);
                let spread = self.levels[step.level].in_use & 1 << step.slot == 0;
                self.spreading = (!spread).then_some(step);
            }
        }
        true
    }

    /// A tick before which nothing is due, and at which the wheel is to be turned; `None` if it is empty.
    pub(super) fn next_turn(&self) -> Option<u64> {
        self.next_step().map(|step| step.at)
    }

    /// Gives the memory of an empty wheel back. The numbers go on (WH4).
    pub(super) fn shrink(&mut self) {
        if self.len == 0 {
            self.chunks = Vec::new();
            self.free = NONE;
        }
    }

    /// WH1
    fn next_step(&self) -> Option<Step> {
        if self.spreading.is_some() {
            return self.spreading;
        }
        let level = self.levels.iter().position(|level| level.in_use != 0)?;
        let slot = self.levels[level].in_use.trailing_zeros();
        let shift = BITS * level_bits(level);
        let above = self.elapsed >> shift >> BITS << BITS;
        let at = (above | u64::from(slot)) << shift;
        let slot = slot as usize;
        Some(Step { level, slot, at })
    }

    /// Puts an entry at the end of the slot of its deadline.
    fn link(&mut self, index: u32) {
        let elapsed = self.elapsed;
        let entry = self.entry(index);
        let deadline = entry.deadline.max(elapsed);
        let differs = (deadline ^ elapsed) | 1;
        let level = (differs.ilog2() / BITS) as usize;
        let slot = slot_of(deadline, level);
        (entry.level, entry.slot) = (narrow(level), narrow(slot));
        let of = &mut self.levels[level];
        of.in_use |= 1 << slot;
        let head = of.heads[slot];
        if head == NONE {
            of.heads[slot] = index;
            let entry = self.entry(index);
            (entry.next, entry.previous) = (index, index);
            return;
        }
        let head_entry = self.entry(head);
        let last = head_entry.previous;
        head_entry.previous = index;
        self.entry(last).next = index;
        let entry = self.entry(index);
        (entry.next, entry.previous) = (head, last);
    }

    /// Takes an entry out of its slot.
    fn unlink(&mut self, index: u32) {
        let entry = self.entry(index);
        let (next, previous) = (entry.next, entry.previous);
        let (level, slot) = (usize::from(entry.level), usize::from(entry.slot));
        if next == index {
            self.levels[level].heads[slot] = NONE;
            self.levels[level].in_use &= !(1 << slot);
            self.spreading =
                (self.spreading).filter(|step| (step.level, step.slot) != (level, slot));
            return;
        }
        self.entry(previous).next = next;
        self.entry(next).previous = previous;
        let head = &mut self.levels[level].heads[slot];
        if *head == index {
            *head = next;
        }
    }

    /// Frees an entry that is in no slot.
    fn release(&mut self, index: u32) -> Option<T> {
        let free = self.free;
        let entry = self.entry(index);
        entry.next = free;
        let value = entry.value.take();
        self.free = index;
        self.len -= 1;
        value
    }

    fn entry(&mut self, index: u32) -> &mut Entry<T> {
        &mut self.chunks[(index / CHUNK) as usize][(index % CHUNK) as usize]
    }

    fn entry_of(&mut self, key: Key) -> Option<&mut Entry<T>> {
        let chunk = self.chunks.get_mut((key.index / CHUNK) as usize)?;
        let entry = &mut chunk[(key.index % CHUNK) as usize];
        (entry.number == key.number).then_some(entry)
    }

    #[cold]
    fn add_chunk(&mut self) {
        let first = u32::try_from(self.chunks.len())
            .ok()
            .and_then(|chunks| chunks.checked_mul(CHUNK))
            .filter(|first| *first < MOST)
            .expect("no memory holds as many timers");
        let entries = (first..first + CHUNK).map(|index| Entry {
            value: None,
            deadline: 0,
            next: if index + 1 == first + CHUNK {
                NONE
            } else {
                index + 1
            },
            previous: NONE,
            number: 0,
            level: 0,
            slot: 0,
        });
        self.chunks.push(entries.collect());
        self.free = first;
    }
}

/// How many values a wheel has at most: the upper bits of an index are left to its user.
const MOST: u32 = 1 << 29;

#[expect(clippy::cast_possible_truncation, reason = "there are few levels")]
const fn level_bits(level: usize) -> u32 {
    level as u32
}

/// The slot of a deadline on a level.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a few bits of it are wanted"
)]
const fn slot_of(deadline: u64, level: usize) -> usize {
    (deadline >> (BITS * level_bits(level))) as usize % SLOTS
}

#[expect(clippy::cast_possible_truncation, reason = "a level, or a slot")]
const fn narrow(number: usize) -> u8 {
    number as u8
}

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;
    use anthill_test_support::seeded_rng;
    use rand::Rng;
    use std::collections::BTreeMap;

    /// The same wheel as a sorted map: by deadline and by order of arrival.
    #[derive(Default)]
    struct Model {
        sorted: BTreeMap<(u64, u64), Key>,
        arrived: u64,
    }

    fn turn_to(wheel: &mut Wheel<u64>, now: u64, steps: usize) -> Vec<u64> {
        let mut due = Vec::new();
        while wheel.turn(now, &mut due, steps) {}
        due
    }

    /// A deadline of any size, near ones more often than far ones.
    fn any_distance(rng: &mut impl Rng) -> u64 {
        let bits = rng.random_range(0..40);
        rng.random_range(0..1_u64 << bits)
    }

    #[test]
    fn it_does_what_a_sorted_map_does() {
        let mut rng = seeded_rng("wheel");
        for round in 0..200 {
            let mut wheel = Wheel::new();
            let mut model = Model::default();
            let mut now = 0;
            for _ in 0..rng.random_range(1..400) {
                match rng.random_range(0..10) {
                    0..5 => {
                        let deadline = (now + any_distance(&mut rng)).min(NEVER - 1);
                        model.arrived += 1;
                        let key = wheel.insert(deadline, model.arrived);
                        model.sorted.insert((deadline, model.arrived), key);
                    }
                    5..7 if !model.sorted.is_empty() => {
                        let at = rng.random_range(0..model.sorted.len());
                        let (&place, &key) = model.sorted.iter().nth(at).unwrap();
                        model.sorted.remove(&place);
                        assert_eq!(wheel.get_mut(key).copied(), Some(place.1));
                        assert_eq!(wheel.remove(key), Some(place.1));
                        assert_eq!(wheel.remove(key), None);
                        assert_eq!(wheel.get_mut(key), None);
                    }
                    _ => {
                        // To the next deadline, to the tick before it, or anywhere.
                        let first = model.sorted.keys().next().map(|&(deadline, _)| deadline);
                        now = match (rng.random_range(0..3), first) {
                            (0, Some(first)) => now.max(first),
                            (1, Some(first)) => now.max(first.saturating_sub(1)),
                            _ => now + any_distance(&mut rng),
                        }
                        .min(NEVER - 1);
                        let found = turn_to(&mut wheel, now, rng.random_range(1..5));
                        let later = model.sorted.split_off(&(now + 1, 0));
                        let due = std::mem::replace(&mut model.sorted, later);
                        let due: Vec<_> = due.into_iter().collect();
                        assert_eq!(
                            found,
                            due.iter().map(|((_, value), _)| *value).collect::<Vec<_>>(),
                            "round {round}"
                        );
                        for (_, key) in due {
                            assert_eq!(wheel.remove(key), None);
                        }
                    }
                }
                let first = model.sorted.keys().next().map(|&(deadline, _)| deadline);
                assert_eq!(wheel.len(), model.sorted.len());
                // Never later than the first deadline; and never behind the present, or a sleeper would spin.
                assert_eq!(wheel.next_turn().is_some(), first.is_some());
                if let (Some(turn), Some(first)) = (wheel.next_turn(), first) {
                    assert!(turn <= first.max(now), "{turn} is after {first}");
                }
            }
            let due = turn_to(&mut wheel, NEVER - 1, 7);
            assert_eq!(due.len(), model.sorted.len());
            assert_eq!((wheel.len(), wheel.next_turn()), (0, None));
        }
    }

    /// WH3: few steps at a time, with insertions and removals in between, while slots are half spread.
    #[test]
    fn it_can_be_interrupted_at_each_step() {
        let mut rng = seeded_rng("wheel steps");
        for _ in 0..200 {
            let mut wheel = Wheel::new();
            let mut keys = BTreeMap::new();
            let (mut now, mut number) = (0_u64, 0_u64);
            let mut taken = Vec::new();
            for _ in 0..500 {
                if rng.random_bool(0.4) {
                    let deadline = now + rng.random_range(0..5_000);
                    number += 1;
                    keys.insert(number, (deadline, wheel.insert(deadline, number)));
                }
                if rng.random_bool(0.1) && !keys.is_empty() {
                    let at = rng.random_range(0..keys.len());
                    let (&number, &(_, key)) = keys.iter().nth(at).unwrap();
                    keys.remove(&number);
                    assert_eq!(wheel.remove(key), Some(number));
                }
                now += rng.random_range(0..200);
                let more = wheel.turn(now, &mut taken, rng.random_range(1..3));
                for number in taken.drain(..) {
                    let (deadline, _) = keys.remove(&number).expect("it was there, and once");
                    assert!(deadline <= now, "early");
                }
                if !more {
                    let late = keys.values().filter(|(deadline, _)| *deadline <= now);
                    assert_eq!(late.count(), 0);
                }
            }
        }
    }

    /// WH4
    #[test]
    fn a_key_finds_its_own_value_only() {
        let mut wheel = Wheel::new();
        let first = wheel.insert(5, 'a');
        assert_eq!(wheel.remove(first), Some('a'));
        wheel.shrink();
        assert_eq!(wheel.remove(first), None);
        let second = wheel.insert(5, 'b');
        assert_eq!(first.index, second.index);
        assert_eq!(wheel.remove(first), None);
        assert_eq!(wheel.get_mut(second), Some(&mut 'b'));
    }

    #[test]
    fn a_value_takes_forty_bytes_with_its_waker() {
        assert_eq!(size_of::<Entry<std::task::Waker>>(), 40);
    }

    /// The whole way of a timer over every level costs a few turns.
    #[test]
    fn a_far_timer_costs_a_few_turns() {
        let mut wheel = Wheel::new();
        let deadline = NEVER - 1;
        wheel.insert(deadline, ());
        let (mut due, mut turns) = (Vec::new(), 0);
        while due.is_empty() {
            let next = wheel.next_turn().expect("it is not empty");
            while wheel.turn(next, &mut due, 100) {}
            turns += 1;
        }
        assert!(turns <= LEVELS, "{turns}");
    }
}
