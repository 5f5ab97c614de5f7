//! The counters of failed attempts against an account and an address. Each further failure makes the next wait longer, up to a limit.
//!
//! An attempt counts as failed from its admission on. The count is taken back if it succeeds or was never made.
//! So no more attempts than the allowance run at the same time, even if many arrive at once (S15).
//! An attempt that finds the allowance used up by running attempts waits for their outcome before it is refused.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use super::account::AccountId;
use super::email::EmailKey;
use super::time::Timestamp;

/// The first wait; it doubles with each further failure.
const FIRST_WAIT: Duration = Duration::from_mins(1);
/// The maximum wait (S19: no account is locked for ever).
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// The number of doublings until the maximum wait. Failures beyond the allowance are counted only up to this number.
const DOUBLINGS: u32 = 6;

/// The kind of an attempt that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guarded {
    /// A password, at login.
    Login,
    /// A passphrase, at recovery.
    Passphrase,
    /// The current password, in a logged-in session.
    Reauthentication,
    /// A one-time token from a mail.
    OneTimeToken,
    /// A service token.
    ServiceToken,
    /// No secret: each request for a verification mail to an address counts, so that nobody's mailbox is flooded.
    Mail,
    /// A refresh token.
    Refresh,
    /// No secret: each request for a recovery mail to an address counts.
    /// They are counted apart from requests for verification mails, so that nobody can block one by requesting the other.
    RecoveryMail,
}

impl Guarded {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Login,
        Self::Passphrase,
        Self::Reauthentication,
        Self::OneTimeToken,
        Self::ServiceToken,
        Self::Mail,
        Self::Refresh,
        Self::RecoveryMail,
    ];

    /// Returns the kind as it is written in keys and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Passphrase => "passphrase",
            Self::Reauthentication => "reauthentication",
            Self::OneTimeToken => "one_time_token",
            Self::ServiceToken => "service_token",
            Self::Mail => "mail",
            Self::Refresh => "refresh",
            Self::RecoveryMail => "recovery_mail",
        }
    }

    /// Returns the number under which the kind is stored. It is never reused for another kind.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Login => 1,
            Self::Passphrase => 2,
            Self::Reauthentication => 3,
            Self::OneTimeToken => 4,
            Self::ServiceToken => 5,
            Self::Mail => 6,
            Self::Refresh => 7,
            Self::RecoveryMail => 8,
        }
    }

    /// Returns the kind with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// The account that attempts are about, existing or not: 128 bits of the hash of its address's key (S13, S16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectKey([u8; 16]);

impl SubjectKey {
    /// Returns the key of the account with this address.
    #[must_use]
    pub fn of(email: &EmailKey) -> Self {
        let hash = digest(&SHA256, email.as_str().as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hash.as_ref()[..16]);
        Self(key)
    }

    /// Makes a key from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, as the store keeps them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The subject of a failure counter: an account, an address, or an account from an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureScope {
    /// An account, for all clients from which its owner never logged in.
    Account(SubjectKey),
    /// An address, for all accounts.
    Address(IpAddr),
    /// An account, for an address from which its owner has logged in before.
    Known(SubjectKey, IpAddr),
}

/// A counter of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FailureKey {
    /// What was attempted.
    pub kind: Guarded,
    /// What it is counted against.
    pub scope: FailureScope,
}

/// A counter as the store keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredFailures {
    /// The number of failures that count at this time.
    pub count: u32,
    /// When the last failure happened.
    pub last_at: Timestamp,
    /// The account, if there is one.
    pub account: Option<AccountId>,
}

/// The free number of failures and the time after which one is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FailureRule {
    /// The number of failures after which the next attempt has to wait, at least 1.
    pub(crate) allowance: u32,
    /// The time after which one failure is forgotten.
    pub(crate) forget: Duration,
}

/// A point on the monotonic clock of this process, in milliseconds; negative before its start.
pub(crate) type Moment = i64;

/// A counter of failures in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failures {
    count: u32,
    /// When the last attempt that has not succeeded was admitted; the wait of the next attempt starts here.
    last: Moment,
    /// Start of the forgetting period. It moves by whole failures, so that attempts in between do not delay forgetting.
    forgotten_at: Moment,
}

impl Failures {
    /// No failures.
    pub(crate) const NONE: Self = Self { count: 0, last: 0, forgotten_at: 0 };

    /// Makes a counter that holds only attempts that are running now.
    pub(crate) fn under_way(attempts: u32, now: Moment) -> Self {
        Self { count: attempts, last: Moment::MIN, forgotten_at: now }
    }

