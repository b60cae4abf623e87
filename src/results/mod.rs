//! What comes of tasks: handles and their results, scopes, groups and maps.
//!
//! | file | what it is about |
//! |---|---|
//! | `spawn_async` | `SpawnAsync`: a future that spawns a task (feature `futures`) |
//! | [`handle`] | `spawn`, `JoinHandle` |
//! | [`scope`] | tasks that borrow from their caller's stack |
//! | [`group`], [`group_state`], [`group_error`] | tasks that succeed or fail as a unit: as users see them; what they share; why they failed |
//! | [`map`], [`feed`], [`runner`], [`window`], [`batch`] | an iterator whose items are processed ahead: as users see it; its caller; the tasks that process items; the ring between them; items that are one unit |
//! | [`raw_handle`] | what the handles have in common: waiting for a result and taking it |
//! | [`home`] | where a claimable was submitted: to a pool or to a sub-queue |
//! | [`pending`] | the tasks that somebody waits for together |
//! | [`spawned`], [`state`] | a task and its result, in one allocation; who may touch it when |
//! | [`join_error`] | why a task has no result |
//!
//! A file imports only from those below it in this list, and from [`pools`](crate::pools) only what a sub-queue is.

mod batch;
mod feed;
pub(crate) mod group;
pub(crate) mod group_error;
mod group_state;
pub(crate) mod handle;
mod home;
pub(crate) mod join_error;
pub(crate) mod map;
pub(crate) mod pending;
mod raw_handle;
mod runner;
pub(crate) mod scope;
#[cfg(feature = "futures")]
pub(crate) mod spawn_async;
pub(crate) mod spawned;
pub(crate) mod state;
mod window;
