//! More pools on the same engine: pools of one function, several pools as one, shares of a pool.
//!
//! | file | what it is about |
//! |---|---|
//! | [`func`] | `FuncPool`: a pool of one function |
//! | [`multi`] | `MultiPool`: several pools as one |
//! | [`multi_func`] | `MultiFuncPool`: several pools of one function as one |
//! | [`limit`] | `Limited`, `Serial`: a share of a pool, with one sub-queue |
//! | [`keyed`] | `Keyed`: a share of a pool, with a sub-queue for each key |
//! | [`share`] | `Share`: what the shares have in common, as users see it |
//! | [`share_core`] | what a share is made of |

pub(crate) mod func;
pub(crate) mod keyed;
pub(crate) mod limit;
pub(crate) mod multi;
pub(crate) mod multi_func;
pub(crate) mod share;
pub(crate) mod share_core;
