//! More pools on the same engine: pools of one function, several pools as one, shares of a pool.
//!
//! | file | |
//! |---|---|
//! | [`strand`] | a queue of which only so many tasks run at once, on the workers of a pool |

//! | [`limit`] | `Limited`, `Serial`: a share with one queue |
//! | [`keyed`] | `Keyed`: a queue for each key |

pub(crate) mod func;
pub(crate) mod keyed;
pub(crate) mod limit;
pub(crate) mod multi;
pub(crate) mod share;
pub(crate) mod strand;
