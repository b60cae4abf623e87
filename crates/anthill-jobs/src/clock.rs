//! Clocks: those of the host, or one that a test moves.

use crate::broker::{Change, Listener, Listeners, Subscription};
use crate::sync::lock;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// The clocks of a broker on this host: a wall clock for delays and schedules, and a steady clock for leases, which goes
/// on while the host sleeps and does not move when the wall clock is set.
///
/// ```
/// use anthill_jobs::Clock;
/// use std::time::Duration;
///
/// let clock = Clock::manual();
/// let before = clock.wall();
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(clock.wall() - before, Duration::from_secs(3600));
/// ```
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Manual(Arc<Manual>),
}

struct Manual {
    time: Mutex<Time>,
    listeners: Listeners,
}

#[derive(Clone)]
struct Time {
    wall: Duration,
    steady: Steady,
}

/// A moment of the steady clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Steady {
    /// The boot of the host: times of another boot cannot be compared.
    pub(crate) boot: String,
    /// Since the host was started.
    pub(crate) since: Duration,
}

impl Clock {
    /// Returns the clocks of the host.
    #[must_use]
    pub fn system() -> Clock {
        Clock(Source::System)
    }

    /// Makes a clock for tests, which stands still until it is moved. It starts at noon (UTC) on 1 January 2025.
    #[must_use]
    pub fn manual() -> Clock {
        let time = Time {
            wall: Duration::from_secs(1_735_732_800),
            steady: Steady {
                boot: "boot 1".to_owned(),
                since: Duration::from_secs(60),
            },
        };
        Clock(Source::Manual(Arc::new(Manual {
            time: Mutex::new(time),
            listeners: Listeners::default(),
        })))
    }

    /// Advances a manual clock.
    ///
    /// # Panics
    ///
    /// If this is the system's clock.
    pub fn advance(&self, time: Duration) {
        self.change(|now| {
            now.wall += time;
            now.steady.since += time;
        });
    }

    /// Sets the wall clock of a manual clock, as an administrator may on a host; its steady clock does not move.
    ///
    /// # Panics
    ///
    /// If this is the system's clock.
    pub fn set_wall(&self, wall: Duration) {
        self.change(|now| now.wall = wall);
    }

    /// Simulates a reboot of a manual clock's host: its steady clock starts from zero.
    ///
    /// # Panics
    ///
    /// If this is the system's clock.
    pub fn reboot(&self) {
        self.change(|now| {
            now.steady.boot += "+";
            now.steady.since = Duration::ZERO;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Time)) {
        let Source::Manual(manual) = &self.0 else {
            panic!("the system's clock cannot be moved");
        };
        change(&mut lock(&manual.time));
        manual.listeners.notify(Change::Here);
    }

    /// Adds a listener for moves of a manual clock.
    pub(crate) fn on_change(&self, call: impl Fn() + Send + Sync + 'static) -> Subscription {
        match &self.0 {
            Source::System => Subscription::new(|| {}),
            Source::Manual(manual) => {
                let listener = Listener::new(Duration::MAX, move |_| call());
                manual.listeners.add(listener)
            }
        }
    }

    /// Whether both are the same clock.
    #[cfg(feature = "sqlite")]
    pub(crate) fn is(&self, other: &Clock) -> bool {
        match (&self.0, &other.0) {
            (Source::System, Source::System) => true,
            (Source::Manual(one), Source::Manual(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Returns the time since 1970 by the wall clock.
    pub fn wall(&self) -> Duration {
        match &self.0 {
            Source::System => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                now.unwrap_or_default()
            }
            Source::Manual(manual) => lock(&manual.time).wall,
        }
    }

    /// The wall clock in whole seconds.
    pub(crate) fn seconds(&self) -> i64 {
        i64::try_from(self.wall().as_secs()).unwrap_or(i64::MAX)
    }

    pub(crate) fn steady(&self) -> Steady {
        match &self.0 {
            Source::System => host::steady(),
            Source::Manual(manual) => lock(&manual.time).steady.clone(),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Source::System => "Clock::system()",
            Source::Manual(_) => "Clock::manual()",
        })
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod host {
    use super::Steady;
    use std::sync::LazyLock;
    use std::time::Duration;

    /// One for each boot of the kernel. The containers of a host share it, as they share its clock.
    static BOOT: LazyLock<String> = LazyLock::new(|| {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        id.map_or_else(|_| "unknown".to_owned(), |id| id.trim().to_owned())
    });

    pub(super) fn steady() -> Steady {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
        Steady {
            boot: BOOT.clone(),
            since: Duration::new(seconds, nanos),
        }
    }
}

/// The wall clock is the only clock that all processes share here, so leases follow it.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod host {
    use super::Steady;
    use std::time::SystemTime;

    pub(super) fn steady() -> Steady {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Steady {
            boot: "wall".to_owned(),
            since: now.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_steady_clock_goes_on() {
        let clock = Clock::system();
        let (one, two) = (clock.steady(), clock.steady());
        assert_eq!(one.boot, two.boot);
        assert!(one.since <= two.since && one.since > Duration::ZERO);
    }

    #[test]
    fn a_manual_clock_moves_as_it_is_told() {
        let clock = Clock::manual();
        let (wall, steady) = (clock.wall(), clock.steady());
        clock.advance(Duration::from_secs(5));
        assert_eq!(clock.wall(), wall + Duration::from_secs(5));
        assert_eq!(clock.steady().since, steady.since + Duration::from_secs(5));
        clock.set_wall(wall);
        assert_eq!(clock.wall(), wall);
        assert_eq!(clock.steady().since, steady.since + Duration::from_secs(5));
        clock.reboot();
        assert_ne!(clock.steady().boot, steady.boot);
    }
}
