//! Shares: how many permits a sub-queue sends, when a permit ends, and the end of the pool.

use super::*;
use crate::pool::Pool;
use crate::pools::limit::Limited;

fn pool_of(capacity: usize, backlog: Option<usize>) -> (Arc<Core>, Pool) {
    let core = Core::new(capacity, config(backlog, EVER));
    (Arc::clone(&core), Pool::from_core(core))
}

fn submit_to(share: &Limited, ran: &Ran) -> bool {
    share.submit(ran.task()).is_ok()
}

/// S3, P2: a task has one permit, also where there is a slot for a second one as the worker gets to the first; and
/// one worker runs it.
#[test]
fn a_task_of_a_share_has_one_permit() {
    model(2, || {
        let (core, pool) = pool_of(2, None);
        let limited = pool.limit(2);
        limited.spawn(|| ()).ok().unwrap().join().unwrap();
        let stats = core.stats();
        assert_eq!((stats.submitted, stats.cancelled), (1, 0));
        assert_eq!(stats.workers_started, 1);
    });
}

/// S5, P2: a thread that waited for the share finds its worker free.
#[test]
fn a_share_at_rest_leaves_its_worker_free() {
    model(2, || {
        let (core, pool) = pool_of(2, None);
        let (serial, ran) = (pool.serial(), Ran::new());
        for _ in 0..2 {
            assert!(submit_to(&serial, &ran));
            serial.wait_idle();
            assert_eq!(core.admission.places().held(), 0);
        }
        assert_eq!((ran.count(), core.stats().workers_started), (2, 1));
    });
}

/// S5: the next task of a serial waits for the worker of the last one.
#[test]
fn a_serial_keeps_one_worker() {
    model(2, || {
        let (core, pool) = pool_of(2, None);
        let (serial, ran) = (pool.serial(), Ran::new());
        assert!(submit_to(&serial, &ran) && submit_to(&serial, &ran));
        serial.wait_idle();
        assert_eq!((ran.count(), core.stats().workers_started), (2, 1));
    });
}

/// S5: the pool is not at rest between a permit that ended and the next one, and has room in the share once it is.
#[test]
fn a_pool_is_not_at_rest_between_two_permits() {
    model(2, || {
        let (core, pool) = pool_of(1, None);
        let (serial, ran) = (pool.serial(), Ran::new());
        assert!(submit_to(&serial, &ran) && submit_to(&serial, &ran));
        core.wait_idle(None);
        assert_eq!(ran.count(), 2);
        assert!(serial.wait_idle_timeout(Duration::ZERO));
    });
}

/// S6: a submitter that was accepted relies on the permit that another one is about to hand in.
#[test]
fn a_pool_is_not_at_rest_before_a_permit_is_in() {
    model(2, || {
        let (core, pool) = pool_of(1, None);
        let (serial, ran) = (pool.serial(), Ran::new());
        let other = {
            let (serial, other) = (serial.clone(), Ran::new());
            thread::spawn(move || assert!(submit_to(&serial, &other)))
        };
        assert!(submit_to(&serial, &ran));
        core.wait_idle(None);
        assert_eq!(ran.count(), 1);
        other.join().unwrap();
    });
}

/// S6: a submitter that was let in finds that the pool is not at rest.
#[test]
fn a_pool_is_not_at_rest_before_who_was_let_in_has_a_permit() {
    model(2, || {
        let (core, pool) = pool_of(1, None);
        let (paused, ran) = (pool.limit(0).backlog(0), Ran::new());
        let tuner = {
            let paused = paused.clone();
            thread::spawn(move || {
                while paused.waiting() == 0 {
                    thread::yield_now();
                }
                paused.tune(1);
            })
        };
        assert!(submit_to(&paused, &ran));
        core.wait_idle(None);
        assert_eq!(ran.count(), 1);
        tuner.join().unwrap();
    });
}

/// N4: what a share accepts as the pool ends has run once the threads are joined.
#[test]
fn a_pool_ends_after_what_a_share_accepted() {
    model(2, || {
        let (core, pool) = pool_of(1, None);
        let (serial, ran) = (pool.serial(), Ran::new());
        let submitter = {
            let (serial, ran) = (serial.clone(), ran.clone());
            thread::spawn(move || submit_to(&serial, &ran))
        };
        drop(pool);
        let threads = || (core.stats().workers_started, core.workers());
        let ended = (ran.count(), threads());
        let accepted = submitter.join().unwrap();
        assert_eq!(ended, (usize::from(accepted), threads()));
        assert_eq!(core.workers(), 0);
    });
}

