//! Heartbeats wait for nothing, and jobs that run for longer than they may keep their keys.

use crate::bench::*;
use crate::watched::{Call, Watch, Watched};
use anthill::Pool;
use anthill_jobs::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Calls of one kind hang while the gate is shut; heartbeats are counted.
#[derive(Clone)]
struct Hang(Arc<Hung>);

struct Hung {
    call: Call,
    /// From now on.
    hangs: AtomicBool,
    gate: Arc<Gate>,
    extends: Mutex<usize>,
    extended: Condvar,
    claims: AtomicUsize,
}

impl Hang {
    fn queue(call: Call) -> (Hang, Queue) {
        let hang = Hang(Arc::new(Hung {
            call,
            hangs: AtomicBool::new(false),
            gate: Gate::new(),
            extends: Mutex::new(0),
            extended: Condvar::new(),
            claims: AtomicUsize::new(0),
        }));
        let queue = Queue::of(Watched {
            broker: MemoryBroker::new(Clock::system()),
            watch: hang.clone(),
        });
        (hang, queue)
    }

    fn hang(&self) {
        self.0.hangs.store(true, Ordering::SeqCst);
    }

    /// Until so many more heartbeats were given.
    fn wait_for_beats(&self, more: usize) {
        let extends = self.0.extends.lock().unwrap();
        let wanted = *extends + more;
        let (_extends, late) = (self.0.extended)
            .wait_timeout_while(extends, LONG, |extends| *extends < wanted)
            .unwrap();
        assert!(!late.timed_out(), "{more} heartbeats");
    }
}

impl Watch for Hang {
    fn before(&self, call: Call) -> Result<(), QueueError> {
        if call == self.0.call && self.0.hangs.load(Ordering::SeqCst) {
            self.0.gate.pass();
        }
        Ok(())
    }

    fn after(&self, call: Call) {
        if call == Call::Extend {
            *self.0.extends.lock().unwrap() += 1;
            self.0.extended.notify_all();
        }
    }

    fn claimed(&self, claims: &Claims, _: &dyn Broker) {
        self.0.claims.fetch_add(claims.jobs.len(), Ordering::SeqCst);
    }
}

/// A job runs and outlasts many heartbeats while another call hangs; nobody else gets it.
fn beats_beside(call: Call) {
    let (hang, queue) = Hang::queue(call);
    let pool = Pool::with_capacity(2);
    let gate = Gate::new();
    let there = gate.clone();
    let consumer = queue
        .consumer(&pool)
        .workers(2..=2)
        // Three beats are its length; a busy machine may take its time for one.
        .lease(Duration::from_millis(900))
        .poll(Duration::from_millis(5))
        .handle(move |Count(n): Count, _: &Context| {
            if n == 0 {
                there.pass();
            }
            Ok(())
        })
        .start()
        .unwrap();
    queue.enqueue(Count(0)).unwrap();
    gate.wait_for(1);
    hang.hang();
    // What is claimed, and done, meanwhile; a schedule, so that those are looked at.
    queue.enqueue(Count(1)).unwrap();
    queue.schedule("never", "0 0 1 1 *", &Count(2)).unwrap();
    hang.0.gate.wait_for(1);
    hang.wait_for_beats(7);
    assert_eq!(gate.came(), 1, "nobody else got it");
    hang.0.gate.open();
    gate.open();
    until("both are done", || queue.stats().unwrap().done == 2);
    consumer.stop(LONG).unwrap();
    let stats = queue.stats().unwrap();
    assert_eq!((stats.lost_leases, stats.retried), (0, 0));
    assert_eq!(consumer.stats().lost, 0);
}

#[test]
fn heartbeats_go_on_while_a_settle_hangs() {
    beats_beside(Call::Settle);
}

#[test]
fn heartbeats_go_on_while_a_claim_hangs() {
    beats_beside(Call::Claim);
}

#[test]
fn heartbeats_go_on_while_schedules_hang() {
    beats_beside(Call::Schedules);
}

// ── those that run for too long ─────────────────────────────────────────────────────────────

