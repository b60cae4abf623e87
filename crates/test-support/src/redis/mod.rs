//! Private Redis servers for tests, from what is installed on the machine; no client is needed for that.
//!
//! - PG1: a server is of one process alone: its folder, ports and password are its own. No other server, and no test of
//!   another process, is touched by what happens to it.
//! - PG2: it keeps its ports over each restart, so that clients come back to the same address.
//! - PG3: nothing is left behind, neither processes nor files, once it is dropped, or the process that started it is gone,
//!   also by a kill.
//! - PG4: what is missing is told ([`Missing`]); a server that is installed and does not start is a panic with its log, never
//!   a skip.
//!
//! A Valkey serves where there is no Redis. Both must be of version 7 or later.
//!
//! ```no_run
//! use anthill_test_support::redis::{self, Options, Persistence, Server};
//! use anthill_test_support::skip_unless;
//!
//! fn looks() {
//!     let shared = skip_unless!(redis::shared()); // of all tests of this process
//!     shared.raw().run(&["SET", "a key that no other test uses", "1"]);
//! }
//!
//! fn kills() {
//!     let server = skip_unless!(Server::start(Persistence::AofAlways)); // its own
//!     server.kill();
//!     server.start_again();
//! }
//!
//! fn fails_over() {
//!     let primary = skip_unless!(Server::start(Persistence::Off));
//!     let replica = Options::new(Persistence::Off).replica_of(&primary);
//!     let replica = skip_unless!(replica.start());
//!     replica.wait_for_replication();
//!     primary.kill();
//!     replica.promote();
//! }
//! ```

mod access;
mod cluster;
mod installation;
mod options;
mod raw;

pub use access::Access;
pub use cluster::{Cluster, SLOTS, Step, slot_of};
pub use options::{Options, Persistence, Tls};
pub use raw::{Fields, Raw, Value};

use std::fs;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use self::installation::Installation;
use self::options::Primary;
use crate::eventually;
use crate::missing::Missing;
use crate::scratch::Reservation;
use crate::server::Home;
use crate::server::processes::{await_ready, ends, kill_all, pause, signal};

/// The ports of a server.
#[derive(Debug)]
struct Ports {
    plain: Reservation,
    tls: Option<Reservation>,
    /// On which the nodes of a cluster speak with each other.
    bus: Option<Reservation>,
}

impl Ports {
    fn reserve(options: &Options) -> Self {
        Self {
            plain: Reservation::port(),
            tls: options.tls.is_some().then(Reservation::port),
            bus: options.cluster.then(Reservation::port),
        }
    }
}

/// A private server. Dropping it ends it and removes its folder.
///
/// It dereferences to [`Access`], which says how to reach it.
#[derive(Debug)]
pub struct Server {
    installation: Installation,
    /// Of which `primary` follows what the server is told.
    options: Mutex<Options>,
    ports: Ports,
    access: Access,
    /// None while it is stopped or killed.
    process: Mutex<Option<Child>>,
    home: Home,
}

impl Server {
    /// Starts a server and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// [`Missing`] if Redis is not installed.
    pub fn start(persistence: Persistence) -> Result<Self, Missing> {
        Options::new(persistence).start()
    }

    fn start_by(
        installation: Installation,
        options: Options,
        ports: Ports,
    ) -> Result<Self, Missing> {
        // Its file is an argument, and stands in the titles that all its processes give themselves.
        let home = Home::new("redis", |name| format!("^.*{name}/redis[.]conf( |$)"));
        let mut server = Self {
            access: Access {
                port: ports.plain.number(),
                tls_port: ports.tls.as_ref().map(Reservation::number),
                socket: home.folder().join("socket"),
                password: options.password.clone(),
            },
            installation,
            options: Mutex::new(options),
            ports,
            process: Mutex::new(None),
            home,
        };
        fs::create_dir(server.data_folder()).expect("the folder can be written to");
        while let Err(failure) = server.launch() {
            if failure.contains("Bad directive") && failure.contains("'tls-port ") {
                let what = "no Redis with TLS: it was built without";
                return Err(Missing::program(what));
            }
            // Somebody who makes no reservations may take a port in the meantime.
            assert!(
                failure.contains("Address already in use"),
                "Redis does not start: {failure}"
            );
            let ports = Ports::reserve(&server.options());
            server.ports = ports;
            server.access.port = server.ports.plain.number();
            server.access.tls_port = server.ports.tls.as_ref().map(Reservation::number);
        }
        Ok(server)
    }

    /// Starts the process; the failure has the end of its log.
    fn launch(&self) -> Result<(), String> {
        let mut process = self.process();
        assert!(process.is_none(), "the server runs");
        let file = self.home.folder().join("redis.conf");
        let text = self
            .options()
            .file(&self.home.name(), self.home.folder(), &self.ports);
        fs::write(&file, text).expect("the folder can be written to");
        let (log, from) = self.home.open_log();
        let mut command = self.installation.command();
        let child = command
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor is to be had"))
            .stderr(log)
            // Not of the group that a terminal interrupts.
            .process_group(0)
            .spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        // Not by a connection: somebody else may listen there, or nobody be let in.
        let ready = await_ready(&mut child, |_| {
            let told = self.home.log_from(from);
            told.contains("Ready to accept connections")
        });
        if let Err(failure) = ready {
            kill_all(&mut child);
            return Err(format!("{failure}\n{}", self.home.log_from(from)));
        }
        *process = Some(child);
        Ok(())
    }

    fn options(&self) -> MutexGuard<'_, Options> {
        self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder of its snapshots and logs of writes.
    pub fn data_folder(&self) -> PathBuf {
        self.home.folder().join("data")
    }

