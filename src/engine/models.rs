//! Loom models of the whole engine: each would deadlock, or miss a task, if the protocol lost one.
//!
//! `RUSTFLAGS="--cfg anthill_loom" cargo test --release --lib models`. docs/testing.md names for each
//! ordering, fence and re-check the model that fails without it.

use super::submit::Patience;
use super::{Core, Hooks, Overflow, Plan};
use crate::error::SubmitErrorKind;
use crate::sync::{Arc, AtomicUsize, Ordering, refuse_threads};
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
            ran.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
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
        let second = Arc::new(loom::sync::Notify::new());
        let tells = Arc::clone(&second);
        core.submit(move || second.wait(), Patience::Policy)
            .unwrap();
        core.submit(move || tells.notify(), Patience::Policy)
            .unwrap();
        core.wait_idle(None);
        end(&core);
    });
}

/// Submits a task and waits for it without the pool's help; false if it was refused.
fn submit_and_see(core: &Arc<Core>) -> bool {
    let ran = Arc::new(loom::sync::Notify::new());
    let tells = Arc::clone(&ran);
    match core.submit(move || tells.notify(), Patience::Policy) {
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

/// L4: who lent a task relied on a free worker, which takes another one that waits as well.
#[test]
fn a_lent_task_is_passed_on() {
    model(1, || {
        let core = Core::new(3, plan(None, EVER));
        let notify = || Arc::new(loom::sync::Notify::new());
        let (to_parent, to_other) = (notify(), notify());
        let (inner, parents, others) = (
            Arc::clone(&core),
            Arc::clone(&to_parent),
            Arc::clone(&to_other),
        );
        let parent = move || {
            let tells = Arc::clone(&parents);
            let child = move || {
                tells.notify();
                others.notify();
            };
            inner.submit(child, Patience::Policy).unwrap();
            parents.wait();
        };
        core.submit(parent, Patience::Policy).unwrap();
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

/// A task waits for a task that it submitted beyond the bound: another worker must come for it.
#[test]
fn a_task_that_waits_for_its_child_gets_a_second_worker() {
    model(3, || {
        let core = Core::new(2, plan(None, EVER));
        let child = Arc::new(loom::sync::Notify::new());
        let (inner, waits) = (Arc::clone(&core), Arc::clone(&child));
        let parent = move || {
            let tells = Arc::clone(&waits);
            inner
                .submit(move || tells.notify(), Patience::Policy)
                .unwrap();
            waits.wait();
        };
        core.submit(parent, Patience::Policy).unwrap();
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
