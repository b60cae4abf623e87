//! Tasks that lend their places: LE1 to LE5.

use super::*;
use crate::blocking;
use crate::blocking::lendable;

/// Counts how many tasks run at once that do not lend.
#[derive(Clone)]
struct Inside(Arc<AtomicUsize>, usize);

impl Inside {
    fn new(most: usize) -> Inside {
        Inside(Arc::new(AtomicUsize::new(0)), most)
    }

    fn enter(&self) {
        assert!(self.0.fetch_add(1, Ordering::SeqCst) < self.1);
    }

    fn leave(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A task that lends its place while it waits for `signal`.
fn lender(core: &Arc<Core>, inside: &Inside, signal: &Signal) {
    let (inside, signal) = (inside.clone(), signal.clone());
    let task = move || {
        inside.enter();
        inside.leave();
        blocking(|| signal.wait());
        inside.enter();
        inside.leave();
    };
    core.submit_closure(task, Patience::Policy).unwrap();
}

/// A task that gives `signal`.
fn giver(core: &Arc<Core>, inside: &Inside, signal: &Signal) {
    let (inside, signal) = (inside.clone(), signal.clone());
    let task = move || {
        inside.enter();
        signal.give();
        thread::yield_now();
        inside.leave();
    };
    core.submit_closure(task, Patience::Policy).unwrap();
}

/// LE2, LE3: a task blocks for what a queued one does, at capacity 1.
#[test]
fn a_queued_task_runs_on_the_place_of_one_that_blocks() {
    model(2, || {
        let core = Core::new(1, config(None, EVER));
        let (inside, signal) = (Inside::new(1), Signal::new());
        lender(&core, &inside, &signal);
        giver(&core, &inside, &signal);
        core.wait_idle(None);
        assert_eq!(core.threads.lent(), 0);
        end(&core);
    });
}

/// LE2: the same for a task whose submitter waits for room.
#[test]
fn a_submitter_is_let_in_when_a_place_is_lent() {
    model(2, || {
        let core = Core::new(1, config(Some(0), EVER));
        let (inside, signal) = (Inside::new(1), Signal::new());
        lender(&core, &inside, &signal);
        giver(&core, &inside, &signal);
        core.wait_idle(None);
        end(&core);
    });
}

/// LE3: two tasks return at once, and none is left waiting.
#[test]
fn two_return_in_turn() {
    model(1, || {
        let core = Core::new(1, config(None, EVER));
        let (inside, one, other) = (Inside::new(1), Signal::new(), Signal::new());
        lender(&core, &inside, &one);
        lender(&core, &inside, &other);
        one.give();
        giver(&core, &inside, &other);
        core.wait_idle(None);
        assert_eq!(core.threads.lent(), 0);
        end(&core);
    });
}

/// LE4: a pause lets the task that lent go on, and nothing else starts.
#[test]
fn a_pause_against_a_return() {
    model(1, || {
        let (core, ran) = (Core::new(1, config(None, EVER)), Ran::new());
        let (inside, signal) = (Inside::new(1), Signal::new());
        lender(&core, &inside, &signal);
        let tuner = {
            let core = Arc::clone(&core);
            thread::spawn(move || {
                core.tune(0);
                core.tune(1);
            })
        };
        signal.give();
        submit(&core, &ran);
        tuner.join().unwrap();
        core.wait_idle(None);
        assert_eq!(ran.count(), 1);
        end(&core);
    });
}

/// LE2: a release waits for the task that lent, and for the one that it waits for.
#[test]
fn a_release_against_a_return() {
    model(2, || {
        let core = Core::new(1, config(None, EVER));
        let (inside, signal) = (Inside::new(1), Signal::new());
        lender(&core, &inside, &signal);
        giver(&core, &inside, &signal);
        end(&core);
        assert_eq!(core.threads.lent(), 0);
    });
}

/// LE5: the thread of the stand-in is refused: the task blocks as it did, and what it lent to is run later.
#[test]
fn a_refused_stand_in() {
    model(2, || {
        let (core, ran) = (Core::new(1, config(None, EVER)), Ran::new());
        let (inside, signal) = (Inside::new(1), Signal::new());
        let begun = Signal::new();
        let tells = begun.clone();
        core.submit_closure(move || tells.give(), Patience::Policy)
            .unwrap();
        begun.wait();
        lender(&core, &inside, &signal);
        refuse_threads(1);
        submit(&core, &ran);
        signal.give();
        core.wait_idle(None);
        assert_eq!(ran.count(), 1);
        end(&core);
    });
}

/// Another thread lends the place as the task ends.
#[test]
fn lent_by_another_thread() {
    model(2, || {
        let core = Core::new(1, config(None, EVER));
        let (begun, place) = (Signal::new(), Arc::new(std::sync::Mutex::new(None)));
        let (tells, leaves) = (begun.clone(), Arc::clone(&place));
        let task = move || {
            let lends = lendable().unwrap();
            *leaves.lock().unwrap() = Some(lends.lender());
            tells.give();
            drop(lends);
        };
        core.submit_closure(task, Patience::Policy).unwrap();
        begun.wait();
        let lender = place.lock().unwrap().take().unwrap();
        lender.lend();
        core.wait_idle(None);
        assert_eq!(core.threads.lent(), 0);
        drop(lender);
        end(&core);
    });
}
