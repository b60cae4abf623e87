//! Processes on networks of their own, which a test cuts off: what a broken cable or switch does to one host of many.
//!
//! - NS1: a process in a [`Namespace`] reaches the host at [`host_address`](Namespace::host_address) and nothing else, not
//!   even what listens on the host's 127.0.0.1.
//! - NS2: while it is cut off packets vanish in both directions. Connections stand, and nobody is told.
//! - NS3: nothing is left behind. The namespace has no name; it ends with this value, or the process that has it, and the last
//!   process in it, and takes its interfaces along.
//!
//! It takes Linux, root and the program `ip`; where one is missing, [`Missing`] says so. A test that needs it is skipped
//! there, in CI as well: nothing that is installed changes what a machine permits.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::missing::Missing;
use crate::scratch::Reservation;
use crate::{DEADLINE, run_to_end};

/// The network for measurements between hosts, which nobody uses otherwise. Of each four addresses the second is the host's
/// and the third is that of the namespace.
const NETWORK: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const NETWORKS: u16 = 1 << 15;

/// A network that consists of this host and of what runs in it.
#[derive(Debug)]
pub struct Namespace {
    /// Holds it while no process runs in it.
    handle: File,
    number: Reservation,
}

impl Namespace {
    /// Makes one that is connected.
    ///
    /// # Errors
    ///
    /// [`Missing`] if the machine does not permit it.
    pub fn new() -> Result<Self, Missing> {
        let number = Reservation::new("networks", 0..NETWORKS, is_free);
        let (host, inside) = (interface(number.number()), addresses(number.number()));
        // A thread can be in another namespace than its process; what it starts is in the same.
        let maker = thread::Builder::new().spawn(move || {
            // SAFETY: it changes this thread alone, which ends here.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                let error = io::Error::last_os_error();
                return Err(format!("network namespaces are not permitted: {error}"));
            }
            let handle = File::open("/proc/thread-self/ns/net");
            let handle = handle.map_err(|error| format!("no handle of a namespace: {error}"))?;
            ip(&["link", "set", "lo", "up"])?;
            // By the id of the process, its main thread's namespace.
            let process = std::process::id().to_string();
            ip(&[
                "link", "add", "eth0", "type", "veth", "peer", "name", &host, "netns", &process,
            ])?;
            ip(&["addr", "add", &format!("{}/30", inside[1]), "dev", "eth0"])?;
            ip(&["link", "set", "eth0", "up"])?;
            Ok(handle)
        });
        let made = maker.expect("a thread starts").join();
        let handle = made
            .expect("it does not panic")
            .map_err(Missing::permission)?;
        let namespace = Self { handle, number };
        let host = namespace.interface();
        let address = format!("{}/30", namespace.host_address());
        ip(&["addr", "add", &address, "dev", &host])
            .and_then(|()| ip(&["link", "set", &host, "up"]))
            .map_err(Missing::permission)?;
        Ok(namespace)
    }

    /// The host's address, as it is seen from inside; the host can listen on it.
    pub fn host_address(&self) -> Ipv4Addr {
        addresses(self.number.number())[0]
    }

    /// The address of what runs inside.
    pub fn address(&self) -> Ipv4Addr {
        addresses(self.number.number())[1]
    }

    /// A command that runs inside. Whoever starts it ends it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let handle = self.handle.try_clone().expect("a descriptor is to be had");
        let enter = move || {
            // SAFETY: it changes the process that is about to run the program, which has one thread.
            match unsafe { libc::setns(handle.as_raw_fd(), libc::CLONE_NEWNET) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        let mut command = Command::new(program);
        // SAFETY: it allocates nothing and takes no lock.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Takes the cable out.
    pub fn cut_off(&self) {
        self.set("down");
    }

    /// Puts the cable in again.
    pub fn reconnect(&self) {
        self.set("up");
    }

    fn set(&self, state: &str) {
        let set = ip(&["link", "set", &self.interface(), state]);
        set.unwrap_or_else(|error| panic!("{error}"));
    }

    fn interface(&self) -> String {
        interface(self.number.number())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // At once, and not only when the last process in it has ended.
        let _ = ip(&["link", "delete", &self.interface()]);
    }
}

/// The name of the host's end.
fn interface(number: u16) -> String {
    format!("anthill{number}")
}

/// The addresses of the host, and of the namespace.
fn addresses(number: u16) -> [Ipv4Addr; 2] {
    let first = u32::from(NETWORK) + 4 * u32::from(number);
    [(first + 1).into(), (first + 2).into()]
}

/// Whether no interface of this host has that name or address.
fn is_free(number: u16) -> bool {
    let has_address = UdpSocket::bind((addresses(number)[0], 0)).is_ok();
    !has_address && !Path::new("/sys/class/net").join(interface(number)).exists()
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    // It may not be on the PATH of a user.
    let program = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip", "/bin/ip"]
        .into_iter()
        .find(|program| Path::new(program).exists())
        .ok_or("no program `ip` (Debian's package iproute2)")?;
    let output = run_to_end(Command::new(program).args(arguments), DEADLINE);
    if output.success {
        Ok(())
    } else {
        let told = output.text.trim();
        Err(format!(
            "`ip {}`: {told} ({})",
            arguments.join(" "),
            output.status
        ))
    }
}
