//! The private servers, one of each kind for a run: made in a folder of their own, on a free port, and gone at the end.

pub(crate) mod monitor;
pub(crate) mod postgres;
pub(crate) mod redis;

use std::net::{Ipv4Addr, TcpListener};

use anyhow::Result;

/// A port that nobody listens on. Another process may take it before the server has it, so whoever asks tries again.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}
