//! What the engines are given to do, beyond what the crate's own benchmark has.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::workloads::{Engine, IDLE_PAUSE, Latch, as_count, one_submitter, spin, turns_for};

/// A unit is a task that computes for `time`.
pub(crate) fn computing<E: Engine>(engine: E, time: Duration) -> impl FnMut(u64) -> Duration {
    let turns = turns_for(time);
    one_submitter(engine, move || {
        black_box(spin(turns, 1));
    })
}

/// A unit is a burst of `tasks` empty tasks.
pub(crate) fn burst<E: Engine>(engine: E, tasks: u32) -> impl FnMut(u64) -> Duration {
    let latch = Latch::leak();
    move |bursts| {
        let once = |_| {
            thread::sleep(IDLE_PAUSE);
            latch.expect(as_count(u64::from(tasks)));
            let start = Instant::now();
            for _ in 0..tasks {
                engine.submit(move || latch.count_down());
            }
            latch.wait();
            start.elapsed()
        };
        (0..bursts).map(once).sum()
    }
}

/// Tasks that submit others to `inside`, and the end of them.
struct Family<I> {
    inside: I,
    latch: Latch,
}

impl<I: Engine> Family<I> {
    fn leak(inside: I) -> &'static Self {
        Box::leak(Box::new(Self {
            inside,
            latch: Latch::new(),
        }))
    }

    /// `further` tasks, one after the other.
    fn chain(&'static self, further: u32) {
        if further > 0 {
            self.inside.submit(move || self.chain(further - 1));
        }
        self.latch.count_down();
    }
}

/// A unit is a chain of `length` tasks.
pub(crate) fn chain<E: Engine, I: Engine>(
    engine: E,
    inside: I,
    length: u32,
) -> impl FnMut(u64) -> Duration {
    chains(engine, inside, 1, length)
}

/// A unit is `pairs` tasks, each of which submits a second one, and that a third.
pub(crate) fn ping_pong<E: Engine, I: Engine>(
    engine: E,
    inside: I,
    pairs: u32,
) -> impl FnMut(u64) -> Duration {
    chains(engine, inside, pairs, 3)
}

/// A unit is `chains` chains of `length` tasks, started by a thread outside.
fn chains<E: Engine, I: Engine>(
    engine: E,
    inside: I,
    chains: u32,
    length: u32,
) -> impl FnMut(u64) -> Duration {
    let family = Family::leak(inside);
    move |units| {
        let start = Instant::now();
        for _ in 0..units {
            family.latch.expect(as_count(u64::from(chains * length)));
            for _ in 0..chains {
                engine.submit(move || family.chain(length - 1));
            }
            family.latch.wait();
        }
        start.elapsed()
    }
}

/// The tasks of a skynet that is `depth` levels deep beneath its root.
pub(crate) fn skynet_size(depth: u32) -> u32 {
    (10_u32.pow(depth + 1) - 1) / 9
}

/// A task that waits for the sums of its ten.
struct Node {
    sum: AtomicU64,
    left: AtomicU32,
    parent: Option<Arc<Node>>,
}

impl Node {
    fn new(parent: Option<Arc<Node>>) -> Arc<Node> {
        Arc::new(Node {
            sum: AtomicU64::new(0),
            left: AtomicU32::new(10),
            parent,
        })
    }

    /// Says the sum of the whole to the last of all.
    fn add(self: Arc<Node>, sum: u64) -> Option<u64> {
        let (mut node, mut sum) = (self, sum);
        loop {
            node.sum.fetch_add(sum, Ordering::Relaxed);
            // ORDERING: AcqRel: the last one sees what the others added.
            if node.left.fetch_sub(1, Ordering::AcqRel) > 1 {
                return None;
            }
            sum = node.sum.load(Ordering::Relaxed);
            let Some(parent) = &node.parent else {
                return Some(sum);
            };
            node = Arc::clone(parent);
        }
    }
}

impl<I: Engine> Family<I> {
    fn skynet(&'static self, number: u64, depth: u32, parent: Arc<Node>) {
        if depth > 0 {
            let node = Node::new(Some(parent));
            self.ten(number, depth - 1, &node);
        } else if let Some(sum) = parent.add(number) {
            let of_all = number_of_leaves(sum);
            assert_eq!(sum, of_all * (of_all - 1) / 2, "each leaf was counted");
            self.latch.count_down();
        }
    }

    fn ten(&'static self, number: u64, depth: u32, node: &Arc<Node>) {
        for child in 0..10 {
            let parent = Arc::clone(node);
            let number = number * 10 + child;
            self.inside
                .submit(move || self.skynet(number, depth, parent));
        }
    }
}

/// The power of ten whose numbers from 0 have that sum.
fn number_of_leaves(sum: u64) -> u64 {
    let mut leaves = 10;
    while leaves * (leaves - 1) / 2 < sum {
        leaves *= 10;
    }
    leaves
}

/// A unit is a tree of tasks in which each submits ten, and the numbers of the leaves are added up.
pub(crate) fn skynet<E: Engine, I: Engine>(
    engine: E,
    inside: I,
    depth: u32,
) -> impl FnMut(u64) -> Duration {
    let family = Family::leak(inside);
    move |units| {
        let start = Instant::now();
        for _ in 0..units {
            family.latch.expect(1);
            engine.submit(move || family.ten(0, depth - 1, &Node::new(None)));
            family.latch.wait();
        }
        start.elapsed()
    }
}

/// A unit is a submit of an empty task, timed, while `tune` is called from elsewhere.
pub(crate) fn submits_while_tuned<E: Engine>(
    engine: E,
    tune: impl FnMut(usize) + Send + 'static,
) -> impl FnMut(u64) -> Vec<Duration> {
    let latch = Latch::leak();
    let mut tune = tune;
    move |submits| {
        let over = AtomicBool::new(false);
        latch.expect(as_count(submits));
        thread::scope(|scope| {
            scope.spawn(|| {
                // ORDERING: it only says when.
                while !over.load(Ordering::Relaxed) {
                    tune(1);
                    thread::sleep(Duration::from_micros(500));
                    tune(4);
                    thread::sleep(Duration::from_micros(500));
                }
            });
            let once = |_| {
                let start = Instant::now();
                engine.submit(move || latch.count_down());
                start.elapsed()
            };
            let times = (0..submits).map(once).collect();
            latch.wait();
            over.store(true, Ordering::Relaxed);
            times
        })
    }
}

/// Without an engine.
pub(crate) fn fib(n: u32) -> u64 {
    if n < 2 {
        u64::from(n)
    } else {
        fib(n - 1) + fib(n - 2)
    }
}

/// The calls that [`fib`] makes, its own included, down to those with an `n` of at most `cutoff`.
pub(crate) fn fib_calls(n: u32, cutoff: u32) -> u32 {
    if n < 2 || n <= cutoff {
        1
    } else {
        1 + fib_calls(n - 1, cutoff) + fib_calls(n - 2, cutoff)
    }
}
