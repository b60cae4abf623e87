//! A worker that is needed is woken or started.

use super::*;

/// A task wakes or starts a worker, whatever that worker was about to do.
#[test]
fn idle_and_wake() {
    model(3, || {
        let (core, ran) = (Core::new(1, config(None, EVER)), Ran::new());
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
        let (core, ran) = (Core::new(2, config(Some(0), EVER)), Ran::new());
        submit(&core, &ran);
        submit(&core, &ran);
        core.wait_idle(None);
        assert_eq!(ran.count(), 2);
        end(&core);
    });
}

/// C3: the second of two tasks comes while the first worker is on its way up, and the first waits
/// for the second.
#[test]
fn an_arriving_worker_calls_the_next() {
    model(1, || {
        let core = Core::new(2, config(Some(0), EVER));
        let second = Signal::new();
        let tells = second.clone();
        core.submit_closure(move || second.wait(), Patience::Policy)
            .unwrap();
        core.submit_closure(move || tells.give(), Patience::Policy)
            .unwrap();
        core.wait_idle(None);
        end(&core);
    });
}

/// A thief between two local queues keeps the pool from being at rest.
#[test]
fn a_stolen_task_is_not_at_rest() {
    model(2, || {
        let (core, ran) = (Core::new(2, config(None, EVER)), Ran::new());
        let (inner, child) = (Arc::clone(&core), ran.clone());
        let parent = move || {
            inner
                .submit_closure(child.task(), Patience::Policy)
                .unwrap()
        };
        core.submit_closure(parent, Patience::Policy).unwrap();
        core.wait_idle(None);
        assert_eq!(ran.count(), 1);
        end(&core);
    });
}

/// A pool with two workers on their way up.
fn with_two_workers(capacity: usize, backlog: Option<usize>) -> Arc<Core> {
    let mut config = config(backlog, EVER);
    config.min_workers = 2;
    let core = Core::new(capacity, config);
    core.threads.fill(&core).unwrap();
    core
}

/// L4: a worker that lent a task relied on a free worker, which takes another task that waits as well.
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
            inner.submit_closure(child, Patience::Policy).unwrap();
            lends.store(true, Ordering::Relaxed);
            to_parent.wait();
        };
        core.submit_closure(parent, Patience::Policy).unwrap();
        while !lent.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        core.submit_closure(move || to_other.wait(), Patience::Policy)
            .unwrap();
        core.wait_idle(None);
        end(&core);
    });
}

/// A task that submits another one beyond the bound and waits for it.
fn waits_for_its_child(core: &Arc<Core>) -> impl FnOnce() + Send + 'static {
    let core = Arc::clone(core);
    move || {
        let child = Signal::new();
        let tells = child.clone();
        core.submit_closure(move || tells.give(), Patience::Policy)
            .unwrap();
        child.wait();
    }
}

/// A task waits for a task that it submitted beyond the bound: another worker must come for it.
#[test]
fn a_task_that_waits_for_its_child_gets_a_second_worker() {
    model(2, || {
        let core = Core::new(2, config(None, EVER));
        core.submit_closure(waits_for_its_child(&core), Patience::Policy)
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
        core.submit_closure(waits_for_its_child(&core), Patience::Policy)
            .unwrap();
        core.wait_idle(None);
        end(&core);
    });
}

/// Between two threads that submit there is no order but the pool's: the arriving worker must see
/// both tasks, of which the first one waits for the second.
#[test]
fn an_arriving_worker_sees_what_others_relied_on() {
    model(1, || {
        let core = Core::new(2, config(Some(0), EVER));
        let (second, submitted) = (Signal::new(), Arc::new(AtomicBool::new(false)));
        let tells = second.clone();
        let other = {
            let (core, submitted) = (Arc::clone(&core), Arc::clone(&submitted));
            thread::spawn(move || {
                core.submit_closure(move || second.wait(), Patience::Policy)
                    .unwrap();
                submitted.store(true, Ordering::Relaxed);
            })
        };
        while !submitted.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        core.submit_closure(move || tells.give(), Patience::Policy)
            .unwrap();
        core.wait_idle(None);
        other.join().unwrap();
        end(&core);
    });
}

/// C3: the same for a worker that was asleep.
#[test]
fn a_woken_worker_calls_the_next() {
    model(1, || {
        let core = with_two_workers(2, Some(0));
        while core.threads.counts().active() > 0 {
            thread::yield_now();
        }
        let second = Signal::new();
        let tells = second.clone();
        core.submit_closure(move || second.wait(), Patience::Policy)
            .unwrap();
        core.submit_closure(move || tells.give(), Patience::Policy)
            .unwrap();
        core.wait_idle(None);
        end(&core);
    });
}

/// A raised capacity brings the worker for a lent task, which holds no place.
#[test]
fn tune_calls_a_second_worker() {
    model(2, || {
        let core = Core::new(1, config(None, EVER));
        core.submit_closure(waits_for_its_child(&core), Patience::Policy)
            .unwrap();
        core.tune(2);
        core.wait_idle(None);
        end(&core);
    });
}

/// A batch is on its way back to the queue while the pool is resumed: the thread that resumes it sees no task at all,
/// and two workers are needed.
#[test]
fn what_is_handed_back_is_not_left() {
    model(2, || {
        let core = Core::new(0, config(None, EVER));
        let (paused, last) = (Signal::new(), Signal::new());
        let (pauses, tells, inner) = (paused.clone(), last.clone(), Arc::clone(&core));
        let first = move || {
            inner.tune(0);
            pauses.give();
        };
        core.submit_closure(first, Patience::Policy).unwrap();
        core.submit_closure(move || last.wait(), Patience::Policy)
            .unwrap();
        core.submit_closure(move || tells.give(), Patience::Policy)
            .unwrap();
        core.tune(1);
        paused.wait();
        core.tune(2);
        core.wait_idle(None);
        end(&core);
    });
}
