//! Handlers with a state that is made once for each worker.

use crate::bench::*;
use anthill::Pool;
use anthill_jobs::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many there are, and how many were made.
#[derive(Default)]
struct Made {
    there: AtomicU32,
    ever: AtomicU32,
}

struct State {
    of: Arc<Made>,
    used: u32,
}

impl State {
    fn make(of: &Arc<Made>) -> State {
        of.there.fetch_add(1, Ordering::SeqCst);
        of.ever.fetch_add(1, Ordering::SeqCst);
        State {
            of: of.clone(),
            used: 0,
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.of.there.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn as_many_states_are_made_as_jobs_run_at_once() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(3);
    let made = Arc::new(Made::default());
    let gate = Gate::new();
    let (makes, there) = (made.clone(), gate.clone());
    let consumer = queue
        .consumer(&pool)
        .workers(3..=3)
        .handle_with(
            move || Ok(State::make(&makes)),
            move |Count(n): Count, state: &mut State, _: &Context| {
                state.used += 1;
                if n == 0 {
                    there.pass();
                }
                Ok(())
            },
        )
        .start()
        .unwrap();
    queue.enqueue(Count(1)).unwrap();
    consumer.wait_idle();
    queue.enqueue(Count(1)).unwrap();
    consumer.wait_idle();
    assert_eq!(made.ever.load(Ordering::SeqCst), 1, "one after the other");
    queue
        .enqueue_all(vec![Count(0), Count(0), Count(0)])
        .unwrap();
    gate.wait_for(3);
    assert_eq!(made.ever.load(Ordering::SeqCst), 3);
    gate.open();
    queue
        .enqueue_all((0..300).map(|_| Count(1)).collect())
        .unwrap();
    consumer.wait_idle();
    assert_eq!(made.ever.load(Ordering::SeqCst), 3);
    assert_eq!(made.there.load(Ordering::SeqCst), 3);
    assert_eq!(queue.stats().unwrap().done, 305);
    drop(consumer);
    until("they go with their consumer", || {
        made.there.load(Ordering::SeqCst) == 0
    });
}

#[test]
fn a_state_that_a_panic_went_through_is_dropped_and_one_after_an_error_is_kept() {
    let (queue, clock) = queue();
    let made = Arc::new(Made::default());
    let makes = made.clone();
    let jobs = queue
        .consumer(&Pool::with_capacity(1))
        .handle_with(
            move || Ok(State::make(&makes)),
            |Count(n): Count, state: &mut State, context: &Context| {
                state.used += 1;
                match (n, context.attempt()) {
                    (1, 1) => panic!("half-way"),
                    (2, 1) => Err(JobError::from("no")),
                    _ => Ok(state.used),
                }
            },
        )
        .backoff(Backoff::new(SECOND, SECOND))
        .inline();
    let mut results = Vec::new();
    for n in [0, 1, 2, 3] {
        let job = queue.job(Count(n)).keep_result(SECOND * 1_000);
        let id = job.enqueue().unwrap().id();
        jobs.run_due().unwrap();
        clock.advance(SECOND * 2);
        jobs.run_due().unwrap();
        results.push(queue.result::<u32>(id).unwrap().unwrap());
    }
    // The second one panics with the first state; what is used from then on is another one.
    assert_eq!(results, [1, 1, 3, 4]);
    assert_eq!(made.ever.load(Ordering::SeqCst), 2);
    assert_eq!(made.there.load(Ordering::SeqCst), 1);
}

#[test]
fn an_error_or_a_panic_of_make_is_an_attempt_that_failed() {
    let (queue, clock) = queue();
    let tries = AtomicU32::new(0);
    let jobs = queue
        .consumer(&Pool::with_capacity(1))
        .handle_with(
            move || match tries.fetch_add(1, Ordering::SeqCst) {
                0 => Err("it is down".into()),
                1 => panic!("it is not there"),
                2 => Err(JobError::hand_back()),
                tries => Ok(tries),
            },
            |_: Count, tries: &mut u32, _: &Context| Ok(*tries),
        )
        .backoff(Backoff::new(SECOND, SECOND))
        .inline();
    let job = queue.job(Count(1)).keep_result(SECOND * 100).retries(2);
    let id = job.enqueue().unwrap().id();
    for (error, attempt) in [
        ("it is down", 1),
        ("it panicked: it is not there", 2),
        ("it panicked: it is not there", 2),
    ] {
        assert_eq!(jobs.run_due().unwrap(), 1);
        let job = queue.get(id).unwrap().unwrap();
        assert_eq!((job.error.as_deref(), job.attempt), (Some(error), attempt));
        clock.advance(SECOND * 2);
    }
    assert_eq!(jobs.run_due().unwrap(), 1);
    assert_eq!(queue.result::<u32>(id).unwrap(), Some(3));
}

/// Each kind has states of its own.
#[test]
fn kinds_share_no_state() {
    let (queue, _) = queue();
    let jobs = queue
        .consumer(&Pool::with_capacity(1))
        .handle_with(
            || Ok(0),
            |_: Count, n: &mut u32, _: &Context| {
                *n += 1;
                Ok(*n)
            },
        )
        .handle_with(
            || Ok(100),
            |_: Text, n: &mut u32, _: &Context| {
                *n += 1;
                Ok(*n)
            },
        )
        .inline();
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(
            queue
                .job(Count(1))
                .keep_result(SECOND)
                .enqueue()
                .unwrap()
                .id(),
        );
        ids.push(
            queue
                .job(text(""))
                .keep_result(SECOND)
                .enqueue()
                .unwrap()
                .id(),
        );
    }
    jobs.run_due().unwrap();
    let results = ids
        .iter()
        .map(|&id| queue.result::<u32>(id).unwrap().unwrap());
    assert_eq!(results.collect::<Vec<_>>(), [1, 101, 2, 102]);
}
