//! Rate limits.

use std::num::NonZeroU32;
use std::time::Duration;

use super::reader::{Reader, documented};
use super::table::{self, Key};
use doorward_actors::Networks;

/// The longest span of time of a limit, in seconds.
const MAX_SECONDS: u64 = 366 * 24 * 60 * 60;

/// The rate limits and the limits of failed attempts.
#[derive(Debug, Clone)]
pub struct LimitSettings {
    /// The quota of a client address on public routes.
    pub public: Rate,
    /// The quota of an account on bearer routes.
    pub private: Rate,
    /// Client addresses whose requests are not counted by address.
    pub allow: Networks,
    /// Client addresses whose requests are refused.
    pub deny: Networks,
    /// How many failed attempts of unknown clients an account accepts before it makes them wait, 1 to 100.
    pub login_failures: u32,
    /// How many failed attempts one client address may make over all accounts before it must wait, 1 to 10,000.
    pub address_failures: u32,
}

/// A number of requests in a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The number of requests, 1 to 1,000,000.
    pub permits: NonZeroU32,
    /// The span of time, 1 second to 366 days.
    pub per: Duration,
}

impl LimitSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let public = Rate::read(reader, &table::RATE_LIMITS_PUBLIC_ROUTES, &table::RATE_LIMITS_PUBLIC_TIME_UNIT);
        let private = Rate::read(reader, &table::RATE_LIMITS_PRIVATE_ROUTES, &table::RATE_LIMITS_PRIVATE_TIME_UNIT);
        let allow = reader.networks(&table::RATE_LIMITS_ALLOW);
        let deny = reader.networks(&table::RATE_LIMITS_DENY);
        let login_failures = reader.integer(&table::LOGIN_FAILURES);
        let address_failures = reader.integer(&table::ADDRESS_FAILURES);
        Some(Self {
            public: public?,
            private: private?,
            allow: allow?,
            deny: deny?,
            login_failures: login_failures?,
            address_failures: address_failures?,
        })
    }
}

impl Rate {
    fn read(reader: &mut Reader, permits: &Key, per: &Key) -> Option<Self> {
        let permits = reader.integer::<u32>(permits);
        let per = reader.parse(per, time_unit);
        Some(Self { permits: NonZeroU32::new(permits?)?, per: per? })
    }
}

impl Default for LimitSettings {
    /// The documented defaults.
    fn default() -> Self {
        documented(Self::read)
    }
}

/// Parses a unit with an optional positive whole number before it: `minute`, `10minute`.
pub(super) fn time_unit(text: &str) -> Option<Duration> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = text.strip_suffix(unit)?;
    let count: u64 = match number {
        "" => 1,
        _ if number.starts_with('0') => return None,
        _ => number.parse().ok()?,
    };
    let seconds = match unit {
        "second" => 1,
        "minute" => 60,
        "hour" => 60 * 60,
        "day" => 24 * 60 * 60,
        _ => return None,
    };
    count.checked_mul(seconds).filter(|seconds| *seconds <= MAX_SECONDS).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_units_of_the_contract() {
        let seconds = |text| time_unit(text).map(|span| span.as_secs());
        assert_eq!(seconds("minute"), Some(60));
        assert_eq!(seconds("10minute"), Some(600));
        assert_eq!(seconds("1hour"), Some(3600));
        assert_eq!(seconds("30second"), Some(30));
        assert_eq!(seconds("1day"), Some(86_400));
        assert_eq!(seconds("366day"), Some(MAX_SECONDS));
    }

    #[test]
    fn anything_else_is_no_time_unit() {
        for text in [
            "",
            "10",
            "0minute",
            "010minute",
            "-1minute",
            "+1minute",
            "1.5hour",
            "10 minute",
            "10minutes",
            "Minute",
            "minute ",
            "week",
            "367day",
            "99999999999999999999day",
            "18446744073709551615day",
            "٣minute",
        ] {
            assert_eq!(time_unit(text), None, "{text:?}");
        }
    }
}
