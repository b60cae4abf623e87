//! What becomes of a pool in the child of a fork: it works there, or it refuses. It never accepts what no thread will
//! run, and no call to it there waits for a thread that is only in the parent.
//!
//! A fork copies the memory and the thread that forks, and no other. So the pool's workers are not in the child; a
//! lock may be held there by a thread that is not; tasks, places and lines are what they were at that moment, half a
//! step included. What was accepted is the parent's to run: in the child it would run twice.
//!
//! Each process of a line of forks is a **generation**, counted by a handler that the system calls in the child. Each
//! pool carries a [`Mark`]:
//!
//! ```text
//!                 first question in a later generation
//!  HERE(g) ──────────────────────────────────────────► LOOKING(now) ──► HERE(now): it works here
//!                                                                   └─► FOREIGN, for ever
//! ```
//!
//! - G1: Each call from outside asks before it takes any lock or place ([`Core::is_foreign`]), and so does what goes
//!   on after user code, which may have forked. It is one relaxed load where the process is no child of a fork.
//! - G2: The first thread to ask in a generation looks, alone, whether the pool may go on here, with `try_lock`s
//!   only. It may if it was at rest: no task is accepted and not over, no thread waits, none is left to be joined,
//!   and no lock is held. Then no part of it is in the hands of a thread, and the copy is as good as a new pool. Else
//!   it is foreign, and stays so in all generations to come.
//! - G3: Of a foreign pool no lock is taken, and nothing queued is run or dropped. Its memory is left as it is, since
//!   tasks may borrow from stacks that are gone, and handles may name threads that are gone.
//! - G4: A handle to a task is of the generation in which it was made: in a later one the task is over, or it never
//!   will be. The handle takes no lock in either case.
//! - G5: The handler is there before the first thread is started, or the thread is refused; and, where the system
//!   grants it, before the first task can come in. Two threads may both register it: one fork is then counted twice,
//!   and two generations differ all the same. (A `Once` could be half-way in a child.)
//!
//! A process that is made without the handlers (by a bare `clone`, by `_Fork`) is not seen.
//!
//! [`Core::is_foreign`]: crate::engine::core::Core::is_foreign

use crate::engine::spin;
use crate::sync::{CounterU64, Ordering};
use std::io;

static GENERATION: CounterU64 = CounterU64::new(0);

/// The number of this process in its line of forks.
#[inline]
pub(crate) fn generation() -> u64 {
    // ORDERING: Relaxed: it changes while the process has one thread, which starts all others.
    GENERATION.load(Ordering::Relaxed)
}

/// Whether this process is the child of a fork, or a descendant of one.
#[inline]
pub(crate) fn has_forked() -> bool {
    generation() != 0
}

/// G4: whether `made` is the generation of a process that this one was forked from.
#[inline]
pub(crate) fn is_inherited(made: u64) -> bool {
    generation() != made
}

/// The reason for which a foreign pool refuses.
pub(crate) fn refusal() -> io::Error {
    io::Error::other("the process was forked: the threads of the pool are in its parent")
}

const LOOKING: u64 = 1;
const FOREIGN: u64 = u64::MAX;

/// The generation in which a pool may be used: `| generation: 63 | LOOKING |`, or `FOREIGN`.
pub(crate) struct Mark(CounterU64);

impl Mark {
    pub(crate) fn new() -> Mark {
        Mark(CounterU64::new(generation() << 1))
    }

    /// G1: whether it cannot be used in this process. G2: `may_stay` looks, with `try_lock`s only.
    #[inline]
    pub(crate) fn is_foreign(&self, may_stay: impl FnOnce() -> bool) -> bool {
        let now = generation();
        now != 0 && self.is_foreign_in(now, may_stay)
    }

    #[cold]
    fn is_foreign_in(&self, now: u64, may_stay: impl FnOnce() -> bool) -> bool {
        let (here, looking) = (now << 1, now << 1 | LOOKING);
        loop {
            // ORDERING: Relaxed: a look changes nothing but this word.
            let seen = self.0.load(Ordering::Relaxed);
            if seen == here || seen == FOREIGN {
                return seen == FOREIGN;
            }
            if seen == looking {
                // ORDERING: Relaxed: as above.
                spin::until_step(|| self.0.load(Ordering::Relaxed) != looking);
                continue;
            }
            // The thread that was looking in another generation is not here.
            let relaxed = Ordering::Relaxed;
            let looks = self.0.compare_exchange(seen, looking, relaxed, relaxed);
            if looks.is_ok() {
                let stays = may_stay();
                let found = if stays { here } else { FOREIGN };
                self.0.store(found, Ordering::Relaxed);
                return !stays;
            }
        }
    }
}

#[cfg(all(
    unix,
    not(miri),
    not(any(
        target_os = "emscripten",
        target_os = "espidf",
        target_os = "horizon",
        target_os = "vita"
    )),
    not(anthill_loom)
))]
mod imp {
    use super::{CounterU64, GENERATION, Ordering};
    use std::ffi::c_int;
    use std::io;

    type Handler = unsafe extern "C" fn();

    unsafe extern "C" {
        fn pthread_atfork(
            prepare: Option<Handler>,
            parent: Option<Handler>,
            child: Option<Handler>,
        ) -> c_int;
    }

    /// Only what may be done in a signal handler may be done here.
    unsafe extern "C" fn in_child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }

    static WATCHES: CounterU64 = CounterU64::new(0);

    /// G5: makes the system count forks from now on.
    pub(crate) fn watch() -> io::Result<()> {
        // ORDERING: Relaxed: a thread that sees that the handler is there relies on nothing else.
        if WATCHES.load(Ordering::Relaxed) != 0 {
            return Ok(());
        }
        // SAFETY: the handler is a function of the declared type that lives as long as this code; a library that
        // is unloaded takes its handlers with it.
        let error = unsafe { pthread_atfork(None, None, Some(in_child)) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        WATCHES.store(1, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(not(all(
    unix,
    not(miri),
    not(any(
        target_os = "emscripten",
        target_os = "espidf",
        target_os = "horizon",
        target_os = "vita"
    )),
    not(anthill_loom)
)))]
mod imp {
    /// There are no forks.
    #[expect(clippy::unnecessary_wraps, reason = "elsewhere the system may refuse")]
    pub(crate) fn watch() -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) use imp::watch;

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn who_asks_first_in_a_generation_looks_and_nobody_else() {
        let looks = Cell::new(0);
        let look = |answer| {
            looks.set(looks.get() + 1);
            answer
        };
        let mark = Mark::new();
        assert!(!mark.is_foreign_in(1, || look(true)));
        assert!(!mark.is_foreign_in(1, || look(false)));
        assert_eq!(looks.get(), 1);
        assert!(mark.is_foreign_in(2, || look(false)));
        assert!(mark.is_foreign_in(2, || look(true)));
        assert!(mark.is_foreign_in(3, || look(true)), "for ever");
        assert_eq!(looks.get(), 2);
    }

    #[test]
    fn who_was_looking_when_the_process_forked_is_not_waited_for() {
        let mark = Mark::new();
        mark.0.store(1 << 1 | LOOKING, Ordering::Relaxed);
        assert!(!mark.is_foreign_in(2, || true));
    }
}
