//! Decides whether the wall clock may be trusted for deletions.

use std::time::Duration;

use crate::domain::time::Timestamp;

/// By how much the wall clock may run ahead of the monotonic one between two looks. More is a step.
const STEP: Duration = Duration::from_mins(5);
/// How long after the newest record of a log the first look may come. A longer pause is either a long stop or a step.
const PAUSE: Duration = Duration::from_hours(12);
/// How long a clock that stepped ahead is doubted. A clock that was a day wrong has been put right by then.
pub(crate) const DOUBT: Duration = Duration::from_hours(25);

/// Compares the wall clock with the monotonic one.
#[derive(Debug, Default)]
pub(crate) struct ClockCheck {
    line: Option<Line>,
    /// Since when the wall clock has been ahead of the line, on the monotonic clock.
    ahead_since: Option<Duration>,
}

/// The expected course of the wall clock: it was `wall` at `monotonic`.
#[derive(Debug, Clone, Copy)]
struct Line {
    wall: Timestamp,
    monotonic: Duration,
    slack: Duration,
}

impl ClockCheck {
    /// Returns whether the wall clock may be trusted now. `newest` is the time of the newest record,
    /// from which the first look starts. Without one, the first look starts from the clock itself.
    pub(crate) fn believes(&mut self, now: Timestamp, monotonic: Duration, newest: Option<Timestamp>) -> bool {
        let line = self.line.unwrap_or(Line { wall: newest.unwrap_or(now), monotonic, slack: PAUSE });
        let latest = line.wall.plus(monotonic.saturating_sub(line.monotonic)).plus(line.slack);
        if now > latest {
            if self.ahead_since.is_none() {
                let ahead_seconds = now.since(latest).as_secs();
                tracing::warn!(
                    ahead_seconds,
                    "the clock is ahead of the expected time; for 25 hours, no log entry is removed because of its age"
                );
            }
            let since = *self.ahead_since.get_or_insert(monotonic);
            if monotonic.saturating_sub(since) < DOUBT {
                self.line = Some(line);
                return false;
            }
        }
        // The clock is where it should be, was set back, or has been ahead for so long that it is taken for right.
        self.line = Some(Line { wall: now, monotonic, slack: STEP });
        self.ahead_since = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const DAY: Duration = Duration::from_hours(24);

    fn start() -> Timestamp {
        Timestamp::from_millis(1_000_000_000_000)
    }

    #[test]
    fn a_clock_that_runs_is_believed() {
        let mut clock_check = ClockCheck::default();
        for hours in 0..100 {
            assert!(clock_check.believes(start().plus(HOUR * hours), HOUR * hours, None));
        }
    }

    #[test]
    fn r05_a_step_ahead_is_doubted_until_it_is_taken_back_or_has_lasted_for_a_day() {
        let mut clock_check = ClockCheck::default();
        assert!(clock_check.believes(start(), Duration::ZERO, None));
        for hours in 1..25 {
            assert!(!clock_check.believes(start().plus(DAY + HOUR * hours), HOUR * hours, None), "{hours}");
        }
        assert!(clock_check.believes(start().plus(HOUR * 25), HOUR * 25, None), "it was put right");
        assert!(!clock_check.believes(start().plus(DAY + HOUR * 26), HOUR * 26, None));
        assert!(!clock_check.believes(start().plus(DAY + HOUR * 50), HOUR * 50, None));
        assert!(clock_check.believes(start().plus(DAY + HOUR * 51), HOUR * 51, None), "it stays so");
        assert!(clock_check.believes(start().plus(DAY + HOUR * 52), HOUR * 52, None));
    }

    #[test]
    fn r05_a_step_back_is_believed_and_its_correction_doubted() {
        let mut clock_check = ClockCheck::default();
        assert!(clock_check.believes(start(), Duration::ZERO, None));
        assert!(clock_check.believes(start().minus(DAY).plus(HOUR), HOUR, None));
        assert!(!clock_check.believes(start().plus(HOUR * 2), HOUR * 2, None));
    }

    #[test]
    fn a_start_long_after_the_newest_record_is_doubted() {
        let newest = Some(start());
        assert!(ClockCheck::default().believes(start().plus(PAUSE), Duration::ZERO, newest));
        assert!(!ClockCheck::default().believes(start().plus(PAUSE + HOUR), Duration::ZERO, newest));
        assert!(ClockCheck::default().believes(start().minus(DAY), Duration::ZERO, newest));
    }
}