    /// All that the server has logged.
    pub fn log(&self) -> String {
        self.home.log()
    }

    /// The id of its process; none while it is stopped or killed.
    pub fn pid(&self) -> Option<u32> {
        self.process().as_ref().map(Child::id)
    }

    /// Whether the server runs: it was not stopped or killed, nor has it ended by itself.
    pub fn is_running(&self) -> bool {
        let mut process = self.process();
        process
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Shuts the server down as an operator does: connections are ended, and what is to be kept is written. One that is
    /// paused is resumed.
    ///
    /// # Panics
    ///
    /// If it does not end: a script that hangs keeps it from that.
    pub fn stop(&self) {
        let Some(mut process) = self.process().take() else {
            return;
        };
        // As `SHUTDOWN` does it, and needs neither a connection nor rights.
        let (_, from) = self.home.open_log();
        signal(&process, libc::SIGTERM);
        signal(&process, libc::SIGCONT);
        let mut refused = 0;
        let ended = ends(&mut process, |process| {
            // While it rewrites its log of writes for the first time.
            let told = self.home.log_from(from);
            let now = told.matches("Errors trying to shut down").count();
            if now > refused {
                refused = now;
                signal(process, libc::SIGTERM);
            }
        });
        if !ended {
            kill_all(&mut process);
            panic!("Redis does not stop:\n{}", self.log());
        }
    }

    /// Kills all processes of the server with SIGKILL, and waits until they are gone.
    pub fn kill(&self) {
        if let Some(mut process) = self.process().take() {
            kill_all(&mut process);
        }
    }

    /// Starts a server again that was stopped or killed, with the same ports and data, and waits until it has read what it
    /// had written.
    pub fn start_again(&self) {
        if let Err(failure) = self.launch() {
            panic!("Redis does not start again: {failure}");
        }
    }

    /// [Stops](Self::stop) it and [starts it again](Self::start_again).
    pub fn restart(&self) {
        self.stop();
        self.start_again();
    }

    /// Kills the server, removes its data, and starts it again.
    pub fn empty(&self) {
        self.kill();
        fs::remove_dir_all(self.data_folder()).expect("nobody else writes there");
        fs::create_dir(self.data_folder()).expect("the folder can be written to");
        self.start_again();
    }

    /// Stops the server's process as SIGSTOP does, and waits until it does nothing any more: its connections stand, and the
    /// system takes more of them.
    pub fn pause(&self) {
        pause(self.process().as_ref().expect("the server runs"));
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        let process = self.process();
        signal(process.as_ref().expect("the server runs"), libc::SIGCONT);
    }

    /// Makes it a replica, also where it is started again. What it holds is replaced by what the primary holds.
    pub fn follow(&self, primary: &Server) {
        let to = Primary::of(primary);
        let mut raw = self.raw();
        let password = to.password.as_deref().unwrap_or_default();
        raw.run(&["CONFIG", "SET", "masterauth", password]);
        raw.run(&["REPLICAOF", "127.0.0.1", &to.port.to_string()]);
        self.options().primary = Some(to);
    }

    /// Makes a replica a primary, also where it is started again.
    pub fn promote(&self) {
        self.raw().run(&["REPLICAOF", "NO", "ONE"]);
        self.options().primary = None;
    }

    /// Waits until this replica has all that its primary holds now.
    ///
    /// # Panics
    ///
    /// If it is no replica, or does not come so far in time.
    pub fn wait_for_replication(&self) {
        let primary = self.options().primary.clone();
        let primary = primary.expect("the server is a replica");
        let address = (Ipv4Addr::LOCALHOST, primary.port).into();
        let mut there = Raw::enter(address, primary.password.as_deref())
            .unwrap_or_else(|error| panic!("no connection to the primary: {error}"));
        let mut here = self.raw();
        let offset = |info: &Fields, name: &str| info.get(name)?.parse::<u64>().ok();
        let held = offset(&there.info("replication"), "master_repl_offset");
        eventually("the replica has what the primary had", || {
            // The primary takes another id when its first replica comes.
            let (now, info) = (there.info("replication"), here.info("replication"));
            info.get("master_link_status")
                .is_some_and(|link| link == "up")
                && info.get("master_replid") == now.get("master_replid")
                && offset(&info, "slave_repl_offset") >= held
        });
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
    }
}

/// The server that all tests of this process share, started when it is first asked for. It writes nothing to the disk.
///
/// It can only be reached, not stopped: a test that does that, or configures or flushes it, has a [`Server`] of its own.
///
/// # Errors
///
/// [`Missing`] if Redis is not installed.
pub fn shared() -> Result<&'static Access, Missing> {
    static SHARED: OnceLock<Result<Server, Missing>> = OnceLock::new();
    match SHARED.get_or_init(|| Server::start(Persistence::Off)) {
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
    fn ports_that_somebody_took_in_the_meantime_are_given_up() {
        let installation = skip_unless!(Installation::find());
        for bus in [false, true] {
            let options = Options::new(Persistence::Off).cluster();
            let ports = Ports::reserve(&options);
            let taken = if bus { &ports.bus } else { &None };
            let taken = taken.as_ref().unwrap_or(&ports.plain).number();
            let _listener = TcpListener::bind(("127.0.0.1", taken)).unwrap();
            let server = Server::start_by(installation.clone(), options, ports).unwrap();
            assert_eq!(server.raw().run(&["PING"]).text(), "PONG");
            let of_bus = server.ports.bus.as_ref().unwrap().number();
            assert!(![server.port(), of_bus].contains(&taken));
        }
    }
}
