//! Claimables and those that claim them: handles, cancellation, scopes, shares, several pools as one.

use super::*;
use crate::engine::task::intrusive_arc::{HasHolders, Holders, IntrusiveArc};
use crate::pool::Pool;
use crate::pools::multi::{Balance, MultiPool};
use crate::results::handle::{JoinHandle, spawn};
use loom::cell::UnsafeCell;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

fn spawn_in<T: Send + 'static>(
    core: &Arc<Core>,
    task: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    spawn(core, task, Patience::Policy).unwrap()
}

/// A thread that joins gets the result, and finds the place given back.
#[test]
fn completion_against_join() {
    model(3, || {
        let core = Core::new(1, config(Some(0), EVER));
        assert_eq!(spawn_in(&core, || 7).join().unwrap(), 7);
        assert!(core.admission.places().at_rest());
        end(&core);
    });
}

/// After `wait_idle` the handle knows that the task is over.
#[test]
fn rest_comes_after_the_result() {
    model(2, || {
        let core = Core::new(1, config(None, EVER));
        let handle = spawn_in(&core, || 7);
        core.wait_idle(None);
        assert!(handle.is_finished());
        assert_eq!(handle.join().unwrap(), 7);
        end(&core);
    });
}

/// A thread that sees that a task is over sees its result, and may drop it.
#[test]
fn a_finished_result_is_dropped_by_its_handle() {
    model(2, || {
        let core = Core::new(1, config(None, EVER));
        let handle = spawn_in(&core, || 7);
        while !handle.is_finished() {
            thread::yield_now();
        }
        drop(handle);
        end(&core);
    });
}

