//! How jobs end.

use crate::bench::*;
use anthill::Pool;
use anthill_jobs::*;
use std::sync::mpsc;
use std::time::Duration;

/// A backoff that a manual clock passes with a second.
fn a_second() -> Backoff {
    Backoff::new(SECOND, SECOND)
}

#[test]
fn each_kind_goes_to_its_own_handler() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(2);
    let (counts, counted) = mpsc::channel();
    let (texts, texted) = mpsc::channel();
    let consumer = queue
        .consumer(&pool)
        .handle(move |Count(n): Count, _: &Context| Ok(counts.send(n)?))
        .handle(move |Text { text }: Text, _: &Context| Ok(texts.send(text)?))
        .start()
        .unwrap();
    queue.enqueue(Count(7)).unwrap();
    queue.enqueue(text("seven")).unwrap();
    assert_eq!((hear(&counted), hear(&texted)), (7, "seven".to_owned()));
    consumer.wait_idle();
    assert_eq!(queue.stats().unwrap().done, 2);
    assert_eq!(consumer.stats().done, 2);
}

#[test]
fn a_kind_without_a_handler_waits_for_a_consumer_that_has_one() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(1);
    let counts = queue
        .consumer(&pool)
        .handle(|_: Count, _: &Context| -> Result<(), JobError> { Ok(()) })
        .inline();
    let waiting = queue.job(text("?")).retries(0).enqueue().unwrap().id();
    queue.enqueue(Count(1)).unwrap();
    assert_eq!(counts.run_due().unwrap(), 1);
    let job = queue.get(waiting).unwrap().unwrap();
    assert_eq!((job.state, job.attempt), (JobState::Ready, 0));
    let texts = queue
        .consumer(&pool)
        .handle(|_: Text, _: &Context| -> Result<(), JobError> { Ok(()) })
        .inline();
    assert_eq!(texts.run_due().unwrap(), 1);
    assert_eq!(queue.stats().unwrap().done, 2);
}

#[test]
fn an_error_is_tried_again_after_the_backoff_and_a_panic_too() {
    let (queue, clock) = queue();
    let jobs = queue
        .consumer(&Pool::with_capacity(1))
        .handle(
            |Count(n): Count, context: &Context| match context.attempt() {
                1 => Err(JobError::from(format!("not {n}"))),
                2 => panic!("nor {n}"),
                _ => {
                    assert!(context.is_last_attempt());
                    Ok(n)
                }
            },
        )
        .backoff(a_second())
        .inline();
    let job = queue.job(Count(3)).retries(2).keep_result(SECOND * 100);
    let id = job.enqueue().unwrap().id();
    assert_eq!(jobs.run_due().unwrap(), 1);
    assert_eq!(queue.get(id).unwrap().unwrap().error.unwrap(), "not 3");
    clock.advance(SECOND / 2);
    assert_eq!(jobs.run_due().unwrap(), 0, "not before its time");
    clock.advance(SECOND);
    assert_eq!(jobs.run_due().unwrap(), 1);
    assert_eq!(
        queue.get(id).unwrap().unwrap().error.unwrap(),
        "it panicked: nor 3"
    );
    clock.advance(SECOND * 2);
    assert_eq!(jobs.run_due().unwrap(), 1);
    assert_eq!(queue.result::<u32>(id).unwrap(), Some(3));
    let stats = queue.stats().unwrap();
    assert_eq!((stats.done, stats.retried, stats.died), (1, 2, 0));
}

#[test]
fn an_error_may_name_its_own_delay_or_be_the_last() {
    let (queue, clock) = queue();
    let jobs = queue
        .consumer(&Pool::with_capacity(1))
        .handle(
            |Count(n): Count, context: &Context| -> Result<(), JobError> {
                match (n, context.attempt()) {
                    (0, _) => Err(JobError::fatal("never")),
                    (_, 1) => Err(JobError::retry_in(SECOND * 60, "in a minute")),
                    _ => Ok(()),
                }
            },
        )
        .inline();
    let never = queue.enqueue(Count(0)).unwrap();
    let later = queue.enqueue(Count(1)).unwrap();
    assert_eq!(jobs.run_due().unwrap(), 2);
    assert_eq!(queue.get(never).unwrap().unwrap().state, JobState::Dead);
    assert_eq!(queue.get(later).unwrap().unwrap().due_in, Some(SECOND * 60));
    clock.advance(SECOND * 59);
    assert_eq!(jobs.run_due().unwrap(), 0);
    clock.advance(SECOND);
    assert_eq!(jobs.run_due().unwrap(), 1);
    assert!(queue.get(later).unwrap().is_none());
    // A dead letter gets all its attempts again.
    assert!(queue.retry_dead(never).unwrap());
    assert_eq!(jobs.run_due().unwrap(), 1);
    assert_eq!(queue.dead(10).unwrap().len(), 1);
}

