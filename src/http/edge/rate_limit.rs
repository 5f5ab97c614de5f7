//! `RateLimit` and `RateLimit-Policy`: the state of a quota (IETF draft on rate limit header fields).

use std::fmt::Write as _;

use doorward_actors::Standing;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use crate::http::error::whole_seconds;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Adds the state of a quota: `RateLimit: "public";r=99;t=6`, `RateLimit-Policy: "public";q=100;w=600`. `r` is what is left, `q` the
/// whole quota, and `w` the seconds in which the whole quota is refilled. `t` is the seconds until it is full again or,
/// if nothing is left, until the next request is allowed.
pub(in crate::http) fn describe(standing: Standing, headers: &mut HeaderMap) {
    let Standing { policy, quota, window, remaining, reset } = standing;
    let mut line = String::with_capacity(40);
    let mut put = |name, args: std::fmt::Arguments<'_>| {
        line.clear();
        // Writing to a string cannot fail. The names of policies are our own and consist of letters.
        if line.write_fmt(args).is_ok()
            && let Ok(value) = HeaderValue::from_str(&line)
        {
            headers.insert(name, value);
        }
    };
    put(RATE_LIMIT, format_args!("\"{policy}\";r={remaining};t={}", whole_seconds(reset)));
    put(RATE_LIMIT_POLICY, format_args!("\"{policy}\";q={quota};w={}", whole_seconds(window)));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn s21_an_allowance_is_told_in_two_lines() {
        let mut headers = HeaderMap::new();
        let (window, reset) = (Duration::from_mins(10), Duration::from_millis(5001));
        describe(Standing { policy: "public", quota: 100, window, remaining: 99, reset }, &mut headers);
        assert_eq!(headers[RATE_LIMIT], "\"public\";r=99;t=6");
        assert_eq!(headers[RATE_LIMIT_POLICY], "\"public\";q=100;w=600");
    }
}
