//! The state of a pool: one value for each concept, each in the file of that concept.

use crate::engine::admission::Admission;
use crate::engine::config::Config;
use crate::engine::queue::Queue;
use crate::engine::rescue::state::Rescue;
use crate::engine::shares::Shares;
use crate::engine::threads::Threads;
use crate::engine::wake::trust::SingleProcessor;
use crate::fork::{self, Mark};
use crate::panic::drop_quietly;
use crate::stats::Counts;
use crate::stop::Stop;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Mutex, Ordering, Processors, Weak, try_lock};
use crossbeam_utils::CachePadded;
use once_cell::sync::OnceCell;

/// Whoever changes the capacity, or opens or closes the pool, holds the lifecycle lock.
pub(crate) struct Lifecycle {
    /// The last capacity above 0: what a release lifts a pause to.
    pub(crate) resume: usize,
    pub(crate) closed: bool,
    /// Nobody owns the pool any more: it stays closed.
    pub(crate) abandoned: bool,
}

/// What a pool is to those that it is linked to; see [`linked`](super::linked).
pub(crate) enum Linked {
    Lead(Vec<Weak<Core>>),
    Member {
        lead: Arc<Core>,
        /// Among the linked pools; that of the lead is 0.
        number: usize,
    },
}

pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) admission: Admission,
    pub(crate) queue: Queue,
    pub(crate) threads: Threads,
    pub(crate) rescue: Rescue,
    pub(crate) counts: Counts,
    /// A free worker spins.
    pub(crate) spinning: CachePadded<AtomicBool>,
    pub(crate) single: SingleProcessor,
    /// Submitters that run their tasks themselves.
    pub(crate) calling: AtomicUsize,
    pub(crate) capacity: AtomicUsize,
    pub(crate) lifecycle: Mutex<Lifecycle>,
    pub(crate) shares: Shares,
    /// The pools that are one with this one.
    pub(crate) linked: OnceCell<Linked>,
    /// Whose line is served first when both are: the lead's, or this one's own.
    pub(crate) turn: AtomicBool,
    /// Tells tasks that the pool was closed; another one after it was opened again.
    pub(crate) stop: Mutex<Arc<Stop>>,
    /// How many `PoolHandle`s there are.
    pub(crate) handles: AtomicUsize,
    pub(crate) mark: Mark,
}

impl Core {
    pub(crate) fn new(capacity: usize, config: Config) -> Arc<Core> {
        // G5: where it fails, the first thread is refused.
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
            calling: AtomicUsize::new(0),
            capacity: AtomicUsize::new(capacity),
            lifecycle: Mutex::new(Lifecycle {
                resume: capacity.max(1),
                closed: false,
                abandoned: false,
            }),
            shares: Shares::default(),
            linked: OnceCell::new(),
            turn: AtomicBool::new(true),
            stop: Mutex::new(Stop::new()),
            handles: AtomicUsize::new(0),
            mark: Mark::new(),
            config,
        })
    }

    /// G1: the pool belongs to the process that this one was forked from.
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        fork::has_forked() && self.is_foreign_here()
    }

    #[cold]
    pub(crate) fn is_foreign_here(&self) -> bool {
        // Pools that are one stay or go as one.
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
            && self.calling.load(Ordering::SeqCst) == 0
            && self.threads.is_untouched()
            && self.admission.is_untouched()
            && self.queue.is_untouched()
            && self.shares.are_untouched()
            && self.rescue.is_untouched()
    }
}

impl Drop for Core {
    /// What is left belongs to users, and its drop must not end this thread, whichever it is.
    fn drop(&mut self) {
        if self.is_foreign() {
            // G3
            std::mem::forget(std::mem::replace(&mut self.queue, Queue::new()));
            std::mem::forget(std::mem::replace(&mut self.threads, Threads::new(0, 0)));
            let admission = Admission::new(None, 0, Processors::SINGLE);
            std::mem::forget(std::mem::replace(&mut self.admission, admission));
            return;
        }
        while let Some(task) = self.queue.take() {
            drop_quietly(task);
        }
        drop_quietly(std::mem::take(&mut self.config.hooks));
        drop_quietly(self.config.keeps.take());
    }
}
