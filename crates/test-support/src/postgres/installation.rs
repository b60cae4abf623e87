//! Where Postgres is installed, and as whom it runs.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::missing::Missing;
use crate::scratch;
use crate::server::programs::{first_complete, path};

/// Names a folder of Postgres' programs that goes before all others.
const CHOSEN: &str = "ANTHILL_POSTGRES_BIN";

/// What a server needs, all in one folder so that it is of one version.
const PROGRAMS: [&str; 3] = ["initdb", "postgres", "psql"];

/// The programs of one version of Postgres, and the user that runs them.
#[derive(Clone, Debug)]
pub(super) struct Installation {
    programs: PathBuf,
    /// What `postgres --version` says.
    pub(super) version: String,
    pub(super) user: User,
}

impl Installation {
    /// The folder that `ANTHILL_POSTGRES_BIN` names, or else the newest of Debian's, or else what is on `PATH`.
    pub(super) fn find() -> Result<Self, Missing> {
        if !cfg!(target_os = "linux") {
            return Err(Missing::permission(
                "private Postgres servers are started on Linux only",
            ));
        }
        let programs = match std::env::var_os(CHOSEN) {
            Some(chosen) => first_complete([PathBuf::from(chosen)], &PROGRAMS),
            None => first_complete(debian().into_iter().chain(path()), &PROGRAMS),
        };
        let Some(programs) = programs else {
            return Err(Missing::program(format!(
                "no Postgres: {} are neither in /usr/lib/postgresql/*/bin nor on PATH",
                PROGRAMS.join(", ")
            )));
        };
        let told = Command::new(programs.join("postgres"))
            .arg("--version")
            .output();
        let version = match told {
            Ok(output) if output.status.success() => {
                String::from_utf8_lossy(&output.stdout).trim().to_owned()
            }
            _ => {
                return Err(Missing::program(format!(
                    "no Postgres: {} does not run",
                    programs.join("postgres").display()
                )));
            }
        };
        Ok(Self {
            programs,
            version,
            user: User::of_the_server()?,
        })
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// A command that runs as the server's user, with an environment that says nothing of other servers.
    pub(super) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.program(name));
        // Nor in a folder that this user cannot enter.
        command.current_dir(scratch::folder());
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC");
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        self.user.run(&mut command);
        command
    }
}

/// Debian's folders, the newest version first.
fn debian() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/usr/lib/postgresql") else {
        return Vec::new();
    };
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort_unstable_by(|one, other| other.cmp(one));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// A user that a server can run as: Postgres refuses root.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) name: String,
    /// The ids to change to; none where the tests run as that user.
    change_to: Option<(u32, u32)>,
}

impl User {
    fn of_the_server() -> Result<Self, Missing> {
        let id = scratch::user_id();
        if id != 0 {
            return Ok(Self {
                name: format!("user{id}"),
                change_to: None,
            });
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| {
                Some(Self {
                    name: name.to_owned(),
                    change_to: Some(ids(&users, name)?),
                })
            })
            .ok_or_else(|| Missing::program("Postgres refuses root, and there is no user postgres"))
    }

    /// Makes `command` run as this user. Supplementary groups are dropped by the standard library.
    pub(super) fn run(&self, command: &mut Command) {
        if let Some((user, group)) = self.change_to {
            command.uid(user).gid(group);
        }
    }

    /// Gives what this process has made to this user.
    pub(super) fn own(&self, path: &Path) {
        if let Some((user, group)) = self.change_to {
            std::os::unix::fs::lchown(path, Some(user), Some(group))
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
}

/// The ids of a user and of its group, from the text of /etc/passwd.
fn ids(users: &str, name: &str) -> Option<(u32, u32)> {
    users.lines().find_map(|line| {
        let mut fields = line
            .strip_prefix(name)?
            .strip_prefix(':')?
            .split(':')
            .skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let users =
            "postgres2:x:1:2::/:\nroot:x:0:0::/root:\npostgres:x:101:104:P,,,:/var:/bin/bash\n";
        assert_eq!(ids(users, "postgres"), Some((101, 104)));
        assert_eq!(ids(users, "nobody"), None);
        assert_eq!(ids("postgres:x:many:104:\n", "postgres"), None);
    }
}
