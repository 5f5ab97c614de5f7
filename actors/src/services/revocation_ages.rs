//! How long revocations have been known, on the monotonic clock.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock_check::{ClockCheck, DOUBT};
use crate::domain::time::Timestamp;

/// The number of parts into which the required time is divided. A revocation may be kept longer by one part.
const PARTS: u32 = 64;

/// The length of the log of revocations at several moments of this process.
///
/// If a revocation is removed too early, a revoked token is accepted again. So two clocks must agree on a removal:
/// the wall clock, by which tokens expire, and the monotonic clock, which must have run for as long since this process first saw
/// the revocation.
#[derive(Debug, Default)]
pub(crate) struct RevocationAges {
    /// Moments of the monotonic clock, the earliest first, each with the number of the newest revocation then.
    marks: VecDeque<(Duration, u64)>,
    clock_check: ClockCheck,
}

impl RevocationAges {
    /// Notes that the log goes up to `last` now. Returns the number up to which revocations may be removed if they are older than
    /// `keep` by the wall clock. Returns 0 for none.
    ///
    /// If revocations are kept for longer than a wall clock is [doubted](DOUBT), they need to be known only for the time of doubt,
    /// and the wall clock must be believed as well. Otherwise a process that is restarted now and then would never remove one.
    pub(super) fn up_to(&mut self, last: u64, keep: Duration, wall: Timestamp, monotonic: Duration) -> u64 {
        let age = keep.min(DOUBT);
        if self.marks.back().is_none_or(|(at, _)| monotonic.saturating_sub(*at) >= age / PARTS) {
            self.marks.push_back((monotonic, last));
        }
        let is_old = |(at, _): &(Duration, u64)| monotonic.saturating_sub(*at) >= age;
        while self.marks.get(1).is_some_and(is_old) {
            self.marks.pop_front();
        }
        let known = self.marks.front().filter(|mark| is_old(mark)).map_or(0, |(_, number)| *number);
        if keep <= DOUBT || self.clock_check.believes(wall, monotonic, None) { known } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Duration = Duration::from_mins(64);
    const MINUTE: Duration = Duration::from_mins(1);
    const DAY: Duration = Duration::from_hours(24);

    fn start() -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000)
    }

    #[test]
    fn what_was_known_for_long_enough_may_go_and_nothing_else() {
        let mut known = RevocationAges::default();
        for minute in 0..64 {
            assert_eq!(known.up_to(10 + u64::from(minute), KEEP, start(), MINUTE * minute), 0, "{minute}");
        }
        for minute in 64..300 {
            let up_to = known.up_to(10 + u64::from(minute), KEEP, start(), MINUTE * minute);
            assert_eq!(up_to, 10 + u64::from(minute) - 64);
            assert!(known.marks.len() <= 66, "{}", known.marks.len());
        }
    }

    #[test]
    fn r05_no_step_of_the_wall_clock_makes_anything_go() {
        let mut known = RevocationAges::default();
        known.up_to(10, KEEP, start(), Duration::ZERO);
        assert_eq!(known.up_to(20, KEEP, start().plus(DAY * 9000), MINUTE * 63), 0);
        assert_eq!(known.up_to(20, KEEP, start(), MINUTE * 64), 10);
    }

    #[test]
    fn r05_what_is_kept_for_many_days_needs_a_clock_that_is_believed() {
        let (mut known, keep) = (RevocationAges::default(), DAY * 30);
        assert_eq!(known.up_to(10, keep, start(), Duration::ZERO), 0);
        assert_eq!(known.up_to(20, keep, start().plus(DAY), DAY), 0);
        assert_eq!(known.up_to(20, keep, start().plus(DAY * 2), DAY * 2), 10, "its own time is the store's business");
        assert_eq!(known.up_to(20, keep, start().plus(DAY * 50), DAY * 2 + MINUTE), 0, "a step");
        assert_eq!(known.up_to(20, keep, start().plus(DAY * 4), DAY * 4), 20);
    }
}
