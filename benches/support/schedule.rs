//! When requests are to be sent that do not wait for each other.

use std::time::{Duration, Instant};

/// How long before its time a thread wakes up: the kernel is free to let it sleep about this much longer.
const EARLY: Duration = Duration::from_micros(80);

/// Evenly spaced moments, whatever becomes of what was sent at those before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    began: Instant,
    per_second: u32,
    all: u32,
}

impl Schedule {
    /// So many moments in each second of this time, at least 1, the first at `began`.
    pub(crate) fn new(began: Instant, per_second: u32, time: Duration) -> Self {
        let all = time.as_nanos() * u128::from(per_second) / 1_000_000_000;
        Self { began, per_second, all: u32::try_from(all).unwrap_or(u32::MAX) }
    }

    /// How many moments there are.
    pub(crate) fn len(&self) -> u32 {
        self.all
    }

    /// The moment of this number. Computed anew each time, so that no rounding adds up.
    pub(crate) fn at(&self, number: u32) -> Instant {
        self.began + Duration::from_nanos(u64::from(number) * 1_000_000_000 / u64::from(self.per_second))
    }

    /// How many of the moments have come.
    pub(crate) fn due(&self, now: Instant) -> u32 {
        let passed = now.saturating_duration_since(self.began).as_nanos();
        let due = passed * u128::from(self.per_second) / 1_000_000_000 + 1;
        u32::try_from(due).unwrap_or(u32::MAX).min(self.all)
    }

    /// The moments that fall to one of several threads, which take turns.
    pub(crate) fn of_thread(self, thread: u32, threads: u32) -> impl Iterator<Item = Instant> {
        (thread..self.all).step_by(threads as usize).map(move |number| self.at(number))
    }
}

/// Returns at this moment, more exactly than a sleep does; at once if it has passed.
pub(crate) fn wait_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()).saturating_sub(EARLY));
    while Instant::now() < moment {
        std::hint::spin_loop();
    }
}
