//! The broker in an SQLite file: jobs survive the death of any process, and processes on this host share them.
//!
//! What it has acknowledged is on the disk (`synchronous = FULL`, a write-ahead log). Each call is one transaction, or a
//! part of one that calls of other threads share ([`commit`]); so a process that dies half-way has done nothing. A step costs
//! the same with a thousand and with a million jobs: each state has an index of its own, and the counts are kept.
//!
//! The tables are described where they are made ([`schema`]); any SQLite shell shows them.
//!
//! From the top down: [`broker`], [`admin`] and [`consumers`] implement the trait and its parts, [`within`] lets
//! applications have them in their transactions; [`enqueue`], [`claim`], [`settle`],
//! [`manage`], [`moves`] are the steps of jobs in a transaction ([`tx`]), [`sweep`] what time does to them, [`keys`] and
//! [`unique`] their keys; [`read`] and [`list`] only look ([`json`] has what is stored as that). [`store`] shares the connections of a process ([`connection`]), [`commit`] its
//! transactions; [`watch`] sees what other processes did, and [`notice`] when; [`mod@file`] and [`relock`] see to it that others see what is
//! acknowledged.

#![allow(clippy::doc_markdown, reason = "SQLite is a name, and no code")]

mod admin;
mod broker;
mod busy;
mod claim;
mod commit;
mod connection;
mod consumers;
mod enqueue;
mod errors;
mod file;
mod json;
mod keys;
mod kinds;
mod list;
mod manage;
mod moves;
mod notice;
mod read;
mod relock;
mod schema;
mod settle;
mod store;
mod sweep;
#[cfg(test)]
mod tests;
mod time;
mod tx;
mod unique;
mod watch;
mod within;

pub use broker::SqliteBroker;
