//! An elastic pool of reusable OS threads, for work that blocks, bursts or must be bounded.

mod builder;
mod engine;
mod error;
mod global;
mod panic;
mod pool;
mod stats;
mod sync;

pub use builder::Builder;
pub use engine::Overflow;
pub use error::{BuildError, ReleaseTimeout, SubmitError, SubmitErrorKind};
pub use global::{global, submit};
pub use panic::{TaskPanic, WorkerId};
pub use pool::{Pool, PoolHandle};
pub use stats::Stats;
