//! The state of a pool: one field for each part, whose rules are in the file of that part.

use crate::engine::admission::Admission;
use crate::engine::config::Config;
use crate::engine::queue::Queue;
use crate::engine::rescue::state::Rescue;
use crate::engine::shares::Shares;
use crate::engine::threads::Threads;
use crate::engine::timers::Timers;
use crate::engine::wake::crowd::Crowd;
use crate::engine::wake::trust::SingleProcessor;
use crate::fork::{self, Mark};
use crate::panic::drop_quietly;
use crate::stats::Counts;
use crate::stop::Stop;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Mutex, Ordering, Processors, Weak, try_lock};
use crossbeam_utils::CachePadded;
use once_cell::sync::OnceCell;

/// What the lifecycle lock guards. A thread that changes the capacity, or opens or closes the pool, holds the lock.
pub(crate) struct Lifecycle {
    /// The last capacity above 0: what a paused pool is set to when it is closed.
    pub(crate) resume: usize,
    pub(crate) closed: bool,
    /// The pool has no owner any more: it stays closed.
    pub(crate) abandoned: bool,
}

/// The part of a pool among the pools it is linked to; see [`linked`](super::linked).
pub(crate) enum Linked {
    Lead(Vec<Weak<Core>>),
    Member {
        lead: Arc<Core>,
        /// Its index among the linked pools; the lead has index 0.
        number: usize,
    },
}

/// A pool, as its workers and all its handles share it.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) admission: Admission,
    pub(crate) queue: Queue,
    pub(crate) threads: Threads,
    pub(crate) rescue: Rescue,
    pub(crate) counts: Counts,
    /// A free worker spins: one at a time may.
    pub(crate) spinning: CachePadded<AtomicBool>,
    pub(crate) single: SingleProcessor,
    pub(crate) crowd: Crowd,
    /// How many submitters run their tasks themselves.
    pub(crate) callers: AtomicUsize,
    pub(crate) capacity: AtomicUsize,
    pub(crate) lifecycle: Mutex<Lifecycle>,
    pub(crate) shares: Shares,
    pub(crate) timers: Timers,
    /// The pools that this one is linked to.
    pub(crate) linked: OnceCell<Linked>,
    /// Whose line is served first when both have one: the lead's, or this pool's own (F3).
    pub(crate) turn: AtomicBool,
    /// Tells tasks that the pool was closed. A pool that is opened again gets a new one.
    pub(crate) stop: Mutex<Arc<Stop>>,
    /// How many `PoolHandle`s there are.
    pub(crate) handles: AtomicUsize,
    pub(crate) mark: Mark,
}

impl Core {
    pub(crate) fn new(capacity: usize, config: Config) -> Arc<Core> {
        // G5: where this fails, the start of the first thread fails, too.
        let _ = fork::watch();
        Arc::new(Core {
            admission: Admission::new(
                config.limit(capacity),
                config.max_waiting,
                config.processors,
            ),
            queue: Queue::new(),
            threads: Threads::new(capacity, config.min_workers),
            rescue: Rescue::default(),
            counts: Counts::default(),
            spinning: CachePadded::new(AtomicBool::new(false)),
            single: SingleProcessor::default(),
            crowd: Crowd::default(),
            callers: AtomicUsize::new(0),
            capacity: AtomicUsize::new(capacity),
            lifecycle: Mutex::new(Lifecycle {
                resume: capacity.max(1),
                closed: false,
                abandoned: false,
            }),
            shares: Shares::default(),
            timers: Timers::default(),
            linked: OnceCell::new(),
            turn: AtomicBool::new(true),
            stop: Mutex::new(Stop::new()),
            handles: AtomicUsize::new(0),
            mark: Mark::new(),
            config,
        })
    }

    /// G1: the pool belongs to a process that this one was forked from.
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        fork::has_forked() && self.is_foreign_here()
    }

    #[cold]
    pub(crate) fn is_foreign_here(&self) -> bool {
        // Linked pools are foreign together or not at all.
        match self.linked.get() {
            None => self.mark.is_foreign(|| self.is_untouched()),
            Some(Linked::Member { lead, .. }) => lead.is_foreign_here(),
            Some(Linked::Lead(members)) => self.mark.is_foreign(|| {
                let members: Vec<_> = members.iter().filter_map(Weak::upgrade).collect();
                self.is_untouched() && members.iter().all(|member| member.is_untouched())
            }),
        }
    }

    /// G2
    pub(crate) fn is_untouched(&self) -> bool {
        try_lock(&self.lifecycle).is_some()
            && try_lock(&self.stop).is_some_and(|stop| stop.is_unlocked())
            && self.callers.load(Ordering::SeqCst) == 0
            && self.threads.is_untouched()
            && self.admission.is_untouched()
            && self.queue.is_untouched()
            && self.shares.are_untouched()
            && self.timers.is_untouched()
            && self.rescue.is_untouched()
    }
}

impl Drop for Core {
    /// What is left belongs to users: a panic in its drop must not end this thread, whichever thread it is.
    fn drop(&mut self) {
        if self.is_foreign() {
            // G3
            std::mem::forget(std::mem::replace(&mut self.queue, Queue::new()));
            std::mem::forget(std::mem::replace(&mut self.threads, Threads::new(0, 0)));
            let admission = Admission::new(None, 0, Processors::SINGLE);
            std::mem::forget(std::mem::replace(&mut self.admission, admission));
            std::mem::forget(std::mem::take(&mut self.timers));
            return;
        }
        while let Some(task) = self.queue.take() {
            drop_quietly(task);
        }
        drop_quietly(std::mem::take(&mut self.config.hooks));
        drop_quietly(self.config.keeps.take());
        drop_quietly(std::mem::take(&mut self.timers));
    }
}