/// A job beside which none may run outlasts its time, and does not hear that it is to stop.
fn overran(draft: impl Fn(Draft<'_, Count>) -> Draft<'_, Count>, per_key: Option<u32>) {
    let (hang, queue) = Hang::queue(Call::Enqueue);
    let limits = Limits {
        per_key,
        ..Limits::default()
    };
    queue.set_limits(limits).unwrap();
    let pool = Pool::with_capacity(2);
    let gate = Gate::new();
    let there = gate.clone();
    let began: Arc<Mutex<HashMap<u32, u32>>> = Arc::default();
    let begins = began.clone();
    let first = draft(queue.job(Count(1))).enqueue().unwrap().id();
    let consumer = queue
        .consumer(&pool)
        .workers(2..=2)
        .lease(Duration::from_millis(900))
        .handle(move |Count(n): Count, context: &Context| {
            *begins.lock().unwrap().entry(n).or_default() += 1;
            if n == 1 {
                there.pass();
                assert!(context.stop_token().is_stopped(), "it is told");
            }
            Ok(())
        })
        .run_time_of::<Count>(Duration::from_millis(10))
        .start()
        .unwrap();
    gate.wait_for(1);
    until("it has run for too long", || consumer.stats().overran == 1);
    assert_eq!(consumer.stats().overdue, 1);
    // It would be given to another, and its key be free, when its lease is over.
    let again = draft(queue.job(Count(2))).enqueue().unwrap();
    hang.wait_for_beats(7);
    assert_eq!(began.lock().unwrap().clone(), HashMap::from([(1, 1)]));
    assert_eq!(queue.get(first).unwrap().unwrap().state, JobState::Running);
    // Others are not held up.
    queue.enqueue(Count(3)).unwrap();
    until("others run", || queue.stats().unwrap().done == 1);
    gate.open();
    consumer.wait_idle();
    let stats = consumer.stats();
    assert_eq!((stats.overran, stats.overdue, stats.lost), (1, 0, 0));
    let done = if again.is_added() { 3 } else { 2 };
    assert_eq!(queue.stats().unwrap().done, done);
    assert_eq!(queue.stats().unwrap().lost_leases, 0);
    assert!(draft(queue.job(Count(4))).enqueue().unwrap().is_added());
    consumer.stop(LONG).unwrap();
}

#[test]
fn a_unique_job_that_runs_too_long_keeps_its_key_until_it_ends() {
    overran(|draft| draft.unique("k"), None);
}

#[test]
fn a_job_whose_key_is_bounded_keeps_it_until_it_ends() {
    overran(|draft| draft.key("k"), Some(1));
}

/// The broker of another queue hangs in its heartbeat: those of this one go on.
#[test]
fn heartbeats_of_one_queue_do_not_wait_for_the_broker_of_another() {
    let (hung, other) = Hang::queue(Call::Extend);
    let (well, queue) = Hang::queue(Call::Enqueue);
    let pool = Pool::with_capacity(2);
    let gate = Gate::new();
    let there = gate.clone();
    let consumer = other
        .consumer(&pool)
        .also(&queue, 1)
        .workers(2..=2)
        .lease(Duration::from_millis(900))
        .handle(move |_: Count, _: &Context| {
            there.pass();
            Ok(())
        })
        .start()
        .unwrap();
    hung.hang();
    other.enqueue(Count(1)).unwrap();
    queue.enqueue(Count(2)).unwrap();
    gate.wait_for(2);
    hung.0.gate.wait_for(1);
    well.wait_for_beats(3);
    hung.0.gate.open();
    gate.open();
    consumer.wait_idle();
    assert_eq!(queue.stats().unwrap().done, 1);
}

/// A job of each number below `stuck` ignores its stop token; another worker stands in for its own, within `most` at once.
#[track_caller]
fn replaced(stuck: u32, most: usize, replaced: u64) {
    let queue = Queue::memory();
    let pool = Pool::with_capacity(1);
    let gate = Gate::new();
    let there = gate.clone();
    let mut builder = queue
        .consumer(&pool)
        .workers(1..=1)
        .handle(move |Count(n): Count, _: &Context| {
            if n < stuck {
                there.pass();
            }
            Ok(())
        })
        .run_time_of::<Count>(Duration::from_millis(100));
    if most < 16 {
        builder = builder.replace_overdue(most);
    }
    for n in 0..stuck {
        // Unique, so that it keeps its lease.
        queue.job(Count(n)).unique(n.to_string()).enqueue().unwrap();
    }
    let consumer = builder.start().unwrap();
    gate.wait_for(usize::try_from(replaced).unwrap());
    until("replaced", || consumer.stats().replaced == replaced);
    if replaced == u64::from(stuck) {
        for n in 0..20 {
            queue.enqueue(Count(100 + n)).unwrap();
        }
        until("others run", || queue.stats().unwrap().done == 20);
        assert!(pool.lent() >= usize::try_from(stuck).unwrap());
    } else {
        // The next one keeps its worker.
        gate.wait_for(usize::try_from(replaced).unwrap() + 1);
        until("all are overdue", || consumer.stats().overran > replaced);
        assert_eq!((pool.lent(), pool.running()), (most, 1));
    }
    gate.open();
    consumer.wait_idle();
    let stats = consumer.stats();
    assert_eq!(
        (stats.overdue, stats.lost, pool.lent()),
        (0, 0, 0),
        "{stats:?}"
    );
    consumer.stop(LONG).unwrap();
}

#[test]
fn a_job_that_ignores_its_stop_token_is_replaced() {
    replaced(1, 16, 1);
    replaced(3, 16, 3);
}

#[test]
fn no_more_jobs_are_replaced_than_may_be() {
    replaced(4, 2, 2);
    replaced(1, 0, 0);
}
