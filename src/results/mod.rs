//! What comes of tasks: handles and their results, scopes, groups, maps, and the signal to stop.
//!
//! | file | |
//! |---|---|
//! | [`state`] | who may touch a claimable when, and who waits for it |
//! | [`spawned`] | a task and its result, in one allocation |
//! | [`handle`] | `spawn`, `JoinHandle` |
//! | [`join_error`] | why there is no result |
//! | [`pending`] | the tasks that somebody waits for together |
//! | [`scope`], [`group`] | tasks that end before their caller goes on; that stand and fall together |
//! | [`map`], [`runner`], [`window`] | an iterator whose items are worked on ahead |
//! | [`stop`] | the signal to end for tasks that live long |

pub(crate) mod group;
pub(crate) mod handle;
pub(crate) mod join_error;
pub(crate) mod map;
pub(crate) mod pending;
mod runner;
pub(crate) mod scope;
pub(crate) mod spawned;
pub(crate) mod state;
mod window;
