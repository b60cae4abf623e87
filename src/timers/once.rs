//! A timer that submits one task: the state behind `submit_after`.
//!
//! `state` has the closure while the timer waits. Whoever takes it out decides what becomes of it: the timers' thread
//! submits it, a cancellation drops it. So it runs or is dropped, and `cancel` tells which (TM1).

use super::link::{Handed, Link, RETRY, hand_in, refuse, refuse_thread};
use super::service::{Key, NEVER, Service};
use crate::engine::core::Core;
use crate::engine::timers::PoolTimer;
use crate::error::{SubmitError, SubmitErrorKind};
use crate::panic::drop_quietly;
use crate::sync::{Arc, Mutex, lock};
use std::io;
use std::task::{Wake, Waker};

pub(super) struct Once<F> {
    link: Link,
    /// `None`: the timer is over.
    state: Mutex<Option<Waiting<F>>>,
}

struct Waiting<F> {
    closure: F,
    /// `None`: it will never be due, or was not set yet.
    key: Option<Key>,
}

impl<F: FnOnce() + Send + 'static> Once<F> {
    /// Sets a timer that submits `closure` at the tick `deadline`.
    pub(super) fn start(
        service: &'static Service,
        pool: &Arc<Core>,
        deadline: u64,
        closure: F,
    ) -> Result<Arc<Once<F>>, SubmitError<F>> {
        let once = Arc::new(Once {
            link: Link::new(service, pool),
            state: Mutex::new(Some(Waiting { closure, key: None })),
        });
        if !pool.timers.add(Arc::clone(&once) as _) {
            return match once.take() {
                Some(waiting) => Err(refuse(pool, SubmitErrorKind::Closed, waiting.closure)),
                None => Ok(once),
            };
        }
        match once.set(deadline) {
            Ok(()) => Ok(once),
            Err(refusal) => match once.take() {
                Some(waiting) => {
                    once.link.forget(Arc::as_ptr(&once));
                    Err(refuse_thread(pool, refusal, waiting.closure))
                }
                // The pool was closed meanwhile, which cancelled it.
                None => Ok(once),
            },
        }
    }

    fn take(&self) -> Option<Waiting<F>> {
        lock(&self.state).take()
    }

    /// Has it fired at the tick `deadline`, unless it is over.
    fn set(self: &Arc<Self>, deadline: u64) -> io::Result<()> {
        if deadline >= NEVER {
            return Ok(());
        }
        let mut state = lock(&self.state);
        if let Some(waiting) = &mut *state {
            let waker = Waker::from(Arc::clone(self));
            waiting.key = Some(self.link.service.set(deadline, waker)?);
        }
        Ok(())
    }

    fn fire(self: &Arc<Self>, pool: &Arc<Core>) {
        let Some(Waiting { closure, .. }) = self.take() else {
            return;
        };
        match hand_in(pool, closure) {
            Handed::Over => {}
            // TM3
            Handed::Refused(closure) => drop_quietly(closure),
            Handed::Later(closure) => return self.fire_later(pool, closure),
        }
        self.link.forget(Arc::as_ptr(self));
    }

    /// TM4
    fn fire_later(self: &Arc<Self>, pool: &Arc<Core>, closure: F) {
        *lock(&self.state) = Some(Waiting { closure, key: None });
        if pool.timers.has(Arc::as_ptr(self)) {
            let deadline = self.link.service.tick_after(RETRY);
            // The timers' thread itself is never refused.
            if self.set(deadline).is_ok() {
                return;
            }
        }
        // The pool was closed meanwhile.
        self.cancel();
    }
}

impl<F: FnOnce() + Send + 'static> Wake for Once<F> {
    fn wake(self: Arc<Self>) {
        self.link.with_open_pool(|pool| self.fire(pool));
    }
}

impl<F: FnOnce() + Send + 'static> PoolTimer for Once<F> {
    fn cancel(&self) -> bool {
        if self.link.is_foreign() {
            return false;
        }
        let Some(Waiting { closure, key }) = self.take() else {
            return false;
        };
        let waker = key.and_then(|key| self.link.service.remove(key));
        self.link.forget(&raw const *self);
        drop(waker);
        drop_quietly(closure);
        true
    }
}
