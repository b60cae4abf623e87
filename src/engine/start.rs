//! The thread of a worker: how it is started, and what it runs.

use crate::engine::core::Core;
use crate::engine::current;
use crate::engine::local::WorkerShared;
use crate::engine::threads::SpawnWorker;
use crate::engine::worker::Worker;
use crate::panic::WorkerId;
use crate::sync::{Arc, JoinHandle, spawn};
use crate::{fork, thread_name};
use std::io;

impl SpawnWorker for Arc<Core> {
    fn spawn_worker(&self, id: u64, worker: Arc<WorkerShared>) -> io::Result<JoinHandle<()>> {
        let core = Arc::clone(self);
        fork::watch()?;
        let name = thread_name::of_worker(&self.config.name, id);
        let shown = thread_name::shown_instead(&name);
        spawn(name, self.config.stack_size, move || {
            if let Some(shown) = shown {
                thread_name::show(&shown);
            }
            current::begin_worker(Worker::new(core, WorkerId(id), worker));
        })
    }
}
