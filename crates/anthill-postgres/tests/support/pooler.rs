//! A private `PgBouncer` in transaction mode: each transaction may have another session of the server.

use anthill_test_support::becomes_true;
use anthill_test_support::missing::Missing;
use anthill_test_support::postgres::Access;
use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Names the program, if it is not on `PATH` or in `/usr/sbin`.
const CHOSEN: &str = "ANTHILL_PGBOUNCER";

/// How many sessions of the server it has: fewer than one broker has connections.
const SESSIONS: usize = 3;

/// It ends when this is dropped, or when this process is gone.
pub(crate) struct Pooler {
    address: SocketAddr,
    password: String,
    /// A shell that ends it when nobody holds the other end of its input.
    shell: Child,
    folder: TempDir,
}

impl Pooler {
    pub(crate) fn start(server: &Access) -> Result<Pooler, Missing> {
        let program = std::env::var(CHOSEN).unwrap_or_else(|_| "pgbouncer".to_owned());
        let found = Command::new(&program)
            .env("PATH", path())
            .arg("--version")
            .output();
        if found.is_err() {
            return Err(Missing::program("no PgBouncer"));
        }
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let address = free.expect("a port is free");
        let folder = tempfile::tempdir().expect("a folder");
        let (at, password) = (folder.path(), server.password());
        let is_root = at
            .metadata()
            .is_ok_and(|at| std::os::unix::fs::MetadataExt::uid(&at) == 0);
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\n\
             unix_socket_dir =\nauth_type = plain\nauth_file = {}/users\npool_mode = transaction\n\
             default_pool_size = {SESSIONS}\nmax_client_conn = 1000\nserver_lifetime = 5\n",
            server.address().port(),
            address.port(),
            at.display(),
        );
        let write = |name: &str, text: &str| fs::write(at.join(name), text).expect("it is written");
        write("users", &format!("\"postgres\" \"{password}\"\n"));
        write("settings", &settings);
        // As a user that is not root, whom it refuses.
        let command = if is_root {
            fs::set_permissions(at, Permissions::from_mode(0o755)).expect("it is ours");
            format!(
                "runuser -u postgres -- {program} -q {}/settings",
                at.display()
            )
        } else {
            format!("{program} -q {}/settings", at.display())
        };
        let shell = Command::new("sh")
            .args([
                "-c",
                &format!("exec 3<&0; {command} <&- & read _ <&3; kill $!; wait"),
            ])
            .env("PATH", path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(fs::File::create(at.join("log")).expect("it is made"))
            .spawn()
            .expect("a shell starts");
        let pooler = Pooler {
            address,
            password: password.to_owned(),
            shell,
            folder,
        };
        let listens = || TcpStream::connect(address).is_ok();
        assert!(
            becomes_true(Duration::from_secs(30), listens),
            "{}",
            pooler.log()
        );
        Ok(pooler)
    }

    /// The address of the database `postgres` through it.
    pub(crate) fn url(&self) -> String {
        self.url_of("postgres")
    }

    pub(crate) fn url_of(&self, database: &str) -> String {
        format!(
            "postgres://postgres:{}@{}/{database}",
            self.password, self.address
        )
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin")
}
