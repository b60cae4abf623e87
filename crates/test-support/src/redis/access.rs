//! How a server is reached.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::raw::Raw;

/// The address of a server, and what a client needs to enter as its user `default`, who may do everything.
#[derive(Clone, Debug)]
pub struct Access {
    pub(super) port: u16,
    pub(super) tls_port: Option<u16>,
    pub(super) socket: PathBuf,
    pub(super) password: Option<String>,
}

impl Access {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The port of [`address`](Self::address).
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens for TLS.
    ///
    /// # Panics
    ///
    /// If it was started without [`Options::tls`](super::Options::tls).
    pub fn tls_address(&self) -> SocketAddr {
        let port = self.tls_port.expect("the server was started with TLS");
        (Ipv4Addr::LOCALHOST, port).into()
    }

    /// Its Unix socket, in a folder that only root and the user that it runs as can enter.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The password of the user `default`; none if it was started without one.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// The address of the server: `redis://:PASSWORD@127.0.0.1:PORT/`, the password with `%XX` for what is no letter or digit.
    pub fn url(&self) -> String {
        self.url_through(self.address())
    }

    /// The address of the server that is reached through something else, such as a proxy.
    pub fn url_through(&self, address: SocketAddr) -> String {
        format!("redis://{}{address}/", self.credentials())
    }

    /// The address of the server by TLS: `rediss://:PASSWORD@127.0.0.1:PORT/`.
    ///
    /// # Panics
    ///
    /// If it was started without [`Options::tls`](super::Options::tls).
    pub fn tls_url(&self) -> String {
        format!("rediss://{}{}/", self.credentials(), self.tls_address())
    }

    fn credentials(&self) -> String {
        match &self.password {
            Some(password) => format!(":{}@", escaped(password)),
            None => String::new(),
        }
    }

    /// A new connection that has entered as the user `default`.
    ///
    /// # Panics
    ///
    /// If the server cannot be reached or does not let it in. See [`Raw::connect`] where that is the question.
    #[track_caller]
    pub fn raw(&self) -> Raw {
        match Raw::enter(self.address(), self.password()) {
            Ok(raw) => raw,
            Err(error) => panic!("no connection to {}: {error}", self.address()),
        }
    }
}

fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}
