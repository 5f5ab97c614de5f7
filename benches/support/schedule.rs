//! The times of requests that do not wait for each other.

use std::time::{Duration, Instant};

/// How long before its time a thread wakes up. The kernel may let it sleep about this much longer than requested.
const EARLY: Duration = Duration::from_micros(80);

/// Evenly spaced moments, which do not depend on earlier requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    began: Instant,
    per_second: u32,
    all: u32,
}

impl Schedule {
    /// Creates a schedule of `per_second` moments per second for this time. `per_second` is at least 1, and the first
    /// moment is `began`.
    pub(crate) fn new(began: Instant, per_second: u32, time: Duration) -> Self {
        let all = time.as_nanos() * u128::from(per_second) / 1_000_000_000;
        Self { began, per_second, all: u32::try_from(all).unwrap_or(u32::MAX) }
    }

    /// Returns the number of moments.
    pub(crate) fn len(&self) -> u32 {
        self.all
    }

    /// Returns the moment with this number. It is computed from the start each time, so that rounding errors do not add
    /// up.
    pub(crate) fn at(&self, number: u32) -> Instant {
        self.began + Duration::from_nanos(u64::from(number) * 1_000_000_000 / u64::from(self.per_second))
    }

    /// Returns the number of moments that are due.
    pub(crate) fn due(&self, now: Instant) -> u32 {
        let passed = now.saturating_duration_since(self.began).as_nanos();
        let due = passed * u128::from(self.per_second) / 1_000_000_000 + 1;
        u32::try_from(due).unwrap_or(u32::MAX).min(self.all)
    }

    /// Returns the moments of one of several threads, which take turns.
    pub(crate) fn of_thread(self, thread: u32, threads: u32) -> impl Iterator<Item = Instant> {
        (thread..self.all).step_by(threads as usize).map(move |number| self.at(number))
    }
}

/// Returns at this moment, more precisely than a sleep does. Returns at once if the moment has passed.
pub(crate) fn wait_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()).saturating_sub(EARLY));
    while Instant::now() < moment {
        std::hint::spin_loop();
    }
}
