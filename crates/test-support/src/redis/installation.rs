//! Where Redis is installed.

use std::path::PathBuf;
use std::process::Command;

use crate::missing::Missing;
use crate::scratch;
use crate::server::programs::{first_complete, path};

/// Names a folder that goes before all others.
const CHOSEN: &str = "ANTHILL_REDIS_BIN";

/// What serves, the first that there is: Redis before Valkey, wherever on `PATH` each is.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];

/// The program of a server.
#[derive(Clone, Debug)]
pub(super) struct Installation {
    program: PathBuf,
}

impl Installation {
    /// In the folder that `ANTHILL_REDIS_BIN` names, or else on `PATH`.
    pub(super) fn find() -> Result<Self, Missing> {
        if !cfg!(target_os = "linux") {
            return Err(Missing::permission(
                "private Redis servers are started on Linux only",
            ));
        }
        let folders = match std::env::var_os(CHOSEN) {
            Some(chosen) => vec![PathBuf::from(chosen)],
            None => path(),
        };
        let found = PROGRAMS.into_iter().find_map(|name| {
            let folder = first_complete(folders.iter().cloned(), &[name])?;
            Some(folder.join(name))
        });
        let Some(program) = found else {
            return Err(Missing::program(format!(
                "no Redis: {} is not on PATH",
                PROGRAMS.join(" or ")
            )));
        };
        let told = Command::new(&program).arg("--version").output();
        if !told.is_ok_and(|output| output.status.success()) {
            return Err(Missing::program(format!(
                "no Redis: {} does not run",
                program.display()
            )));
        }
        Ok(Self { program })
    }

    /// A command with an environment that says nothing of other servers.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(scratch::folder());
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC");
        command
    }
}
