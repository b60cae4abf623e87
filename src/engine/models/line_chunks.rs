//! Many tasks in line as one submitter; submitters that are called off.

use super::*;
use crate::engine::admission::Chunk;
use crate::engine::submit::SubmitAll;
use crate::stop::StopSource;

fn chunk(ran: &Ran, tasks: usize) -> Chunk {
    (0..tasks).map(|_| Task::new(ran.task())).collect()
}

/// Runs a task that goes on when the signal is given.
fn occupy(core: &Arc<Core>) -> Signal {
    let go = Signal::new();
    let waits = go.clone();
    core.submit_closure(move || waits.wait(), Patience::Policy)
        .unwrap();
    go
}

/// Two tasks wait for one place together: both are let in, and their submitter goes on.
#[test]
fn a_chunk_is_let_in_task_by_task() {
    model(3, || {
        let (core, ran) = (Core::new(1, config(Some(0), EVER)), Ran::new());
        submit(&core, &ran);
        let mut tasks = chunk(&ran, 2);
        assert!(core.submit_chunk(&mut tasks, Patience::Policy).is_ok());
        core.wait_idle(None);
        assert_eq!((ran.count(), tasks.len()), (3, 0));
        end(&core);
    });
}

/// SA2, SL2: of a chunk that is being let in while the pool is closed, each task runs or comes back.
#[test]
fn a_chunk_against_close() {
    model(2, || {
        let (core, ran) = (Core::new(1, config(Some(0), EVER)), Ran::new());
        let closer = {
            let core = Arc::clone(&core);
            thread::spawn(move || {
                core.close(false);
            })
        };
        let mut tasks = chunk(&ran, 3);
        let submitted = core.submit_chunk(&mut tasks, Patience::Policy);
        assert_eq!(submitted.is_ok(), tasks.is_empty());
        closer.join().unwrap();
        let back = tasks.len();
        drop(tasks);
        end(&core);
        assert_eq!(ran.count() + back, 3);
        assert_eq!(core.admission.waiting(), 0);
    });
}

/// SL2: the same for one that gives up.
#[test]
fn a_chunk_times_out() {
    model(3, || {
        let (core, ran) = (Core::new(1, config(Some(0), EVER)), Ran::new());
        let timeout = Patience::Until(crate::sync::deadline_after(Duration::ZERO));
        let mut tasks = chunk(&ran, 3);
        if let Err(denial) = core.submit_chunk(&mut tasks, timeout) {
            assert_eq!(denial.kind, SubmitErrorKind::TimedOut);
        }
        let back = tasks.len();
        drop(tasks);
        core.wait_idle(None);
        assert_eq!(ran.count() + back, 3);
        end(&core);
    });
}

/// A2: what is left of a chunk is overtaken by nobody.
#[test]
fn nobody_overtakes_the_rest_of_a_chunk() {
    model(2, || {
        let (core, ran) = (Core::new(1, config(Some(0), EVER)), Ran::new());
        let go = occupy(&core);
        let other = {
            let (core, ran) = (Arc::clone(&core), ran.clone());
            thread::spawn(move || {
                let mut tasks = chunk(&ran, 2);
                assert!(core.submit_chunk(&mut tasks, Patience::Policy).is_ok());
            })
        };
        while core.admission.waiting() == 0 {
            thread::yield_now();
        }
        go.give();
        let before = ran.clone();
        let late = move || assert_eq!(before.count(), 2, "overtaken");
        let _ = core.submit_closure(late, Patience::None);
        other.join().unwrap();
        core.wait_idle(None);
        assert_eq!((ran.count(), core.stats().panicked), (2, 0));
        end(&core);
    });
}

/// C3: two tasks come in together and wake one worker; the first task waits for the second.
#[test]
fn a_chunk_calls_the_second_worker() {
    model(1, || {
        let core = Core::new(2, config(Some(0), EVER));
        let second = Signal::new();
        let tells = second.clone();
        let mut tasks = Chunk::from([
            Task::new(move || second.wait()),
            Task::new(move || tells.give()),
        ]);
        assert!(core.submit_chunk(&mut tasks, Patience::Policy).is_ok());
        core.wait_idle(None);
        end(&core);
    });
}

/// The same for a chunk in line, for which a raised capacity makes room.
#[test]
fn a_chunk_in_line_calls_the_second_worker() {
    model(1, || {
        let core = Core::new(0, config(Some(0), EVER));
        let second = Signal::new();
        let tells = second.clone();
        let mut tasks = Chunk::from([
            Task::new(move || second.wait()),
            Task::new(move || tells.give()),
        ]);
        let tuner = {
            let core = Arc::clone(&core);
            thread::spawn(move || {
                core.tune(2);
            })
        };
        assert!(core.submit_chunk(&mut tasks, Patience::Policy).is_ok());
        tuner.join().unwrap();
        core.wait_idle(None);
        end(&core);
    });
}

/// ST3: the signal wakes a submitter that nothing else would wake.
#[test]
fn a_signal_calls_a_submitter_off() {
    model(3, || {
        let (core, ran) = (Core::new(0, config(Some(0), EVER)), Ran::new());
        let source = StopSource::new();
        let stop = source.token();
        let stopper = thread::spawn(move || source.stop());
        let refused = core.submit_unless_stopped(ran.task(), &stop).unwrap_err();
        assert_eq!(refused.kind(), SubmitErrorKind::Cancelled);
        drop(refused);
        stopper.join().unwrap();
        assert_eq!((core.admission.waiting(), ran.count()), (0, 0));
        end(&core);
    });
}

/// SL2: a task that is called off while it is let in runs or comes back.
#[test]
fn a_signal_against_serve() {
    model(2, || {
        let (core, ran) = (Core::new(1, config(Some(0), EVER)), Ran::new());
        let source = StopSource::new();
        let stop = source.token();
        submit(&core, &ran);
        let stopper = thread::spawn(move || source.stop());
        let accepted = match core.submit_unless_stopped(ran.task(), &stop) {
            Ok(()) => 2,
            Err(refused) => {
                assert_eq!(refused.kind(), SubmitErrorKind::Cancelled);
                1
            }
        };
        stopper.join().unwrap();
        core.wait_idle(None);
        assert_eq!(ran.count(), accepted);
        end(&core);
    });
}
