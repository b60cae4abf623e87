//! The rows, and how an engine is measured in each.

use std::time::{Duration, Instant};

use anthill_job_peers::Workers;
use anyhow::{Context, Result, bail, ensure};

use crate::engines::{Engine, Store};
use crate::place::Place;
use crate::process::Driver;
use crate::record::{Better, quantile};
use crate::server::monitor::Monitor;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    Enqueue { batch: bool },
    Work(Workers),
    Latency,
    Rest,
}

pub(crate) const ROWS: &[Row] = &[
    Row::ENQUEUE_ONE,
    Row::Enqueue { batch: true },
    Row::Work(Workers::Count(1)),
    Row::Work(Workers::Count(2)),
    Row::Work(Workers::Count(8)),
    Row::Work(Workers::Best),
    Row::Latency,
    Row::Rest,
];

/// How long a driver may take for one thing. A queue that stops in the middle is told, and not waited for.
const PATIENCE: Duration = Duration::from_secs(150);

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// How long a round of a row of rates is to take; the jobs follow from it. `None` for as few as can be.
    pub(crate) seconds: Option<f64>,
    pub(crate) samples: usize,
    pub(crate) pause: Duration,
    pub(crate) rest: Duration,
}

impl Scale {
    pub(crate) fn full(seconds: f64) -> Scale {
        Scale {
            seconds: Some(seconds),
            samples: 100,
            // Longer than the 100 ms in which river notifies once.
            pause: Duration::from_millis(220),
            rest: Duration::from_mins(1),
        }
    }

    pub(crate) fn smoke() -> Scale {
        Scale {
            seconds: None,
            samples: 3,
            pause: Duration::from_millis(220),
            rest: Duration::from_secs(2),
        }
    }
}

impl Row {
    pub(crate) const ENQUEUE_ONE: Row = Row::Enqueue { batch: false };

    pub(crate) fn name(self) -> String {
        match self {
            Row::Enqueue { batch: false } => "enqueue, one by one".to_owned(),
            Row::Enqueue { batch: true } => "enqueue, 100 at a time".to_owned(),
            Row::Work(Workers::Count(1)) => "run, 1 worker".to_owned(),
            Row::Work(Workers::Count(count)) => format!("run, {count} workers"),
            Row::Work(Workers::Best) => "run, workers at its choice".to_owned(),
            Row::Latency => "wake-up".to_owned(),
            Row::Rest => "at rest".to_owned(),
        }
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Row::Enqueue { batch: false } => "one producer, each acknowledged before the next",
            Row::Enqueue { batch: true } => "one producer, by the call for many",
            Row::Work(_) => "a backlog, until the store says that none is left; no-op handlers",
            Row::Latency => {
                "from the call of enqueue to the start of the handler, another process, p50 and p99"
            }
            Row::Rest => {
                "statements of a consumer that has nothing to do; on Redis requests, and the commands of scripts"
            }
        }
    }

    /// Of its figures, if it has one for each round.
    pub(crate) fn unit(self, store: Store) -> (&'static str, Better) {
        match (self, store) {
            (Row::Enqueue { .. } | Row::Work(_), _) => ("jobs/s", Better::More),
            (Row::Latency, _) => ("ms", Better::Less),
            (Row::Rest, Store::Redis) => ("commands/s", Better::Less),
            (Row::Rest, _) => ("statements a minute", Better::Less),
        }
    }
}

/// The jobs a second, with so many jobs.
pub(crate) fn rate(place: &Place, engine: &Engine, row: Row, jobs: usize) -> Result<f64> {
    let address = place.fresh(engine)?;
    let count = jobs.to_string();
    let seconds = match row {
        Row::Enqueue { batch } => {
            place.settle(engine)?;
            let kind = if batch { "batch" } else { "one" };
            took(engine, &address, &["enqueue", &count, kind])?
        }
        Row::Work(workers) => {
            took(engine, &address, &["enqueue", &count, "batch"])?;
            place.settle(engine)?;
            took(engine, &address, &["work", &count, &workers.to_string()])?
        }
        Row::Latency | Row::Rest => unreachable!("these are no rates"),
    };
    #[expect(clippy::cast_precision_loss, reason = "there are few")]
    Ok(jobs as f64 / seconds)
}

