//! What the processes of a fleet do: this test binary, started again with its role in the environment.

use crate::recorded::{Fuse, KEY, Recorded};
use crate::{Engine, LONG};
use anthill::Pool;
use anthill_jobs::{Context, Job, JobError, JobId, NewJob, Queue};
use anthill_test_support::history::Recorder;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

/// More attempts than there are kills.
pub const ATTEMPTS: u32 = 100_000;

/// A job, by its number in the producer's list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Parcel {
    /// The number.
    pub number: u64,
    /// The handler waits until a file of that name is there.
    pub until: Option<String>,
}

impl Job for Parcel {
    const KIND: &'static str = "parcel";
}

impl Parcel {
    /// The id follows from the number, so that whoever repeats an enqueue has the same one.
    pub fn id(number: u64) -> JobId {
        let mut bytes = *b"parcels:00000000";
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        JobId::from_bytes(bytes)
    }
}

/// Something that the parent has told, by its name.
pub fn told<T: FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(format!("ANTHILL_{name}")).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("ANTHILL_{name}={value}")),
    )
}

/// A time in milliseconds that the parent has told, or else the default.
pub fn told_ms(name: &str, default: u64) -> Duration {
    Duration::from_millis(told(name).unwrap_or(default))
}

/// A line that is out before the next step.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // In front of it stands what the harness says.
    let said = out
        .write_all(format!("\n> {line}\n").as_bytes())
        .and_then(|()| out.flush());
    if said.is_err() {
        // The parent is gone.
        std::process::exit(1);
    }
}

/// What every process has.
pub struct Own<E: Engine> {
    /// The stage's folder.
    pub folder: PathBuf,
    /// The broker, of which nothing is recorded.
    pub broker: Arc<E::Broker>,
    /// The process's recorder.
    pub recorder: Arc<Recorder>,
    /// Where it is to be killed.
    pub fuse: Arc<Fuse>,
    /// The queue, of which all is recorded.
    pub queue: Queue,
}

