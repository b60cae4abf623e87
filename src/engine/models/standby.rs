//! Wakes that are deferred on a single processor.

use super::*;

/// A pool whose workers are on standby when they rest.
fn single(capacity: usize) -> Arc<Core> {
    let mut config = config(Some(0), EVER);
    config.processors = Processors::SINGLE;
    let core = Core::new(capacity, config);
    core.admission.remember_line();
    core
}

/// Y6: a pool whose submitter and workers were seen on one of two processors.
fn crowded(capacity: usize) -> Arc<Core> {
    let core = Core::new(capacity, config(Some(0), EVER));
    core.admission.remember_line();
    core.crowd.set(true);
    core
}

/// Two tasks fill the pool; the third ends only when its submitter, which waited for room, has gone on.
fn let_in_beside_a_long_task(core: &Arc<Core>) {
    let returned = Signal::new();
    let waits = returned.clone();
    core.submit_closure(|| (), Patience::Policy).unwrap();
    core.submit_closure(|| (), Patience::Policy).unwrap();
    core.submit_closure(move || waits.wait(), Patience::Policy)
        .unwrap();
    returned.give();
    core.wait_idle(None);
    end(core);
}

/// Y1: the task of a submitter that then waits elsewhere runs, whether or not a worker is on standby.
#[test]
fn a_deferred_wake_is_made_up_for() {
    model(3, || {
        let core = single(2);
        assert!(submit_and_see(&core));
        assert!(submit_and_see(&core));
        end(&core);
    });
}

/// Y2: a worker lets a submitter in and then runs its task, which waits for it.
#[test]
fn who_was_let_in_is_woken_beside_a_long_task() {
    model(1, || {
        let_in_beside_a_long_task(&single(2));
    });
}

/// Y3: the worker on standby is retired as other threads count on it.
#[test]
fn whoever_ends_a_standby_makes_up_for_it() {
    model(2, || {
        let core = single(2);
        assert!(submit_and_see(&core));
        let tuner = {
            let core = Arc::clone(&core);
            thread::spawn(move || {
                core.tune(1);
            })
        };
        assert!(submit_and_see(&core));
        tuner.join().unwrap();
        end(&core);
    });
}

/// Y3, Y4: the pool is closed while wakes are deferred.
#[test]
fn a_release_makes_up_for_deferred_wakes() {
    model(1, || {
        let (core, ran) = (single(2), Ran::new());
        assert!(submit_and_see(&core));
        submit(&core, &ran);
        submit(&core, &ran);
        end(&core);
        assert_eq!(ran.count(), 2);
    });
}

/// Y6: the submitter and the workers are seen apart while wakes are deferred.
#[test]
fn deferred_wakes_are_made_up_for_once_the_pool_is_not_crowded() {
    model(2, || {
        let core = crowded(3);
        assert!(submit_and_see(&core));
        let watcher = {
            let core = Arc::clone(&core);
            thread::spawn(move || core.crowd.set(false))
        };
        assert!(submit_and_see(&core));
        watcher.join().unwrap();
        end(&core);
    });
}

/// Y2, Y6: a worker lets a submitter in and then runs its task, which waits for it.
#[test]
fn who_was_let_in_is_woken_beside_a_long_task_where_threads_spin() {
    model(1, || {
        let_in_beside_a_long_task(&crowded(2));
    });
}
