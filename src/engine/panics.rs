//! Who is told of a panic: the handler of the worker, or that of the pool.

use crate::engine::core::Core;
use crate::engine::current;
use crate::panic::{Payload, TaskPanic};
use crate::sync::Arc;

impl Core {
    /// Tells the pool's handler of a panic that no worker caught.
    pub(crate) fn tell_panic(&self, payload: Payload) {
        self.config
            .hooks
            .panics
            .tell(None, TaskPanic::new(None, payload));
    }

    /// Tells the worker's handler, if this thread is a worker of the pool, else the pool's.
    pub(crate) fn tell_panic_here(self: &Arc<Self>, payload: Payload) {
        let mut payload = Some(payload);
        current::with_worker(self, |worker| {
            payload.take().map(|payload| worker.tell(payload))
        });
        if let Some(payload) = payload {
            self.tell_panic(payload);
        }
    }
}