impl<E: Engine> Own<E> {
    /// Opens what the parent tells; waits for a server that is on its way.
    pub fn open() -> Self {
        let folder: PathBuf = told("FOLDER").expect("a folder");
        let by: String = told("BY").expect("a name");
        let url: String = told("URL").expect("an address");
        let recorder = Recorder::append_to(folder.join("history"), &by).expect("a file");
        let recorder = Arc::new(recorder);
        let fuse = Arc::new(Fuse {
            point: told("POINT").unwrap_or_default(),
            left: AtomicI64::new(told("NTH").unwrap_or(1)),
            by,
        });
        let start = Instant::now();
        let broker = loop {
            match E::open(&url, told_ms("TIMEOUT_MS", 10_000)) {
                Ok(broker) => break Arc::new(broker),
                // The server may be on its way.
                Err(error) => assert!(
                    error.is_transient() && start.elapsed() < LONG,
                    "it cannot be opened: {error:?}"
                ),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let queue = Queue::of(Recorded {
            broker: Arc::clone(&broker),
            recorder: Arc::clone(&recorder),
            fuse: Arc::clone(&fuse),
        });
        Self {
            folder,
            broker,
            recorder,
            fuse,
            queue,
        }
    }
}

impl<E: Engine> fmt::Debug for Own<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

/// Delivers parcels, until standard input ends; then stops, and tells what it has counted.
pub fn consume<E: Engine>() {
    let own = Own::<E>::open();
    let workers: usize = told("WORKERS").unwrap_or(2);
    let work = Duration::from_micros(told("WORK_US").unwrap_or(500));
    let pool = Pool::with_capacity(workers);
    let (folder, fuse, recorder) = (own.folder.clone(), own.fuse.clone(), own.recorder.clone());
    let (fuse_before, recorder_before) = (own.fuse.clone(), own.recorder.clone());
    let (fuse_after, recorder_after) = (own.fuse.clone(), own.recorder.clone());
    let consumer = own
        .queue
        .consumer(&pool)
        .workers(workers..=workers)
        .lease(told_ms("LEASE_MS", 400))
        .before(move |_| fuse_before.pass("before hook", &recorder_before))
        .after(move |_, _| fuse_after.pass("after hook", &recorder_after))
        .on_error(|error| say(&format!("error {error:?}")))
        .handle(
            move |parcel: Parcel, cx: &Context| -> Result<u64, JobError> {
                fuse.pass("handler", &recorder);
                if let Some(until) = &parcel.until {
                    say(&format!("running {} {}", parcel.number, cx.attempt()));
                    let start = Instant::now();
                    while !folder.join(until).exists() {
                        assert!(start.elapsed() < LONG, "nobody makes {until}");
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    say(&format!("ran {}", parcel.number));
                } else {
                    std::thread::sleep(work);
                }
                Ok(parcel.number)
            },
        )
        .start()
        .expect("it starts");
    say("consumes");
    let mut line = String::new();
    while std::io::stdin()
        .read_line(&mut line)
        .is_ok_and(|read| read > 0)
    {
        if line.trim() == "stats" {
            let stats = consumer.stats();
            say(&format!(
                "stats {} {} {} {} {}",
                stats.claimed, stats.done, stats.lost, stats.unconfirmed, stats.in_hand
            ));
        }
        line.clear();
    }
    consumer.stop(LONG).expect("it stops");
    let stats = consumer.stats();
    say(&format!(
        "stats {} {} {} {} {}",
        stats.claimed, stats.done, stats.lost, stats.unconfirmed, stats.in_hand
    ));
}

/// How the jobs of the producer's list are.
pub fn draft(queue: &Queue, number: u64) -> NewJob {
    let parcel = Parcel {
        number,
        until: None,
    };
    let mut job = queue.encode(&parcel).expect("it can be written");
    job.id = Parcel::id(number);
    job.attempts = ATTEMPTS;
    // Half of them stay when they are done, so that what is repeated is known.
    job.keep_result = (number % 2 == 0 || told("KEEP_ALL") == Some(1)).then_some(LONG * 60);
    let keys: u64 = told("KEYS").unwrap_or(0);
    if keys > 0 && number % 4 != 3 {
        let key = format!("key-{}", number % keys);
        job.headers.insert(KEY.to_owned(), key.clone());
        job.key = Some(key);
    }
    if told("UNIQUE") == Some(1) && number % 3 == 0 {
        job.unique = Some(format!("one at a time {number}"));
    }
    job
}

/// Enqueues what is in the list from one number on, a batch at a time; what may have failed again, with the same ids.
pub fn produce<E: Engine>() {
    let own = Own::<E>::open();
    let from: u64 = told("FROM").unwrap_or(0);
    let count: u64 = told("COUNT").unwrap_or(u64::MAX / 2);
    let batch: u64 = told("BATCH").unwrap_or(5);
    let backlog: u64 = told("BACKLOG").unwrap_or(300);
    let mut next = from;
    let mut duplicates = 0;
    say("produces");
    while next < from + count {
        // A failure is that of the enqueue, too, and counted there.
        while own.broker_stats().is_some_and(|waiting| waiting > backlog) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let end = (next + batch).min(from + count);
        let jobs: Vec<NewJob> = (next..end)
            .map(|number| draft(&own.queue, number))
            .collect();
        let start = Instant::now();
        match own.queue.enqueue_all_new(&jobs) {
            Ok(answers) => {
                duplicates += answers.iter().filter(|one| !one.is_added()).count();
                next = end;
                say(&format!("acknowledged {end}"));
            }
            Err(error) => {
                let error = error.reason();
                let name = format!("{error:?}");
                let name = name.split(['(', ' ']).next().unwrap_or_default().to_owned();
                say(&format!(
                    "failed {name} {} {error:?}",
                    start.elapsed().as_millis()
                ));
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    say(&format!("produced {duplicates}"));
}

impl<E: Engine> Own<E> {
    fn broker_stats(&self) -> Option<u64> {
        let stats = self.queue.stats().ok()?;
        Some(stats.ready + stats.parked)
    }
}

/// Not a test by itself: what others start as a process. `more` are the roles that only one test binary has.
pub fn child_of<E: Engine>(more: &[(&str, fn())]) {
    let Some(role) = told::<String>("ROLE") else {
        return;
    };
    match &*role {
        "consume" => consume::<E>(),
        "produce" => produce::<E>(),
        role => {
            let found = more.iter().find(|(name, _)| *name == role);
            found.unwrap_or_else(|| panic!("no role {role}")).1();
        }
    }
}
