//! Nodes: where a server is, and how to log in to it.

use anthill_jobs::QueueError;
use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};
use std::fmt;
use std::path::PathBuf;

/// The port where a server listens if nothing else is said.
pub(crate) const PORT: u16 = 6379;

/// A server: one of a cluster, or the only one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Node {
    /// The node that a reply names: `host:port`. Without a host it is that of the node that replied.
    pub(crate) fn named(&self, name: &str) -> Option<Node> {
        let (host, port) = name.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let own = match self {
            Node::Tcp { host, .. } => host,
            Node::Unix(_) => return None,
        };
        let host = if host.is_empty() || host == "?" {
            own.clone()
        } else {
            host.trim_matches(['[', ']']).to_owned()
        };
        Some(Node::Tcp { host, port })
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Tcp { host, port } => write!(f, "{host}:{port}"),
            Node::Unix(path) => path.display().fmt(f),
        }
    }
}

/// How to log in to each of the nodes.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) settings: RedisConnectionInfo,
    pub(crate) tls: Option<crate::tls::Tls>,
    /// The address, as it may be shown.
    pub(crate) shown: String,
}

impl Login {
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    pub(crate) fn client(&self, node: &Node) -> Result<Client, QueueError> {
        let refuse = |error: &redis::RedisError| QueueError::Address {
            address: self.shown.clone(),
            reason: error.to_string(),
        };
        let tcp = TcpSettings::default().set_nodelay(true);
        let info = |address: ConnectionAddr| -> Result<ConnectionInfo, QueueError> {
            let info = address
                .into_connection_info()
                .map_err(|error| refuse(&error))?;
            // It logs in by itself.
            let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
            Ok(info
                .set_redis_settings(settings)
                .set_tcp_settings(tcp.clone()))
        };
        let client = match (node, &self.tls) {
            (Node::Unix(path), _) => Client::open(info(ConnectionAddr::Unix(path.clone()))?),
            (Node::Tcp { host, port }, None) => {
                Client::open(info(ConnectionAddr::Tcp(host.clone(), *port))?)
            }
            (Node::Tcp { host, port }, Some(tls)) => {
                let address = ConnectionAddr::TcpTls {
                    host: host.clone(),
                    port: *port,
                    insecure: false,
                    tls_params: None,
                };
                tls.client(info(address)?)
            }
        };
        client.map_err(|error| refuse(&error))
    }

    /// Whether two addresses log in alike.
    pub(crate) fn is_like(&self, other: &Login) -> bool {
        let of = |login: &Login| {
            let settings = &login.settings;
            (
                settings.username().map(str::to_owned),
                settings.password().map(str::to_owned),
                settings.db(),
            )
        };
        of(self) == of(other) && self.tls == other.tls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_names_a_node() {
        let own = Node::Tcp {
            host: "10.0.0.1".to_owned(),
            port: 1,
        };
        let at = |host: &str, port| {
            let host = host.to_owned();
            Some(Node::Tcp { host, port })
        };
        assert_eq!(own.named("10.0.0.2:7001"), at("10.0.0.2", 7001));
        assert_eq!(own.named(":7001"), at("10.0.0.1", 7001));
        assert_eq!(own.named("?:7001"), at("10.0.0.1", 7001));
        assert_eq!(own.named("fe80::1:7001"), at("fe80::1", 7001));
        assert_eq!(own.named("nowhere"), None);
        assert_eq!(Node::Unix(PathBuf::from("/run/redis")).named("a:1"), None);
    }
}
