//! `anthill`'s job queue beside other job queues, on one private Postgres server, one private Redis server, and `SQLite`.
//!
//! `cargo run --release --manifest-path benches/job-peers/Cargo.toml -- [OPTION..] [ROW..]` starts the servers, measures all
//! engines of a row in turn, round by round, and prints tables of medians. ROW is a part of a row's name.
//!
//! - `--rounds=N`: 5 unless told; `--seconds=S`: how long a round of a rate is to take, 3 unless told;
//! - `--only=ENGINE`: these engines alone; `--store=postgres`, `--store=redis` or `--store=sqlite`;
//! - `--persistence=off`, `everysec` or `always`: what Redis keeps, `everysec` unless told;
//! - `--json=FILE` keeps the raw figures; `--from=FILE` prints them, and measures nothing;
//! - `--folder=FOLDER`: where the servers' files and the queues' are to be, on the disk that is to be measured;
//! - `--statements`: what each engine says to Postgres or Redis for a job, and how often; no rows;
//! - `--list` names the rows; `--install` installs what the engines need, and does no more;
//! - `--smoke`: each row once and small, with those engines for which all is there; it installs nothing.
//!
//! A package of its own, outside the crates', so that who builds or tests those builds none of the others.

mod ceiling;
mod engines;
mod place;
mod process;
mod record;
mod rows;
mod run;
mod said;
mod server;
mod table;
mod toolchains;

use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context, Result, ensure};

use crate::engines::{ENGINES, Engine, STORES};
use crate::place::Place;
use crate::record::Record;
use crate::rows::{ROWS, Scale};
use crate::run::Run;
use crate::server::redis::Persistence;

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let told = |option: &str| args.iter().find_map(|arg| arg.strip_prefix(option));
    let words: Vec<&str> = (args.iter().map(String::as_str))
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    if let Some(file) = told("--from=") {
        let text = fs::read_to_string(file).context(file.to_owned())?;
        let record: Record = serde_json::from_str(&text).context(file.to_owned())?;
        print!("{}", table::whole(&record));
        return Ok(());
    }
    if has("--list") {
        for row in ROWS {
            println!("{:<28} {}", row.name(), row.about());
        }
        return Ok(());
    }
    let is_smoke = has("--smoke");
    let seconds: f64 = told("--seconds=")
        .map_or(Ok(3.0), str::parse)
        .context("--seconds=S takes a number")?;
    let usual = if is_smoke { 1 } else { 5 };
    let rounds: usize = told("--rounds=")
        .map_or(Ok(usual), str::parse)
        .context("--rounds=N takes a number")?;
    ensure!(rounds > 0, "a median needs a round");
    let persistence: Persistence =
        told("--persistence=").map_or(Ok(Persistence::default()), str::parse)?;

    let only: Vec<&str> = args
        .iter()
        .filter_map(|arg| arg.strip_prefix("--only="))
        .collect();
    let is_wanted = |engine: &&Engine| {
        (only.is_empty() || only.contains(&engine.name))
            && told("--store=").is_none_or(|store| store.eq_ignore_ascii_case(engine.store.name()))
    };
    let mut engines: Vec<Engine> = ENGINES.iter().filter(is_wanted).cloned().collect();
    ensure!(!engines.is_empty(), "there is no such engine");
    let mut left_out = Vec::new();
    toolchains::build()?;
    toolchains::copy_scripts()?;
    engines.retain(|engine| {
        let program = engine.program;
        let found = if is_smoke {
            toolchains::is_at_hand(program)
        } else {
            toolchains::install(program).and_then(|()| toolchains::is_at_hand(program))
        };
        keep(&found, engine, &mut left_out)
    });
    if has("--install") {
        return Ok(());
    }

    let folder = told("--folder=").map_or_else(env::temp_dir, PathBuf::from);
    let mut place = Place::make(&folder)?;
    for store in STORES {
        if engines.iter().any(|engine| engine.store == *store)
            && let Err(error) = place.start(*store, persistence)
        {
            tell(format!("all on {}: {error:#}", store.name()), &mut left_out);
            engines.retain(|engine| engine.store != *store);
        }
    }
    engines.retain(|engine| keep(&place.prepare(engine), engine, &mut left_out));
    if has("--statements") {
        return said::tell(&mut place, &engines);
    }
    let mut run = Run {
        scale: if is_smoke {
            Scale::smoke()
        } else {
            Scale::full(seconds)
        },
        record: Record {
            setting: run::setting(&place)?,
            rounds,
            left_out,
            rows: Vec::new(),
        },
        place,
        engines,
        keep: told("--json=").map(PathBuf::from),
        wanted: words.into_iter().map(str::to_owned).collect(),
    };
    run.all()?;
    print!("{}", table::whole(&run.record));
    let errors = (run.record.rows.iter().flat_map(|row| &row.engines))
        .map(|engine| engine.errors.len())
        .sum::<usize>();
    ensure!(!is_smoke || errors == 0, "{errors} figures are missing");
    Ok(())
}

/// Whether the engine can take part; otherwise says why not.
fn keep(found: &Result<()>, engine: &Engine, left_out: &mut Vec<String>) -> bool {
    if let Err(error) = found {
        let line = format!("{} on {}: {error:#}", engine.name, engine.store.name());
        tell(line, left_out);
    }
    found.is_ok()
}

fn tell(line: String, left_out: &mut Vec<String>) {
    eprintln!("left out: {line}");
    left_out.push(line);
}