/// RC1: the last holder drops the value, after all that the others did with it.
#[test]
fn the_last_holder_drops_the_value() {
    struct Value {
        holders: Holders,
        part: UnsafeCell<u32>,
        drops: Arc<AtomicUsize>,
    }
    // SAFETY: they are a part of it, and new.
    unsafe impl HasHolders for Value {
        fn holders(&self) -> &Holders {
            &self.holders
        }
    }
    // SAFETY: `part` is only read while it is shared.
    unsafe impl Sync for Value {}
    impl Drop for Value {
        fn drop(&mut self) {
            // SAFETY: no other holder has it: loom would report one.
            self.part.with_mut(|part| unsafe { *part = 0 });
            self.drops.fetch_add(1, Ordering::Relaxed);
        }
    }
    fn uses(held: &IntrusiveArc<Value>) {
        // SAFETY: no holder writes it before the last one is gone.
        held.part.with(|part| assert_eq!(unsafe { *part }, 7));
    }
    model(3, || {
        let drops = Arc::new(AtomicUsize::new(0));
        let (one, other) = IntrusiveArc::pair(|| Value {
            holders: Holders::two(),
            part: UnsafeCell::new(7),
            drops: Arc::clone(&drops),
        });
        let third = one.clone();
        let threads = [other, third].map(|held| thread::spawn(move || uses(&held)));
        uses(&one);
        drop(one);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}

/// A future that awaits the task is woken, by the waker that it left last.
#[test]
fn completion_against_poll() {
    model(2, || {
        let core = Core::new(1, config(None, EVER));
        let mut handle = pin!(spawn_in(&core, || 7));
        let mut polls = 0;
        loop {
            polls += 1;
            let signal = Signal::new();
            let waker = Waker::from(std::sync::Arc::new(Wakes(signal.clone())));
            match handle.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(result) => break assert_eq!(result.unwrap(), 7),
                // Once more with another waker.
                Poll::Pending if polls == 1 => {}
                Poll::Pending => signal.wait(),
            }
        }
        end(&core);
    });
}

/// A task runs or was cancelled, never both; its place is free either way.
#[test]
fn cancel_against_start() {
    model(3, || {
        let (core, ran) = (Core::new(1, config(Some(1), EVER)), Ran::new());
        let handle = spawn_in(&core, ran.task());
        let cancelled = handle.cancel();
        if cancelled {
            assert_eq!(ran.count(), 0);
        }
        assert_eq!(handle.join().is_err(), cancelled);
        assert_eq!(ran.count(), usize::from(!cancelled));
        assert!(core.admission.places().at_rest());
        end(&core);
    });
}

/// A task that is cancelled as it is discarded counts as the one or the other.
#[test]
fn cancel_against_release_now() {
    model(2, || {
        let core = Core::new(0, config(Some(1), EVER));
        let handle = spawn_in(&core, || ());
        let closing = Arc::clone(&core);
        let closer = thread::spawn(move || closing.close(true));
        let cancelled = handle.cancel();
        assert!(handle.join().unwrap_err().is_cancelled());
        let discarded = closer.join().unwrap();
        assert_eq!(discarded + usize::from(cancelled), 1);
        end(&core);
    });
}

/// A panic goes to the handle or to the pool, never to both and never to none.
#[test]
fn a_panic_has_one_place() {
    model(3, || {
        let told = Arc::new(AtomicUsize::new(0));
        let mut config = config(None, EVER);
        let telling = Arc::clone(&told);
        config.hooks.panics.shared = Some(Arc::new(move |_| {
            telling.fetch_add(1, Ordering::SeqCst);
        }));
        let core = Core::new(1, config);
        let handle = spawn_in(&core, || resume_unwind(Box::new(7)));
        let seen = handle.is_finished();
        drop::<JoinHandle<()>>(handle);
        end(&core);
        let told = told.load(Ordering::SeqCst);
        assert!(told == 0 || told == 1 && !seen);
        assert_eq!(core.stats().panicked, 1);
    });
}

/// The result is dropped once, by the handle or by the worker.
#[test]
fn a_result_that_nobody_wants_is_dropped_once() {
    struct Drops(Arc<AtomicUsize>);
    impl Drop for Drops {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    model(3, || {
        let core = Core::new(1, config(None, EVER));
        let drops = Arc::new(AtomicUsize::new(0));
        let result = Drops(Arc::clone(&drops));
        drop(spawn_in(&core, move || result));
        end(&core);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    });
}

/// A task waits for one that has not started, in a pool with one worker; another thread tries to cancel that one.
#[test]
fn join_in_a_task_against_cancel() {
    model(2, || {
        let core = Core::new(1, config(Some(0), EVER));
        let inner = Arc::clone(&core);
        let outer = spawn_in(&core, move || spawn_in(&inner, || 7).join().unwrap());
        assert_eq!(outer.join().unwrap(), 7);
        assert!(core.admission.places().at_rest());
        end(&core);
    });
}

/// A scope does not end before its last task, and does end then.
#[test]
fn scope_exit_against_the_last_task() {
    model(2, || {
        let pool = Pool::from_core(Core::new(1, config(None, EVER)));
        let mut done = [false; 2];
        let [first, second] = &mut done;
        pool.scope(|s| {
            s.submit(|| *first = true);
            s.submit(|| *second = true);
        });
        assert_eq!(done, [true; 2]);
    });
}

/// A scope in a task, whose tasks another worker may take.
#[test]
fn scope_in_a_task() {
    model(1, || {
        let core = Core::new(2, config(None, EVER));
        let pool = Pool::from_core(Arc::clone(&core));
        let handle = pool.handle();
        let outer = spawn_in(&core, move || {
            let mut done = false;
            handle.scope(|s| s.submit(|| done = true));
            done
        });
        assert!(outer.join().unwrap());
    });
}

/// The first error of a group cancels the tasks that have not started.
#[test]
fn a_group_ends_with_its_first_error() {
    model(2, || {
        let (core, ran) = (Core::new(1, config(None, EVER)), Ran::new());
        let pool = Pool::from_core(core);
        let group = pool.group();
        let task = ran.task();
        group.submit(|| Err(7)).ok().unwrap();
        group.submit(move || Ok(task())).ok().unwrap();
        assert_eq!(group.wait().unwrap_err().into_task(), Some(7));
        assert_eq!(ran.count(), 0);
    });
}

/// A task of a share is cancelled as its permit gets to a worker.
#[test]
fn a_permit_against_cancel() {
    model(2, || {
        let (core, ran) = (Core::new(1, config(Some(0), EVER)), Ran::new());
        let pool = Pool::from_core(Arc::clone(&core));
        let serial = pool.serial();
        let handle = serial.spawn(ran.task()).ok().unwrap();
        let cancelled = handle.cancel();
        assert_eq!(handle.join().is_err(), cancelled);
        assert_eq!(ran.count(), usize::from(!cancelled));
        serial.wait_idle();
        core.wait_idle(None);
    });
}

/// Two tasks of a share of one, handed in as the first one ends: the second is not left.
#[test]
fn a_share_goes_on_to_its_next_task() {
    model(2, || {
        let (core, ran) = (Core::new(1, config(Some(0), EVER)), Ran::new());
        let pool = Pool::from_core(core);
        let serial = pool.serial();
        serial.submit(ran.task()).ok().unwrap();
        serial.submit(ran.task()).ok().unwrap();
        serial.wait_idle();
        assert_eq!(ran.count(), 2);
    });
}

/// The caller of a map parks as a result is stored.
#[test]
fn a_map_wakes_its_caller() {
    model(2, || {
        let pool = Pool::from_core(Core::new(1, config(None, EVER)));
        assert!(pool.map(0..2, |n| n + 1).eq(1..3));
    });
}

/// F1: one of two pools gets room just as a submitter joins the line.
#[test]
fn a_member_takes_who_waits_at_the_lead() {
    model(1, || {
        let pools = Arc::new(MultiPool::new(2, 1, Balance::RoundRobin));
        let go = [Signal::new(), Signal::new()];
        for signal in &go {
            let signal = signal.clone();
            pools.submit(move || signal.wait()).ok().unwrap();
        }
        let (waiting, ran) = (Arc::clone(&pools), Ran::new());
        let task = ran.task();
        let submitter = thread::spawn(move || waiting.submit(task).ok().unwrap());
        // The second pool, which is not the lead.
        go[1].give();
        submitter.join().unwrap();
        go[0].give();
        pools.wait_idle();
        assert_eq!(ran.count(), 1);
        pools.release_timeout(Duration::from_secs(1)).unwrap();
    });
}
