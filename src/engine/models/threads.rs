//! Threads that expire, are refused, or may run no more.

use super::*;
use crate::engine::shares::ShareEvents;
use crate::results::handle::{JoinHandle, spawn};
use crate::sync::leave_behind;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// A worker that expires while a task comes in.
#[test]
fn expiry_against_wake() {
    model(3, || {
        let (core, ran) = (Core::new(1, config(None, Duration::ZERO)), Ran::new());
        submit(&core, &ran);
        core.wait_idle(None);
        submit(&core, &ran);
        core.wait_idle(None);
        assert_eq!(ran.count(), 2);
        end(&core);
    });
}

/// Pausing, resuming and submitting at once.
#[test]
fn tune_against_submit() {
    model(3, || {
        let (core, ran) = (Core::new(1, config(Some(1), EVER)), Ran::new());
        let tuner = {
            let core = Arc::clone(&core);
            thread::spawn(move || {
                core.tune(0);
                core.tune(1);
            })
        };
        submit(&core, &ran);
        tuner.join().unwrap();
        core.wait_idle(None);
        assert_eq!(ran.count(), 1);
        end(&core);
    });
}

/// L1: once nothing runs after a pause, nothing starts.
#[test]
fn pause_is_exact() {
    model(3, || {
        let (core, ran) = (Core::new(1, config(None, EVER)), Ran::new());
        submit(&core, &ran);
        core.tune(0);
        if core.running() == 0 {
            let before = ran.count();
            thread::yield_now();
            assert_eq!(ran.count(), before);
        }
        core.tune(1);
        core.wait_idle(None);
        assert_eq!(ran.count(), 1);
        end(&core);
    });
}

/// The system refuses the first thread: a submitter that gets `Ok` has its task run, though no thread tries again;
/// one that gets an error has its task back.
#[test]
fn refused_thread() {
    model(3, || {
        let core = Core::new(1, config(Some(1), EVER));
        refuse_threads(1);
        let other = {
            let core = Arc::clone(&core);
            thread::spawn(move || submit_and_see(&core))
        };
        submit_and_see(&core);
        other.join().unwrap();
        end(&core);
    });
}

/// C5: the last worker expires while a task comes in, and the system grants no other.
#[test]
fn expiry_without_another_thread() {
    model(3, || {
        let core = Core::new(1, config(None, Duration::ZERO));
        assert!(submit_and_see(&core));
        refuse_threads(1);
        submit_and_see(&core);
        end(&core);
    });
}

/// A refused thread while another submitter waits for the place: it is not left waiting.
#[test]
fn refused_thread_with_a_line() {
    model(3, || {
        let (core, ran) = (Core::new(1, config(Some(0), EVER)), Ran::new());
        refuse_threads(1);
        let other = {
            let (core, ran) = (Arc::clone(&core), ran.clone());
            thread::spawn(move || core.submit_closure(ran.task(), Patience::Policy).is_ok())
        };
        let here = core.submit_closure(ran.task(), Patience::Policy).is_ok();
        let there = other.join().unwrap();
        core.wait_idle(None);
        assert_eq!(ran.count(), usize::from(here) + usize::from(there));
        end(&core);
    });
}

/// I1: one of two workers expires as it is woken: the thread that claimed it counts it, and no other does.
#[test]
fn expiry_against_the_wake_of_one_of_two() {
    model(2, || {
        let core = Core::new(2, config(Some(0), Duration::ZERO));
        let second = Signal::new();
        let tells = second.clone();
        core.submit_closure(move || second.wait(), Patience::Policy)
            .unwrap();
        core.submit_closure(move || tells.give(), Patience::Policy)
            .unwrap();
        core.submit_closure(|| (), Patience::Policy).unwrap();
        core.wait_idle(None);
        end(&core);
        assert_eq!(
            (core.threads.counts().live(), core.threads.counts().active()),
            (0, 0)
        );
    });
}

/// A submitter that runs its task itself heeds a pause as a worker does (L1).
#[test]
fn a_caller_heeds_the_pause() {
    model(3, || {
        let mut config = config(Some(0), EVER);
        config.overflow = Overflow::CallerRuns;
        let (core, ran) = (Core::new(1, config), Ran::new());
        core.admission.enter_beyond();
        let other = {
            let (core, ran) = (Arc::clone(&core), ran.clone());
            thread::spawn(move || submit(&core, &ran))
        };
        core.tune(0);
        if core.running() == 0 {
            let before = ran.count();
            thread::yield_now();
            assert_eq!(ran.count(), before);
        }
        core.leave(1);
        core.tune(1);
        other.join().unwrap();
        core.wait_idle(None);
        assert_eq!(ran.count(), 1);
        end(&core);
    });
}

/// A submitter waits at a paused pool, and the system refuses the thread as the pool is resumed.
#[test]
fn refused_thread_for_the_line() {
    model(2, || {
        let core = Core::new(0, config(Some(0), EVER));
        refuse_threads(u32::MAX);
        let other = {
            let core = Arc::clone(&core);
            thread::spawn(move || submit_and_see(&core))
        };
        core.tune(1);
        assert!(!other.join().unwrap());
        refuse_threads(0);
        end(&core);
    });
}