    /// Restores a stored counter at the wall clock time `now`.
    /// A clock that was set back makes nobody wait longer than the counter says (R05).
    pub(crate) fn restore(stored: &StoredFailures, now: Timestamp, moment: Moment) -> Self {
        let ago = i64::try_from(now.since(stored.last_at).as_millis()).unwrap_or(i64::MAX);
        let then = moment.saturating_sub(ago);
        Self { count: stored.count, last: then, forgotten_at: then }
    }

    /// Returns the counter in its stored form.
    pub(crate) fn stored(&self, account: Option<AccountId>, now: Timestamp, moment: Moment) -> StoredFailures {
        let ago = moment.saturating_sub(self.last.max(self.forgotten_at));
        StoredFailures {
            count: self.count,
            last_at: Timestamp::from_millis(now.as_millis().saturating_sub(ago)),
            account,
        }
    }

    /// Admits an attempt and counts it as failed; otherwise returns how long to wait.
    pub(crate) fn attempt(&mut self, rule: FailureRule, now: Moment) -> Result<(), Duration> {
        let wait = self.wait(rule, now);
        if !wait.is_zero() {
            return Err(wait);
        }
        let left = self.count(rule, now);
        let forgotten = i64::from(self.count - left);
        let period = i64::try_from(rule.forget.as_millis()).unwrap_or(i64::MAX);
        self.forgotten_at =
            if left == 0 { now } else { self.forgotten_at.saturating_add(period.saturating_mul(forgotten)) };
        self.count = (left + 1).min(rule.allowance.saturating_add(DOUBLINGS));
        self.last = now;
        Ok(())
    }

    /// Returns the number of counted failures (including forgotten ones), the time of the last one, and the start of forgetting.
    pub(crate) fn parts(&self) -> (u32, Moment, Moment) {
        (self.count, self.last, self.forgotten_at)
    }

    /// Makes a counter from its parts.
    pub(crate) fn from_parts(count: u32, last: Moment, forgotten_at: Moment) -> Self {
        Self { count, last, forgotten_at }
    }

    /// Takes back an attempt that was admitted.
    pub(crate) fn take_back(&mut self) {
        self.count = self.count.saturating_sub(1);
        // It was admitted, so there was nothing to wait for; neither is there now.
        self.last = Moment::MIN;
    }

    /// Returns how long the next attempt has to wait; zero if it may be made now.
    pub(crate) fn wait(&self, rule: FailureRule, now: Moment) -> Duration {
        let Some(beyond) = self.count.checked_sub(rule.allowance) else { return Duration::ZERO };
        let wait = FIRST_WAIT.saturating_mul(1 << beyond.min(DOUBLINGS)).min(LONGEST_WAIT);
        wait.saturating_sub(since(self.last, now))
    }

    /// Returns the number of failures that are not forgotten yet.
    pub(crate) fn count(&self, rule: FailureRule, now: Moment) -> u32 {
        let forgotten = since(self.forgotten_at, now).as_millis() / rule.forget.as_millis().max(1);
        self.count.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }

    /// Returns whether all failures are forgotten and no wait is left.
    pub(crate) fn is_forgotten(&self, rule: FailureRule, now: Moment) -> bool {
        self.count(rule, now) == 0 && self.wait(rule, now).is_zero()
    }
}

