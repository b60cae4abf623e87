//! From a builder to what it builds; and the constructors of [`Pool`].
//!
//! The options are checked before anything is made. If a thread is refused, the pools are dropped, which joins the
//! threads that were started.

use super::{Builder, Built};
use crate::engine::config::{Config, Overflow};
use crate::engine::core::Core;
use crate::error::BuildError;
use crate::pool::Pool;
use crate::processors::of_this_thread;
use crate::sync::{Arc, Processors, processors};
use crate::thread_name;

/// With a smaller stack a panic could end the process: see [`Builder::stack_size`].
const SMALLEST_STACK: usize = 64 * 1024;

/// With a larger stack the standard library's own arithmetic could overflow.
const LARGEST_STACK: usize = isize::MAX as usize / 2;

impl<P: Built> Builder<P> {
    /// Builds the pool and starts its [`min_workers`](Builder::min_workers).
    ///
    /// # Errors
    ///
    /// Fails if the options contradict one another, and if the system refuses to start one of the minimum of workers;
    /// the workers that were already started are ended and joined.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::builder().build()?;
    /// assert!(Pool::builder().name("a\0b").build().is_err());
    /// # Ok::<(), anthill::BuildError>(())
    /// ```
    pub fn build(mut self) -> Result<P, BuildError> {
        self.config.processors = Processors::new(of_this_thread());
        let Config {
            min_workers,
            backlog,
            overflow,
            ..
        } = self.config;
        let capacity = self.capacity.unwrap_or_else(processors);
        if min_workers > capacity {
            return Err(BuildError::MinWorkersAboveCapacity {
                min_workers,
                capacity,
            });
        }
        if overflow == Overflow::DropOldest && backlog == Some(0) {
            return Err(BuildError::DropOldestWithoutBacklog);
        }
        if self.config.name.contains('\0') {
            return Err(BuildError::NameContainsNul);
        }
        match self.config.stack_size {
            Some(stack_size) if stack_size > LARGEST_STACK => {
                return Err(BuildError::StackSizeTooLarge { stack_size });
            }
            Some(stack_size) if stack_size < SMALLEST_STACK => {
                return Err(BuildError::StackSizeTooSmall {
                    stack_size,
                    least: SMALLEST_STACK,
                });
            }
            _ => {}
        }
        P::check(&self.parts)?;
        let mut cores = Vec::new();
        let built = self.make(|core| cores.push(Arc::clone(core)));
        let fill = |core: &Arc<Core>| core.threads.fill(core);
        cores
            .iter()
            .try_for_each(fill)
            .map_err(BuildError::Thread)?;
        Ok(built)
    }

    /// For a builder that only constructors have touched: it needs no check and starts no thread.
    pub(crate) fn into_pool(mut self) -> P {
        self.config.processors = Processors::new(of_this_thread());
        self.make(|_| ())
    }

    /// Makes what is built, without a thread; `made` gets each pool that it consists of.
    fn make(self, mut made: impl FnMut(&Arc<Core>)) -> P {
        let Builder {
            capacity,
            config,
            parts,
        } = self;
        let capacity = capacity.unwrap_or_else(processors);
        P::new(parts, |shard| {
            let mut config = config.clone();
            if let Some(shard) = shard {
                config.name = thread_name::of_shard(&config.name, shard);
            }
            let core = Core::new(capacity, config);
            made(&core);
            Pool::from_core(core)
        })
    }
}

impl Pool {
    /// Makes a pool of at most `n` workers without a backlog: `submit` blocks while `n` tasks run.
    ///
    /// It starts no thread. With 0 the pool is paused until it is [tuned](crate::PoolHandle::tune).
    ///
    /// ```
    /// # use anthill::Pool;
    /// Pool::with_capacity(4).submit(|| println!("hello from a worker"))?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[must_use]
    pub fn with_capacity(n: usize) -> Pool {
        Builder::new().capacity(n).into_pool()
    }

    /// Makes a pool without a limit: each task that runs has a worker.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::unbounded();
    /// assert_eq!(pool.capacity(), usize::MAX);
    /// ```
    #[must_use]
    pub fn unbounded() -> Pool {
        Pool::with_capacity(usize::MAX)
    }

    /// Configures a pool.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::builder().capacity(8).backlog(100).name("thumbs").build()?;
    /// assert_eq!(pool.capacity(), 8);
    /// # Ok::<(), anthill::BuildError>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::new()
    }
}

impl Default for Pool {
    /// Makes a pool with one worker for each processor on which the calling thread may run (see [`Builder::capacity`]),
    /// and an unbounded backlog: `submit` never blocks.
    fn default() -> Pool {
        Builder::new().unbounded_backlog().into_pool()
    }
}
