//! How a server is reached.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::installation::Installation;
use crate::run_to_end;

/// How long a statement of [`Access::sql`] may take.
const LIMIT: Duration = Duration::from_secs(120);

/// The address of a server, and what a client needs to enter as its superuser `postgres`.
#[derive(Debug)]
pub struct Access {
    psql: PathBuf,
    socket_folder: PathBuf,
    port: u16,
    password: String,
}

impl Access {
    pub(super) fn new(
        installation: &Installation,
        folder: &Path,
        port: u16,
        password: String,
    ) -> Self {
        Self {
            psql: installation.program("psql"),
            socket_folder: folder.to_owned(),
            port,
            password,
        }
    }

    pub(super) fn set_port(&mut self, port: u16) {
        self.port = port;
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The folder of its Unix socket, which only root and the user that it runs as can enter; no password is asked for there.
    pub fn socket_folder(&self) -> &Path {
        &self.socket_folder
    }

    /// The superuser's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The address of the database `postgres`.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The address of a database.
    pub fn url_of(&self, database: &str) -> String {
        self.url_through(self.address(), database)
    }

    /// The address of a database that is reached through something else, such as a proxy.
    pub fn url_through(&self, address: SocketAddr, database: &str) -> String {
        format!("postgres://postgres:{}@{address}/{database}", self.password)
    }

    /// Runs statements in a database and returns their rows, one a line, columns separated by `|`.
    ///
    /// It starts a `psql`, so it is for what prepares and looks, not for what is measured.
    ///
    /// # Errors
    ///
    /// What `psql` says where it cannot connect, or a statement fails; those after it are not run.
    pub fn sql(&self, database: &str, statements: &str) -> Result<String, String> {
        let output = run_to_end(
            Command::new(&self.psql)
                .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d"])
                .arg(self.url_of(database))
                .args(["-c", statements])
                .env_clear()
                .env("LC_ALL", "C")
                // Rows only: notices and warnings would stand among them.
                .env("PGOPTIONS", "-c client_min_messages=error")
                .current_dir("/"),
            LIMIT,
        );
        let told = output.text.trim().to_owned();
        if output.success {
            Ok(told)
        } else {
            Err(format!("{} ({})", told, output.status))
        }
    }

    /// Makes an empty database and returns its name.
    pub fn fresh_database(&self) -> String {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "test_{}_{}",
            std::process::id(),
            MADE.fetch_add(1, Ordering::Relaxed)
        );
        // Nobody can be connected to template0, which would keep it from being copied.
        self.sql(
            "postgres",
            &format!("CREATE DATABASE {name} TEMPLATE template0"),
        )
        .unwrap_or_else(|error| panic!("no database {name}: {error}"));
        name
    }
}