fn since(earlier: Moment, now: Moment) -> Duration {
    Duration::from_millis(u64::try_from(now.saturating_sub(earlier)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: FailureRule = FailureRule { allowance: 5, forget: Duration::from_hours(2) };
    const MINUTE: Moment = 60_000;

    #[test]
    fn s19_waits_grow_to_an_hour_and_no_further() {
        let mut failures = Failures::NONE;
        let mut now = 0;
        for _ in 0..5 {
            assert_eq!(failures.attempt(RULE, now), Ok(()));
        }
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            let wait = Duration::from_mins(minutes);
            assert_eq!(failures.attempt(RULE, now), Err(wait), "{minutes}");
            now += i64::try_from(wait.as_millis()).unwrap() - 1;
            assert_eq!(failures.attempt(RULE, now), Err(Duration::from_millis(1)));
            now += 1;
            assert_eq!(failures.attempt(RULE, now), Ok(()));
        }
    }

    #[test]
    fn failures_are_forgotten_one_by_one() {
        let mut failures = Failures::NONE;
        for _ in 0..4 {
            failures.attempt(RULE, 0).unwrap();
        }
        assert_eq!(failures.count(RULE, 119 * MINUTE), 4);
        assert_eq!(failures.count(RULE, 120 * MINUTE), 3);
        assert!(!failures.is_forgotten(RULE, 479 * MINUTE));
        assert!(failures.is_forgotten(RULE, 480 * MINUTE));
    }

    #[test]
    fn s19_success_in_between_does_not_put_forgetting_off() {
        let rule = FailureRule { allowance: 50, forget: Duration::from_mins(10) };
        let mut failures = Failures::NONE;
        for _ in 0..49 {
            failures.attempt(rule, 0).unwrap();
        }
        for half_minutes in 1..=240 {
            failures.attempt(rule, half_minutes * MINUTE / 2).unwrap();
            failures.take_back();
        }
        assert_eq!(failures.count(rule, 120 * MINUTE), 49 - 12);
    }

    #[test]
    fn s22_an_address_that_goes_on_waits_longer_each_time() {
        let rule = FailureRule { allowance: 50, forget: Duration::from_mins(10) };
        let mut failures = Failures::NONE;
        let mut now = 0;
        for _ in 0..50 {
            failures.attempt(rule, now).unwrap();
        }
        for minutes in [1, 2, 4] {
            assert_eq!(failures.attempt(rule, now), Err(Duration::from_mins(minutes)));
            now += i64::try_from(minutes).unwrap() * MINUTE;
            failures.attempt(rule, now).unwrap();
        }
    }

    #[test]
    fn an_attempt_that_was_not_made_is_not_waited_for() {
        let mut failures = Failures::NONE;
        for _ in 0..5 {
            failures.attempt(RULE, 0).unwrap();
        }
        failures.attempt(RULE, MINUTE).unwrap();
        failures.take_back();
        assert_eq!(failures.wait(RULE, MINUTE), Duration::ZERO);
        assert_eq!(failures.count(RULE, MINUTE), 5);
    }

    #[test]
    fn r05_a_clock_set_back_makes_nobody_wait_longer() {
        let mut failures = Failures::NONE;
        for _ in 0..5 {
            failures.attempt(RULE, 0).unwrap();
        }
        let stored = failures.stored(None, Timestamp::from_millis(1_000_000_000), 10_000);
        assert_eq!(stored.last_at.as_millis(), 999_990_000);
        let day_before = Timestamp::from_millis(1_000_000_000 - 86_400_000);
        assert_eq!(Failures::restore(&stored, day_before, 500).wait(RULE, 500), Duration::from_mins(1));
        let same = Failures::restore(&stored, Timestamp::from_millis(1_000_000_000), 500);
        assert_eq!(same.wait(RULE, 500), Duration::from_secs(50));
        let day_after = Timestamp::from_millis(1_000_000_000 + 86_400_000);
        assert!(Failures::restore(&stored, day_after, 500).is_forgotten(RULE, 500));
    }

    #[test]
    fn kinds_have_distinct_numbers_that_read_back() {
        for kind in Guarded::ALL {
            assert_eq!(Guarded::from_number(kind.number()), Some(kind));
        }
        assert_eq!(Guarded::from_number(0), None);
    }

    proptest! {
        /// However attempts arrive, fail and are taken back: the attempts that are running or failed and not yet forgotten never exceed the
        /// allowance plus one for each completed wait.
        #[test]
        fn s15_attempts_are_bounded(steps in prop::collection::vec((0_i64..5 * MINUTE, any::<bool>()), 1..200)) {
            let mut failures = Failures::NONE;
            let (mut now, mut first, mut failed) = (0, 0, 0_u32);
            for (pause, succeeds) in steps {
                now += pause;
                if failures.attempt(RULE, now).is_ok() {
                    if succeeds {
                        failures.take_back();
                    } else {
                        failed += 1;
                    }
                }
                if failures.is_forgotten(RULE, now) {
                    (first, failed) = (now, 0);
                }
            }
            let hours = u32::try_from((now - first) / (60 * MINUTE)).unwrap();
            prop_assert!(failed <= RULE.allowance + DOUBLINGS + 2 * hours + 1, "{failed} in {hours} h");
        }

        /// No wait exceeds an hour, whatever the history of the counter.
        #[test]
        fn s19_no_wait_is_longer_than_an_hour(steps in prop::collection::vec(0_i64..200 * MINUTE, 1..100)) {
            let mut failures = Failures::NONE;
            let mut now = 0;
            for pause in steps {
                now += pause;
                if let Err(wait) = failures.attempt(RULE, now) {
                    prop_assert!(wait <= LONGEST_WAIT);
                }
            }
        }
    }
}