#[test]
fn data_that_cannot_be_read_is_dead_at_once_with_the_reason_and_the_rest_goes_on() {
    let (queue, _) = queue();
    let jobs = queue
        .consumer(&Pool::with_capacity(1))
        .handle(|_: Count, _: &Context| -> Result<(), JobError> { Ok(()) })
        .inline();
    queue
        .enqueue_new(&NewJob::new("count", b"{\xff".to_vec()))
        .unwrap();
    queue.enqueue(Count(1)).unwrap();
    assert_eq!(jobs.run_due().unwrap(), 2);
    let dead = queue.dead(10).unwrap();
    assert_eq!(dead.len(), 1);
    assert!(
        dead[0]
            .error
            .as_ref()
            .unwrap()
            .starts_with("it cannot be read as \"count\": ")
    );
    assert_eq!(queue.stats().unwrap().done, 1);
}

#[test]
fn the_fallback_takes_care_of_what_is_not_tried_again_or_it_is_dead() {
    let (queue, clock) = queue();
    let (send, failed) = mpsc::channel();
    let jobs = queue
        .consumer(&Pool::with_capacity(1))
        .handle(|Count(n): Count, _: &Context| -> Result<(), JobError> {
            Err(format!("{n} failed").into())
        })
        .backoff(a_second())
        .fallback(move |job| {
            send.send((job.kind.to_owned(), job.error.to_owned(), job.attempts))?;
            let payload: Count = serde_json::from_slice(job.payload)?;
            if payload.0 == 1 {
                Ok(())
            } else {
                Err("nobody knows".into())
            }
        })
        .inline();
    queue.job(Count(1)).retries(1).enqueue().unwrap();
    queue.job(Count(2)).retries(0).enqueue().unwrap();
    jobs.run_due().unwrap();
    clock.advance(SECOND * 2);
    jobs.run_due().unwrap();
    let told: Vec<_> = failed.try_iter().collect();
    let of = |n: u32, attempts| ("count".to_owned(), format!("{n} failed"), attempts);
    assert_eq!(told, [of(2, 1), of(1, 2)]);
    let dead = queue.dead(10).unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(
        dead[0].error.as_deref(),
        Some("2 failed; then the fallback: nobody knows")
    );
}

#[test]
fn jobs_that_are_handled_together_end_each_for_itself() {
    let (queue, _) = queue();
    let (send, came) = mpsc::channel();
    let pool = Pool::with_capacity(1);
    let ids = queue.enqueue_all((0..10).map(Count).collect()).unwrap();
    let consumer = queue
        .consumer(&pool)
        .handle_batch(4, move |jobs: Vec<Count>, contexts: &[Context]| {
            assert_eq!(jobs.len(), contexts.len());
            send.send(jobs.len()).unwrap();
            let end = |Count(n): &Count| {
                if *n == 5 {
                    Err(JobError::fatal("five"))
                } else {
                    Ok(())
                }
            };
            jobs.iter().map(end).collect()
        })
        .start()
        .unwrap();
    consumer.wait_idle();
    consumer.stop(LONG).unwrap();
    assert_eq!(came.try_iter().collect::<Vec<_>>(), [4, 4, 2]);
    assert_eq!(queue.stats().unwrap().done, 9);
    assert_eq!(queue.dead(10).unwrap()[0].id, ids[5]);
}

#[test]
fn one_that_cannot_be_read_does_not_take_the_others_of_its_batch_with_it() {
    let (queue, clock) = queue();
    queue.enqueue(Count(1)).unwrap();
    queue
        .enqueue_new(&NewJob::new("count", b"?".to_vec()))
        .unwrap();
    queue.enqueue(Count(2)).unwrap();
    let pool = Pool::with_capacity(1);
    let consumer = queue
        .consumer(&pool)
        .handle_batch(8, |jobs: Vec<Count>, _: &[Context]| {
            jobs.iter().map(|_| Ok(())).collect()
        })
        .start()
        .unwrap();
    consumer.wait_idle();
    clock.advance(Duration::from_millis(1));
    consumer.wait_idle();
    let stats = queue.stats().unwrap();
    assert_eq!((stats.done, stats.died), (2, 1));
}

#[test]
fn a_handler_of_several_that_tells_too_few_ends_has_failed() {
    let (queue, _) = queue();
    queue.job(Count(1)).retries(0).enqueue().unwrap();
    let pool = Pool::with_capacity(1);
    let consumer = queue
        .consumer(&pool)
        .handle_batch(8, |_: Vec<Count>, _: &[Context]| Vec::new())
        .start()
        .unwrap();
    consumer.wait_idle();
    let dead = queue.dead(1).unwrap();
    assert_eq!(
        dead[0].error.as_deref(),
        Some("its handler returned 0 results for 1 jobs")
    );
}

