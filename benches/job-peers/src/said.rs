//! What each engine says to the server: its statements for an enqueue, a batch of them, and a job that is run. On Redis
//! these are commands, those that scripts call too.

use anthill_job_peers::Workers;
use anyhow::Result;

use crate::engines::{Engine, Store};
use crate::place::Place;
use crate::rows::{self, Row};
use crate::server::postgres::Mode;

const JOBS: usize = 1_000;

/// A list for each engine and kind of work: how often for a job, how long on average, and what.
pub(crate) fn tell(place: &mut Place, engines: &[Engine]) -> Result<()> {
    if let Some(server) = &mut place.postgres {
        server.start(Mode::Counting)?;
    }
    for engine in engines
        .iter()
        .filter(|engine| engine.store != Store::Sqlite)
    {
        println!("\n## {} on {}", engine.title(), engine.store.name());
        let kinds = [
            Row::ENQUEUE_ONE,
            Row::Enqueue { batch: true },
            Row::Work(Workers::Count(1)),
            Row::Work(Workers::Count(8)),
            Row::Work(Workers::Best),
        ];
        for row in kinds {
            let address = place.fresh(engine)?;
            let jobs = JOBS.to_string();
            if let Row::Work(workers) = row {
                rows::took(engine, &address, &["enqueue", &jobs, "batch"])?;
                place.settle(engine)?;
                place.forget_statements(engine.store)?;
                rows::took(engine, &address, &["work", &jobs, &workers.to_string()])?;
            } else {
                let kind = if row == Row::ENQUEUE_ONE {
                    "one"
                } else {
                    "batch"
                };
                place.forget_statements(engine.store)?;
                rows::took(engine, &address, &["enqueue", &jobs, kind])?;
            }
            let statements = place.take_statements(engine)?;
            println!("\n{} ({JOBS} jobs)\n", row.name());
            println!("| for a job | times | ms | statement |\n|---|---|---|---|");
            let (more, once): (Vec<_>, Vec<_>) =
                (statements.into_iter()).partition(|(calls, ..)| *calls > 1.0);
            for (calls, time, statement) in more {
                #[expect(clippy::cast_precision_loss, reason = "there are few")]
                let each = calls / JOBS as f64;
                println!(
                    "| {each:.3} | {calls} | {time:.3} | `{}` |",
                    statement.replace('|', "\\|")
                );
            }
            println!("\nand {} once, as it starts", once.len());
        }
    }
    Ok(())
}
