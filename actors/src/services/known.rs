//! For how long revocations have been known, by the clock that never jumps.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::trust::{DOUBT, Trust};

/// Into how many parts the time is cut for which a revocation must have been known: some are kept longer by one part.
const PARTS: u32 = 64;

/// How far the log of revocations went at which moments of this process.
///
/// A revocation that goes too early lets a dead token live, so it takes two clocks to remove one: the wall clock, by which tokens
/// end, and the monotonic one, which has to have run for as long since this process first saw it.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Moments of the monotonic clock, the earliest first, with the number of the newest revocation then.
    marks: VecDeque<(Duration, u64)>,
    trust: Trust,
}

impl Known {
    /// Notes that the log goes up to `last` now. The answer is up to which number revocations may be removed that the wall clock
    /// makes older than `keep`; 0 for none.
    ///
    /// Where revocations are kept for longer than a wall clock is [doubted](DOUBT), they need not be known for longer than that,
    /// as otherwise a process that is started anew now and then would never remove one; such a clock must be believed besides.
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
        if keep <= DOUBT || self.trust.believes(wall, monotonic, None) { known } else { 0 }
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
        let mut known = Known::default();
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
        let mut known = Known::default();
        known.up_to(10, KEEP, start(), Duration::ZERO);
        assert_eq!(known.up_to(20, KEEP, start().plus(DAY * 9000), MINUTE * 63), 0);
        assert_eq!(known.up_to(20, KEEP, start(), MINUTE * 64), 10);
    }

    #[test]
    fn r05_what_is_kept_for_many_days_needs_a_clock_that_is_believed() {
        let (mut known, keep) = (Known::default(), DAY * 30);
        assert_eq!(known.up_to(10, keep, start(), Duration::ZERO), 0);
        assert_eq!(known.up_to(20, keep, start().plus(DAY), DAY), 0);
        assert_eq!(known.up_to(20, keep, start().plus(DAY * 2), DAY * 2), 10, "its own time is the store's business");
        assert_eq!(known.up_to(20, keep, start().plus(DAY * 50), DAY * 2 + MINUTE), 0, "a step");
        assert_eq!(known.up_to(20, keep, start().plus(DAY * 4), DAY * 4), 20);
    }
}
