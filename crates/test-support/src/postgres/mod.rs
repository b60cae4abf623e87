//! Private Postgres servers for tests, from what is installed on the machine; no client is needed for that.
//!
//! - PG1: a server is of one process alone: its folder, port and password are its own. No other server, and no test of
//!   another process, is touched by what happens to it.
//! - PG2: it keeps its port over each restart, so that clients come back to the same address.
//! - PG3: nothing is left behind, neither processes nor files nor shared memory, once it is dropped, or the process that
//!   started it is gone, also by a kill.
//! - PG4: what is missing is told ([`Missing`]); a server that is installed and does not start is a panic with its log, never
//!   a skip.
//!
//! ```no_run
//! use anthill_test_support::postgres::{self, Fsync, Server};
//! use anthill_test_support::skip_unless;
//!
//! fn looks() {
//!     let shared = skip_unless!(postgres::shared()); // of all tests of this process
//!     let url = shared.fresh_database();
//! }
//!
//! fn kills() {
//!     let server = skip_unless!(Server::start(Fsync::On)); // its own
//!     server.kill();
//!     server.start_again();
//! }
//! ```

mod access;
mod installation;
mod processes;
mod template;

pub use access::Access;

use std::net::IpAddr;
use std::ops::Deref;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use self::installation::Installation;
use crate::missing::Missing;
use crate::scratch::Reservation;
use crate::server::Home;
use crate::server::processes::{await_ready, ends, kill_all, signal};

/// Whether a server waits for the disk at each commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// It does, as in production.
    On,
    /// It does not. What was committed survives a kill of the server all the same, and is lost only with the host.
    Off,
}

/// How a server is to be started.
#[derive(Clone, Debug)]
pub struct Options {
    fsync: Fsync,
    listen: Vec<IpAddr>,
    settings: Vec<String>,
}

impl Options {
    /// A server on 127.0.0.1 with the settings of all test servers.
    pub fn new(fsync: Fsync) -> Self {
        Self {
            fsync,
            listen: Vec::new(),
            settings: Vec::new(),
        }
    }

    /// Listens on this address of the host as well, with the same port.
    #[must_use]
    pub fn listen(mut self, address: IpAddr) -> Self {
        self.listen.push(address);
        self
    }

    /// Changes a setting, such as `max_connections`. `ALTER SYSTEM` has no effect on it.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push(format!("{name}={value}"));
        self
    }

    /// Starts the server and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// [`Missing`] if Postgres is not installed.
    pub fn start(self) -> Result<Server, Missing> {
        let installation = Installation::find()?;
        Ok(Server::start_by(installation, self, Reservation::port()))
    }
}

/// A private server. Dropping it ends it and removes its folder.
///
/// It dereferences to [`Access`], which says how to reach it.
#[derive(Debug)]
pub struct Server {
    installation: Installation,
    options: Options,
    port: Reservation,
    access: Access,
    /// None while it is stopped or killed.
    postmaster: Mutex<Option<Child>>,
    home: Home,
}

impl Server {
    /// Starts a server and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// [`Missing`] if Postgres is not installed.
    pub fn start(fsync: Fsync) -> Result<Self, Missing> {
        Options::new(fsync).start()
    }

    fn start_by(installation: Installation, options: Options, port: Reservation) -> Self {
        // The postmaster is known by an argument, the others by the titles that they give themselves.
        let home = Home::new("pg", |name| {
            format!("^(cluster_name={name}$|postgres: {name}: )")
        });
        let folder = home.folder();
        installation.user.own(folder);
        let password = template::copy(&installation, &folder.join("data"));
        let mut server = Self {
            access: Access::new(&installation, folder, port.number(), password),
            installation,
            options,
            port,
            postmaster: Mutex::new(None),
            home,
        };
        while let Err(failure) = server.launch() {
            // Somebody who makes no reservations may take the port in the meantime.
            assert!(
                failure.contains("Address already in use"),
                "Postgres does not start: {failure}"
            );
            server.port = Reservation::port();
            server.access.set_port(server.port.number());
        }
        server
    }

