//! Data folders, copied from one that `initdb` made: it takes a second, and a copy a twentieth of that.
//!
//! The template is made once for each version and user of the server, by whoever holds a lock on a file alone; those that
//! copy hold that lock together. It appears by a rename when it is complete, so a maker that is killed leaves none behind.

use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::installation::Installation;
use crate::{run_to_end, scratch};

/// Made anew after that time: what cleans up temporary folders looks at ages of a week and more.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// Far beyond what it takes on a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_secs(120);

/// What differs from the defaults in all servers. Shared memory in files, so that nothing is left in `/dev/shm` by a
/// server that is killed.
const SETTINGS: &str = "
max_connections = 200
shared_buffers = 32MB
dynamic_shared_memory_type = mmap
log_line_prefix = '%m [%p] %d %a '
";

/// A password over TCP, where every user of the host can connect: who may enter as superuser may run programs. In clear, for
/// SCRAM takes a client that is built for debugging many milliseconds. None over the socket, whose folder is closed.
const ACCESS: &str = "local all all trust\nhost all all all password\n";

/// Puts a data folder with the name `to` into the folder `of`, which belongs to the server's user. Returns the password of
/// the superuser `postgres`.
pub(super) fn copy(installation: &Installation, to: &Path) -> String {
    let version = installation
        .version
        .replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    // Checkouts of other states of this file share the folder.
    let mut state = DefaultHasher::new();
    (SETTINGS, ACCESS).hash(&mut state);
    let state = state.finish();
    let name = format!("template-{}-{version}-{state:016x}", installation.user.name);
    let template = scratch::folder().join(&name);
    let lock = Lock::open(&scratch::folder().join(format!("{name}.lock")));
    lock.share();
    while !is_fresh(&template) {
        lock.exclude();
        // Somebody else may have made it between the two locks.
        if !is_fresh(&template) {
            make(installation, &template);
        }
        lock.share();
    }
    let mut command = Command::new("cp");
    command.arg("-R").arg(template.join("data")).arg(to);
    installation.user.run(&mut command);
    succeed(&mut command);
    fs::read_to_string(password_file(&template)).expect("the template has a password")
}

fn password_file(template: &Path) -> PathBuf {
    template.join("password")
}

fn is_fresh(template: &Path) -> bool {
    let made = fs::metadata(password_file(template)).and_then(|found| found.modified());
    // An age is an error where the clock was set back since.
    made.is_ok_and(|made| made.elapsed().map_or(true, |age| age < FRESH))
}

fn make(installation: &Installation, template: &Path) {
    let mut folder = template.as_os_str().to_owned();
    folder.push(".new");
    let folder = PathBuf::from(folder);
    for stale in [&folder, template] {
        if stale.exists() {
            fs::remove_dir_all(stale).expect("a folder of these tests can be removed");
        }
    }
    scratch::make_private_folder(&folder);
    installation.user.own(&folder);
    let password = format!("{:032x}", rand::random::<u128>());
    fs::write(password_file(&folder), &password).expect("the folder can be written to");
    installation.user.own(&password_file(&folder));
    let data = folder.join("data");
    succeed(
        installation
            .command("initdb")
            .args(["--no-sync", "--no-locale", "--encoding=UTF8"])
            .args(["--username=postgres", "--auth=password", "--pwfile"])
            .arg(password_file(&folder))
            .arg("--pgdata")
            .arg(&data),
    );
    fs::write(data.join("pg_hba.conf"), ACCESS).expect("initdb made it");
    let mut settings = OpenOptions::new()
        .append(true)
        .open(data.join("postgresql.conf"))
        .expect("initdb made it");
    settings
        .write_all(SETTINGS.as_bytes())
        .expect("the disk has room");
    fs::rename(folder, template).expect("nobody else makes it");
}

fn succeed(command: &mut Command) {
    let output = run_to_end(command, LIMIT);
    assert!(
        output.success,
        "{command:?} failed ({}):\n{}",
        output.status, output.text
    );
}

/// A lock that is shared or exclusive, and ends with the process.
struct Lock(File);

impl Lock {
    fn open(path: &Path) -> Self {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path);
        Self(file.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    fn share(&self) {
        self.change(libc::LOCK_SH);
    }

    fn exclude(&self) {
        self.change(libc::LOCK_EX);
    }

    fn change(&self, to: libc::c_int) {
        loop {
            // SAFETY: the descriptor is open.
            if unsafe { libc::flock(self.0.as_raw_fd(), to) } == 0 {
                return;
            }
            let error = std::io::Error::last_os_error();
            assert_eq!(error.kind(), std::io::ErrorKind::Interrupted, "{error}");
        }
    }
}
