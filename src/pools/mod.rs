//! More pools on the same engine: pools of one function, several pools as one, shares of a pool.
//!
//! | file | |
//! |---|---|
//! | [`func`] | `FuncPool`: a pool of one function |
//! | [`multi`] | `MultiPool`: several pools as one |
//! | [`multi_func`] | `MultiFuncPool`: several pools of one function as one |
//! | [`sub_queue`] | a queue of which only so many tasks run at once, on the workers of a pool |
//! | [`share`] | bounds, line, counts and end of a share |
//! | [`share`] | what the shares have in common, as users see it |
//! | [`limit`] | `Limited`, `Serial`: a share with one sub-queue |
//! | [`keyed`] | `Keyed`: a sub-queue for each key |

pub(crate) mod func;
pub(crate) mod keyed;
pub(crate) mod limit;
pub(crate) mod multi;
pub(crate) mod multi_func;
pub(crate) mod share;
mod share_core;
pub(crate) mod sub_queue;
