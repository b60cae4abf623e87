//! Futures that wait in line: they are woken when they have their answer, and may be dropped at any moment.

use super::*;
use crate::engine::submit::offer::{Offer, Withdrawn};
use std::task::{Poll, Waker};

fn waker() -> (Waker, Signal) {
    let woken = Signal::new();
    (Arc::new(Wakes(woken.clone())).into(), woken)
}

fn offer(core: &Arc<Core>, ran: &Ran) -> Offer {
    Offer::new(Arc::clone(core), Task::new(ran.task()))
}

/// Polls to the end, each time with a waker of its own; each poll that is not ready must be followed by a wake.
fn accepted(offer: &mut Offer) -> bool {
    loop {
        let (waker, woken) = waker();
        match offer.poll(&waker) {
            Poll::Ready(submitted) => return submitted.is_ok(),
            Poll::Pending => woken.wait(),
        }
    }
}

/// OF1: a future waits for the one place, and is woken when its task is in.
#[test]
fn a_future_is_let_in() {
    model(3, || {
        let (core, ran) = (Core::new(1, config(Some(0), EVER)), Ran::new());
        submit(&core, &ran);
        assert!(accepted(&mut offer(&core, &ran)));
        core.wait_idle(None);
        assert_eq!(ran.count(), 2);
        end(&core);
    });
}

/// WT2: the same where the capacity is raised, under a lock.
#[test]
fn tune_wakes_a_future() {
    model(3, || {
        let (core, ran) = (Core::new(0, config(Some(0), EVER)), Ran::new());
        let tuner = {
            let core = Arc::clone(&core);
            thread::spawn(move || {
                core.tune(1);
            })
        };
        assert!(accepted(&mut offer(&core, &ran)));
        tuner.join().unwrap();
        core.wait_idle(None);
        assert_eq!(ran.count(), 1);
        end(&core);
    });
}

/// The same where the pool is closed: the task comes back.
#[test]
fn closing_wakes_a_future() {
    model(3, || {
        let (core, ran) = (Core::new(0, config(Some(0), EVER)), Ran::new());
        let closer = {
            let core = Arc::clone(&core);
            thread::spawn(move || {
                core.close(false);
            })
        };
        assert!(!accepted(&mut offer(&core, &ran)));
        closer.join().unwrap();
        assert_eq!((core.admission.waiting(), ran.count()), (0, 0));
        end(&core);
    });
}

/// WT3: of two wakers the later one is woken, if the poll that left it saw no answer.
#[test]
fn the_waker_of_the_last_poll_is_woken() {
    model(3, || {
        let (core, ran) = (Core::new(1, config(Some(0), EVER)), Ran::new());
        submit(&core, &ran);
        let mut offer = offer(&core, &ran);
        let (first, _) = waker();
        if offer.poll(&first).is_pending() {
            assert!(accepted(&mut offer));
        }
        core.wait_idle(None);
        assert_eq!(ran.count(), 2);
        end(&core);
    });
}

/// OF2, WT1: a future that is dropped while it is let in: its task runs or comes back.
#[test]
fn a_future_dropped_against_serve() {
    model(3, || {
        let (core, ran) = (Core::new(1, config(Some(0), EVER)), Ran::new());
        submit(&core, &ran);
        let mut offer = offer(&core, &ran);
        let (waker, _) = waker();
        let accepted = match offer.poll(&waker) {
            Poll::Ready(submitted) => {
                assert!(submitted.is_ok());
                true
            }
            Poll::Pending => match offer.withdraw() {
                Withdrawn::Accepted => true,
                Withdrawn::Back(task) => {
                    drop(task);
                    false
                }
                Withdrawn::Nothing => unreachable!("it waited"),
            },
        };
        drop(offer);
        core.wait_idle(None);
        assert_eq!(ran.count(), 1 + usize::from(accepted));
        assert_eq!(core.admission.waiting(), 0);
        end(&core);
    });
}

/// The same while the pool is closed: the thread that closes it drops nothing of a user's.
#[test]
fn a_future_dropped_against_close() {
    model(3, || {
        let (core, ran) = (Core::new(0, config(Some(0), EVER)), Ran::new());
        let closer = {
            let core = Arc::clone(&core);
            thread::spawn(move || {
                core.close(false);
            })
        };
        let mut offer = offer(&core, &ran);
        let (waker, _) = waker();
        if offer.poll(&waker).is_pending() {
            assert!(matches!(offer.withdraw(), Withdrawn::Back(_)));
        }
        closer.join().unwrap();
        assert_eq!((core.admission.waiting(), ran.count()), (0, 0));
        end(&core);
    });
}

/// A future and a thread wait in one line, the future first: nobody overtakes it.
#[test]
fn a_future_is_not_overtaken_by_a_thread() {
    model(2, || {
        let (core, ran) = (Core::new(0, config(Some(0), EVER)), Ran::new());
        let mut offer = offer(&core, &ran);
        let (waker, woken) = waker();
        assert!(offer.poll(&waker).is_pending());
        let tuner = {
            let core = Arc::clone(&core);
            thread::spawn(move || {
                core.tune(1);
            })
        };
        let before = ran.clone();
        let late = move || assert_eq!(before.count(), 1, "overtaken");
        core.submit_closure(late, Patience::Policy).unwrap();
        woken.wait();
        assert!(accepted(&mut offer));
        tuner.join().unwrap();
        core.wait_idle(None);
        assert_eq!((ran.count(), core.stats().panicked), (1, 0));
        end(&core);
    });
}
