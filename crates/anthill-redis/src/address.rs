//! Addresses: `redis://user:password@host:port/database?queue=NAME&prefix=NAME`, and their options.

use crate::node::{Login, Node, PORT};
use crate::tls::{Tls, TlsOptions};
use anthill_jobs::broker::without_password;
use anthill_jobs::{Durability, QueueError};
use percent_encoding::percent_decode_str;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use std::str::FromStr;
use std::time::Duration;

/// The longest name of a queue or prefix, in bytes.
const LONGEST_NAME: usize = 500;

/// What an address says.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) login: Login,
    /// Any of them knows the others, or is the only one.
    pub(crate) nodes: Vec<Node>,
    pub(crate) queue: String,
    pub(crate) prefix: String,
    pub(crate) timeout: Option<Duration>,
    pub(crate) connections: Option<usize>,
    pub(crate) replicas: Option<u32>,
    pub(crate) durability: Option<Durability>,
    pub(crate) refuses_eviction: bool,
}

impl FromStr for Address {
    type Err = QueueError;

    fn from_str(address: &str) -> Result<Address, QueueError> {
        let shown = without_password(address);
        parse(address, &shown).map_err(|reason| QueueError::Address {
            address: shown,
            reason,
        })
    }
}

/// A part of an address, and what is wrong with it.
fn parse(address: &str, shown: &str) -> Result<Address, String> {
    let (base, query) = address.split_once('?').unwrap_or((address, ""));
    let (scheme, place) = base
        .split_once("://")
        .ok_or("it does not start with redis://")?;
    let (is_tls, is_unix) = match scheme {
        "redis" | "valkey" => (false, false),
        "rediss" | "valkeys" => (true, false),
        "redis+unix" | "valkey+unix" | "unix" => (false, true),
        _ => return Err("it does not start with redis://".to_owned()),
    };
    let mut options = Options::default();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        options.read(part)?;
    }
    check_name("queue", &options.queue)?;
    check_name("prefix", &options.prefix)?;
    let infos = if is_unix {
        vec![info(&format!(
            "redis+unix://{place}?{}",
            options.of_client.join("&")
        ))?]
    } else {
        if !options.of_client.is_empty() {
            return Err(format!("there is no option {:?}", options.of_client[0]));
        }
        let (login, rest) = place
            .rsplit_once('@')
            .map_or(("", place), |(login, rest)| (login, rest));
        let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
        let at = if login.is_empty() { "" } else { "@" };
        let hosts = hosts.split(',');
        let infos = hosts.map(|host| info(&format!("redis://{login}{at}{host}/{database}")));
        infos.collect::<Result<Vec<_>, _>>()?
    };
    let settings = infos[0].redis_settings().clone();
    let nodes = infos.iter().map(node).collect::<Result<_, _>>()?;
    let tls = is_tls.then(|| Tls::of(&options.tls)).transpose()?;
    if !is_tls && options.tls != TlsOptions::default() {
        return Err("its options of TLS are for addresses rediss:".to_owned());
    }
    Ok(Address {
        login: Login {
            settings,
            tls,
            shown: shown.to_owned(),
        },
        nodes,
        queue: options.queue,
        prefix: options.prefix,
        timeout: options.timeout,
        connections: options.connections,
        replicas: options.replicas,
        durability: options.durability,
        refuses_eviction: options.refuses_eviction,
    })
}

/// What is behind the question mark.
struct Options<'a> {
    queue: String,
    prefix: String,
    timeout: Option<Duration>,
    connections: Option<usize>,
    replicas: Option<u32>,
    durability: Option<Durability>,
    refuses_eviction: bool,
    tls: TlsOptions,
    /// Those that the client knows itself: of a socket's address.
    of_client: Vec<&'a str>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            queue: "default".to_owned(),
            prefix: "anthill".to_owned(),
            timeout: None,
            connections: None,
            replicas: None,
            durability: None,
            refuses_eviction: false,
            tls: TlsOptions::default(),
            of_client: Vec::new(),
        }
    }
}

impl<'a> Options<'a> {
    fn read(&mut self, part: &'a str) -> Result<(), String> {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = decode(value).ok_or_else(|| format!("{name}: its value is not UTF-8"))?;
        let wrong = |expected: &str| format!("{name}={value}: it should be {expected}");
        match name {
            "queue" => self.queue = value,
            "prefix" => self.prefix = value,
            "timeout" => {
                let seconds = value.parse().ok().filter(|&seconds: &f64| seconds > 0.0);
                let timeout = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                self.timeout = Some(timeout.ok_or_else(|| wrong("a number of seconds"))?);
            }
            "connections" => {
                let most = value.parse().ok().filter(|&most: &usize| most > 0);
                self.connections = Some(most.ok_or_else(|| wrong("a number of connections"))?);
            }
            "replicas" => {
                let replicas = value.parse().ok();
                self.replicas = Some(replicas.ok_or_else(|| wrong("a number of replicas"))?);
            }
            "durability" => {
                self.durability = Some(match &*value {
                    "none" => Durability::None,
                    "eventual" => Durability::Eventual,
                    "process" => Durability::Process,
                    "fsync" => Durability::Fsync,
                    "replicated" => Durability::Replicated,
                    _ => return Err(wrong("none, eventual, process, fsync or replicated")),
                });
            }
            "eviction" => {
                self.refuses_eviction = match &*value {
                    "refuse" => true,
                    "warn" => false,
                    _ => return Err(wrong("warn or refuse")),
                }
            }
            "cacert" => self.tls.cacert = Some(value),
            "cert" => self.tls.cert = Some(value),
            "key" => self.tls.key = Some(value),
            "db" | "user" | "pass" => self.of_client.push(part),
            _ => return Err(format!("there is no option {name:?}")),
        }
        Ok(())
    }
}