#[test]
fn hooks_see_each_attempt_and_one_that_panics_fails_it() {
    let (queue, _) = queue();
    let (send, seen) = mpsc::channel();
    let before = send.clone();
    let jobs = queue
        .consumer(&Pool::with_capacity(1))
        .handle(|_: Count, _: &Context| -> Result<(), JobError> { Ok(()) })
        .before(move |context| {
            let text = format!("before {}", context.attempt());
            before.send(text).unwrap();
        })
        .before(|context| assert!(!context.is_last_attempt(), "the last one"))
        .after(move |_, ended| {
            let text = match ended {
                Ended::Done { .. } => "done".to_owned(),
                Ended::Died { error, .. } => format!("died: {error}"),
                other => panic!("{other:?}"),
            };
            send.send(text).unwrap();
            panic!("nobody hears this");
        })
        .inline();
    queue.enqueue(Count(1)).unwrap();
    queue.job(Count(2)).retries(0).enqueue().unwrap();
    assert_eq!(jobs.run_due().unwrap(), 2);
    let seen: Vec<String> = seen.try_iter().collect();
    assert_eq!(
        seen,
        [
            "before 1",
            "done",
            "before 1",
            "died: it panicked: the last one"
        ]
    );
}

#[test]
fn after_errors_in_a_row_nothing_is_claimed_for_a_while() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(1);
    let (send, ran) = mpsc::channel();
    for n in 0..10 {
        queue.job(Count(n)).retries(0).enqueue().unwrap();
    }
    let consumer = queue
        .consumer(&pool)
        .workers(1..=1)
        .handle(
            move |Count(n): Count, _: &Context| -> Result<(), JobError> {
                send.send(n)?;
                // The row is broken once.
                if n == 2 { Ok(()) } else { Err("no".into()) }
            },
        )
        .pause_after(3, Duration::from_secs(3600))
        .start()
        .unwrap();
    let came: Vec<u32> = (0..6).map(|_| hear(&ran)).collect();
    assert_eq!(came, [0, 1, 2, 3, 4, 5]);
    until("it pauses", || consumer.stats().pauses == 1);
    consumer.stop(LONG).unwrap();
    assert_eq!(ran.try_iter().count(), 0);
    assert_eq!(queue.stats().unwrap().ready, 4);
}

#[test]
fn progress_is_seen_while_the_job_runs() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(1);
    let gate = Gate::new();
    let there = gate.clone();
    let id = queue.enqueue(Count(1)).unwrap();
    let consumer = queue
        .consumer(&pool)
        .handle(move |_: Count, context: &Context| {
            assert!(context.progress(&"half").unwrap());
            there.pass();
            Ok(())
        })
        .start()
        .unwrap();
    gate.wait_for(1);
    let job = queue.get(id).unwrap().unwrap();
    assert_eq!(
        (job.state, job.progress),
        (JobState::Running, Some(b"\"half\"".to_vec()))
    );
    gate.open();
    consumer.wait_idle();
}

#[test]
fn what_a_job_enqueues_is_run_too_also_at_once() {
    let (queue, _) = queue();
    let next = queue.clone();
    let (send, ran) = mpsc::channel();
    let jobs = queue
        .consumer(&Pool::with_capacity(1))
        .handle(
            move |Count(n): Count, _: &Context| -> Result<(), JobError> {
                if n > 0 {
                    next.enqueue(Count(n - 1))?;
                }
                Ok(send.send(n)?)
            },
        )
        .inline();
    jobs.at_once();
    queue.enqueue(Count(3)).unwrap();
    assert_eq!(ran.try_iter().collect::<Vec<_>>(), [3, 2, 1, 0]);
    // From several threads each job has run when its enqueue returns, or runs on the thread that is at it.
    std::thread::scope(|scope| {
        (0..4).for_each(|_| {
            scope.spawn(|| {
                for _ in 0..100 {
                    queue.enqueue(Count(0)).unwrap();
                }
            });
        });
    });
    assert_eq!(queue.stats().unwrap().done, 404);
}

#[test]
fn at_once_also_runs_what_comes_while_it_looks_a_last_time() {
    let spy = Spy::new();
    let queue = spy.queue(&Clock::manual());
    let jobs = queue
        .consumer(&Pool::with_capacity(1))
        .handle(|_: Count, _: &Context| -> Result<(), JobError> { Ok(()) })
        .inline();
    jobs.at_once();
    spy.enqueue_during_a_claim(NewJob::new("count", b"2".to_vec()));
    queue.enqueue(Count(1)).unwrap();
    assert_eq!(queue.stats().unwrap().done, 2);
}
