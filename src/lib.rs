//! An elastic pool of reusable OS threads, for work that blocks, comes in bursts or must be bounded.
//!
//! Threads start when there is work, are reused newest first, and end when they have been idle for a while. The
//! capacity is exact, and can change while the pool runs. Without room a submitter waits in a fair line, or is refused
//! and gets its closure back.
//!
//! ```
//! use anthill::Pool;
//!
//! let pool = Pool::with_capacity(4); // starts no thread
//! for job in 0..9 {
//!     pool.submit(move || println!("job {job}"))?; // waits while four run
//! }
//! pool.tune(8); // from now on eight at once
//! pool.wait_idle();
//! assert_eq!(pool.stats().completed, 9);
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
//!
//! # Guarantees
//!
//! - **Bounded.** No task starts while [`capacity`](PoolHandle::capacity) others run. No more than capacity + backlog
//!   tasks are accepted, except those that tasks submit themselves.
//! - **Fair.** Submitters that wait for room are admitted first come, first served; nobody overtakes them.
//! - **Nothing lost.** An accepted task runs, unless it is discarded on request, which is counted. A refused task comes
//!   back.
//! - **No deadlock with itself.** A task may submit to its own pool, tune, release and drop it. A task that joins
//!   another one runs that one itself if it has not started.
//! - **A panic costs one task.** The worker goes on, and the panic goes to one place: the handle, the group, the caller
//!   of a scope or a map, or the panic handler.
//! - **Every handle resolves**, with a result or with the reason why there is none.
//! - **Idle costs nothing.** There is no helper thread and no polling; an idle pool makes no context switch.
//!
//! Everything before a `submit` happens before the task. The task, and the drop of all it captured, happens before
//! [`join`](JoinHandle::join), [`wait_idle`](PoolHandle::wait_idle) and
//! [`release_timeout`](PoolHandle::release_timeout) return.
//!
//! The pool calls no code of yours while it holds a lock: no task, drop, handler or hook.
//!
//! # Beyond submit
//!
//! | | |
//! |---|---|
//! | many tasks at once | [`submit_all`](PoolHandle::submit_all) |
//! | a submission that can be called off, or awaited | [`submit_cancellable`](PoolHandle::submit_cancellable); `submit_async` and `spawn_async`, with the feature `futures` |
//! | a result | [`spawn`](PoolHandle::spawn): a handle to join, await or cancel |
//! | tasks that borrow | [`scope`](PoolHandle::scope), [`run_all`](PoolHandle::run_all) |
//! | an iterator whose items are processed ahead | [`map`](PoolHandle::map), [`map_unordered`](PoolHandle::map_unordered) |
//! | tasks that succeed or fail as a unit | [`group`](PoolHandle::group) |
//! | later, and again and again | [`submit_after`](PoolHandle::submit_after), [`submit_every`](PoolHandle::submit_every) |
//! | tasks that run until they are stopped | [`stop_token`](PoolHandle::stop_token) |
//! | a task that blocks, and another one that runs meanwhile | [`blocking`](blocking()) |
//! | a share of the pool | [`limit`](PoolHandle::limit), [`serial`](PoolHandle::serial), [`keyed`](PoolHandle::keyed) |
//! | a pool of one function, several pools as one, and both | [`FuncPool`], [`MultiPool`], [`MultiFuncPool`] |
//! | jobs that survive the process | the crate `anthill-jobs`, on the same workers |

mod blocking;
mod builder;
mod engine;
mod error;
mod fork;
mod global;
mod panic;
mod pool;
mod pools;
mod processors;
mod results;
mod stats;
mod stop;
mod sync;
mod thread_name;
mod timers;

pub use blocking::{Lendable, Lender, blocking, lendable};
pub use builder::{Builder, Built};
pub use engine::config::Overflow;
pub use error::{BuildError, ReleaseTimeout, SubmitAllError, SubmitError, SubmitErrorKind};
pub use global::{global, spawn, submit};
pub use panic::{TaskPanic, WorkerId};
#[cfg(feature = "futures")]
pub use pool::SubmitAsync;
pub use pool::{Pool, PoolHandle};
pub use pools::func::{FuncHandle, FuncPool};
pub use pools::keyed::Keyed;
pub use pools::limit::{Limited, Serial};
pub use pools::multi::{Balance, MultiPool};
pub use pools::multi_func::MultiFuncPool;
pub use pools::share::Share;
pub use results::group::{FirstError, Group, KeepGoing};
pub use results::group_error::GroupError;
pub use results::handle::JoinHandle;
pub use results::join_error::JoinError;
pub use results::map::{Map, MapUnordered};
pub use results::scope::{Scope, ScopedJoinHandle};
#[cfg(feature = "futures")]
pub use results::spawn_async::SpawnAsync;
pub use stats::Stats;
pub use stop::{StopSource, StopToken};
#[cfg(feature = "futures")]
pub use timers::sleep::{Sleep, sleep};
pub use timers::timer::Timer;

/// The pages of `docs/`, included so that their programs are tested.
#[cfg(any(doc, doctest))]
pub mod guide {
    #[doc = include_str!("../docs/guarantees.md")]
    pub mod guarantees {}
    #[doc = include_str!("../docs/comparison.md")]
    pub mod comparison {}
    #[doc = include_str!("../docs/design.md")]
    pub mod design {}
    #[doc = include_str!("../docs/ordering.md")]
    pub mod ordering {}
    #[doc = include_str!("../docs/testing.md")]
    pub mod testing {}
    #[doc = include_str!("../docs/benchmarks.md")]
    pub mod benchmarks {}
    #[doc = include_str!("../docs/what-does-not-compile.md")]
    pub mod what_does_not_compile {}
    #[doc = include_str!("../docs/from-ants.md")]
    pub mod from_ants {}
    #[doc = include_str!("../docs/from-rayon.md")]
    pub mod from_rayon {}
    #[doc = include_str!("../docs/from-threadpool-and-tokio.md")]
    pub mod from_threadpool_and_tokio {}
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