fn info(address: &str) -> Result<ConnectionInfo, String> {
    let info = address.into_connection_info();
    // The client's errors have no part of the address.
    info.map_err(|error| error.to_string())
}

fn node(info: &ConnectionInfo) -> Result<Node, String> {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) => Ok(Node::Tcp {
            host: host.clone(),
            port: if *port == 0 { PORT } else { *port },
        }),
        ConnectionAddr::Unix(path) => Ok(Node::Unix(path.clone())),
        other => Err(format!("{other} is not a place of a server")),
    }
}

/// Refuses a name that no queue, or prefix, can have.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), String> {
    match name.len() {
        0 => Err(format!("the {what} has no name")),
        length if length > LONGEST_NAME => Err(format!(
            "the name of the {what} of {length} bytes is longer than {LONGEST_NAME}"
        )),
        _ => Ok(()),
    }
}

/// Decodes `%41`. None, if that is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(address: &str) -> Result<Address, QueueError> {
        address.parse()
    }

    fn tcp(host: &str, port: u16) -> Node {
        let host = host.to_owned();
        Node::Tcp { host, port }
    }

    #[test]
    fn an_address_names_server_queue_and_prefix() {
        let address =
            parse("redis://me:sec%40ret@cache:6380/2?queue=e%20mail%41&prefix=shop&timeout=2.5&connections=3")
                .unwrap();
        assert_eq!((&*address.queue, &*address.prefix), ("e mailA", "shop"));
        assert_eq!(address.nodes, [tcp("cache", 6380)]);
        let settings = &address.login.settings;
        assert_eq!(settings.username(), Some("me"));
        assert_eq!((settings.password(), settings.db()), (Some("sec@ret"), 2));
        assert_eq!(address.timeout, Some(Duration::from_millis(2_500)));
        assert_eq!(address.connections, Some(3));
        let address = parse("valkey://localhost").unwrap();
        assert_eq!((&*address.queue, &*address.prefix), ("default", "anthill"));
        assert_eq!(address.nodes, [tcp("localhost", PORT)]);
        assert_eq!(address.durability, None);
    }

    #[test]
    fn an_address_may_name_several_nodes_or_a_socket() {
        let address = parse("redis://:secret@a:7001,b,[::1]:7003/?queue=mail").unwrap();
        let nodes = [tcp("a", 7001), tcp("b", PORT), tcp("::1", 7003)];
        assert_eq!(address.nodes, nodes);
        assert_eq!(address.login.settings.password(), Some("secret"));
        let address = parse("redis+unix:///run/redis.sock?db=3&pass=secret&queue=mail").unwrap();
        assert_eq!(address.nodes, [Node::Unix("/run/redis.sock".into())]);
        let settings = &address.login.settings;
        assert_eq!((settings.password(), settings.db()), (Some("secret"), 3));
        assert!(!address.login.shown.contains("secret"));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (address, reason) in [
            ("mysql://me:secret@db/0", "redis://"),
            ("redis:me:secret@db", "redis://"),
            ("redis://me:secret@db/0?queue=", "no name"),
            ("redis://me:secret@db/0?queue=%ff", "UTF-8"),
            ("redis://me:secret@db/0?cue=mail", "cue"),
            ("redis://me:secret@db/0?db=2", "db"),
            ("redis://me:secret@db/zero", "database"),
            ("redis://me:secret@db:port/0", ""),
            ("redis://me:secret@db/0?timeout=soon", "seconds"),
            ("redis://me:secret@db/0?timeout=0", "seconds"),
            ("redis://me:secret@db/0?connections=0", "connections"),
            ("redis://me:secret@db/0?replicas=all", "replicas"),
            ("redis://me:secret@db/0?durability=good", "fsync"),
            ("redis://me:secret@db/0?eviction=maybe", "refuse"),
            ("redis://me:secret@db/0?cacert=a.pem", "rediss:"),
            ("redis+unix:///run/redis?pass=secret&db=x", "database"),
        ] {
            let Err(error) = parse(address) else {
                panic!("{address} is taken");
            };
            let error = error.to_string();
            assert!(error.contains(reason), "{address}: {error}");
            assert!(!error.contains("secret"), "{address}: {error}");
        }
    }

    #[test]
    #[cfg(not(feature = "rustls"))]
    fn tls_needs_its_feature() {
        let error = parse("rediss://db/0").err().expect("it is refused");
        assert!(error.to_string().contains("`rustls`"), "{error}");
    }

    #[test]
    #[cfg(feature = "rustls")]
    fn tls_reads_its_files() {
        assert!(parse("rediss://db/0").is_ok());
        for (address, reason) in [
            ("rediss://db/0?cacert=/nowhere/a.pem", "cacert"),
            ("rediss://db/0?cert=/dev/null", "belong together"),
        ] {
            let error = parse(address).err().expect("it is refused").to_string();
            assert!(error.contains(reason), "{address}: {error}");
        }
    }
}
