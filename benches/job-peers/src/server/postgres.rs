//! A private Postgres server: made in a folder of its own, on a free port, and gone at the end.
//!
//! 1. Its settings are those of `initdb` but for the port and the folder of its socket, so `fsync` is on; for
//!    [`Mode::Counting`] it loads `pg_stat_statements` besides.
//! 2. It refuses to run as root; then the user `postgres` runs it, and owns its folder.
//! 3. It is stopped when this is dropped; and when this program is killed, by a shell that waits for that, because
//!    `pg_ctl` starts it in a session of its own.
//! 4. All talk to it over TCP on 127.0.0.1, so that no driver has a shorter way than another.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::free_port;
use crate::process::is_root;

/// Whether it counts statements, which costs a little for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Plain,
    Counting,
}

pub(crate) struct Postgres {
    folder: PathBuf,
    programs: PathBuf,
    owner: Option<(u32, u32)>,
    port: u16,
    mode: Option<Mode>,
    /// Its standard input is closed when this program ends, however that is.
    guard: Option<Child>,
}

impl Postgres {
    /// Makes the data folder in `folder`, which is to be empty.
    pub(crate) fn make(folder: &Path) -> Result<Postgres> {
        let programs = programs()?;
        let owner = is_root().then(postgres_user).transpose()?;
        fs::create_dir_all(folder)?;
        if let Some((user, group)) = owner {
            chown(folder, Some(user), Some(group))?;
        }
        let mut server = Postgres {
            folder: folder.to_owned(),
            programs,
            owner,
            port: 0,
            mode: None,
            guard: None,
        };
        let data = server.data();
        server.succeed(
            "initdb",
            &["-A", "trust", "-U", "postgres", "--no-sync", "-D", &data],
        )?;
        server.guard = Some(server.watch()?);
        server.start(Mode::Plain)?;
        Ok(server)
    }

    fn watch(&self) -> Result<Child> {
        let script = "cat >/dev/null; \"$0\" -D \"$1\" -m immediate stop; rm -rf \"$1\"";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(self.programs.join("pg_ctl"));
        shell.arg(self.data()).current_dir(&self.folder);
        if let Some((user, group)) = self.owner {
            shell.uid(user).gid(group);
        }
        // Of a group of its own: what interrupts this program is not to end it.
        shell.process_group(0).stdin(Stdio::piped());
        shell.stdout(Stdio::null()).stderr(Stdio::null());
        shell.spawn().context("sh starts")
    }

    fn data(&self) -> String {
        self.folder.join("data").display().to_string()
    }

    /// Starts it anew if it runs in another mode.
    pub(crate) fn start(&mut self, mode: Mode) -> Result<()> {
        if self.mode == Some(mode) {
            return Ok(());
        }
        self.stop()?;
        // Another process may take the port before the server has it.
        for tries_left in (0..5).rev() {
            self.port = free_port()?;
            match self.try_start(mode) {
                Err(error) if tries_left == 0 => return Err(error),
                Err(_) => {}
                Ok(()) => break,
            }
        }
        self.mode = Some(mode);
        if mode == Mode::Counting {
            self.sql(
                "postgres",
                "CREATE EXTENSION IF NOT EXISTS pg_stat_statements",
            )?;
        }
        Ok(())
    }

    fn try_start(&self, mode: Mode) -> Result<()> {
        let mut options = format!(
            "-p {} -c unix_socket_directories={}",
            self.port,
            self.folder.display()
        );
        if mode == Mode::Counting {
            options += " -c shared_preload_libraries=pg_stat_statements";
        }
        let (data, log) = (self.data(), self.folder.join("log").display().to_string());
        self.succeed(
            "pg_ctl",
            &["-D", &data, "-l", &log, "-o", &options, "-w", "start"],
        )?;
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        if self.mode.take().is_some() {
            let data = self.data();
            self.succeed("pg_ctl", &["-D", &data, "-m", "fast", "-w", "stop"])?;
        }
        Ok(())
    }

