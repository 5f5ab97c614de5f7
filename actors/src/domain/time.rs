//! Points in time.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// RFC 3339 in UTC, always with three fractional digits, so that a parser of a fixed format can read it.
const MILLISECONDS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// A UTC wall-clock time with millisecond precision, counted from the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Makes a time from milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns the whole seconds since the Unix epoch, rounded down: the `NumericDate` of RFC 7519.
    #[must_use]
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Returns this time plus a duration, at most the largest representable time.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// Returns the time since `earlier`; zero if that lies in the future.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Parses an RFC 3339 time in any zone; fractions of a millisecond are cut off.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
        i64::try_from(nanos.div_euclid(1_000_000)).ok().map(Self)
    }

    /// Returns this time minus a duration, at least the smallest representable time.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(millis))
    }

    /// Formats the time as RFC 3339 in UTC with three fractional digits, as in every response body.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .ok()
            .filter(|at| (0..=9999).contains(&at.year()))
            .and_then(|at| at.format(MILLISECONDS).ok())
            // Only times outside the years 0 to 9999 have no RFC 3339 form, and no clock shows such a time.
            .unwrap_or_else(|| "9999-12-31T23:59:59.999Z".to_owned())
    }
}

/// Describes how long an account has been idle, in the format of earlier versions: `"45 sec"` or `"5 min 30 sec"`.
#[must_use]
pub fn describe_idle(idle: Duration) -> String {
    let seconds = idle.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, sec) => format!("{sec} sec"),
        (min, sec) => format!("{min} min {sec} sec"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_durations_use_the_established_wording() {
        assert_eq!(describe_idle(Duration::from_secs(45)), "45 sec");
        assert_eq!(describe_idle(Duration::from_secs(330)), "5 min 30 sec");
        assert_eq!(describe_idle(Duration::from_mins(1)), "1 min 0 sec");
        assert_eq!(describe_idle(Duration::ZERO), "0 sec");
    }

    #[test]
    fn f22_times_are_rfc3339_in_utc_with_three_digits_of_a_second() {
        let text = |millis| Timestamp::from_millis(millis).to_rfc3339();
        assert_eq!(text(1_000), "1970-01-01T00:00:01.000Z");
        assert_eq!(text(1_500), "1970-01-01T00:00:01.500Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999Z");
        for beyond in [i64::MIN, -62_167_219_200_001, 253_402_300_800_000, i64::MAX] {
            assert_eq!(text(beyond), "9999-12-31T23:59:59.999Z");
        }
        assert_eq!(text(-62_167_219_200_000), "0000-01-01T00:00:00.000Z");
    }

    #[test]
    fn times_of_rfc3339_are_read() {
        let read = |text| Timestamp::parse_rfc3339(text).map(Timestamp::as_millis);
        assert_eq!(read("1970-01-01T00:00:01.5Z"), Some(1_500));
        assert_eq!(read("1970-01-01T01:00:00.0019+01:00"), Some(1));
        for bad in ["", "1970-01-01", "1970-01-01T00:00:01", "now", "1970-13-01T00:00:00Z"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_clock_set_back_gives_no_negative_age() {
        let now = Timestamp::from_millis(10);
        assert_eq!(now.since(Timestamp::from_millis(20)), Duration::ZERO);
    }
}
