//! The program `anthill-jobs`: what it prints, as text and as JSON, what it changes, and how it ends.
#[path = "command_line/address.rs"]
mod address;
#[path = "command_line/change.rs"]
mod change;
#[path = "command_line/details.rs"]
mod details;
#[path = "command_line/engines.rs"]
mod engines;
#[path = "command_line/enqueue.rs"]
mod enqueue;
#[path = "command_line/file.rs"]
mod file;
#[path = "command_line/look.rs"]
mod look;
#[path = "command_line/output.rs"]
mod output;
#[path = "command_line/place.rs"]
mod place;
#[cfg(feature = "postgres")]
#[path = "command_line/schema.rs"]
mod schema;
#[cfg(feature = "redis")]
#[path = "command_line/server.rs"]
mod server;
#[path = "command_line/transfer.rs"]
mod transfer;
