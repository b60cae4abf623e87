//! How do different kinds of work share one pool? A limit, a serial queue, and a queue for each key.
//!
//! ```text
//! cargo run --example shares
//! ```
//!
//! A share has no threads of its own. Of its tasks only those that may run hold a worker; the rest waits aside, and the
//! other workers are free.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use anthill::{Pool, Serial};

const NAMES: [&str; 3] = ["ann", "bob", "cem"];
const BOOKINGS: i64 = 200;
const FILES: usize = 40;

fn main() -> Result<(), Box<dyn Error>> {
    let pool = Pool::builder()
        .capacity(8)
        .unbounded_backlog()
        .name("shared")
        .build()?;

    // serial: one at a time, in order. For what only one task may touch at a time, without waiting for a lock.
    let log = Log::new(pool.serial());

    // keyed: in order for each key, side by side across keys.
    let accounts = NAMES.map(|name| Arc::new(Account::new(name)));
    let bookings = pool.keyed::<&str>();
    for amount in 1..=BOOKINGS {
        for account in &accounts {
            let (account, log) = (Arc::clone(account), log.clone());
            bookings.submit(account.name, move || {
                if let Some(line) = account.book(amount) {
                    log.write(line);
                }
            })?;
        }
    }

    // limit: at most two at once, of any kind. For what gets slow when too many use it.
    let disk = pool.limit(2);
    let heads = Arc::new(Heads::default());
    let mut files = Vec::new();
    for file in 0..FILES {
        let (heads, log) = (Arc::clone(&heads), log.clone());
        files.push(disk.spawn(move || {
            let bytes = heads.read(file);
            if file % 10 == 0 {
                log.write(format!("read file {file}"));
            }
            bytes
        })?);
    }

    // Each share can be waited for by itself.
    bookings.wait_idle();
    for account in &accounts {
        let total = BOOKINGS * (BOOKINGS + 1) / 2;
        assert_eq!(*unshared(&account.page), (BOOKINGS, total));
    }
    assert_eq!(bookings.keys(), 0, "a key without tasks is forgotten");
    println!(
        "keyed:  {} bookings, each account's in order",
        bookings.stats().completed
    );

    let mut bytes = 0;
    for file in files {
        bytes += file.join()?;
    }
    let most = heads.most.load(Ordering::SeqCst);
    assert!(most <= 2);
    println!("limit:  {bytes} bytes of {FILES} files, at most {most} at a time");

    log.queue.wait_idle();
    let lines = unshared(&log.lines);
    assert_eq!(lines.len(), 10);
    println!("serial: {} lines, written one at a time:", lines.len());
    for line in lines.iter() {
        println!("        {line}");
    }
    println!("pool:   {} threads in all", pool.stats().workers_started);
    Ok(())
}

/// An account, whose bookings come one at a time and in order.
struct Account {
    name: &'static str,
    /// The last amount, and the balance.
    page: Mutex<(i64, i64)>,
}

impl Account {
    fn new(name: &'static str) -> Account {
        let page = Mutex::default();
        Account { name, page }
    }

    /// Adds to the balance, and now and then returns a line for the log.
    fn book(&self, amount: i64) -> Option<String> {
        let Account { name, page } = self;
        let mut page = unshared(page);
        assert_eq!(page.0, amount - 1, "{name}'s bookings are in order");
        *page = (amount, page.1 + amount);
        let balance = page.1;
        (amount % 100 == 0).then(|| format!("{name} has {balance} after {amount} bookings"))
    }
}

/// Locks a mutex that nobody else can hold, since the tasks that use it run one at a time.
fn unshared<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.try_lock().expect("nobody else holds it")
}

/// A log with one writer at a time and no thread of its own. `write` does not wait.
#[derive(Clone)]
struct Log {
    queue: Serial,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Log {
    fn new(queue: Serial) -> Log {
        let lines = Arc::default();
        Log { queue, lines }
    }

    fn write(&self, line: String) {
        let lines = Arc::clone(&self.lines);
        let write = move || unshared(&lines).push(line);
        // In a task of the pool this never blocks.
        self.queue.submit(write).expect("the pool is open");
    }
}

/// A disk that counts how many read from it at once.
#[derive(Default)]
struct Heads {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Heads {
    fn read(&self, file: usize) -> usize {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(2));
        self.now.fetch_sub(1, Ordering::SeqCst);
        1_000 + file
    }
}
