//! What the drivers need: they are built, or installed into folders that git ignores, in the versions of the lock files.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, ensure};

use crate::engines::Program;

const CARGO_LOCK: &str = include_str!("../Cargo.lock");
const PACKAGE: &str = include_str!("../drivers/package.json");
const LOCK: &str = include_str!("../drivers/package-lock.json");
const REQUIREMENTS: &str = include_str!("../drivers/requirements.txt");
/// Of what is installed: the lock file that it was installed from.
const STAMP: &str = "installed";

pub(crate) fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers")
}

/// Where something is installed.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target")
        .join(name)
}

/// Node, which npm's package of that name brings along: the newest peers need a newer one than most systems have.
pub(crate) fn node() -> PathBuf {
    let machine = match env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "x64",
    };
    folder("node").join(format!("node_modules/node-linux-{machine}/bin/node"))
}

pub(crate) fn python() -> PathBuf {
    folder("python").join("bin/python")
}

/// The version of a package, from the lock files.
pub(crate) fn version(package: &str) -> Option<String> {
    let mut lines = CARGO_LOCK.lines();
    let name = format!("name = \"{package}\"");
    if lines.any(|line| line == name) {
        let version = lines.next()?.strip_prefix("version = ")?;
        return Some(version.trim_matches('"').to_owned());
    }
    let of_node = || {
        let line = PACKAGE
            .lines()
            .find(|line| line.contains(&format!("\"{package}\":")))?;
        line.split('"').nth(3)
    };
    let of_python = || {
        REQUIREMENTS
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{package}==")))
    };
    of_node().or_else(of_python).map(str::to_owned)
}

/// Builds the drivers in Rust, as this program was built.
pub(crate) fn build() -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked", "--bins", "--manifest-path"]);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    succeed(&mut command)
}

/// Whether what runs that kind of driver is there; otherwise why not.
pub(crate) fn is_at_hand(program: Program) -> Result<()> {
    let (name, lock) = match program {
        Program::Rust(_) => return Ok(()),
        Program::Node(_) => ("node", LOCK),
        Program::Python(_) => ("python", REQUIREMENTS),
    };
    let stamp = fs::read_to_string(folder(name).join(STAMP)).unwrap_or_default();
    ensure!(
        stamp == lock,
        "its packages are not installed; a run without --smoke installs them, or --install alone"
    );
    Ok(())
}

/// Installs what is not there.
pub(crate) fn install(program: Program) -> Result<()> {
    if is_at_hand(program).is_err() {
        match program {
            Program::Rust(_) => {}
            Program::Node(_) => install_node()?,
            Program::Python(_) => install_python()?,
        }
    }
    Ok(())
}

/// The scripts have to lie beside the modules that they import.
pub(crate) fn copy_scripts() -> Result<()> {
    let to = folder("node");
    fs::create_dir_all(&to)?;
    for entry in fs::read_dir(sources())? {
        let from = entry?.path();
        let name = from.file_name().context("a file has a name")?;
        if !from
            .extension()
            .is_some_and(|ending| ending == "py" || ending == "txt")
        {
            fs::copy(&from, to.join(name))?;
        }
    }
    Ok(())
}

fn install_node() -> Result<()> {
    eprintln!("installing the peers for Node");
    copy_scripts()?;
    let place = folder("node");
    let mut npm = Command::new("npm");
    // The engines of the packages are those of the Node that is installed along with them.
    npm.args([
        "ci",
        "--no-audit",
        "--no-fund",
        "--engine-strict=false",
        "--loglevel=error",
    ]);
    succeed(npm.current_dir(&place))?;
    Ok(fs::write(place.join(STAMP), LOCK)?)
}

fn install_python() -> Result<()> {
    eprintln!("installing the peers for Python");
    let place = folder("python");
    succeed(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&place),
    )?;
    let requirements = sources().join("requirements.txt");
    let mut pip = Command::new(python());
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "-r"]);
    succeed(pip.arg(requirements))?;
    Ok(fs::write(place.join(STAMP), REQUIREMENTS)?)
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
