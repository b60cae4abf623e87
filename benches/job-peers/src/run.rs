//! A run: row by row, and within a row round by round, all engines in turn.

use std::path::PathBuf;
use std::{env, fs, thread};

use anyhow::Result;

use crate::ceiling::{self, CEILINGS, CLIENTS, Ceiling};
use crate::engines::{Engine, STORES, Store};
use crate::place::Place;
use crate::record::{Better, Kind, Record};
use crate::rows::{self, ROWS, Row, Scale};
use crate::server::postgres::Mode;

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
    /// By itself, with so many clients.
    Server(Ceiling, usize),
}

impl Run {
    pub(crate) fn all(&mut self) -> Result<()> {
        self.ceilings()?;
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
        for what in CEILINGS.iter().filter(|what| self.place.has(what.store())) {
            for clients in CLIENTS {
                if self.is_wanted(&what.name(*clients)) {
                    let count = ceiling::count_for(&self.place, *what, *clients, &self.scale)?;
                    cases.push((*what, *clients, count));
                }
            }
        }
        if cases.is_empty() {
            return Ok(());
        }
        for round in 0..self.record.rounds {
            eprintln!("the servers by themselves, round {}", round + 1);
            for (what, clients, count) in &cases {
                let figure = ceiling::rate(&self.place, *what, *clients, *count);
                let (store, name) = (what.store().name(), what.name(*clients));
                let row = (store, name.as_str(), what.unit(), Better::More);
                self.record
                    .engine(row, what.program(), Kind::Ceiling)
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
        for store in STORES.iter().filter(|store| self.place.has(**store)) {
            if let Some((what, clients)) = ceiling::of(*store, row) {
                let count = ceiling::count_for(&self.place, what, clients, &self.scale)?;
                all.push((Contender::Server(what, clients), count));
            }
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
                        let figure = ceiling::rate(&self.place, *what, *clients, *count);
                        let store = what.store();
                        let (name, (unit, better)) = (row.name(), row.unit(store));
                        let title = format!("{}: {}", what.program(), what.name(*clients));
                        let row = (store.name(), name.as_str(), unit, better);
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
        let (on_redis, engines): (Vec<Engine>, Vec<Engine>) =
            (self.engines.clone().into_iter().filter(Engine::is_queue))
                .partition(|engine| engine.store == Store::Redis);
        if let Some(server) = &mut self.place.postgres {
            server.start(Mode::Counting)?;
        }
        for _ in 0..self.record.rounds {
            if !engines.is_empty() {
                let figures = rows::rest(&self.place, &engines, &self.scale);
                for (engine, figure) in engines.iter().zip(figures) {
                    self.take(Row::Rest, engine, "", figure);
                }
            }
            for engine in &on_redis {
                match rows::rest_on_redis(&self.place, engine, &self.scale) {
                    Ok(found) => {
                        self.take(Row::Rest, engine, "", Ok(found.requests));
                        self.take(Row::Rest, engine, ", in scripts too", Ok(found.commands));
                    }
                    Err(error) => self.take(Row::Rest, engine, "", Err(error)),
                }
            }
            self.save()?;
        }
        Ok(())
    }

    fn take(&mut self, row: Row, engine: &Engine, part: &str, figure: Result<f64>) {
        let (unit, better) = row.unit(engine.store);
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
    if let Some(server) = &place.redis {
        lines.push(format!(
            "{}, on the same machine; {}",
            server.version()?,
            server.settings()?
        ));
    }
    if let Some(server) = &place.postgres {
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
