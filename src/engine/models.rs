//! Loom models of the whole engine: each would deadlock, or miss a task, if the protocol lost one.
//!
//! `RUSTFLAGS="--cfg anthill_loom" cargo test --release --lib models`. docs/testing.md names for each
//! ordering, fence and re-check the model that fails without it.

use super::admission::Joined;
use super::submit::Patience;
use super::task::Task;
use super::{Core, Hooks, Overflow, Plan};
use crate::error::SubmitErrorKind;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Ordering, refuse_threads};
use loom::thread;
use std::time::Duration;

const EVER: Duration = Duration::from_secs(1);

fn plan(backlog: Option<usize>, idle_timeout: Duration) -> Plan {
    Plan {
        backlog,
        overflow: Overflow::Block,
        max_waiting: usize::MAX,
        min_workers: 0,
        idle_timeout: Some(idle_timeout),
        name: String::new(),
        stack_size: None,
        hooks: Hooks::default(),
        keeps: None,
    }
}

fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 20_000;
    builder.check(move || {
        refuse_threads(0);
        f();
    });
}

/// Counts the tasks that ran.
#[derive(Clone)]
struct Ran(Arc<AtomicUsize>);

impl Ran {
    fn new() -> Ran {
        Ran(Arc::new(AtomicUsize::new(0)))
    }

