//! Room, the line of submitters that wait for it, and rest.

use super::*;
use crate::engine::admission::Load;
use crate::engine::admission::waiter::Waiter;

/// Two submitters for one place: one waits, and is served.
#[test]
fn admission() {
    model(3, || {
        let (core, ran) = (Core::new(1, config(Some(0), EVER)), Ran::new());
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
        let (core, ran) = (Core::new(1, config(Some(0), EVER)), Ran::new());
        submit(&core, &ran);
        let timeout = Patience::Until(crate::sync::deadline_after(Duration::ZERO));
        let accepted = match core.submit_closure(ran.task(), timeout) {
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

/// A submitter waits at a paused pool, and another thread resumes it.
#[test]
fn tune_lets_the_line_in() {
    model(3, || {
        let (core, ran) = (Core::new(0, config(Some(0), EVER)), Ran::new());
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

/// A thread that waits for rest is told, also by a worker that was about to go to rest.
#[test]
fn wait_idle_against_finish() {
    model(3, || {
        let (core, ran) = (Core::new(1, config(Some(0), EVER)), Ran::new());
        submit(&core, &ran);
        core.wait_idle(None);
        assert_eq!(ran.count(), 1);
        end(&core);
    });
}

/// A2: while a submitter waits, room is not for those that come later.
#[test]
fn nobody_overtakes_the_line() {
    model(2, || {
        let (core, ran, go) = (
            Core::new(1, config(Some(0), EVER)),
            Ran::new(),
            Signal::new(),
        );
        let waits = go.clone();
        core.submit_closure(move || waits.wait(), Patience::Policy)
            .unwrap();
        let other = {
            let (core, ran) = (Arc::clone(&core), ran.clone());
            thread::spawn(move || submit(&core, &ran))
        };
        while core.admission.waiting() == 0 {
            thread::yield_now();
        }
        go.give();
        if core.submit_closure(ran.task(), Patience::None).is_ok() {
            assert_eq!(core.admission.waiting(), 0, "overtaken");
        }
        other.join().unwrap();
        core.wait_idle(None);
        end(&core);
    });
}

/// L3: what a task submits after a submitter began to wait starts after that submitter's task, also if it is let in
/// meanwhile. There is one worker, so the order in which tasks start can be seen.
fn a_child_does_not_overtake(tuned_by_the_parent: bool) {
    let (core, ran) = (Core::new(1, config(Some(0), EVER)), Ran::new());
    let (inner, later) = (Arc::clone(&core), ran.clone());
    let parent = move || {
        refuse_threads(u32::MAX);
        let waited = inner.admission.waiting() == 1;
        if tuned_by_the_parent {
            inner.tune(2);
        }
        let child = move || assert!(!waited || later.count() == 1, "overtaken");
        inner.submit_closure(child, Patience::Policy).unwrap();
    };
    core.submit_closure(parent, Patience::Policy).unwrap();
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

/// What made the room happens before the submitter that waited for it goes on.
#[test]
fn who_was_let_in_sees_what_made_room() {
    model(3, || {
        let core = Core::new(1, config(Some(0), EVER));
        let done = Arc::new(AtomicUsize::new(0));
        let does = Arc::clone(&done);
        let submitter = thread::current();
        let first = move || {
            // For something else: the submitter must not take it for the answer.
            submitter.unpark();
            does.store(1, Ordering::Relaxed);
        };
        core.submit_closure(first, Patience::Policy).unwrap();
        core.submit_closure(|| (), Patience::Policy).unwrap();
        assert_eq!(done.load(Ordering::Relaxed), 1);
        end(&core);
    });
}

/// A5: a moment of rest counts though the pool is busy again before any thread has counted it.
#[test]
fn a_moment_of_rest_is_not_missed() {
    model(2, || {
        let (core, ran) = (Core::new(1, config(None, EVER)), Ran::new());
        let idle = Signal::new();
        submit(&core, &ran);
        let other = {
            let (core, idle) = (Arc::clone(&core), idle.clone());
            thread::spawn(move || {
                // A thread waits for rest, and the pool is at rest.
                if core.admission.places().is_uncounted_rest() {
                    core.submit_closure(move || idle.wait(), Patience::Policy)
                        .unwrap();
                }
            })
        };
        core.wait_idle(None);
        idle.give();
        other.join().unwrap();
        end(&core);
    });
}

/// A5: a moment of rest that two threads see is not told to a thread that comes after it.
#[test]
fn a_moment_of_rest_is_not_told_later() {
    model(2, || {
        let (core, ran) = (Core::new(1, config(None, EVER)), Ran::new());
        submit(&core, &ran);
        let other = {
            let core = Arc::clone(&core);
            thread::spawn(move || {
                core.admission.hold();
                core.follow_up(core.admission.unhold());
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

/// P5: there is room for one more all the time, also as another submitter joins the line and leaves it.
#[test]
fn a_refusal_is_honest() {
    model(2, || {
        let (core, ran) = (Core::new(2, config(Some(0), EVER)), Ran::new());
        let other = {
            let core = Arc::clone(&core);
            thread::spawn(move || {
                let load = Load::one(Task::new(|| ()));
                let (joined, left) = (core.admission).join(load, (), Waiter::of_this_thread);
                assert!(matches!(joined, Joined::Entered(_)));
                core.follow_up(left);
                core.leave(1);
            })
        };
        core.submit_closure(ran.task(), Patience::None).unwrap();
        other.join().unwrap();
        core.wait_idle(None);
        end(&core);
    });
}
