//! [`sleep`]: a future that waits for a time, on any executor.
//!
//! A future sets its timer when it is polled first, and takes it back when it is dropped. It has three states: not set
//! (`set` is `None`), set, and over (`deadline` is 0, which no tick is).
//!
//! Where the timers' thread is refused, the polls try again, as X4 of [`rescue`](crate::engine::rescue) says: each waits
//! for a while at most, tries, and wakes its own task. Of the futures that share an executor's thread one waits in each
//! round; `tries` tells the others that it did.

use super::service::{Key, NEVER, Service, Set, service};
use crate::panic::drop_quietly;
use crate::sync::{Ordering, sleep as sleep_thread};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How long a poll waits until it tries again to start a thread that was refused.
const RETRY: Duration = Duration::from_millis(10);

/// Waits until `duration` has passed.
///
/// The time counts from this call on. The future never ends early; it ends at most a millisecond late, and then its
/// task has to be polled. It works on any executor, in a pool or not, and takes no thread: all timers of a process share
/// one, which ends when there is none. With [`Duration::MAX`] it waits for ever.
///
/// In the child of a fork it waits for what was left of its time.
///
/// ```
/// use std::time::{Duration, Instant};
/// # futures::executor::block_on(async {
/// let begun = Instant::now();
/// anthill::sleep(Duration::from_millis(5)).await;
/// assert!(begun.elapsed() >= Duration::from_millis(5));
/// # });
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    let deadline = if duration.is_zero() {
        OVER
    } else {
        service().tick_after(duration).max(1)
    };
    Sleep {
        deadline,
        timer: Timer::Unset { tries: 0 },
    }
}

/// The deadline of a future that is over.
const OVER: u64 = 0;

/// The future of [`sleep`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Sleep {
    /// A tick.
    deadline: u64,
    timer: Timer,
}

enum Timer {
    Unset {
        /// The last try to start the thread that this future has seen.
        tries: u32,
    },
    Set(&'static Service, Key),
}

impl Sleep {
    fn begin(&mut self, waker: &Waker) -> Poll<()> {
        let Timer::Unset { tries } = &mut self.timer else {
            return Poll::Pending;
        };
        if self.deadline == NEVER {
            return Poll::Pending;
        }
        let service = service();
        match service.set_unless_due(self.deadline, waker.clone()) {
            Set::Waits(key) => {
                self.timer = Timer::Set(service, key);
                Poll::Pending
            }
            Set::Due(waker) => {
                drop_quietly(waker);
                self.end()
            }
            Set::Refused(_refusal) => {
                let over = wait_in_turn(service, self.deadline, tries);
                if over {
                    return self.end();
                }
                waker.wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn end(&mut self) -> Poll<()> {
        self.deadline = OVER;
        self.timer = Timer::Unset { tries: 0 };
        Poll::Ready(())
    }

    /// Takes the timer back.
    fn unset(&mut self) {
        // G1 of `fork`: that of a parent is not touched.
        if let Timer::Set(service, key) = self.timer {
            if service.is_here() {
                drop_quietly(service.remove(key));
            }
        }
        self.timer = Timer::Unset { tries: 0 };
    }
}

/// Waits for a while, unless another future did since this one looked last. Returns whether the deadline is over.
#[cold]
fn wait_in_turn(service: &Service, deadline: u64, seen: &mut u32) -> bool {
    // ORDERING: Relaxed: it only says who waits for how long.
    let tries = service.tries.load(Ordering::Relaxed);
    if tries == *seen {
        let left = Duration::from_millis(deadline).saturating_sub(service.time());
        sleep_thread(left.min(RETRY));
        *seen = service
            .tries
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(1);
    } else {
        *seen = tries;
    }
    deadline <= service.now()
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.deadline == OVER {
            return Poll::Ready(());
        }
        match self.timer {
            Timer::Set(service, key) if service.is_here() => {
                if !service.renew(key, cx.waker()) {
                    return self.end();
                }
                if self.deadline <= service.now() {
                    self.unset();
                    return self.end();
                }
                Poll::Pending
            }
            // G1 of `fork`: its timer is in the parent.
            Timer::Set(..) => {
                self.unset();
                self.begin(cx.waker())
            }
            Timer::Unset { .. } => self.begin(cx.waker()),
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.unset();
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep")
            .field("over", &(self.deadline == OVER))
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_sleeping_future_takes_three_words() {
        assert_eq!(size_of::<Sleep>(), 24);
    }
}
