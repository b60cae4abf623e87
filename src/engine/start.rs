//! The threads of the workers: how they are started, and what they run.

use crate::engine::core::Core;
use crate::engine::current;
use crate::engine::local::WorkerShared;
use crate::engine::threads::StartThread;
use crate::engine::worker::Worker;
use crate::panic::WorkerId;
use crate::sync::{Arc, JoinHandle, spawn};
use crate::{fork, thread_name};
use std::io;

impl StartThread for Arc<Core> {
    fn start(&self, id: u64, worker: Arc<WorkerShared>) -> io::Result<JoinHandle<()>> {
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
