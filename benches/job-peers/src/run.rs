//! A run: row by row, and within a row round by round, all engines in turn.

use std::path::PathBuf;
use std::{env, fs, thread};

use anyhow::Result;

use crate::ceiling::{self, CEILINGS, CLIENTS, Ceiling};
use crate::engines::{Engine, Store};
use crate::place::Place;
use crate::record::{Better, Kind, Record};
use crate::rows::{self, ROWS, Row, Scale};
use crate::server::Mode;

pub(crate) struct Run {
    pub(crate) place: Place,
    pub(crate) engines: Vec<Engine>,
    pub(crate) scale: Scale,
    pub(crate) record: Record,
    pub(crate) keep: Option<PathBuf>,
    /// Parts of names of rows; all of them, if there is none.
    pub(crate) wanted: Vec<String>,
}

/// Who takes a turn in a row.
enum Contender {
    Engine(Engine),
    Server(Ceiling, usize),
}

impl Run {
    pub(crate) fn all(&mut self) -> Result<()> {
        if self.place.server.is_some() {
            self.ceilings()?;
        }
        for row in ROWS {
            if !self.is_wanted(&row.name()) {
                continue;
            }
            eprintln!("{}", row.name());
            match row {
                Row::Enqueue { .. } | Row::Work(_) => self.rates(*row)?,
                Row::Latency => self.latencies()?,
                Row::Rest => self.rests()?,
            }
        }
        Ok(())
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|part| name.contains(part.as_str()))
    }

    fn ceilings(&mut self) -> Result<()> {
        let mut cases = Vec::new();
        for what in CEILINGS {
            for clients in CLIENTS {
                if self.is_wanted(&what.name(*clients)) {
                    let rows =
                        ceiling::rows_for(self.place.server()?, *what, *clients, &self.scale)?;
                    cases.push((*what, *clients, rows));
                }
            }
        }
        for round in 0..self.record.rounds {
            eprintln!("the server by itself, round {}", round + 1);
            for (what, clients, rows) in &cases {
                let figure = ceiling::rate(self.place.server()?, *what, *clients, *rows);
                let name = what.name(*clients);
                let row = (
                    Store::Postgres.name(),
                    name.as_str(),
                    "rows/s",
                    Better::More,
                );
                self.record
                    .engine(row, "pgbench", Kind::Ceiling)
                    .take(figure);
            }
            self.save()?;
        }
        Ok(())
    }

    fn rates(&mut self, row: Row) -> Result<()> {
        let mut all = Vec::new();
        for engine in self.engines.clone() {
            match rows::jobs_for(&self.place, &engine, row, &self.scale) {
                Ok(count) => all.push((Contender::Engine(engine), count)),
                Err(error) => self.take(row, &engine, "", Err(error)),
            }
        }
        if let Some(server) = &self.place.server {
            let (what, clients) = ceiling::of(row);
            let rows = ceiling::rows_for(server, what, clients, &self.scale)?;
            all.push((Contender::Server(what, clients), rows));
        }
        for round in 0..self.record.rounds {
            // Nobody is always the one after the same.
            let count = all.len().max(1);
            all.rotate_left(round % count);
            for (contender, count) in &all {
                match contender {
                    Contender::Engine(engine) => {
                        let figure = rows::rate(&self.place, engine, row, *count);
                        self.take(row, engine, "", figure);
                    }
                    Contender::Server(what, clients) => {
                        let server = self.place.server()?;
                        let figure = ceiling::rate(server, *what, *clients, *count);
                        let (name, (unit, better)) = (row.name(), row.unit());
                        let title = format!("pgbench: {}", what.name(*clients));
                        let row = (Store::Postgres.name(), name.as_str(), unit, better);
                        let record = self.record.engine(row, &title, Kind::Ceiling);
                        record.take(figure);
                    }
                }
            }
            self.save()?;
        }
        Ok(())
    }

    fn latencies(&mut self) -> Result<()> {
        for _ in 0..self.record.rounds {
            for engine in self
                .engines
                .clone()
                .iter()
                .filter(|engine| engine.is_queue())
            {
                match rows::latency(&self.place, engine, &self.scale) {
                    Ok((middle, worst)) => {
                        self.take(Row::Latency, engine, ", p50", Ok(middle));
                        self.take(Row::Latency, engine, ", p99", Ok(worst));
                    }
                    Err(error) => self.take(Row::Latency, engine, ", p50", Err(error)),
                }
            }
            self.save()?;
        }
        Ok(())
    }

    fn rests(&mut self) -> Result<()> {
        let mut engines = self.engines.clone();
        engines.retain(Engine::is_queue);
        if let Some(server) = &mut self.place.server {
            server.start(Mode::Counting)?;
        }
        for _ in 0..self.record.rounds {
            let figures = rows::rest(&self.place, &engines, &self.scale);
            for (engine, figure) in engines.iter().zip(figures) {
                self.take(Row::Rest, engine, "", figure);
            }
            self.save()?;
        }
        Ok(())
    }

    fn take(&mut self, row: Row, engine: &Engine, part: &str, figure: Result<f64>) {
        let (unit, better) = row.unit();
        let name = row.name() + part;
        match &figure {
            Ok(figure) => eprintln!(
                "  {name}: {} on {}: {figure:.3} {unit}",
                engine.name,
                engine.store.name()
            ),
            Err(error) => eprintln!(
                "  {name}: {} on {}: {error:#}",
                engine.name,
                engine.store.name()
            ),
        }
        let row = (engine.store.name(), name.as_str(), unit, better);
        self.record
            .engine(row, &engine.title(), engine.kind)
            .take(figure);
    }

    /// A run that is cut off leaves what it has.
    fn save(&self) -> Result<()> {
        if let Some(file) = &self.keep {
            fs::write(file, serde_json::to_string(&self.record)?)?;
        }
        Ok(())
    }
}

/// What it is measured on.
pub(crate) fn setting(place: &Place) -> Result<Vec<String>> {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let name = name.map_or("unknown", |name| name.trim_start_matches([' ', '\t', ':']));
    let mut lines = vec![format!(
        "{cores} cores of {name}, {}, files on {}",
        env::consts::OS,
        place.file_system()
    )];
    if let Some(server) = &place.server {
        lines.push(format!(
            "{}, on the same machine; {}",
            server.version()?,
            server.settings()?
        ));
    }
    lines.push(format!(
        "SQLite {}, journal_mode=WAL, synchronous=FULL",
        rusqlite::version()
    ));
    Ok(lines)
}