/// N4: the last to come to rest is the share, whose task is cancelled.
#[test]
fn a_pool_ends_with_a_cancelled_task_of_a_share() {
    model(1, || {
        let (_, pool) = pool_of(1, None);
        let serial = pool.serial();
        serial.tune(0);
        let handle = serial.spawn(|| ()).ok().unwrap();
        let canceller = thread::spawn(move || handle.cancel());
        drop(pool);
        canceller.join().unwrap();
        assert!(serial.wait_idle_timeout(Duration::ZERO));
    });
}

/// S7: a task is cancelled as its permit comes in, in a pool that closes, whose worker stayed for the place.
#[test]
fn a_permit_taken_back_as_it_comes_in_keeps_no_worker() {
    model(2, || {
        let (core, pool) = pool_of(1, None);
        let serial = pool.serial();
        serial.tune(0);
        let handle = serial.spawn(|| ()).ok().unwrap();
        let canceller = thread::spawn(move || {
            while core.admission.places().held() == 0 && !handle.is_finished() {
                thread::yield_now();
            }
            handle.cancel();
        });
        drop(pool);
        canceller.join().unwrap();
    });
}

/// S6, P17: the pool ends as a share has tasks, and the system refuses the thread: the thread that ends the pool
/// tries again.
#[test]
fn a_pool_ends_after_a_share_that_was_refused_a_thread() {
    model(2, || {
        let core = Core::new(1, config(None, Duration::ZERO));
        let pool = Pool::from_core(Arc::clone(&core));
        let (serial, ran) = (pool.serial(), Ran::new());
        serial.tune(0);
        assert!(submit_to(&serial, &ran));
        // The worker that was started to make sure of one.
        while core.workers() > 0 {
            thread::yield_now();
        }
        refuse_threads(3);
        // The share is closed as it is dropped, and its task must run; and so again as the pool ends.
        drop(serial);
        drop(pool);
        assert_eq!(ran.count(), 1);
    });
}

/// N5: what a share accepts as it discards its backlog is discarded, too.
#[test]
fn a_share_that_discards_keeps_no_late_task() {
    model(3, || {
        // Paused: nothing runs.
        let (core, pool) = pool_of(0, None);
        let (serial, ran) = (pool.serial(), Ran::new());
        let submitter = {
            let (serial, ran) = (serial.clone(), ran.clone());
            thread::spawn(move || submit_to(&serial, &ran))
        };
        serial.release_now();
        let accepted = submitter.join().unwrap();
        assert!(serial.wait_idle_timeout(Duration::ZERO));
        assert_eq!(serial.stats().discarded, u64::from(accepted));
        assert!(core.admission.places().at_rest());
    });
}

/// N5: a share that is opened again keeps what it accepts from then on.
#[test]
fn a_share_opened_again_keeps_its_tasks() {
    model(2, || {
        let (_, pool) = pool_of(0, None);
        let (serial, ran) = (pool.serial(), Ran::new());
        let closer = {
            let serial = serial.clone();
            thread::spawn(move || serial.release_now())
        };
        while !serial.is_closed() {
            thread::yield_now();
        }
        serial.reboot();
        assert!(submit_to(&serial, &ran));
        closer.join().unwrap();
        assert_eq!((serial.stats().discarded, serial.queued()), (0, 1));
    });
}

/// N5: the same where the pool discards, and is opened again.
#[test]
fn a_share_of_a_pool_opened_again_keeps_its_tasks() {
    model(2, || {
        let (core, pool) = pool_of(0, None);
        let (serial, ran) = (pool.serial(), Ran::new());
        serial.tune(0);
        assert!(submit_to(&serial, &ran));
        let closer = {
            let core = Arc::clone(&core);
            thread::spawn(move || core.close(true))
        };
        while !core.admission.places().is_discarding() {
            thread::yield_now();
        }
        core.reopen();
        core.tune(0);
        assert!(submit_to(&serial, &ran));
        closer.join().unwrap();
        assert_eq!(serial.stats().discarded, 1);
    });
}
