//! Digests of all files in a folder, by durable jobs: kill the program half-way, start it again, and it continues where it
//! stopped.
//!
//! `cargo run --release -p anthill-jobs --features sqlite --example resumable_digests -- FOLDER [jobs.db]`
//!
//! Each file is a job, stored once whatever happens: its id is made from the file's path, and its result is kept. Only the
//! jobs that ran when the program died are done again. The digests are printed on standard output as `sha256sum` prints
//! them, sorted; messages on standard error. At the end the queue is cleared.

use anthill::Pool;
use anthill_jobs::{Context, Job, JobError, JobId, JobState, NewJob, Queue};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Results are kept until they are printed, however long that takes.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Serialize, Deserialize)]
struct DigestFile {
    path: PathBuf,
}

impl Job for DigestFile {
    const KIND: &'static str = "digest file";
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut args = std::env::args().skip(1);
    let Some(folder) = args.next() else {
        return Err("which folder?".into());
    };
    let file = args.next().unwrap_or_else(|| "jobs.db".to_owned());
    let queue = Queue::open(&format!("sqlite:{file}"))?;

    let before = queue.stats()?;
    if before.results + before.ready + before.running > 0 {
        eprintln!(
            "continuing: {} done, {} to do",
            before.results,
            before.ready + before.running
        );
    }
    let mut files = Vec::new();
    find(Path::new(&folder), &mut files)?;
    for some in files.chunks(500) {
        let jobs: Result<Vec<NewJob>, serde_json::Error> =
            some.iter().map(|path| job(path)).collect();
        queue.as_broker().enqueue(&jobs?)?;
    }

    let pool = Pool::default();
    let consumer = queue
        .consumer(&pool)
        // There is no other consumer, so the jobs of one that died should run again soon.
        .lease(Duration::from_secs(2))
        .handle(|job: DigestFile, _: &Context| digest(&job.path))
        .start()?;
    loop {
        let stats = queue.stats()?;
        if stats.ready + stats.running + stats.delayed == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    consumer.stop(Duration::MAX)?;

    for dead in queue.dead(usize::MAX)? {
        let path = serde_json::from_slice::<DigestFile>(&dead.payload)?.path;
        eprintln!("{}: {}", path.display(), dead.error.unwrap_or_default());
    }
    print_results(&queue)?;
    queue.purge_states(&[JobState::Done, JobState::Dead])?;
    Ok(())
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            find(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// The same file is the same job, also after a restart.
fn job(path: &Path) -> Result<NewJob, serde_json::Error> {
    let path = path.to_owned();
    let hash = Sha256::digest(path.as_os_str().as_encoded_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    let mut job = NewJob::new(DigestFile::KIND, serde_json::to_vec(&DigestFile { path })?);
    job.id = JobId::from_bytes(id);
    job.keep_result = Some(YEAR);
    // A file that cannot be read twice will not be readable later.
    job.attempts = 3;
    Ok(job)
}

/// A line as `sha256sum` prints it.
fn digest(path: &Path) -> Result<String, JobError> {
    let mut file = File::open(path).map_err(JobError::fatal)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(format!("{:x}  {}", digest.finalize(), path.display()));
        }
        digest.update(&buffer[..read]);
    }
}

fn print_results(queue: &Queue) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut lines: Vec<String> = Vec::new();
    let mut after = None;
    loop {
        let done = queue.list(JobState::Done, after, 1_000)?;
        let Some(last) = done.last() else {
            break;
        };
        after = Some(last.id);
        for job in done {
            lines.push(serde_json::from_slice(&job.result.unwrap_or_default())?);
        }
    }
    lines.sort();
    let mut out = io::stdout().lock();
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    Ok(())
}
