//! The tasks: a walk finds files and folders, a hash reads one file.
//!
//! Walks submit tasks, so nobody outside paces them, and a pool lets its own tasks submit without
//! waiting (they might wait for each other). What keeps memory bounded is that a walk *asks*:
//!
//! 1. A file is offered to the pool. If there is no room, the offer comes back as the closure that it
//!    was; the walk queues the rest of itself as a new task and hashes this one file in its own place.
//!    Hence a file that takes an hour holds up one worker but not the walk, and the pool never holds
//!    more tasks than its room and one for each walk.
//! 2. A folder is offered as a walk of its own while there are fewer than [`WALKS`]. If that is
//!    refused, the walk goes into the folder itself, on a stack of its own ([`Walk`]).

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::engine::Engine;
use crate::file::{Contents, File};
use crate::report::Report;
use crate::walk::{Found, Walk};

/// Walks at the same time: enough to keep the files of any disk coming, few enough for the
/// descriptors they hold (see [`walk`](crate::walk)).
const WALKS: usize = 8;

/// How often the progress is drawn, and lines that wait in the buffer are written.
const TICK: Duration = Duration::from_millis(100);

/// What the program was asked to do, and where its results go.
pub(crate) struct Job {
    report: Arc<Report>,
    roots: Vec<PathBuf>,
}

impl Job {
    pub(crate) fn new(report: Arc<Report>, roots: Vec<PathBuf>) -> Self {
        Self { report, roots }
    }

    /// Does it, on that engine; returns when nothing of it runs or waits any more.
    pub(crate) fn run<E: Engine>(self, engine: &E) -> Result<(), Box<dyn Error + Send + Sync>> {
        let Self { report, roots } = self;
        let walks = Arc::new(AtomicUsize::new(0));
        let first = WalkTask {
            engine: engine.clone(),
            report: Arc::clone(&report),
            walk: Walk::of_named(roots),
            place: Place::take(&walks).expect("it is the first of several"),
        };
        engine.submit(move || first.run())?;
        while !engine.wait_timeout(TICK) {
            report.tick();
        }
        Ok(())
    }
}

/// The task that finds: reads folders and offers what is in them to the engine.
struct WalkTask<E> {
    engine: E,
    report: Arc<Report>,
    walk: Walk,
    place: Place,
}

impl<E: Engine> WalkTask<E> {
    fn run(mut self) {
        while let Some(found) = self.walk.next() {
            if self.report.is_stopped() {
                return;
            }
            match found {
                Found::Folder(path) => {
                    if !self.offer_folder(&path) {
                        self.walk.enter(path);
                    }
                }
                Found::File(file) => {
                    let report = Arc::clone(&self.report);
                    if let Err(hash) = self.engine.offer(move || hash(&file, &report)) {
                        self.hand_on();
                        return hash();
                    }
                }
                Found::Link => self.report.passed_over_link(),
                Found::Special => self.report.passed_over_special(),
                Found::Failed(path, error) => self.report.fail(&path, &error),
            }
        }
    }

    /// Offers a walk of that folder alone; says whether it was taken.
    fn offer_folder(&self, path: &Path) -> bool {
        let Some(place) = Place::take(&self.place.0) else {
            return false;
        };
        let task = Self {
            engine: self.engine.clone(),
            report: Arc::clone(&self.report),
            walk: Walk::of_folder(path.to_path_buf()),
            place,
        };
        self.engine.offer(move || task.run()).is_ok()
    }

    /// Queues the rest of this walk.
    fn hand_on(self) {
        let engine = self.engine.clone();
        engine
            .submit(move || self.run())
            .expect("the pool is open until its tasks are done");
    }
}

/// The task that hashes one file.
fn hash(file: &File, report: &Report) {
    match file.read(report) {
        Ok(Contents::Sha256(sum)) => report.line(&sum, file.path()),
        Ok(Contents::NotRegular) => report.passed_over_special(),
        Ok(Contents::Abandoned) => {}
        Err(error) => report.fail(file.path(), &error),
    }
}

/// One of the [`WALKS`]: a walk has it from its beginning to its end, through all its tasks.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(walks: &Arc<AtomicUsize>) -> Option<Self> {
        walks
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                (taken < WALKS).then_some(taken + 1)
            })
            .ok()
            .map(|_| Self(Arc::clone(walks)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
