//! How do I get results and errors back? By handles, by a map, from a group, or as a list.
//!
//! ```text
//! cargo run --release --example results              # nine jobs on three workers
//! cargo run --release --example results -- 100000    # any number: no queue fills up
//! ```
//!
//! The workers never wait for a reader: a result stays with its handle, an error with its group.
//! (One job panics on purpose, and the standard panic hook prints that.)

use std::error::Error;

use anthill::{GroupError, Pool};

fn main() -> Result<(), Box<dyn Error>> {
    let jobs = match std::env::args().nth(1) {
        Some(number) => number.parse()?,
        None => 9,
    };
    let pool = Pool::with_capacity(3);
    by_handles(&pool, jobs)?;
    by_map(&pool, jobs);
    errors_of_a_group(&pool, jobs)?;
    a_list_of_tasks(&pool, jobs);
    reading_no_further(&pool, jobs);
    println!("threads:      {} in all", pool.stats().workers_started);
    Ok(())
}

fn square(job: u64) -> u64 {
    job * job
}

/// A job with an odd number fails.
fn even_only(job: u64) -> Result<u64, String> {
    if job % 2 == 0 {
        Ok(square(job))
    } else {
        Err(format!("job {job} is odd"))
    }
}

/// Submits everything first, and joins later: each handle keeps its result until it is joined.
fn by_handles(pool: &Pool, jobs: u64) -> Result<(), Box<dyn Error>> {
    let mut handles = Vec::new();
    for job in 1..=jobs {
        handles.push(pool.spawn(move || square(job))?);
    }
    let mut total = 0;
    for handle in handles {
        total += u128::from(handle.join()?);
    }
    assert_eq!(total, (1..=jobs).map(square).map(u128::from).sum());
    println!("handles:      {jobs} results, {total} in all");
    Ok(())
}

/// The same for an iterator: results in order, with at most a window of them in memory.
fn by_map(pool: &Pool, jobs: u64) {
    let mut results = 0;
    for (job, result) in (1..).zip(pool.map(1..=jobs, square)) {
        assert_eq!(result, square(job));
        results += 1;
    }
    assert_eq!(results, jobs);
    println!("map:          {results} results, in order");
}

/// Every job runs, whether or not others fail; `wait` returns every error, with the number of its job.
fn errors_of_a_group(pool: &Pool, jobs: u64) -> Result<(), Box<dyn Error>> {
    let group = pool.group().keep_going();
    for job in 1..=jobs {
        group.submit(move || even_only(job).map(drop))?;
    }
    let errors = group.wait().err().unwrap_or_default();
    assert_eq!(errors.len() as u64, jobs.div_ceil(2));
    println!("group:        {} of {jobs} jobs failed", errors.len());
    for (index, error) in errors.iter().take(5) {
        assert_eq!(index % 2, 0, "the group counts from 0, the jobs from 1");
        assert!(matches!(error, GroupError::Task(_)));
        println!("              - {error}");
    }
    Ok(())
}

/// A list of tasks, and the outcome of each. A panic is the outcome of one task.
fn a_list_of_tasks(pool: &Pool, jobs: u64) {
    let tasks = (1..=jobs).map(|job| {
        move || {
            assert!(job != 2, "job {job} is hopeless");
            even_only(job)
        }
    });
    let outcomes = pool.run_all(tasks);
    assert_eq!(outcomes.len() as u64, jobs);

    println!("list:         {jobs} outcomes; reading up to the third failure");
    let failures = (1..)
        .zip(&outcomes)
        .filter_map(|(job, outcome)| match outcome {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some((job, error.clone())),
            Err(panic) => Some((job, panic.to_string())),
        });
    for (job, failure) in failures.take(3) {
        let job: u64 = job;
        assert!(job % 2 == 1 || job == 2);
        println!("              - {failure}");
    }
}

/// A reader that stops can stop the work as well: a map that is dropped starts nothing more.
fn reading_no_further(pool: &Pool, jobs: u64) {
    let failure = pool
        .map(1..=jobs, even_only)
        .window(8)
        .find_map(Result::err);
    if let Some(failure) = failure {
        println!("stop reading: at the first failure ({failure}), and the rest is left undone");
    }
    pool.wait_idle();
}