    /// Starts the postmaster; the failure has the end of its log.
    fn launch(&self) -> Result<(), String> {
        let mut postmaster = self.postmaster();
        assert!(postmaster.is_none(), "the server runs");
        let (log, from) = self.home.open_log();
        let mut addresses = vec!["127.0.0.1".to_owned()];
        addresses.extend(self.options.listen.iter().map(IpAddr::to_string));
        let mut settings = vec![
            format!("cluster_name={}", self.home.name()),
            format!("port={}", self.port.number()),
            format!("listen_addresses={}", addresses.join(",")),
            format!("unix_socket_directories={}", self.home.folder().display()),
        ];
        if self.options.fsync == Fsync::Off {
            settings.extend(["fsync=off".to_owned(), "full_page_writes=off".to_owned()]);
        }
        let mut command = self.installation.command("postgres");
        command.arg("-D").arg(self.data());
        for setting in settings.iter().chain(&self.options.settings) {
            command.arg("-c").arg(setting);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor is to be had"))
            .stderr(log)
            // Not of the group that a terminal interrupts.
            .process_group(0)
            .spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let data = self.data();
        let ready = await_ready(&mut child, |child| processes::is_ready(child, &data));
        if let Err(failure) = ready {
            kill_all(&mut child);
            return Err(format!("{failure}\n{}", self.home.log_from(from)));
        }
        *postmaster = Some(child);
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.home.folder().join("data")
    }

    fn postmaster(&self) -> MutexGuard<'_, Option<Child>> {
        self.postmaster
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// All that the server has logged.
    pub fn log(&self) -> String {
        self.home.log()
    }

    /// Whether the server runs: it was not stopped or killed, nor has it ended by itself.
    pub fn is_running(&self) -> bool {
        let mut postmaster = self.postmaster();
        postmaster
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Shuts the server down as an operator does: connections are ended, what was committed is written.
    pub fn stop(&self) {
        let Some(mut postmaster) = self.postmaster().take() else {
            return;
        };
        // The server's "fast" shutdown.
        signal(&postmaster, libc::SIGINT);
        if !ends(&mut postmaster, |_| ()) {
            kill_all(&mut postmaster);
            panic!("Postgres does not stop:\n{}", self.log());
        }
    }

    /// Kills all processes of the server with SIGKILL, and waits until they are gone.
    pub fn kill(&self) {
        if let Some(mut postmaster) = self.postmaster().take() {
            kill_all(&mut postmaster);
        }
    }

    /// Starts a server again that was stopped or killed, with the same port and data, and waits until it has recovered.
    pub fn start_again(&self) {
        if let Err(failure) = self.launch() {
            panic!("Postgres does not start again: {failure}");
        }
    }

    /// [Stops](Self::stop) it and [starts it again](Self::start_again).
    pub fn restart(&self) {
        self.stop();
        self.start_again();
    }
}

impl Deref for Server {
    type Target = Access;

    fn deref(&self) -> &Access {
        &self.access
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        processes::remove_shared_memory(&self.data());
    }
}

/// The server that all tests of this process share, started when it is first asked for. It does not wait for the disk.
///
/// It can only be reached, not stopped: a test that does that has a [`Server`] of its own. Each test takes a
/// [fresh database](Access::fresh_database).
///
/// # Errors
///
/// [`Missing`] if Postgres is not installed.
pub fn shared() -> Result<&'static Access, Missing> {
    static SHARED: OnceLock<Result<Server, Missing>> = OnceLock::new();
    match SHARED.get_or_init(|| Server::start(Fsync::Off)) {
        Ok(server) => Ok(server),
        Err(missing) => Err(missing.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skip_unless;
    use std::net::TcpListener;

    #[test]
    fn a_port_that_somebody_took_in_the_meantime_is_given_up() {
        let installation = skip_unless!(Installation::find());
        let port = Reservation::port();
        let taken = port.number();
        let _listener = TcpListener::bind(("127.0.0.1", taken)).unwrap();
        let server = Server::start_by(installation, Options::new(Fsync::Off), port);
        assert_ne!(server.address().port(), taken);
        assert_eq!(server.sql("postgres", "SELECT 1").unwrap(), "1");
    }
}
