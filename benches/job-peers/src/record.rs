//! What a run found, as it is kept in a JSON file: the raw figures of every round.

use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Record {
    /// What it was measured on, a line each.
    pub(crate) setting: Vec<String>,
    pub(crate) rounds: usize,
    /// What was left out, and why.
    pub(crate) left_out: Vec<String>,
    pub(crate) rows: Vec<RowRecord>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct RowRecord {
    pub(crate) store: String,
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) better: Better,
    pub(crate) engines: Vec<EngineRecord>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) enum Better {
    More,
    Less,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct EngineRecord {
    pub(crate) engine: String,
    pub(crate) kind: Kind,
    /// In each round that gave one.
    pub(crate) figures: Vec<f64>,
    /// Why a round gave none.
    #[serde(default)]
    pub(crate) errors: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) enum Kind {
    Ours,
    Peer,
    /// What the store does by itself.
    Ceiling,
}

impl Record {
    /// The figures of an engine in a row, which is made if it is not there.
    pub(crate) fn engine(
        &mut self,
        row: (&str, &str, &str, Better),
        engine: &str,
        kind: Kind,
    ) -> &mut EngineRecord {
        let (store, name, unit, better) = row;
        let is_row = |row: &RowRecord| row.store == store && row.name == name;
        let at = self.rows.iter().position(is_row).unwrap_or_else(|| {
            self.rows.push(RowRecord {
                store: store.to_owned(),
                name: name.to_owned(),
                unit: unit.to_owned(),
                better,
                engines: Vec::new(),
            });
            self.rows.len() - 1
        });
        let engines = &mut self.rows[at].engines;
        let at = (engines.iter().position(|other| other.engine == engine)).unwrap_or_else(|| {
            engines.push(EngineRecord {
                engine: engine.to_owned(),
                kind,
                figures: Vec::new(),
                errors: Vec::new(),
            });
            engines.len() - 1
        });
        &mut engines[at]
    }
}

impl RowRecord {
    /// The median of the best peer.
    pub(crate) fn best_peer(&self) -> Option<f64> {
        self.best(Kind::Peer)
    }

    pub(crate) fn best(&self, kind: Kind) -> Option<f64> {
        let medians = (self.engines.iter())
            .filter(|engine| engine.kind == kind)
            .filter_map(EngineRecord::median);
        match self.better {
            Better::More => medians.max_by(f64::total_cmp),
            Better::Less => medians.min_by(f64::total_cmp),
        }
    }
}

impl EngineRecord {
    pub(crate) fn median(&self) -> Option<f64> {
        quantile(&self.figures, 0.5)
    }

    /// Takes what a round gave.
    pub(crate) fn take(&mut self, figure: anyhow::Result<f64>) {
        match figure {
            Ok(figure) => self.figures.push(figure),
            Err(error) => self.errors.push(format!("{error:#}")),
        }
    }
}

/// The figure below which that share of them lies: the nearest of them, or between the two in the middle.
pub(crate) fn quantile(figures: &[f64], share: f64) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    #[expect(clippy::cast_precision_loss, reason = "there are few")]
    let place = share * last as f64;
    #[expect(clippy::cast_possible_truncation, reason = "it lies within them")]
    #[expect(clippy::cast_sign_loss, reason = "it lies within them")]
    let (below, above) = (
        sorted[place.floor() as usize],
        sorted[place.ceil() as usize],
    );
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_between_its_neighbours() {
        let figures = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(quantile(&figures, 0.5), Some(2.5));
        assert_eq!(quantile(&figures, 0.0), Some(1.0));
        assert_eq!(quantile(&figures, 1.0), Some(4.0));
        assert_eq!(quantile(&figures[..3], 0.5), Some(3.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn the_best_peer_has_the_least_where_less_is_better() {
        let mut record = Record {
            setting: Vec::new(),
            rounds: 1,
            left_out: Vec::new(),
            rows: Vec::new(),
        };
        for (better, best) in [(Better::More, 9.0), (Better::Less, 3.0)] {
            let row = (
                "SQLite",
                if better == Better::More {
                    "rate"
                } else {
                    "time"
                },
                "",
                better,
            );
            record.engine(row, "ours", Kind::Ours).take(Ok(99.0));
            record.engine(row, "one", Kind::Peer).take(Ok(3.0));
            record.engine(row, "other", Kind::Peer).take(Ok(9.0));
            record
                .engine(row, "none", Kind::Peer)
                .take(Err(anyhow::anyhow!("it hangs")));
            let row = record.rows.last().expect("it was made");
            assert_eq!(row.best_peer(), Some(best));
            assert_eq!(row.engines[3].errors, ["it hangs"]);
        }
    }
}
