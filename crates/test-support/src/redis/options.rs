//! How a server is to be started, and the file that tells it so.

use std::path::{Path, PathBuf};

use super::installation::Installation;
use super::{Access, Ports, Server};
use crate::missing::Missing;

/// What a server writes to the disk, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing: with the process all is gone.
    Off,
    /// A log of all writes, on the disk before they are answered.
    AofAlways,
    /// A log of all writes, on the disk within about a second.
    AofEverysec,
    /// A log of all writes, on the disk when the system writes it.
    AofNo,
    /// A snapshot now and then, and at a clean stop: Redis' own default.
    Snapshots,
}

impl Persistence {
    fn lines(self) -> &'static str {
        match self {
            Self::Off => "save \"\"\nappendonly no",
            Self::AofAlways => "save \"\"\nappendonly yes\nappendfsync always",
            Self::AofEverysec => "save \"\"\nappendonly yes\nappendfsync everysec",
            Self::AofNo => "save \"\"\nappendonly yes\nappendfsync no",
            Self::Snapshots => "save 3600 1 300 100 60 10000\nappendonly no",
        }
    }
}

/// Files for a server that also listens for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Its certificate, with those between it and the authority.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// Who signs the certificates of clients; none if they need no certificate.
    pub clients: Option<PathBuf>,
}

/// The server that another one is a replica of.
#[derive(Clone, Debug)]
pub(super) struct Primary {
    pub(super) port: u16,
    pub(super) password: Option<String>,
}

impl Primary {
    pub(super) fn of(access: &Access) -> Self {
        Self {
            port: access.port,
            password: access.password.clone(),
        }
    }
}

/// How a server is to be started.
#[derive(Clone, Debug)]
pub struct Options {
    persistence: Persistence,
    pub(super) password: Option<String>,
    pub(super) tls: Option<Tls>,
    pub(super) primary: Option<Primary>,
    pub(super) cluster: bool,
    settings: Vec<String>,
}

impl Options {
    /// A server with the settings of all test servers, and a password of its own.
    pub fn new(persistence: Persistence) -> Self {
        Self {
            persistence,
            // Every user of the host can reach the port, and who may configure a server may write files.
            password: Some(format!("{:032x}", rand::random::<u128>())),
            tls: None,
            primary: None,
            cluster: false,
            settings: Vec::new(),
        }
    }

    /// Lets the user `default` in with this password. Others are made by `set("user", "alice on >secret ~mail:* +@all")`.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Lets everybody in who reaches the port.
    #[must_use]
    pub fn without_password(mut self) -> Self {
        self.password = None;
        self
    }

    /// Also listens for TLS, on a port of its own.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Starts as a replica.
    #[must_use]
    pub fn replica_of(mut self, primary: &Server) -> Self {
        self.primary = Some(Primary::of(primary));
        self
    }

    /// Starts as a node of a cluster, on its own so far.
    #[must_use]
    pub(super) fn cluster(mut self) -> Self {
        self.cluster = true;
        self
    }

    /// Adds a line to its configuration: a setting and its arguments as they stand in a `redis.conf`, such as `maxmemory` and
    /// `4mb`. Where it listens, logs, and keeps its data is fixed. `CONFIG REWRITE` has no effect on its next start.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        assert!(
            !name.contains(char::is_whitespace) && !value.contains('\n'),
            "it is one line"
        );
        self.settings.push(format!("{name} {value}"));
        self
    }

    /// Starts the server and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// [`Missing`] if Redis is not installed, or TLS is asked for and it was built without.
    pub fn start(self) -> Result<Server, Missing> {
        let installation = Installation::find()?;
        let ports = Ports::reserve(&self);
        Server::start_by(installation, self, ports)
    }

    /// The server's file. Later lines go before earlier ones.
    pub(super) fn file(&self, name: &str, folder: &Path, ports: &Ports) -> String {
        let mut lines = vec![
            "enable-debug-command no".to_owned(),
            "repl-diskless-sync-delay 0".to_owned(),
            self.persistence.lines().to_owned(),
        ];
        lines.extend_from_slice(&self.settings);
        let mut set = |name: &str, value: &str| lines.push(format!("{name} {value}"));
        set("daemonize", "no");
        set("loglevel", "notice");
        set("logfile", "\"\"");
        set("syslog-enabled", "no");
        set("dir", &quoted_path(&folder.join("data")));
        set("bind", "127.0.0.1");
        set("port", &ports.plain.number().to_string());
        set("unixsocket", &quoted_path(&folder.join("socket")));
        set("unixsocketperm", "700");
        // By which all its processes are known, from when they give themselves titles.
        set(
            "proc-title-template",
            &format!("\"{{title}} {name}/redis.conf {{listen-addr}}\""),
        );
        if let Some(password) = &self.password {
            set("requirepass", &quoted(password));
        }
        // Its own until it has a primary, so that nodes of one password can become each other's replica.
        let primary = self.primary.as_ref();
        let password = primary.map_or(&self.password, |primary| &primary.password);
        if let Some(password) = password {
            set("masterauth", &quoted(password));
        }
        if let Some(primary) = primary {
            set("replicaof", &format!("127.0.0.1 {}", primary.port));
        }
        if let (Some(tls), Some(port)) = (&self.tls, &ports.tls) {
            set("tls-port", &port.number().to_string());
            set("tls-cert-file", &quoted_path(&tls.certificate));
            set("tls-key-file", &quoted_path(&tls.key));
            match &tls.clients {
                Some(authority) => {
                    set("tls-ca-cert-file", &quoted_path(authority));
                    set("tls-auth-clients", "yes");
                }
                None => set("tls-auth-clients", "no"),
            }
        }
        if let Some(bus) = &ports.bus {
            set("cluster-enabled", "yes");
            set("cluster-config-file", "nodes.conf");
            set("cluster-port", &bus.number().to_string());
            set("cluster-announce-ip", "127.0.0.1");
        }
        lines.join("\n") + "\n"
    }
}

/// A text as one argument of a setting.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn quoted_path(path: &Path) -> String {
    quoted(path.to_str().expect("a path of these tests is text"))
}
