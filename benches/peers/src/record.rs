//! What a run found, as it is kept in a JSON file: the raw figures of every round.

use serde::{Deserialize, Serialize};

use crate::measure::median;

#[derive(Serialize, Deserialize)]
pub(crate) struct Record {
    /// What the figures were measured on.
    pub(crate) machine: String,
    pub(crate) rounds: usize,
    pub(crate) rows: Vec<RowRecord>,
    pub(crate) threads: Vec<Series>,
}

/// The threads that an engine has, at moments in milliseconds.
#[derive(Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) engine: String,
    pub(crate) points: Vec<(f64, u64)>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RowRecord {
    /// The rows that are drawn together.
    pub(crate) group: String,
    pub(crate) name: String,
    /// What was done, in words.
    pub(crate) about: String,
    /// Of the figures; less is better.
    pub(crate) unit: String,
    pub(crate) engines: Vec<EngineRecord>,
    /// Before each round: nanoseconds that a cache line takes to another processor and back.
    #[serde(default)]
    pub(crate) line_trips: Vec<f64>,
    /// In each round: percent of the processors' time that the host took for others.
    #[serde(default)]
    pub(crate) stolen: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct EngineRecord {
    pub(crate) engine: String,
    pub(crate) kind: Kind,
    /// In each round, in the unit of the row.
    pub(crate) figures: Vec<f64>,
    /// In each round: nanoseconds of processor time a task, of all threads of the process.
    pub(crate) processor: Vec<f64>,
    /// In each round: context switches per million tasks, of all threads of the process.
    pub(crate) switches: Vec<f64>,
    /// In each round: futex calls per million tasks, of all threads of the process.
    pub(crate) futexes: Vec<f64>,
    pub(crate) targets: Vec<Target>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Ours,
    Peer,
    /// Told to compare with, but nothing that one would use in a pool's place.
    Yardstick,
}

/// A ratio that is to be reached.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) ratio: f64,
    /// To this engine, or to the best of the peers.
    pub(crate) to: Option<String>,
    pub(crate) figure: Figure,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Figure {
    /// That of the row.
    Own,
    Switches,
}

impl RowRecord {
    pub(crate) fn engine(&self, name: &str) -> Option<&EngineRecord> {
        self.engines.iter().find(|engine| engine.engine == name)
    }

    /// The peer with the smallest median.
    pub(crate) fn best_peer(&self, figure: Figure) -> Option<&EngineRecord> {
        self.best(Kind::Peer, figure)
    }

    pub(crate) fn best(&self, kind: Kind, figure: Figure) -> Option<&EngineRecord> {
        let of_kind = self.engines.iter().filter(|engine| engine.kind == kind);
        of_kind.min_by(|a, b| a.median(figure).total_cmp(&b.median(figure)))
    }

    /// What an engine's figure is to that of another one, if that was measured.
    pub(crate) fn ratio(&self, engine: &EngineRecord, target: &Target) -> Option<f64> {
        let to = match &target.to {
            Some(name) => self.engine(name)?,
            None => self.best_peer(target.figure)?,
        };
        Some(engine.median(target.figure) / to.median(target.figure))
    }
}

impl EngineRecord {
    pub(crate) fn median(&self, figure: Figure) -> f64 {
        median_of(match figure {
            Figure::Own => &self.figures,
            Figure::Switches => &self.switches,
        })
    }
}

pub(crate) fn median_of(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    median(&sorted)
}