/// How many jobs take about as long as a round is to take. The first tries are the engine's warm-up as well.
pub(crate) fn jobs_for(place: &Place, engine: &Engine, row: Row, scale: &Scale) -> Result<usize> {
    let Some(seconds) = scale.seconds else {
        return Ok(20);
    };
    let most = match row {
        Row::Work(_) => engine.most.unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let mut jobs = 200;
    for _ in 0..3 {
        let rate = rate(place, engine, row, jobs)?;
        #[expect(clippy::cast_possible_truncation, reason = "it is clamped")]
        #[expect(clippy::cast_sign_loss, reason = "it is clamped")]
        let wanted = ((rate * seconds).clamp(100.0, 200_000.0) / 100.0).ceil() as usize * 100;
        // A start weighs much in a short run: then its rate says little yet.
        let is_near = wanted <= jobs * 3 / 2;
        jobs = wanted.min(jobs * 50).min(most);
        if is_near || jobs == most {
            break;
        }
    }
    Ok(jobs)
}

/// Milliseconds from the call to the start: p50 and p99 of the samples.
pub(crate) fn latency(place: &Place, engine: &Engine, scale: &Scale) -> Result<(f64, f64)> {
    let address = place.fresh(engine)?;
    place.settle(engine)?;
    let consumer = consumer(engine, &address)?;
    let (count, pause) = (
        scale.samples.to_string(),
        scale.pause.as_millis().to_string(),
    );
    let producer = engine.command(&address, &["produce", &count, &pause]);
    Driver::start(producer, &engine.id())?.finish(PATIENCE)?;
    // Whoever polls has had its turn by then.
    let until = Instant::now() + Duration::from_secs(15);
    let mut samples = Vec::new();
    for number in 0..scale.samples {
        let line = consumer
            .line("latency", until)
            .with_context(|| format!("{number} of {count} jobs arrived"))?;
        samples.push(line.parse::<f64>()? / 1e6);
    }
    let of = |share| quantile(&samples, share).context("there are samples");
    Ok((of(0.5)?, of(0.99)?))
}

/// A consumer that waits.
fn consumer(engine: &Engine, address: &str) -> Result<Driver> {
    let driver = Driver::start(engine.command(address, &["consume"]), &engine.id())?;
    driver.line("ready", Instant::now() + Duration::from_secs(30))?;
    // Some tell that they are ready before they listen.
    std::thread::sleep(Duration::from_secs(2));
    Ok(driver)
}

/// What a start costs is over by then.
fn begin_to_rest(scale: &Scale) {
    std::thread::sleep(scale.rest.min(Duration::from_secs(10)));
}

/// What a consumer at rest costs a Redis server.
pub(crate) struct Resting {
    /// Requests a second: a script is one.
    pub(crate) requests: f64,
    /// Commands a second that the server carries out: a script, and each command that it calls.
    pub(crate) commands: f64,
}

/// Of an engine that is alone on the server: its counts are those of all clients.
pub(crate) fn rest_on_redis(place: &Place, engine: &Engine, scale: &Scale) -> Result<Resting> {
    let _consumer = consumer(engine, &place.fresh(engine)?)?;
    begin_to_rest(scale);
    let server = place.redis()?;
    let monitor = Monitor::start(server)?;
    server.forget_commands()?;
    let (begun, before) = (Instant::now(), monitor.requests());
    std::thread::sleep(scale.rest);
    let (seconds, after) = (begun.elapsed().as_secs_f64(), monitor.requests());
    let commands = (server.commands()?.iter()).fold(0.0, |sum, (_, calls, _)| sum + calls);
    Ok(Resting {
        requests: f64::from(after - before) / seconds,
        commands: commands / seconds,
    })
}

/// Statements a minute of each engine, all at rest beside one another: nothing is timed, so they may be. Each has a
/// database of its own, which tells their statements apart.
pub(crate) fn rest(place: &Place, engines: &[Engine], scale: &Scale) -> Vec<Result<f64>> {
    let mut consumers: Vec<Result<Driver>> = (engines.iter())
        .map(|engine| consumer(engine, &place.fresh(engine)?))
        .collect();
    begin_to_rest(scale);
    let mut count = |engines: &[Engine]| -> Vec<Result<f64>> {
        (engines.iter().zip(&mut consumers))
            .map(|(engine, consumer)| match consumer {
                Ok(consumer) => statements(place, engine, consumer),
                Err(error) => Err(anyhow::anyhow!("{error:#}")),
            })
            .collect()
    };
    let begun = Instant::now();
    let before = count(engines);
    std::thread::sleep(scale.rest);
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    let after = count(engines);
    (before.into_iter().zip(after))
        .map(|(before, after)| Ok((after? - before?) / minutes))
        .collect()
}

fn statements(place: &Place, engine: &Engine, consumer: &mut Driver) -> Result<f64> {
    match engine.store {
        Store::Postgres => place.statements(engine),
        Store::Redis => bail!("a server's commands are of all its clients"),
        Store::Sqlite => {
            consumer.ask()?;
            let line = consumer.line("statements", Instant::now() + Duration::from_secs(10))?;
            line.parse().with_context(|| line)
        }
    }
}

/// The seconds that a driver tells.
pub(crate) fn took(engine: &Engine, address: &str, args: &[&str]) -> Result<f64> {
    let driver = Driver::start(engine.command(address, args), &engine.id())?;
    let seconds: f64 = (driver.line("took", Instant::now() + PATIENCE))
        .with_context(|| args.join(" "))?
        .parse()?;
    ensure!(seconds > 0.0, "{}: no time passed", engine.id());
    driver.finish(PATIENCE)?;
    Ok(seconds)
}
