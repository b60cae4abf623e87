//! Consumers: those that announced themselves, and who runs which job.

use super::MemoryBroker;
use super::store::Store;
use crate::broker::{ConsumerInfo, ConsumerRegistry};
use crate::error::QueueError;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// A consumer that announced itself.
pub(super) struct Announced {
    consumer: ConsumerInfo,
    /// By the steady clock.
    at: Duration,
    ends: Duration,
}

/// Who runs jobs. Each has a number while it does, which is smaller than its id.
#[derive(Default)]
pub(super) struct Runners {
    numbers: HashMap<Arc<str>, Runner>,
    all: Vec<Option<RunnerInfo>>,
    free: Vec<Runner>,
}

/// The number of one who runs jobs.
pub(super) type Runner = NonZeroU32;

struct RunnerInfo {
    id: Arc<str>,
    /// How many jobs it runs.
    jobs: usize,
}

impl Runners {
    /// Counts one more job that it runs. Returns its number.
    pub(super) fn add(&mut self, id: &Arc<str>) -> Option<Runner> {
        if let Some(&runner) = self.numbers.get(id) {
            self.all[place(runner)].as_mut()?.jobs += 1;
            return Some(runner);
        }
        let next = || Runner::new(u32::try_from(self.all.len() + 1).unwrap_or(0));
        // None after four thousand million of them at once.
        let runner = self.free.pop().or_else(next)?;
        if place(runner) == self.all.len() {
            self.all.push(None);
        }
        let id = Arc::clone(id);
        self.numbers.insert(Arc::clone(&id), runner);
        self.all[place(runner)] = Some(RunnerInfo { id, jobs: 1 });
        Some(runner)
    }

    /// Counts one job less.
    pub(super) fn remove(&mut self, runner: Runner) {
        let Some(info) = &mut self.all[place(runner)] else {
            return;
        };
        info.jobs -= 1;
        if info.jobs == 0 {
            self.numbers.remove(&info.id);
            self.all[place(runner)] = None;
            self.free.push(runner);
        }
    }

    pub(super) fn id(&self, runner: Runner) -> Option<&str> {
        let info = self.all[place(runner)].as_ref();
        info.map(|info| &*info.id)
    }
}

fn place(runner: Runner) -> usize {
    runner.get() as usize - 1
}

impl Store {
    fn forget_dead_consumers(&mut self, now: Duration) {
        self.consumers.retain(|_, announced| announced.ends > now);
    }
}

impl ConsumerRegistry for MemoryBroker {
    fn announce(&self, consumer: &ConsumerInfo, time: Duration) -> Result<(), QueueError> {
        self.with(|store, now| {
            store.forget_dead_consumers(now.steady);
            let announced = Announced {
                consumer: consumer.clone(),
                at: now.steady,
                ends: now.steady.saturating_add(time),
            };
            store.consumers.insert(consumer.id.clone(), announced);
        });
        Ok(())
    }

    fn withdraw(&self, id: &str) -> Result<(), QueueError> {
        let _withdrawn = self.lock().consumers.remove(id);
        Ok(())
    }

    fn consumers(&self) -> Result<Vec<ConsumerInfo>, QueueError> {
        Ok(self.with(|store, now| {
            store.forget_dead_consumers(now.steady);
            let live = store
                .consumers
                .values()
                .map(|Announced { consumer, at, .. }| {
                    let seen = now.steady.saturating_sub(*at);
                    ConsumerInfo {
                        age: consumer.age.saturating_add(seen),
                        seen,
                        ..consumer.clone()
                    }
                });
            live.collect()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_given_again_when_its_last_job_has_ended() {
        let mut runners = Runners::default();
        let [one, other]: [Arc<str>; 2] = ["one", "other"].map(Arc::from);
        let first = runners.add(&one).unwrap();
        assert_eq!(runners.add(&one), Some(first));
        let second = runners.add(&other).unwrap();
        assert_eq!(
            (runners.id(first), runners.id(second)),
            (Some("one"), Some("other"))
        );
        runners.remove(first);
        assert_eq!(runners.id(first), Some("one"));
        runners.remove(first);
        assert_eq!(runners.id(first), None);
        assert_eq!(Arc::strong_count(&one), 1);
        for at in 0..100 {
            let id: Arc<str> = format!("{at}").into();
            let runner = runners.add(&id).unwrap();
            assert_eq!((runner, runners.id(runner)), (first, Some(&*id)));
            runners.remove(runner);
        }
        assert_eq!((runners.all.len(), runners.numbers.len()), (2, 1));
    }
}
