//! How do I run at most N tasks at a time? With a limit on a pool that others use too, or with a pool of N workers.
//!
//! ```text
//! cargo run --example throttle          # 100 downloads, at most 5 at a time
//! cargo run --example throttle -- 20
//! ```

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anthill::Pool;

const DOWNLOADS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let at_once = match std::env::args().nth(1) {
        Some(number) => number.parse::<usize>()?.max(1),
        None => 5,
    };
    a_limit_on_a_shared_pool(at_once)?;
    a_pool_of_its_own(at_once);
    Ok(())
}

/// The downloads may use `at_once` workers of the pool; the others stay free.
fn a_limit_on_a_shared_pool(at_once: usize) -> Result<(), Box<dyn Error>> {
    let pool = Pool::builder()
        .capacity(at_once + 3)
        .unbounded_backlog()
        .build()?;
    let downloads = pool.limit(at_once);
    let site = Arc::new(Site::default());
    let begun = Instant::now();
    let mut handles = Vec::new();
    for page in 0..DOWNLOADS {
        let site = Arc::clone(&site);
        handles.push(downloads.spawn(move || site.download(page))?);
    }
    // It does not wait behind a hundred downloads.
    let query = pool.spawn(|| "answered")?.join()?;
    let finished = site.finished.load(Ordering::SeqCst);

    let mut pages = Vec::new();
    for handle in handles {
        pages.push(handle.join()?); // in the order in which they were asked for
    }
    report("limit", &site, &pages, at_once, begun);
    println!("             another task was {query} after {finished} of them");
    Ok(())
}

/// If nobody else uses the threads, the capacity is the limit.
fn a_pool_of_its_own(at_once: usize) {
    let pool = Pool::with_capacity(at_once);
    let site = Arc::new(Site::default());
    let begun = Instant::now();
    let at_site = Arc::clone(&site);
    let pages: Vec<String> = pool
        .map(0..DOWNLOADS, move |page| at_site.download(page))
        .collect();
    report("own pool", &site, &pages, at_once, begun);
}

fn report(way: &str, site: &Site, pages: &[String], at_once: usize, begun: Instant) {
    let peak = site.peak.load(Ordering::SeqCst);
    assert!(peak <= at_once);
    let in_order = (0..DOWNLOADS).map(|page| format!("page {page}"));
    assert!(pages.iter().cloned().eq(in_order));
    println!(
        "{way:<10} | {} results, \"{}\" to \"{}\" | at most {peak} at a time | {} ms",
        pages.len(),
        pages[0],
        pages[DOWNLOADS - 1],
        begun.elapsed().as_millis()
    );
}

/// A site that must not be overloaded. It counts how many downloads there are at once.
#[derive(Default)]
struct Site {
    now: AtomicUsize,
    peak: AtomicUsize,
    finished: AtomicUsize,
}

impl Site {
    fn download(&self, page: usize) -> String {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(now, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(5));
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.finished.fetch_add(1, Ordering::SeqCst);
        format!("page {page}")
    }
}