    fn task(&self) -> impl FnOnce() + Send + 'static {
        let ran = self.clone();
        move || {
            // Relaxed: that it is seen is for the pool to see to.
            ran.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a task waits for: given once, and never before. (A loom `Notify` wakes at will.)
#[derive(Clone)]
struct Signal(Arc<(AtomicBool, loom::sync::Notify)>);

impl Signal {
    fn new() -> Signal {
        Signal(Arc::new((
            AtomicBool::new(false),
            loom::sync::Notify::new(),
        )))
    }

    fn give(&self) {
        self.0.0.store(true, Ordering::Release);
        self.0.1.notify();
    }

    fn wait(&self) {
        while !self.0.0.load(Ordering::Acquire) {
            self.0.1.wait();
        }
    }
}

fn submit(core: &Arc<Core>, ran: &Ran) {
    core.submit(ran.task(), Patience::Policy).unwrap();
}

fn end(core: &Arc<Core>) {
    core.end(None).unwrap();
    assert!(core.admission.places().at_rest());
}

/// A task wakes or starts a worker, whatever that worker was about to do.
#[test]
fn idle_and_wake() {
    model(3, || {
        let (core, ran) = (Core::new(1, plan(None, EVER)), Ran::new());
        submit(&core, &ran);
        submit(&core, &ran);
        core.wait_idle(None);
        assert_eq!(ran.count(), 2);
        end(&core);
    });
}

/// Two workers, one of which may go to rest as the other is woken.
#[test]
fn two_workers() {
    model(1, || {
        let (core, ran) = (Core::new(2, plan(Some(0), EVER)), Ran::new());
        submit(&core, &ran);
        submit(&core, &ran);
        core.wait_idle(None);
        assert_eq!(ran.count(), 2);
        end(&core);
    });
}

/// Two submitters for one place: one waits, and is served.
#[test]
fn admission() {
    model(3, || {
        let (core, ran) = (Core::new(1, plan(Some(0), EVER)), Ran::new());
        let other = {
            let (core, ran) = (Arc::clone(&core), ran.clone());
            thread::spawn(move || submit(&core, &ran))
        };
        submit(&core, &ran);
        other.join().unwrap();
        core.wait_idle(None);
        assert_eq!(ran.count(), 2);
        end(&core);
    });
}

/// A submitter that gives up while it is being served: its task runs or comes back, never both.
#[test]
fn admission_times_out() {
    model(3, || {
        let (core, ran) = (Core::new(1, plan(Some(0), EVER)), Ran::new());
        submit(&core, &ran);
        let timeout = Patience::Until(crate::sync::deadline_after(Duration::ZERO));
        let accepted = match core.submit(ran.task(), timeout) {
            Ok(()) => 2,
            Err(refused) => {
                assert_eq!(refused.kind(), SubmitErrorKind::TimedOut);
                1
            }
        };
        core.wait_idle(None);
        assert_eq!(ran.count(), accepted);
        end(&core);
    });
}

/// A worker that expires while a task comes in.
#[test]
fn expiry_against_wake() {
    model(3, || {
        let (core, ran) = (Core::new(1, plan(None, Duration::ZERO)), Ran::new());
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
        let (core, ran) = (Core::new(1, plan(Some(1), EVER)), Ran::new());
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

/// A submitter waits at a paused pool, and another thread resumes it.
#[test]
fn tune_lets_the_line_in() {
    model(3, || {
        let (core, ran) = (Core::new(0, plan(Some(0), EVER)), Ran::new());
        let tuner = {
            let core = Arc::clone(&core);
            thread::spawn(move || {
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
        let (core, ran) = (Core::new(1, plan(None, EVER)), Ran::new());
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

/// What is accepted runs, what is refused comes back, and the threads end.
#[test]
fn release_against_submit() {
    model(3, || {
        let (core, ran) = (Core::new(1, plan(Some(0), EVER)), Ran::new());
        let submitter = {
            let (core, ran) = (Arc::clone(&core), ran.clone());
            thread::spawn(move || {
                let first = core.submit(ran.task(), Patience::Policy);
                first.map_or_else(
                    |refused| drop(refused.into_inner()),
                    |()| {
                        ran.0.fetch_add(10, Ordering::SeqCst);
                    },
                );
            })
        };
        end(&core);
        submitter.join().unwrap();
        assert!(matches!(ran.count(), 0 | 11));
    });
}

/// A worker that goes to rest as the pool closes leaves, and leaves no task behind.
#[test]
fn release_against_rest() {
    model(3, || {
        let (core, ran) = (Core::new(1, plan(None, EVER)), Ran::new());
        submit(&core, &ran);
        end(&core);
        assert_eq!(ran.count(), 1);
    });
}

/// C3: the second of two tasks comes while the first worker is on its way up, and the first waits
/// for the second.
#[test]
fn an_arriving_worker_calls_the_next() {
    model(1, || {
        let core = Core::new(2, plan(Some(0), EVER));
        let second = Signal::new();
        let tells = second.clone();
        core.submit(move || second.wait(), Patience::Policy)
            .unwrap();
        core.submit(move || tells.give(), Patience::Policy).unwrap();
        core.wait_idle(None);
        end(&core);
    });
}

/// Submits a task and waits for it without the pool's help; false if it was refused.
fn submit_and_see(core: &Arc<Core>) -> bool {
    let ran = Signal::new();
    let tells = ran.clone();
    match core.submit(move || tells.give(), Patience::Policy) {
        Ok(()) => {
            ran.wait();
            true
        }
        Err(refused) => {
            assert_eq!(refused.kind(), SubmitErrorKind::NoThread);
            false
        }
    }
}

/// The system refuses the first thread: whoever gets `Ok` has its task run, though nobody tries
/// again; whoever gets an error has it back.
#[test]
fn refused_thread() {
    model(3, || {
        let core = Core::new(1, plan(Some(1), EVER));
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

/// C5: the last worker expires while a task comes in, and no other is to be had.
#[test]
fn expiry_without_another_thread() {
    model(3, || {
        let core = Core::new(1, plan(None, Duration::ZERO));
        assert!(submit_and_see(&core));
        refuse_threads(1);
        submit_and_see(&core);
        end(&core);
    });
}

/// A thief between two desks keeps the pool from being at rest.
#[test]
fn a_stolen_task_is_not_at_rest() {
    model(2, || {
        let (core, ran) = (Core::new(2, plan(None, EVER)), Ran::new());
        let (inner, child) = (Arc::clone(&core), ran.clone());
        let parent = move || inner.submit(child.task(), Patience::Policy).unwrap();
        core.submit(parent, Patience::Policy).unwrap();
        core.wait_idle(None);
        assert_eq!(ran.count(), 1);
        end(&core);
    });
}

/// A pool with two workers on their way up.
fn with_two_workers(capacity: usize, backlog: Option<usize>) -> Arc<Core> {
    let mut plan = plan(backlog, EVER);
    plan.min_workers = 2;
    let core = Core::new(capacity, plan);
    core.crew.fill(&core).unwrap();
    core
}

/// L4: who lent a task relied on a free worker, which takes another one that waits as well.
#[test]
fn a_lent_task_is_passed_on() {
    model(1, || {
        let core = with_two_workers(3, None);
        let (to_parent, to_other) = (Signal::new(), Signal::new());
        let (inner, others) = (Arc::clone(&core), to_other.clone());
        let lent = Arc::new(AtomicBool::new(false));
        let lends = Arc::clone(&lent);
        let parent = move || {
            let tells = to_parent.clone();
            let child = move || {
                tells.give();
                others.give();
            };
            inner.submit(child, Patience::Policy).unwrap();
            lends.store(true, Ordering::Relaxed);
            to_parent.wait();
        };
        core.submit(parent, Patience::Policy).unwrap();
        while !lent.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        core.submit(move || to_other.wait(), Patience::Policy)
            .unwrap();
        core.wait_idle(None);
        end(&core);
    });
}

/// A refused thread while another submitter waits for the place: it is not left waiting.
#[test]
fn refused_thread_with_a_line() {
    model(3, || {
        let (core, ran) = (Core::new(1, plan(Some(0), EVER)), Ran::new());
        refuse_threads(1);
        let other = {
            let (core, ran) = (Arc::clone(&core), ran.clone());
            thread::spawn(move || core.submit(ran.task(), Patience::Policy).is_ok())
        };
        let here = core.submit(ran.task(), Patience::Policy).is_ok();
        let there = other.join().unwrap();
        core.wait_idle(None);
        assert_eq!(ran.count(), usize::from(here) + usize::from(there));
        end(&core);
    });
}

/// A task that submits another one beyond the bound and waits for it.
fn waits_for_its_child(core: &Arc<Core>) -> impl FnOnce() + Send + 'static {
    let core = Arc::clone(core);
    move || {
        let child = Signal::new();
        let tells = child.clone();
        core.submit(move || tells.give(), Patience::Policy).unwrap();
        child.wait();
    }
}

/// A task waits for a task that it submitted beyond the bound: another worker must come for it.
#[test]
fn a_task_that_waits_for_its_child_gets_a_second_worker() {
    model(2, || {
        let core = Core::new(2, plan(None, EVER));
        core.submit(waits_for_its_child(&core), Patience::Policy)
            .unwrap();
        core.wait_idle(None);
        end(&core);
    });
}

/// The worker that was counted on for a lent task goes to rest: it sees the task, or it is woken.
#[test]
fn a_lent_task_is_seen_by_who_goes_to_rest() {
    model(1, || {
        let core = with_two_workers(2, None);
        core.submit(waits_for_its_child(&core), Patience::Policy)
            .unwrap();
        core.wait_idle(None);
        end(&core);
    });
}

/// Whoever waits for rest is told, also by a worker that was about to go to rest.
#[test]
fn wait_idle_against_finish() {
    model(3, || {
        let (core, ran) = (Core::new(1, plan(Some(0), EVER)), Ran::new());
        submit(&core, &ran);
        core.wait_idle(None);
        assert_eq!(ran.count(), 1);
        end(&core);
    });
}

/// Between two threads that submit there is no order but the pool's: the arriving worker must see
/// both tasks, of which the first one waits for the second.
#[test]
fn an_arriving_worker_sees_what_others_relied_on() {
    model(1, || {
        let core = Core::new(2, plan(Some(0), EVER));
        let (second, submitted) = (Signal::new(), Arc::new(AtomicBool::new(false)));
        let tells = second.clone();
        let other = {
            let (core, submitted) = (Arc::clone(&core), Arc::clone(&submitted));
            thread::spawn(move || {
                core.submit(move || second.wait(), Patience::Policy)
                    .unwrap();
                submitted.store(true, Ordering::Relaxed);
            })
        };
        while !submitted.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        core.submit(move || tells.give(), Patience::Policy).unwrap();
        core.wait_idle(None);
        other.join().unwrap();
        end(&core);
    });
}

/// C3: as for a started worker, so for one that was asleep.
#[test]
fn a_woken_worker_calls_the_next() {
    model(1, || {
        let core = with_two_workers(2, Some(0));
        while core.crew.roll().active() > 0 {
            thread::yield_now();
        }
        let second = Signal::new();
        let tells = second.clone();
        core.submit(move || second.wait(), Patience::Policy)
            .unwrap();
        core.submit(move || tells.give(), Patience::Policy).unwrap();
        core.wait_idle(None);
        end(&core);
    });
}

/// A raised capacity brings the worker for a lent task, which holds no place.
#[test]
fn tune_calls_a_second_worker() {
    model(2, || {
        let core = Core::new(1, plan(None, EVER));
        core.submit(waits_for_its_child(&core), Patience::Policy)
            .unwrap();
        core.tune(2);
        core.wait_idle(None);
        end(&core);
    });
}

/// A batch is on its way back to the queue while the pool is resumed: who resumes it sees no task
/// at all, and two workers are needed.
#[test]
fn what_is_handed_back_is_not_left() {
    model(2, || {
        let core = Core::new(0, plan(None, EVER));
        let (paused, last) = (Signal::new(), Signal::new());
        let (pauses, tells, inner) = (paused.clone(), last.clone(), Arc::clone(&core));
        let first = move || {
            inner.tune(0);
            pauses.give();
        };
        core.submit(first, Patience::Policy).unwrap();
        core.submit(move || last.wait(), Patience::Policy).unwrap();
        core.submit(move || tells.give(), Patience::Policy).unwrap();
        core.tune(1);
        paused.wait();
        core.tune(2);
        core.wait_idle(None);
        end(&core);
    });
}

/// A2: while somebody waits, room is not for those who come later.
#[test]
fn nobody_overtakes_the_line() {
    model(2, || {
        let (core, ran, go) = (Core::new(1, plan(Some(0), EVER)), Ran::new(), Signal::new());
        let waits = go.clone();
        core.submit(move || waits.wait(), Patience::Policy).unwrap();
        let other = {
            let (core, ran) = (Arc::clone(&core), ran.clone());
            thread::spawn(move || submit(&core, &ran))
        };
        while core.admission.waiting() == 0 {
            thread::yield_now();
        }
        go.give();
        if core.submit(ran.task(), Patience::None).is_ok() {
            assert_eq!(core.admission.waiting(), 0, "overtaken");
        }
        other.join().unwrap();
        core.wait_idle(None);
        end(&core);
    });
}

/// L3: what a task submits after somebody began to wait starts after that one's task, also if he
/// is let in meanwhile. There is one worker, so the order in which tasks start can be seen.
fn a_child_does_not_overtake(tuned_by_the_parent: bool) {
    let (core, ran) = (Core::new(1, plan(Some(0), EVER)), Ran::new());
    let (inner, later) = (Arc::clone(&core), ran.clone());
    let parent = move || {
        refuse_threads(u32::MAX);
        let waited = inner.admission.waiting() == 1;
        if tuned_by_the_parent {
            inner.tune(2);
        }
        let child = move || assert!(!waited || later.count() == 1, "overtaken");
        inner.submit(child, Patience::Policy).unwrap();
    };
    core.submit(parent, Patience::Policy).unwrap();
    let tuner = {
        let core = Arc::clone(&core);
        thread::spawn(move || {
            if !tuned_by_the_parent {
                core.tune(2);
            }
        })
    };
    submit(&core, &ran);
    tuner.join().unwrap();
    core.wait_idle(None);
    assert_eq!(core.stats().panicked, 0);
    end(&core);
}

#[test]
fn a_child_does_not_overtake_who_was_let_in() {
    model(2, || a_child_does_not_overtake(true));
}

#[test]
fn a_child_does_not_overtake_who_is_just_let_in() {
    model(2, || a_child_does_not_overtake(false));
}

/// What made the room happens before the submitter goes on that waited for it.
#[test]
fn who_was_let_in_sees_what_made_room() {
    model(3, || {
        let core = Core::new(1, plan(Some(0), EVER));
        let done = Arc::new(AtomicUsize::new(0));
        let does = Arc::clone(&done);
        let submitter = thread::current();
        let first = move || {
            // For something else: the submitter must not take it for the answer.
            submitter.unpark();
            does.store(1, Ordering::Relaxed);
        };
        core.submit(first, Patience::Policy).unwrap();
        core.submit(|| (), Patience::Policy).unwrap();
        assert_eq!(done.load(Ordering::Relaxed), 1);
        end(&core);
    });
}

/// A5: a moment of rest counts though the pool is busy again before anybody has counted it.
#[test]
fn a_moment_of_rest_is_not_missed() {
    model(2, || {
        let (core, ran) = (Core::new(1, plan(None, EVER)), Ran::new());
        let idle = Signal::new();
        submit(&core, &ran);
        let other = {
            let (core, idle) = (Arc::clone(&core), idle.clone());
            thread::spawn(move || {
                // Whoever waits has come, and the pool is at rest.
                if core.admission.places().is_uncounted_rest() {
                    core.submit(move || idle.wait(), Patience::Policy).unwrap();
                }
            })
        };
        core.wait_idle(None);
        idle.give();
        other.join().unwrap();
        end(&core);
    });
}

/// A5: a moment of rest that two threads see is not told to one who comes after it.
#[test]
fn a_moment_of_rest_is_not_told_later() {
    model(2, || {
        let (core, ran) = (Core::new(1, plan(None, EVER)), Ran::new());
        submit(&core, &ran);
        let other = {
            let core = Arc::clone(&core);
            thread::spawn(move || {
                core.admission.hold();
                core.after(core.admission.unhold());
            })
        };
        core.wait_idle(None);
        submit(&core, &ran);
        core.wait_idle(None);
        assert_eq!(ran.count(), 2);
        other.join().unwrap();
        end(&core);
    });
}

/// C5: the pool closes while a task comes in that counts on the last worker, and nobody who waits
/// on the pool tries again.
#[test]
fn release_without_another_thread() {
    model(3, || {
        let core = Core::new(1, plan(Some(1), EVER));
        assert!(submit_and_see(&core));
        refuse_threads(u32::MAX);
        let other = {
            let core = Arc::clone(&core);
            thread::spawn(move || {
                let ran = Signal::new();
                let tells = ran.clone();
                if core.submit(move || tells.give(), Patience::Policy).is_ok() {
                    ran.wait();
                }
            })
        };
        core.close(false);
        other.join().unwrap();
        refuse_threads(0);
        end(&core);
    });
}

/// L6: what `release_now` says it discarded is what was discarded.
#[test]
fn release_now_counts_what_it_discards() {
    model(2, || {
        let (core, ran) = (Core::new(0, plan(None, EVER)), Ran::new());
        (0..3).for_each(|_| submit(&core, &ran));
        core.tune(1);
        let discarded = core.close(true);
        end(&core);
        assert_eq!(core.stats().discarded, discarded as u64);
        assert_eq!(ran.count() + discarded, 3);
    });
}

/// I1: one of two workers expires as it is woken: who claimed it counts it, and nobody else.
#[test]
fn expiry_against_the_wake_of_one_of_two() {
    model(2, || {
        let core = Core::new(2, plan(Some(0), Duration::ZERO));
        let second = Signal::new();
        let tells = second.clone();
        core.submit(move || second.wait(), Patience::Policy)
            .unwrap();
        core.submit(move || tells.give(), Patience::Policy).unwrap();
        core.submit(|| (), Patience::Policy).unwrap();
        core.wait_idle(None);
        end(&core);
        assert_eq!((core.crew.roll().live(), core.crew.roll().active()), (0, 0));
    });
}

/// A submitter that runs its task itself heeds a pause as a worker does (L1).
#[test]
fn a_caller_heeds_the_pause() {
    model(3, || {
        let mut plan = plan(Some(0), EVER);
        plan.overflow = Overflow::CallerRuns;
        let (core, ran) = (Core::new(1, plan), Ran::new());
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

/// P5: there is room for one more all the while, also as another submitter gets in line and out.
#[test]
fn a_refusal_is_honest() {
    model(2, || {
        let (core, ran) = (Core::new(2, plan(Some(0), EVER)), Ran::new());
        let other = {
            let core = Arc::clone(&core);
            thread::spawn(move || {
                let (joined, left) = core.admission.join(Task::new(|| ()));
                assert!(matches!(joined, Joined::Entered(_)));
                core.after(left);
                core.leave(1);
            })
        };
        core.submit(ran.task(), Patience::None).unwrap();
        other.join().unwrap();
        core.wait_idle(None);
        end(&core);
    });
}

/// Somebody waits at a paused pool, for which no thread is to be had when it is resumed.
#[test]
fn refused_thread_for_the_line() {
    model(2, || {
        let core = Core::new(0, plan(Some(0), EVER));
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

/// `release_now` still has a task in hand, with its place, as the last worker finds nothing to do:
/// it stays, and ends when the place is given back.
#[test]
fn release_now_ends_the_last_worker() {
    struct InHand(Arc<Core>, Signal);
    impl Drop for InHand {
        fn drop(&mut self) {
            self.1.give();
            while self.0.crew.roll().active() > 0 {
                thread::yield_now();
            }
        }
    }
    model(2, || {
        let core = Core::new(1, plan(Some(1), EVER));
        let go = Signal::new();
        let in_hand = InHand(Arc::clone(&core), go.clone());
        core.submit(move || go.wait(), Patience::Policy).unwrap();
        while core.running() == 0 {
            thread::yield_now();
        }
        core.submit(move || drop(in_hand), Patience::Policy)
            .unwrap();
        core.close(true);
        while core.crew.roll().live() > 0 {
            thread::yield_now();
        }
        end(&core);
    });
}

/// A task submits another one just as the pool discards its tasks and is opened again: that one
/// runs, is discarded, or is refused.
#[test]
fn reboot_leaves_no_task_at_a_desk() {
    model(3, || {
        let (core, ran) = (Core::new(1, plan(None, EVER)), Ran::new());
        let (inner, child) = (Arc::clone(&core), ran.clone());
        let parent = move || drop(inner.submit(child.task(), Patience::Policy));
        core.submit(parent, Patience::Policy).unwrap();
        core.close(true);
        core.reopen();
        core.wait_idle(None);
        let stats = core.stats();
        assert_eq!(stats.submitted, stats.completed + stats.discarded);
        end(&core);
    });
}