/// A pool whose worker waits for a second task, for which so many threads are refused; and the handle of that task.
fn apart(refusals: u32) -> (Arc<Core>, JoinHandle<()>) {
    let core = Core::new(2, config(Some(1), EVER));
    let met = Signal::new();
    let meets = met.clone();
    core.submit_closure(move || met.wait(), Patience::Policy)
        .unwrap();
    refuse_threads(refusals);
    let second = spawn(&core, move || meets.give(), Patience::Policy).unwrap();
    (core, second)
}

/// Awaits a handle, and counts the polls.
fn await_it(handle: JoinHandle<()>) -> usize {
    let (mut handle, mut polls) = (pin!(handle), 0);
    loop {
        polls += 1;
        let signal = Signal::new();
        let waker = Waker::from(std::sync::Arc::new(Wakes(signal.clone())));
        match handle.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => {
                result.unwrap();
                return polls;
            }
            Poll::Pending => signal.wait(),
        }
    }
}

/// X2: a future that awaits a task whose thread was refused leaves it to the pool to try again.
#[test]
fn refused_thread_while_awaited() {
    model(1, || {
        let (core, second) = apart(1);
        allow_helpers(true);
        assert!(await_it(second) <= 2);
        end(&core);
    });
}

/// X4: where the system grants no thread at all the future tries itself.
#[test]
fn refused_threads_while_awaited() {
    model(1, || {
        let (core, second) = apart(3);
        await_it(second);
        end(&core);
    });
}

/// X1: a thread is refused after another one fell asleep, which does not know of it.
#[test]
fn refused_thread_behind_a_sleeper() {
    model(1, || {
        allow_helpers(true);
        let (core, second) = apart(1);
        // As a thread that fell asleep: it does nothing but look.
        while !second.is_finished() {
            thread::yield_now();
        }
        second.join().unwrap();
        end(&core);
    });
}

/// A share that lacks a permit until a thread tries again.
struct Lacking {
    core: Arc<Core>,
    lacks: AtomicBool,
}

impl Lacking {
    fn lack(&self) {
        self.lacks.store(true, Ordering::SeqCst);
        self.core.shares.count_lacking();
        self.core.send_rescuer();
    }
}

impl ShareEvents for Lacking {
    fn close(self: Arc<Self>, _discard: bool) -> usize {
        0
    }

    fn follow(self: Arc<Self>) {}

    fn retune(self: Arc<Self>) {}

    fn is_untouched(&self) -> bool {
        true
    }

    fn is_at_rest(&self) -> bool {
        true
    }

    fn try_again(self: Arc<Self>) {
        if self.lacks.swap(false, Ordering::SeqCst) {
            self.core.shares.uncount_lacking();
        }
    }
}

/// X2: the next thread is refused as the rescuer for the last one is about to end.
#[test]
fn refused_thread_as_the_rescuer_ends() {
    model(2, || {
        allow_helpers(true);
        let core = Core::new(1, config(Some(0), EVER));
        let share = Arc::new(Lacking {
            core: Arc::clone(&core),
            lacks: AtomicBool::new(false),
        });
        core.shares.add(Arc::clone(&share) as _);
        for _ in 0..2 {
            share.lack();
            while core.lacks_thread() {
                thread::yield_now();
            }
        }
        end(&core);
    });
}

/// P22, C6: two workers leave, each with a thread-local that waits for the other's as it is dropped. All threads are
/// joined, by each other and by the thread that waits for the release.
#[test]
fn thread_locals_are_dropped_side_by_side() {
    model(1, || {
        let core = Core::new(2, config(Some(0), EVER));
        let both_run = Signal::new();
        let (one, other) = (Signal::new(), Signal::new());
        let (begun, tells) = (both_run.clone(), other.clone());
        let waits = one.clone();
        core.submit_closure(
            move || {
                begun.wait();
                leave_behind(move || {
                    tells.give();
                    waits.wait();
                });
            },
            Patience::Policy,
        )
        .unwrap();
        core.submit_closure(
            move || {
                both_run.give();
                leave_behind(move || {
                    one.give();
                    other.wait();
                });
            },
            Patience::Policy,
        )
        .unwrap();
        end(&core);
    });
}

/// C6: a thread that waits for the release waits until all threads are joined, also by another one that waits.
#[test]
fn two_wait_for_the_threads_to_end() {
    model(2, || {
        let (core, ran) = (Core::new(1, config(Some(0), EVER)), Ran::new());
        submit(&core, &ran);
        let ends = |core: &Arc<Core>| {
            core.end(None, None).unwrap();
            assert_eq!(unjoined(), 0);
        };
        let other = {
            let core = Arc::clone(&core);
            thread::spawn(move || ends(&core))
        };
        ends(&core);
        other.join().unwrap();
    });
}