    pub(crate) fn address(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// What the statement says, a line for each row, with `|` between columns.
    pub(crate) fn sql(&self, database: &str, statement: &str) -> Result<String> {
        let address = self.address(database);
        let output = self.succeed(
            "psql",
            &[
                "-X",
                "-q",
                "-At",
                "-v",
                "ON_ERROR_STOP=1",
                &address,
                "-c",
                statement,
            ],
        )?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    pub(crate) fn number(&self, database: &str, statement: &str) -> Result<f64> {
        let text = self.sql(database, statement)?;
        text.parse().with_context(|| format!("{statement}: {text}"))
    }

    /// Makes a database like another one, in place of one of that name.
    pub(crate) fn make_database(&self, name: &str, like: &str) -> Result<()> {
        self.drop_database(name)?;
        self.sql(
            "postgres",
            &format!("CREATE DATABASE {name} TEMPLATE {like}"),
        )?;
        Ok(())
    }

    pub(crate) fn drop_database(&self, name: &str) -> Result<()> {
        self.sql(
            "postgres",
            &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
        )?;
        Ok(())
    }

    /// Brings a database to where a running system has it: its statistics are known, and what was written before is no
    /// burden of what comes next.
    pub(crate) fn settle(&self, database: &str) -> Result<()> {
        self.sql(database, "VACUUM ANALYZE")?;
        self.sql("postgres", "CHECKPOINT")?;
        Ok(())
    }

    /// What was set beyond the defaults that are built in, and what matters of those.
    pub(crate) fn settings(&self) -> Result<String> {
        let wanted = "SELECT string_agg(name || '=' || current_setting(name), ', ' ORDER BY name) FROM pg_settings \
                      WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'wal_sync_method', 'wal_level', \
                      'shared_buffers', 'max_wal_size', 'checkpoint_timeout', 'max_connections', 'autovacuum', 'jit')";
        self.sql("postgres", wanted)
    }

    pub(crate) fn version(&self) -> Result<String> {
        self.sql(
            "postgres",
            "SELECT 'PostgreSQL ' || current_setting('server_version')",
        )
    }

    /// Runs one of the server's programs.
    pub(crate) fn succeed(&self, program: &str, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(self.programs.join(program));
        command.args(args).current_dir(&self.folder);
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        let output = command
            .output()
            .with_context(|| format!("{program} starts"))?;
        ensure!(
            output.status.success(),
            "{program} {}: {}{}",
            args.join(" "),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("the server does not stop: {error}");
        }
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            // It finds nothing to do.
            let _ = guard.wait();
        }
    }
}

/// The folder of `initdb`, `pg_ctl`, `psql` and `pgbench`: where `pg_config` says, or the newest of Debian's.
fn programs() -> Result<PathBuf> {
    let told = (Command::new("pg_config").arg("--bindir").output().ok())
        .filter(|output| output.status.success())
        .map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let mut debian: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    debian.sort();
    let folders = told
        .into_iter()
        .chain(debian.into_iter().rev().map(|(_, path)| path));
    let needed = ["initdb", "pg_ctl", "psql", "pgbench"];
    let is_whole = |folder: &PathBuf| needed.iter().all(|name| folder.join(name).exists());
    match folders.into_iter().find(is_whole) {
        Some(folder) => Ok(folder),
        None => bail!("no Postgres server is installed (Debian's package `postgresql` is one)"),
    }
}

fn postgres_user() -> Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd")?;
    let line = (users.lines())
        .find(|line| line.starts_with("postgres:"))
        .context("Postgres refuses to run as root, and there is no user `postgres`")?;
    let numbers: Vec<u32> = (line.split(':').skip(2).take(2))
        .filter_map(|number| number.parse().ok())
        .collect();
    match numbers[..] {
        [user, group] => Ok((user, group)),
        _ => bail!("/etc/passwd: {line}"),
    }
}
