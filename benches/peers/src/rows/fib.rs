//! Recursion through scopes, beside the `join` of rayon and of chili.

use std::hint::black_box;
use std::time::Duration;

use anthill::{Pool, PoolHandle};

use super::{Row, Scale, WORKERS, contender, timed};
use crate::engines::{ants_mode, chili, rayon, with_backlog};
use crate::work::{fib, fib_calls};

pub(crate) fn rows(scale: Scale) -> Vec<Row> {
    vec![
        fib_row("fib", scale, 0),
        fib_row("fib, cut off at 15", scale, 15),
    ]
}

/// A unit is a Fibonacci number by the book: each call above the cutoff makes two tasks of itself.
fn fib_row(name: &'static str, scale: Scale, cutoff: u32) -> Row {
    fn on_anthill(pool: &PoolHandle, n: u32, cutoff: u32) -> u64 {
        if n < 2 || n <= cutoff {
            return fib(n);
        }
        let mut a = 0;
        let b = pool.scope(|s| {
            s.submit(|| a = on_anthill(pool, n - 1, cutoff));
            on_anthill(pool, n - 2, cutoff)
        });
        a + b
    }

    fn on_rayon(n: u32, cutoff: u32) -> u64 {
        if n < 2 || n <= cutoff {
            return fib(n);
        }
        let (a, b) = rayon::join(|| on_rayon(n - 1, cutoff), || on_rayon(n - 2, cutoff));
        a + b
    }

    fn on_chili(scope: &mut chili::Scope<'_>, n: u32, cutoff: u32) -> u64 {
        if n < 2 || n <= cutoff {
            return fib(n);
        }
        let (a, b) = scope.join(
            |scope| on_chili(scope, n - 1, cutoff),
            |scope| on_chili(scope, n - 2, cutoff),
        );
        a + b
    }

    fn anthill(pool: Pool, n: u32, cutoff: u32) -> impl FnMut(u64) -> Duration {
        let inside = pool.handle();
        repeated(n, move || {
            let inside = inside.clone();
            let root = pool.spawn(move || on_anthill(&inside, n, cutoff));
            let root = root.unwrap_or_else(|_| panic!("an open pool accepts"));
            root.join().unwrap()
        })
    }

    let n = if scale == Scale::Full { 30 } else { 16 };
    let mut row = Row::new(
        name,
        "fib(30) by the book: each call above the cut-off makes two tasks of itself, and waits for them",
        vec![
            contender("anthill-2", 1, move || {
                anthill(ants_mode(WORKERS), n, cutoff)
            }),
            contender("anthill-2-backlog", 1, move || {
                anthill(with_backlog(WORKERS), n, cutoff)
            }),
            contender("rayon-2", 1, move || {
                let pool = rayon(WORKERS);
                repeated(n, move || pool.install(|| on_rayon(n, cutoff)))
            }),
            contender("chili-2", 1, move || {
                let pool = chili(WORKERS);
                repeated(n, move || on_chili(&mut pool.scope(), n, cutoff))
            }),
            contender("in-place", 1, move || {
                repeated(n, move || fib(black_box(n)))
            }),
        ],
    );
    row.tasks_a_unit = fib_calls(n, cutoff);
    row
}

/// Runs `fib` so many times, and looks at what it says.
fn repeated(n: u32, once: impl Fn() -> u64) -> impl FnMut(u64) -> Duration {
    let wanted = fib(n);
    move |units| timed(|| (0..units).for_each(|_| assert_eq!(once(), wanted)))
}
