//! Release, discarding, and opening again.

use super::*;

/// What is accepted runs, what is refused comes back, and the threads end.
#[test]
fn release_against_submit() {
    model(3, || {
        let (core, ran) = (Core::new(1, config(Some(0), EVER)), Ran::new());
        let submitter = {
            let (core, ran) = (Arc::clone(&core), ran.clone());
            thread::spawn(move || {
                let first = core.submit_closure(ran.task(), Patience::Policy);
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
        let (core, ran) = (Core::new(1, config(None, EVER)), Ran::new());
        submit(&core, &ran);
        end(&core);
        assert_eq!(ran.count(), 1);
    });
}

/// C5: the pool closes while a task comes in that counts on the last worker, and no thread that waits for the pool
/// tries again.
#[test]
fn release_without_another_thread() {
    model(3, || {
        let core = Core::new(1, config(Some(1), EVER));
        assert!(submit_and_see(&core));
        refuse_threads(u32::MAX);
        let other = {
            let core = Arc::clone(&core);
            thread::spawn(move || {
                let ran = Signal::new();
                let tells = ran.clone();
                if core
                    .submit_closure(move || tells.give(), Patience::Policy)
                    .is_ok()
                {
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

/// L6: `release_now` returns how many tasks it discarded.
#[test]
fn release_now_counts_what_it_discards() {
    model(2, || {
        let (core, ran) = (Core::new(0, config(None, EVER)), Ran::new());
        (0..3).for_each(|_| submit(&core, &ran));
        core.tune(1);
        let discarded = core.close(true);
        end(&core);
        assert_eq!(core.stats().discarded, discarded as u64);
        assert_eq!(ran.count() + discarded, 3);
    });
}

/// `release_now` still has a task in hand, with its place, as the last worker finds nothing to do: the worker stays,
/// and ends when the place is given back.
#[test]
fn release_now_ends_the_last_worker() {
    struct InHand(Arc<Core>, Signal);
    impl Drop for InHand {
        fn drop(&mut self) {
            self.1.give();
            while self.0.threads.counts().active() > 0 {
                thread::yield_now();
            }
        }
    }
    model(2, || {
        let core = Core::new(1, config(Some(1), EVER));
        let go = Signal::new();
        let in_hand = InHand(Arc::clone(&core), go.clone());
        core.submit_closure(move || go.wait(), Patience::Policy)
            .unwrap();
        while core.running() == 0 {
            thread::yield_now();
        }
        core.submit_closure(move || drop(in_hand), Patience::Policy)
            .unwrap();
        core.close(true);
        while core.threads.counts().live() > 0 {
            thread::yield_now();
        }
        end(&core);
    });
}

/// A task submits another one just as the pool discards its tasks and is opened again: the new one runs, is
/// discarded, or is refused.
#[test]
fn reboot_leaves_no_task_in_a_local_queue() {
    model(3, || {
        let (core, ran) = (Core::new(1, config(None, EVER)), Ran::new());
        let (inner, child) = (Arc::clone(&core), ran.clone());
        let parent = move || drop(inner.submit_closure(child.task(), Patience::Policy));
        core.submit_closure(parent, Patience::Policy).unwrap();
        core.close(true);
        core.reopen();
        core.wait_idle(None);
        let stats = core.stats();
        assert_eq!(stats.submitted, stats.completed + stats.discarded);
        end(&core);
    });
}
