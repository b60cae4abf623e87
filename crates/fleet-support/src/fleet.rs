//! A fleet that works until it is told to end, for tests of what happens meanwhile to the server or to the network.

use crate::{Engine, LONG, Member, Stage, balance};
use anthill_jobs::QueueStats;
use anthill_test_support::history::{Report, Rules};
use std::time::{Duration, Instant};

/// How much longer than its timeout a call may take on a busy machine.
const GRACE: Duration = Duration::from_secs(8);

/// How many consumers there are.
const CONSUMERS: usize = 3;

/// Consumers and a producer that work until they are told to end.
#[derive(Debug)]
pub struct Fleet {
    consumers: Vec<Member>,
    producer: Member,
    timeout: Duration,
    acknowledged: u64,
    failures: u32,
}

impl Fleet {
    /// Starts it. No call of its processes is to take longer than the timeout.
    pub fn start<E: Engine>(stage: &Stage<E>, timeout: Duration) -> Fleet {
        let told = ("TIMEOUT_MS", timeout.as_millis().to_string());
        let consumer = || {
            let told = [
                told.clone(),
                ("LEASE_MS", "1000".to_owned()),
                ("WORK_US", "1000".to_owned()),
            ];
            stage.start("consume", &told)
        };
        let consumers: Vec<Member> = (0..CONSUMERS).map(|_| consumer()).collect();
        for consumer in &consumers {
            consumer.hear("consumes");
        }
        Fleet {
            consumers,
            producer: stage.start("produce", &[told, ("BACKLOG", "100".to_owned())]),
            timeout,
            acknowledged: 0,
            failures: 0,
        }
    }

    /// Waits until this many more jobs are acknowledged; an enqueue that fails does so in time, and as it should.
    pub fn work(&mut self, more: u64) {
        let wanted = self.acknowledged + more;
        while self.acknowledged < wanted {
            let line = self.producer.hear("");
            self.read(&line);
        }
    }

    fn read(&mut self, line: &str) {
        if let Some(number) = line.strip_prefix("acknowledged ") {
            self.acknowledged = number.parse().expect("a number");
        } else if let Some(failed) = line.strip_prefix("failed ") {
            let mut words = failed.split(' ');
            let kind = words.next().expect("it names the error");
            assert_eq!(kind, "Unavailable", "{failed}");
            let took = words.next().and_then(|took| took.parse().ok());
            let took = Duration::from_millis(took.expect("it tells how long it took"));
            assert!(took < self.timeout + GRACE, "after {took:?}: {failed}");
            self.failures += 1;
        }
    }

    /// Its consumers.
    pub fn consumers(&self) -> &[Member] {
        &self.consumers
    }

    /// How many enqueues have failed, of those that [`work`](Self::work) has waited for.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Ends all, when every job is done; tells what was seen, and judges it.
    pub fn end<E: Engine>(mut self, stage: &Stage<E>, what: &str) -> (Report, QueueStats) {
        // One that waits after a failure may find nothing for a while, as the others are faster.
        let begin = Instant::now();
        while self.consumers.iter_mut().any(|one| one.counts().done == 0) {
            assert!(begin.elapsed() < LONG, "each consumer goes on");
            self.work(10);
        }
        self.producer.kill();
        for line in self.producer.rest() {
            self.read(&line);
        }
        stage.await_drained();
        let mut done = 0;
        for consumer in &mut self.consumers {
            let counts = consumer.end();
            assert!(counts.done > 0, "each goes on: {counts:?}");
            done += counts.done;
        }
        let judged = stage.judge(&Rules::default());
        eprintln!(
            "{what}: {} enqueues failed, {done} were done",
            self.failures
        );
        assert_eq!(judged.0.books.dead, 0);
        let enqueued = judged.0.books.enqueued as u64;
        assert!(enqueued >= self.acknowledged, "{}", self.acknowledged);
        judged
    }

    /// [Ends](Self::end) all; nothing is lost, and the books balance.
    pub fn end_balanced<E: Engine>(self, stage: &Stage<E>, what: &str) {
        balance(what, &self.end(stage, what));
    }
}
