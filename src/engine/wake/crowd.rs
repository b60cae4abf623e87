//! Whether a submitter and a worker share a processor, as the system makes them do where it has other processes to run.
//!
//! A submitter that waits for room is woken by a worker, and then mostly runs on that worker's processor if no other one
//! is idle. From then on only one of the two runs at a time: each wake of the submitter stops the worker after a single
//! task, and to spin keeps the other one from its work. Nothing ends that while other processes use all processors.
//!
//! So each notes the processor on which it comes to a point where it would spin, and compares it with that of the other
//! side. It is a guess, and a matter of speed alone: the pool is *crowded* from when one finds both on one processor until
//! one finds them apart.

use crate::sync::{AtomicBool, AtomicUsize, Ordering};
use crossbeam_utils::CachePadded;

/// Written only where something changed: while both sides stay where they are it is only read.
struct Seen {
    submitter: AtomicUsize,
    worker: AtomicUsize,
    crowded: AtomicBool,
}

/// Where a submitter and a worker of a pool were seen last.
pub(crate) struct Crowd(CachePadded<Seen>);

impl Default for Crowd {
    fn default() -> Crowd {
        Crowd(CachePadded::new(Seen {
            submitter: AtomicUsize::new(NOWHERE),
            worker: AtomicUsize::new(NOWHERE),
            crowded: AtomicBool::new(false),
        }))
    }
}

const NOWHERE: usize = usize::MAX;

impl Crowd {
    /// A submitter that finds no room runs on processor `here`.
    #[inline]
    pub(crate) fn see_submitter(&self, here: Option<usize>) {
        self.see(here, &self.0.submitter, &self.0.worker);
    }

    /// A worker that finds no task runs on processor `here`.
    #[inline]
    pub(crate) fn see_worker(&self, here: Option<usize>) {
        self.see(here, &self.0.worker, &self.0.submitter);
    }

    #[inline]
    fn see(&self, here: Option<usize>, own: &AtomicUsize, other: &AtomicUsize) {
        let Some(here) = here else {
            return;
        };
        // ORDERING: Relaxed, here and below: a guess.
        if own.load(Ordering::Relaxed) != here {
            own.store(here, Ordering::Relaxed);
        }
        self.set(other.load(Ordering::Relaxed) == here);
    }

    pub(crate) fn set(&self, crowded: bool) {
        if self.0.crowded.load(Ordering::Relaxed) != crowded {
            self.0.crowded.store(crowded, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn is_crowded(&self) -> bool {
        self.0.crowded.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;

    #[test]
    fn is_crowded_while_both_were_last_seen_on_one_processor() {
        let crowd = Crowd::default();
        let mut seen = Vec::new();
        let mut note = |crowd: &Crowd| seen.push(crowd.is_crowded());
        crowd.see_submitter(Some(1));
        note(&crowd);
        crowd.see_worker(Some(1));
        note(&crowd);
        crowd.see_submitter(Some(0));
        note(&crowd);
        crowd.see_worker(Some(1));
        note(&crowd);
        crowd.see_worker(Some(0));
        note(&crowd);
        crowd.see_worker(None);
        note(&crowd);
        assert_eq!(seen, [false, true, false, false, true, true]);
    }
}
